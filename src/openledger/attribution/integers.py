"""Products of an int8 matrix with float32 vectors in whole numbers: the same on every processor and in every batch.

A vector is rounded to 14 bits of its largest element and cut into two int8 halves; their products with the matrix are
sums of integers, exact in any order. Rounding costs about one part in ten thousand.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 7
_LARGEST = 63 << _HALF
_BLOCK = 4096
_SHORTEST = 64
"""Shorter rows go the other way: torch 2.13 gives wrong products for rows of one element."""


def product(matrix: Tensor, vectors: Tensor) -> Tensor:
    """``vectors @ matrix.T``.

    Args:
        matrix: int8 [rows, n] with n up to 262,143 (2,064 if the elements are larger than 1).
        vectors: float32 [count, n].

    Returns:
        float32 [count, rows]; a vector's own row does not depend on the others.
    """
    scales = vectors.abs().amax(dim=1).double() / _LARGEST
    safe = torch.where(scales > 0, scales, torch.ones_like(scales))
    whole = torch.round(vectors.double() / safe[:, None]).to(torch.int32)
    high = (whole + (1 << _HALF - 1)) >> _HALF
    halves = torch.cat([high, whole - (high << _HALF)]).to(torch.int8)
    sums = _sums(matrix, halves)
    upper, lower = sums[: len(vectors)], sums[len(vectors) :]
    found: Tensor = (((upper.long() << _HALF) + lower).double() * scales[:, None]).float()
    return found


def _sums(matrix: Tensor, vectors: Tensor) -> Tensor:
    """The integer products [vectors, rows]; the matrix on the right is the faster way. Without the processor's int8
    instructions they are made of float32, whose sums of integers below 2**24 are exact too."""
    if torch.cpu._is_vnni_supported() and matrix.shape[1] >= _SHORTEST:
        return torch._int_mm(vectors, matrix.T)
    floats = vectors.float()
    return torch.cat([(floats @ part.float().T).int() for part in torch.split(matrix, _BLOCK)], dim=1)
