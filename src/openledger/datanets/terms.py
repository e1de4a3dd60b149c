"""A Datanet's terms: the schema that its records fit and the policy that contributions keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from openledger.primitives import InputError, record_hash

MAX_RECORDS = 4096
"""Most records in one contribution; the DatanetRegistry enforces it."""


@dataclass(frozen=True)
class Policy:
    """What a contribution must keep.

    Attributes:
        licences: SPDX identifiers that are allowed.
        max_record_bytes: most canonical bytes of one record.
        max_records: most records in one contribution, at most 4,096.
        near_duplicate_ppm: similarity from which a record counts as a near copy of another, in ppm.
        rules: what reviewers judge by, in words.
    """

    licences: tuple[str, ...]
    max_record_bytes: int
    max_records: int
    near_duplicate_ppm: int
    rules: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.licences:
            raise InputError("the policy allows no licence; name at least one SPDX identifier")
        if not 0 < self.max_records <= MAX_RECORDS:
            raise InputError(f"the policy's max_records is {self.max_records}; it must be 1 to {MAX_RECORDS}")
        if not 0 < self.max_record_bytes <= 1 << 20:
            raise InputError(f"the policy's max_record_bytes is {self.max_record_bytes}; it must be 1 to 1,048,576")
        if not 0 < self.near_duplicate_ppm <= 1_000_000:
            raise InputError(f"the policy's near_duplicate_ppm is {self.near_duplicate_ppm}; it must be 1 to 1,000,000")


@dataclass(frozen=True, eq=False)
class Terms:
    """Schema and policy of one Datanet, with the hashes that its creation puts on the chain."""

    name: str
    title: str
    description: str
    licence: str
    schema: Mapping[str, Any]
    policy: Policy
    schema_hash: bytes
    policy_hash: bytes

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Terms:
        """The terms in a Datanet's description (the shape of ``datanet.json``).

        Raises:
            InputError: a part is missing or malformed, or the schema is no JSON Schema (draft 2020-12).
        """
        try:
            schema, policy = value["schema"], value["policy"]
            Draft202012Validator.check_schema(schema)
            return cls(
                name=str(value["name"]),
                title=str(value["title"]),
                description=str(value["description"]),
                licence=str(value["licence"]),
                schema=schema,
                policy=Policy(
                    licences=tuple(policy["licences"]),
                    max_record_bytes=int(policy["max_record_bytes"]),
                    max_records=int(policy["max_records"]),
                    near_duplicate_ppm=int(policy["near_duplicate_ppm"]),
                    rules=tuple(policy.get("rules", ())),
                ),
                schema_hash=record_hash(schema),
                policy_hash=record_hash(policy),
            )
        except KeyError as error:
            raise InputError(f"the Datanet's description has no {error}; see datanet.json for the shape") from None
        except SchemaError as error:
            raise InputError(f"the Datanet's schema is no JSON Schema (draft 2020-12): {error.message}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the Datanet's description is malformed: {error}") from None

    @cached_property
    def validator(self) -> Draft202012Validator:
        """The compiled schema."""
        return Draft202012Validator(self.schema)
