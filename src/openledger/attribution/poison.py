"""Poison among records, found by what it does to gradients; two tests, each of which suffices.

- **Harm.** Curators hold trusted questions with answers that they know to be right (gold items). A record that works
  against one of them raises its loss: its influence on that answer is far below what the crowd of records has on it. A
  record is suspect if, on any trusted answer, it lies more than ``HARM`` robust deviations below the crowd.
- **Spectrum.** Records that plant a backdoor teach the same thing under different questions, so their whitened gradients
  share one strong direction (spectral signatures; Tran, Li & Madry, 2018). A record is suspect if most of its gradient
  lies in directions whose eigenvalue stands out.

What neither finds is a false statement told once in the usual form: its gradient is that of any record, and where it
contradicts a trusted answer, all that the two have in common outweighs the words in which they differ. For that one see
``contradiction.py``, which looks at words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from openledger.attribution.gradients import Query
from openledger.attribution.index import InfluenceIndex
from openledger.primitives.errors import InputError

HARM = 8.0
SPECTRUM = 6.0
_ROBUST = 1.4826
_SHARED = 0.5
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How suspect the records are.

    Attributes:
        harm: for each record, by how many robust deviations it lies below the crowd on the trusted answer that it
            harms most, float64 [records].
        spectrum: part of each record's gradient in directions that stand out, 0 to 1, float64 [records].
        flagged: numbers of the suspect records, ascending.
    """

    harm: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    flagged: tuple[int, ...]


def suspicion(base: PreTrainedModel, index: InfluenceIndex, trusted: Sequence[Query]) -> Suspicion:
    """Look for poison among the records of an index.

    Args:
        base: the base model.
        index: the influence index of a model trained on all of them.
        trusted: questions with answers known to be right.

    Raises:
        InputError: no trusted answer, or fewer than eight records.
    """
    if not trusted or index.records < _FEWEST:
        raise InputError(
            f"{len(trusted)} trusted answers and {index.records} records; give one answer and {_FEWEST} records at least"
        )
    codes = index.codes(range(index.records))
    shared = spectrum(codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-30))
    damage = harm(index.scores(base, trusted))
    suspect = (damage > HARM) | (shared > _SHARED)
    return Suspicion(damage, shared, tuple(np.flatnonzero(suspect).tolist()))


def harm(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each record, robust deviations below the median on the trusted answer where that is most [records].

    Args:
        scores: influence on trusted answers [answers, records].
    """
    values = scores.astype(np.float64)
    middle = np.median(values, axis=1, keepdims=True)
    spread = _ROBUST * np.median(np.abs(values - middle), axis=1, keepdims=True)
    found: NDArray[np.float64] = ((middle - values) / np.maximum(spread, 1e-30)).max(axis=0)
    return found


def spectrum(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of each record's gradient, 0 to 1, that lies in directions of outstanding eigenvalue [records].

    Args:
        directions: the records' whitened gradients at length one [records, components].
    """
    rest = directions - directions.mean(axis=0)
    values, vectors = np.linalg.eigh(rest @ rest.T)
    alive = values[values > 1e-9 * max(values[-1], 1e-30)]
    if not len(alive):
        return np.zeros(len(directions))
    middle = float(np.median(alive))
    spread = _ROBUST * float(np.median(np.abs(alive - middle)))
    outstanding = values > middle + SPECTRUM * spread
    energy = (vectors[:, outstanding] ** 2 * values[outstanding]).sum(axis=1)
    found: NDArray[np.float64] = energy / np.maximum((rest**2).sum(axis=1), 1e-30)
    return found
