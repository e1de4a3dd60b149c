"""Trouble between the client and a real node: it is overcome or reported, and nothing is sent twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, devchain
from openledger.chain.artifacts import creation_code
from openledger.primitives import WEI_PER_OPEN, ChainError, RevertError, UnreachableError, keccak
from tests.chain.nodes import RICH, Proxy, plain_anvil, rpc

SOMEONE = "0x00000000000000000000000000000000000A11cE"


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """A node that mines at once."""
    with plain_anvil() as url:
        yield url


@pytest.fixture
def slow() -> Iterator[str]:
    """A node that mines only when told to."""
    with plain_anvil("--no-mining", "--order", "fifo") as url:
        yield url


@pytest.fixture
def proxy(node: str) -> Iterator[Proxy]:
    """What stands between the client and the node."""
    between = Proxy(node)
    yield between
    between.close()


def _actor(url: str, name: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(keccak(name.encode()))
    rpc(url, "anvil_setBalance", account.address, hex(100 * WEI_PER_OPEN))
    return account


def test_a_transaction_whose_answer_was_cut_off_counts_once(node: str, proxy: Proxy) -> None:
    chain, actor = Chain(proxy.url), _actor(node, "cut")
    chain.transfer(actor, SOMEONE, 1)
    for cuts in (1, 2, 3):
        before = chain.balance(SOMEONE)
        real = chain.w3.eth.send_raw_transaction

        def cut(raw: bytes, cuts: int = cuts, real: object = real) -> object:
            proxy.cut_next, chain.w3.eth.send_raw_transaction = cuts, real  # type: ignore[method-assign,assignment]
            return real(raw)  # type: ignore[operator]

        chain.w3.eth.send_raw_transaction = cut  # type: ignore[method-assign,assignment]
        receipt = chain.transfer(actor, SOMEONE, 5)
        assert receipt["status"] == 1
        assert chain.balance(SOMEONE) == before + 5
    assert chain.nonce(actor.address) == 4


def test_a_node_that_never_answers_is_reported_in_time(node: str, proxy: Proxy) -> None:
    chain, actor = Chain(proxy.url, timeout=1), _actor(node, "deaf")
    proxy.deaf = True
    with pytest.raises(UnreachableError, match="nothing answers at"):
        chain.transfer(actor, SOMEONE, 1)


def test_a_slow_node_is_waited_for(node: str, proxy: Proxy) -> None:
    chain, actor = Chain(proxy.url), _actor(node, "slow")
    proxy.delay = 0.2
    assert chain.transfer(actor, SOMEONE, 1)["status"] == 1


def test_processes_that_race_for_an_accounts_nonces_know_exactly_what_was_paid(node: str) -> None:
    actor, receiver = _actor(node, "race"), _actor(node, "receiver").address
    chains = [Chain(node, timeout=10) for _ in range(3)]
    before, paid = chains[0].balance(receiver), []

    # Different amounts: two processes that send the very same bytes have sent one transaction.
    def pay(chain: Chain, amount: int) -> None:
        for _ in range(4):
            try:
                chain.transfer(actor, receiver, amount)
                paid.append(amount)
            except ChainError as error:
                # The node took it and dropped it for a rival's with the same nonce.
                assert "in no block" in str(error) or "nonce" in str(error)  # noqa: PT017

    workers = [threading.Thread(target=pay, args=(chain, amount)) for amount, chain in enumerate(chains, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert chains[0].balance(receiver) == before + sum(paid)
    assert chains[0].nonce(actor.address) == len(paid) >= 6


def test_an_account_that_cannot_pay_is_told_what_it_has_and_what_it_would_cost(node: str) -> None:
    chain, actor = Chain(node), _actor(node, "poor")
    with pytest.raises(
        ChainError, match=rf"insufficient funds: {actor.address} holds 100 OPEN, .* costs 101 OPEN and "
    ):
        chain.transfer(actor, SOMEONE, 101 * WEI_PER_OPEN)
    with pytest.raises(ChainError, match=r"costs 100 OPEN and up to .* OPEN for gas|costs 100 OPEN and gas"):
        chain.transfer(actor, SOMEONE, 100 * WEI_PER_OPEN)
    assert chain.nonce(actor.address) == 0


def test_a_transaction_that_runs_out_of_gas_says_so(node: str) -> None:
    chain, actor = Chain(node), _actor(node, "gas")
    with pytest.raises(RevertError, match=r"ran out of gas in block .*: it used all of its 1000000"):
        chain._transact(actor, {"data": "0x" + creation_code("GOPEN").hex(), "gas": 1_000_000}, 0)


def test_a_full_pool_is_tried_again_and_then_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain's own front refuses, over HTTP; only its bound is made so small that it is full."""
    with DevChain(tmp_path) as dev:
        actor, chain = dev.keys.wallet("genesis"), Chain(dev.rpc_url, timeout=30)
        monkeypatch.setattr(devchain, "_MOST_WAITING", 0)
        with pytest.raises(
            ChainError, match=r"txpool is full: .* wait; try again later; transaction 0x\w{64} was tried"
        ):
            Chain(dev.rpc_url, timeout=2).transfer(actor, SOMEONE, 1)
        assert chain.balance(SOMEONE) == 0
        room = threading.Timer(1.0, lambda: setattr(devchain, "_MOST_WAITING", 5_000))
        room.start()
        assert chain.transfer(actor, SOMEONE, 1)["status"] == 1
        assert chain.balance(SOMEONE) == 1
        room.join()


def test_the_transactions_that_a_pool_takes_are_bounded_and_all_of_them_are_made(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        bank, count = dev.keys.wallet("genesis"), 40
        signed = [
            bank.sign_transaction(
                {"chainId": dev.chain_id, "nonce": nonce, "gas": 21_000, "maxFeePerGas": 10**10, "value": 1,
                 "maxPriorityFeePerGas": 0, "to": SOMEONE}
            ).raw_transaction
            for nonce in range(count)
        ]  # fmt: skip
        # The last one again and again: each is an order that waits, and is refused as known once it is its turn.
        orders = ["0x" + bytes(raw).hex() for raw in [*signed, *([signed[-1]] * (devchain._MOST_WAITING + 500))]]
        promises = [dev.submit(order) for order in orders]
        refused = [str(error) for promise in promises[count:] if (error := promise.exception(120)) is not None]
        assert sum("txpool is full: 5000 transactions wait" in reason for reason in refused) > 0
        assert all(promise.result(120) for promise in promises[:count])
        assert Chain(dev.rpc_url).balance(SOMEONE) == count


def test_a_read_whose_connection_was_cut_is_asked_once_more(node: str, proxy: Proxy) -> None:
    chain = Chain(proxy.url)
    proxy.cut_next = 1
    assert chain.ask(lambda: chain.w3.eth.chain_id) == chain.chain_id
    proxy.cut_next = 2
    with pytest.raises(UnreachableError, match="nothing answers at"):
        chain.ask(lambda: chain.w3.eth.block_number)


def test_a_block_that_does_not_come_is_reported_with_the_transactions_name(slow: str) -> None:
    chain = Chain(slow, timeout=1)
    with pytest.raises(ChainError, match=r"transaction 0x\w{64} is in no block after 1 s; it may still come"):
        chain.transfer(RICH, SOMEONE, 1)


def test_a_transaction_whose_block_was_reorganised_away_counts_when_it_is_back(slow: str) -> None:
    chain, done = Chain(slow, confirmations=2, timeout=60), threading.Event()
    found: list[int] = []

    def pay() -> None:
        found.append(chain.transfer(RICH, SOMEONE, 7)["blockNumber"])
        done.set()

    worker = threading.Thread(target=pay)
    worker.start()
    while int(rpc(slow, "txpool_status")["pending"], 16) == 0:
        time.sleep(0.01)
    raw = rpc(slow, "txpool_content")["pending"]
    before = rpc(slow, "evm_snapshot")
    rpc(slow, "evm_mine")
    assert chain.balance(SOMEONE) == 7
    assert not done.wait(1)
    rpc(slow, "evm_revert", before)
    assert chain.balance(SOMEONE) == 0
    if int(rpc(slow, "txpool_status")["pending"], 16) == 0:
        (entry,) = next(iter(raw.values())).values()
        rpc(slow, "anvil_mine", hex(1))
        chain.w3.eth.send_raw_transaction(_raw_again(chain, entry))
    for _ in range(4):
        rpc(slow, "evm_mine")
    worker.join(60)
    assert chain.balance(SOMEONE) == 7
    assert chain.w3.eth.get_block(found[0])["transactions"]


def _raw_again(chain: Chain, entry: dict[str, str]) -> bytes:
    """The same transaction, signed once more: signatures are deterministic, so it is the same bytes."""
    names = {"nonce": "nonce", "gas": "gas", "value": "value", "maxFeePerGas": "maxFeePerGas"}
    fields = {name: int(entry[key], 16) for name, key in names.items()}
    fields["maxPriorityFeePerGas"] = int(entry["maxPriorityFeePerGas"], 16)
    signed = RICH.sign_transaction({**fields, "to": SOMEONE, "chainId": chain.chain_id, "type": 2, "data": "0x"})
    assert "0x" + bytes(signed.hash).hex() == entry["hash"]
    return bytes(signed.raw_transaction)
