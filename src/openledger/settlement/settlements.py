"""Settling: from posted batches to the next payout document, and recomputing somebody else's.

Documents form a chain: each continues the one behind the newest payout root that was proposed before it and not disabled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from openledger.chain import Chain
from openledger.primitives import NotFoundError, VerificationError, format_open, record_hash, to_hex
from openledger.settlement import _strict
from openledger.settlement.batches import LEDGER, admit, leaves_of
from openledger.settlement.context import Blobs, TermsReader
from openledger.settlement.documents import PayoutDocument
from openledger.settlement.payouts import Held, Payouts, Terms, payouts
from openledger.settlement.receipts import ReceiptBody
from openledger.settlement.terms import Batch

DISTRIBUTOR = "RewardsDistributor"


class WritableBlobs(Blobs, Protocol):
    """Blobs that can be added to."""

    def put_json(self, value: Any) -> bytes: ...


@dataclass(frozen=True)
class ProposedRoot:
    """A payout root on chain.

    Attributes:
        number: the root's id, from 1.
        root: 32 bytes.
        total: wei of all cumulative earnings.
        last_batch: the newest batch counted in.
        data_hash: hash of the payout document.
        activation_time: Unix seconds from which it can be activated without attestations.
        block_number: the block of its proposal.
    """

    number: int
    root: bytes
    total: int
    last_batch: int
    data_hash: bytes
    activation_time: int
    block_number: int


def proposed_roots(chain: Chain) -> list[ProposedRoot]:
    """All payout roots ever proposed, in order."""
    return [
        ProposedRoot(
            number=log["args"]["rootId"],
            root=bytes(log["args"]["root"]),
            total=log["args"]["total"],
            last_batch=log["args"]["lastBatch"],
            data_hash=bytes(log["args"]["dataHash"]),
            activation_time=log["args"]["activationTime"],
            block_number=log["blockNumber"],
        )
        for log in chain.events(DISTRIBUTOR, "RootProposed")
    ]


def newest_root(chain: Chain, *, before: int | None = None, as_of_block: int | None = None) -> ProposedRoot | None:
    """The newest root that is neither disabled nor was held by a dispute at the end of ``as_of_block`` (the latest block by
    default), below the number ``before`` if given; None if there is none.
    """
    disabled = {log["args"]["rootId"] for log in chain.events(DISTRIBUTOR, "RootDisabled")}
    released = {log["args"]["holdId"] for log in chain.events(DISTRIBUTOR, "HoldReleased", to_block=as_of_block)}
    holds = [
        log["args"]
        for log in chain.events(DISTRIBUTOR, "RootsHeld", to_block=as_of_block)
        if log["args"]["holdId"] not in released
    ]

    def held(root: ProposedRoot) -> bool:
        return any(
            hold["fromRoot"] <= root.number <= hold["throughRoot"] and root.last_batch >= hold["batchId"]
            for hold in holds
        )

    usable = (
        root
        for root in proposed_roots(chain)
        if root.number not in disabled and (before is None or root.number < before) and not held(root)
    )
    return max(usable, key=lambda root: root.number, default=None)


def load_document(blobs: Blobs, digest: bytes) -> PayoutDocument:
    """The payout document of that hash.

    Raises:
        NotFoundError: it is not among the blobs.
        InputError: the blob is no payout document.
        VerificationError: the document contradicts itself.
    """
    return PayoutDocument.from_json(blobs.get_json(digest))


def prepare(
    chain: Chain,
    blobs: WritableBlobs,
    published: Callable[[Batch], Iterable[ReceiptBody]],
    *,
    reader: TermsReader | None = None,
    as_of_block: int | None = None,
) -> PayoutDocument:
    """The next payout document, stored among the blobs with the receipts it was computed from.

    Args:
        blobs: holds the manifests and the documents before; receives the new ones.
        published: the receipt bodies known for a batch. Those that are not what the host posted are left out; a receipt
            without a body is held until a later settlement.
        reader: reads the terms; give the same one each time so that it reads only what is new.
        as_of_block: the last block that counts; the latest by default.

    Raises:
        NotFoundError: the document of the newest root is not among the blobs.
        VerificationError: ``as_of_block`` lies before that document's.
    """
    reader = reader or TermsReader(chain, blobs)
    block = chain.w3.eth.block_number if as_of_block is None else as_of_block
    terms = reader.read(block)
    head = newest_root(chain)
    before = _before(blobs, None if head is None else head.data_hash, block)
    bodies: list[ReceiptBody] = []
    stored: list[tuple[int, bytes]] = []
    for batch in _open_batches(terms, before):
        admitted = _admitted(chain, batch, published(batch))
        if admitted:
            stored.append((batch.number, blobs.put_json({"receipts": [body.to_json() for body in admitted]})))
            bodies += admitted
    document = PayoutDocument(
        chain_id=chain.chain_id,
        distributor=chain.address(DISTRIBUTOR),
        as_of_block=block,
        previous=None if head is None else head.data_hash,
        batches=tuple(stored),
        payouts=payouts(bodies, terms, before),
    )
    blobs.put_json(document.to_json())
    return document


def recompute(
    chain: Chain, blobs: Blobs, document: PayoutDocument, *, reader: TermsReader | None = None
) -> PayoutDocument:
    """What ``document`` ought to be, from the receipts it names, the document before it and the chain.

    Raises:
        NotFoundError: a blob that it names is missing.
        VerificationError: it is another chain's, or a receipts blob is malformed.
    """
    if (document.chain_id, document.distributor) != (chain.chain_id, chain.address(DISTRIBUTOR)):
        raise VerificationError(
            f"the payout document is for distributor {document.distributor} on chain {document.chain_id}, not for "
            f"{chain.address(DISTRIBUTOR)} on chain {chain.chain_id}"
        )
    reader = reader or TermsReader(chain, blobs)
    terms = reader.read(document.as_of_block)
    before = _before(blobs, document.previous, document.as_of_block)
    stored = dict(document.batches)
    bodies: list[ReceiptBody] = []
    kept: list[tuple[int, bytes]] = []
    for batch in _open_batches(terms, before):
        if batch.number in stored:
            bodies += _admitted(chain, batch, load_receipts(blobs, stored[batch.number]))
            kept.append((batch.number, stored[batch.number]))
    return PayoutDocument(
        chain_id=chain.chain_id,
        distributor=chain.address(DISTRIBUTOR),
        as_of_block=document.as_of_block,
        previous=document.previous,
        batches=tuple(kept),
        payouts=payouts(bodies, terms, before),
    )


def check_root(chain: Chain, blobs: Blobs, root: ProposedRoot, *, reader: TermsReader | None = None) -> PayoutDocument:
    """The document behind a root on chain, after recomputing it from the chain and the public blobs alone.

    Raises:
        NotFoundError: the document or a blob that it names is missing; a validator does not attest what it cannot see.
        VerificationError: the root is not what the receipts give; the message says where it differs.
    """
    document = load_document(blobs, root.data_hash)
    head = newest_root(chain, before=root.number, as_of_block=root.block_number)
    expected = None if head is None else head.data_hash
    if document.previous != expected:
        raise VerificationError(
            f"payout root {root.number} continues {_name(document.previous)}; the newest root before it "
            f"that is neither disabled nor held by a dispute is "
            f"{_name(expected)}"
        )
    if document.as_of_block >= root.block_number:
        raise VerificationError(
            f"payout root {root.number} of block {root.block_number} claims to know block {document.as_of_block}"
        )
    _check_challenges(chain, document, root)
    right = recompute(chain, blobs, document, reader=reader)
    if differences := compare(document.payouts, right.payouts):
        raise VerificationError(f"payout root {root.number} is wrong: {'; '.join(differences)}")
    if record_hash(right.to_json()) != root.data_hash:
        raise VerificationError(f"payout root {root.number}: its document names receipts that it does not settle")
    claimed = (root.root, root.total, root.last_batch)
    computed = (right.payouts.root, right.payouts.total, right.payouts.last_batch)
    if claimed != computed:
        raise VerificationError(
            f"payout root {root.number} holds root {to_hex(claimed[0])}, total {claimed[1]} wei, last batch {claimed[2]}; "
            f"its document gives {to_hex(computed[0])}, {computed[1]} wei, {computed[2]}"
        )
    return document


def compare(claimed: Payouts, computed: Payouts) -> list[str]:
    """Where two payouts differ, in words; empty if they do not."""
    differences = []
    for account, role in sorted(set(claimed.lines) | set(computed.lines)):
        given, right = claimed.lines.get((account, role), 0), computed.lines.get((account, role), 0)
        if given != right:
            differences.append(
                f"{account} as {role.value} has {format_open(given)} OPEN, recomputed {format_open(right)} "
                f"({format_open(given - right)} too much)"
            )
    differences += [
        f"{name} is {getattr(claimed, name)}, recomputed {getattr(computed, name)}"
        for name in ("fees", "last_batch", "receipts", "settled")
        if getattr(claimed, name) != getattr(computed, name)
    ]
    differences += [f"{_held(held)} in the document only" for held in sorted(set(claimed.held) - set(computed.held))]
    differences += [
        f"{_held(held)} in the recomputation only" for held in sorted(set(computed.held) - set(claimed.held))
    ]
    return differences


def load_receipts(blobs: Blobs, digest: bytes) -> list[ReceiptBody]:
    """The receipt bodies of a settled batch.

    Raises:
        NotFoundError: the blob is missing.
        InputError: it is no list of receipt bodies.
    """
    document = _strict.members(blobs.get_json(digest), f"blob {to_hex(digest)}", ("receipts",))
    return [ReceiptBody.from_json(body) for body in _strict.array(document["receipts"], "receipts")]


def settled_receipts(chain: Chain, blobs: Blobs, through: ProposedRoot | None = None) -> dict[int, list[ReceiptBody]]:
    """Every published receipt body by batch, read along the chain of documents up to ``through`` (the newest by default).

    Raises:
        NotFoundError: a document or a receipts blob is missing.
    """
    root = newest_root(chain) if through is None else through
    digest = None if root is None else root.data_hash
    found: dict[int, list[ReceiptBody]] = {}
    while digest is not None:
        document = load_document(blobs, digest)
        for number, blob in document.batches:
            found.setdefault(number, load_receipts(blobs, blob))
        digest = document.previous
    return found


def document_covering(
    chain: Chain, blobs: Blobs, batch: int, host: str, sequence: int
) -> tuple[ProposedRoot, PayoutDocument]:
    """The first payout root, of those not disabled, that pays the receipt.

    Raises:
        NotFoundError: no root pays it yet; the message says what it waits for.
    """
    root = newest_root(chain)
    found: tuple[ProposedRoot, PayoutDocument] | None = None
    waits = "it is not in a payout root yet; a settler proposes the next one"
    while root is not None and root.last_batch >= batch:
        document = load_document(blobs, root.data_hash)
        holds = [
            held for held in document.payouts.held if (held.batch, held.host, held.sequence) == (batch, host, sequence)
        ]
        if holds:
            waits = f"it is held in payout root {root.number}: {holds[0].reason.value}"
            break
        found = root, document
        root = newest_root(chain, before=root.number)
    if found is None:
        raise NotFoundError(f"receipt {sequence} of host {host} is not paid yet: {waits}")
    return found


def _check_challenges(chain: Chain, document: PayoutDocument, root: ProposedRoot) -> None:
    """Checks that nothing the root counts was challenged before its proposal behind the document's back."""
    for log in chain.events("Disputes", "DisputeOpened", document.as_of_block + 1, root.block_number):
        if log["args"]["kind"] == 0 and log["args"]["subject"] <= root.last_batch:
            raise VerificationError(
                f"payout root {root.number} of block {root.block_number} was computed as of block {document.as_of_block}, before "
                f"receipt {log['args']['sequence']} of batch {log['args']['subject']} was challenged in block "
                f"{log['blockNumber']}; propose one that knows of it"
            )


def _before(blobs: Blobs, digest: bytes | None, block: int) -> Payouts | None:
    if digest is None:
        return None
    document = load_document(blobs, digest)
    if document.as_of_block > block:
        raise VerificationError(
            f"a settlement as of block {block} cannot continue document {to_hex(digest)} as of block {document.as_of_block}"
        )
    return document.payouts


def _open_batches(terms: Terms, before: Payouts | None) -> Sequence[Batch]:
    last = 0 if before is None else before.last_batch
    waiting = set() if before is None else {held.batch for held in before.held}
    return [batch for batch in terms.batches if batch.number > last or batch.number in waiting]


def _admitted(chain: Chain, batch: Batch, bodies: Iterable[ReceiptBody]) -> list[ReceiptBody]:
    leaves, _ = leaves_of(chain, batch.number)
    admitted, _ = admit(bodies, batch.host, batch.first_sequence, leaves, chain.domain(LEDGER))
    return sorted(admitted, key=lambda body: body.receipt.sequence)


def _held(held: Held) -> str:
    return f"receipt {held.sequence} of {held.host} is held ({held.reason.value})"


def _name(digest: bytes | None) -> str:
    return "no document" if digest is None else f"document {to_hex(digest)}"
