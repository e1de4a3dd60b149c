"""What the pages write: never more than there is, never a wrong unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import PPM, TOTAL_SUPPLY, WEI_PER_OPEN, parse_open
from openledger.ui.formatting import (
    amount,
    compact_amount,
    duration,
    exact_amount,
    exact_time,
    percent,
    plural,
    quantity,
    sentence,
    short_hash,
)

wei = st.integers(0, TOTAL_SUPPLY)
ppm = st.integers(0, PPM)


def in_wei(text: str) -> int:
    number, _, unit = text.replace(",", "").partition(" ")
    return int(number) if unit == "wei" else parse_open(number)


@given(wei)
def test_an_amount_is_cut_by_less_than_a_thousandth_and_never_rounded_up(value: int) -> None:
    shown = in_wei(amount(value))
    assert shown <= value
    assert value - shown <= value // 1000


@given(wei)
def test_the_exact_amount_reads_back_as_the_same_wei(value: int) -> None:
    in_open, in_wei_ = exact_amount(value).split(" = ")
    assert parse_open(in_open.replace(",", "")) == value
    assert int(in_wei_.removesuffix(" wei").replace(",", "")) == value


@given(wei)
def test_a_compact_amount_never_exceeds_the_amount(value: int) -> None:
    text = compact_amount(value).removesuffix(" OPEN")
    if text[-1] in "KMB":
        size = {"K": 10**3, "M": 10**6, "B": 10**9}[text[-1]]
        shown = int(float(text[:-1]) * 100 + 0.5) * size * WEI_PER_OPEN // 100
        assert shown <= value < shown + size * WEI_PER_OPEN // 100
    else:
        assert in_wei(compact_amount(value)) <= value


@given(ppm)
def test_a_percentage_never_exceeds_the_share_and_nothing_small_is_shown_as_nothing(share: int) -> None:
    text = percent(share)
    if text == "<0.01%":
        assert 0 < share < 100
    else:
        shown = round(float(text.removesuffix("%")) * 10_000)
        assert shown <= share < shown + 100
        assert (shown == 0) == (share == 0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (600_000, "ppm", "60%"),
        (WEI_PER_OPEN // 20, "wei", "0.05 OPEN"),
        (3600, "s", "1 hour"),
        (7 * 86_400, "s", "7 days"),
        (90, "s", "90 seconds"),
        (3, "count", "3"),
        (0, "switch", "off"),
        (1, "switch", "on"),
        (1200, "tokens", "1,200 tokens"),
    ],
)
def test_a_parameter_is_shown_in_the_unit_that_people_read(value: int, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_small_texts() -> None:
    assert amount(0) == "0 OPEN"
    assert amount(17) == "17 wei"
    assert amount(-3 * WEI_PER_OPEN) == "-3 OPEN"
    assert compact_amount(TOTAL_SUPPLY) == "1B OPEN"
    assert plural(1, "batch", "batches") == "1 batch"
    assert plural(1200, "batch", "batches") == "1,200 batches"
    assert duration(0) == "0 seconds"
    assert short_hash("0x" + "ab" * 32) == "0xabab…abab"
    assert short_hash("0xab") == "0xab"
    assert exact_time(0) == "1970-01-01 00:00:00 UTC"
    assert exact_time(10**20) == "unknown"
    assert sentence("least stake of a host") == "Least stake of a host."
