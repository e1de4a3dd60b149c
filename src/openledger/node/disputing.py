"""Disputes and wallets on this node: challenging with its accounts, answering as its host, judging with its validators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain
from openledger.node import views
from openledger.primitives import InputError, NotFoundError, OpenLedgerError, RevertError, from_hex
from openledger.settlement import (
    Dispute,
    DisputeKind,
    DisputeState,
    Juror,
    ReceiptBody,
    Recompute,
    Validator,
    answer,
    challenge_receipt,
    challenge_root,
    disagreements,
    dispute,
    disputes,
    draw_jury,
    resolve,
    sort_shares,
)
from openledger.storage import BlobStore
from openledger.studio.store import DatabaseReceiptStore

_LOG = logging.getLogger(__name__)


class Court:
    """The disputes as this node sees them and takes part in them.

    Args:
        chain: with its deployment.
        blobs: the public blobs; receive evidence.
        receipts: the host's receipts.
        recompute: generates and attributes one answer anew.
        host: answers challenges of its receipts, and pays for drawing and ending.
        settler: answers challenges of the payout roots that it proposed.
        examiner: recomputes before either of them answers.
        jurors: the validators that this node runs, with their wallets.
        party: names an account.
    """

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        receipts: DatabaseReceiptStore,
        recompute: Recompute,
        *,
        host: LocalAccount,
        settler: LocalAccount,
        examiner: Validator,
        jurors: Sequence[tuple[LocalAccount, Validator]],
        party: Callable[[str], views.Party],
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._receipts = receipts
        self._recompute = recompute
        self._host = host
        self._accused: dict[str, LocalAccount] = {wallet.address: wallet for wallet in (host, settler)}
        self._examiner = Juror(chain, host, examiner)
        self._given_up: set[int] = set()
        self._jurors = {wallet.address: Juror(chain, wallet, validator) for wallet, validator in jurors}
        self._party = party

    def rows(self) -> list[views.DisputeRow]:
        """All disputes, newest first."""
        return [self._row(found) for found in reversed(disputes(self._chain))]

    def open(
        self, wallet: LocalAccount, receipt: str, why: str, shares: Sequence[tuple[str, int]] | None = None
    ) -> views.DisputeRow:
        """Challenges a receipt by what this node recomputes, or by ``shares`` (record hash in hex, ppm) if given.

        Raises:
            InputError: the recomputation finds what the host signed, or the shares exceed a million.
            NotFoundError: there is no such receipt, or its prompt and answer are not here to recompute.
            PaymentError: the account cannot pay the bond.
        """
        body = ReceiptBody.from_json(dict(self._receipts.find(receipt).body))
        if shares is None:
            pairs, why = self._recomputed(body, why)
        else:
            pairs = sort_shares((from_hex(record, 32), ppm) for record, ppm in shares)
        residual = 1_000_000 - sum(ppm for _, ppm in pairs)
        claimed = None if pairs == body.shares else pairs
        return self._row(
            challenge_receipt(self._chain, self._blobs, wallet, body, why, claimed, 0 if claimed is None else residual)
        )

    def open_root(self, wallet: LocalAccount, number: int, why: str) -> views.DisputeRow:
        """Challenges a payout root that is not active."""
        return self._row(challenge_root(self._chain, self._blobs, wallet, number, why))

    def answer(self, number: int, wallet: LocalAccount | None = None) -> views.DisputeRow:
        """Answers a challenge as ``wallet``, or as this node's host; one that was answered already stays as it stands.

        Raises:
            RevertError: it was decided without an answer, or the account may not answer.
        """
        try:
            return self._row(answer(self._chain, wallet or self._host, number))
        except RevertError as error:
            found = dispute(self._chain, number)
            if error.name != "WrongState" or found.defender is None:
                raise
            return self._row(found)

    def attend(self) -> list[views.DisputeRow]:
        """Does in every open dispute what this node has to do: answers for its host and settler where a recomputation gives
        what they signed, and not where it does not; votes with its validators; ends what can be ended. Returns what changed.

        Raises:
            ChainError: the chain does not answer.
        """
        changed = []
        for found in disputes(self._chain):
            if found.state.decided:
                continue
            before = found
            try:
                if found.state is DisputeState.OPEN and found.accused in self._accused:
                    self._stand_up(found)
                with _done_is_well("DrawNotReady", "VotingNotOver", "AnswerTimeRunning"):
                    self.advance(found.number)
            except OpenLedgerError as error:
                _LOG.warning("dispute %d: %s", found.number, error)
            after = dispute(self._chain, found.number)
            if after != before:
                changed.append(self._row(after))
        return changed

    def _stand_up(self, found: Dispute) -> None:
        """Answers a challenge of what this node signed if that is right; looks at each challenge once."""
        if found.number in self._given_up or self._chain.time() >= found.answer_end:
            return
        self._given_up.add(found.number)
        if problems := self._examiner.problems(found):
            _LOG.warning("dispute %d is right and is not answered: %s", found.number, "; ".join(problems))
            return
        answer(self._chain, self._accused[found.accused], found.number)

    def advance(self, number: int) -> views.DisputeRow:
        """Does what can be done now: ends an unanswered challenge, draws the jury, votes with the jurors here, ends the round.

        Raises:
            NotFoundError: there is no such dispute.
            RevertError: it is too early; the error says until when.
        """
        found = dispute(self._chain, number)
        while True:
            try:
                return self._row(self._advanced(found))
            except RevertError as error:
                before, found = found, dispute(self._chain, number)
                if error.name != "WrongState" or found.state is before.state:
                    raise  # else this node's own work, or another's, was faster

    def _advanced(self, found: Dispute) -> Dispute:
        if found.state is DisputeState.ANSWERED:
            draw_jury(self._chain, self._host, found.number)
            found = dispute(self._chain, found.number)
        if found.state is DisputeState.VOTING:
            self._vote(found)
        if not found.state.decided and found.state is not DisputeState.ANSWERED:
            found = resolve(self._chain, self._host, found.number)
        return found

    def _vote(self, found: Dispute) -> None:
        verdicts = {
            address: bool(juror.problems(found)) for address, juror in self._jurors.items() if address in found.jury
        }
        for address, upheld in verdicts.items():
            with _done_is_well("AlreadyCommitted", "CommitWindowOver"):
                self._jurors[address].commit(found.number, upheld)
        for address, upheld in verdicts.items():
            with _done_is_well("AlreadyRevealed", "CommitWindowOpen"):
                self._jurors[address].reveal(found.number, upheld)

    def _recomputed(self, body: ReceiptBody, why: str) -> tuple[tuple[tuple[bytes, int], ...], str]:
        try:
            private = self._receipts.private_of(body)
        except NotFoundError as error:
            raise NotFoundError(
                f"the prompt and answer of receipt {body.receipt.sequence} are not here; name the shares "
                "that you get with --shares"
            ) from error
        recomputed = self._recompute(body, private)
        problems = disagreements(body, private, recomputed)
        if not problems:
            raise InputError(
                f"recomputing receipt {body.receipt.sequence} gives what the host signed; there is nothing to dispute"
            )
        return recomputed.shares, "; ".join(filter(None, [why, *problems]))

    def _row(self, found: Dispute) -> views.DisputeRow:
        return views.DisputeRow(
            number=found.number,
            kind="receipt" if found.kind is DisputeKind.RECEIPT else "payout root",
            state=found.state.name.lower(),
            subject=found.subject,
            sequence=found.sequence,
            challenger=self._party(found.challenger),
            accused=self._party(found.accused),
            defender=None if found.defender is None else self._party(found.defender),
            bond=found.bond,
            answer_end=found.answer_end,
            reveal_end=found.reveal_end,
            upholds=found.upholds,
            rejects=found.rejects,
            jury=[self._party(juror) for juror in found.jury],
            why=self._why(found),
        )

    def _why(self, found: Dispute) -> str:
        try:
            return str(self._blobs.get_json(found.evidence)["why"])
        except (NotFoundError, InputError, KeyError, TypeError):
            return ""


@contextmanager
def _done_is_well(*names: str) -> Iterator[None]:
    """A refusal by one of these names only says that an act is done, or not to be done now."""
    try:
        yield
    except RevertError as error:
        if error.name not in names:
            raise
