"""A recomputation is compared to the ppm."""

from __future__ import annotations

import pytest
from eth_utils.address import to_checksum_address

from openledger.primitives import PPM, ZERO_HASH, Receipt, keccak, to_hex
from openledger.settlement import (
    PrivateBody,
    ReceiptBody,
    Recomputed,
    disagreements,
    share_differences,
    shares_root,
)

ACCOUNT = to_checksum_address(keccak(b"account")[-20:])
RECORDS = sorted(keccak(bytes([position])) for position in range(3))
PRIVATE = PrivateBody("Why?", b"\1" * 32, "Because.", b"\2" * 32)
SHARES = ((RECORDS[0], 300_000), (RECORDS[1], 200_000))


def body(shares: tuple[tuple[bytes, int], ...] = SHARES) -> ReceiptBody:
    residual = PPM - sum(ppm for _, ppm in shares)
    receipt = Receipt(
        0, 1, ACCOUNT, ACCOUNT, PRIVATE.prompt_hash, PRIVATE.output_hash, 2, 3, 5, shares_root(shares, residual), 0, 0
    )
    return ReceiptBody(receipt, bytes(65), shares, residual, ZERO_HASH)


def test_an_equal_recomputation_has_no_difference() -> None:
    same = Recomputed(SHARES, 500_000, 2, 3, "Because.")
    assert disagreements(body(), PRIVATE, same) == []


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Recomputed(SHARES, 500_000, 2, 3, "Whatever."), "the answer is 'Because.', generated anew 'Whatever.'"),
        (Recomputed(SHARES, 500_000, 9, 3, None), "2 prompt tokens are charged, counted 9"),
        (Recomputed(SHARES, 500_000, 2, 1, None), "3 output tokens are charged, counted 1"),
        (
            Recomputed(((RECORDS[0], 299_999), (RECORDS[1], 200_001)), 500_000, 2, 3),
            f"the share of {to_hex(RECORDS[0])} is 1 ppm too high",
        ),
        (Recomputed(SHARES[:1], 700_000, 2, 3), "the share of residual is 200,000 ppm too low"),
    ],
)
def test_every_difference_is_named_with_its_size(other: Recomputed, expected: str) -> None:
    assert expected in disagreements(body(), PRIVATE, other)


def test_a_private_body_that_does_not_open_the_hashes_is_found() -> None:
    other = PrivateBody("Why?", b"\1" * 32, "Because!", b"\2" * 32)
    found = disagreements(body(), other, Recomputed(SHARES, 500_000, 2, 3))
    assert [text.split(" is ")[0] for text in found] == ["output hash"]


def test_a_tolerance_forgives_up_to_itself() -> None:
    near = Recomputed(((RECORDS[0], 300_004), (RECORDS[2], 5), (RECORDS[1], 199_994)), 499_997, 2, 3)
    assert share_differences(body(), near, 5) == {to_hex(RECORDS[1]): 6}
    assert share_differences(body(), near, 6) == {}
