"""Secrets and personal data that must not be in a Datanet: what is looked for, and how sure a find is.

Every pattern that has a checksum is checked against it (bank cards by Luhn, IBANs by mod 97, mnemonics by BIP-39), so
that hashes and addresses, of which such data is full, are not called secrets. What is not looked for: names and
postal addresses of people, pictures. A clean result is therefore no promise; reviewers read the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache

from eth_account.hdaccount.mnemonic import Mnemonic
from eth_account.types import Language


def _is_number(text: str) -> bool:
    return 9 <= sum(sign.isdigit() for sign in text) <= 15


def _luhn(text: str) -> bool:
    digits = [int(sign) for sign in reversed(text) if sign.isdigit()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0 and len(set(digits)) > 1


def _iban(text: str) -> bool:
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


_PATTERNS: tuple[tuple[str, str, Callable[[str], bool] | None], ...] = (
    ("private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY", None),
    ("private key", r"(?i:private[ _-]?key|secret[ _-]?key)\W{0,8}(?:0x)?[0-9a-fA-F]{64}\b", None),
    ("access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", None),
    ("access token", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{60,}|\bxox[abprs]-[A-Za-z0-9-]{10,}", None),
    ("access token", r"\bsk-[A-Za-z0-9_-]{20,}", None),
    ("access token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", None),
    ("password", r"(?i:\b(?:password|passwd|pwd)\s*[:=]\s*)\S{6,}", None),
    ("e-mail address", r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b", None),
    ("telephone number", r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{2,4}\)?){2,4}\b(?!\.\d)", _is_number),
    ("bank card", r"\b\d(?:[ -]?\d){12,18}\b", _luhn),
    ("bank account", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", _iban),
    ("social security number", r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b", None),
)  # fmt: skip
_COMPILED = tuple((kind, re.compile(pattern), confirm) for kind, pattern, confirm in _PATTERNS)
_MNEMONIC_LENGTHS = (24, 21, 18, 15, 12)


def find_private(text: str) -> list[tuple[str, str]]:
    """The secrets and personal data in a text as (kind, masked find), each once; empty when nothing was found."""
    found = [
        (kind, _masked(match[0]))
        for kind, pattern, confirm in _COMPILED
        for match in pattern.finditer(text)
        if confirm is None or confirm(match[0])
    ]
    found += [("mnemonic", _masked(phrase)) for phrase in _mnemonics(text)]
    return list(dict.fromkeys(found))


def _masked(text: str) -> str:
    return f"{text[:4]}… ({len(text)} characters)"


@cache
def _english() -> tuple[Mnemonic, frozenset[str]]:
    mnemonic = Mnemonic(Language.ENGLISH)
    return mnemonic, frozenset(mnemonic.wordlist)


def _mnemonics(text: str) -> Iterator[str]:
    mnemonic, listed = _english()
    run: list[str] = []
    for word in [*re.findall(r"[a-z]+|[^a-z\s,]", text.lower()), ""]:
        if word in listed:
            run.append(word)
            continue
        yield from _valid(run, mnemonic)
        run = []


def _valid(run: list[str], mnemonic: Mnemonic) -> Iterator[str]:
    start = 0
    while start + _MNEMONIC_LENGTHS[-1] <= len(run):
        for length in _MNEMONIC_LENGTHS:
            phrase = " ".join(run[start : start + length])
            if start + length <= len(run) and mnemonic.is_mnemonic_valid(phrase):
                yield phrase
                start += length
                break
        else:
            start += 1
