"""From influence to shares: who is credited with an output, in integer parts per million.

1. Near-duplicates are one: the most senior members of a group stand for all of it, and take its credit in equal parts.
   A copy earns nothing and takes nothing.
2. Groups whose score stands out from noise explain the output together (``composition``): each has a part, and the parts
   sum to at most one.
3. What records commonly explain of outputs they have no business in is chance (``calibration``). The credit of all
   records is the square of ``(explained - chance) / (1 - chance)``, and none where that is negative: it rises from
   nothing without an edge, little for a mixture of many records, nearly to one where records explain everything.
4. ``share = gain x credit x part / explained``. The gain is how much of the output's loss under the base model
   the adapter took away.
5. Everything is rounded to integers before the division; shares are rounded down, and those below the minimum are not
   paid. What is left is the residual, which belongs to the base model. So shares do not depend on the order of
   the records, identical records get identical shares, and the sum is exactly 1,000,000.

Equal treatment of every account and resistance to false names cannot both hold; this promises symmetry among groups.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from openledger.attribution.composition import composition, outstanding
from openledger.attribution.index import InfluenceIndex, Measurement
from openledger.primitives.amounts import PPM
from openledger.primitives.errors import InputError

MINIMUM_PPM = 1_000
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
    _check(measurement, index)
    gain = gain_ppm(measurement)
    parts = explained(measurement, index) if gain else {}
    whole = sum(parts.values())
    chance = round(index.chance * PPM)
    credit = PPM * max(0, min(whole, PPM) - chance) ** 2 // (PPM - chance) ** 2
    ppm: dict[int, int] = {}
    for seniors, part in parts.items():
        share = gain * credit * part // (PPM * whole * len(seniors))
        if share >= minimum_ppm:
            ppm |= dict.fromkeys(seniors, share)
    return Shares(dict(sorted(ppm.items())), PPM - sum(ppm.values()))


def explained(
    measurement: Measurement, index: InfluenceIndex, without: Collection[int] = ()
) -> dict[tuple[int, ...], int]:
    """The part of the output that each group of near-duplicates explains, in ppm, by its most senior members.

    Args:
        measurement: from ``index.measure``.
        index: the index it was measured with.
        without: records that are taken to be absent; the next in seniority stand for their groups.

    Raises:
        InputError: as :func:`shares`.
    """
    _check(measurement, index)
    groups = sorted(_seniors(index, without), key=lambda seniors: min(index.record_hashes[place] for place in seniors))
    if not groups or measurement.norm <= 0:
        return {}
    scores = measurement.scores.astype(np.float64) / measurement.norm
    means = np.asarray([np.mean(np.sort(scores[seniors])) for seniors in groups])
    floors = np.asarray([np.mean(np.sort(index.floors[seniors].astype(np.float64))) for seniors in groups])
    stands = outstanding(means, floors)
    near = [
        sorted(places, key=index.record_hashes.__getitem__) for places, fits in zip(groups, stands, strict=True) if fits
    ]
    if not near:
        return {}
    codes = np.stack([np.mean(index.codes(places), axis=0) for places in near])
    lengths = np.maximum(np.linalg.norm(codes, axis=1), 1e-30)
    parts = composition(means[stands] / lengths, codes / lengths[:, None]).tolist()
    return {tuple(sorted(places)): part for places, part in zip(near, parts, strict=True) if part}


def _check(measurement: Measurement, index: InfluenceIndex) -> None:
    if measurement.scores.shape != (index.records,):
        raise InputError(f"{measurement.scores.shape} scores do not fit an index of {index.records} records")
    losses = (measurement.base_loss, measurement.adapted_loss, measurement.norm)
    if not np.isfinite(measurement.scores).all() or not np.isfinite(losses).all():
        raise InputError("the measurement holds a number that is not finite; measure the output again")


def _seniors(index: InfluenceIndex, without: Collection[int] = ()) -> list[list[int]]:
    """The most senior members of each group of near-duplicates, those without any gradient left out."""
    gone = set(without)
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(index.clusters.tolist()):
        if place not in gone:
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
