"""The supply over time: what the schedule has released, and what is still locked. No chain is read here.

Vesting follows OpenZeppelin's ``VestingWallet`` to the wei: ``total * elapsed / duration`` rounded down. Released means free to
be taken; :mod:`openledger.tokenomics.circulation` says what was taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from openledger.primitives import InputError
from openledger.tokenomics.allocation import Allocation, Bucket


@dataclass(frozen=True)
class BucketSupply:
    """One bucket at one time, in wei; ``released`` and ``locked`` sum to ``total``."""

    name: str
    total: int
    released: int

    @property
    def locked(self) -> int:
        """Wei that the schedule has not released."""
        return self.total - self.released


@dataclass(frozen=True)
class Supply:
    """The whole supply at one time (Unix seconds), by the schedule alone."""

    time: int
    buckets: tuple[BucketSupply, ...]

    @property
    def total(self) -> int:
        """Wei in all buckets: always the fixed supply."""
        return sum(bucket.total for bucket in self.buckets)

    @property
    def released(self) -> int:
        """Wei that the schedule has released."""
        return sum(bucket.released for bucket in self.buckets)

    @property
    def locked(self) -> int:
        """Wei that it has not."""
        return self.total - self.released


def supply_at(allocation: Allocation, launch: int, time: int) -> Supply:
    """The supply at ``time`` if the token generation event was at ``launch`` (both Unix seconds).

    Before the event nothing is released.
    """
    return Supply(
        time,
        tuple(
            BucketSupply(bucket.name, bucket.total, _released(bucket, allocation.month_seconds, time - launch))
            for bucket in allocation.buckets
        ),
    )


def schedule(allocation: Allocation, launch: int, months: int | None = None) -> list[Supply]:
    """The supply at the event and at the end of each month after it, for ``months`` or until all is released.

    Raises:
        InputError: ``months`` is negative.
    """
    last = (
        max(bucket.cliff_months + bucket.linear_months for bucket in allocation.buckets) if months is None else months
    )
    if last < 0:
        raise InputError(f"a schedule over {last} months; give 0 or more")
    return [supply_at(allocation, launch, launch + month * allocation.month_seconds) for month in range(last + 1)]


def _released(bucket: Bucket, month_seconds: int, elapsed: int) -> int:
    if elapsed < 0:
        return 0
    since = elapsed - bucket.cliff_months * month_seconds
    duration = bucket.linear_months * month_seconds
    if since < 0:
        return bucket.free
    return bucket.free + (bucket.vesting if since >= duration else bucket.vesting * since // duration)
