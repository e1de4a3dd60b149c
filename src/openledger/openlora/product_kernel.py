"""Products of a turn's rows with a base's weights: one compiled loop, in vectors that are written out.

A turn has few rows for its weights, so a library that puts weights in order at every product spends much of its time on that.
Here they stand in order from the start (:func:`packed`): some columns of every input, then the next columns. Each panel is
multiplied with some rows at once, whose sums stay in registers, then with the next rows, while it lies in a cache; meanwhile the
next panel is prefetched, and so is what the turn reads after this product (``reads``): this loop computes more than it reads, the
next, over adapters, reads more than it computes.

An output is the sum over the inputs in their order, in one chain of fused multiplications and additions, on every processor and
whatever else is in the batch: how many rows and columns are taken at once changes no bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import njit, types
from numba.extending import intrinsic

from openledger.openlora import vectors
from openledger.openlora.shapes import LINE
from openledger.openlora.vectors import FLOAT, LANES, LONG, OPTIONS, ZERO

# Made of vectors f848e68ed9b4e147.
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


def packed(weight: torch.Tensor) -> torch.Tensor:
    """Weights [inputs, outputs] in the order in which they are multiplied with: [panels, inputs, columns], zeros at the end."""
    inputs, outputs = weight.shape
    whole = torch.nn.functional.pad(weight, (0, -outputs % COLUMNS))
    return whole.view(inputs, -1, COLUMNS).transpose(0, 1).contiguous()


def unpacked(held: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """The weights [inputs, end - start] of some outputs, of :func:`packed`."""
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


@njit(**OPTIONS)
def multiply(x: Any, weights: Any, like: Any, affine: Any, reads: Any, out: Any, start: Any, stop: Any) -> None:
    """Writes the products of rows with some panels of weights, times scales, plus a bias.

    Args:
        x: [rows, inputs].
        weights: address of :func:`packed`.
        like: an array of their type: float32, uint16 for the bits of bfloat16, int8.
        affine: (scales [outputs], bias [outputs]); an empty one is left out.
        reads: [n, 2], addresses and bytes of what will be read next; its first 8 MiB are prefetched.
        out: [rows, outputs].
        start, stop: the panels.
    """
    rows, inputs, outputs = np.int64(x.shape[0]), np.int64(x.shape[1]), np.int64(out.shape[1])
    if not rows:
        return
    blocks, width = (rows + ROWS - 1) // ROWS, _FOUR * outputs
    panel = inputs * COLUMNS * np.int64(like.itemsize)
    part = _lines((panel + blocks - 1) // blocks)
    rounds = max(inputs // _INPUTS, 1)
    step = _lines((part + rounds - 1) // rounds)
    asked = part // step
    wanted: Any = _ZERO
    for number in range(len(reads)):
        wanted += reads[number, 1]
    wanted = min(wanted, _MOST_PREFETCHED)
    calls = (stop - start) * blocks
    share = _lines(wanted // max(calls - len(reads), 1) + 1) if wanted else _ZERO
    lines = min(share // _LINE, rounds)
    number, place = 0, _ZERO
    spare = np.empty((ROWS, COLUMNS if outputs % COLUMNS else 0), np.float32)
    for at_panel in range(start, stop):
        left, here = at_panel * COLUMNS, weights + at_panel * panel
        for block in range(blocks):
            first, last = rows * block // blocks, rows * (block + 1) // blocks
            while number < len(reads) and place >= reads[number, 1]:
                number, place = number + 1, _ZERO
            ask = reads[number, 0] + place if number < len(reads) else here
            place += share
            row = x.ctypes.data + _FOUR * first * inputs
            after = here + panel + block * part
            if left + COLUMNS <= outputs:
                to = out.ctypes.data + _FOUR * (first * outputs + left)
                _multiply(like, last - first, row, inputs, here, to, width, after, step, asked, ask, lines)
            else:
                to, short = spare.ctypes.data, _FOUR * COLUMNS
                _multiply(like, last - first, row, inputs, here, to, short, after, step, asked, ask, lines)
                for number_of_row in range(first, last):
                    for column in range(left, outputs):
                        out[number_of_row, column] = spare[number_of_row - first, column - left]
    scales, bias = affine
    first, last = start * COLUMNS, min(stop * COLUMNS, outputs)
    if len(scales):
        for i in range(rows):
            for k in range(first, last):
                out[i, k] *= scales[k]
    if len(bias):
        for i in range(rows):
            for k in range(first, last):
                out[i, k] += bias[k]
