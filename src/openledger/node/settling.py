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
    PostedBatch,
    PrivateBody,
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

        Calling it with nothing to do changes nothing.
        """
        with self._lock:
            for signed in self._book.unredeemed():
                redeem(self._chain, self._host, signed)
            self._forget()
            batches, reports = [], []
            first = next_sequence(self._chain, self._host.address)
            waiting = self._receipts.bodies(first)
            for start in range(0, len(waiting), self._batch_size):
                posted = post_batch(self._chain, self._host, waiting[start : start + self._batch_size])
                batches.append(posted)
                for validator in self._validators:
                    if not validator.is_drawn(posted.number):
                        continue
                    reports.append(validator.attest(posted.number))
                    for finding in reports[-1].findings:
                        _LOG.warning("batch %d, receipt %d: %s", posted.number, finding.sequence, finding.problem)
            if not batches:
                return Settled((), (), 0, None)
            number, state = self._pay()
            return Settled(tuple(batches), tuple(reports), number, state)

    def _pay(self) -> tuple[int, RootState]:
        document = prepare(self._chain, self._blobs, self._published, reader=self._reader)
        root = propose_root(self._chain, self._settler, document)
        for validator in self._validators:
            try:
                validator.attest_root(root)
            except OpenLedgerError as error:
                _LOG.warning("payout root %d is not attested: %s", root.number, error)
        state = root_state(self._chain, root.number)
        if state is RootState.READY:
            activate(self._chain, self._settler, root.number)
            state = root_state(self._chain, root.number)
        return root.number, state

    def _published(self, batch: Batch) -> list[ReceiptBody]:
        if batch.host != self._host.address:
            return []
        return self._receipts.bodies(batch.first_sequence, batch.count)

    def _shown(self, number: int) -> list[tuple[ReceiptBody, PrivateBody | None]]:
        batch = self._chain.contract("InferenceLedger").functions.batch(number).call()
        first, count = batch[4], batch[5]
        return [(body, self._receipts.private_of(body)) for body in self._receipts.bodies(first, count)]
