"""Products of a turn's rows with a base's weights: one compiled loop, in vectors that are written out.

A turn has few rows for its weights, so a library that puts weights in order at every product spends much of its time on that.
Here they stand in order from the start (:func:`pack`): some columns of every input, then the next columns. Each panel is
multiplied with some rows at once, whose sums stay in registers, then with the next rows, while it lies in a cache; meanwhile the
next panel is prefetched, and so is what the turn reads after this product (``reads``): this loop computes more than it reads, the
next, over adapters, reads more than it computes.

An output is the sum over the inputs in their order, in one chain of fused multiplications and additions, on every processor and
whatever else is in the batch: how many rows and columns are taken at once changes no bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora import vectors
from openledger.openlora.shapes import LIKE, LINE, Precision
from openledger.openlora.vectors import FLOAT, LANES, LONG, OPTIONS, ZERO, floats_at, longs_at

# Made of vectors b90f158b8fc253d5.
# As many sums as leave registers for a weight and a number of the row: 12 of 16 with AVX2, 24 of 32 with AVX-512 or NEON.
_WIDE = bool(binding.get_host_cpu_features().get("avx512f"))
ROWS = 12 if _WIDE else 6
"""That are multiplied at once."""
COLUMNS = 2 * LANES if _WIDE else LANES
"""Of a panel."""
_VECTORS = COLUMNS // LANES
_INPUTS = 4
_LINE, _FOUR, _ZERO = np.int64(LINE), np.int64(4), np.int64(0)
_MOST_PREFETCHED = 8 << 20


def pack(held: torch.Tensor, start: int, weight: torch.Tensor) -> None:
    """Puts weights [outputs, inputs] into panels [panels, inputs, columns], as the outputs from ``start`` on."""
    outputs, done = len(weight), 0
    while done < outputs:
        panel, column = divmod(start + done, COLUMNS)
        panels = 0 if column else (outputs - done) // COLUMNS
        if panels:
            some = weight[done : done + panels * COLUMNS]
            held[panel : panel + panels].copy_(some.view(panels, COLUMNS, -1).transpose(1, 2))
        else:
            some = weight[done : done + COLUMNS - column]
            held[panel, :, column : column + len(some)] = some.t()
        done += len(some)


def unpacked(held: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """The weights [inputs, end - start] of some outputs, of :func:`pack`."""
    first, last = start // COLUMNS, -(-end // COLUMNS)
    found = held[first:last].transpose(0, 1).reshape(held.shape[1], -1)
    return found[:, start - first * COLUMNS : end - first * COLUMNS]


def _sums(builder: Any, kind: Any, rows: list[Any], inputs: Any, panel: Any, asked: list[Any]) -> list[Any]:
    """Vectors [rows, vectors of a panel] of the rows' products, of their addresses; ``asked`` as in :func:`_multiply`."""
    size = kind.bitwidth // 8
    following, step, many, reads, lines = asked

    def one(place: Any, more: int, sums: list[Any]) -> list[Any]:
        """With the weights of input ``place + more``."""
        line = builder.add(panel, builder.mul(place, LONG(COLUMNS * size)))
        weights = [
            vectors.widen(builder, kind, builder.add(line, LONG((more * COLUMNS + vector * LANES) * size)))
            for vector in range(_VECTORS)
        ]
        made: list[Any] = []
        for row in rows:
            address = builder.add(builder.add(row, builder.mul(place, LONG(4))), LONG(4 * more))
            factor = vectors.broadcast(builder, vectors.load(builder, address, FLOAT))
            made += [vectors.fma(builder, factor, weight, sums[len(made) + n]) for n, weight in enumerate(weights)]
        return made

    def four(number: Any, sums: list[Any]) -> list[Any]:
        with builder.if_then(builder.icmp_signed("<", number, many)):
            ahead = builder.add(following, builder.mul(number, step))
            vectors.prefetch(builder, ahead, 2)
            for line in range(1, _INPUTS * COLUMNS * size // LINE):
                with builder.if_then(builder.icmp_signed(">", step, LONG(LINE * line))):
                    vectors.prefetch(builder, builder.add(ahead, LONG(LINE * line)), 2)
        with builder.if_then(builder.icmp_signed("<", number, lines)):
            vectors.prefetch(builder, builder.add(reads, builder.mul(number, LONG(LINE))), 2)
        for more in range(_INPUTS):
            sums = one(builder.mul(number, LONG(_INPUTS)), more, sums)
        return sums

    rounds = builder.sdiv(inputs, LONG(_INPUTS))
    done = builder.mul(rounds, LONG(_INPUTS))
    sums = vectors.loop(builder, rounds, [ZERO] * (len(rows) * _VECTORS), four)
    return vectors.loop(builder, builder.sub(inputs, done), sums, lambda n, sums: one(builder.add(done, n), 0, sums))


@intrinsic
def _multiply(
    _context: Any,
    like: Any,
    _count: Any,
    _rows: Any,
    _inputs: Any,
    _panel: Any,
    _out: Any,
    _width: Any,
    _next: Any,
    _step: Any,
    _asked: Any,
    _reads: Any,
    _lines: Any,
) -> Any:
    """Writes the products of 1 to :data:`ROWS` rows with a panel.

    Args:
        like: an array of the weights' type.
        count: of the rows.
        rows: address of the first; the others follow it.
        inputs: of each.
        panel: address of [inputs, columns].
        out: address of the first row's outputs.
        width: bytes from one row's outputs to the next one's.
        next: address of the panel's part that is prefetched,
        step: so many bytes of it, some lines, in each round of four inputs,
        asked: for so many rounds.
        reads: address of other memory, of which a line is prefetched
        lines: in each of so many rounds.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, count, rows, inputs, panel, out, width, *asked = arguments
        end = builder.append_basic_block("end")
        cases = builder.switch(count, end)
        for number in range(1, ROWS + 1):
            case = builder.append_basic_block("rows")
            cases.add_case(LONG(number), case)
            builder.position_at_end(case)
            each = [builder.add(rows, builder.mul(inputs, LONG(4 * row))) for row in range(number)]
            for place, one in enumerate(_sums(builder, like.dtype, each, inputs, panel, asked)):
                row, vector = divmod(place, _VECTORS)
                address = builder.add(out, builder.mul(width, LONG(row)))
                vectors.store(builder, one, builder.add(address, LONG(4 * LANES * vector)))
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 11), generate


@njit(inline="always", **OPTIONS)
def _lines(count: Any) -> Any:
    """Bytes of as many whole lines as hold ``count``."""
    return (count + _LINE - 1) // _LINE * _LINE


@cache
def multiplication(precision: Precision) -> Any:
    """The loop for weights in a precision, which is compiled apart: what :func:`multiply` does, of

    addresses of ``x``, its rows and inputs, addresses of the weights, of scales and of the bias (0 for none), the address and
    number of ``reads``, the address and columns of ``out``, the first panel, the one after the last, and the address of room
    for :data:`ROWS` * :data:`COLUMNS` numbers.
    """
    like = LIKE[precision]

    @vectors.compiled_apart(13)
    def loop(
        x: Any,
        rows: Any,
        inputs: Any,
        weights: Any,
        scales: Any,
        bias: Any,
        reads: Any,
        many: Any,
        out: Any,
        outputs: Any,
        start: Any,
        stop: Any,
        room: Any,
    ) -> None:
        if not rows:
            return
        made, spare = carray(floats_at(out), (rows, outputs)), carray(floats_at(room), (ROWS, COLUMNS))
        read = carray(longs_at(reads), (many, 2))
        blocks, width = (rows + ROWS - 1) // ROWS, _FOUR * outputs
        panel = inputs * COLUMNS * np.int64(like.itemsize)
        part = _lines((panel + blocks - 1) // blocks)
        rounds = max(inputs // _INPUTS, 1)
        step = _lines((part + rounds - 1) // rounds)
        asked = part // step
        wanted: Any = _ZERO
        for number in range(many):
            wanted += read[number, 1]
        wanted = min(wanted, _MOST_PREFETCHED)
        calls = (stop - start) * blocks
        share = _lines(wanted // max(calls - many, 1) + 1) if wanted else _ZERO
        lines = min(share // _LINE, rounds)
        entry, place = _ZERO, _ZERO
        for number in range(start, stop):
            left, here = number * COLUMNS, weights + number * panel
            for block in range(blocks):
                first, last = rows * block // blocks, rows * (block + 1) // blocks
                while entry < many and place >= read[entry, 1]:
                    entry, place = entry + 1, _ZERO
                ask = read[entry, 0] + place if entry < many else here
                place += share
                row, after = x + _FOUR * first * inputs, here + panel + block * part
                whole = left + COLUMNS <= outputs
                to, apart = (out + _FOUR * (first * outputs + left), width) if whole else (room, _FOUR * COLUMNS)
                _multiply(like, last - first, row, inputs, here, to, apart, after, step, asked, ask, lines)
                if not whole:
                    for i in range(first, last):
                        for k in range(left, outputs):
                            made[i, k] = spare[i - first, k - left]
        begin, end = start * COLUMNS, min(stop * COLUMNS, outputs)
        if scales:
            factors = carray(floats_at(scales), (outputs,))
            for i in range(rows):
                for k in range(begin, end):
                    made[i, k] *= factors[k]
        if bias:
            more = carray(floats_at(bias), (outputs,))
            for i in range(rows):
                for k in range(begin, end):
                    made[i, k] += more[k]

    return loop


def multiply(
    x: Any, place: tuple[int, int, int], precision: Precision, reads: Any, out: Any, start: int, stop: int
) -> None:
    """Writes the products of rows with some panels of weights, times scales, plus a bias; without the interpreter's lock.

    Args:
        x: [rows, inputs], contiguous.
        place: addresses of :func:`packed`, of scales [outputs] and of a bias [outputs]; 0 for none.
        precision: of the weights.
        reads: [n, 2], addresses and bytes of what will be read next; its first 8 MiB are prefetched.
        out: [rows, outputs], contiguous.
        start, stop: the panels.
    """
    room = np.empty((ROWS, COLUMNS), np.float32)
    given = (x.ctypes.data, *x.shape, *place, reads.ctypes.data, len(reads), out.ctypes.data, out.shape[1])
    multiplication(precision).ctypes(*given, start, stop, room.ctypes.data)
