"""What adapters change in a turn's rows: one compiled loop, in vectors that are written out.

With an adapter for each row this loop does little but read factors, so it should read as fast as memory gives. Factors therefore
stand in the order in which they are used, one tile after the other (:mod:`openledger.openlora.shapes`): 64 bytes of each of four
ranks. A tile's products are made in LLVM's vector types instead of by its vectoriser: sixteen sums for each rank, whose order
is the same on every processor and for every row, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from openledger.openlora.kernels import OPTIONS, ask_for, floats_at
from openledger.openlora.shapes import LINE, TILE_RANKS

_LANES = 16
_BYTE, _HALF, _WORD, _LONG, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_RANKS, _LINE, _FOUR = np.int64(TILE_RANKS), np.int64(LINE), np.int64(4)
_AHEAD = 2048


def _at(builder: Any, address: Any, kind: Any, align: int) -> Any:
    """A load of ``kind`` from an address."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def _wide(builder: Any, kind: Any, address: Any) -> Any:
    """Sixteen numbers of a kind (float32, bfloat16 bits in uint16, int8 codes) as float32."""
    if kind == types.float32:
        return _at(builder, address, _VECTOR, 4)
    words = ir.VectorType(_WORD, _LANES)
    if kind == types.uint16:
        short = builder.zext(_at(builder, address, ir.VectorType(_HALF, _LANES), 2), words)
        return builder.bitcast(builder.shl(short, ir.Constant(words, [16] * _LANES)), _VECTOR)
    return builder.sitofp(builder.sext(_at(builder, address, ir.VectorType(_BYTE, _LANES), 1), words), _VECTOR)


def _add_product(builder: Any, left: Any, right: Any, total: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_LANES}f32"), [left, right, total]
    )


def _spread(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _WORD(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_WORD, _LANES), [0] * _LANES))


def _sum(builder: Any, vector: Any) -> Any:
    """The sum of sixteen numbers: halves are added until one is left."""
    count = _LANES
    while count > 1:
        count //= 2
        low, high = (
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(_WORD, count), list(range(first, first + count)))
            )
            for first in (0, count)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, _WORD(0))


def _over_tiles(
    builder: Any, count: Any, carried: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """A loop over ``count`` tiles; ``body`` gets a tile's number and what was carried to it, and returns what goes on."""
    before, head = builder.block, builder.append_basic_block("head")
    inner, done = builder.append_basic_block("tile"), builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    number, values = builder.phi(_LONG), [builder.phi(one.type) for one in carried]
    number.add_incoming(_LONG(0), before)
    for value, one in zip(values, carried, strict=True):
        value.add_incoming(one, before)
    builder.cbranch(builder.icmp_signed("<", number, count), inner, done)
    builder.position_at_end(inner)
    after = body(number, values)
    number.add_incoming(builder.add(number, _LONG(1)), builder.block)
    for value, one in zip(values, after, strict=True):
        value.add_incoming(one, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return values


def _parts(builder: Any, kind: Any, number: Any, row: Any, tiles: Any) -> Any:
    """(address in the row, addresses of the four ranks' factors) of every sixteen columns of a tile.

    Short numbers take so long to widen that memory would wait for it at the end of every page, where processors stop to read
    ahead, unless it is asked. float32 is slower if it is.
    """
    size = kind.bitwidth // 8
    start = builder.add(row, builder.mul(number, _LONG(4 * LINE // size)))
    tile = builder.add(tiles, builder.mul(number, _LONG(TILE_RANKS * LINE)))
    if size < 4:
        for rank in range(TILE_RANKS):
            ask_for(builder, builder.add(tile, _LONG(_AHEAD + LINE * rank)))
    for part in range(LINE // size // _LANES):
        ranks = [builder.add(tile, _LONG(LINE * rank + part * _LANES * size)) for rank in range(TILE_RANKS)]
        yield builder.add(start, _LONG(4 * _LANES * part)), ranks


@intrinsic
def _shrink(_context: Any, like: Any, _row: Any, _tiles: Any, _count: Any, _middle: Any) -> Any:
    """Writes the products of a row with four ranks, in some number of tiles, to [4]; the places are addresses."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, row, tiles, count, middle = arguments

        def body(number: Any, sums: list[Any]) -> list[Any]:
            sums = list(sums)
            for place, ranks in _parts(builder, like.dtype, number, row, tiles):
                x = _at(builder, place, _VECTOR, 4)
                for rank, address in enumerate(ranks):
                    sums[rank] = _add_product(builder, x, _wide(builder, like.dtype, address), sums[rank])
            return sums

        nothing = ir.Constant(_VECTOR, [0.0] * _LANES)
        for rank, total in enumerate(_over_tiles(builder, count, [nothing] * TILE_RANKS, body)):
            place = builder.inttoptr(builder.add(middle, _LONG(4 * rank)), _FLOAT.as_pointer())
            builder.store(_sum(builder, total), place)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def _expand(_context: Any, like: Any, _row: Any, _tiles: Any, _count: Any, _middle: Any) -> Any:
    """Adds four numbers times four ranks, in some number of tiles, to a row; the places are addresses."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, row, tiles, count, middle = arguments
        factors = [
            _spread(builder, _at(builder, builder.add(middle, _LONG(4 * rank)), _FLOAT, 4))
            for rank in range(TILE_RANKS)
        ]

        def body(number: Any, _carried: list[Any]) -> list[Any]:
            for place, ranks in _parts(builder, like.dtype, number, row, tiles):
                value = _at(builder, place, _VECTOR, 4)
                for factor, address in zip(factors, ranks, strict=True):
                    value = _add_product(builder, factor, _wide(builder, like.dtype, address), value)
                builder.store(value, builder.inttoptr(place, _VECTOR.as_pointer())).align = 4
            return []

        _over_tiles(builder, count, [], body)
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
            wide = builder.zext(arguments[0], _WORD)
            return builder.bitcast(builder.shl(wide, _WORD(16)), number)
        return builder.sitofp(arguments[0], number) if value == types.int8 else arguments[0]

    return types.float32(value), generate


@njit(**OPTIONS)
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
