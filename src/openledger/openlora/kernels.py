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

from openledger.openlora import vectors
from openledger.openlora.vectors import FLOAT, LANES, LONG, OPTIONS, ZERO, floats_at

# Made of vectors babc019b81095a33.
_FLOAT = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _FLOAT(1.4426950408889634), _FLOAT(0.693359375), _FLOAT(-2.12194440e-4)
_EXP = tuple(
    _FLOAT(one) for one in (1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_FOUR = np.int64(4)
_KEYS, _VECTORS = 4, 4
_LEAST, _MOST, _ZERO, _HALF, _ONE = _FLOAT(-87), _FLOAT(88), _FLOAT(0), _FLOAT(0.5), _FLOAT(1)


@intrinsic
def _scores(_context: Any, _query: Any, _keys: Any, _count: Any, _size: Any, _following: Any, _out: Any) -> Any:
    """Writes a query's products with some keys that follow each other, over as many vectors as their size holds.

    Args:
        query, keys, out: addresses.
        count: of the keys.
        size: of each.
        following: address of as many vectors, which are prefetched.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        query, keys, count, size, following, out = arguments
        row, whole = builder.mul(size, LONG(4)), builder.sdiv(size, LONG(LANES))

        def some(number: int, first: Any) -> None:
            """The products with ``number`` keys."""
            start = builder.mul(first, row)

            def vector(place: Any, sums: list[Any]) -> list[Any]:
                offset = builder.mul(place, LONG(4 * LANES))
                held, made = vectors.load(builder, builder.add(query, offset)), []
                for key, one in enumerate(sums):
                    there = builder.add(builder.add(start, builder.mul(row, LONG(key))), offset)
                    vectors.prefetch(builder, builder.add(following, there))
                    made.append(vectors.fma(builder, held, vectors.load(builder, builder.add(keys, there)), one))
                return made

            for key, one in enumerate(vectors.loop(builder, whole, [ZERO] * number, vector)):
                place = builder.add(out, builder.mul(builder.add(first, LONG(key)), LONG(4)))
                builder.store(vectors.horizontal_sum(builder, one), builder.inttoptr(place, FLOAT.as_pointer()))

        vectors.by_groups(builder, count, _KEYS, some)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def _mix(_context: Any, _weights: Any, _values: Any, _count: Any, _size: Any, _following: Any, _out: Any) -> Any:
    """Writes the sum of some values that follow each other times their weights; the arguments are as of :func:`_scores`."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        weights, values, count, size, following, out = arguments
        row = builder.mul(size, LONG(4))

        def some(number: int, first: Any) -> None:
            """``number`` vectors of the sum, from vector ``first`` on."""
            offset = builder.mul(first, LONG(4 * LANES))

            def value(place: Any, sums: list[Any]) -> list[Any]:
                address = builder.add(weights, builder.mul(place, LONG(4)))
                weight = vectors.broadcast(builder, vectors.load(builder, address, FLOAT))
                start, made = builder.add(builder.mul(place, row), offset), []
                for vector, one in enumerate(sums):
                    there = builder.add(start, LONG(4 * LANES * vector))
                    vectors.prefetch(builder, builder.add(following, there))
                    made.append(vectors.fma(builder, weight, vectors.load(builder, builder.add(values, there)), one))
                return made

            for vector, one in enumerate(vectors.loop(builder, count, [ZERO] * number, value)):
                vectors.store(builder, one, builder.add(builder.add(out, offset), LONG(4 * LANES * vector)))

        vectors.by_groups(builder, builder.sdiv(size, LONG(LANES)), _VECTORS, some)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


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
    size = np.int64(out.shape[2])
    group, whole = heads // kv_heads, size // LANES * LANES
    scale = _ONE / np.sqrt(_FLOAT(size))
    longest = 0
    for row in range(len(caches)):
        longest = max(longest, positions[row] + 1)
    weights = np.empty(longest, np.float32)
    for row in range(len(caches)):
        at, length = positions[row], lengths[row]
        head_bytes = _FOUR * length * size
        place = caches[row] + 2 * layer * kv_heads * head_bytes
        kv = carray(floats_at(place), (2, kv_heads, length, size))
        first = max(0, at + 1 - window) if window else 0
        count, start = at + 1 - first, _FOUR * first * size
        for number in range(kv_heads):
            for k in range(size):
                kv[0, number, at, k] = qkv[row, heads + number, k]
                kv[1, number, at, k] = qkv[row, heads + kv_heads + number, k]
        for number in range(heads):
            query, written = qkv[row, number], out[row, number]
            keys, values = kv[0, number // group], kv[1, number // group]
            here = place + number // group * head_bytes + start
            beside, after = here + kv_heads * head_bytes, place + (number + 1) // group * head_bytes + start
            _scores(query.ctypes.data, here, count, size, beside, weights.ctypes.data)
            for k in range(whole, size):
                for t in range(count):
                    weights[t] += query[k] * keys[first + t, k]
            top = -_FLOAT(np.inf)
            for t in range(count):
                weights[t] *= scale
                top = max(top, weights[t])
            share = _ZERO
            for t in range(count):
                weights[t] = _exp(weights[t] - top)
                share += weights[t]
            _mix(weights.ctypes.data, beside, count, size, after, written.ctypes.data)
            for k in range(whole, size):
                written[k] = _ZERO
                for t in range(count):
                    written[k] += weights[t] * values[first + t, k]
            for k in range(size):
                written[k] /= share
