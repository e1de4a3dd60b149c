"""OPEN in integers of wei (1 OPEN = 10**18 wei) and shares in integers of parts per million (ppm)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from openledger.primitives.errors import InputError

WEI_PER_OPEN = 10**18
PPM = 1_000_000
TOTAL_SUPPLY = 1_000_000_000 * WEI_PER_OPEN
"""The fixed supply of OPEN in wei."""

_DECIMAL = re.compile(r"(\d{1,30})(?:\.(\d{1,18}))?", re.ASCII)


def parse_open(text: str) -> int:
    """Wei of an amount of OPEN written as a decimal, such as ``"12.5"``; underscores may group digits.

    Raises:
        InputError: not such a decimal, negative, or finer than one wei.
    """
    match = _DECIMAL.fullmatch(text.strip().removesuffix("OPEN").strip().replace("_", ""))
    if match is None:
        raise InputError(f"not an amount of OPEN: {text!r}; write a decimal with at most 18 places, such as 12.5")
    whole, fraction = match.group(1), match.group(2) or ""
    return int(whole) * WEI_PER_OPEN + int(fraction.ljust(18, "0"))


def format_open(wei: int, places: int | None = None) -> str:
    """An amount in OPEN, exact by default; ``places`` cuts (never rounds up) after so many decimals."""
    sign, wei = ("-", -wei) if wei < 0 else ("", wei)
    whole, fraction = divmod(wei, WEI_PER_OPEN)
    digits = f"{fraction:018d}"
    digits = digits.rstrip("0") if places is None else digits[:places]
    return f"{sign}{whole:,}" + (f".{digits}" if digits else "")


def mul_ppm(amount: int, ppm: int) -> int:
    """``amount * ppm / 1,000,000`` rounded down."""
    return amount * ppm // PPM


def apportion(weights: Sequence[int | Fraction], total: int) -> list[int]:
    """Integers that sum to ``total`` exactly and are proportional to ``weights`` (largest remainder).

    Equal remainders go to the earlier position. With no positive weight, all parts are 0 unless ``total`` is 0.

    Raises:
        InputError: a weight or the total is negative, or the weights are all zero while ``total`` is not.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise InputError(f"cannot apportion {total} by {list(weights)[:8]}: neither may be negative")
    whole = sum(weights)
    if whole == 0:
        if total:
            raise InputError(f"cannot apportion {total}: every weight is zero")
        return [0] * len(weights)
    parts, remainders = [], []
    for position, weight in enumerate(weights):
        exact = Fraction(weight) * total / whole
        floor = exact.numerator // exact.denominator
        parts.append(floor)
        remainders.append((floor - exact, position))
    for _, position in sorted(remainders)[: total - sum(parts)]:
        parts[position] += 1
    return parts
