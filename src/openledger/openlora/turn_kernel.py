"""All layers of a turn in one compiled loop, so that no interpreter runs between two products.

Several threads may run it at the same time, each with its part of every step's rows, columns, requests or adapters, which do
not depend on each other; they wait for each other where a step needs what another wrote.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from openledger.openlora.adapter_kernel import change, reads
from openledger.openlora.kernels import add_norm, attend, gate, rotate
from openledger.openlora.product_kernel import COLUMNS, ROWS
from openledger.openlora.vectors import LONG, OPTIONS, call, floats_at

# Made of adapter_kernel 5b09c94c1cf9c027, kernels 80551a21be39be8d, product_kernel c1412b10e4118914, vectors b90f158b8fc253d5.
GIVE_WAY = int(ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0)
"""The address of the system's sched_yield, in this process."""
_PATIENCE = 1 << 10
_BEFORE_GROUPS, _OF_A_GROUP = 4, 3
_ALL = np.int64(1 << 62)


class Turn(NamedTuple):
    """Buffers and places of a turn's rows.

    Attributes:
        x, h, y: [rows, hidden]: the sum so far, its norm, what the last step made.
        qkv: [rows, heads + 2 kv heads, head size].
        attended: [rows, heads, head size].
        gate_up: [rows, 2 * feed forward].
        inner: [rows, feed forward].
        weights: [threads, :data:`openledger.openlora.kernels.TOGETHER` * heads of a kv head, longest context].
        positions: [rows].
        pieces: [requests, 4], as in :func:`openledger.openlora.kernels.attend`.
    """

    x: Any
    h: Any
    y: Any
    qkv: Any
    attended: Any
    gate_up: Any
    inner: Any
    weights: Any
    positions: Any
    pieces: Any


class Share(NamedTuple):
    """What one of the threads does of a turn.

    Attributes:
        part: which part of every step, of so many
        parts: threads.
        met: [1] zeros, the same for all.
        give_way: :data:`GIVE_WAY`.
    """

    part: int
    parts: int
    met: Any
    give_way: int

    def fail(self) -> None:
        """Lets the others go on, to an end whose results are worth nothing, instead of waiting for this one forever."""
        self.met[0] = _ALL


@intrinsic
def _add_and_wait(_context: Any, _place: Any, _goal: Any, _give_way: Any) -> Any:
    """Adds one to the number at an address, and waits until it has reached the goal.

    Args:
        place: the address.
        goal: threads times how often they have met.
        give_way: address of a function that lets others use the processor.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place, goal, give_way = arguments
        pointer = builder.inttoptr(place, LONG.as_pointer())
        builder.atomic_rmw("add", pointer, LONG(1), "seq_cst")
        before, head = builder.block, builder.append_basic_block("head")
        again, slow = builder.append_basic_block("again"), builder.append_basic_block("slow")
        back, done = builder.append_basic_block("back"), builder.append_basic_block("done")
        builder.branch(head)
        builder.position_at_end(head)
        tries = builder.phi(LONG)
        tries.add_incoming(LONG(0), before)
        found = builder.load_atomic(pointer, "seq_cst", 8)
        builder.cbranch(builder.icmp_signed(">=", found, goal), done, again)
        builder.position_at_end(again)
        builder.cbranch(builder.icmp_signed(">", tries, LONG(_PATIENCE)), slow, back)
        builder.position_at_end(slow)
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(give_way, function.as_pointer()), [])
        builder.branch(back)
        builder.position_at_end(back)
        tries.add_incoming(builder.add(tries, LONG(1)), back)
        builder.branch(head)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@njit(inline="always", **OPTIONS)
def _floats(address: Any, count: Any) -> Any:
    """So many numbers at an address; none if it is 0."""
    return carray(floats_at(address), (count if address else np.int64(0),))


@njit(inline="always", **OPTIONS)
def _meet(share: Any, meetings: Any) -> Any:
    """Waits until every thread is here; returns how often they have met now."""
    if share.parts > 1:
        _add_and_wait(share.met.ctypes.data, (meetings + 1) * share.parts, share.give_way)
    return meetings + 1


@njit(**OPTIONS)
def _multiply_and_change(
    layer: Any,
    loop: Any,
    changes: Any,
    place: Any,
    read: Any,
    made: Any,
    found: Any,
    room: Any,
    share: Any,
    meetings: Any,
) -> Any:
    """Writes a group's outputs for ``read`` to ``made``, with what adapters change; returns how often the threads have met.

    Args:
        layer, loop, changes, share: as in :func:`run_layers`; the layer is one of the layers.
        place: (number of the layer, number of the group).
        read: [rows, inputs].
        made: [rows, outputs].
        found: room for [adapters, 2].
        room: for :data:`openledger.openlora.product_kernel.ROWS` * :data:`openledger.openlora.product_kernel.COLUMNS` numbers.
        meetings: before.
    """
    number, group = place
    outputs, at = np.int64(made.shape[1]), _BEFORE_GROUPS + _OF_A_GROUP * group
    panels = (outputs + COLUMNS - 1) // COLUMNS
    first, last = panels * share.part // share.parts, panels * (share.part + 1) // share.parts
    count = reads(changes, number, group, found)
    soon = found[count * share.part // share.parts : count * (share.part + 1) // share.parts]
    rows = (read.ctypes.data, read.shape[0], read.shape[1])
    place = (layer[at], layer[at + 1], layer[at + 2], soon.ctypes.data, len(soon))
    call(loop, rows + place + (made.ctypes.data, outputs, first, last, room.ctypes.data))
    meetings = _meet(share, meetings)
    if count:
        change(read, made, changes, number, group, share.part, share.parts)
        meetings = _meet(share, meetings)
    return meetings


@njit(**OPTIONS)
def run_layers(
    layers: Any,
    loop: Any,
    shape: Any,
    epsilon: Any,
    rotation: Any,
    last_norm: Any,
    turn: Any,
    changes: Any,
    share: Any,
) -> None:
    """Runs every layer and the last norm, which stands in ``turn.h`` then.

    Args:
        layers: [layers, 16]: the addresses of the weights of a layer's first norm, of its second, of those of queries and keys
            (0 for none), how many keys are seen (0 for all), then for each group the addresses of weights, scales (0 for none)
            and bias (0 for none).
        loop: address of the weights' :func:`openledger.openlora.product_kernel.multiplication`.
        shape: (heads, kv heads).
        epsilon: of the norms.
        rotation: (cosines, sines) [context, head size].
        last_norm: [hidden].
        turn: :class:`Turn`; ``x`` holds the tokens' embeddings, ``y`` zeros.
        changes: :class:`openledger.openlora.adapter_kernel.Changes`.
        share: :class:`Share`.
    """
    rows, hidden = turn.x.shape
    first, last = rows * share.part // share.parts, rows * (share.part + 1) // share.parts
    units = len(turn.pieces) * shape[1]
    first_unit, last_unit = units * share.part // share.parts, units * (share.part + 1) // share.parts
    x, h, y, positions = turn.x[first:last], turn.h[first:last], turn.y[first:last], turn.positions[first:last]
    size = turn.qkv.shape[2]
    qkv, attended = turn.qkv.reshape(rows, -1), turn.attended.reshape(rows, -1)
    cos, sin = rotation
    found, room = np.empty((len(changes.adapters), 2), np.int64), np.empty(ROWS * COLUMNS, np.float32)
    met = 0
    for number in range(len(layers)):
        layer = layers[number]
        add_norm(x, y, _floats(layer[0], hidden), epsilon, h)
        met = _meet(share, met)
        met = _multiply_and_change(layer, loop, changes, (number, 0), turn.h, qkv, found, room, share, met)
        norms = _floats(layer[2], 2 * size).reshape(-1, size)
        rotate(turn.qkv[first:last], cos, sin, positions, norms, epsilon, shape)
        met = _meet(share, met)
        weights, window = turn.weights[share.part], layer[3]
        whose = (first_unit, last_unit)
        attend(turn.qkv, turn.pieces, turn.positions, (number, window), shape, weights, turn.attended, whose)
        met = _meet(share, met)
        met = _multiply_and_change(layer, loop, changes, (number, 1), attended, turn.y, found, room, share, met)
        add_norm(x, y, _floats(layer[1], hidden), epsilon, h)
        met = _meet(share, met)
        met = _multiply_and_change(layer, loop, changes, (number, 2), turn.h, turn.gate_up, found, room, share, met)
        gate(turn.gate_up[first:last], turn.inner[first:last])
        met = _meet(share, met)
        met = _multiply_and_change(layer, loop, changes, (number, 3), turn.inner, turn.y, found, room, share, met)
    add_norm(x, y, last_norm, epsilon, h)
