"""Which records an output is made of: its whitened gradient as a sum of theirs, each taken a non-negative number of times.

An output's gradient says what an adapter would have to learn to give it; a record's, what the record taught. The
records that together come closest to the output's gradient (non-negative least squares; Lawson & Hanson, 1974) explain a
part of its squared length, and that part splits exactly: a record's is its weight times its cosine with the output.

What pays and what does not follows from that:

- Once a record explains an output, a copy, a paraphrase or a piece of it has nothing left to explain.
- All parts together never exceed one, however many records are uploaded.
- Only directions count: a longer gradient earns no more.

Cosines that do not stand out from noise take no part: those at or below the record's own floor, and those within three
robust standard deviations of the query's crowd (``outstanding``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DEVIATIONS = 3 * 1.4826
_FEWEST = 8
_MOST = 64
_STEPS = 1_000_000
_RIDGE = 1e-9
_TOLERANCE = 1e-7


def outstanding(scores: NDArray[np.float64], floors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which scores of one query stand out both from the record's own noise and from the query's.

    Args:
        scores: for a query of length one [groups].
        floors: noise in each group's scores [groups].
    """
    noise = 0.0
    if len(scores) >= _FEWEST:
        middle = float(np.median(scores))
        noise = middle + _DEVIATIONS * float(np.median(np.abs(scores - middle)))
    found: NDArray[np.bool_] = scores > np.maximum(floors, noise)
    return found


def composition(cosines: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.int64]:
    """The part of the output that each record explains, in ppm of its squared length [records].

    Parts are not negative and sum to at most 1,000,000 up to rounding. Only the 64 largest cosines are considered.

    Args:
        cosines: of the output's gradient with each record's [records], in an order that does not depend on how the
            records are numbered, since equal records are told apart by it.
        directions: the records' gradients at length one [records, components].
    """
    parts = np.zeros(len(cosines), np.int64)
    chosen = np.argsort(-cosines, kind="stable")[:_MOST]
    chosen = chosen[cosines[chosen] > 0]
    near = directions[chosen].astype(np.float64)
    weights = nonnegative(near @ near.T, cosines[chosen])
    parts[chosen] = np.rint(_STEPS * weights * cosines[chosen]).astype(np.int64)
    return parts


def nonnegative(gram: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w >= 0 that makes ``w' gram w - 2 w' target`` least (Lawson & Hanson, 1974, chapter 23)."""
    count = len(target)
    weights = np.zeros(count)
    active: list[int] = []
    for _ in range(3 * count):
        slope = target - gram @ weights
        slope[active] = -np.inf
        steepest = int(np.argmax(slope))
        if slope[steepest] <= _TOLERANCE:
            break
        active.append(steepest)
        while True:
            inner = gram[np.ix_(active, active)] + _RIDGE * np.eye(len(active))
            wanted = np.linalg.solve(inner, target[active])
            if (wanted > 0).all():
                break
            held = weights[active]
            falling = wanted <= 0
            step = float((held[falling] / (held[falling] - wanted[falling])).min())
            weights[active] = held + step * (wanted - held)
            gone = [place for place in active if weights[place] <= _TOLERANCE]
            weights[gone] = 0.0
            active = [place for place in active if place not in gone]
        weights[:] = 0.0
        weights[active] = wanted
    return weights
