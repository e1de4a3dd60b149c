"""The decoder's loops between its large products, compiled by Numba for the processor that runs them.

Each takes numpy views of float32 buffers and works row by row: a row's result depends on that row alone, whatever else is in
the batch. Keys, values and adapters are given as addresses, since every request has buffers of its own; the caller keeps them
alive. Sums are reordered for vector instructions, in the same way for every row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_FLOAT = np.float32
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "nsz", "contract"},
}
_LOG2_E, _LN2_HIGH, _LN2_LOW = _FLOAT(1.4426950408889634), _FLOAT(0.693359375), _FLOAT(-2.12194440e-4)
_EXP = tuple(
    _FLOAT(one) for one in (1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_AHEAD = np.int64(4096)
_LEAST, _MOST, _ZERO, _HALF, _ONE = _FLOAT(-87), _FLOAT(88), _FLOAT(0), _FLOAT(0.5), _FLOAT(1)


@intrinsic
def _floats_at(_context: Any, _address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@intrinsic
def _like_at(_context: Any, _address: Any, like: Any) -> Any:
    """A pointer to numbers of the type that the array ``like`` has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), generate


@intrinsic
def _widened(_context: Any, value: Any) -> Any:
    """float32 of a float32, of bfloat16 bits in a uint16, or of an int8 code."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(types.float32)
        if value == types.uint16:
            wide = builder.zext(arguments[0], ir.IntType(32))
            return builder.bitcast(builder.shl(wide, ir.IntType(32)(16)), number)
        return builder.sitofp(arguments[0], number) if value == types.int8 else arguments[0]

    return types.float32(value), generate


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:
    """Asks for the cache line at an address, which may be any; processors do not look ahead over the end of a page."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(arguments[0], byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit(inline="always", **_OPTIONS)
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


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def widen(codes: Any, scales: Any, out: Any) -> None:
    """Writes int8 ``codes`` [inputs, outputs] times ``scales`` [outputs] to ``out``."""
    inputs, outputs = codes.shape
    for row in range(inputs):
        for k in range(outputs):
            out[row, k] = _FLOAT(codes[row, k]) * scales[k]


@njit(**_OPTIONS)
def gate(y: Any, out: Any) -> None:
    """SiLU of the left half of ``y`` [rows, 2 width] times its right half, to ``out`` [rows, width]."""
    rows, width = out.shape
    for row in range(rows):
        for k in range(width):
            value = y[row, k]
            out[row, k] = value / (_ONE + _exp(-value)) * y[row, width + k]


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
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
        kv = carray(_floats_at(place), (2, kv_heads, length, size))
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


@njit(inline="always", **_OPTIONS)
def _prefetch_all(place: Any, size: Any) -> None:
    """Asks for as many bytes as are read at ``place`` now, of those that come a page later."""
    for byte in range(0, size, 64):
        _prefetch(place + _AHEAD + byte)


@njit(**_OPTIONS)
def change(x: Any, y: Any, adapters: Any, starts: Any, rows: Any, place: Any, ups: Any, middle: Any, like: Any) -> None:
    """Changes rows of ``y`` by what their adapters make of ``x``: for each of the ups, gain * y + shift + x Aᵀ B.

    Args:
        x: [all rows, inputs].
        y: [all rows, outputs], changed in place.
        adapters: [n], addresses of flat adapters of one layout.
        starts: [n + 1], where each one's rows begin in ``rows``.
        rows: the rows that have an adapter.
        place: (floats before the factors, offset of A among them, rank, a multiple of four).
        ups: [sites, 5], :attr:`openledger.openlora.shapes.Block.columns`.
        middle: room for [most rows of one adapter, sites * rank].
        like: an array of the factors' type: float32, uint16 for the bits of bfloat16, int8.
    """
    start, offset, rank = place
    inputs, size = x.shape[1], np.int64(like.itemsize)
    width = rank * len(ups)
    for number in range(len(adapters)):
        first, last = starts[number], starts[number + 1]
        factors = adapters[number] + np.int64(4) * start
        a = carray(_like_at(factors + size * offset, like), (width, inputs))
        for j in range(0, width, 4):
            _prefetch_all(factors + size * (offset + j * inputs), 4 * size * inputs)
            for i in range(first, last):
                row, m = x[rows[i]], middle[i - first]
                t0 = t1 = t2 = t3 = _ZERO
                for k in range(inputs):
                    t0 += row[k] * _widened(a[j, k])
                    t1 += row[k] * _widened(a[j + 1, k])
                    t2 += row[k] * _widened(a[j + 2, k])
                    t3 += row[k] * _widened(a[j + 3, k])
                m[j], m[j + 1], m[j + 2], m[j + 3] = t0, t1, t2, t3
        for site in range(len(ups)):
            left, right, affine, scaled = ups[site, 1], ups[site, 2], ups[site, 3], ups[site, 4]
            outputs = right - left
            if affine >= 0:
                gains = carray(_floats_at(adapters[number] + np.int64(4) * affine), (2, outputs))
                for i in range(first, last):
                    out = y[rows[i], left:right]
                    for k in range(outputs):
                        out[k] = out[k] * gains[0, k] + gains[1, k]
            if scaled >= 0:
                scales = carray(_floats_at(adapters[number] + np.int64(4) * scaled), (rank,))
                for i in range(first, last):
                    for j in range(rank):
                        middle[i - first, site * rank + j] *= scales[j]
            b = carray(_like_at(factors + size * ups[site, 0], like), (rank, outputs))
            for j in range(0, rank, 4):
                _prefetch_all(factors + size * (ups[site, 0] + j * outputs), 4 * size * outputs)
                for i in range(first, last):
                    out = y[rows[i], left:right]
                    m = middle[i - first, site * rank + j : site * rank + j + 4]
                    for k in range(outputs):
                        out[k] += (
                            m[0] * _widened(b[j, k])
                            + m[1] * _widened(b[j + 1, k])
                            + m[2] * _widened(b[j + 2, k])
                            + m[3] * _widened(b[j + 3, k])
                        )
