"""Transactions that somebody else's wallet signs and sends, and signatures by a key or by a contract's own rule."""

from __future__ import annotations

import pytest
from eth_account.signers.local import LocalAccount
from eth_keys.constants import SECPK1_N

from openledger.chain import UnsignedTransaction, is_signed_by
from openledger.primitives import ChainError, InputError, RevertError, keccak, to_hex
from tests.chain.conftest import Network

OPEN = 10**18
ANSWERS_ITS_MAGIC = bytes.fromhex("600e8060095f395ff3" + "631626ba7e60e01b5f5260205ff3")
"""Creation code of a contract that answers every call with ERC-1271's magic value."""


def sent(network: Network, wallet: LocalAccount, transaction: UnsignedTransaction) -> str:
    """What a wallet does with it, by EIP-1193's own fields."""
    asked = transaction.to_json()
    numbers = {key: int(asked[key], 16) for key in ("value", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "chainId")}
    fields = {"to": asked["to"], "data": asked["data"], "type": 2, "nonce": network.chain.nonce(wallet.address)}
    raw = wallet.sign_transaction({**fields, **numbers}).raw_transaction
    return to_hex(bytes(network.chain.w3.eth.send_raw_transaction(raw)))


def test_a_prepared_transaction_is_signed_elsewhere_and_its_outcome_read(network: Network) -> None:
    wallet = network.actor(10)
    call = network.chain.contract("FeeEscrow").functions.deposit(wallet.address)
    transaction = network.chain.prepare(wallet.address, call, 3 * OPEN)
    assert (transaction.sender, transaction.value) == (wallet.address, 3 * OPEN)
    receipt = network.chain.outcome(transaction, sent(network, wallet, transaction))
    assert receipt["status"] == 1
    assert network.chain.call(network.chain.contract("FeeEscrow").functions.depositOf(wallet.address)) == 3 * OPEN
    assert network.chain.balance(wallet.address) >= 7 * OPEN - transaction.gas_cost


def test_what_the_contract_would_refuse_is_not_prepared(network: Network) -> None:
    call = network.chain.contract("FeeEscrow").functions.withdraw()
    with pytest.raises(RevertError) as refusal:
        network.chain.prepare(network.actor().address, call)
    assert refusal.value.name == "NoWithdrawalRequested"


def test_what_the_account_cannot_pay_is_not_prepared(network: Network) -> None:
    wallet = network.actor(1)
    call = network.chain.contract("FeeEscrow").functions.deposit(wallet.address)
    for value in (OPEN, 2 * OPEN):  # with the first it is the gas that is missing
        with pytest.raises(ChainError, match=f"insufficient funds: {wallet.address} holds 1 OPEN"):
            network.chain.prepare(wallet.address, call, value)


def test_another_transaction_than_the_prepared_one_is_not_taken_for_it(network: Network) -> None:
    wallet = network.actor(10)
    escrow = network.chain.contract("FeeEscrow").functions
    prepared = network.chain.prepare(wallet.address, escrow.deposit(wallet.address), 2 * OPEN)
    other = network.chain.prepare(wallet.address, escrow.deposit(wallet.address), OPEN)
    with pytest.raises(InputError, match="another one than was prepared"):
        network.chain.outcome(prepared, sent(network, wallet, other))
    with pytest.raises(InputError):
        network.chain.outcome(prepared, "0x1234")


def test_what_is_refused_only_in_its_block_tells_why(network: Network) -> None:
    wallet = network.actor(10)
    escrow = network.chain.contract("FeeEscrow").functions
    network.chain.send(wallet, escrow.deposit(wallet.address), OPEN)
    prepared = network.chain.prepare(wallet.address, escrow.requestWithdrawal(OPEN))
    too_much = prepared.data[:-32] + (5 * OPEN).to_bytes(32, "big")
    wrong = UnsignedTransaction(**{**vars(prepared), "data": too_much})
    with pytest.raises(RevertError) as refusal:
        network.chain.outcome(wrong, sent(network, wallet, wrong))
    assert refusal.value.name == "InsufficientDeposit"


def test_an_account_signs_by_its_key_and_nobody_else_for_it(network: Network) -> None:
    wallet, other, digest = network.actor(), network.actor(), keccak(b"a message")
    signature = bytes(wallet.unsafe_sign_hash(digest).signature)
    assert is_signed_by(network.chain, wallet.address, digest, signature)
    assert not is_signed_by(network.chain, other.address, digest, signature)
    assert not is_signed_by(network.chain, wallet.address, keccak(b"another"), signature)
    for broken in (b"", signature[:64], signature + b"\0", bytes(65), b"\xff" * 65):
        assert not is_signed_by(network.chain, wallet.address, digest, broken)
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    twin = (
        signature[:32] + (SECPK1_N - s).to_bytes(32, "big") + bytes([55 - v])
    )  # malleable, EIP-2: the contracts refuse it
    assert not is_signed_by(network.chain, wallet.address, digest, twin)


def test_a_contract_signs_by_its_own_rule(network: Network) -> None:
    agrees = network.chain.create(network.actor(), ANSWERS_ITS_MAGIC)
    assert is_signed_by(network.chain, agrees, keccak(b"a message"), b"anything")
    assert not is_signed_by(network.chain, network.chain.address("FeeEscrow"), keccak(b"a message"), b"anything")
