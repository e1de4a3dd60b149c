"""The decoder's loops between its large products, compiled by Numba for the processor that runs them.

Each takes numpy views of float32 buffers and works row by row: a row's result depends on that row alone, whatever else is in
the batch. Keys, values and adapters are given as addresses, since every request has buffers of its own; the caller keeps them
alive. Sums are reordered for vector instructions, in the same way for every row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora.vectors import OPTIONS, ask_for

_FLOAT = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _FLOAT(1.4426950408889634), _FLOAT(0.693359375), _FLOAT(-2.12194440e-4)
_EXP = tuple(
    _FLOAT(one) for one in (1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_LEAST, _MOST, _ZERO, _HALF, _ONE = _FLOAT(-87), _FLOAT(88), _FLOAT(0), _FLOAT(0.5), _FLOAT(1)


@intrinsic
def floats_at(_context: Any, _address: Any) -> Any:
    """A pointer to float32 numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:
    """:func:`openledger.openlora.vectors.ask_for` in compiled loops."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        ask_for(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit(inline="always", **OPTIONS)
def _exp(x: Any) -> Any:
    """Cephes' expf, which vectorises; within 2 units in the last place."""
    x = min(max(x, _LEAST), _MOST)
    whole = np.floor(x * _LOG2_E + _HALF)
    rest = x - whole * _LN2_HIGH - whole * _LN2_LOW
    series = _EXP[0]
    for factor in _EXP[1:]:
        series = series * rest + factor
    value = series * rest * rest + rest + _ONE
    return value * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(**OPTIONS)
def add_norm(x: Any, y: Any, weight: Any, epsilon: Any, out: Any) -> None:
    """Adds ``y`` to ``x`` [rows, width] in place, and writes its root-mean-square norm times ``weight`` to ``out``."""
    rows, width = x.shape
    for row in range(rows):
        total = _ZERO
        for k in range(width):
            value = x[row, k] + y[row, k]
            x[row, k] = value
            total += value * value
        scale = _ONE / np.sqrt(total / _FLOAT(width) + epsilon)
        for k in range(width):
            out[row, k] = x[row, k] * scale * weight[k]


@njit(**OPTIONS)
def gate(y: Any, out: Any) -> None:
    """SiLU of the left half of ``y`` [rows, 2 width] times its right half, to ``out`` [rows, width]."""
    rows, width = out.shape
    for row in range(rows):
        for k in range(width):
            value = y[row, k]
            out[row, k] = value / (_ONE + _exp(-value)) * y[row, width + k]


@njit(**OPTIONS)
def rotate(qkv: Any, cos: Any, sin: Any, positions: Any, norms: Any, epsilon: Any, shape: Any) -> None:
    """Norms, where ``norms`` is not empty, and rotates the heads of queries and keys in place.

    Args:
        qkv: [rows, heads + 2 kv heads, size].
        cos, sin: [context, size].
        positions: [rows].
        norms: [2, size], weights for queries and for keys, or [0, size].
        epsilon: of the norms.
        shape: (heads, kv heads).
    """
    heads, kv_heads = shape
    size = qkv.shape[2]
    half = size // 2
    for row in range(len(positions)):
        at = positions[row]
        for number in range(heads + kv_heads):
            head = qkv[row, number]
            if len(norms):
                weight = norms[0 if number < heads else 1]
                total = _ZERO
                for k in range(size):
                    total += head[k] * head[k]
                scale = _ONE / np.sqrt(total / _FLOAT(size) + epsilon)
                for k in range(size):
                    head[k] *= scale * weight[k]
            for k in range(half):
                left, right = head[k], head[half + k]
                head[k] = left * cos[at, k] - right * sin[at, k]
                head[half + k] = right * cos[at, half + k] + left * sin[at, half + k]


@njit(**OPTIONS)
def attend(qkv: Any, caches: Any, lengths: Any, positions: Any, layer: Any, window: Any, shape: Any, out: Any) -> None:
    """Keeps each row's keys and values, and attends to all of its own that it sees.

    Args:
        qkv: [rows, heads + 2 kv heads, size], rotated.
        caches: [rows], addresses of [layers, 2, kv heads, length, size].
        lengths: [rows], of the caches.
        positions: [rows], where each stands.
        layer: its number.
        window: how many keys are seen; 0 for all.
        shape: (heads, kv heads).
        out: [rows, heads, size].
    """
    heads, kv_heads = shape
    size = out.shape[2]
    group = heads // kv_heads
    scale = _ONE / np.sqrt(_FLOAT(size))
    longest = 0
    for row in range(len(caches)):
        longest = max(longest, positions[row] + 1)
    weights = np.empty(longest, np.float32)
    for row in range(len(caches)):
        at, length = positions[row], lengths[row]
        head_bytes = np.int64(4) * length * size
        place = caches[row] + 2 * layer * kv_heads * head_bytes
        kv = carray(floats_at(place), (2, kv_heads, length, size))
        first = max(0, at + 1 - window) if window else 0
        for number in range(kv_heads):
            for k in range(size):
                kv[0, number, at, k] = qkv[row, heads + number, k]
                kv[1, number, at, k] = qkv[row, heads + kv_heads + number, k]
        for number in range(heads):
            query, written = qkv[row, number], out[row, number]
            keys, values = kv[0, number // group], kv[1, number // group]
            soon = place + (kv_heads + number // group) * head_bytes
            top = -_FLOAT(np.inf)
            for t in range(first, at + 1):
                for byte in range(0, 4 * size, 64):
                    _prefetch(soon + 4 * t * size + byte)
                score = _ZERO
                for k in range(size):
                    score += query[k] * keys[t, k]
                score *= scale
                weights[t] = score
                top = max(top, score)
            total = _ZERO
            for t in range(first, at + 1):
                weights[t] = _exp(weights[t] - top)
                total += weights[t]
            for k in range(size):
                written[k] = _ZERO
            soon = place + (number + 1) // group * head_bytes
            for t in range(first, at + 1):
                for byte in range(0, 4 * size, 64):
                    _prefetch(soon + 4 * t * size + byte)
                weight = weights[t]
                for k in range(size):
                    written[k] += weight * values[t, k]
            for k in range(size):
                written[k] /= total
