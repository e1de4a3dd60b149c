"""The decoder's loops between its large products, compiled by Numba for the processor that runs them.

Each takes numpy views of float32 buffers and works row by row: a row's result depends on that row alone, whatever else is in
the batch. Keys, values and adapters are given as addresses, since every request has buffers of its own; the caller keeps them
alive. A result's bits are the same on every processor: sums are written in :mod:`openledger.openlora.vectors`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora import vectors
from openledger.openlora.shapes import LINE
from openledger.openlora.vectors import EIGHT, FLOAT, LANES, LONG, OPTIONS, floats_at

# Made of vectors b90f158b8fc253d5.
_FLOAT = np.float32
_FOUR, _NOWHERE = np.int64(4), np.int64(0)
_KEYS, _EIGHT, _VECTORS = 8, 8, 4
_KEYS_TOGETHER = 64
TOGETHER = 8
"""Rows of a request that are attended for together."""
_ZERO, _ONE = _FLOAT(0), _FLOAT(1)


@intrinsic
def _scores(_context: Any, _query: Any, _keys: Any, _count: Any, _size: Any, _following: Any, _out: Any) -> Any:
    """Writes a query's products with some keys that follow each other, over as many vectors of eight as their size holds.

    Args:
        query, keys, out: addresses.
        count: of the keys.
        size: of each.
        following: address of as many vectors, which are prefetched; 0 for none.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        query, keys, count, size, following, out = arguments
        row, whole = builder.mul(size, LONG(4)), builder.sdiv(size, LONG(_EIGHT))

        def some(number: int, first: Any) -> None:
            """The products with ``number`` keys."""
            start = builder.mul(first, row)

            def eight(place: Any, sums: list[Any]) -> list[Any]:
                offset = builder.mul(place, LONG(4 * _EIGHT))
                held, made = vectors.load(builder, builder.add(query, offset), EIGHT), []
                for key, one in enumerate(sums):
                    there = builder.add(builder.add(start, builder.mul(row, LONG(key))), offset)
                    value = vectors.load(builder, builder.add(keys, there), EIGHT)
                    made.append(vectors.fma(builder, held, value, one))
                return made

            def line(place: Any, _carried: list[Any]) -> list[Any]:
                vectors.prefetch(builder, builder.add(ahead, builder.mul(place, LONG(LINE))))
                return []

            with builder.if_then(builder.icmp_signed("!=", following, LONG(0))):
                ahead = builder.add(following, start)
                vectors.loop(builder, builder.sdiv(builder.mul(row, LONG(number)), LONG(LINE)), [], line)
            sums = vectors.loop(builder, whole, [ir.Constant(EIGHT, [0.0] * _EIGHT)] * number, eight)
            place = builder.add(out, builder.mul(first, LONG(4)))
            if number == _KEYS:
                vectors.horizontal_sums(builder, sums, place)
            else:
                vectors.store(builder, vectors.horizontal_sum(builder, *sums), place)

        vectors.by_groups(builder, count, _KEYS, some)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def _mix(_context: Any, _weights: Any, _values: Any, _count: Any, _size: Any, _following: Any, _out: Any) -> Any:
    """Adds to ``out`` some values that follow each other times their weights; the arguments are as of :func:`_scores`."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        weights, values, count, size, following, out = arguments
        row, asked = builder.mul(size, LONG(4)), builder.icmp_signed("!=", following, LONG(0))

        def some(number: int, first: Any) -> None:
            """``number`` vectors of the sum, from vector ``first`` on."""
            offset = builder.mul(first, LONG(4 * LANES))

            def value(place: Any, sums: list[Any]) -> list[Any]:
                address = builder.add(weights, builder.mul(place, LONG(4)))
                weight = vectors.broadcast(builder, vectors.load(builder, address, FLOAT))
                start, made = builder.add(builder.mul(place, row), offset), []
                for vector, one in enumerate(sums):
                    there = builder.add(start, LONG(4 * LANES * vector))
                    with builder.if_then(asked):
                        vectors.prefetch(builder, builder.add(following, there))
                    made.append(vectors.fma(builder, weight, vectors.load(builder, builder.add(values, there)), one))
                return made

            places = [builder.add(builder.add(out, offset), LONG(4 * LANES * vector)) for vector in range(number)]
            before = [vectors.load(builder, place) for place in places]
            for one, place in zip(vectors.loop(builder, count, before, value), places, strict=True):
                vectors.store(builder, one, place)

        vectors.by_groups(builder, builder.sdiv(size, LONG(LANES)), _VECTORS, some)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def _exp(_context: Any, _x: Any) -> Any:
    """:func:`openledger.openlora.vectors.exp` of a number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return vectors.exp(builder, arguments[0])

    return types.float32(types.float32), generate


@intrinsic
def _squares(_context: Any, _numbers: Any, _count: Any) -> Any:
    """The sum of the squares of ``count`` numbers at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        numbers, count = arguments

        def square(kind: Any, place: Any) -> Any:
            value = vectors.load(builder, builder.add(numbers, place), kind)
            return builder.fmul(value, value)

        return vectors.joined(builder, count, 0.0, builder.fadd, square)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def _largest(_context: Any, _numbers: Any, _count: Any) -> Any:
    """The largest of ``count`` numbers at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        numbers, count = arguments

        def value(kind: Any, place: Any) -> Any:
            return vectors.load(builder, builder.add(numbers, place), kind)

        return vectors.joined(builder, count, float("-inf"), partial(vectors.larger, builder), value)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def _exponentials(_context: Any, _numbers: Any, _count: Any, _top: Any) -> Any:
    """Writes exp(number - top) for each of ``count`` numbers at an address, and returns the sum."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        numbers, count, top = arguments
        tops = {vectors.VECTOR: vectors.broadcast(builder, top), FLOAT: top}

        def one(kind: Any, place: Any) -> Any:
            address = builder.add(numbers, place)
            value = vectors.exp(builder, builder.fsub(vectors.load(builder, address, kind), tops[kind]))
            vectors.store(builder, value, address)
            return value

        return vectors.joined(builder, count, 0.0, builder.fadd, one)

    return types.float32(types.int64, types.int64, types.float32), generate


@njit(**OPTIONS)
def add_norm(x: Any, y: Any, weight: Any, epsilon: Any, out: Any) -> None:
    """Adds ``y`` to ``x`` [rows, width] in place, and writes its root-mean-square norm times ``weight`` to ``out``."""
    rows, width = x.shape
    for row in range(rows):
        for k in range(width):
            x[row, k] += y[row, k]
        scale = _ONE / np.sqrt(_squares(x[row].ctypes.data, width) / _FLOAT(width) + epsilon)
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
                scale = _ONE / np.sqrt(_squares(head.ctypes.data, size) / _FLOAT(size) + epsilon)
                for k in range(size):
                    head[k] *= scale * weight[k]
            for k in range(half):
                left, right = head[k], head[half + k]
                head[k] = left * cos[at, k] - right * sin[at, k]
                head[half + k] = right * cos[at, half + k] + left * sin[at, half + k]


@njit(inline="always", **OPTIONS)
def _seen(first: Any, many: Any, position: Any, window: Any) -> Any:
    """(the first, how many) of ``many`` keys from ``first`` on that a row at a position sees."""
    left = max(first, position + 1 - window) if window else first
    return left, max(min(first + many, position + 1) - left, 0)


@njit(**OPTIONS)
def attend(qkv: Any, pieces: Any, positions: Any, place: Any, shape: Any, weights: Any, out: Any, whose: Any) -> None:
    """Keeps each row's keys and values, and attends to all of its request that it sees.

    Rows of one request are taken together, and so are the heads that share keys, so that these are read from a near cache; a
    row's sums do not depend on it.

    Args:
        qkv: [rows, heads + 2 kv heads, size], rotated.
        pieces: [requests, 4]: the address of a request's [layers, 2, kv heads, length, size], its length, its first row and the
            one after its last; these rows follow each other.
        positions: [rows], where each stands.
        place: (number of the layer, how many keys are seen or 0 for all).
        shape: (heads, kv heads).
        weights: room for [:data:`TOGETHER` * heads of one kv head, the longest context].
        out: [rows, heads, size].
        whose: (first, one after the last) of the [requests, kv heads], counted through.
    """
    heads, kv_heads = shape
    layer, window = place
    size = np.int64(out.shape[2])
    group, summed, whole = heads // kv_heads, size // _EIGHT * _EIGHT, size // LANES * LANES
    scale = _ONE / np.sqrt(_FLOAT(size))
    for unit in range(whose[0], whose[1]):
        cache, length, begin, end = pieces[unit // kv_heads]
        number = unit % kv_heads
        head_bytes = _FOUR * length * size
        keys_at = cache + (2 * layer * kv_heads + number) * head_bytes
        values_at = keys_at + kv_heads * head_bytes
        keys, values = carray(floats_at(keys_at), (length, size)), carray(floats_at(values_at), (length, size))
        for row in range(begin, end):
            for k in range(size):
                keys[positions[row], k] = qkv[row, heads + number, k]
                values[positions[row], k] = qkv[row, heads + kv_heads + number, k]
        for start in range(begin, end, TOGETHER):
            stop = min(start + TOGETHER, end)
            high = positions[stop - 1] + 1
            low = _seen(0, high, positions[start], window)[0]
            step = _KEYS_TOGETHER if (stop - start) * group > 1 else high - low
            for block in range(low, high, step):
                for row in range(start, stop):
                    left, count = _seen(block, step, positions[row], window)
                    here = keys_at + _FOUR * left * size
                    for head in range(group if count else 0):
                        soon = here + kv_heads * head_bytes if row == start and not head else _NOWHERE
                        query = qkv[row, number * group + head]
                        scores = weights[(row - start) * group + head, left - low : left - low + count]
                        _scores(query.ctypes.data, here, count, size, soon, scores.ctypes.data)
                        for k in range(summed, size):
                            for t in range(count):
                                scores[t] += query[k] * keys[left + t, k]
            for row in range(start, stop):
                left, count = _seen(low, high - low, positions[row], window)
                for head in range(group):
                    scores = weights[(row - start) * group + head, left - low : left - low + count]
                    for t in range(count):
                        scores[t] *= scale
                    at = scores.ctypes.data
                    share = _ONE / _exponentials(at, count, _largest(at, count))
                    for t in range(count):
                        scores[t] *= share
                    for k in range(size):
                        out[row, number * group + head, k] = _ZERO
            after = keys_at + head_bytes if number + 1 < kv_heads else _NOWHERE
            for block in range(low, high, step):
                for row in range(start, stop):
                    left, count = _seen(block, step, positions[row], window)
                    offset = _FOUR * left * size
                    for head in range(group if count else 0):
                        soon = after + offset if after and row == start and not head else _NOWHERE
                        written = out[row, number * group + head]
                        shares = weights[(row - start) * group + head, left - low : left - low + count]
                        _mix(shares.ctypes.data, values_at + offset, count, size, soon, written.ctypes.data)
                        for t in range(count if whole < size else 0):
                            for k in range(whole, size):
                                written[k] += shares[t] * values[left + t, k]
