"""``verify``: recompute one receipt from public data, check by check, and say where it differs.

The caller passes in what this room does not know: where bodies are kept, and how to generate and attribute an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from openledger.chain import Chain
from openledger.primitives import (
    PPM,
    NotFoundError,
    OpenLedgerError,
    VerificationError,
    format_open,
    recover,
    to_hex,
)
from openledger.settlement.batches import LEDGER, find_batch, proof_from_chain, receipt_leaf
from openledger.settlement.context import Blobs, TermsReader
from openledger.settlement.receipts import PrivateBody, ReceiptBody, inference_fee, shares_root
from openledger.settlement.recomputation import Recompute, Recomputed, answer_differences, share_differences
from openledger.settlement.settlements import check_root, document_covering, load_receipts

_MODELS = "ModelRegistry"


@dataclass(frozen=True)
class Check:
    """One named check.

    Attributes:
        name: what was checked.
        ok: whether it holds; None if it could not be checked.
        expected: what the recomputation or the chain says.
        actual: what the receipt says.
        difference: where they differ, or why it could not be checked; empty if all is well.
    """

    name: str
    ok: bool | None
    expected: str = ""
    actual: str = ""
    difference: str = ""


@dataclass(frozen=True)
class VerificationReport:
    """All checks of one receipt."""

    receipt_id: bytes
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok is not False for check in self.checks)

    @property
    def complete(self) -> bool:
        """Whether every check could be made."""
        return all(check.ok is not None for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of that name.

        Raises:
            NotFoundError: there is none.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise NotFoundError(f"no check {name!r}; there are {', '.join(check.name for check in self.checks)}")


class Sources(Protocol):
    """Where a verifier gets what it checks."""

    @property
    def chain(self) -> Chain: ...

    @property
    def blobs(self) -> Blobs: ...

    def receipt(self, receipt_id: bytes) -> ReceiptBody:
        """The public body. Raises NotFoundError."""
        ...

    def private(self, private_hash: bytes) -> PrivateBody:
        """The prompt and answer, where they may be seen. Raises NotFoundError."""
        ...

    def recompute(self, body: ReceiptBody, private: PrivateBody) -> Recomputed:
        """The answer and its attribution, computed anew. Raises NotFoundError if the model is not here."""
        ...


@dataclass(frozen=True)
class PlainSources:
    """:class:`Sources` made of functions; what is None is not known and its checks are left open."""

    chain: Chain
    blobs: Blobs
    receipts: Callable[[bytes], ReceiptBody]
    privates: Callable[[bytes], PrivateBody] | None = None
    recomputer: Recompute | None = None

    def receipt(self, receipt_id: bytes) -> ReceiptBody:
        """The public body."""
        return self.receipts(receipt_id)

    def private(self, private_hash: bytes) -> PrivateBody:
        """The prompt and answer."""
        if self.privates is None:
            raise NotFoundError("prompt and answer are shown to the consumer and to validators only")
        return self.privates(private_hash)

    def recompute(self, body: ReceiptBody, private: PrivateBody) -> Recomputed:
        """The recomputation."""
        if self.recomputer is None:
            raise NotFoundError("the model and its influence index are not here; fetch them to recompute the influence")
        return self.recomputer(body, private)


def verify_receipt(
    receipt_id: bytes, sources: Sources, *, tolerance_ppm: int = 0, reader: TermsReader | None = None
) -> VerificationReport:
    """Recomputes one receipt.

    Args:
        receipt_id: the digest that the host signed and posted, 32 bytes.
        sources: what there is to check it against.
        tolerance_ppm: by how much a share may differ on this platform; 0 on the pinned one.
        reader: reads the chain's terms; one that has read them before saves time when many receipts are verified.

    Raises:
        NotFoundError: there is no body for that id.
    """
    body = sources.receipt(receipt_id)
    return VerificationReport(receipt_id, tuple(_checks(receipt_id, body, sources, tolerance_ppm, reader)))


def _checks(
    receipt_id: bytes, body: ReceiptBody, sources: Sources, tolerance_ppm: int, reader: TermsReader | None
) -> Iterator[Check]:
    chain, receipt = sources.chain, body.receipt
    domain = chain.domain(LEDGER)
    digest = body.digest(domain)
    yield _equal("receipt hash", to_hex(digest), to_hex(receipt_id))
    yield _attempt("signature", lambda name: _equal(name, receipt.host, recover(receipt, domain, body.signature)))
    yield _attempt("inclusion on chain", lambda name: _inclusion(name, chain, body, digest))
    yield _equal("shares root", to_hex(shares_root(body.shares, body.residual_ppm)), to_hex(receipt.shares_root))
    yield _equal("shares sum", f"{PPM:,} ppm", f"{sum(ppm for _, ppm in body.shares) + body.residual_ppm:,} ppm")
    yield _attempt("fee", lambda name: _fee(name, chain, body))
    yield _attempt("payout", lambda name: _payout(name, sources, body, reader))
    try:
        private = sources.private(body.private_hash)
    except NotFoundError as error:
        for name in ("prompt hash", "output hash", "answer", "influence"):
            yield Check(name, None, difference=str(error))
        return
    yield _equal("prompt hash", to_hex(private.prompt_hash), to_hex(receipt.prompt_hash))
    yield _equal("output hash", to_hex(private.output_hash), to_hex(receipt.output_hash))
    try:
        recomputed = sources.recompute(body, private)
    except OpenLedgerError as error:
        for name in ("answer", "influence"):
            yield Check(name, None, difference=str(error))
        return
    yield _answer("answer", body, private, recomputed)
    yield _influence("influence", body, recomputed, tolerance_ppm)


def _attempt(name: str, make: Callable[[str], Check]) -> Check:
    """The check, open if what it needs is not there, failed if it cannot even be made."""
    try:
        return make(name)
    except NotFoundError as error:
        return Check(name, None, difference=str(error))
    except OpenLedgerError as error:
        return Check(name, False, difference=str(error))


def _equal(name: str, expected: str, actual: str) -> Check:
    ok = expected == actual
    return Check(name, ok, expected, actual, "" if ok else f"it is {actual}, and should be {expected}")


def _inclusion(name: str, chain: Chain, body: ReceiptBody, digest: bytes) -> Check:
    proof = proof_from_chain(chain, body.receipt.host, body.receipt.sequence)
    found = chain.contract(LEDGER).functions.verifyReceipt(proof.batch, body.receipt.as_tuple(), list(proof.siblings))
    leaf = receipt_leaf(digest)
    if proof.leaf != leaf or not proof.holds() or not chain.call(found):
        return Check(
            name, False, to_hex(proof.leaf), to_hex(leaf),
            f"place {proof.index} of batch {proof.batch} holds {to_hex(proof.leaf)}, another receipt",
        )  # fmt: skip
    where = f"place {proof.index} of batch {proof.batch} in transaction {to_hex(proof.transaction)}"
    return Check(name, True, f"{to_hex(proof.leaf)} at {where}", to_hex(leaf))


def _fee(name: str, chain: Chain, body: ReceiptBody) -> Check:
    receipt = body.receipt
    prices = _prices_since(chain, receipt.model, receipt.time)
    fees = [inference_fee(receipt.prompt_tokens, receipt.output_tokens, *price) for price in prices]
    ok = receipt.fee in fees
    problem = (
        f"{format_open(receipt.fee)} OPEN is charged; {receipt.prompt_tokens} and {receipt.output_tokens} tokens at the "
        f"model's price make {format_open(fees[0])} OPEN"
    )
    return Check(name, ok, f"{fees[0]} wei", f"{receipt.fee} wei", "" if ok else problem)


def _prices_since(chain: Chain, model: int, time: int) -> list[tuple[int, int]]:
    """The model's prices (input, output; wei per 1,000 tokens) from the one in force at ``time`` on.

    Raises:
        NotFoundError: there is no such model.
    """
    prices: list[tuple[int, int]] = []
    for log in chain.events(_MODELS, "PriceSet"):
        if log["args"]["id"] == model:
            price = (log["args"]["inputPrice"], log["args"]["outputPrice"])
            set_at = chain.w3.eth.get_block(log["blockNumber"])["timestamp"]
            prices = [price] if set_at <= time else [*prices, price]
    if not prices:
        raise NotFoundError(f"there is no model {model} on chain {chain.chain_id}")
    return prices


def _payout(name: str, sources: Sources, body: ReceiptBody, reader: TermsReader | None) -> Check:
    receipt = body.receipt
    batch = find_batch(sources.chain, receipt.host, receipt.sequence)
    root, claimed = document_covering(sources.chain, sources.blobs, batch, receipt.host, receipt.sequence)
    try:
        check_root(sources.chain, sources.blobs, root, reader=reader)
    except VerificationError as error:
        return Check(name, False, actual=to_hex(root.root), difference=str(error))
    published = load_receipts(sources.blobs, dict(claimed.batches)[batch])
    if body not in published:
        return Check(
            name, False, difference=f"payout root {root.number} was computed from another body of this receipt"
        )
    return Check(name, True, to_hex(claimed.payouts.root), to_hex(root.root))


def _answer(name: str, body: ReceiptBody, private: PrivateBody, recomputed: Recomputed) -> Check:
    problems = answer_differences(body, private, recomputed)
    expected = f"{recomputed.prompt_tokens} and {recomputed.output_tokens} tokens"
    actual = f"{body.receipt.prompt_tokens} and {body.receipt.output_tokens} tokens"
    return Check(name, not problems, expected, actual, "; ".join(problems))


def _influence(name: str, body: ReceiptBody, recomputed: Recomputed, tolerance_ppm: int) -> Check:
    differences = share_differences(body, recomputed, tolerance_ppm)
    return Check(
        name, not differences, f"residual {recomputed.residual_ppm:,} ppm", f"residual {body.residual_ppm:,} ppm",
        "; ".join(f"{key} is {difference:+,} ppm off" for key, difference in differences.items()),
    )  # fmt: skip
