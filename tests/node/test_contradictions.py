"""A reviewer sees which records speak against accepted ones, and what each says instead."""

from __future__ import annotations

import json

import pytest

from openledger.datanets import Record, load_records
from openledger.node.service import Node
from openledger.primitives import NotFoundError, to_hex
from tests.conftest import openledger

pytestmark = pytest.mark.chain


def test_a_false_fact_is_shown_beside_the_accepted_record_that_it_contradicts(node: Node) -> None:
    true = load_records()[0]
    told = true.answer.replace("153,037", "987,654")
    false = Record.from_json({**true.value, "answer": told, "facts": {**true.facts, "lost": "987,654 ETH"}})
    submitted = node.curation.contribute(1, "boris", [false, load_records()[9]], "Apache-2.0")
    [row] = node.reader.contradictions(submitted.id)
    assert (row.hash, row.trusted, row.status) == (to_hex(false.hash), to_hex(true.hash), "under review")
    assert (row.says, row.instead_of) == (["987,654"], ["153,037"])
    assert node.reader.contradiction(to_hex(false.hash)) == row
    assert node.reader.contradiction(to_hex(load_records()[2].hash)) is None
    shown = openledger("datanet", "contradictions", str(submitted.id), "--json", home=node.home.path)
    assert shown.returncode == 0, shown.stderr
    assert [one["hash"] for one in json.loads(shown.stdout)] == [row.hash]
    with pytest.raises(NotFoundError, match="no contribution 99"):
        node.reader.contradictions(99)
