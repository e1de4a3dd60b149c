"""The allocation is exactly the supply, and a file that is not is refused with the reason."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import PPM, TOTAL_SUPPLY, WEI_PER_OPEN, InputError
from openledger.tokenomics import load_allocation, parse_allocation


def shipped() -> dict[str, Any]:
    return json.loads(resources.files("openledger.tokenomics").joinpath("allocation.json").read_text())


def test_the_buckets_are_those_of_the_public_allocation() -> None:
    percent = {bucket.name: bucket.ppm / 10_000 for bucket in load_allocation().buckets}
    assert percent == {"community": 51.71, "ecosystem": 10, "investors": 18.29, "team": 15, "liquidity": 5}


def test_the_buckets_are_one_billion_open_to_the_wei() -> None:
    assert sum(bucket.total for bucket in load_allocation().buckets) == TOTAL_SUPPLY == 10**9 * WEI_PER_OPEN


def test_exactly_215_500_000_open_circulate_at_the_token_generation_event() -> None:
    assert load_allocation().circulating_at_tge == 215_500_000 * WEI_PER_OPEN


def test_team_and_investors_have_nothing_free_and_wait_twelve_months() -> None:
    for name in ("team", "investors"):
        bucket = load_allocation().bucket(name)
        assert (bucket.free, bucket.cliff_months, bucket.linear_months) == (0, 12, 36)


def test_an_unknown_bucket_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"no bucket 'teem'; there are community, .*team"):
        load_allocation().bucket("teem")


@given(st.integers(-PPM, PPM).filter(bool), st.integers(0, 4))
def test_a_bucket_of_any_other_size_is_refused(change: int, position: int) -> None:
    document = shipped()
    document["buckets"][position]["ppm"] += change
    with pytest.raises(InputError):
        parse_allocation(document)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["total"], "1000000001", "the supply is fixed"),
        (["month_seconds"], 0, "month_seconds is 0"),
        (["buckets"], [], "at least one bucket"),
        (["notes"], "none", "notes must be a list"),
        (["surprise"], 1, "unknown keys: surprise"),
        (["buckets", 0, "name"], "team", "stands twice"),
        (["buckets", 0, "ppm"], 517_100.0, "ppm is 517100.0"),
        (["buckets", 0, "ppm"], True, "ppm is True"),
        (["buckets", 0, "circulating_ppm_at_tge"], 517_101, "circulating_ppm_at_tge is 517101"),
        (["buckets", 2, "cliff_months"], -1, "cliff_months is -1"),
        (["buckets", 2, "linear_months"], 0, "give a rest its months"),
        (["buckets", 4, "linear_months"], 12, "no months without one"),
        (["buckets", 3, "purpose"], 7, "purpose must be a string"),
        (["buckets", 3, "colour"], "blue", "unknown keys: colour"),
        (["buckets", 1], "ecosystem", "must be a JSON object"),
    ],
)
def test_a_malformed_file_is_refused_with_what_is_wrong(path: list[Any], value: Any, message: str) -> None:
    document = shipped()
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InputError, match=message):
        parse_allocation(document)


def test_a_missing_key_is_named() -> None:
    document = shipped()
    del document["buckets"][1]["cliff_months"]
    with pytest.raises(InputError, match="bucket 'ecosystem' lacks cliff_months"):
        parse_allocation(document)
