"""Versions: the accepted records of finalised contributions under one Merkle root.

Anyone who has the contributions' blobs and the chain's outcomes can rebuild a version and its root. A removal is a
tombstone: the version's manifest names the hash, and later versions keep leaving it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from openledger.datanets.contribution import record_leaf
from openledger.datanets.records import Record
from openledger.datanets.review import pack_bitmap
from openledger.datanets.terms import Terms
from openledger.primitives import (
    InputError,
    MerkleTree,
    NotFoundError,
    VerificationError,
    canonical_bytes,
    from_hex,
    keccak,
    parse_json,
    to_hex,
    verify_proof,
)


@dataclass(frozen=True)
class Outcome:
    """What a review decided on one contribution.

    Attributes:
        contribution: its id on the chain.
        contributor: checksummed address.
        manifest: hash of its manifest blob.
        records: its records, in the manifest's order.
        accepted: per record.
    """

    contribution: int
    contributor: str
    manifest: bytes
    records: tuple[Record, ...]
    accepted: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.records) != len(self.accepted):
            raise InputError(
                f"contribution {self.contribution} has {len(self.records)} records and {len(self.accepted)} outcomes"
            )


@dataclass(frozen=True)
class Part:
    """One contribution's part in a version: who gave it, where its records stand, and which were accepted."""

    contribution: int
    contributor: str
    manifest: bytes
    accepted: bytes


@dataclass(frozen=True)
class Version:
    """One version of a Datanet.

    Attributes:
        datanet: the Datanet's id.
        number: from 1 upwards, without gaps.
        record_hashes: of all records in it, ascending.
        parts: the contributions that it is made of, by ascending id.
        removed: tombstones, ascending.
    """

    datanet: int
    number: int
    record_hashes: tuple[bytes, ...]
    parts: tuple[Part, ...]
    removed: tuple[bytes, ...]

    @cached_property
    def _tree(self) -> MerkleTree:
        return MerkleTree([record_leaf(record_hash) for record_hash in self.record_hashes])

    @property
    def root(self) -> bytes:
        """Merkle root over the record hashes in ascending order, 32 bytes."""
        return self._tree.root

    def proof(self, record_hash: bytes) -> list[bytes]:
        """The proof that a record belongs to this version, for :func:`is_member`.

        Raises:
            NotFoundError: the record is not in this version.
        """
        try:
            position = self.record_hashes.index(record_hash)
        except ValueError:
            gone = " (it was removed)" if record_hash in self.removed else ""
            raise NotFoundError(
                f"no record {to_hex(record_hash)} in version {self.number} of Datanet {self.datanet}{gone}"
            ) from None
        return self._tree.proof(position)

    @cached_property
    def canonical(self) -> bytes:
        """The manifest blob: RFC 8785 bytes."""
        return canonical_bytes(
            {
                "datanet": self.datanet,
                "version": self.number,
                "records": [to_hex(record_hash) for record_hash in self.record_hashes],
                "contributions": [
                    {
                        "id": part.contribution,
                        "contributor": part.contributor,
                        "manifest": to_hex(part.manifest),
                        "accepted": to_hex(part.accepted),
                    }
                    for part in self.parts
                ],
                "removed": [to_hex(record_hash) for record_hash in self.removed],
            }
        )

    @cached_property
    def manifest(self) -> bytes:
        """The manifest blob's keccak-256, 32 bytes."""
        return keccak(self.canonical)

    @classmethod
    def from_bytes(cls, data: bytes) -> Version:
        """Reads a version's manifest blob.

        Raises:
            InputError: malformed, or not what a version writes.
        """
        value: Any = parse_json(data)
        try:
            version = cls(
                datanet=value["datanet"],
                number=value["version"],
                record_hashes=tuple(from_hex(text, 32) for text in value["records"]),
                parts=tuple(
                    Part(part["id"], part["contributor"], from_hex(part["manifest"], 32), from_hex(part["accepted"]))
                    for part in value["contributions"]
                ),
                removed=tuple(from_hex(text, 32) for text in value["removed"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"the version's manifest is malformed: {error!r}") from None
        if version.canonical != data:
            raise InputError("the version's manifest is not in canonical form; write it with Version.canonical")
        for name, hashes in (("records", version.record_hashes), ("removed", version.removed)):
            if list(hashes) != sorted(set(hashes)):
                raise InputError(f"the version's {name} are not in ascending order, each once")
        return version


def is_member(root: bytes, record_hash: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the record belongs to the version with this root."""
    return verify_proof(root, record_leaf(record_hash), proof)


def build_version(
    datanet: int,
    number: int,
    outcomes: Iterable[Outcome],
    removed: Iterable[bytes] = (),
    previous: Version | None = None,
) -> Version:
    """The version made of all accepted records of ``outcomes``, without what is or was removed.

    Raises:
        InputError: no record is left, a contribution comes twice, the number does not follow the previous version's,
            or a removal names a record that no contribution brought in.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.contribution)
    ids = [outcome.contribution for outcome in ordered]
    if len(set(ids)) != len(ids):
        raise InputError(f"a contribution comes twice among {ids}")
    if number != (previous.number + 1 if previous else 1):
        after = f"version {previous.number}" if previous else "nothing"
        raise InputError(f"version {number} cannot follow {after}")
    accepted = owners(ordered)
    tombstones = set(removed)
    unknown = tombstones - set(accepted)
    if unknown:
        raise InputError(f"cannot remove {to_hex(min(unknown))}: no contribution to this version brought it in")
    tombstones |= set(previous.removed) if previous else set()
    hashes = sorted(set(accepted) - tombstones)
    if not hashes:
        raise InputError(f"version {number} of Datanet {datanet} would hold no record")
    parts = tuple(
        Part(outcome.contribution, outcome.contributor, outcome.manifest, pack_bitmap(outcome.accepted))
        for outcome in ordered
    )
    return Version(datanet, number, tuple(hashes), parts, tuple(sorted(tombstones)))


def verify_version(version: Version, outcomes: Iterable[Outcome], root: bytes) -> None:
    """Rebuilds a version from the chain's outcomes and compares it with its manifest and its anchored root.

    Raises:
        VerificationError: a difference, with the first record that makes it.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.contribution)
    parts = tuple(
        Part(outcome.contribution, outcome.contributor, outcome.manifest, pack_bitmap(outcome.accepted))
        for outcome in ordered
    )
    if parts != version.parts:
        raise VerificationError(
            f"the manifest of version {version.number} names other contributions or outcomes than the chain"
        )
    expected = set(owners(ordered)) - set(version.removed)
    for record_hash in sorted(expected ^ set(version.record_hashes)):
        fault = "leaves out" if record_hash in expected else "adds"
        raise VerificationError(f"version {version.number} {fault} the record {to_hex(record_hash)}")
    if version.root != root:
        raise VerificationError(
            f"the records of version {version.number} have root {to_hex(version.root)}, the chain holds {to_hex(root)}"
        )


def owners(outcomes: Iterable[Outcome]) -> dict[bytes, Outcome]:
    """For each accepted record's hash the contribution that it belongs to: the one with the lowest id."""
    found: dict[bytes, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.contribution):
        for record, accept in zip(outcome.records, outcome.accepted, strict=True):
            if accept:
                found.setdefault(record.hash, outcome)
    return found


def data_card(version: Version, records: Iterable[Record], terms: Terms) -> str:
    """The version's data card in Markdown.

    Args:
        version: the version described.
        records: at least those in the version; others are left out.
        terms: the Datanet's terms.
    """
    members = set(version.record_hashes)
    held = [record for record in {record.hash: record for record in records}.values() if record.hash in members]
    if len(held) != len(members):
        raise InputError(f"version {version.number} has {len(members)} records, {len(held)} of them were given")
    values = [record.value for record in held]
    kinds = Counter(str(value.get("kind", "record")) for value in values)
    sources = Counter(
        str(value["source"].get("name", "")) for value in values if isinstance(value.get("source"), Mapping)
    )
    days = sorted(record.facts["date"] for record in held if "date" in record.facts)
    given = Counter[str]()
    for part in version.parts:
        given[part.contributor] += int.from_bytes(part.accepted, "little").bit_count()
    lines = [
        f"# {_text(terms.title)}, version {version.number}",
        "",
        _text(terms.description),
        "",
        "| | |",
        "|---|---|",
        f"| records | {len(members):,} ({', '.join(f'{count:,} {_text(kind)}' for kind, count in sorted(kinds.items()))}) |",
        *([f"| period | {_text(days[0])} to {_text(days[-1])} |"] if days else []),
        f"| contributions | {len(version.parts):,} by {len(given):,} contributors |",
        f"| removed | {len(version.removed):,} |",
        f"| licence | {_text(terms.licence)} (contributions: {_text(', '.join(terms.policy.licences))}) |",
        f"| sources | {_text(', '.join(name for name, _ in sources.most_common()))} |",
        f"| root | `{to_hex(version.root)}` |",
        f"| manifest | `{to_hex(version.manifest)}` |",
        f"| schema | `{to_hex(terms.schema_hash)}` |",
        "",
        "## What a record must keep",
        "",
        *(f"- {_text(rule)}" for rule in terms.policy.rules),
        "",
        "## Contributors",
        "",
        "| contributor | accepted records |",
        "|---|---|",
        *(f"| `{_text(account)}` | {count:,} |" for account, count in given.most_common()),
        "",
        "## How it was checked",
        "",
        "Each record passed the gate's free checks and was judged by a jury drawn by stake, whose members saw the",
        "record, its source and the gate's findings, and not who sent it. More than half had to accept it. The root",
        "above is on the chain; a record's membership is proved by a Merkle proof against it.",
        "",
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|").replace("`", "'").replace("\n", " ")
