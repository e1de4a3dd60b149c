"""Records looked up for an answer are evidence of their own: measured, shown, recomputed, and never paid as influence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.client import OpenLedger
from openledger.datanets import AccessRule, DatanetTerms, Version, load_datanet
from openledger.node.audit import audit
from openledger.node.people import OWNER
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.primitives import PPM, InputError
from openledger.settlement import ReceiptBody, answer_differences
from openledger.studio import Prompt

pytestmark = pytest.mark.chain


def answered(node: Node, top_k: int, tokens: int = 12) -> str:
    [record, *_] = node.reader.library.accepted()
    prompt = Prompt.chat([{"role": "user", "content": record.value["question"]}], top_k)
    node.market.ask(node.keys.wallet("consumer"), 1, prompt, Sampling(max_tokens=tokens))
    [answer] = node.market.tend()
    return answer.receipt


def test_the_looked_up_records_are_shown_with_their_effect_and_the_receipt_verifies(server: Server, node: Node) -> None:
    asked = node.reader.library.accepted()[0]
    receipt = answered(node, top_k=2)
    node.settle()
    view = node.reader.receipt(receipt)
    assert view.retrieved[0].hash == "0x" + asked.hash.hex()
    assert [len(one.effects) for one in view.retrieved] == [len(view.tokens)] * len(view.retrieved)
    assert view.retrieved[0].effect == pytest.approx(sum(view.retrieved[0].effects))
    assert view.retrieved[0].effect != 0
    assert sum(ppm for _, ppm in view.contributors) + view.row.residual_ppm == PPM
    assert view.prompt_tokens > node.reader.receipt(answered(node, top_k=0)).prompt_tokens
    with OpenLedger(server.url) as client:
        report = audit(receipt, client)
    assert report.ok, [check for check in report.checks if not check.ok]


def test_a_host_that_put_other_records_before_the_question_is_found(node: Node) -> None:
    row = node.receipts_store.find(answered(node, top_k=1))
    body, private = ReceiptBody.from_json(row.body), node.receipts_store.private(row)
    assert answer_differences(body, private, node.shelf.recompute(body, private)) == []
    others = replace(private, prompt={**private.prompt, "retrieval": {"top_k": 2}})
    found = answer_differences(body, others, node.shelf.recompute(body, others))
    assert any("tokens" in difference for difference in found)


def test_what_does_not_fit_beside_the_answer_is_left_out(node: Node) -> None:
    context = node.shelf.base.context
    prompt = Prompt.chat([{"role": "user", "content": node.reader.library.accepted()[0].value["question"]}], 3)
    model = node.shelf.model(1)
    few, many = (model.look_up(prompt, Sampling(max_tokens=tokens)).passages for tokens in (context - 60, 12))
    assert len(few) < len(many)
    assert few == many[: len(few)]


def test_nothing_is_looked_up_in_a_datanet_that_is_not_open(node: Node) -> None:
    datanet = node.curation.create(node.keys.wallet(OWNER), load_datanet(), DatanetTerms(AccessRule.GRANTED))
    with pytest.raises(InputError, match=f"the records of Datanet {datanet} are not open"):
        node.shelf.retriever(datanet, Version(datanet, 1, (), (), ()))
