"""A Datanet on the chain: creating it, contributing, reviewing and anchoring versions, one function a step.

Each function sends at most one transaction and waits for its block. A contract's refusal arrives as RevertError with the
contract's own error. The rules themselves are the DatanetRegistry's; see docs/contracts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD
from web3.types import TxReceipt

from openledger.chain import Chain, parameter_key
from openledger.datanets.contribution import Manifest, SignedContribution, records_root
from openledger.datanets.review import Ballot, unpack_bitmap
from openledger.datanets.terms import Terms
from openledger.datanets.versions import Outcome, Version
from openledger.primitives import InputError, VerificationError, to_hex

_REGISTRY = "DatanetRegistry"


class ContributionState(IntEnum):
    """Where a contribution stands; the numbers are the contract's."""

    NONE = 0
    SUBMITTED = 1
    IN_REVIEW = 2
    FINALISED = 3
    WITHDRAWN = 4


@dataclass(frozen=True)
class ContributionEntry:
    """What the registry holds on a contribution; ``bond`` in wei."""

    id: int
    datanet: int
    contributor: str
    count: int
    accepted_count: int
    state: ContributionState
    records_root: bytes
    manifest: bytes
    bond: int
    licence: str


def create_datanet(chain: Chain, owner: LocalAccount, terms: Terms, uri: str = "") -> int:
    """Registers a Datanet with the hashes of its schema and policy. Returns its id."""
    call = chain.contract(_REGISTRY).functions.createDatanet(terms.name, terms.schema_hash, terms.policy_hash, uri)
    return int(_event(chain, chain.send(owner, call), "DatanetCreated")["datanet"])


def next_nonce(chain: Chain, contributor: str) -> int:
    """The nonce that the contributor's next contribution must be signed with."""
    return int(chain.call(chain.contract(_REGISTRY).functions.nonces(contributor)))


def bond_of(chain: Chain, count: int) -> int:
    """What ``count`` records must be bonded with now, in wei."""
    parameters = chain.contract("RuntimeParameters").functions
    return count * int(chain.call(parameters.get(parameter_key("bond.record"))))


def submit_contribution(chain: Chain, payer: LocalAccount, signed: SignedContribution) -> int:
    """Puts a signed contribution on the chain; ``payer`` pays gas and bond for the contributor. Returns its id.

    Raises:
        RevertError: a nonce that was used, a wrong bond, no such Datanet, another's signature.
    """
    message = signed.message
    call = chain.contract(_REGISTRY).functions.submit(message.as_tuple(), signed.signature)
    receipt = chain.send(payer, call, value=bond_of(chain, message.count))
    return int(_event(chain, receipt, "ContributionSubmitted")["id"])


def withdraw_contribution(chain: Chain, contributor: LocalAccount, contribution: int) -> None:
    """Takes back a contribution that no jury has been drawn for; the bond returns."""
    chain.send(contributor, chain.contract(_REGISTRY).functions.withdrawContribution(contribution))


def open_review(chain: Chain, wallet: LocalAccount, contribution: int) -> list[str]:
    """Draws the jury, from the block after the submission on; anyone may. Returns the jurors' addresses.

    Empty when too few reviewers have stake: the draw is renewed, and may be asked for again from the next block on.

    Raises:
        RevertError: it is too early (``DrawNotReady``), or a jury is drawn already (``WrongState``).
    """
    receipt = chain.send(wallet, chain.contract(_REGISTRY).functions.openReview(contribution))
    drawn = _events(chain, receipt, "JuryDrawn")
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


def finalise(chain: Chain, wallet: LocalAccount, contribution: int) -> list[bool] | None:
    """Ends the round; anyone may, once all have revealed or the time is up. Returns the outcome per record.

    None when the round is void because at most half of the jury revealed: a new jury can be drawn then.

    Raises:
        RevertError: the round is not over (``ReviewNotOver``).
    """
    receipt = chain.send(wallet, chain.contract(_REGISTRY).functions.finalise(contribution))
    ended = _events(chain, receipt, "ContributionFinalised")
    if not ended:
        return None
    return unpack_bitmap(bytes(ended[0]["accepted"]), contribution_entry(chain, contribution).count)


def contribution_entry(chain: Chain, contribution: int) -> ContributionEntry:
    """What the registry holds on a contribution.

    Raises:
        RevertError: there is no such contribution (``UnknownContribution``).
    """
    entry = chain.call(chain.contract(_REGISTRY).functions.contribution(contribution))
    datanet, contributor, count, accepted, state, root, manifest, bond, licence = _values(entry)
    return ContributionEntry(
        id=contribution,
        datanet=int(datanet),
        contributor=str(contributor),
        count=int(count),
        accepted_count=int(accepted),
        state=ContributionState(state),
        records_root=bytes(root),
        manifest=bytes(manifest),
        bond=int(bond),
        licence=str(licence),
    )


def read_outcome(chain: Chain, contribution: int, manifest: Manifest) -> Outcome:
    """The review's outcome, joined with the records of the contribution's manifest.

    Raises:
        InputError: the review is not over.
        VerificationError: the manifest is not the one on the chain.
    """
    entry = contribution_entry(chain, contribution)
    if entry.state is not ContributionState.FINALISED:
        raise InputError(f"contribution {contribution} is {entry.state.name.lower()}; its review has no outcome")
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
