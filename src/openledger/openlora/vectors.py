"""Vectors of sixteen float32 numbers, written out in LLVM's own types for the compiled loops that do most of the work.

No loop allows LLVM to order a sum as it likes, or to round a product and a sum once where two roundings are written: it would do
so differently on each kind of processor. Sums are built of these vectors instead, and have the same bits everywhere: a processor
with shorter vectors takes several of them for one (``tests/openlora/test_processors.py``). The functions write instructions to a
builder; addresses are 64-bit integers. Numba keeps compiled loops until the file that they stand in changes, and does not see
that this one did: each such file therefore names the digest of this one (``tests/openlora/test_vectors.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
"""How loops are compiled."""

LANES = 16
BYTE, HALF, WORD, LONG, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
EIGHT = ir.VectorType(FLOAT, 8)
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def load(builder: Any, address: Any, kind: Any = VECTOR, align: int = 4) -> Any:
    """A load of ``kind`` from an address."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def store(builder: Any, value: Any, address: Any) -> None:
    """Stores a float or a vector of them."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 4


def prefetch(builder: Any, address: Any, nearness: int = 3) -> None:
    """Has the cache line at an address, which may be any, read; processors do not look ahead over the end of a page.

    Args:
        nearness: 3 for the cache next to the processor, 2 for the one behind it.
    """
    byte, number = BYTE.as_pointer(), WORD
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, byte), number(0), number(nearness), number(1)])


def widen(builder: Any, kind: Any, address: Any) -> Any:
    """Sixteen numbers of a Numba type (float32, bfloat16 bits in uint16, int8 codes) as float32."""
    if kind == types.float32:
        return load(builder, address)
    words = ir.VectorType(WORD, LANES)
    if kind == types.uint16:
        short = builder.zext(load(builder, address, ir.VectorType(HALF, LANES), 2), words)
        return builder.bitcast(builder.shl(short, ir.Constant(words, [16] * LANES)), VECTOR)
    return builder.sitofp(builder.sext(load(builder, address, ir.VectorType(BYTE, LANES), 1), words), VECTOR)


def _llvm(builder: Any, name: str, *values: Any) -> Any:
    """LLVM's function of that name for floats or vectors of them."""
    kind = values[0].type
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    function = ir.FunctionType(kind, [kind] * len(values))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}"), values)


def fma(builder: Any, left: Any, right: Any, total: Any) -> Any:
    """left * right + total, rounded once."""
    return _llvm(builder, "fma", left, right, total)


def larger(builder: Any, left: Any, right: Any) -> Any:
    """The larger one of each two numbers; the right one where one of them is none."""
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def exp(builder: Any, x: Any) -> Any:
    """Cephes' expf of floats or vectors of them from -87 to 88, taken to these bounds; within 2 units in the last place."""
    kind = x.type
    least, most, *series = (constant(kind, one) for one in (-87.0, 88.0, *_EXP))
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    x = builder.select(builder.fcmp_ordered("<", x, most), x, most)
    whole = _llvm(builder, "floor", fma(builder, x, constant(kind, _LOG2_E), constant(kind, 0.5)))
    rest = fma(builder, whole, constant(kind, -_LN2_HIGH), x)
    rest = fma(builder, whole, constant(kind, -_LN2_LOW), rest)
    value = series[0]
    for factor in series[1:]:
        value = fma(builder, value, rest, factor)
    value = builder.fadd(fma(builder, value, builder.fmul(rest, rest), rest), constant(kind, 1.0))
    words = ir.VectorType(WORD, kind.count) if isinstance(kind, ir.VectorType) else WORD
    power = builder.shl(builder.add(builder.fptosi(whole, words), constant(words, 127)), constant(words, 23))
    return builder.fmul(value, builder.bitcast(power, kind))


def constant(kind: Any, number: float) -> Any:
    """A number, or a vector of it as often as ``kind`` holds."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def broadcast(builder: Any, value: Any) -> Any:
    """A vector of one number sixteen times."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, WORD(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(WORD, LANES), [0] * LANES))


def horizontal(builder: Any, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
    """A vector's numbers joined: halves are, until one is left."""
    count = vector.type.count
    while count > 1:
        count //= 2
        low, high = (
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(WORD, count), list(range(first, first + count)))
            )
            for first in (0, count)
        )
        vector = join(low, high)
    return builder.extract_element(vector, WORD(0))


def horizontal_sum(builder: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""
    return horizontal(builder, vector, builder.fadd)


def _halves(builder: Any, left: Any, right: Any, low: Sequence[int], high: Sequence[int]) -> Any:
    """Some numbers of two vectors, and others, added."""
    kind = ir.VectorType(WORD, len(low))
    return builder.fadd(*(builder.shuffle_vector(left, right, ir.Constant(kind, list(one))) for one in (low, high)))


def halved(builder: Any, vector: Any) -> Any:
    """Eight numbers: the first half of sixteen plus the second."""
    return _halves(builder, vector, vector, range(8), range(8, 16))


def horizontal_sums(builder: Any, eights: Sequence[Any], address: Any) -> None:
    """Stores the sums of four or eight vectors of eight beside each other, each as :func:`horizontal_sum` adds it."""
    # Four numbers of each of two vectors, then two of each of four; places such that registers of 128 bits keep to themselves.
    low, high = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
    fours = [_halves(builder, *pair, low, high) for pair in zip(eights[::2], eights[1::2], strict=True)]
    low, high = (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)
    twos = [_halves(builder, *pair, low, high) for pair in zip(fours[::2], fours[1::2], strict=True)]
    low, high = (0, 4, 2, 6, 8, 12, 10, 14), (1, 5, 3, 7, 9, 13, 11, 15)
    sums = _halves(builder, twos[0], twos[-1], low[: len(eights)], high[: len(eights)])
    store(builder, sums, address)


def loop(builder: Any, count: Any, carried: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """A loop of ``count`` times; ``body`` gets the number of the round and what was carried to it, and returns what goes on."""
    before, head = builder.block, builder.append_basic_block("head")
    inner, done = builder.append_basic_block("round"), builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    number, values = builder.phi(LONG), [builder.phi(one.type) for one in carried]
    number.add_incoming(LONG(0), before)
    for value, one in zip(values, carried, strict=True):
        value.add_incoming(one, before)
    builder.cbranch(builder.icmp_signed("<", number, count), inner, done)
    builder.position_at_end(inner)
    after = body(number, values)
    number.add_incoming(builder.add(number, LONG(1)), builder.block)
    for value, one in zip(values, after, strict=True):
        value.add_incoming(one, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return values


def joined(
    builder: Any, count: Any, start: float, join: Callable[[Any, Any], Any], some: Callable[[Any, Any], Any]
) -> Any:
    """What ``some(kind, place)`` makes of ``count`` numbers, joined in an order that is the same on every processor.

    Args:
        start: what is joined to first, and changes nothing.
        join: of two floats or vectors.
        some: gets :data:`VECTOR` for sixteen numbers or :data:`FLOAT` for one, and the bytes before them.
    """
    wide = builder.sdiv(count, LONG(LANES))
    done = builder.mul(wide, LONG(LANES))
    sixteen = loop(
        builder,
        wide,
        [constant(VECTOR, start)],
        lambda number, made: [join(made[0], some(VECTOR, builder.mul(number, LONG(4 * LANES))))],
    )
    rest = loop(
        builder,
        builder.sub(count, done),
        [horizontal(builder, sixteen[0], join)],
        lambda number, made: [join(made[0], some(FLOAT, builder.mul(builder.add(done, number), LONG(4))))],
    )
    return rest[0]


def by_groups(builder: Any, count: Any, size: int, some: Callable[[int, Any], None]) -> None:
    """``some(number, first)`` writes what is done with ``number`` of ``count`` things from ``first`` on: ``size``, then one."""
    rounds = builder.sdiv(count, LONG(size))
    done = builder.mul(rounds, LONG(size))

    def group(number: Any, _carried: list[Any]) -> list[Any]:
        some(size, builder.mul(number, LONG(size)))
        return []

    def single(number: Any, _carried: list[Any]) -> list[Any]:
        some(1, builder.add(done, number))
        return []

    loop(builder, rounds, [], group)
    loop(builder, builder.sub(count, done), [], single)


def compiled_apart(arguments: int) -> Any:
    """A decorator for a loop that takes so many whole numbers, addresses among them, and that others :func:`call`.

    What Numba compiles into another loop is optimised again with each loop around it. It must not raise, nor ask for memory.
    """
    return cfunc(types.void(*[types.int64] * arguments), **OPTIONS)


@intrinsic
def call(_context: Any, _address: Any, arguments: Any) -> Any:
    """In compiled loops: calls what :func:`compiled_apart` made, whose ``address`` it gets, with a tuple of whole numbers."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        address, values = given
        numbers = [
            context.cast(builder, builder.extract_value(values, place), kind, types.int64)
            for place, kind in enumerate(signature.args[1])
        ]
        function = ir.FunctionType(ir.VoidType(), [LONG] * len(numbers))
        builder.call(builder.inttoptr(address, function.as_pointer()), numbers)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate


@intrinsic
def longs_at(_context: Any, _address: Any) -> Any:
    """In compiled loops: a pointer to the int64 numbers at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), generate


@intrinsic
def floats_at(_context: Any, _address: Any) -> Any:
    """In compiled loops: a pointer to the float32 numbers at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate
