"""What a node that died in the middle of a settlement left undone is done by the next one, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openledger.node.server import Server
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.settlement import (
    RootState,
    next_sequence,
    post_batch,
    prepare,
    propose_root,
    proposed_roots,
    root_state,
)
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


def answered(node: Node) -> None:
    node.market.ask(node.keys.wallet("consumer"), 1, QUESTION, Sampling(max_tokens=4))
    assert len(node.market.tend()) == 1


def posted(node: Node) -> int:
    """The number of a batch that was posted by a host that did no more."""
    host = node.keys.wallet("host")
    waiting = node.receipts_store.bodies(next_sequence(node.chain, host.address))
    return post_batch(node.chain, host, waiting).number


def test_a_batch_that_was_posted_and_no_more_is_attested_and_paid(node: Node) -> None:
    answered(node)
    number = posted(node)
    settled = node.settle_now()
    assert settled.batches == ()
    assert {report.batch for report in settled.reports} == {number}
    assert all(report.valid for report in settled.reports)
    assert (settled.state, proposed_roots(node.chain)[-1].last_batch) == (RootState.ACTIVE, number)
    block = node.chain.w3.eth.block_number
    assert node.settle_now().root == 0
    assert node.chain.w3.eth.block_number == block


def test_a_payout_root_that_was_proposed_and_no_more_is_attested_and_activated(node: Node) -> None:
    answered(node)
    posted(node)
    document = prepare(
        node.chain, node.blobs, lambda batch: node.receipts_store.bodies(batch.first_sequence, batch.count)
    )
    root = propose_root(node.chain, node.keys.wallet("settler"), document)
    assert root_state(node.chain, root.number) is RootState.PENDING
    settled = node.settle_now()
    assert (settled.root, settled.state, settled.posted) == (root.number, RootState.ACTIVE, 0)
    answered(node)
    assert node.settle_now().root == root.number + 1
