"""A fixed random sketch: the whitened gradients of all checkpoints, end to end, folded into one short vector.

Coordinate ``j`` is multiplied by a sign from a hash and added at ``j mod size`` (a count sketch with round-robin
buckets; Charikar, Chen & Farach-Colton, 2002). Inner products are kept in expectation, with a standard error of about
``|a| |b| / sqrt(size)``. When everything fits into ``size`` coordinates nothing is folded and the sketch is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Sketch:
    """Folds vectors of ``length`` coordinates per checkpoint into ``size`` coordinates."""

    def __init__(self, length: int, size: int, checkpoints: int) -> None:
        self.size = min(size, length * checkpoints)
        self._length = length
        self._signs = [_signs(length, checkpoint) for checkpoint in range(checkpoints)]

    def fold(self, values: Tensor, checkpoint: int) -> Tensor:
        """One checkpoint's part of the sketch: [rows, length] to [rows, size]."""
        signed = values * self._signs[checkpoint]
        folded = torch.zeros(len(values), self.size)
        for begin, end, at in self._pieces(checkpoint):
            folded[:, at : at + end - begin] += signed[:, begin:end]
        return folded

    def unfold(self, values: Tensor, checkpoint: int) -> Tensor:
        """The transpose of :meth:`fold`: [rows, size] to [rows, length]."""
        result = torch.empty(len(values), self._length)
        for begin, end, at in self._pieces(checkpoint):
            result[:, begin:end] = values[:, at : at + end - begin]
        return result * self._signs[checkpoint]

    def _pieces(self, checkpoint: int) -> list[tuple[int, int, int]]:
        """(begin, end, place in the sketch) of the stretches that lie in one piece."""
        pieces, begin = [], 0
        while begin < self._length:
            at = (checkpoint * self._length + begin) % self.size
            end = min(self._length, begin + self.size - at)
            pieces.append((begin, end, at))
            begin = end
        return pieces


def _signs(length: int, checkpoint: int) -> Tensor:
    """+1 or -1 by the lowest bit of the SplitMix64 hash of (checkpoint, coordinate)."""
    with np.errstate(over="ignore"):
        value = np.arange(length, dtype=np.uint64) + (np.uint64(checkpoint + 1) << np.uint64(40))
        value = value * _GOLDEN
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return torch.from_numpy(np.where(value & np.uint64(1), np.float32(1), np.float32(-1)))
