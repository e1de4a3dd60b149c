"""A contribution: records of one contributor, their manifest, and the signed message that the chain takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_utils.address import is_address, to_checksum_address

from openledger.datanets.reading import check_row
from openledger.datanets.records import Record
from openledger.datanets.terms import Terms
from openledger.primitives import (
    Contribution,
    Domain,
    InputError,
    MerkleTree,
    Signer,
    VerificationError,
    canonical_bytes,
    check_signature,
    keccak,
    parse_json,
    sign,
    to_hex,
)

_MAX_INTENDED_USE = 500


def record_leaf(record_hash: bytes) -> bytes:
    """The Merkle leaf of a record: ``keccak256(recordHash)``, hashed twice in all."""
    return keccak(record_hash)


def records_root(records: Sequence[Record]) -> bytes:
    """The root over the records in the contributor's order, 32 bytes."""
    return MerkleTree([record_leaf(record.hash) for record in records]).root


@dataclass(frozen=True)
class Manifest:
    """What a contribution consists of; the keccak-256 of its canonical JSON goes on the chain.

    Attributes:
        datanet: id of the Datanet.
        contributor: checksummed address.
        licence: SPDX identifier under which the records are given.
        intended_use: what the contributor gives them for, in words.
        time: Unix seconds, as stated by the contributor.
        records: in the contributor's order.
    """

    datanet: int
    contributor: str
    licence: str
    intended_use: str
    time: int
    records: tuple[Record, ...]

    @cached_property
    def canonical(self) -> bytes:
        """The blob: RFC 8785 bytes."""
        return canonical_bytes(
            {
                "datanet": self.datanet,
                "contributor": self.contributor,
                "licence": self.licence,
                "intended_use": self.intended_use,
                "time": self.time,
                "records": [record.value for record in self.records],
            }
        )

    @cached_property
    def hash(self) -> bytes:
        """The blob's keccak-256, 32 bytes."""
        return keccak(self.canonical)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Reads a manifest that somebody else wrote.

        Raises:
            InputError: not JSON, not canonical, or a member is missing or of the wrong type.
        """
        value = parse_json(data)
        if not isinstance(value, Mapping):
            raise InputError("the manifest is no JSON object")
        expected = {
            "datanet": int,
            "contributor": str,
            "licence": str,
            "intended_use": str,
            "time": int,
            "records": list,
        }
        for name, kind in expected.items():
            if not isinstance(value.get(name), kind) or isinstance(value[name], bool):
                raise InputError(f"the manifest's {name} is {_short(value.get(name))}; it must be {kind.__name__}")
        unknown = sorted(set(value) - set(expected))
        if unknown:
            raise InputError(f"the manifest has unknown members: {', '.join(unknown)}")
        if not all(isinstance(record, Mapping) for record in value["records"]):
            raise InputError("the manifest's records must be objects")
        if not is_address(value["contributor"]) or to_checksum_address(value["contributor"]) != value["contributor"]:
            raise InputError(
                f"the manifest's contributor is {value['contributor']!r}; it must be a checksummed address"
            )
        members = dict(value) | {"records": tuple(Record.from_json(record) for record in value["records"])}
        manifest = cls(**members)
        if manifest.canonical != data:
            raise InputError("the manifest is not in canonical form (RFC 8785); write it with Manifest.canonical")
        return manifest


@dataclass(frozen=True)
class SignedContribution:
    """A manifest with the message that commits to it and the contributor's signature (65 bytes)."""

    manifest: Manifest
    message: Contribution
    signature: bytes


def draft_contribution(
    terms: Terms,
    records: Sequence[Record],
    contributor: str,
    *,
    datanet: int,
    nonce: int,
    licence: str,
    intended_use: str,
    time: int,
) -> tuple[Manifest, Contribution]:
    """The manifest and the message that ``contributor`` has to sign; arguments and errors as :func:`build_contribution`."""
    manifest = Manifest(
        datanet=datanet,
        contributor=to_checksum_address(contributor),
        licence=licence,
        intended_use=intended_use,
        time=time,
        records=tuple(records),
    )
    check_manifest(manifest, terms)
    return manifest, _message(manifest, nonce)


def build_contribution(
    terms: Terms,
    records: Sequence[Record],
    contributor: Signer,
    domain: Domain,
    *,
    datanet: int,
    nonce: int,
    licence: str,
    intended_use: str,
    time: int,
) -> SignedContribution:
    """Checks the records under the Datanet's terms, writes the manifest and signs it.

    Args:
        terms: the Datanet's schema and policy.
        records: in the order that their root keeps.
        contributor: the account that signs and is credited.
        domain: chain and DatanetRegistry (EIP-712).
        datanet: the Datanet's id on the chain.
        nonce: the registry's next nonce of the contributor.
        licence: SPDX identifier, one that the policy allows.
        intended_use: what the records are given for, at most 500 characters.
        time: Unix seconds.

    Raises:
        InputError: no record, too many, a record twice, a malformed row, a licence that is not allowed.
    """
    manifest, message = draft_contribution(
        terms,
        records,
        contributor.address,
        datanet=datanet,
        nonce=nonce,
        licence=licence,
        intended_use=intended_use,
        time=time,
    )
    return SignedContribution(manifest, message, sign(message, domain, contributor))


def verify_contribution(
    message: Contribution, manifest_bytes: bytes, signature: bytes, domain: Domain, terms: Terms
) -> Manifest:
    """Checks somebody else's contribution from its parts, and returns its manifest.

    Raises:
        VerificationError: the manifest's hash, root, count or members are not those of the message.
        SignatureError: the contributor did not sign the message.
        InputError: the manifest is malformed or breaks the Datanet's terms.
    """
    if keccak(manifest_bytes) != message.manifest:
        raise VerificationError(
            f"the manifest hashes to {to_hex(keccak(manifest_bytes))}, the message names {to_hex(message.manifest)}"
        )
    manifest = Manifest.from_bytes(manifest_bytes)
    expected = _message(manifest, message.nonce)
    for name in ("datanet", "contributor", "records_root", "count", "licence"):
        stated, found = getattr(message, name), getattr(expected, name)
        if stated != found:
            raise VerificationError(f"the message's {name} is {_short(stated)}, the manifest gives {_short(found)}")
    check_signature(message, domain, signature, manifest.contributor)
    check_manifest(manifest, terms)
    return manifest


def check_manifest(manifest: Manifest, terms: Terms) -> None:
    """Raises InputError where the manifest breaks the Datanet's terms; the message names the first such row."""
    policy, records = terms.policy, manifest.records
    if manifest.licence not in policy.licences:
        raise InputError(
            f"the licence {manifest.licence!r} is not allowed in {terms.name}; use one of {', '.join(policy.licences)}"
        )
    if not 0 < len(records) <= policy.max_records:
        raise InputError(f"{len(records)} records; a contribution to {terms.name} has 1 to {policy.max_records}")
    if len(manifest.intended_use) > _MAX_INTENDED_USE:
        raise InputError(
            f"the intended use has {len(manifest.intended_use)} characters; keep it within {_MAX_INTENDED_USE}"
        )
    first: dict[bytes, int] = {}
    for row, record in enumerate(records, 1):
        problems = check_row(row, record.value, terms)
        if problems:
            raise InputError(f"{problems[0]} (Datanet {terms.name})")
        if first.setdefault(record.hash, row) != row:
            raise InputError(f"row {row} is the same record as row {first[record.hash]}; keep one of them")


def _message(manifest: Manifest, nonce: int) -> Contribution:
    return Contribution(
        datanet=manifest.datanet,
        contributor=manifest.contributor,
        records_root=records_root(manifest.records),
        count=len(manifest.records),
        licence=manifest.licence,
        manifest=manifest.hash,
        nonce=nonce,
    )


def _short(value: Any) -> str:
    text = to_hex(value) if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
