"""The host's, the settler's and the validators' work on this node: from signed receipts to an active payout root."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain
from openledger.primitives import OpenLedgerError
from openledger.settlement import (
    Batch,
    BatchReport,
    PayoutDocument,
    PostedBatch,
    PrivateBody,
    ProposedRoot,
    ReceiptBody,
    Recompute,
    RootState,
    TermsReader,
    Validator,
    VoucherBook,
    activate,
    next_sequence,
    post_batch,
    prepare,
    propose_root,
    proposed_roots,
    redeem,
    root_state,
)
from openledger.storage import BlobStore
from openledger.studio.store import DatabaseReceiptStore

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """One round of settlement.

    Attributes:
        batches: what was posted.
        reports: what the validators found.
        root: number of the payout root that was proposed; 0 if nothing changed.
        state: what became of it.
    """

    batches: tuple[PostedBatch, ...]
    reports: tuple[BatchReport, ...]
    root: int
    state: RootState | None

    @property
    def posted(self) -> int:
        """How many receipts were posted."""
        return sum(batch.count for batch in self.batches)


class Settler:
    """Settles one host's receipts.

    Args:
        chain: with its deployment.
        blobs: the public blobs; receive payout documents and reports.
        receipts: the host's receipts.
        book: the host's vouchers.
        host: posts and redeems.
        settler: proposes payout roots.
        validators: the staked accounts that this node runs.
        recompute: generates and attributes one answer anew.
        forget: called when what was read of the escrow is no longer true.
        batch_size: most receipts in one batch.
    """

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        receipts: DatabaseReceiptStore,
        book: VoucherBook,
        *,
        host: LocalAccount,
        settler: LocalAccount,
        validators: list[LocalAccount],
        recompute: Recompute,
        forget: Callable[[], None],
        batch_size: int,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._receipts = receipts
        self._book = book
        self._host = host
        self._settler = settler
        self._forget = forget
        self._batch_size = batch_size
        self._reader = TermsReader(chain, blobs)
        self._validators = [Validator(chain, wallet, blobs, self._shown, recompute) for wallet in validators]
        self._examiner = Validator(chain, host, blobs, self._shown, recompute)
        self._seen: set[int] = set()
        self._lock = threading.Lock()

    @property
    def examiner(self) -> Validator:
        """Recomputes for the host itself; it has no stake and attests nothing."""
        return self._examiner

    @property
    def validators(self) -> list[Validator]:
        """The validators that this node runs."""
        return list(self._validators)

    def waiting(self) -> int:
        """How many receipts are signed and not posted."""
        return len(self._receipts.bodies(next_sequence(self._chain, self._host.address)))

    def settle(self) -> Settled:
        """Redeems vouchers, posts what waits, lets the validators attest, and proposes and activates the new payouts.

        What a node that died in the middle left undone is done first. Calling it with nothing to do changes nothing.
        """
        with self._lock:
            for signed in self._book.unredeemed():
                redeem(self._chain, self._host, signed)
            self._forget()
            waiting = self._receipts.bodies(next_sequence(self._chain, self._host.address))
            batches = [
                post_batch(self._chain, self._host, waiting[start : start + self._batch_size])
                for start in range(0, len(waiting), self._batch_size)
            ]
            roots = proposed_roots(self._chain)
            uncovered = self._uncovered(roots[-1].last_batch if roots else 0)
            reports = [report for number in uncovered for report in self._attest(number)]
            if uncovered:
                root = propose_root(self._chain, self._settler, self._document())
            elif roots and self._is_open(roots[-1]):
                root = roots[-1]
            else:
                return Settled((), (), 0, None)
            return Settled(tuple(batches), tuple(reports), root.number, self._activate(root))

    def _uncovered(self, last_batch: int) -> list[int]:
        """The host's batches that no payout root was proposed for: new ones, and what a node that died left behind."""
        posted = self._chain.events("InferenceLedger", "BatchPosted", poster=self._host.address)
        return [log["args"]["batchId"] for log in posted if log["args"]["batchId"] > last_batch]

    def _is_open(self, root: ProposedRoot) -> bool:
        """Whether a root was left without what this node can do about it."""
        open_states = (RootState.PENDING, RootState.READY)
        return root.number not in self._seen and root_state(self._chain, root.number) in open_states

    def _attest(self, number: int) -> list[BatchReport]:
        """What the drawn validators of this node find in a batch, unless they said so before."""
        said = self._chain.contract("InferenceLedger").functions.hasAttested
        reports = []
        for validator in self._validators:
            if validator.is_drawn(number) and not self._chain.call(said(number, validator.address)):
                reports.append(validator.attest(number))
                for finding in reports[-1].findings:
                    _LOG.warning("batch %d, receipt %d: %s", number, finding.sequence, finding.problem)
        return reports

    def _document(self) -> PayoutDocument:
        return prepare(self._chain, self._blobs, self._published, reader=self._reader)

    def _activate(self, root: ProposedRoot) -> RootState:
        """Has the validators attest a root and activates it where that is enough; once for each root."""
        self._seen.add(root.number)
        said = self._chain.contract("RewardsDistributor").functions.hasAttested
        for validator in self._validators:
            if self._chain.call(said(root.number, validator.address)):
                continue
            try:
                validator.attest_root(root)
            except OpenLedgerError as error:
                _LOG.warning("payout root %d is not attested: %s", root.number, error)
        state = root_state(self._chain, root.number)
        if state is RootState.READY:
            activate(self._chain, self._settler, root.number)
            state = root_state(self._chain, root.number)
        return state

    def _published(self, batch: Batch) -> list[ReceiptBody]:
        if batch.host != self._host.address:
            return []
        return self._receipts.bodies(batch.first_sequence, batch.count)

    def _shown(self, number: int) -> list[tuple[ReceiptBody, PrivateBody | None]]:
        batch = self._chain.contract("InferenceLedger").functions.batch(number).call()
        first, count = batch[4], batch[5]
        return [(body, self._receipts.private_of(body)) for body in self._receipts.bodies(first, count)]
