"""Disputes that a node attends to by itself, on a real chain with a real model: it answers where it is right, and only there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.node import disputing
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.primitives import PPM, RevertError, to_hex
from openledger.settlement import (
    DisputeState,
    ReceiptBody,
    dispute,
    next_sequence,
    post_batch,
    shares_root,
    sign_receipt,
)
from openledger.storage import ReceiptRecord
from openledger.studio import Prompt
from tests.small import serving

pytestmark = pytest.mark.chain
QUESTION = Prompt.chat([{"role": "user", "content": "What happened?"}])


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Iterator[Server]:
    """A network of the test's own."""
    with serving(trained, tmp_path, engine="thread") as running:
        yield running


@pytest.fixture
def node(own: Server) -> Node:
    return own.node


def answered(node: Node) -> str:
    """A receipt that is on the chain."""
    node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, Sampling(max_tokens=8))
    [answer] = node.market.tend()
    return answer.receipt


def record_of(node: Node) -> bytes:
    return node.reader.library.accepted()[0].hash


def through(node: Node, number: int) -> DisputeState:
    """Attends until the dispute is decided."""
    for _ in range(6):
        node.court.attend()
        found = dispute(node.chain, number)
        if found.state.decided:
            return found.state
        node.devchain.warp(60)
    raise AssertionError(f"dispute {number} is still {found.state.name}")


def test_a_host_answers_a_wrong_challenge_and_wins(node: Node) -> None:
    receipt = answered(node)
    node.settle()
    before = node.chain.balance(node.host.address)
    opened = node.open_dispute("ada", receipt, "my record taught it", [(to_hex(record_of(node)), PPM // 2)])
    assert through(node, opened.number) is DisputeState.REJECTED
    found = dispute(node.chain, opened.number)
    assert found.defender == node.host.address
    assert node.chain.balance(node.host.address) > before
    assert node.answer_dispute(opened.number).state == "rejected", (
        "whoever answers after the node is told how it stands"
    )


def test_whoever_moves_a_dispute_on_while_the_node_does_is_told_how_it_ended(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = answered(node)
    node.settle()
    opened = node.open_dispute("ada", receipt, "my record taught it", [(to_hex(record_of(node)), PPM // 2)])
    assert node.answer_dispute(opened.number).state == "answered"
    node.devchain.warp(60)
    for name in ("draw_jury", "resolve"):
        real = getattr(disputing, name)
        monkeypatch.setattr(disputing, name, lambda *given, real=real: [real(*given), real(*given)][1])
    assert node.advance_dispute(opened.number).state == "rejected"
    with pytest.raises(RevertError, match="WrongState"):
        disputing.resolve(node.chain, node.host, opened.number)


def test_a_host_whose_receipt_is_wrong_does_not_answer_and_the_challenge_is_upheld(node: Node) -> None:
    wrong = falsify(node, answered(node))
    post_batch(node.chain, node.host, [wrong])
    opened = node.open_dispute("ada", str(wrong.receipt.sequence), "it credits a record that did nothing")
    before = node.chain.balance(node.host.address)
    node.court.attend()
    assert dispute(node.chain, opened.number).state is DisputeState.OPEN
    node.devchain.warp(3_601)
    assert through(node, opened.number) is DisputeState.UPHELD
    assert dispute(node.chain, opened.number).defender is None
    with pytest.raises(RevertError, match="WrongState"):
        node.answer_dispute(opened.number)
    assert node.chain.balance(node.host.address) <= before


def test_the_settler_answers_a_wrong_challenge_of_its_payout_root(node: Node) -> None:
    answered(node)
    node.settle()
    answered(node)
    node.settler._validators, validators = (
        [],
        node.settler._validators,
    )  # nobody attests: the root waits and can be challenged
    root = node.settle_now().root
    node.settler._validators = validators
    opened = node.open_root_dispute("ada", root, "it pays the wrong people")
    assert through(node, opened.number) is DisputeState.REJECTED


def test_a_node_that_is_up_attends_by_itself_unless_told_not_to(trained: Path, tmp_path: Path) -> None:
    for attends in (True, False):
        with serving(trained, tmp_path / str(attends), engine="thread") as running:
            node = running.node
            node.settings = node.settings.model_copy(
                update={"watch_seconds": 1, "settle_seconds": 3_600, "answer_disputes": attends}
            )
            told: list[str] = []
            receipt = answered(node)
            node.settle()
            node.start_work(told.append)
            opened = node.open_dispute("ada", receipt, "mine", [(to_hex(record_of(node)), PPM // 2)])
            waited = node._stop.wait
            for _ in range(60 if attends else 3):
                if any(f"dispute {opened.number} is rejected" in text for text in told):
                    break
                waited(1.0)
            decided = dispute(node.chain, opened.number).state
            assert decided is (DisputeState.REJECTED if attends else DisputeState.OPEN)


def falsify(node: Node, name: str) -> ReceiptBody:
    """The same receipt as the host's next one, with half of it credited to a record, signed and stored as the host would."""
    right = ReceiptBody.from_json(node.receipts_store.find(name).body)
    pairs = ((record_of(node), PPM // 2),)
    sequence = next_sequence(node.chain, node.host.address)
    assert sequence == right.receipt.sequence
    receipt = replace(right.receipt, shares_root=shares_root(pairs, PPM // 2))
    domain = node.chain.domain("InferenceLedger")
    body = sign_receipt(receipt, domain, node.host, pairs, PPM // 2, right.private_hash)
    node.blobs.put_json(body.to_json())
    with node.database.session() as session:
        row = session.get(ReceiptRecord, right.receipt.sequence)
        assert row is not None
        row.id, row.body = to_hex(body.digest(domain)), body.to_json()
    return body
