"""What adapters change in a turn's rows: one compiled loop, in vectors that are written out.

With an adapter for each row this loop does little but read factors, so it should read as fast as memory gives. Factors therefore
stand in the order in which they are used, one tile after the other (:mod:`openledger.openlora.shapes`): 64 bytes of each of four
ranks. A tile's products are made in LLVM's vector types instead of by its vectoriser: sixteen sums for each rank, whose order
is the same on every processor and for every row, whatever else is in the batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora import vectors
from openledger.openlora.shapes import LIKE, LINE, TILE_RANKS, Precision
from openledger.openlora.vectors import FLOAT, LANES, LONG, OPTIONS, WORD, ZERO, call, floats_at, longs_at

# Made of vectors b90f158b8fc253d5.
_RANKS, _LINE, _FOUR, _LONG = np.int64(TILE_RANKS), np.int64(LINE), np.int64(4), np.int64(8)
_AHEAD = 2048


class Changes(NamedTuple):
    """What the adapters of a turn change, by layout.

    Attributes:
        adapters: [n], addresses of flat adapters, those of one layout after each other.
        starts: [n + 1], where each one's rows begin in ``rows``.
        rows: the rows that have an adapter.
        layouts: [layouts, 7]: its first adapter, the one after its last, bytes of a factor, its rank, floats before its
            factors, the most rows of one of its adapters, the address of its precision's :func:`changing`.
        blocks: [layouts, layers + 1, groups, 4]: where A stands among the factors or -1, bytes of A and B together, and the
            first of ``ups`` and the one after the last.
        ups: [all sites, 5], :attr:`openledger.openlora.shapes.Block.columns`.
    """

    adapters: Any
    starts: Any
    rows: Any
    layouts: Any
    blocks: Any
    ups: Any


def _parts(builder: Any, kind: Any, number: Any, row: Any, tiles: Any) -> Any:
    """(address in the row, addresses of the four ranks' factors) of every sixteen columns of a tile.

    Short numbers take so long to widen that memory would wait for it at the end of every page, where processors stop to read
    ahead, unless it is asked. float32 is slower if it is.
    """
    size = kind.bitwidth // 8
    start = builder.add(row, builder.mul(number, LONG(4 * LINE // size)))
    tile = builder.add(tiles, builder.mul(number, LONG(TILE_RANKS * LINE)))
    if size < 4:
        for rank in range(TILE_RANKS):
            vectors.prefetch(builder, builder.add(tile, LONG(_AHEAD + LINE * rank)))
    for part in range(LINE // size // LANES):
        ranks = [builder.add(tile, LONG(LINE * rank + part * LANES * size)) for rank in range(TILE_RANKS)]
        yield builder.add(start, LONG(4 * LANES * part)), ranks


@intrinsic
def _shrink(_context: Any, like: Any, _row: Any, _tiles: Any, _count: Any, _middle: Any) -> Any:
    """Writes the products of a row with four ranks, in some number of tiles, to [4]; the places are addresses."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, row, tiles, count, middle = arguments

        def body(number: Any, sums: list[Any]) -> list[Any]:
            sums = list(sums)
            for place, ranks in _parts(builder, like.dtype, number, row, tiles):
                x = vectors.load(builder, place)
                for rank, address in enumerate(ranks):
                    sums[rank] = vectors.fma(builder, x, vectors.widen(builder, like.dtype, address), sums[rank])
            return sums

        sums = vectors.loop(builder, count, [ZERO] * TILE_RANKS, body)
        vectors.horizontal_sums(builder, [vectors.halved(builder, one) for one in sums], middle)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def _expand(_context: Any, like: Any, _row: Any, _tiles: Any, _count: Any, _middle: Any) -> Any:
    """Adds four numbers times four ranks, in some number of tiles, to a row; the places are addresses."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, row, tiles, count, middle = arguments
        factors = [
            vectors.broadcast(builder, vectors.load(builder, builder.add(middle, LONG(4 * rank)), FLOAT))
            for rank in range(TILE_RANKS)
        ]

        def body(number: Any, _carried: list[Any]) -> list[Any]:
            for place, ranks in _parts(builder, like.dtype, number, row, tiles):
                value = vectors.load(builder, place)
                for factor, address in zip(factors, ranks, strict=True):
                    value = vectors.fma(builder, factor, vectors.widen(builder, like.dtype, address), value)
                vectors.store(builder, value, place)
            return []

        vectors.loop(builder, count, [], body)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, types.int64, types.int64), generate


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
            wide = builder.zext(arguments[0], WORD)
            return builder.bitcast(builder.shl(wide, WORD(16)), number)
        return builder.sitofp(arguments[0], number) if value == types.int8 else arguments[0]

    return types.float32(value), generate


@cache
def changing(precision: Precision) -> Any:
    """The loop for adapters of one layout, whose factors are in a precision, compiled apart: what :func:`change` does, of

    the address of ``x`` and its inputs, the address of ``y`` and its outputs, the addresses of ``adapters`` and ``starts`` and
    their number, the address of ``rows``, floats before the factors, the offset of A among them, the rank (a multiple of
    four), the address and number of ``ups``, and the address of room for [most rows of one adapter, sites * rank].
    """
    like = LIKE[precision]

    @vectors.compiled_apart(14)
    def loop(
        x: Any,
        inputs: Any,
        y: Any,
        outputs: Any,
        adapters: Any,
        starts: Any,
        many: Any,
        rows: Any,
        start: Any,
        offset: Any,
        rank: Any,
        ups: Any,
        sites: Any,
        room: Any,
    ) -> None:
        size, width = np.int64(like.itemsize), sites * rank
        lane = _LINE // size
        flats, bounds = carray(longs_at(adapters), (many,)), carray(longs_at(starts), (many + 1,))
        up = carray(longs_at(ups), (sites, 5))
        for number in range(many):
            first, count = bounds[number], bounds[number + 1] - bounds[number]
            flat, factors = flats[number], flats[number] + _FOUR * start
            whose, middle = carray(longs_at(rows + _LONG * first), (count,)), carray(floats_at(room), (count, width))
            tiles = inputs // lane
            done = tiles * lane
            for j in range(0, width, _RANKS):
                here = factors + size * (offset + j * inputs)
                rest = carray(_like_at(here + size * _RANKS * done, like), (_RANKS, inputs - done))
                for i in range(count):
                    row = x + _FOUR * whose[i] * inputs
                    read, made = carray(floats_at(row), (inputs,)), middle[i, j : j + _RANKS]
                    _shrink(like, row, here, tiles, made.ctypes.data)
                    for k in range(inputs - done):
                        for r in range(_RANKS):
                            made[r] += read[done + k] * _widened(rest[r, k])
            for site in range(sites):
                left, right, affine, scaled = up[site, 1], up[site, 2], up[site, 3], up[site, 4]
                columns = right - left
                if affine >= 0:
                    gains = carray(floats_at(flat + _FOUR * affine), (2, columns))
                    for i in range(count):
                        out = carray(floats_at(y + _FOUR * (whose[i] * outputs + left)), (columns,))
                        for k in range(columns):
                            out[k] = out[k] * gains[0, k] + gains[1, k]
                if scaled >= 0:
                    scales = carray(floats_at(flat + _FOUR * scaled), (rank,))
                    for i in range(count):
                        for j in range(rank):
                            middle[i, site * rank + j] *= scales[j]
                tiles = columns // lane
                done = tiles * lane
                for j in range(0, rank, _RANKS):
                    here = factors + size * (up[site, 0] + j * columns)
                    rest = carray(_like_at(here + size * _RANKS * done, like), (_RANKS, columns - done))
                    for i in range(count):
                        to = y + _FOUR * (whose[i] * outputs + left)
                        out, made = (
                            carray(floats_at(to), (columns,)),
                            middle[i, site * rank + j : site * rank + j + _RANKS],
                        )
                        _expand(like, to, here, tiles, made.ctypes.data)
                        for k in range(columns - done):
                            for r in range(_RANKS):
                                out[done + k] += made[r] * _widened(rest[r, k])

    return loop


@njit(**OPTIONS)
def change(x: Any, y: Any, changes: Any, layer: Any, group: Any, part: Any, parts: Any) -> None:
    """Changes rows of ``y`` by what their adapters make of ``x``: for each site of a group, gain * y + shift + x Aᵀ B.

    Args:
        x: [all rows, inputs].
        y: [all rows, outputs], changed in place.
        changes: :class:`Changes`.
        layer, group: by their numbers.
        part: which part of the adapters, of so many
        parts: of them.
    """
    for number in range(len(changes.layouts)):
        layout, block = changes.layouts[number], changes.blocks[number, layer, group]
        begin, many, rank = layout[0], layout[1] - layout[0], layout[3]
        first, last = begin + many * part // parts, begin + many * (part + 1) // parts
        if block[0] < 0 or first == last:
            continue
        adapters, starts, ups = (
            changes.adapters[first:last],
            changes.starts[first:last],
            changes.ups[block[2] : block[3]],
        )
        room = np.empty(layout[5] * len(ups) * rank, np.float32)
        rows = (x.ctypes.data, x.shape[1], y.ctypes.data, y.shape[1])
        whose = (adapters.ctypes.data, starts.ctypes.data, last - first, changes.rows.ctypes.data)
        place = (layout[4], block[0], rank, ups.ctypes.data, len(ups), room.ctypes.data)
        call(layout[6], rows + whose + place)


@njit(**OPTIONS)
def reads(changes: Any, layer: Any, group: Any, found: Any) -> Any:
    """Writes the address and bytes of the factors that :func:`change` will read to ``found`` [adapters, 2]; returns how many."""
    count = 0
    for number in range(len(changes.layouts)):
        layout, block = changes.layouts[number], changes.blocks[number, layer, group]
        if block[0] >= 0:
            for adapter in range(layout[0], layout[1]):
                found[count, 0] = changes.adapters[adapter] + _FOUR * layout[4] + layout[2] * block[0]
                found[count, 1] = block[1]
                count += 1
    return count
