"""Datanet work on this node: contribute rows, let the reviewers whose keys it holds judge them, anchor versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, KeyStore
from openledger.datanets import (
    Ballot,
    CarefulReviewer,
    ContributionState,
    DatanetTerms,
    DuplicateReviewer,
    FactReviewer,
    GateReport,
    Manifest,
    Outcome,
    Record,
    Reviewer,
    ReviewItem,
    SignedContribution,
    Terms,
    Tombstone,
    Version,
    anchor_version,
    build_version,
    commit,
    contribution_entry,
    create_datanet,
    data_card,
    datanet_owner,
    draft_contribution,
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
from openledger.node.people import SETTLER
from openledger.primitives import ChainError, Contribution, InputError, NotFoundError, from_hex, sign, to_hex
from openledger.storage import BlobStore, Database, VerdictRecord

INTENDED_USE = "training and evaluating language models"

PROCEDURES: dict[str, Reviewer] = {
    "rosa": CarefulReviewer(),
    "sami": CarefulReviewer(),
    "tove": FactReviewer(),
    "uma": CarefulReviewer(),
    "viktor": DuplicateReviewer(),
}
"""How each reviewer of the founding network judges: three check everything, one the facts alone, one copies alone. Any other
account of this node that is drawn checks everything."""

_OTHERS = CarefulReviewer()


@dataclass(frozen=True)
class Submitted:
    """A contribution that is on the chain, and what the gate said of it."""

    id: int
    records: tuple[Record, ...]
    report: GateReport


@dataclass(frozen=True)
class Draft:
    """A contribution that nobody has signed yet, and what the gate said of it."""

    manifest: Manifest
    message: Contribution
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

    def create(self, owner: LocalAccount, description: Mapping[str, Any], conditions: DatanetTerms) -> int:
        """Registers a Datanet by its description (the shape of ``datanet.json``) and publishes that; returns its number.

        Raises:
            InputError: the description is malformed; nothing was sent.
            RevertError: ``OwnerShareTooLarge``.
        """
        terms = Terms.from_json(description)
        uri = f"blob:{to_hex(self._blobs.put_json(description))}"
        return create_datanet(self._chain, owner, terms, uri, conditions)

    def contribute(self, datanet: int, account: str, records: Sequence[Record], licence: str) -> Submitted:
        """Signs the records as ``account`` (a name in this node's key store) and submits them with their bond.

        Raises:
            InputError: a row is malformed or the licence not allowed; nothing was sent.
            RevertError: the chain refused, for example an account that cannot pay the bond.
        """
        wallet = self._keys.wallet(account)
        draft = self.draft(datanet, wallet.address, records, licence)
        signature = sign(draft.message, self._chain.domain("DatanetRegistry"), wallet)
        self._blobs.put(draft.manifest.canonical)
        signed = SignedContribution(draft.manifest, draft.message, signature)
        return Submitted(submit_contribution(self._chain, wallet, signed), tuple(records), draft.report)

    def draft(self, datanet: int, contributor: str, records: Sequence[Record], licence: str) -> Draft:
        """What ``contributor`` would have to sign to contribute the records, and what the gate says of them.

        Raises:
            InputError: a row is malformed or the licence not allowed.
            NotFoundError: there is no such Datanet.
        """
        terms = self.terms(datanet)
        manifest, message = draft_contribution(
            terms,
            records,
            contributor,
            datanet=datanet,
            nonce=next_nonce(self._chain, contributor),
            licence=licence,
            intended_use=INTENDED_USE,
            time=self._chain.time(),
        )
        return Draft(manifest, message, self._inspect(datanet, terms, manifest, None))

    def review(self, contribution: int, *, challengeable: bool = False) -> None:
        """Draws the jury and has the jurors whose keys this node holds judge, commit, reveal; then ends the round.

        Where they disagree further jurors join. What is decided becomes final once its challenge window has been waited
        for, unless somebody challenged it; with ``challengeable`` nobody waits, and :meth:`finalise` comes later.

        Raises:
            NotFoundError: a juror's key is not here.
            ChainError: the round is void.
            RevertError: the contribution is not waiting for a review.
        """
        state = self.judge(contribution)
        if state is ContributionState.DISAGREED:
            state = self.judge(contribution)
        if state is not ContributionState.DECIDED:
            raise ChainError(
                f"the review of contribution {contribution} is void: too few jurors revealed; review it again"
            )
        if not challengeable:
            self.finalise(contribution)

    def finalise(self, contribution: int) -> None:
        """Waits for the challenge window to end and makes the decision final.

        Raises:
            RevertError: ``AppealPending`` where it was challenged.
        """
        self.wait_until(review_times(self._chain, contribution).challenge_end)
        finalise(self._chain, self._keys.wallet(SETTLER), contribution)

    def wait_until(self, second: int) -> None:
        """Returns once the chain's clock has reached a Unix second."""
        while (left := second - self._chain.time()) > 0:
            self._wait(left)

    def judge(self, contribution: int) -> ContributionState:
        """One phase: the jurors that can be drawn now commit and reveal, and the round ends. Returns where the contribution
        stands then; unchanged if nobody could be drawn.

        Raises:
            NotFoundError: a juror's key is not here.
            RevertError: no jury can be drawn now.
        """
        entry = contribution_entry(self._chain, contribution)
        manifest = Manifest.from_bytes(self._blobs.get(entry.manifest))
        report = self._inspect(entry.datanet, self.terms(entry.datanet), manifest, contribution)
        return self._judge(contribution, review_items(manifest.records, report))

    def _judge(self, contribution: int, items: Sequence[ReviewItem]) -> ContributionState:
        clerk = self._keys.wallet(SETTLER)
        ballots: list[tuple[LocalAccount, Ballot]] = []
        for address in self._draw(contribution):
            reviewer, wallet = self._reviewer(address)
            verdicts = review(PROCEDURES.get(reviewer, _OTHERS), items)
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
        return end_round(self._chain, clerk, contribution)

    def _draw(self, contribution: int) -> list[str]:
        """New jurors; a draw that was renewed is asked for once more."""
        clerk = self._keys.wallet(SETTLER)
        before = contribution_entry(self._chain, contribution).state
        drawn = open_review(self._chain, clerk, contribution)
        if not drawn and contribution_entry(self._chain, contribution).state is before:
            drawn = open_review(self._chain, clerk, contribution)
        return drawn

    def remove(self, wallet: LocalAccount, digest: bytes) -> Tombstone:
        """Puts a tombstone on an accepted record, wherever in its Datanet it was accepted: no later version may hold it.

        Raises:
            NotFoundError: no such record.
            InputError: it was not accepted, or is removed already.
            RevertError: the account neither contributed it nor owns the Datanet.
        """
        place = self._library.find(digest)
        datanet = place.contribution.datanet
        if place.status != "accepted":
            raise InputError(f"record {to_hex(digest)} is {place.status}; only an accepted record can be removed")
        if any(stone.record == digest for stone in tombstones(self._chain, datanet)):
            raise InputError(f"record {to_hex(digest)} is removed already")
        for other in self._library.records(datanet):
            if other.hash == digest and other.status == "accepted":
                manifest = Manifest.from_bytes(self._blobs.get(other.contribution.manifest))
                remove_record(self._chain, wallet, other.contribution.id, manifest, other.position)
        return next(stone for stone in tombstones(self._chain, datanet) if stone.record == digest)

    def anchor(self, datanet: int) -> Version:
        """Anchors the next version: all accepted records of all finalised contributions, less those with a tombstone.

        Raises:
            NotFoundError: the owner's key is not here.
            InputError: no record would be left.
        """
        owner = self._keys.find(datanet_owner(self._chain, datanet))
        outcomes: list[Outcome] = []
        known: list[Record] = []
        for item in self._library.contributions(datanet):
            if item.accepted is None:
                continue
            manifest = Manifest.from_bytes(self._blobs.get(item.manifest))
            outcomes.append(read_outcome(self._chain, item.id, manifest))
            known += manifest.records
        removed = sorted({stone.record for stone in tombstones(self._chain, datanet)})
        previous = self._newest(datanet)
        number = 1 if previous is None else previous.number + 1
        version = build_version(datanet, number, outcomes, removed, previous)
        self._blobs.put(version.canonical)
        anchor_version(self._chain, owner, version)
        self._database.set_state(f"data_card.{datanet}", data_card(version, known, self.terms(datanet)))
        return version

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
        for name in self._keys.names():
            wallet = self._keys.wallet(name)
            if wallet.address == address:
                return name, wallet
        raise NotFoundError(f"juror {address} was drawn and this node does not hold its key; that reviewer has to act")
