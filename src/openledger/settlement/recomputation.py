"""Comparing an answer and its attribution with what somebody else computes for the same request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openledger.primitives import to_hex
from openledger.settlement.receipts import PrivateBody, ReceiptBody


@dataclass(frozen=True)
class Recomputed:
    """What a recomputation of one receipt gave.

    Attributes:
        shares: (record hash, ppm) pairs.
        residual_ppm: the base model's part.
        prompt_tokens: length of the prompt.
        output_tokens: length of the answer.
        output: the answer as generated anew; None if it was taken as given.
    """

    shares: tuple[tuple[bytes, int], ...]
    residual_ppm: int
    prompt_tokens: int
    output_tokens: int
    output: str | None = None


Recompute = Callable[[ReceiptBody, PrivateBody], Recomputed]
"""Generates and attributes one answer anew; may raise any OpenLedgerError if it cannot."""


def sealed_hashes(body: ReceiptBody, private: PrivateBody) -> list[str]:
    """Where the private body is not what the receipt's hashes commit to; empty if it is."""
    pairs = (
        ("prompt hash", body.receipt.prompt_hash, private.prompt_hash),
        ("output hash", body.receipt.output_hash, private.output_hash),
    )
    return [
        f"{name} is {to_hex(signed)}, the body gives {to_hex(given)}"
        for name, signed, given in pairs
        if signed != given
    ]


def share_differences(body: ReceiptBody, recomputed: Recomputed, tolerance_ppm: int = 0) -> dict[str, int]:
    """By how many ppm each share is too high (or, negative, too low), where it is more than the tolerance.

    Keys are record hashes in hex, and ``residual``.
    """
    claimed = {to_hex(record): ppm for record, ppm in body.shares} | {"residual": body.residual_ppm}
    right = {to_hex(record): ppm for record, ppm in recomputed.shares} | {"residual": recomputed.residual_ppm}
    differences = {key: claimed.get(key, 0) - right.get(key, 0) for key in sorted(claimed.keys() | right.keys())}
    return {key: difference for key, difference in differences.items() if abs(difference) > tolerance_ppm}


def answer_differences(body: ReceiptBody, private: PrivateBody, recomputed: Recomputed) -> list[str]:
    """Where the answer or the counts of tokens differ, in words; empty if nowhere."""
    found = []
    if recomputed.output is not None and recomputed.output != private.output:
        found.append(f"the answer is {private.output[:60]!r}, generated anew {recomputed.output[:60]!r}")
    for name, signed, counted in (
        ("prompt", body.receipt.prompt_tokens, recomputed.prompt_tokens),
        ("output", body.receipt.output_tokens, recomputed.output_tokens),
    ):
        if signed != counted:
            found.append(f"{signed} {name} tokens are charged, counted {counted}")
    return found


def disagreements(body: ReceiptBody, private: PrivateBody, recomputed: Recomputed, tolerance_ppm: int = 0) -> list[str]:
    """Everything in which a receipt differs from its recomputation, in words; empty if nothing."""
    shares = share_differences(body, recomputed, tolerance_ppm)
    return [
        *sealed_hashes(body, private),
        *answer_differences(body, private, recomputed),
        *(f"the share of {key} is {abs(off):,} ppm too {'high' if off > 0 else 'low'}" for key, off in shares.items()),
    ]
