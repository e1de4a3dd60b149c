"""The client: errors in the contract's own words, nonces that never collide, events by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from openledger.chain import Chain, Role, decode_revert
from openledger.chain.artifacts import CONTRACTS, error_types, load_artifact
from openledger.primitives import (
    WEI_PER_OPEN,
    ChainError,
    ConfigurationError,
    InputError,
    NotFoundError,
    RevertError,
)
from tests.chain.conftest import Network


def test_a_refusal_comes_as_the_contracts_own_error(network: Network) -> None:
    actor = network.actor(10)
    call = network.chain.contract("StakeManager").functions.stake(Role.REVIEWER)
    with pytest.raises(RevertError) as caught:
        network.chain.send(actor, call, WEI_PER_OPEN)
    assert caught.value.name == "StakeBelowMinimum"
    assert caught.value.arguments == {"stake": WEI_PER_OPEN, "minimum": 1_000 * WEI_PER_OPEN}
    assert str(caught.value) == (
        "the contract refused: stake below minimum, with stake 1 OPEN and minimum 1,000 OPEN (StakeBelowMinimum)"
    )
    assert network.chain.nonce(actor.address) == 0


def test_a_refused_read_is_decoded_too(network: Network) -> None:
    with pytest.raises(RevertError, match=r"unknown datanet, with datanet 999999 \(UnknownDatanet\)"):
        network.chain.call(network.chain.contract("DatanetRegistry").functions.datanet(999_999))


def test_a_transaction_that_fails_in_its_block_tells_why(network: Network) -> None:
    actor = network.actor(10)
    call = network.chain.contract("StakeManager").functions.withdraw(Role.HOST)
    fields = {"to": call.address, "data": call._encode_transaction_data(), "gas": 200_000}
    with pytest.raises(RevertError, match="NothingToWithdraw"):
        network.chain._transact(actor, fields, 0)  # type: ignore[arg-type]


def test_an_account_without_money_is_told_so(network: Network) -> None:
    poor = network.dev.keys.wallet("poor")
    with pytest.raises(ChainError, match=r"(?i)insufficient funds"):
        network.chain.transfer(poor, network.bank.address, 1)


def test_many_threads_share_one_account(network: Network) -> None:
    actor, receiver = network.actor(100), network.dev.keys.wallet("receiver").address
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: network.chain.transfer(actor, receiver, 7), range(40)))
    assert {receipt["status"] for receipt in receipts} == {1}
    assert network.chain.nonce(actor.address) == 40
    assert network.chain.balance(receiver) == 280


def test_two_connections_share_one_account(network: Network) -> None:
    actor, receiver = network.actor(100), network.dev.keys.wallet("receiver2").address
    other = Chain(network.dev.rpc_url, network.chain.deployment)
    for chain in (network.chain, other, network.chain, other, other, network.chain):
        chain.transfer(actor, receiver, 1)
    assert network.chain.balance(receiver) == 6


@pytest.mark.parametrize("wei", [0, -1])
def test_an_empty_transfer_is_refused_before_it_is_sent(network: Network, wei: int) -> None:
    with pytest.raises(InputError, match="must be positive"):
        network.chain.transfer(network.bank, network.bank.address, wei)


def test_events_are_found_by_contract_name_and_argument(network: Network) -> None:
    first = network.staker(Role.HOST, 1_000)
    second = network.staker(Role.HOST, 2_000)
    found = network.chain.events("StakeManager", "Staked", account=second.address)
    assert [(event["args"]["account"], event["args"]["amount"]) for event in found] == [
        (second.address, 2_000 * WEI_PER_OPEN)
    ]
    everyone = {event["args"]["account"] for event in network.chain.events("StakeManager", "Staked")}
    assert {first.address, second.address} <= everyone
    later = network.chain.w3.eth.block_number + 1
    assert network.chain.events("StakeManager", "Staked", from_block=later) == []
    with pytest.raises(NotFoundError, match="no event 'Stacked'"):
        network.chain.events("StakeManager", "Stacked")


def test_a_deployment_of_another_chain_is_refused(network: Network) -> None:
    assert network.chain.deployment is not None
    foreign = replace(network.chain.deployment, genesis="0x" + "00" * 32)
    with pytest.raises(ConfigurationError, match="is of chain"):
        Chain(network.dev.rpc_url, foreign)


def test_nobody_there_is_said_plainly() -> None:
    with pytest.raises(ChainError, match=r"nothing answers at http://127\.0\.0\.1:1"):
        Chain("http://127.0.0.1:1", timeout=2)


def test_without_a_deployment_contracts_are_unknown(network: Network) -> None:
    with pytest.raises(NotFoundError, match="FeeEscrow is not known"):
        Chain(network.dev.rpc_url).contract("FeeEscrow")
    with pytest.raises(NotFoundError, match="no contract 'Nothing'"):
        network.chain.address("Nothing")
    with pytest.raises(NotFoundError, match="no contract 'Nothing'"):
        load_artifact("Nothing")


@given(st.sampled_from(sorted(error_types().items())), st.data())
def test_every_custom_error_is_decoded_from_its_data(entry: tuple[bytes, object], data: st.DataObject) -> None:
    selector, error = entry
    values = [data.draw(_value(kind)) for _, kind in error.arguments]  # type: ignore[attr-defined]
    encoded = encode([kind for _, kind in error.arguments], values)  # type: ignore[attr-defined]
    decoded = decode_revert(selector + encoded)
    assert decoded.name == error.name  # type: ignore[attr-defined]
    assert list(decoded.arguments) == [name for name, _ in error.arguments]  # type: ignore[attr-defined]


@given(st.binary(max_size=200))
def test_any_revert_data_gives_an_error_and_never_a_crash(data: bytes) -> None:
    assert str(decode_revert(data))


def test_plain_reasons_and_panics_are_decoded() -> None:
    assert str(decode_revert(bytes.fromhex("08c379a0") + encode(["string"], ["too late"]))) == "too late"
    assert "overflowed" in str(decode_revert(bytes.fromhex("4e487b71") + encode(["uint256"], [0x11])))
    assert "without giving a reason" in str(decode_revert(b""))


def test_no_two_errors_share_a_selector() -> None:
    seen: dict[bytes, str] = {}
    for name in CONTRACTS:
        for entry in load_artifact(name).abi:
            if entry["type"] == "error":
                signature = entry["name"] + str([part["type"] for part in entry["inputs"]])
                known = next(each for each in error_types().values() if each.name == entry["name"])
                assert seen.setdefault(known.selector + signature.encode(), signature) == signature
    assert len(error_types()) > 80


def _value(kind: str) -> st.SearchStrategy[object]:
    if kind.endswith("[]"):
        return st.lists(_value(kind[:-2]), max_size=3)
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:]) - 1)
    if kind.startswith("int"):
        return st.integers(-(2 ** (int(kind[3:]) - 1)), 2 ** (int(kind[3:]) - 1) - 1)
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    if kind == "bool":
        return st.booleans()
    if kind == "string":
        return st.text(max_size=20)
    if kind == "bytes":
        return st.binary(max_size=40)
    size = int(kind.removeprefix("bytes"))
    return st.binary(min_size=size, max_size=size)
