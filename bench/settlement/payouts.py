"""What it costs to compute payouts: CPU time per receipt as contributors, and shares per receipt, grow.

    python bench/settlement/payouts.py --output bench/results/payouts.json

Pure computation on one thread; no chain. Each row: contributors, receipts, shares per receipt, milliseconds of CPU per
receipt, seconds for the Merkle tree over all accounts, wei of dust per receipt.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

from eth_utils.address import to_checksum_address

from openledger.primitives import PPM, ZERO_HASH, Receipt, apportion, keccak
from openledger.settlement import (
    Batch,
    FeeSplit,
    Model,
    Origin,
    ReceiptBody,
    Terms,
    Version,
    payouts,
    shares_root,
    sort_shares,
)

ROWS_EACH, CURATORS, FEE = 10, 50, 10**15
SIZES = ((100, 2000, 10), (1000, 2000, 10), (10_000, 2000, 10), (1000, 2000, 1), (1000, 2000, 100))


def account(name: str) -> str:
    """A made-up address."""
    return to_checksum_address(keccak(name.encode())[-20:])


def measure(contributors: int, receipts: int, shares: int, seed: int = 0) -> dict[str, float]:
    """One row of the table."""
    generator = random.Random(seed)
    records = [keccak(b"record", number.to_bytes(4, "big")) for number in range(contributors * ROWS_EACH)]
    people = [account(f"contributor {number}") for number in range(contributors)]
    curators = [account(f"curator {number}") for number in range(CURATORS)]
    version = Version(
        1, 1, ZERO_HASH,
        {record: Origin(people[n % contributors], tuple(generator.sample(curators, 3))) for n, record in enumerate(records)},
    )  # fmt: skip
    host, consumer, treasury = account("host"), account("consumer"), account("treasury")
    bodies = []
    for sequence in range(receipts):
        weights = [generator.randint(1, 100) for _ in range(shares + 1)]
        residual, *parts = apportion(weights, PPM)
        pairs = sort_shares(zip(generator.sample(records, shares), parts, strict=True))
        receipt = Receipt(
            sequence, 1, consumer, host, ZERO_HASH, ZERO_HASH, 1, 1, FEE, shares_root(pairs, residual), 0, 0
        )
        bodies.append(ReceiptBody(receipt, bytes(65), pairs, residual, ZERO_HASH))
    batch = Batch(1, host, 0, receipts, ZERO_HASH, FeeSplit(600_000, 150_000, 120_000, 50_000, 50_000), 500_000, (2, 0))
    terms = Terms(
        treasury, (batch,), {1: Model(1, (1, 1), (((1, 0), treasury),))}, {(1, 1): version},
        {(consumer, host): FEE * receipts},
    )  # fmt: skip
    start = time.process_time()
    paid = payouts(bodies, terms)
    computed = time.process_time()
    assert paid.root != ZERO_HASH
    assert paid.total + paid.dust == FEE * receipts
    treed = time.process_time()
    return {
        "contributors": contributors,
        "receipts": receipts,
        "shares": shares,
        "ms_per_receipt": round((computed - start) / receipts * 1000, 4),
        "tree_s": round(treed - computed, 3),
        "dust_wei_per_receipt": round(paid.dust / receipts, 1),
    }


def main() -> None:
    """Measures every size and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    rows = [measure(*size) for size in SIZES]
    parser.parse_args().output.write_text(json.dumps({"fee_wei": FEE, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
