"""The rate limit: no client gets more than its share, whatever it tries, and waiting always helps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.chain.limits import RateLimit
from openledger.primitives import InputError


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.5, 100), st.integers(1, 50), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60)), max_size=60))
def test_a_client_never_gets_more_than_the_burst_and_the_rate(
    rate: float, burst: int, asks: list[tuple[float, int]]
) -> None:
    clock = _Clock()
    limit = RateLimit(rate, burst, clock)
    granted = 0
    for pause, cost in asks:
        clock.now += pause
        if limit.take("a", cost) == 0:
            granted += min(cost, burst)
        assert granted <= burst + rate * clock.now + 1e-6


@given(st.floats(0.5, 100), st.integers(1, 50), st.integers(1, 80))
def test_who_waits_as_told_is_let_in(rate: float, burst: int, cost: int) -> None:
    clock = _Clock()
    limit = RateLimit(rate, burst, clock)
    assert limit.take("a", burst) == 0
    wait = limit.take("a", cost)
    assert wait > 0
    clock.now += wait * 1.000001
    assert limit.take("a", cost) == 0


def test_one_client_does_not_use_up_anothers_share() -> None:
    limit = RateLimit(1, 2, _Clock())
    assert [limit.take("a") for _ in range(3)] == [0, 0, 1]
    assert limit.take("b") == 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 5), (-1, 5), (1, 0)])
def test_a_limit_that_lets_nobody_in_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(InputError, match="lets nobody in"):
        RateLimit(rate, burst)
