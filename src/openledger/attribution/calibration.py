"""What a score is measured against: the noise in each record's scores, outliers, and the base model's own part.

Probes are questions that a record has no business in: the other records' own answers (those of its near-duplicates
excluded) and unrelated queries. All embeddings are brought to length one first, so that the numbers hold for a query of
length one.

- A record's floor is the median of its scores on the probes plus three robust standard deviations (1.4826 times the
  median absolute deviation; Hampel, 1974).
- A record whose code is longer than twice the median is an outlier; its scores are scaled down to that length.
- The base model's part is what must be outweighed before a record is paid: twice the 90th percentile, over the
  probes, of what all records together score above their floors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_DEVIATIONS = 3 * 1.4826
_OUTLIER = 2.0
_FEWEST = 8
_DEFAULT_FLOOR = 0.1
_LEAST_MASS = 0.05


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
        floors[enough] = np.maximum(middle + _DEVIATIONS * deviation, 0.0)
    excess = np.nan_to_num(found - floors[:, None])
    order, sizes = np.unique(clusters, return_inverse=True)[1], np.bincount(clusters)[np.unique(clusters)]
    summed = np.zeros((len(sizes), excess.shape[1]))
    np.add.at(summed, order, excess)
    masses = np.maximum(summed / sizes[:, None], 0.0).sum(axis=0)
    typical = float(np.quantile(masses, 0.9)) if len(masses) >= _FEWEST else 0.0
    return Calibration(
        floors=torch.from_numpy(floors).float(),
        lengths=lengths,
        unit=unit,
        cap=cap,
        base_mass=max(2.0 * typical, _LEAST_MASS * unit),
    )
