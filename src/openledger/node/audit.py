"""Recomputing a receipt: from public data over a node's API (``openledger verify``), or inside the node for its pages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from openledger.chain import Chain, Deployment
from openledger.node.events import EventLog
from openledger.node.library import Library
from openledger.node.views import Check
from openledger.primitives import InputError, NotFoundError, from_hex, keccak, parse_json, to_hex
from openledger.settlement import (
    PlainSources,
    PrivateBody,
    ReceiptBody,
    Recompute,
    TermsReader,
    VerificationReport,
    verify_receipt,
)
from openledger.storage import BlobStore

if TYPE_CHECKING:
    from openledger.node.service import Node
    from openledger.node.serving import Shelf


class PublicSource(Protocol):
    """What a node shows to everyone (:class:`openledger.client.OpenLedger` is one)."""

    def network_facts(self) -> dict[str, Any]: ...

    def public_body(self, name: str) -> dict[str, Any]: ...

    def blob(self, digest: str) -> bytes: ...


class FetchedBlobs(BlobStore):
    """Public blobs of a node, fetched by hash, checked, and kept in a folder."""

    def __init__(self, folder: Path, source: PublicSource) -> None:
        super().__init__(folder)
        self._source = source

    def get(self, digest: bytes) -> bytes:
        """The bytes whose keccak-256 is ``digest``, from the folder or the node.

        Raises:
            NotFoundError: the node does not publish it.
            InputError: the node sent other bytes.
        """
        if not self.has(digest):
            data = self._source.blob(to_hex(digest))
            if keccak(data) != digest:
                raise InputError(f"the node sent bytes that hash to {to_hex(keccak(data))} for blob {to_hex(digest)}")
            self.put(data)
        return super().get(digest)


@dataclass(frozen=True)
class Report:
    """The outcome of a verification: yes, or no with the differences."""

    receipt_id: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check was made and holds."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"receipt": self.receipt_id, "ok": self.ok, "checks": checks}


@dataclass(frozen=True)
class Reached:
    """A network as a node publishes it: the chain, the public blobs, the records and models that they lead to."""

    chain: Chain
    blobs: BlobStore
    library: Library
    shelf: Shelf


def reach(source: PublicSource, folder: Path, work: Path, base: str | None = None) -> Reached:
    """A network from what a node publishes and the chain, trusting neither.

    Args:
        source: a node; everything that it sends is checked against hashes on the chain.
        folder: where blobs are kept.
        work: where models are unpacked.
        base: the base model by folder or hub id; None for the one that ships.
    """
    from openledger.node.serving import Shelf

    facts = source.network_facts()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deployment.json").write_text(facts["deployment"])
    chain = Chain(facts["rpc_url"], Deployment.load(folder / "deployment.json"))
    blobs = FetchedBlobs(folder / "blobs", source)
    library = Library(chain, EventLog(chain), blobs)
    return Reached(chain, blobs, library, Shelf(base, chain, blobs, work, library))


@dataclass(frozen=True)
class Opened(Reached):
    """One receipt with all that it takes to compute it anew.

    Attributes:
        digest: the receipt's id, 32 bytes.
        body: its public body.
    """

    digest: bytes
    body: ReceiptBody
    _given: PrivateBody | None = None

    def private(self, private_hash: bytes) -> PrivateBody:
        """What opens the prompt and output hashes: the given file, or what is published.

        Raises:
            NotFoundError: it is neither given nor published.
        """
        return _private(self._given, self.blobs, private_hash)


@contextmanager
def opened(
    receipt: str, source: PublicSource, *, base: str | None = None, private_body: Path | None = None
) -> Iterator[Opened]:
    """One receipt from what a node publishes and the chain, trusting neither; arguments and errors as :func:`audit`."""
    with tempfile.TemporaryDirectory(prefix="openledger-verify-") as temporary:
        network = reach(source, Path(temporary), Path(temporary) / "work", base)
        body = _body(receipt, source)
        given = None if private_body is None else PrivateBody.from_json(_read(private_body))
        digest = _claimed_id(receipt, body, network.chain)
        yield Opened(network.chain, network.blobs, network.library, network.shelf, digest, body, given)


def audit(
    receipt: str,
    source: PublicSource,
    *,
    base: str | None = None,
    private_body: Path | None = None,
    other_processor: bool = False,
) -> Report:
    """Recomputes one receipt from what a node publishes and the chain, trusting neither.

    Args:
        receipt: its number, id, first 6 hex digits, or a file with its public body.
        source: a node; everything that it sends is checked against hashes on the chain.
        base: the base model by folder or hub id; None for the one that ships.
        private_body: a file that opens the prompt and output hashes, where they are not published.
        other_processor: let shares differ by ``OTHER_PROCESSOR_PPM``, since the host's processor is of another kind.

    Raises:
        NotFoundError: there is no such receipt.
        InputError: a file is malformed.
    """
    from openledger.attribution import OTHER_PROCESSOR_PPM

    with opened(receipt, source, base=base, private_body=private_body) as facts:
        return _report(
            facts.chain, facts.blobs, facts.digest, facts.body, facts.private, facts.shelf.recompute,
            tolerance_ppm=OTHER_PROCESSOR_PPM if other_processor else 0,
        )  # fmt: skip


def verify_here(node: Node, name: str) -> list[Check]:
    """Recomputes one receipt inside the node that keeps it."""
    row = node.receipts_store.find(name)
    body = ReceiptBody.from_json(row.body)
    private = node.receipts_store.private_of(body)
    digest = from_hex(row.id, 32)
    report = _report(
        node.chain, node.blobs, digest, body, lambda wanted: _private(private, node.blobs, wanted),
        node.shelf.recompute, node.reader.terms,
    )  # fmt: skip
    return list(report.checks)


def _report(
    chain: Chain,
    blobs: BlobStore,
    digest: bytes,
    body: ReceiptBody,
    private: Callable[[bytes], PrivateBody],
    recompute: Recompute,
    reader: TermsReader | None = None,
    tolerance_ppm: int = 0,
) -> Report:
    sources = PlainSources(chain, blobs, lambda _digest: body, private, recompute)
    return _shown(verify_receipt(digest, sources, tolerance_ppm=tolerance_ppm, reader=reader))


def _private(given: PrivateBody | None, blobs: BlobStore, private_hash: bytes) -> PrivateBody:
    if given is not None and given.digest() == private_hash:
        return given
    try:
        return PrivateBody.from_json(blobs.get_json(private_hash))
    except NotFoundError:
        raise NotFoundError(
            "its prompt and answer are not published; the consumer or host can open them with --private-body FILE"
        ) from None


def _shown(report: VerificationReport) -> Report:
    checks = []
    for check in report.checks:
        detail = check.difference or (check.actual if check.ok else "")
        if check.ok is None:
            detail = f"could not be checked: {check.difference}"
        checks.append(Check(check.name, check.ok is True, detail))
    return Report(to_hex(report.receipt_id), tuple(checks))


def _body(receipt: str, source: PublicSource) -> ReceiptBody:
    path = Path(receipt)
    return ReceiptBody.from_json(_read(path) if path.is_file() else source.public_body(receipt))


def _claimed_id(receipt: str, body: ReceiptBody, chain: Chain) -> bytes:
    """The id that was asked for; of a file, the digest of what it says was signed."""
    if len(receipt) == 66 and receipt.startswith("0x"):
        return from_hex(receipt, 32)
    return body.digest(chain.domain("InferenceLedger"))


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
