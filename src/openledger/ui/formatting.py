"""Amounts, shares, times and hashes as short text. The exact value belongs in a tooltip beside it.

Digits are cut, never rounded up: a page never shows more OPEN or a larger share than there is.
"""

from __future__ import annotations

from datetime import UTC, datetime

from openledger.primitives import PPM, WEI_PER_OPEN, format_open

_COMPACT = ((10**9, "B"), (10**6, "M"), (10**3, "K"))
_DURATIONS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def amount(wei: int) -> str:
    """Wei as OPEN with about four significant digits: ``1,234``, ``12.3456``, ``0.0004123``, or ``12 wei`` for dust."""
    sign, size = ("-", -wei) if wei < 0 else ("", wei)
    if size == 0:
        return "0 OPEN"
    if size < 10**6:
        return f"{sign}{size:,} wei"
    if size >= 1_000 * WEI_PER_OPEN:
        places = 0 if size >= 100_000 * WEI_PER_OPEN else 2
    elif size >= WEI_PER_OPEN:
        places = 4
    else:
        places = 18 - len(str(size)) + 4
    cut = format_open(size, places)
    return f"{sign}{cut.rstrip('0').rstrip('.') if '.' in cut else cut} OPEN"


def exact_amount(wei: int) -> str:
    """Wei as OPEN with every digit, and the wei themselves."""
    return f"{format_open(wei)} OPEN = {wei:,} wei"


def compact_amount(wei: int) -> str:
    """A large amount in few characters: ``517.1M OPEN``. Below 100,000 OPEN it is the same as :func:`amount`."""
    whole = abs(wei) // WEI_PER_OPEN
    if whole < 100_000:
        return amount(wei)
    sign = "-" if wei < 0 else ""
    size, letter = next((size, letter) for size, letter in _COMPACT if whole >= size)
    hundredths = whole * 100 // size
    digits = f"{hundredths // 100}.{hundredths % 100:02d}".rstrip("0").rstrip(".")
    return f"{sign}{digits}{letter} OPEN"


def percent(ppm: int) -> str:
    """Parts per million as a percentage with at most two decimals; what is too small for them is ``<0.01%``."""
    if 0 < ppm < 100:
        return "<0.01%"
    sign, size = ("-", -ppm) if ppm < 0 else ("", ppm)
    hundredths = size * 10_000 // PPM
    digits = f"{hundredths // 100}.{hundredths % 100:02d}".rstrip("0").rstrip(".")
    return f"{sign}{digits}%"


def exact_ppm(ppm: int) -> str:
    """Parts per million with every digit."""
    return f"{ppm:,} of {PPM:,} parts (ppm)"


def short_hash(value: str) -> str:
    """A hash or address by its first and last four hex digits."""
    return value if len(value) <= 14 else f"{value[:6]}…{value[-4:]}"


def exact_time(seconds: int) -> str:
    """Unix seconds as a date and time in UTC; ``unknown`` outside the years that can be written."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def duration(seconds: int) -> str:
    """Seconds in the largest unit that divides them: ``7 days``, ``1 hour``, ``90 seconds``."""
    for size, unit in _DURATIONS:
        if seconds and seconds % size == 0:
            return plural(seconds // size, unit)
    return plural(seconds, "second")


def plural(number: int, noun: str, many: str = "") -> str:
    """A count with its noun: ``1 record``, ``1,200 records``."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def quantity(value: int, unit: str) -> str:
    """A runtime parameter's value in its unit (``ppm``, ``wei``, ``s``, ``switch``, ``count``; any other is written out)."""
    match unit:
        case "ppm":
            return percent(value)
        case "wei":
            return compact_amount(value)
        case "s":
            return duration(value)
        case "switch":
            return "on" if value else "off"
        case "" | "count":
            return f"{value:,}"
        case _:
            return f"{value:,} {unit}"


def sentence(text: str) -> str:
    """Text with a capital at its beginning and a full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
