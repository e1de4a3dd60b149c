"""Python and Solidity hash the same messages and trees to the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openledger.chain import Role
from openledger.primitives import Contribution, MerkleTree, Receipt, Voucher, keccak
from tests.chain.conftest import Network

ADDRESS = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
HASH = st.binary(min_size=32, max_size=32)
U256, U128, U64, U32 = (st.integers(0, 2**bits - 1) for bits in (256, 128, 64, 32))
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(st.builds(Contribution, U256, ADDRESS, HASH, U32, st.text(max_size=40), HASH, U256))
def test_a_contributions_digest_is_the_registrys(network: Network, message: Contribution) -> None:
    function = network.chain.contract("DatanetRegistry").functions.contributionDigest
    assert _digest(function, message) == message.digest(network.chain.domain("DatanetRegistry"))


@FEW
@given(st.builds(Voucher, ADDRESS, ADDRESS, U128))
def test_a_vouchers_digest_is_the_escrows(network: Network, message: Voucher) -> None:
    function = network.chain.contract("FeeEscrow").functions.voucherDigest
    assert _digest(function, message) == message.digest(network.chain.domain("FeeEscrow"))


@FEW
@given(st.builds(Receipt, U256, U256, ADDRESS, ADDRESS, HASH, HASH, U32, U32, U128, HASH, U256, U64))
def test_a_receipts_digest_is_the_ledgers(network: Network, message: Receipt) -> None:
    function = network.chain.contract("InferenceLedger").functions.receiptDigest
    assert _digest(function, message) == message.digest(network.chain.domain("InferenceLedger"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_the_root_built_on_chain_is_the_trees(network: Network, size: int) -> None:
    chain, host = network.chain, network.staker(Role.HOST, 1_000)
    ledger = chain.contract("InferenceLedger").functions
    leaves = [keccak(bytes([size, number]))[:24] for number in range(size)]
    chain.send(host, ledger.post(0, b"".join(leaves)))
    (event,) = chain.events("InferenceLedger", "BatchPosted", poster=host.address)
    tree = MerkleTree([leaf + bytes(8) for leaf in leaves])
    assert bytes(event["args"]["root"]) == tree.root
    batch = event["args"]["batchId"]
    for place in range(size):
        assert ledger.verify(batch, place, leaves[place], tree.proof(place)).call()
        assert not ledger.verify(batch, place, keccak(leaves[place])[:24], tree.proof(place)).call()


def test_two_thousand_receipts_cost_less_than_a_thousand_gas_each(network: Network) -> None:
    chain, host = network.chain, network.staker(Role.HOST, 1_000)
    leaves = [keccak(number.to_bytes(4, "big"))[:24] for number in range(2_000)]
    receipt = chain.send(host, chain.contract("InferenceLedger").functions.post(0, b"".join(leaves)))
    assert receipt["gasUsed"] < 1_000 * 2_000


def _digest(function: Callable[..., object], message: Contribution | Voucher | Receipt) -> bytes:
    checked = tuple(_checksummed(value) for value in message.as_tuple())
    return bytes(function(checked).call())  # type: ignore[attr-defined]


def _checksummed(value: object) -> object:
    from eth_utils.address import to_checksum_address

    return (
        to_checksum_address(value) if isinstance(value, str) and value.startswith("0x") and len(value) == 42 else value
    )
