"""The indexer: what is on the chain is in the database, once, whatever crashed, moved or raced in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from openledger.chain import Chain, Deployment, Indexer
from openledger.chain.artifacts import creation_code
from openledger.chain.deployment import ZERO_ADDRESS
from openledger.chain.indexer import ChainEvent
from openledger.primitives import ConfigurationError, NotFoundError, StorageError, UnreachableError, to_hex
from openledger.storage import CheckpointRecord, Database
from tests.chain.conftest import Network
from tests.chain.nodes import RICH, Proxy, plain_anvil, rpc


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """A chain that can be reorganised."""
    with plain_anvil("--slots-in-an-epoch", "1000") as url:
        yield url


@pytest.fixture
def chain(node: str) -> Chain:
    """That chain with gOPEN newly deployed on it, and nothing wrapped."""
    plain = Chain(node)
    address = plain.create(RICH, creation_code("GOPEN"))
    block = plain.w3.eth.block_number
    deployment = Deployment(
        plain.chain_id, plain.genesis, block, plain.time(), {"GOPEN": address}, RICH.address, RICH.address
    )
    return Chain(node, deployment)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database, of each kind."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _wrap(chain: Chain, *amounts: int) -> None:
    for amount in amounts:
        chain.send(RICH, chain.contract("GOPEN").functions.deposit(), amount)


def _wrapped(indexer: Indexer) -> list[int]:
    return [event.arguments["amount"] for event in indexer.events("GOPEN", "Wrapped")]


def test_events_are_indexed_as_the_chain_gives_them(chain: Chain, database: Database) -> None:
    _wrap(chain, 3, 2**70)
    indexer = Indexer(chain, database)
    progress = indexer.sync()
    assert progress.block == chain.w3.eth.block_number
    for name in ("Wrapped", "Transfer"):
        assert indexer.events("GOPEN", name) == [
            ChainEvent(
                log["blockNumber"],
                log["logIndex"],
                to_hex(bytes(log["blockHash"])),
                chain.w3.eth.get_block(log["blockNumber"])["timestamp"],
                to_hex(bytes(log["transactionHash"])),
                "GOPEN",
                name,
                dict(log["args"]),
            )
            for log in chain.events("GOPEN", name)
        ]
    assert indexer.events("GOPEN", "Transfer")[1].arguments == {
        "from": ZERO_ADDRESS,
        "to": RICH.address,
        "value": 2**70,
    }
    later = chain.w3.eth.block_number
    assert [event.arguments["amount"] for event in indexer.events("GOPEN", "Wrapped", later)] == [2**70]


def test_indexing_again_changes_nothing_and_goes_on_where_it_stopped(chain: Chain, database: Database) -> None:
    _wrap(chain, 1, 2)
    first = Indexer(chain, database)
    written = first.sync().written
    assert first.sync().written == 0
    _wrap(chain, 3)
    second = Indexer(chain, database, span=1)
    assert 0 < second.sync().written < written
    assert _wrapped(second) == [1, 2, 3]


@pytest.mark.parametrize("span", [1, 3, 2_000])
def test_a_reorganisation_takes_events_back(chain: Chain, database: Database, span: int) -> None:
    _wrap(chain, 1)
    before = rpc(chain.rpc_url, "evm_snapshot")
    _wrap(chain, 2, 3, 4)
    indexer = Indexer(chain, database, span=span)
    indexer.sync()
    assert _wrapped(indexer) == [1, 2, 3, 4]
    rpc(chain.rpc_url, "evm_revert", before)
    assert indexer.sync().removed > 0
    assert _wrapped(indexer) == [1]
    _wrap(chain, 20, 30, 40, 50)
    indexer.sync()
    assert _wrapped(indexer) == [1, 20, 30, 40, 50]


def test_a_reorganisation_while_nobody_looked_is_noticed_at_the_same_height(chain: Chain, database: Database) -> None:
    _wrap(chain, 1, 2, 3)
    Indexer(chain, database, span=1).sync()
    rpc(chain.rpc_url, "anvil_reorg", 2, [])
    indexer = Indexer(chain, database)
    progress = indexer.sync()
    assert (progress.block, progress.removed > 0) == (chain.w3.eth.block_number, True)
    assert _wrapped(indexer) == [event["args"]["amount"] for event in chain.events("GOPEN", "Wrapped")] == [1]


def test_blocks_without_enough_on_top_of_them_wait(chain: Chain, database: Database) -> None:
    _wrap(chain, 1, 2, 3)
    indexer = Indexer(chain, database, confirmations=2)
    indexer.sync()
    assert _wrapped(indexer) == [1]
    rpc(chain.rpc_url, "anvil_mine", hex(2))
    indexer.sync()
    assert _wrapped(indexer) == [1, 2, 3]


def test_several_indexers_on_one_database_write_everything_once(chain: Chain, database: Database) -> None:
    _wrap(chain, *range(1, 13))
    Indexer(chain, database)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: Indexer(chain, database, span=1).sync(), range(3)))
    assert _wrapped(Indexer(chain, database)) == list(range(1, 13))


def test_a_span_is_written_whole_or_not_at_all(
    chain: Chain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wrap(chain, 1, 2, 3)
    indexer = Indexer(chain, database)
    with monkeypatch.context() as broken:
        broken.setattr(
            "openledger.chain.indexer.CheckpointRecord",
            lambda **fields: CheckpointRecord(**{**fields, "hash": None}),
        )
        with pytest.raises(StorageError):
            indexer.sync()
    assert _wrapped(indexer) == []
    indexer.sync()
    assert _wrapped(indexer) == [1, 2, 3]


def test_old_checkpoints_are_dropped_and_a_deeper_reorganisation_reads_everything_again(
    chain: Chain, database: Database
) -> None:
    _wrap(chain, 1)
    before = rpc(chain.rpc_url, "evm_snapshot")
    _wrap(chain, 2, 3, 4, 5, 6, 7)
    indexer = Indexer(chain, database, span=1, checkpoints=3)
    indexer.sync()
    with database.session() as session:
        assert session.query(CheckpointRecord).count() == 3
    rpc(chain.rpc_url, "evm_revert", before)
    _wrap(chain, 70)
    indexer.sync()
    assert _wrapped(indexer) == [1, 70]


def test_a_node_that_refuses_long_spans_is_asked_for_shorter_ones(
    chain: Chain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wrap(chain, 1, 2, 3, 4, 5)
    asked = []
    real = chain.w3.eth.get_logs

    def limited(span: dict[str, int]) -> object:
        asked.append(span["toBlock"] - span["fromBlock"] + 1)
        return real(span if asked[-1] <= 2 else {**span, "toBlock": "no number"})  # type: ignore[arg-type]

    monkeypatch.setattr(chain.w3.eth, "get_logs", limited)
    indexer = Indexer(chain, database)
    indexer.sync()
    assert max(asked) > 2
    assert _wrapped(indexer) == [1, 2, 3, 4, 5]


def test_an_indexer_follows_the_chain_over_interruptions(chain: Chain, database: Database) -> None:
    proxy, stop = Proxy(chain.rpc_url), threading.Event()
    indexer = Indexer(Chain(proxy.url, chain.deployment, timeout=5), database)
    worker = threading.Thread(target=indexer.follow, args=(stop, 0.05))
    worker.start()
    try:
        for amount in range(1, 6):
            proxy.cut_next = 2
            _wrap(chain, amount)
        deadline = time.monotonic() + 60
        while _wrapped(indexer) != [1, 2, 3, 4, 5] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _wrapped(indexer) == [1, 2, 3, 4, 5]
    finally:
        stop.set()
        worker.join()
        proxy.close()


def test_a_node_that_does_not_answer_is_reported(chain: Chain, database: Database) -> None:
    proxy = Proxy(chain.rpc_url)
    indexer = Indexer(Chain(proxy.url, chain.deployment, timeout=0.5), database)
    proxy.deaf = True
    with pytest.raises(UnreachableError):
        indexer.sync()
    proxy.close()


def test_a_database_holds_the_events_of_one_chain(chain: Chain, network: Network, database: Database) -> None:
    Indexer(chain, database)
    with pytest.raises(ConfigurationError, match="holds the events of the chain with genesis"):
        Indexer(network.chain, database)
    with pytest.raises(ConfigurationError, match="where the contracts are"):
        Indexer(Chain(chain.rpc_url), database)
    with pytest.raises(NotFoundError, match="no event 'Rapped'"):
        Indexer(chain, database).events("GOPEN", "Rapped")


def test_a_whole_networks_events_are_indexed(network: Network, database: Database) -> None:
    indexer = Indexer(network.chain, database, span=7)
    assert indexer.sync().written > 50
    for contract, event in (("AccessManager", "RoleGranted"), ("RuntimeParameters", "ParameterSet")):
        found = [(item.block, dict(item.arguments)) for item in indexer.events(contract, event)]
        assert found == [(log["blockNumber"], dict(log["args"])) for log in network.chain.events(contract, event)]
        assert found


def test_the_events_of_a_contract_start_at_the_deployment(chain: Chain, database: Database) -> None:
    assert chain.deployment is not None
    _wrap(chain, 1, 2)
    later = replace(chain.deployment, block=chain.w3.eth.block_number)
    indexer = Indexer(Chain(chain.rpc_url, later), database)
    indexer.sync()
    assert _wrapped(indexer) == [2]
