"""The schedule releases exactly the supply, never takes back, and has no jump but those that it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN, InputError
from openledger.tokenomics import load_allocation, schedule, supply_at

ALLOCATION = load_allocation()
LAUNCH = 1_757_289_600
MONTH = ALLOCATION.month_seconds
times = st.integers(LAUNCH - MONTH, LAUNCH + 60 * MONTH)


@given(times)
def test_released_and_locked_are_the_supply_at_any_time(time: int) -> None:
    supply = supply_at(ALLOCATION, LAUNCH, time)
    assert supply.released + supply.locked == supply.total == TOTAL_SUPPLY
    assert all(0 <= bucket.released <= bucket.total for bucket in supply.buckets)


@given(times, st.integers(0, 10**8))
def test_what_is_released_is_never_locked_again(time: int, later: int) -> None:
    now, then = supply_at(ALLOCATION, LAUNCH, time), supply_at(ALLOCATION, LAUNCH, time + later)
    assert all(before.released <= after.released for before, after in zip(now.buckets, then.buckets, strict=True))


def test_nothing_is_released_before_the_event_and_215_500_000_open_at_it() -> None:
    assert supply_at(ALLOCATION, LAUNCH, LAUNCH - 1).released == 0
    assert supply_at(ALLOCATION, LAUNCH, LAUNCH).released == 215_500_000 * WEI_PER_OPEN


def test_everything_is_released_after_48_months_and_not_a_second_sooner() -> None:
    end = LAUNCH + 48 * MONTH
    assert supply_at(ALLOCATION, LAUNCH, end).locked == 0
    assert supply_at(ALLOCATION, LAUNCH, end - 1).locked > 0


@pytest.mark.parametrize("name", ["team", "investors"])
def test_team_and_investors_get_nothing_for_a_year_and_then_a_36th_each_month(name: str) -> None:
    def released(month: int, seconds: int = 0) -> int:
        supply = supply_at(ALLOCATION, LAUNCH, LAUNCH + month * MONTH + seconds)
        return next(bucket.released for bucket in supply.buckets if bucket.name == name)

    total = ALLOCATION.bucket(name).total
    assert released(12) == 0
    assert 0 < released(12, 1) < total // 10**7
    assert [released(12 + month) for month in (1, 18, 36)] == [total // 36, total // 2, total]


def test_liquidity_is_free_at_once() -> None:
    liquidity = supply_at(ALLOCATION, LAUNCH, LAUNCH).buckets[-1]
    assert (liquidity.name, liquidity.locked) == ("liquidity", 0)


def test_the_monthly_schedule_runs_from_the_event_to_the_last_release() -> None:
    points = schedule(ALLOCATION, LAUNCH)
    assert len(points) == 49
    assert [points[0].time, points[-1].time] == [LAUNCH, LAUNCH + 48 * MONTH]
    assert points[-1].locked == 0
    assert [point.time for point in schedule(ALLOCATION, LAUNCH, 2)] == [LAUNCH, LAUNCH + MONTH, LAUNCH + 2 * MONTH]
    with pytest.raises(InputError, match="-1 months"):
        schedule(ALLOCATION, LAUNCH, -1)
