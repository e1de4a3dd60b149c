"""InferenceMarket on a real chain with a real model: accounts and contracts ask, this node's host answers, fees are paid on."""

from __future__ import annotations

from typing import Any

import pytest

from openledger.node.market import MarketDesk
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.primitives import WEI_PER_OPEN, RevertError, canonical_bytes
from openledger.settlement import (
    MarketState,
    RootState,
    accept_request,
    fulfil_request,
    market_request,
    refund_request,
    request_inference,
)
from openledger.studio import Prompt
from tests.node.asker import make_asker

pytestmark = pytest.mark.chain
QUESTION = Prompt.chat([{"role": "user", "content": "What happened?"}])
SHORT = Sampling(max_tokens=8)


def test_an_account_asks_is_answered_and_gets_back_what_the_answer_did_not_cost(node: Node) -> None:
    consumer = node.keys.wallet("consumer")
    row = node.market.ask(consumer, 1, QUESTION, SHORT)
    before, market = node.chain.balance(consumer.address), node.chain.address("InferenceMarket")
    [answer] = node.market.tend()
    assert answer.request == row.number
    shown = node.market.row(row.number)
    assert (shown.state, shown.output, shown.receipt) == ("fulfilled", answer.output, answer.receipt)
    assert node.chain.balance(consumer.address) == before + row.max_fee - answer.fee
    assert node.chain.balance(market) == 0
    assert node.receipts_store.find(answer.receipt).consumer == market
    assert node.market.tend() == []


def test_its_fee_is_paid_on_like_any_other_and_its_receipt_verifies(node: Node) -> None:
    row = node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, SHORT)
    [answer] = node.market.tend()
    settled = node.settle_now()
    assert settled.state is RootState.ACTIVE
    paid = node.reader.active_payouts()
    assert paid.settled[node.chain.address("InferenceMarket"), node.host.address] >= answer.fee
    assert not paid.held
    assert all(check.ok for check in node.verify(answer.receipt))
    assert node.market.row(row.number).fee == answer.fee


@pytest.mark.parametrize("refuses", [False, True])
def test_a_contract_asks_and_its_callback_receives_the_answer_or_is_passed_over(node: Node, refuses: bool) -> None:
    asker = make_asker(node, refuses=refuses)
    deadline = node.chain.time() + 600
    call = asker.functions.ask(1, canonical_bytes(QUESTION.to_json(SHORT)), deadline)
    node.chain.send(node.keys.wallet("consumer"), call, value=WEI_PER_OPEN)
    [answer] = node.market.tend()
    assert answer.delivered is not refuses
    assert bytes(node.chain.call(asker.functions.answer())).decode() == ("" if refuses else answer.output)
    assert node.chain.balance(asker.address) == WEI_PER_OPEN - answer.fee


@pytest.mark.parametrize(
    ("prompt", "most"),
    [
        (QUESTION.to_json(SHORT), 1),
        ({"what": "ever"}, WEI_PER_OPEN),
        ({**QUESTION.to_json(SHORT), "more": 1}, WEI_PER_OPEN),
    ],
    ids=["pays too little", "is no prompt", "names what is not known"],
)
def test_what_cannot_be_answered_is_left_alone_and_its_money_goes_back(
    node: Node, prompt: dict[str, Any], most: int
) -> None:
    consumer = node.keys.wallet("consumer")
    number = request_inference(node.chain, consumer, 1, prompt, most, seconds=120)
    assert node.market.tend() == []
    assert market_request(node.chain, number).host is None
    with pytest.raises(RevertError, match="DeadlineRunning"):
        refund_request(node.chain, consumer, number)
    node.devchain.warp(121)
    before = node.chain.balance(consumer.address)
    assert node.market.refund(number).state == "refunded"
    assert node.chain.balance(consumer.address) == before + most


def test_a_request_that_another_host_took_is_waited_for_until_its_time_is_over(node: Node) -> None:
    other = node.keys.wallet("second-host")
    node.chain.transfer(node.keys.wallet("community"), other.address, 3_000 * WEI_PER_OPEN)
    node.accounts.stake("second-host", "host", 2_000 * WEI_PER_OPEN)
    row = node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, SHORT, seconds=3_600)
    accept_request(node.chain, other, row.number)
    assert node.market.tend() == []
    node.devchain.warp(601)
    [answer] = node.market.tend()
    assert answer.host == node.host.address


def test_a_host_that_was_stopped_before_it_fulfilled_sends_the_same_receipt(node: Node) -> None:
    row = node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, SHORT)
    accept_request(node.chain, node.host, row.number)
    signed = node.inference.answer_paid("tiny", QUESTION, SHORT, node.chain.address("InferenceMarket"), row.max_fee)
    restarted = MarketDesk(
        node.chain,
        node.database,
        node.receipts_store,
        lambda: node.inference,
        node.agents,
        node.runs,
        host=node.host,
        party=node.reader.party,
    )
    [answer] = restarted.tend()
    assert answer.receipt == signed.receipt_id
    assert node.market.tend() == []


def test_a_receipt_that_is_not_the_requests_is_refused_by_the_market(node: Node) -> None:
    row = node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, Sampling(max_tokens=4))
    accept_request(node.chain, node.host, row.number)
    asked = market_request(node.chain, row.number)
    other = node.inference.answer_paid("tiny", QUESTION, SHORT, node.chain.address("InferenceMarket"), WEI_PER_OPEN)
    with pytest.raises(RevertError, match="WrongReceipt"):
        fulfil_request(node.chain, node.host, asked, other.body, node.receipts_store.private_of(other.body))
    assert market_request(node.chain, row.number).state is MarketState.OPEN
