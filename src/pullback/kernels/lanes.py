"""Sixteen float32 numbers at once: a type for loops of which the compiler makes no good vector instructions by itself.

A loop that reads many lines and writes several asks, each time it begins, whether any of them overlap, or gives up; and
what it computes for one output it forgets for the next. With this type it says what it means. Where registers are
narrower LLVM takes two or four of them.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

U8 = np.uint64
NUM_LANES = 16
VECTOR = ir.VectorType(ir.FloatType(), NUM_LANES)
MASK = ir.VectorType(ir.IntType(1), NUM_LANES)
COUNTS = ir.VectorType(ir.IntType(32), NUM_LANES)
FLOAT_BYTES = 4


class Lanes(types.Type):  # type: ignore[misc]
    """The type of sixteen numbers."""

    def __init__(self) -> None:
        super().__init__("Lanes")


LANES = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _add_operator(operation: Any, name: str) -> None:
    @intrinsic
    def compute(typing_context, a, b):
        def generate(context, builder, signature, args):
            return getattr(builder, name)(*args)

        return LANES(LANES, LANES), generate

    @overload(operation)
    def find(a, b):
        if a is LANES and b is LANES:
            return lambda a, b: compute(a, b)
        return None


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _add_operator(_operation, _name)


def _place(context: Any, builder: Any, array_type: Any, values: Any, index: Any) -> Any:
    array = context.make_array(array_type)(context, builder, values)
    return builder.bitcast(builder.gep(array.data, [index]), VECTOR.as_pointer())


def _spread_value(builder: Any, value: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _mask(builder: Any, count: Any) -> Any:
    places = ir.Constant(COUNTS, [ir.Constant(ir.IntType(32), k) for k in range(NUM_LANES)])
    return builder.icmp_signed("<", places, _spread_value(builder, builder.trunc(count, ir.IntType(32)), COUNTS))


def _function(builder: Any, name: str, kind: Any, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, arguments), name)


@intrinsic
def load(typing_context, values, index):
    """``values[index : index + 16]``, of a flat float32 array."""

    def generate(context, builder, signature, args):
        loaded = builder.load(_place(context, builder, signature.args[0], *args))
        loaded.align = FLOAT_BYTES
        return loaded

    return LANES(values, types.uint64), generate


@intrinsic
def _load_masked(typing_context, values, index, count):
    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], *args[:2])
        pointer, i32 = VECTOR.as_pointer(), ir.IntType(32)
        read = _function(builder, "llvm.masked.load.v16f32.p0", VECTOR, [pointer, i32, MASK, VECTOR])
        return builder.call(read, [place, i32(FLOAT_BYTES), _mask(builder, args[2]), ir.Constant(VECTOR, None)])

    return LANES(values, types.uint64, types.int64), generate


@njit(inline="always")
def load_first(values, index, count):
    """The first `count` of ``values[index : index + 16]``, zeros after them; nothing else is read."""
    return load(values, index) if count >= NUM_LANES else _load_masked(values, index, count)


@intrinsic
def store(typing_context, values, index, lanes):
    """``values[index : index + 16] = lanes``."""

    def generate(context, builder, signature, args):
        written = builder.store(args[2], _place(context, builder, signature.args[0], *args[:2]))
        written.align = FLOAT_BYTES
        return context.get_dummy_value()

    return types.void(values, types.uint64, LANES), generate


@intrinsic
def _store_masked(typing_context, values, index, lanes, count):
    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], *args[:2])
        pointer, i32 = VECTOR.as_pointer(), ir.IntType(32)
        write = _function(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), [VECTOR, pointer, i32, MASK])
        builder.call(write, [args[2], place, i32(FLOAT_BYTES), _mask(builder, args[3])])
        return context.get_dummy_value()

    return types.void(values, types.uint64, LANES, types.int64), generate


@njit(inline="always")
def store_first(values, index, lanes, count):
    """Write the first `count` lanes to ``values[index:]``; nothing else is written.

    An instruction that reads or writes some of its lanes is for the end of a line: not every machine has one.
    """
    if count >= NUM_LANES:
        store(values, index, lanes)
    else:
        _store_masked(values, index, lanes, count)


@intrinsic
def all_lanes(typing_context, value):
    """One number in all lanes."""

    def generate(context, builder, signature, args):
        return _spread_value(builder, args[0], VECTOR)

    return LANES(types.float32), generate


@intrinsic
def multiply_add(typing_context, a, b, c):
    """``a * b + c``, rounded once where the machine can."""

    def generate(context, builder, signature, args):
        return builder.call(_function(builder, "llvm.fmuladd.v16f32", VECTOR, [VECTOR] * 3), args)

    return LANES(LANES, LANES, LANES), generate


@intrinsic
def larger(typing_context, a, b):
    """The larger of two numbers in each lane; `b` where either is NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return LANES(LANES, LANES), generate


@intrinsic
def square_root(typing_context, a):
    """Of each lane."""

    def generate(context, builder, signature, args):
        return builder.call(_function(builder, "llvm.sqrt.v16f32", VECTOR, [VECTOR]), args)

    return LANES(LANES), generate


@intrinsic
def where_filled(typing_context, condition, a, b):
    """`a` in lanes where `condition` is other than zero, `b` in the others."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_unordered("!=", args[0], ir.Constant(VECTOR, None)), *args[1:])

    return LANES(LANES, LANES, LANES), generate


@intrinsic
def is_any_filled(typing_context, a):
    """Whether any lane is other than zero (or NaN)."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(builder.fcmp_unordered("!=", args[0], ir.Constant(VECTOR, None)), ir.IntType(NUM_LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(NUM_LANES), 0))

    return types.boolean(LANES), generate


@intrinsic
def look_up_pairs(typing_context, values, offset, places, at):
    """For the 16 numbers p of ``places[at : at + 16]``: ``values[offset + p]``, and ``values[offset + p + 1]``.

    Both are looked up at once; an instruction that gathers takes longer.
    """

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        where = context.make_array(signature.args[2])(context, builder, args[2])
        i32, i64 = ir.IntType(32), ir.IntType(64)
        first, half = builder.gep(array.data, [args[1]]), NUM_LANES // 2
        halves = []
        for start in (0, half):
            pairs = ir.Constant(ir.VectorType(i64, half), ir.Undefined)
            for q in range(half):
                place = builder.load(builder.gep(where.data, [builder.add(args[3], i64(start + q))]))
                pointer = builder.gep(first, [builder.sext(place, i64)])
                pair = builder.load(builder.bitcast(pointer, i64.as_pointer()))
                pair.align = FLOAT_BYTES
                pairs = builder.insert_element(pairs, pair, i32(q))
            halves.append(builder.bitcast(pairs, VECTOR))
        every_other = ([i32(2 * q + k) for q in range(NUM_LANES)] for k in (0, 1))
        kind = ir.VectorType(i32, NUM_LANES)
        parts = [builder.shuffle_vector(*halves, ir.Constant(kind, choice)) for choice in every_other]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(LANES, 2)(values, types.uint64, places, types.uint64), generate
