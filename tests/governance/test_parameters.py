"""Parameters are written and shown as people write them, and stored as exact integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.chain import parameter_key
from openledger.governance import Parameter, Unit, decode_key, parse_value, show
from openledger.primitives import PPM, InputError


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32))
def test_a_name_survives_its_way_to_the_chain(key: str) -> None:
    assert decode_key(parameter_key(key)) == key


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        (Unit.PPM, "5%", 50_000),
        (Unit.PPM, "12.3456 %", 123_456),
        (Unit.PPM, "600_000", 600_000),
        (Unit.WEI, "0.05 OPEN", 5 * 10**16),
        (Unit.WEI, "50000000000000000", 5 * 10**16),
        (Unit.SECONDS, "3600", 3600),
        (Unit.SECONDS, "3,600 s", 3600),
        (Unit.SWITCH, "on", 1),
        (Unit.SWITCH, "off", 0),
        (Unit.COUNT, "3", 3),
    ],
)
def test_a_value_is_read_as_a_person_writes_it(unit: Unit, text: str, value: int) -> None:
    assert parse_value(unit, text) == value


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (Unit.PPM, "1.00001%"),
        (Unit.PPM, "half"),
        (Unit.WEI, "-1"),
        (Unit.SECONDS, "1h"),
        (Unit.COUNT, "5%"),
        (Unit.SWITCH, "yes"),
    ],
)
def test_a_value_that_is_none_is_refused(unit: Unit, text: str) -> None:
    with pytest.raises(InputError):
        parse_value(unit, text)


@given(st.sampled_from([Unit.PPM, Unit.WEI, Unit.SECONDS, Unit.COUNT]), st.integers(0, PPM))
def test_what_is_shown_reads_back_as_the_same_value(unit: Unit, value: int) -> None:
    assert parse_value(unit, show(unit, value)) == value


def test_a_value_out_of_bounds_is_refused_in_the_parameters_unit() -> None:
    share = Parameter("fee.data", 600_000, Unit.PPM, 0, PPM, "part of every fee")
    share.check(PPM)
    with pytest.raises(InputError, match=r"fee\.data cannot be 100\.0001%; it may be 0% to 100%"):
        share.check(PPM + 1)
