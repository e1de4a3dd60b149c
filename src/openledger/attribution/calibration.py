"""What a score is measured against: the noise in each record's scores, outliers, and the base model's own part.

Probes are questions that a record has no business in: the other records' own answers (those of its near-duplicates
excluded) and unrelated queries. All embeddings are brought to length one first, so that the numbers hold for a query of
length one.

- A record's floor is the median of its scores on the probes plus three robust standard deviations (1.4826 times the
  median absolute deviation; Hampel, 1974).
- A record whose code is longer than twice the median is an outlier; its scores are scaled down to that length.
- Each query has noise of its own: an output that no record shaped in particular, such as the answer to an unrelated
  question, leans a little on hundreds of them. What counts is what stands out from the crowd: more than the median of
  the query's scores plus eight robust standard deviations (``evidence``).
- The base model's part is what all evidence stands beside: the 90th percentile, over the probes, of the evidence for
  all records together, and at least a quarter of a typical record's score on its own answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROBUST = 1.4826
_RECORD_DEVIATIONS = 3 * _ROBUST
_QUERY_DEVIATIONS = 8 * _ROBUST
_OUTLIER = 2.0
_FEWEST = 8
_DEFAULT_FLOOR = 0.1
_LEAST_MASS = 0.25


@dataclass(frozen=True, slots=True)
class Calibration:
    """See the attributes of ``InfluenceIndex``; lengths and floors have one number for each record."""

    floors: Tensor
    lengths: Tensor
    unit: float
    cap: float
    base_mass: float


def calibrate(codes: Tensor, clusters: NDArray[np.int64], probes: Tensor, owners: Sequence[int]) -> Calibration:
    """Measure the noise.

    Args:
        codes: the records' codes [records, components].
        clusters: groups of near-duplicates [records].
        probes: embeddings of questions [probes, components].
        owners: the record whose own answer each probe is, -1 for an unrelated query [probes].
    """
    lengths = codes.norm(dim=1)
    positive = lengths[lengths > 0]
    unit = float(positive.median()) if len(positive) else 1.0
    cap = _OUTLIER * unit
    capped = (codes * (cap / lengths.clamp(min=cap))[:, None]).numpy()
    directions = (probes / probes.norm(dim=1, keepdim=True).clamp(min=1e-30)).numpy()
    own = np.asarray([clusters[owner] if owner >= 0 else -1 for owner in owners])
    found = np.where(clusters[:, None] == own, np.nan, capped @ directions.T)
    enough = (~np.isnan(found)).sum(axis=1) >= _FEWEST
    floors = np.full(len(codes), _DEFAULT_FLOOR) * np.minimum(lengths.numpy(), cap)
    if enough.any():
        noise = found[enough]
        middle = np.nanmedian(noise, axis=1)
        deviation = np.nanmedian(np.abs(noise - middle[:, None]), axis=1)
        floors[enough] = np.maximum(middle + _RECORD_DEVIATIONS * deviation, 0.0)
    order = np.unique(clusters, return_inverse=True)[1]
    group_floors = _group_means(floors[:, None], order)[:, 0]
    groups = _group_means(found, order)
    masses = [evidence(scores[~np.isnan(scores)], group_floors[~np.isnan(scores)]).sum() for scores in groups.T]
    typical = float(np.quantile(masses, 0.9)) if len(masses) >= _FEWEST else 0.0
    return Calibration(
        floors=torch.from_numpy(floors).float(),
        lengths=lengths,
        unit=unit,
        cap=cap,
        base_mass=max(typical, _LEAST_MASS * unit),
    )


def evidence(scores: NDArray[np.float64], floors: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much each score of one query exceeds both its own floor and the query's noise; 0 where it does not.

    Args:
        scores: for a query of length one, one for each group of near-duplicates [groups].
        floors: the groups' own noise [groups].
    """
    noise = 0.0
    if len(scores) >= _FEWEST:
        middle = float(np.median(scores))
        noise = middle + _QUERY_DEVIATIONS * float(np.median(np.abs(scores - middle)))
    found: NDArray[np.float64] = np.maximum(scores - np.maximum(floors, noise), 0.0)
    return found


def _group_means(rows: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means over the rows of each group [groups, columns]."""
    summed = np.zeros((int(order.max()) + 1, rows.shape[1]))
    np.add.at(summed, order, rows)
    means: NDArray[np.float64] = summed / np.bincount(order)[:, None]
    return means
