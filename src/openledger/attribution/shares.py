"""From influence to shares: who is credited with an output, in integer parts per million.

1. Scores are divided by the length of the query's embedding, and an outlier's by how far it exceeds the cap.
2. Near-duplicates are one: their scores are averaged (netted). What exceeds both the record's floor and the query's own
   noise is the credit (``calibration.evidence``). It goes to the most senior members alone, in equal parts, so
   that a copy earns nothing and takes nothing.
3. The credits stand beside the base model's own part, and all together beside the gain: how much of the output's loss
   under the base model the adapter took away. ``share = gain x credit / (base part + all credits)``.
4. Everything is rounded to integers before the division; shares are rounded down, and those below the minimum are not
   paid. What is left is the residual, which belongs to the base model. So shares do not depend on the order of
   the records, identical records get identical shares, and the sum is exactly 1,000,000.

Equal treatment of every account and resistance to false names cannot both hold; this promises symmetry among groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openledger.attribution.calibration import evidence
from openledger.attribution.index import InfluenceIndex, Measurement
from openledger.primitives.amounts import PPM
from openledger.primitives.errors import InputError

MINIMUM_PPM = 1_000
_STEPS = 10_000
_GAIN_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of one output.

    Attributes:
        ppm: record number to share; every share is positive.
        residual_ppm: what belongs to the base model. Shares and residual sum to 1,000,000.
    """

    ppm: dict[int, int]
    residual_ppm: int

    def __post_init__(self) -> None:
        total = sum(self.ppm.values()) + self.residual_ppm
        if total != PPM or self.residual_ppm < 0 or any(share <= 0 for share in self.ppm.values()):
            raise InputError(f"shares must be positive and sum with the residual to {PPM}, not to {total}")

    def ranked(self) -> list[tuple[int, int]]:
        """(record number, ppm), largest first; equal shares by record number."""
        return sorted(self.ppm.items(), key=lambda item: (-item[1], item[0]))

    def by_hash(self, index: InfluenceIndex) -> tuple[tuple[bytes, int], ...]:
        """(record hash, ppm) in rising order of hash, as receipts commit to them; equal hashes are added up."""
        found: dict[bytes, int] = {}
        for place, share in self.ppm.items():
            name = index.record_hashes[place]
            found[name] = found.get(name, 0) + share
        return tuple(sorted(found.items()))


def shares(measurement: Measurement, index: InfluenceIndex, minimum_ppm: int = MINIMUM_PPM) -> Shares:
    """Shares of the output that was measured.

    Args:
        measurement: from ``index.measure``.
        index: the index it was measured with.
        minimum_ppm: smallest share that is paid.

    Raises:
        InputError: the measurement has another number of records, or numbers that are not finite.
    """
    if measurement.scores.shape != (index.records,):
        raise InputError(f"{measurement.scores.shape} scores do not fit an index of {index.records} records")
    losses = (measurement.base_loss, measurement.adapted_loss, measurement.norm)
    if not np.isfinite(measurement.scores).all() or not np.isfinite(losses).all():
        raise InputError("the measurement holds a number that is not finite; measure the output again")
    gain = gain_ppm(measurement)
    if gain == 0 or measurement.norm <= 0:
        return Shares({}, PPM)
    capped = measurement.scores.astype(np.float64) / measurement.norm
    capped *= index.cap / np.maximum(index.lengths.astype(np.float64), index.cap)
    groups = _seniors(index)
    means = np.asarray([np.mean(np.sort(capped[members])) for members in groups])
    floors = np.asarray([np.mean(np.sort(index.floors[members].astype(np.float64))) for members in groups])
    credited_steps = np.rint(_STEPS * evidence(means, floors) / index.unit).astype(np.int64).tolist()
    credited = [(members, credit) for members, credit in zip(groups, credited_steps, strict=True) if credit > 0]
    whole = max(1, round(_STEPS * index.base_mass / index.unit)) + sum(credit for _, credit in credited)
    ppm: dict[int, int] = {}
    for seniors, credit in credited:
        share = gain * credit // (whole * len(seniors))
        if share >= minimum_ppm:
            ppm |= dict.fromkeys(seniors, share)
    return Shares(dict(sorted(ppm.items())), PPM - sum(ppm.values()))


def _seniors(index: InfluenceIndex) -> list[list[int]]:
    """The most senior members of each group of near-duplicates, those without any gradient left out."""
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(index.clusters.tolist()):
        groups.setdefault(group, []).append(place)
    found = []
    for members in groups.values():
        first = min(int(index.seniority[place]) for place in members)
        seniors = [place for place in members if index.seniority[place] == first and index.lengths[place] > 0]
        if seniors:
            found.append(seniors)
    return found


def gain_ppm(measurement: Measurement) -> int:
    """How much of the output's loss under the base model the adapter took away, in ppm (steps of 0.1%)."""
    if not 0 <= measurement.adapted_loss < measurement.base_loss:
        return 0
    gain = (measurement.base_loss - measurement.adapted_loss) / measurement.base_loss
    return round(gain * _GAIN_STEPS) * (PPM // _GAIN_STEPS)
