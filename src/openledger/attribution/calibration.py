"""What a score is measured against: the noise in each record's scores, and what chance explains of an output.

Probes are outputs that a record has no business in: the other records' own answers (those of its near-duplicates
excluded) and the model's own answers to unrelated questions. All embeddings are brought to length one first.

- A record's floor is the median of its scores on the probes plus three robust standard deviations (1.4826 times the
  median absolute deviation; Hampel, 1974).
- A fine-tuned model answers any question in the manner of its records, so records explain a part of whatever it says.
  ``chance`` is the part that they explain of the middle one of the answers to unrelated questions; only what is beyond
  it is credited. Without eight such answers it is taken from the records' own answers, each explained by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openledger.attribution.composition import composition, outstanding
from openledger.primitives.amounts import PPM

_DEVIATIONS = 3 * 1.4826
_FEWEST = 8
_DEFAULT_FLOOR = 0.1
_DEFAULT_CHANCE = 0.5
_LARGEST_CHANCE = 0.9


@dataclass(frozen=True, slots=True)
class Calibration:
    """See the attributes of ``InfluenceIndex``; lengths and floors have one number for each record."""

    floors: Tensor
    lengths: Tensor
    chance: float


def calibrate(codes: Tensor, clusters: NDArray[np.int64], probes: Tensor, owners: Sequence[int]) -> Calibration:
    """Measure the noise.

    Args:
        codes: the records' codes [records, components].
        clusters: groups of near-duplicates [records].
        probes: embeddings of outputs [probes, components].
        owners: the record whose own answer each probe is, -1 for an answer to an unrelated question [probes].
    """
    lengths = codes.norm(dim=1)
    directions = (probes / probes.norm(dim=1, keepdim=True).clamp(min=1e-30)).numpy()
    own = np.asarray([clusters[owner] if owner >= 0 else -1 for owner in owners])
    scores = codes.numpy().astype(np.float64) @ directions.T
    found = np.where(clusters[:, None] == own, np.nan, scores)
    enough = (~np.isnan(found)).sum(axis=1) >= _FEWEST
    floors = np.full(len(codes), _DEFAULT_FLOOR) * lengths.numpy()
    if enough.any():
        noise = found[enough]
        middle = np.nanmedian(noise, axis=1)
        deviation = np.nanmedian(np.abs(noise - middle[:, None]), axis=1)
        floors[enough] = np.maximum(middle + _DEVIATIONS * deviation, 0.0)
    return Calibration(torch.from_numpy(floors).float(), lengths, _chance(codes, floors, found, own))


def _chance(codes: Tensor, floors: NDArray[np.float64], found: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    """The part of an output that records explain where they have no business, 0 to 0.9."""
    null = np.flatnonzero(own == -1)
    if len(null) < _FEWEST:
        null = np.arange(len(own))
    if len(null) < _FEWEST:
        return _DEFAULT_CHANCE
    lengths = np.maximum(codes.norm(dim=1).double().numpy(), 1e-30)
    directions = codes.double().numpy() / lengths[:, None]
    explained = []
    for scores in found[:, null].T:
        known = np.flatnonzero(~np.isnan(scores))
        places = known[outstanding(scores[known], floors[known])]
        parts = composition(scores[places] / lengths[places], directions[places])
        explained.append(min(1.0, int(parts.sum()) / PPM))
    return min(_LARGEST_CHANCE, float(np.median(explained)))
