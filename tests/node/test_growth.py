"""Records that came after a model was trained can be added to its influence index, and nothing else changes by that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openledger.attribution import InfluenceIndex
from openledger.client import OpenLedger
from openledger.datanets import load_records
from openledger.node.audit import opened
from openledger.node.growth import grow
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.primitives import InputError, from_hex
from openledger.studio import Prompt
from tests.conftest import openledger

pytestmark = pytest.mark.chain


def test_a_later_versions_records_are_added_and_measured_on_an_answer(
    server: Server, node: Node, tmp_path: Path
) -> None:
    asked = load_records()[4]
    prompt = Prompt.chat([{"role": "user", "content": asked.question}])
    node.market.ask(node.keys.wallet("consumer"), 1, prompt, Sampling(max_tokens=12))
    [answer] = node.market.tend()
    before = node.shelf.model(1).index
    with (
        OpenLedger(server.url) as client,
        opened(answer.receipt, client) as facts,
        pytest.raises(InputError, match="version 1 of Datanet 1 has no record that version 1, on which model 1"),
    ):
        grow(facts, 1, 0, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    submitted = node.curation.contribute(1, "boris", load_records()[3:6], "Apache-2.0")
    node.curation.review(submitted.id)
    node.curation.anchor(1)

    shown = openledger(
        "attribution", "extend", answer.receipt, "--output", str(tmp_path / "index"), "--json", home=node.home.path
    )
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["version"], told["added"]) == (2, 3)
    assert len(told["records"]) == before.records + 3
    assert sum(one["new"] for one in told["records"]) == 3
    assert {one["contributor"] for one in told["records"] if one["new"]} == {node.keys.wallet("boris").address}
    scores = [one["score"] for one in told["records"]]
    assert scores == sorted(scores, reverse=True)
    grown = InfluenceIndex.load(tmp_path / "index", from_hex(told["index"], 32))
    assert grown.record_hashes[: before.records] == before.record_hashes
    assert node.shelf.model(1).index.digest() == before.digest()
