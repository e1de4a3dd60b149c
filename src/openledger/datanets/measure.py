"""Measures the review: what juries reject of planted rows and of true ones. ``python -m openledger.datanets.measure``.

The planted rows are those of :mod:`openledger.datanets.adversary`. The figures hold for these tricks and this Datanet,
whose sources reviewers can look up; they say nothing on lies for which no source is listed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from openledger.datanets.adversary import TRICKS, BadRow, make_bad_rows, reworded
from openledger.datanets.exploits import load_records, load_terms
from openledger.datanets.gate import inspect
from openledger.datanets.records import Record
from openledger.datanets.review import (
    CarefulReviewer,
    DuplicateReviewer,
    FactReviewer,
    HastyReviewer,
    Reviewer,
    SourceReviewer,
    pack_bitmap,
    review,
    review_items,
    tally,
)

PANEL: tuple[Reviewer, ...] = (
    CarefulReviewer(),
    FactReviewer(),
    SourceReviewer(),
    DuplicateReviewer(),
    HastyReviewer(),
)
_JURY = 3
_COPIES = {"exact copy", "near copy", "paraphrase"}


@dataclass(frozen=True)
class Measurement:
    """What was rejected, in ppm of the rows given.

    Attributes:
        rows: number of rows.
        reviewers: by procedure.
        juries: mean over all juries of three different procedures.
        worst_jury: of the jury that rejects the fewest planted rows, or the most true ones.
        tricks: by trick, mean over juries; empty for true rows.
    """

    rows: int
    reviewers: dict[str, int]
    juries: int
    worst_jury: int
    tricks: dict[str, int]


def measure(seed: int = 1, count: int = 210) -> dict[str, Measurement]:
    """The review's figures with ``count`` planted rows.

    The cases: ``planted, originals known`` (the true records were there before), ``planted, originals unknown`` (they
    were not, so that copies are no copies and are left out), ``true records`` and ``true records in other words``.
    """
    records = load_records()
    planted = make_bad_rows(records, seed, count)
    fresh = [row for row in planted if row.trick not in _COPIES]
    own_words = [Record.from_json(reworded(record)) for record in records if record.facts]
    return {
        "planted, originals known": _planted(planted, records),
        "planted, originals unknown": _planted(fresh, []),
        "true records": _measured(_votes(records, []), False, {}),
        "true records in other words": _measured(_votes(own_words, []), False, {}),
    }


def _planted(rows: Sequence[BadRow], known: Sequence[Record]) -> Measurement:
    votes = _votes([row.record for row in rows], known)
    places = {
        trick: [place for place, row in enumerate(rows) if row.trick == trick]
        for trick in TRICKS
        if any(row.trick == trick for row in rows)
    }
    return _measured(votes, True, places)


def _votes(records: Sequence[Record], known: Sequence[Record]) -> dict[str, list[bool]]:
    terms = load_terms()
    items = review_items(records, inspect(records, terms.licence, terms, known))
    return {reviewer.name: [verdict.accept for verdict in review(reviewer, items)] for reviewer in PANEL}


def _measured(votes: Mapping[str, list[bool]], planted: bool, places: Mapping[str, Sequence[int]]) -> Measurement:
    count = len(next(iter(votes.values())))
    outcomes = [
        tally([pack_bitmap(votes[name]) for name in jury], count) for jury in itertools.combinations(votes, _JURY)
    ]
    rejected = [_rejected(outcome) for outcome in outcomes]
    return Measurement(
        rows=count,
        reviewers={name: _rejected(accepted) for name, accepted in votes.items()},
        juries=sum(rejected) // len(rejected),
        worst_jury=min(rejected) if planted else max(rejected),
        tricks={
            trick: sum(_rejected([outcome[place] for place in where]) for outcome in outcomes) // len(outcomes)
            for trick, where in places.items()
        },
    )


def _rejected(accepted: Sequence[bool]) -> int:
    return 1_000_000 * (len(accepted) - sum(accepted)) // len(accepted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures as a table, or with ``--json`` as one JSON object. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which rows are planted")
    parser.add_argument("--count", type=int, default=210, help="how many rows are planted")
    parser.add_argument("--json", action="store_true", help="print JSON, shares in ppm")
    options = parser.parse_args(arguments)
    figures = measure(options.seed, options.count)
    if options.json:
        sys.stdout.write(json.dumps({case: asdict(figure) for case, figure in figures.items()}, indent=2) + "\n")
        return 0
    for case, figure in figures.items():
        sys.stdout.write(
            f"{case}: {figure.rows} rows, juries of three reject {figure.juries / 10_000:.1f}% "
            f"(worst jury {figure.worst_jury / 10_000:.1f}%)\n"
        )
        for kind, shares in (("reviewer", figure.reviewers), ("trick", figure.tricks)):
            for name, share in shares.items():
                sys.stdout.write(f"    {kind} {name}: {share / 10_000:.1f}%\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
