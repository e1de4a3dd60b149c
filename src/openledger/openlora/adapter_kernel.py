"""What adapters change in a turn's rows: one compiled loop, in vectors that are written out.

With an adapter for each row this loop does little but read factors, so it should read as fast as memory gives. Factors therefore
stand in the order in which they are used, one tile after the other (:mod:`openledger.openlora.shapes`): 64 bytes of each of four
ranks. A tile's products are made in LLVM's vector types instead of by its vectoriser: sixteen sums for each rank, whose order
is the same on every processor and for every row, whatever else is in the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora import vectors
from openledger.openlora.shapes import LIKE, LINE, TILE_RANKS
from openledger.openlora.vectors import FLOAT, LANES, LONG, OPTIONS, WORD, ZERO, floats_at

# Made of vectors f848e68ed9b4e147.
_RANKS, _LINE, _FOUR = np.int64(TILE_RANKS), np.int64(LINE), np.int64(4)
_AHEAD = 2048
_FLOAT32, _BFLOAT16, _INT8 = LIKE["float32"], LIKE["bfloat16"], LIKE["int8"]


class Changes(NamedTuple):
    """What the adapters of a turn change, by layout.

    Attributes:
        adapters: [n], addresses of flat adapters, those of one layout after each other.
        starts: [n + 1], where each one's rows begin in ``rows``.
        rows: the rows that have an adapter.
        layouts: [layouts, 6]: its first adapter, the one after its last, bytes of a factor, its rank, floats before its
            factors, the most rows of one of its adapters.
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


@njit(**OPTIONS)
def _change(
    x: Any, y: Any, adapters: Any, starts: Any, rows: Any, place: Any, ups: Any, middle: Any, like: Any
) -> None:
    """As :func:`change`, for adapters of one layout.

    Args:
        x, y, adapters, starts, rows, ups: as there.
        place: (floats before the factors, offset of A among them, rank, a multiple of four).
        middle: room for [most rows of one adapter, sites * rank].
        like: an array of the factors' type: float32, uint16 for the bits of bfloat16, int8.
    """
    start, offset, rank = place
    inputs, size = np.int64(x.shape[1]), np.int64(like.itemsize)
    lane = _LINE // size
    for number in range(len(adapters)):
        first, last = starts[number], starts[number + 1]
        factors = adapters[number] + _FOUR * start
        tiles = inputs // lane
        done = tiles * lane
        for j in range(0, rank * len(ups), _RANKS):
            here = factors + size * (offset + j * inputs)
            rest = carray(_like_at(here + size * _RANKS * done, like), (_RANKS, inputs - done))
            for i in range(first, last):
                row, made = x[rows[i]], middle[i - first, j : j + _RANKS]
                _shrink(like, row.ctypes.data, here, tiles, made.ctypes.data)
                for k in range(inputs - done):
                    for r in range(_RANKS):
                        made[r] += row[done + k] * _widened(rest[r, k])
        for site in range(len(ups)):
            left, right, affine, scaled = ups[site, 1], ups[site, 2], ups[site, 3], ups[site, 4]
            outputs = right - left
            if affine >= 0:
                gains = carray(floats_at(adapters[number] + _FOUR * affine), (2, outputs))
                for i in range(first, last):
                    out = y[rows[i], left:right]
                    for k in range(outputs):
                        out[k] = out[k] * gains[0, k] + gains[1, k]
            if scaled >= 0:
                scales = carray(floats_at(adapters[number] + _FOUR * scaled), (rank,))
                for i in range(first, last):
                    for j in range(rank):
                        middle[i - first, site * rank + j] *= scales[j]
            tiles = outputs // lane
            done = tiles * lane
            for j in range(0, rank, _RANKS):
                here = factors + size * (ups[site, 0] + j * outputs)
                rest = carray(_like_at(here + size * _RANKS * done, like), (_RANKS, outputs - done))
                for i in range(first, last):
                    out = y[rows[i], left:right]
                    made = middle[i - first, site * rank + j : site * rank + j + _RANKS]
                    _expand(like, out.ctypes.data, here, tiles, made.ctypes.data)
                    for k in range(outputs - done):
                        for r in range(_RANKS):
                            out[done + k] += made[r] * _widened(rest[r, k])


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
        begin, end, size, rank, start, most = changes.layouts[number]
        offset, _, first_up, last_up = changes.blocks[number, layer, group]
        first, last = begin + (end - begin) * part // parts, begin + (end - begin) * (part + 1) // parts
        if offset < 0 or first == last:
            continue
        ups, place = changes.ups[first_up:last_up], (start, offset, rank)
        adapters, starts, rows = changes.adapters[first:last], changes.starts[first : last + 1], changes.rows
        middle = np.empty((most, len(ups) * rank), np.float32)
        if size == 4:
            _change(x, y, adapters, starts, rows, place, ups, middle, _FLOAT32)
        elif size == 2:
            _change(x, y, adapters, starts, rows, place, ups, middle, _BFLOAT16)
        else:
            _change(x, y, adapters, starts, rows, place, ups, middle, _INT8)


@njit(**OPTIONS)
def reads(changes: Any, layer: Any, group: Any, found: Any) -> Any:
    """Writes the address and bytes of the factors that :func:`change` will read to ``found`` [adapters, 2]; returns how many."""
    count = 0
    for number in range(len(changes.layouts)):
        begin, end, size, _, start, _ = changes.layouts[number]
        offset = changes.blocks[number, layer, group, 0]
        if offset >= 0:
            for adapter in range(begin, end):
                found[count, 0] = changes.adapters[adapter] + _FOUR * start + size * offset
                found[count, 1] = changes.blocks[number, layer, group, 1]
                count += 1
    return count
