"""Amounts lost, as incident lists report them: said in one spelling, and read back as numbers.

Nothing is converted from one currency into another: an amount without a currency stays one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

NOT_REPORTED = "not reported"

_NUMBER = r"\d+(?:,\d+)*(?:\.\d+)?|\.\d+"
_TICKER = r"(?-i:[A-Za-z]*[A-Z][A-Za-z]*[A-Z][A-Za-z]*(?:[-.][A-Za-z]+)?|eth)"
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "million": 10**6, "b": 10**9, "billion": 10**9, "thousand": 10**3}
_SPOKEN_SCALES = {"": "", "k": "K", "thousand": "K", "m": " million", "million": " million", "b": " billion",
                  "billion": " billion"}  # fmt: skip
_REPORTED = re.compile(
    rf"""(?P<more>[~>]|\bover\b|\babout\b)?\s*(?P<dollar>US\$|\$)?\s*~?\s*(?P<number>(?>{_NUMBER}))
    (?:\s*(?P<scale>million|billion|thousand|[kmb])(?![a-z]))?(?P<plus>\+)?
    \s*(?P<tail>\$)?(?P<currency>{_TICKER}(?![a-z]))?""",
    re.VERBOSE | re.IGNORECASE,
)
_DOLLARS = {"", "us", "usd"}

_SPECIAL = {
    "All funds returned": "all funds were returned",
    "Unclear": NOT_REPORTED,
    "unknown": NOT_REPORTED,
    "0 (Disclosure only; no exploit occurred)": "nothing (disclosure only)",
    "20 million Optimism (OP) tokens returned 17 million of them": "20 million OP (17 million later returned)",
    "BEUR stablecoin and ALBT Token (~88M US$)": "about $88 million in BEUR and ALBT",
    "Bad Guys by RPF(400 NFTs)": "400 NFTs",
    "Multiple ERC-20 Tokens (~1.7M US$)": "about $1.7 million in several tokens",
    "Multiple ERC-20 Tokens (~152M US$)": "about $152 million in several tokens",
    "Multiple Tokens ~$15.8M US$": "about $15.8 million in several tokens",
    "~250k US$ which resulted in ~50k profit": "about $250K",
    "~ 353.8 K (17814,86 USDC, 1,4085 WBTC, 119,87 WETH)": "about 353.8K",
    "~$10 ETH": "about 10 ETH",
}
"""Reports that follow no rule, each read by hand."""


@dataclass(frozen=True)
class Amount:
    """``value`` units of ``currency`` (upper case; ``"$"`` for US dollars, empty where the report names none)."""

    value: Decimal
    currency: str

    def __str__(self) -> str:
        return f"${self.value:,f}" if self.currency == "$" else f"{self.value:,f} {self.currency}".rstrip()


def spoken_loss(reported: str | None) -> str:
    """How a record says a reported loss: ``"~$1.4M"`` becomes ``"about $1.4 million"``.

    At most four amounts are kept, remarks in brackets and decimals beyond the second are left out. A missing report
    gives ``"not reported"``.
    """
    if not reported:
        return NOT_REPORTED
    if reported in _SPECIAL:
        return _SPECIAL[reported]
    if reported.startswith("N/A"):
        return "nothing (a demonstration)"
    plain = re.sub(r"\s*\([^)]*\)", "", reported)
    parts = [_spoken(match) for match in _REPORTED.finditer(plain.split(" drained")[0])]
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]


def amounts(text: str) -> list[Amount]:
    """The amounts named in a text, in order: numbers with a currency, a scale or grouped digits. Days are none."""
    return [Amount(_value(match), _currency(match)) for match in _amounts(_without_days(text))]


def without_amounts(text: str) -> str:
    """The text with every amount and ISO day left out."""
    plain = _without_days(text)
    for match in reversed(_amounts(plain)):
        plain = f"{plain[: match.start()]} {plain[match.end() :]}"
    return plain


def _without_days(text: str) -> str:
    """The text without ISO days; runs of spaces become one, so that the pattern's time stays linear in them."""
    return re.sub(r"\s+", " ", re.sub(r"\d{4}-\d{2}-\d{2}", " ", text))


def _amounts(text: str) -> list[re.Match[str]]:
    return [
        match
        for match in _REPORTED.finditer(text)
        if not _glued(text[: match.start("number")][-1:])
        and (_currency(match) or match["scale"] or "," in match["number"])
    ]


def _glued(before: str) -> bool:
    """Whether a number belongs to the name before it, as in ERC-4626 or v2."""
    return before.isalnum() or before in {"-", "_", "."}


def _number(text: str) -> Decimal:
    if re.fullmatch(r"\d,\d{1,2}", text):
        return Decimal(text.replace(",", "."))
    return Decimal(text.replace(",", "").rstrip("."))


def _value(match: re.Match[str]) -> Decimal:
    return _number(match["number"]) * _SCALES[(match["scale"] or "").lower()]


def _currency(match: re.Match[str]) -> str:
    named = match["currency"] or ""
    if named.lower() in _DOLLARS:
        return "$" if match["dollar"] or match["tail"] or named else ""
    return named.upper()


def _spoken(match: re.Match[str]) -> str:
    number = _number(match["number"])
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -2:
        number = number.quantize(Decimal("0.01") if number >= 1 else Decimal("0.0001")).normalize()
    digits = f"{number:,f}" if number >= 10_000 or "," in match["number"] else f"{number:f}"
    amount = digits + _SPOKEN_SCALES[(match["scale"] or "").lower()]
    named = match["currency"] or ""
    if named.lower() in _DOLLARS:
        amount = f"${amount}" if match["dollar"] or match["tail"] or named else amount
    else:
        amount += f" {named.upper() if named.lower() == 'eth' else named}"
    qualifier = {"~": "about ", "about": "about ", ">": "over ", "over": "over "}.get((match["more"] or "").lower(), "")
    if not qualifier and "~" in match[0]:
        qualifier = "about "
    return ("over " if match["plus"] else qualifier) + amount
