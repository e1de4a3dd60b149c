"""Whatever a node changes about an answer or a model is found by whoever recomputes it from public data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openledger.client import OpenLedger
from openledger.node.audit import FetchedBlobs, Report, audit
from openledger.node.home import Home
from openledger.primitives import InputError, keccak, to_hex
from tests.conftest import Network

LARGE = 200_000
"""Bytes; of a model's files only the adapters and the index are larger."""


class Tampered:
    """A node that shows something else than it should: a flipped bit in large blobs, or another receipt body."""

    def __init__(self, node: Any, *, larger_than: int | None = None, body: dict[str, Any] | None = None) -> None:
        self._node = node
        self._larger_than = larger_than
        self._body = body

    def network_facts(self) -> dict[str, Any]:
        return dict(self._node.network_facts())

    def public_body(self, name: str) -> dict[str, Any]:
        return self._body or dict(self._node.public_body(name))

    def blob(self, digest: str) -> bytes:
        data = bytes(self._node.blob(digest))
        flip = self._larger_than is not None and len(data) > self._larger_than
        return data[:-1] + bytes([data[-1] ^ 1]) if flip else data


class Shelf:
    """A node with one blob."""

    def blob(self, digest: str) -> bytes:
        return b"index"


def test_a_blob_that_is_not_what_its_name_says_is_refused_and_not_kept(tmp_path: Path) -> None:
    digest = keccak(b"index")
    with pytest.raises(InputError, match=f"for blob {to_hex(digest)}"):
        FetchedBlobs(tmp_path, Tampered(Shelf(), larger_than=0)).get(digest)
    assert FetchedBlobs(tmp_path, Tampered(Shelf())).get(digest) == b"index"


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


@pytest.fixture(scope="module")
def node(network: Network) -> OpenLedger:
    return OpenLedger(network.url, operator_token=Home(network.home).operator_token())


@pytest.fixture(scope="module")
def receipt(network: Network) -> str:
    return str(next(row for row in network.document["receipts"] if row["about"])["id"])


@pytest.mark.slow
@pytest.mark.chain
def test_a_changed_index_or_adapter_is_found(node: OpenLedger, receipt: str) -> None:
    found = failed(audit(receipt, Tampered(node, larger_than=LARGE)))
    assert "the node sent bytes that hash to" in found["influence"]


@pytest.mark.slow
@pytest.mark.chain
def test_a_changed_list_of_shares_is_found(node: OpenLedger, receipt: str) -> None:
    body = node.public_body(receipt)
    record, ppm = body["shares"][0]
    body["shares"][0] = [record, ppm - 5]
    body["residual_ppm"] += 5
    found = failed(audit(receipt, Tampered(node, body=body)))
    assert {"shares root", "influence"} <= set(found)
    assert "-5 ppm" in found["influence"]


@pytest.mark.slow
@pytest.mark.chain
@pytest.mark.parametrize(("moved", "passes"), [(1_000, True), (2_000, False)])
def test_another_processor_may_move_a_share_a_little_and_no_more(
    node: OpenLedger, receipt: str, moved: int, passes: bool
) -> None:
    body = node.public_body(receipt)
    record, ppm = body["shares"][0]
    body["shares"][0] = [record, ppm - moved]
    body["residual_ppm"] += moved
    assert "influence" in failed(audit(receipt, Tampered(node, body=body)))
    found = failed(audit(receipt, Tampered(node, body=body), other_processor=True))
    assert ("influence" not in found) is passes
    assert "shares root" in found


@pytest.mark.slow
@pytest.mark.chain
@pytest.mark.parametrize("field", ["prompt_hash", "output_hash"])
def test_a_changed_prompt_or_answer_is_found(node: OpenLedger, receipt: str, field: str) -> None:
    body = node.public_body(receipt)
    key = next(name for name in body["receipt"] if name.replace("_", "").lower() == field.replace("_", ""))
    body["receipt"][key] = to_hex(keccak(b"something else"))
    found = failed(audit(receipt, Tampered(node, body=body)))
    assert {"signature", field.replace("_", " ")} <= set(found)
