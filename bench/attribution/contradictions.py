"""How many false facts ``openledger.attribution.contradictions`` finds, and how many honest records it accuses.

``python -m bench.attribution.contradictions`` writes ``bench/results/contradictions.json``. The Datanet's incidents are halved
by hash; the thresholds were chosen on the first half, with other seeds, and the figures are from the second. Trusted are
all its records, or 48 of them, drawn twenty times. Looked at are: a record with one fact changed in the four ways of
``datanets.adversary``, the same in other words, a record with both amount and date changed; and, to be let alone, copies, a
paraphrase of every record, and every record itself, compared with the others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openledger.attribution import Statement, contradictions
from openledger.datanets import Record, load_records, make_bad_rows, reworded
from openledger.datanets.adversary import _wrong_date

RESULTS = Path(__file__).parents[1] / "results" / "contradictions.json"
SEED = 4711
SMALL, DRAWS = 48, 20
LIES = ("wrong amount", "wrong date", "wrong protocol", "swapped cause")


def said(record: Record) -> Statement:
    """The record as people read it."""
    return Statement(record.question, record.answer)


def in_other_words(record: Record) -> Record:
    """The record as a paraphrase."""
    return Record.from_json(reworded(record))


def trial(trusted: Sequence[Record], seed: int) -> dict[str, list[bool]]:
    """Which records were flagged, by what they are."""
    looked_at: dict[str, list[Record]] = {"honest": list(trusted), "paraphrase": [in_other_words(r) for r in trusted]}
    for row in make_bad_rows(trusted, seed, len(trusted) // 7 * 7):
        if row.trick != "paraphrase":
            looked_at.setdefault(row.trick, []).append(row.record)
        if row.trick in LIES:
            looked_at.setdefault(f"{row.trick}, reworded", []).append(in_other_words(row.record))
        if row.trick == "wrong amount":
            twice = Record.from_json(_wrong_date(row.record, trusted, random.Random(seed)))
            looked_at.setdefault("wrong amount and date", []).append(twice)
    known = [said(record) for record in trusted]
    return {
        kind: [found is not None for found in contradictions([said(record) for record in records], known)]
        for kind, records in looked_at.items()
    }


def main() -> None:
    """Runs, prints and writes the result."""
    incidents = sorted((record for record in load_records() if len(record.facts) == 4), key=lambda record: record.hash)
    half = incidents[1::2]
    rows: list[dict[str, Any]] = []
    for size, draws in ((len(half), 1), (SMALL, DRAWS)):
        flagged: dict[str, list[bool]] = {}
        for draw in range(draws):
            trusted = half if size == len(half) else random.Random(SEED + draw).sample(half, size)
            for kind, found in trial(trusted, SEED + draw).items():
                flagged.setdefault(kind, []).extend(found)
        for kind, found in flagged.items():
            rows.append({"trusted": size, "kind": kind, "records": len(found), "flagged": sum(found)})
            print(json.dumps(rows[-1]), flush=True)
    RESULTS.write_text(
        json.dumps({"command": "python -m bench.attribution.contradictions", "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
