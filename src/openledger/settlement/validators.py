"""A validator: recomputes samples of posted batches and whole payout roots, with its stake behind its word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain
from openledger.primitives import Domain, OpenLedgerError, SignatureError, VerificationError
from openledger.settlement.batches import LEDGER, admit, leaves_of
from openledger.settlement.context import TermsReader
from openledger.settlement.distributor import attest_root
from openledger.settlement.documents import PayoutDocument
from openledger.settlement.receipts import PrivateBody, ReceiptBody, check
from openledger.settlement.recomputation import Recompute, disagreements
from openledger.settlement.settlements import ProposedRoot, WritableBlobs, check_root

Shown = tuple[ReceiptBody, PrivateBody | None]
"""A receipt as its host shows it to a validator."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one receipt."""

    sequence: int
    problem: str


@dataclass(frozen=True)
class BatchReport:
    """What one validator found in its sample of one batch.

    Attributes:
        chain_id: the chain.
        batch: the batch's number.
        validator: who looked.
        sampled: the sequences that were recomputed, ascending.
        findings: what is wrong; the batch is valid if there are none.
    """

    chain_id: int
    batch: int
    validator: str
    sampled: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """The published report."""
        return {
            "kind": "openledger.batch-report/2",
            "chain_id": self.chain_id,
            "batch": self.batch,
            "validator": self.validator,
            "sampled": list(self.sampled),
            "findings": [{"sequence": finding.sequence, "problem": finding.problem} for finding in self.findings],
            "valid": self.valid,
        }


class Validator:
    """One validator at work.

    Args:
        chain: with its deployment.
        wallet: the staked account.
        blobs: public blobs; receives the reports.
        shown: the receipts of a batch as its host shows them to this validator.
        recompute: generates and attributes one answer anew.
        tolerance_ppm: by how much a share may differ on this platform.
    """

    def __init__(
        self,
        chain: Chain,
        wallet: LocalAccount,
        blobs: WritableBlobs,
        shown: Callable[[int], Iterable[Shown]],
        recompute: Recompute,
        *,
        tolerance_ppm: int = 0,
    ) -> None:
        self._chain = chain
        self._wallet = wallet
        self._blobs = blobs
        self._shown = shown
        self._recompute = recompute
        self._tolerance_ppm = tolerance_ppm
        self._reader = TermsReader(chain, blobs)

    def inspect(self, number: int) -> BatchReport:
        """Recomputes the sample of batch ``number`` that the ledger gives this validator, and for which it answers with its
        stake. What the host does not show counts against it.

        Raises:
            NotFoundError: there is no such batch.
            VerificationError: its leaves cannot be read from the chain, or nobody could be drawn for it yet.
        """
        ledger = self._chain.contract(LEDGER).functions
        batch = self._chain.call(ledger.batch(number))
        host, first = batch[1], batch[4]
        leaves, _ = leaves_of(self._chain, number)
        domain = self._chain.domain(LEDGER)
        shown = {body.receipt.sequence: (body, private) for body, private in self._shown(number)}
        admitted, refused = admit((body for body, _ in shown.values()), host, first, leaves, domain)
        findings = [Finding(sequence, problem) for sequence, problem in sorted(refused.items())]
        self._have_drawn(number)
        sampled = tuple(sorted(self._chain.call(ledger.sampleOf(number, self._wallet.address))))
        if not sampled:
            raise VerificationError(
                f"no validators could be drawn for batch {number} yet; try again after the next block"
            )
        sound = {body.receipt.sequence for body in admitted}
        for sequence in sampled:
            if sequence in sound:
                body, private = shown[sequence]
                findings += [Finding(sequence, problem) for problem in self._problems(body, private, domain)]
            elif sequence not in refused:
                findings.append(Finding(sequence, "the host does not show its body"))
        return BatchReport(self._chain.chain_id, number, self._wallet.address, sampled, tuple(findings))

    @property
    def address(self) -> str:
        """The staked account's address."""
        return self._wallet.address

    def is_drawn(self, number: int) -> bool:
        """Whether this validator was drawn for batch ``number`` and may attest it; has the batch's validators drawn if they
        are not yet.
        """
        self._have_drawn(number)
        return self._wallet.address in self._chain.call(self._chain.contract(LEDGER).functions.validatorsOf(number))

    def examine(self, number: int, sequence: int) -> list[str]:
        """What is wrong with one receipt of batch ``number``, by recomputing it; empty if nothing.

        Raises:
            NotFoundError: there is no such batch.
            VerificationError: its leaves cannot be read from the chain.
        """
        batch = self._chain.call(self._chain.contract(LEDGER).functions.batch(number))
        leaves, _ = leaves_of(self._chain, number)
        domain = self._chain.domain(LEDGER)
        for body, private in self._shown(number):
            if body.receipt.sequence == sequence:
                admitted, refused = admit([body], batch[1], batch[4], leaves, domain)
                return self._problems(body, private, domain) if admitted else list(refused.values())
        return ["the host does not show its body"]

    def examine_root(self, root: ProposedRoot) -> list[str]:
        """What is wrong with a payout root, by recomputing it; empty if nothing."""
        try:
            check_root(self._chain, self._blobs, root, reader=self._reader)
        except OpenLedgerError as error:
            return [str(error)]
        return []

    def attest(self, number: int) -> BatchReport:
        """Inspects batch ``number``, publishes the report and puts the finding on chain.

        Raises:
            RevertError: ``ValidatorNotActive``, ``ValidatorNotDrawn``, ``AlreadyAttested``.
        """
        report = self.inspect(number)
        digest = self._blobs.put_json(report.to_json())
        self._chain.send(self._wallet, self._chain.contract(LEDGER).functions.attest(number, report.valid, digest))
        return report

    def attest_root(self, root: ProposedRoot) -> PayoutDocument:
        """Recomputes a payout root from public data, and attests it only if it is right.

        Raises:
            VerificationError: it is wrong; nothing was sent.
            NotFoundError: a blob that it depends on is not public; nothing was sent.
        """
        document = check_root(self._chain, self._blobs, root, reader=self._reader)
        attest_root(self._chain, self._wallet, root.number)
        return document

    def _have_drawn(self, number: int) -> None:
        if not self._chain.events(LEDGER, "ValidatorsDrawn", batchId=number):
            self._chain.send(self._wallet, self._chain.contract(LEDGER).functions.drawValidators(number))

    def _problems(self, body: ReceiptBody, private: PrivateBody | None, domain: Domain) -> list[str]:
        try:
            check(body, domain)
        except SignatureError as error:
            return [str(error)]
        if private is None:
            return ["the host does not show its prompt and answer"]
        try:
            recomputed = self._recompute(body, private)
        except OpenLedgerError as error:
            return [f"it cannot be recomputed: {error}"]
        return disagreements(body, private, recomputed, self._tolerance_ppm)
