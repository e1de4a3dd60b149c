"""The allocation of OPEN: which bucket holds how much, what of it is free at once, and when the rest follows.

The file ``allocation.json`` beside this module is the reviewed configuration; deployment funds the vesting contracts from it
and :mod:`openledger.tokenomics.supply` draws its schedule. This module only reads and checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from openledger.primitives import PPM, TOTAL_SUPPLY, WEI_PER_OPEN, InputError, mul_ppm, parse_json

_TOP_KEYS = {"token", "total", "month_seconds", "buckets", "notes"}
_BUCKET_KEYS = {"name", "ppm", "circulating_ppm_at_tge", "cliff_months", "linear_months", "purpose"}
_LONGEST_MONTHS = 1200


@dataclass(frozen=True)
class Bucket:
    """One part of the supply.

    Attributes:
        name: such as ``community``.
        ppm: the bucket's size in ppm of the total supply.
        circulating_ppm_at_tge: the part of it that is free at the token generation event, in ppm of the total supply.
        cliff_months: months after the event in which nothing more is released.
        linear_months: months after the cliff over which the rest is released evenly; 0 if there is no rest.
        purpose: what it is for, in a sentence.
    """

    name: str
    ppm: int
    circulating_ppm_at_tge: int
    cliff_months: int
    linear_months: int
    purpose: str

    @property
    def total(self) -> int:
        """Wei in the bucket."""
        return mul_ppm(TOTAL_SUPPLY, self.ppm)

    @property
    def free(self) -> int:
        """Wei that circulate from the token generation event on."""
        return mul_ppm(TOTAL_SUPPLY, self.circulating_ppm_at_tge)

    @property
    def vesting(self) -> int:
        """Wei that are released by the schedule."""
        return self.total - self.free


@dataclass(frozen=True)
class Allocation:
    """The whole supply in buckets. ``month_seconds`` is the length of a month in seconds."""

    month_seconds: int
    buckets: tuple[Bucket, ...]
    notes: tuple[str, ...]

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name.

        Raises:
            InputError: there is none; the message lists those that exist.
        """
        for bucket in self.buckets:
            if bucket.name == name:
                return bucket
        raise InputError(f"no bucket {name!r}; there are {', '.join(b.name for b in self.buckets)}")

    @property
    def circulating_at_tge(self) -> int:
        """Wei that circulate at the token generation event."""
        return sum(bucket.free for bucket in self.buckets)


def load_allocation(path: Path | None = None) -> Allocation:
    """The allocation of ``path``, or the one shipped with OpenLedger.

    Raises:
        InputError: the file is not an allocation of exactly 1,000,000,000 OPEN.
    """
    return _shipped() if path is None else parse_allocation(parse_json(path.read_bytes()))


@cache
def _shipped() -> Allocation:
    return parse_allocation(parse_json(resources.files(__package__).joinpath("allocation.json").read_bytes()))


def parse_allocation(document: Any) -> Allocation:
    """The allocation that a JSON object describes.

    Raises:
        InputError: a key is missing or unknown, a number is out of range, a name stands twice, the buckets do not sum to the
            supply, or a bucket has a rest and no time to release it (or the reverse).
    """
    top = _object(document, "the allocation", _TOP_KEYS)
    if top["total"] != str(TOTAL_SUPPLY // WEI_PER_OPEN):
        raise InputError(f'the total is {top["total"]!r}; the supply is fixed at "{TOTAL_SUPPLY // WEI_PER_OPEN}" OPEN')
    if not isinstance(top["buckets"], list) or not top["buckets"]:
        raise InputError("buckets must be a list of at least one bucket")
    if not isinstance(top["notes"], list) or not all(isinstance(note, str) for note in top["notes"]):
        raise InputError("notes must be a list of strings")
    month_seconds = _integer(top, "month_seconds", "the allocation", 1, 31 * 86_400)
    buckets = tuple(_bucket(entry) for entry in top["buckets"])
    names = [bucket.name for bucket in buckets]
    if len(set(names)) != len(names):
        raise InputError(f"a bucket's name stands twice: {', '.join(names)}")
    whole = sum(bucket.ppm for bucket in buckets)
    if whole != PPM:
        raise InputError(
            f"the buckets sum to {whole:,} ppm of the supply, {whole - PPM:+,} too many; they must sum to {PPM:,}"
        )
    return Allocation(month_seconds, buckets, tuple(top["notes"]))


def _bucket(entry: Any) -> Bucket:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    where = f"bucket {name!r}"
    fields = _object(entry, where, _BUCKET_KEYS)
    if not isinstance(name, str) or not name:
        raise InputError(f"a bucket's name is {name!r}; it must be a word")
    if not isinstance(fields["purpose"], str):
        raise InputError(f"{where}: purpose must be a string")
    ppm = _integer(fields, "ppm", where, 1, PPM)
    free = _integer(fields, "circulating_ppm_at_tge", where, 0, ppm)
    cliff = _integer(fields, "cliff_months", where, 0, _LONGEST_MONTHS)
    linear = _integer(fields, "linear_months", where, 0, _LONGEST_MONTHS)
    if (free < ppm) != (linear > 0):
        raise InputError(
            f"{where}: {ppm - free:,} ppm are released over {linear} months; give a rest its months, and no months without one"
        )
    return Bucket(name, ppm, free, cliff, linear, fields["purpose"])


def _object(value: Any, where: str, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a JSON object, not {type(value).__name__}")
    if missing := sorted(keys - set(value)):
        raise InputError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(value) - keys):
        raise InputError(f"{where} has unknown keys: {', '.join(unknown)}")
    return value


def _integer(fields: Mapping[str, Any], key: str, where: str, least: int, most: int) -> int:
    value = fields[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{where}: {key} is {value!r}; it must be an integer from {least} to {most}")
    return value
