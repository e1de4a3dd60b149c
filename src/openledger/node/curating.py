"""Datanet work on this node: contribute rows, let the reviewers whose keys it holds judge them, anchor versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, KeyStore
from openledger.datanets import (
    Ballot,
    CarefulReviewer,
    ContributionState,
    DuplicateReviewer,
    FactReviewer,
    GateReport,
    Manifest,
    Outcome,
    Record,
    Reviewer,
    ReviewItem,
    Terms,
    Version,
    anchor_version,
    build_contribution,
    build_version,
    commit,
    contribution_entry,
    data_card,
    end_round,
    fill_ballot,
    finalise,
    inspect,
    next_nonce,
    open_review,
    read_outcome,
    remove_record,
    reveal,
    review,
    review_items,
    review_times,
    submit_contribution,
    tombstones,
)
from openledger.node.library import Library
from openledger.node.people import OWNER, REVIEWERS
from openledger.primitives import ChainError, NotFoundError, from_hex
from openledger.storage import BlobStore, Database, VerdictRecord

INTENDED_USE = "training and evaluating language models"

PROCEDURES: dict[str, Reviewer] = {
    "rosa": CarefulReviewer(),
    "sami": CarefulReviewer(),
    "tove": FactReviewer(),
    "uma": CarefulReviewer(),
    "viktor": DuplicateReviewer(),
}
"""How each reviewer of the founding network judges: three check everything, one the facts alone, one copies alone."""


@dataclass(frozen=True)
class Submitted:
    """A contribution that is on the chain, and what the gate said of it."""

    id: int
    records: tuple[Record, ...]
    report: GateReport


class Curation:
    """Contributions, reviews and versions with the keys of one node."""

    def __init__(
        self,
        chain: Chain,
        keys: KeyStore,
        blobs: BlobStore,
        database: Database,
        library: Library,
        wait: Callable[[int], None],
    ) -> None:
        """``wait`` lets the given number of seconds pass on the chain."""
        self._chain = chain
        self._wait = wait
        self._keys = keys
        self._blobs = blobs
        self._database = database
        self._library = library

    def terms(self, datanet: int) -> Terms:
        """A Datanet's schema and policy, from the blob that the chain names.

        Raises:
            NotFoundError: there is no such Datanet, or its description is not among the blobs.
        """
        for log in self._chain.events("DatanetRegistry", "DatanetCreated"):
            if log["args"]["datanet"] == datanet:
                return Terms.from_json(self._blobs.get_json(from_hex(log["args"]["uri"].removeprefix("blob:"), 32)))
        raise NotFoundError(f"no Datanet {datanet}; `openledger datanet list` shows those that there are")

    def contribute(self, datanet: int, account: str, records: Sequence[Record], licence: str) -> Submitted:
        """Signs the records as ``account`` (a name in this node's key store) and submits them with their bond.

        Raises:
            InputError: a row is malformed or the licence not allowed; nothing was sent.
            RevertError: the chain refused, for example an account that cannot pay the bond.
        """
        wallet, terms = self._keys.wallet(account), self.terms(datanet)
        signed = build_contribution(
            terms,
            records,
            wallet,
            self._chain.domain("DatanetRegistry"),
            datanet=datanet,
            nonce=next_nonce(self._chain, wallet.address),
            licence=licence,
            intended_use=INTENDED_USE,
            time=self._chain.time(),
        )
        report = self._inspect(datanet, terms, signed.manifest, None)
        self._blobs.put(signed.manifest.canonical)
        return Submitted(submit_contribution(self._chain, wallet, signed), tuple(records), report)

    def review(self, contribution: int) -> Outcome:
        """Draws the jury and has the jurors whose keys this node holds judge, commit, reveal; then ends the round.

        Where they disagree further jurors join. What is decided becomes final once its challenge window has been waited
        for, unless somebody challenged it.

        Raises:
            NotFoundError: a juror's key is not here.
            ChainError: the round is void.
            RevertError: the contribution is not waiting for a review.
        """
        owner = self._keys.wallet(OWNER)
        entry = contribution_entry(self._chain, contribution)
        manifest = Manifest.from_bytes(self._blobs.get(entry.manifest))
        items = review_items(
            manifest.records, self._inspect(entry.datanet, self.terms(entry.datanet), manifest, contribution)
        )
        state = self._judge(contribution, items)
        if state is ContributionState.DISAGREED:
            state = self._judge(contribution, items)
        if state is not ContributionState.DECIDED:
            raise ChainError(
                f"the review of contribution {contribution} is void: too few jurors revealed; review it again"
            )
        while (left := review_times(self._chain, contribution).challenge_end - self._chain.time()) > 0:
            self._wait(left)
        finalise(self._chain, owner, contribution)
        return read_outcome(self._chain, contribution, manifest)

    def _judge(self, contribution: int, items: Sequence[ReviewItem]) -> ContributionState:
        """One phase: the jurors that are drawn now commit and reveal. Returns where the contribution stands then."""
        owner = self._keys.wallet(OWNER)
        ballots: list[tuple[LocalAccount, Ballot]] = []
        for address in open_review(self._chain, owner, contribution):
            reviewer, wallet = self._reviewer(address)
            verdicts = review(PROCEDURES[reviewer], items)
            with self._database.session() as session:
                for position, verdict in enumerate(verdicts):
                    session.merge(
                        VerdictRecord(
                            contribution=contribution,
                            position=position,
                            reviewer=address,
                            accept=verdict.accept,
                            reason=verdict.reason,
                        )
                    )
            ballots.append((wallet, fill_ballot(contribution, address, verdicts)))
            commit(self._chain, *ballots[-1])
        if not ballots:
            return contribution_entry(self._chain, contribution).state
        for wallet, ballot in ballots:
            reveal(self._chain, wallet, ballot)
        return end_round(self._chain, owner, contribution)

    def anchor(self, datanet: int, removed: Sequence[bytes] = ()) -> Version:
        """Anchors the next version: all accepted records of all finalised contributions, less what is removed.

        Raises:
            InputError: no record would be left, or a removal names a record that was never accepted.
        """
        outcomes: list[Outcome] = []
        known: list[Record] = []
        for item in self._library.contributions(datanet):
            if item.accepted is None:
                continue
            manifest = Manifest.from_bytes(self._blobs.get(item.manifest))
            outcomes.append(read_outcome(self._chain, item.id, manifest))
            known += manifest.records
        self._remove(outcomes, removed)
        removed = sorted({*removed, *(stone.record for stone in tombstones(self._chain, datanet))})
        previous = self._newest(datanet)
        number = 1 if previous is None else previous.number + 1
        version = build_version(datanet, number, outcomes, removed, previous)
        self._blobs.put(version.canonical)
        anchor_version(self._chain, self._keys.wallet(OWNER), version)
        self._database.set_state(f"data_card.{datanet}", data_card(version, known, self.terms(datanet)))
        return version

    def _remove(self, outcomes: Sequence[Outcome], removed: Sequence[bytes]) -> None:
        """Puts a tombstone on each record wherever it was accepted."""
        for outcome in outcomes:
            manifest = Manifest.from_bytes(self._blobs.get(outcome.manifest))
            for position, (record, accepted) in enumerate(zip(manifest.records, outcome.accepted, strict=True)):
                if accepted and record.hash in removed:
                    remove_record(self._chain, self._keys.wallet(OWNER), outcome.contribution, manifest, position)

    def _newest(self, datanet: int) -> Version | None:
        logs = self._chain.events("DatanetRegistry", "VersionAnchored")
        own = [log for log in logs if log["args"]["datanet"] == datanet]
        return Version.from_bytes(self._blobs.get(bytes(own[-1]["args"]["manifest"]))) if own else None

    def _inspect(self, datanet: int, terms: Terms, manifest: Manifest, contribution: int | None) -> GateReport:
        known = [
            Record.from_json(place.value)
            for place in self._library.records(datanet)
            if place.status != "rejected" and (contribution is None or place.contribution.id < contribution)
        ]
        return inspect(manifest.records, manifest.licence, terms, known)

    def _reviewer(self, address: str) -> tuple[str, LocalAccount]:
        for name in REVIEWERS:
            wallet = self._keys.wallet(name)
            if wallet.address == address:
                return name, wallet
        raise NotFoundError(f"juror {address} was drawn and this node does not hold its key; that reviewer has to act")
