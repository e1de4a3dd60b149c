"""A fixed random sketch: the whitened gradients of all checkpoints, end to end, folded into one short vector.

Coordinate ``j`` is multiplied by a sign from a hash and added at ``j mod size`` (a count sketch with round-robin
buckets; Charikar, Chen & Farach-Colton, 2002). Inner products are kept in expectation, with a standard error of about
``|a| |b| / sqrt(size)``. When everything fits into ``size`` coordinates nothing is folded and the sketch is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Sketch:
    """Folds vectors of ``length`` coordinates per checkpoint into ``size`` coordinates."""

    def __init__(self, length: int, size: int, checkpoints: int) -> None:
        self.size = min(size, length * checkpoints)
        self._length = length

    def fold(self, parts: Sequence[Tensor], factors: Tensor, checkpoint: int) -> Tensor:
        """One checkpoint's part of the sketch.

        Args:
            parts: the vector in pieces, [rows, any number of coordinates] each, of ``length`` coordinates in all.
            factors: what each coordinate is multiplied by, its sign (:func:`signs`) included [length].
            checkpoint: its number.

        Returns:
            [rows, size].
        """
        folded = torch.zeros(len(parts[0]), self.size)
        start = 0
        for part in parts:
            for begin, end, at in self._pieces(checkpoint, start, start + part.shape[1]):
                target = folded[:, at : at + end - begin]
                target.addcmul_(part[:, begin - start : end - start], factors[begin:end])
            start += part.shape[1]
        return folded

    def unfold(self, values: Tensor, factors: Tensor, checkpoint: int) -> Tensor:
        """The transpose of :meth:`fold`: [rows, size] to [rows, length]."""
        result = torch.empty(len(values), self._length)
        for begin, end, at in self._pieces(checkpoint, 0, self._length):
            result[:, begin:end] = values[:, at : at + end - begin] * factors[begin:end]
        return result

    def _pieces(self, checkpoint: int, begin: int, stop: int) -> list[tuple[int, int, int]]:
        """(begin, end, place in the sketch) of the stretches between two coordinates that lie in one piece."""
        pieces = []
        while begin < stop:
            at = (checkpoint * self._length + begin) % self.size
            end = min(stop, begin + self.size - at)
            pieces.append((begin, end, at))
            begin = end
        return pieces


def signs(length: int, checkpoint: int) -> Tensor:
    """+1 or -1 by the lowest bit of the SplitMix64 hash of (checkpoint, coordinate)."""
    with np.errstate(over="ignore"):
        value = np.arange(length, dtype=np.uint64) + (np.uint64(checkpoint + 1) << np.uint64(40))
        value = value * _GOLDEN
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return torch.from_numpy(np.where(value & np.uint64(1), np.float32(1), np.float32(-1)))
