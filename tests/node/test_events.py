"""A node's events: from its database, kept over a restart, taken back with the chain; or from the chain alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from openledger.chain import Chain, Deployment, Indexer
from openledger.chain.artifacts import creation_code
from openledger.node.events import EventLog
from openledger.storage import Database
from tests.chain.nodes import RICH, plain_anvil, rpc

pytestmark = pytest.mark.chain


def test_events_are_taken_back_with_the_chain_and_survive_a_restart(tmp_path: Path) -> None:
    with plain_anvil() as url:
        chain = Chain(url)
        token = chain.create(RICH, creation_code("GOPEN"))
        chain.deployment = Deployment(chain.chain_id, chain.genesis, 1, 0, {"GOPEN": token}, RICH.address, RICH.address)
        gopen = chain.contract("GOPEN").functions
        url_of = f"sqlite:///{tmp_path / 'node.sqlite'}"
        database = Database(url_of)
        log, plain = EventLog(chain, Indexer(chain, database)), EventLog(chain)
        chain.send(RICH, gopen.deposit(), value=5)
        before = rpc(url, "evm_snapshot")
        chain.send(RICH, gopen.deposit(), value=6)
        assert [found.args["value"] for found in log.all("GOPEN", "Transfer")] == [5, 6]
        assert log.all("GOPEN", "Transfer") == plain.all("GOPEN", "Transfer")
        rpc(url, "evm_revert", before)
        rpc(url, "evm_mine")
        chain.send(RICH, gopen.deposit(), value=7)
        chain.send(RICH, gopen.deposit(), value=8)
        assert [found.args["value"] for found in log.all("GOPEN", "Transfer")] == [5, 7, 8]
        assert log.rewound == 1
        database.close()
        again = Database(url_of)
        indexer = Indexer(chain, again)
        assert [found.arguments["value"] for found in indexer.events("GOPEN", "Transfer")] == [5, 7, 8]
        assert EventLog(chain, indexer).all("GOPEN", "Transfer") == log.all("GOPEN", "Transfer")
        again.close()
