"""A Datanet on the chain: creating it, contributing, reviewing and anchoring versions, one function a step.

Each function sends at most one transaction and waits for its block. A contract's refusal arrives as RevertError with the
contract's own error. The rules themselves are the DatanetRegistry's; see docs/contracts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from openledger.chain import Chain, parameter_key
from openledger.datanets.contribution import Manifest, SignedContribution, records_root
from openledger.datanets.review import Ballot, pack_bitmap, unpack_bitmap
from openledger.datanets.terms import Terms
from openledger.datanets.versions import Outcome, Version
from openledger.primitives import Contribution, InputError, MerkleTree, VerificationError, keccak, to_hex

_REGISTRY, _APPEALS = "DatanetRegistry", "ReviewAppeals"


class ContributionState(IntEnum):
    """Where a contribution stands; the numbers are the contract's."""

    NONE = 0
    SUBMITTED = 1
    IN_REVIEW = 2
    DISAGREED = 3
    DECIDED = 4
    IN_APPEAL = 5
    FINALISED = 6
    WITHDRAWN = 7


@dataclass(frozen=True)
class ContributionEntry:
    """What the registry holds on a contribution; ``bond`` in wei. ``accepted_count`` is provisional until it is final."""

    id: int
    datanet: int
    contributor: str
    count: int
    accepted_count: int
    state: ContributionState
    removed_count: int
    records_root: bytes
    manifest: bytes
    bond: int


class AccessRule(IntEnum):
    """Who may read a Datanet: everybody, who pays, or whom the owner lets; the numbers are the contract's."""

    OPEN = 0
    PAID = 1
    GRANTED = 2


@dataclass(frozen=True)
class DatanetTerms:
    """What a Datanet costs and whom it pays; rule, owner's part and cap never change.

    Attributes:
        access: who may read it.
        owner_ppm: the owner's part of its income from access and licences; contributors share the rest by accepted rows.
        row_cap: most records that one contributor may have in it; 0 for no cap.
        access_fee: wei for access.
        licence_fee: wei for each fine-tuning job.
    """

    access: AccessRule = AccessRule.OPEN
    owner_ppm: int = 0
    row_cap: int = 0
    access_fee: int = 0
    licence_fee: int = 0


@dataclass(frozen=True)
class ReviewTimes:
    """Until when each step of a review is possible, Unix seconds; 0 where the review is not that far."""

    commit_end: int
    reveal_end: int
    challenge_end: int
    defend_end: int
    lapse_end: int


@dataclass(frozen=True)
class Tombstone:
    """A record that versions from ``version`` on must not hold."""

    datanet: int
    contribution: int
    record: bytes
    version: int


@dataclass(frozen=True)
class Challenge:
    """One challenge of a decision; ``bond`` in wei, each side's. ``defender`` is None while nobody stands by the decision.

    Attributes:
        number: from 1 for each contribution.
        positions: the records whose decision shall be turned around, from 0.
        settled: whether both sides were paid.
    """

    contribution: int
    number: int
    challenger: str
    defender: str | None
    bond: int
    positions: tuple[int, ...]
    settled: bool


def create_datanet(
    chain: Chain, owner: LocalAccount, terms: Terms, uri: str = "", conditions: DatanetTerms | None = None
) -> int:
    """Registers a Datanet with the hashes of its schema and policy. Returns its id.

    Raises:
        RevertError: ``OwnerShareTooLarge`` above the parameter ``datanet.owner``.
    """
    asked = conditions or DatanetTerms()
    values = (int(asked.access), asked.owner_ppm, asked.row_cap, asked.access_fee, asked.licence_fee)
    functions = chain.contract(_REGISTRY).functions
    call = functions.createDatanet(terms.name, terms.schema_hash, terms.policy_hash, uri, values)
    return int(_event(chain, chain.send(owner, call), "DatanetCreated")["datanet"])


def next_nonce(chain: Chain, contributor: str) -> int:
    """The nonce that the contributor's next contribution must be signed with."""
    return int(chain.call(chain.contract(_REGISTRY).functions.nonces(contributor)))


def datanet_owner(chain: Chain, datanet: int) -> str:
    """The account that owns a Datanet.

    Raises:
        RevertError: ``UnknownDatanet``.
    """
    return str(_values(chain.call(chain.contract(_REGISTRY).functions.datanet(datanet)))[0])


def bond_of(chain: Chain, count: int) -> int:
    """What ``count`` records must be bonded with now, in wei."""
    parameters = chain.contract("RuntimeParameters").functions
    return count * int(chain.call(parameters.get(parameter_key("bond.record"))))


def submit_contribution(chain: Chain, payer: LocalAccount, signed: SignedContribution) -> int:
    """Puts a signed contribution on the chain; ``payer`` pays gas and bond for the contributor. Returns its id.

    Raises:
        RevertError: a nonce that was used, a wrong bond, no such Datanet, another's signature.
    """
    call = submission_call(chain, signed.message, signed.signature)
    return submitted_in(chain, chain.send(payer, call, value=bond_of(chain, signed.message.count)))


def submission_call(chain: Chain, message: Contribution, signature: bytes) -> ContractFunction:
    """The call that puts a signed contribution on the chain; its value is :func:`bond_of` the count."""
    return chain.contract(_REGISTRY).functions.submit(message.as_tuple(), signature)


def submitted_in(chain: Chain, receipt: TxReceipt) -> int:
    """The id of the contribution that a transaction submitted."""
    return int(_event(chain, receipt, "ContributionSubmitted")["id"])


def withdraw_contribution(chain: Chain, contributor: LocalAccount, contribution: int) -> None:
    """Takes back a contribution for which no jury can be drawn yet; the bond returns.

    Raises:
        RevertError: ``JuryIsKnown`` once a jury follows from the draw block.
    """
    chain.send(contributor, chain.contract(_REGISTRY).functions.withdrawContribution(contribution))


def open_review(chain: Chain, wallet: LocalAccount, contribution: int) -> list[str]:
    """Draws the jurors that a contribution waits for, from the block after its draw block on; anyone may.

    A first jury, those who join it where it disagrees, or the larger jury of an appeal. Returns the new jurors' addresses;
    empty when too few reviewers have stake: the draw is renewed, and may be asked for again from the next block on (where
    a jury disagrees and nobody can join it, it has decided).

    Raises:
        RevertError: it is too early (``DrawNotReady``), or a jury is drawn already (``WrongState``).
    """
    receipt = chain.send(wallet, chain.contract(_REGISTRY).functions.openReview(contribution))
    drawn = _events(chain, receipt, "JuryDrawn") + _events(chain, receipt, "JuryExtended")
    return [str(juror) for juror in drawn[0]["jurors"]] if drawn else []


def jury(chain: Chain, contribution: int) -> list[str]:
    """The jurors of the current round, checksummed."""
    return [str(juror) for juror in chain.call(chain.contract(_REGISTRY).functions.jury(contribution))]


def commit(chain: Chain, reviewer: LocalAccount, ballot: Ballot) -> None:
    """Commits to a ballot without showing it.

    Raises:
        RevertError: not a juror, committed before, or the window is over.
    """
    chain.send(reviewer, chain.contract(_REGISTRY).functions.commitVerdict(ballot.contribution, ballot.commitment))


def reveal(chain: Chain, reviewer: LocalAccount, ballot: Ballot) -> None:
    """Shows a ballot that was committed to.

    Raises:
        RevertError: the commitment was to another ballot, others can still commit, or the window is over.
    """
    call = chain.contract(_REGISTRY).functions.revealVerdict(ballot.contribution, ballot.bitmap, ballot.salt)
    chain.send(reviewer, call)


def end_round(chain: Chain, wallet: LocalAccount, contribution: int) -> ContributionState:
    """Ends the round; anyone may, once all have revealed or the time is up. Returns where the contribution stands then.

    SUBMITTED when the round is void because at most half of the jury revealed, DISAGREED when further jurors must be
    drawn, DECIDED when the decision can be challenged, FINALISED after an appeal.

    Raises:
        RevertError: the round is not over (``ReviewNotOver``).
    """
    chain.send(wallet, chain.contract(_REGISTRY).functions.endRound(contribution))
    return contribution_entry(chain, contribution).state


def decision(chain: Chain, contribution: int) -> list[bool]:
    """What was decided for each record, provisional until the contribution is final; empty before a decision."""
    entry = contribution_entry(chain, contribution)
    bitmap = bytes(chain.call(chain.contract(_REGISTRY).functions.acceptedBitmap(contribution)))
    return unpack_bitmap(bitmap, entry.count) if bitmap else []


def review_times(chain: Chain, contribution: int) -> ReviewTimes:
    """Until when each step of the review is possible."""
    values = _values(chain.call(chain.contract(_REGISTRY).functions.review(contribution)))
    return ReviewTimes(*(int(value) for value in values[-5:]))


def finalise(chain: Chain, wallet: LocalAccount, contribution: int) -> list[bool]:
    """Makes a decision final when its challenge window is over; anyone may. Returns the outcome per record.

    Raises:
        RevertError: it can still be challenged (``ChallengeWindowOpen``), or an appeal is under way (``AppealPending``).
    """
    chain.send(wallet, chain.contract(_REGISTRY).functions.finalise(contribution))
    return decision(chain, contribution)


def challenge(chain: Chain, wallet: LocalAccount, contribution: int, positions: Sequence[int]) -> int:
    """Challenges the decision on the records at ``positions``, under a bond for each. Returns the challenge's number.

    Raises:
        InputError: a position is not in the contribution.
        RevertError: the window is over, a record is challenged already, or the wallet is a reviewer's.
    """
    count = contribution_entry(chain, contribution).count
    if wrong := [position for position in positions if not 0 <= position < count]:
        raise InputError(f"contribution {contribution} has records 0 to {count - 1}; there is none at {wrong[0]}")
    bitmap = pack_bitmap([position in set(positions) for position in range(count)])
    parameters = chain.contract("RuntimeParameters").functions
    bond = len(set(positions)) * int(chain.call(parameters.get(parameter_key("bond.challenge"))))
    contract = chain.contract(_APPEALS)
    receipt = chain.send(wallet, contract.functions.challenge(contribution, bitmap), value=bond)
    return int(contract.events.DecisionChallenged().process_receipt(receipt, errors=DISCARD)[0]["args"]["number"])


def challenges(chain: Chain, contribution: int) -> list[Challenge]:
    """Every challenge of the decision on a contribution, in order."""
    count = contribution_entry(chain, contribution).count
    functions = chain.contract(_APPEALS).functions
    found = []
    for number in range(1, int(chain.call(functions.challengeCount(contribution))) + 1):
        challenger, defender, _, settled, bond, records = _values(
            chain.call(functions.challenges(contribution, number))
        )
        marked = unpack_bitmap(bytes(records), count)
        found.append(
            Challenge(
                contribution=contribution,
                number=number,
                challenger=str(challenger),
                defender=None if int(defender, 16) == 0 else str(defender),
                bond=int(bond),
                positions=tuple(position for position, asked in enumerate(marked) if asked),
                settled=bool(settled),
            )
        )
    return found


def defend(chain: Chain, wallet: LocalAccount, contribution: int, number: int) -> None:
    """Stands by the decision against a challenge, with the same bond as the challenger.

    Raises:
        RevertError: the time is over, somebody defends already, or the wallet is the challenger's or a reviewer's.
    """
    functions = chain.contract(_APPEALS).functions
    bond = int(_values(chain.call(functions.challenges(contribution, number)))[4])
    chain.send(wallet, functions.defend(contribution, number), value=bond)


def settle_challenge(chain: Chain, wallet: LocalAccount, contribution: int, number: int) -> None:
    """Pays both sides of a challenge once the contribution is final; anyone may."""
    chain.send(wallet, chain.contract(_APPEALS).functions.settleChallenge(contribution, number))


def remove_record(
    chain: Chain, wallet: LocalAccount, contribution: int, manifest: Manifest, position: int, reason: bytes = bytes(32)
) -> None:
    """Puts a tombstone on an accepted record: no later version may hold it. By its contributor or the Datanet's owner.

    Raises:
        InputError: the contribution has no record at ``position``.
        RevertError: not accepted, removed already, or not the wallet's to remove.
    """
    if not 0 <= position < len(manifest.records):
        raise InputError(
            f"contribution {contribution} has records 0 to {len(manifest.records) - 1}; there is none at {position}"
        )
    tree = MerkleTree([keccak(record.hash) for record in manifest.records])
    call = chain.contract(_REGISTRY).functions.removeRecord(
        contribution, position, manifest.records[position].hash, tree.proof(position), reason
    )
    chain.send(wallet, call)


def tombstones(chain: Chain, datanet: int) -> list[Tombstone]:
    """Every removal in a Datanet, in order."""
    return [
        Tombstone(datanet, log["args"]["contribution"], bytes(log["args"]["recordHash"]), log["args"]["version"])
        for log in chain.events(_REGISTRY, "RecordRemoved", datanet=datanet)
    ]


def contribution_entry(chain: Chain, contribution: int) -> ContributionEntry:
    """What the registry holds on a contribution.

    Raises:
        RevertError: there is no such contribution (``UnknownContribution``).
    """
    entry = chain.call(chain.contract(_REGISTRY).functions.contribution(contribution))
    datanet, contributor, count, accepted, state, removed, root, manifest, bond = _values(entry)
    return ContributionEntry(
        id=contribution,
        datanet=int(datanet),
        contributor=str(contributor),
        count=int(count),
        accepted_count=int(accepted),
        state=ContributionState(state),
        removed_count=int(removed),
        records_root=bytes(root),
        manifest=bytes(manifest),
        bond=int(bond),
    )


def read_outcome(chain: Chain, contribution: int, manifest: Manifest) -> Outcome:
    """The review's outcome, joined with the records of the contribution's manifest.

    Raises:
        InputError: the review is not over.
        VerificationError: the manifest is not the one on the chain.
    """
    entry = contribution_entry(chain, contribution)
    if entry.state is not ContributionState.FINALISED:
        raise InputError(f"contribution {contribution} is {entry.state.name.lower()}; its review is not final")
    if manifest.hash != entry.manifest or records_root(manifest.records) != entry.records_root:
        raise VerificationError(
            f"the manifest {to_hex(manifest.hash)} is not that of contribution {contribution}, {to_hex(entry.manifest)}"
        )
    bitmap = bytes(chain.call(chain.contract(_REGISTRY).functions.acceptedBitmap(contribution)))
    return Outcome(
        contribution=contribution,
        contributor=entry.contributor,
        manifest=entry.manifest,
        records=manifest.records,
        accepted=tuple(unpack_bitmap(bitmap, entry.count)),
    )


def anchor_version(chain: Chain, owner: LocalAccount, version: Version) -> int:
    """Anchors a version's root and manifest; only the Datanet's owner may. Returns the number it got.

    Raises:
        RevertError: not the owner, or a contribution that is not finalised or of another Datanet.
        VerificationError: the chain gave it another number than the version has.
    """
    call = chain.contract(_REGISTRY).functions.anchorVersion(
        version.datanet,
        version.root,
        len(version.record_hashes),
        [part.contribution for part in version.parts],
        version.manifest,
    )
    number = int(_event(chain, chain.send(owner, call), "VersionAnchored")["version"])
    if number != version.number:
        raise VerificationError(f"version {version.number} was anchored as number {number}; build it again as that one")
    return number


def anchored_root(chain: Chain, datanet: int, version: int) -> bytes:
    """The root of an anchored version, 32 bytes.

    Raises:
        RevertError: there is no such version (``UnknownVersion``).
    """
    return bytes(_values(chain.call(chain.contract(_REGISTRY).functions.versions(datanet, version)))[0])


def _values(entry: Any) -> list[Any]:
    return list(entry.values()) if isinstance(entry, dict) else list(entry)


def _events(chain: Chain, receipt: TxReceipt, name: str) -> list[dict[str, Any]]:
    logs = chain.contract(_REGISTRY).events[name]().process_receipt(receipt, errors=DISCARD)
    return [dict(log["args"]) for log in logs]


def _event(chain: Chain, receipt: TxReceipt, name: str) -> dict[str, Any]:
    return _events(chain, receipt, name)[0]
