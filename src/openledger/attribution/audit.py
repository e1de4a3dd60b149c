"""How right the attribution is: its linear datamodelling score (LDS), measured by real retraining.

Random halves of the records are trained on from the same start with the same schedule. For each query the Spearman
correlation is taken, over the halves, between the loss that the scores predict (minus the sum of the scores of the
records that were kept) and the loss that really came out; the LDS is its mean over queries (Park et al., 2023, "TRAK").
At contributor level whole contributors are kept or left out. Intervals are percentile bootstrap over queries and
retrainings together.

Leaving out one contributor at a time tells how far off the estimate of what each of them did to each output is: scores
are turned into nats by the slope between predicted and real losses over the halves, and the error is given beside
what really happened.

Results of a retraining are written one by one, so that an audit that is stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openledger.primitives.canonical import canonical_bytes, parse_json
from openledger.primitives.errors import InputError, StorageError
from openledger.primitives.hashing import keccak, to_hex

_FEWEST = 3
FEWEST_CONTRIBUTORS = 4
"""Fewer have too few halves to tell anything."""

Retrain = Callable[[NDArray[np.float64]], Sequence[float]]
"""Trains with these weights of the records [records] and gives the loss in nats of every query [queries]."""


@dataclass(frozen=True, slots=True)
class Score:
    """An LDS with its 95% interval; ``per_query`` has the correlation of each query."""

    lds: float
    low: float
    high: float
    per_query: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Estimated against real changes of the queries' losses when one contributor at a time is left out.

    Attributes:
        contributors: how many were left out.
        error: root mean square of estimate less real change, as a part of that of the real changes; 1 is what estimating
            no change at all would give.
        correlation: Pearson correlation of estimates and changes over queries and contributors.
    """

    contributors: int
    error: float
    correlation: float


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        records: LDS over random halves of the records.
        contributors: LDS over random halves of the contributors; None with fewer than ``FEWEST_CONTRIBUTORS``.
        retrainings: number of retrainings behind each.
        nats_per_unit: what a score of one changes an output's loss by, from the halves of the records.
        left_out: leaving out one contributor at a time; None if it was not asked for.
        spans: the LDS of verbatim spans over the same halves of the records; None if they were not given.
    """

    records: Score
    contributors: Score | None
    retrainings: int
    nats_per_unit: float
    left_out: LeftOut | None = None
    spans: Score | None = None

    def to_json(self) -> dict[str, object]:
        """As a model card carries it."""

        def plain(score: Score | None) -> dict[str, object] | None:
            return None if score is None else {"lds": score.lds, "interval": [score.low, score.high]}

        return {
            "records": plain(self.records),
            "contributors": plain(self.contributors),
            "retrainings": self.retrainings,
            "nats_per_unit": self.nats_per_unit,
            "left_out": None if self.left_out is None else asdict(self.left_out),
            "spans": plain(self.spans),
        }


def audit(
    scores: NDArray[np.float32],
    contributors: Sequence[object],
    retrain: Retrain,
    folder: Path,
    *,
    retrainings: int = 24,
    seed: int = 0,
    contributor_retrainings: int | None = None,
    losses: Sequence[float] | None = None,
    spans: NDArray[np.float32] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Measure the LDS of scores by retraining.

    Args:
        scores: influence [queries, records] to be judged.
        contributors: who gave each record [records].
        retrain: trains on weighted records and measures the queries' losses; the cost is ``retrainings`` calls, and as
            many again at contributor level.
        folder: where results are kept and taken up again.
        retrainings: random halves at each level, at least 3.
        seed: of the random halves.
        contributor_retrainings: halves of the contributors, the same as ``retrainings`` when None; 0 for none.
        losses: losses of the queries under the model itself, in nats; with them each contributor is left out once.
        spans: what verbatim spans say instead [queries, records], to be judged beside the scores.
        progress: told (done, all) after each retraining.

    Raises:
        InputError: shapes do not fit, or there are too few retrainings or records.
        StorageError: the folder belongs to another audit.
    """
    if scores.ndim != 2 or scores.shape[1] != len(contributors) or scores.shape[1] < 2 or not scores.shape[0]:
        raise InputError(
            f"scores of shape {scores.shape} do not fit {len(contributors)} records; two are needed at least"
        )
    halves = retrainings if contributor_retrainings is None else contributor_retrainings
    for number in (retrainings, halves or _FEWEST):
        if number < _FEWEST:
            raise InputError(f"{number} retrainings tell nothing; use at least {_FEWEST}")
    names = sorted({str(name) for name in contributors})
    owner = np.asarray([names.index(str(name)) for name in contributors])
    plans = {"records": subsets(scores.shape[1], retrainings, seed)}
    if len(names) >= FEWEST_CONTRIBUTORS and halves:
        plans["contributors"] = subsets(len(names), halves, seed + 1)[:, owner]
    if losses is not None:
        plans["left-out"] = np.arange(len(names))[:, None] != owner
    _begin(folder, plans)
    total, done = sum(len(kept) for kept in plans.values()), 0
    real: dict[str, NDArray[np.float64]] = {}
    for level, kept in plans.items():
        rows = []
        for number, mask in enumerate(kept):
            rows.append(_once(folder / f"{level}-{number}.json", mask, retrain, scores.shape[0]))
            done += 1
            if progress:
                progress(done, total)
        real[level] = np.asarray(rows)
    found = {level: lds(scores, plans[level], real[level], seed=seed) for level in plans if level != "left-out"}
    slope = nats_per_unit(scores, plans["records"], real["records"])
    left_out = None
    if losses is not None:
        left_out = _left_out(scores, plans["left-out"], real["left-out"] - np.asarray(losses), slope)
    verbatim = None if spans is None else lds(spans, plans["records"], real["records"], seed=seed)
    return Audit(found["records"], found.get("contributors"), retrainings, slope, left_out, verbatim)


def nats_per_unit(scores: NDArray[np.float32], kept: NDArray[np.bool_], losses: NDArray[np.float64]) -> float:
    """The least-squares slope of real on predicted losses over retrainings, each query about its own mean.

    Args:
        scores, kept, losses: as for :func:`lds`.
    """
    predicted = -(kept.astype(np.float64) @ scores.T.astype(np.float64))
    predicted = predicted - predicted.mean(axis=0)
    real = losses - losses.mean(axis=0)
    whole = float((predicted**2).sum())
    return float((predicted * real).sum()) / whole if whole > 0 else 0.0


def _left_out(
    scores: NDArray[np.float32], kept: NDArray[np.bool_], changes: NDArray[np.float64], slope: float
) -> LeftOut:
    estimated = slope * ((~kept).astype(np.float64) @ scores.T.astype(np.float64))
    size = float(np.sqrt((changes**2).mean()))
    error = float(np.sqrt(((estimated - changes) ** 2).mean()))
    constant = estimated.std() == 0 or changes.std() == 0
    correlation = 0.0 if constant else float(np.corrcoef(estimated.ravel(), changes.ravel())[0, 1])
    return LeftOut(len(kept), error / size if size > 0 else 0.0, correlation)


def subsets(count: int, number: int, seed: int) -> NDArray[np.bool_]:
    """Random halves of ``count`` things, bool [number, count]; the same for the same seed everywhere."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(count) < count // 2 for _ in range(number)])


def lds(
    scores: NDArray[np.float32],
    kept: NDArray[np.bool_],
    losses: NDArray[np.float64],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Score:
    """The linear datamodelling score.

    Args:
        scores: influence [queries, records]; larger lowers the loss.
        kept: which records each retraining kept [retrainings, records].
        losses: what came out [retrainings, queries], nats.
        draws: bootstrap draws over queries and retrainings together; 0 for none.
        seed: of the draws.

    Raises:
        InputError: shapes do not fit.
    """
    if scores.shape != (losses.shape[1], kept.shape[1]) or len(kept) != len(losses):
        raise InputError(f"scores {scores.shape}, subsets {kept.shape} and losses {losses.shape} do not fit")
    predicted = -(scores.astype(np.float64) @ kept.T.astype(np.float64))
    actual = losses.T
    per_query = _spearman(predicted, actual)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        queries = generator.integers(0, len(actual), len(actual))
        runs = generator.integers(0, len(kept), len(kept))
        means.append(float(_spearman(predicted[np.ix_(queries, runs)], actual[np.ix_(queries, runs)]).mean()))
    low, high = np.quantile(means, [0.025, 0.975]) if means else (float("nan"), float("nan"))
    return Score(float(per_query.mean()), float(low), float(high), tuple(per_query.tolist()))


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlation of each row, equal values sharing their mean rank; 0 where a row is constant."""
    first, second = _ranks(left), _ranks(right)
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    products = (first * second).sum(axis=1)
    found: NDArray[np.float64] = np.divide(products, scale, out=np.zeros_like(scale), where=scale > 0)
    return found


def _ranks(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.empty(rows.shape)
    for place, row in enumerate(rows):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        found[place] = (ends - (counts - 1) / 2)[inverse]
    return found


def _begin(folder: Path, plans: dict[str, NDArray[np.bool_]]) -> None:
    """Make the folder, or make sure that it belongs to this very plan."""
    plan = canonical_bytes({level: to_hex(keccak(np.packbits(kept).tobytes())) for level, kept in plans.items()})
    path = folder / "plan.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plan)
    elif path.read_bytes() != plan:
        raise StorageError(f"{folder} holds another audit; give an empty folder")


def _once(path: Path, mask: NDArray[np.bool_], retrain: Retrain, queries: int) -> list[float]:
    """The losses of one retraining, from its file when it was done before."""
    if path.exists():
        losses = [float(loss) for loss in parse_json(path.read_bytes())]
    else:
        losses = [float(loss) for loss in retrain(mask.astype(np.float64))]
    if len(losses) != queries or not np.isfinite(losses).all():
        raise InputError(f"a retraining gave {len(losses)} losses for {queries} queries, or one that is not finite")
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(losses))
        fresh.replace(path)
    return losses
