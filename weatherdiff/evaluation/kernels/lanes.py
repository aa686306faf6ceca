"""Vectors of numbers for numba: what one register holds, with arithmetic.

Loops that LLVM may or may not vectorise are as fast as it pleases; these are what they say.

numba's cache of what is made of this does not see that this file has changed: after an edit, delete
``__pycache__`` beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from weatherdiff.evaluation.kernels.network import COLUMNS, EXCHANGES

__all__ = [
    "LANES",
    "column",
    "column_of_differences",
    "equal",
    "exchange",
    "greater",
    "less",
    "load",
    "magnitude",
    "splat",
    "store",
    "total",
    "wide",
]

LANES = 4
"""Lanes of a vector of float64."""

_BYTES = 32


def _intrinsic(function: Callable[..., Any]) -> Any:
    """As numba's, which cannot say that the compiler gives the first argument."""
    return intrinsic(function)


class Lanes(types.Type):
    """A vector of ``count`` numbers of type ``dtype``."""

    def __init__(self, dtype: types.Type, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _of(dtype: Any) -> Lanes:
    return Lanes(dtype, _BYTES * 8 // dtype.bitwidth)


def _pointer(context: Any, builder: ir.IRBuilder, array: Any, data: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array)(context, builder, data).data, [index])


def _load(
    context: Any, builder: ir.IRBuilder, array: Any, data: Any, index: Any, count: int
) -> Any:
    pointer = _pointer(context, builder, array, data, index)
    vector = ir.VectorType(context.get_data_type(array.dtype), count)
    return builder.load(
        builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8
    )


def _store(
    context: Any, builder: ir.IRBuilder, array: Any, data: Any, index: Any, vector: Any
) -> None:
    pointer = builder.bitcast(
        _pointer(context, builder, array, data, index), vector.type.as_pointer()
    )
    builder.store(vector, pointer, align=array.dtype.bitwidth // 8)


def _converted(array: Any, vector: Lanes) -> Callable[..., Any]:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        loaded = _load(context, builder, signature.args[0], args[0], args[1], vector.count)
        if array.dtype == vector.dtype:
            return loaded
        return builder.fpext(loaded, context.get_value_type(vector))

    return generate


@_intrinsic
def load(_: Any, array: Any, index: Any, like: Any) -> Any:
    """Consecutive elements of a contiguous array, in the precision of the array ``like``."""
    vector = _of(like.dtype)
    return vector(array, types.intp, like), _converted(array, vector)


@_intrinsic
def wide(_: Any, array: Any, index: Any) -> Any:
    """Consecutive elements of a contiguous array, as float64."""
    vector = _of(types.float64)
    return vector(array, types.intp), _converted(array, vector)


@_intrinsic
def store(_: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to consecutive elements of a contiguous array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _store(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_intrinsic
def splat(_: Any, value: Any, like: Any) -> Any:
    """One number in every lane, in the precision of the array ``like``."""
    vector = _of(like.dtype)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        lanes = context.get_value_type(vector)(ir.Undefined)
        number = context.cast(builder, args[0], types.float64, vector.dtype)
        for lane in range(vector.count):
            lanes = builder.insert_element(lanes, number, ir.IntType(32)(lane))
        return lanes

    return vector(types.float64, like), generate


@_intrinsic
def total(_: Any, vector: Any) -> Any:
    """Sum of the lanes of a vector of float64."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        lanes = [builder.extract_element(args[0], ir.IntType(32)(i)) for i in range(LANES)]
        while len(lanes) > 1:
            lanes = [builder.fadd(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return vector.dtype(vector), generate


def _comparison(sign: str) -> Callable[..., Any]:
    def compare(_: Any, a: Any, b: Any) -> Any:
        integer = types.Integer.from_bitwidth(a.dtype.bitwidth, True)
        vector = Lanes(integer, a.count)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            found = builder.fcmp_ordered(sign, *args)
            return builder.sext(found, context.get_value_type(vector))

        return vector(a, b), generate

    return compare


less = _intrinsic(_comparison("<"))  # -1 where it holds, as the processor has it
equal = _intrinsic(_comparison("=="))


def _choice(sign: str) -> Callable[..., Any]:
    def choose(_: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(sign, *args), *args)

        return a(a, b), generate

    return choose


greater = _intrinsic(_choice(">"))  # the second where one is NaN


@_intrinsic
def magnitude(_: Any, vector: Any) -> Any:
    """Absolute values."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        bits = ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.count)
        unsigned = ir.Constant(bits, [(1 << (vector.dtype.bitwidth - 1)) - 1] * vector.count)
        cleared = builder.and_(builder.bitcast(args[0], bits), unsigned)
        return builder.bitcast(cleared, args[0].type)

    return vector(vector), generate


def _arithmetic(floating: str, integer: str) -> Callable[..., Any]:
    def compute(_: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            if isinstance(a.dtype, types.Float):
                # A product and a sum may be rounded at once.
                return getattr(builder, floating)(*args, flags=("contract",))
            return getattr(builder, integer)(*args)

        return a(a, b), generate

    return compute


def _overload(operation: Callable[..., Any], floating: str, integer: str) -> None:
    compute = _intrinsic(_arithmetic(floating, integer))

    @overload(operation)
    def _typed(a, b):  # type: ignore[no-untyped-def]  # numba compares the signatures
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: compute(a, b)
        return None


_overload(operator.add, "fadd", "add")
_overload(operator.sub, "fsub", "sub")
_overload(operator.mul, "fmul", "mul")
_overload(operator.truediv, "fdiv", "sdiv")


def _exchange(
    context: Any, builder: ir.IRBuilder, signature: Any, args: Any, indices: list[Any], pairs: Any
) -> Any:
    """Generate the exchanges of the vectors of an array that begin at some indices."""
    array, data = signature.args[0], args[0]
    count = _of(array.dtype).count
    values = [_load(context, builder, array, data, index, count) for index in indices]
    _sort(builder, values, pairs)
    for index, value in zip(indices, values, strict=True):
        _store(context, builder, array, data, index, value)
    return context.get_dummy_value()


def _sort(builder: ir.IRBuilder, values: list[Any], pairs: Any) -> None:
    for low, high in pairs:
        a, b = values[low], values[high]
        # A NaN stays where it is: no value is ever lost.
        swap = builder.fcmp_ordered("<", b, a)
        values[low] = builder.select(swap, b, a)
        values[high] = builder.select(swap, a, b)


def _block(pairs: Any) -> Callable[..., Any]:
    def exchange(_: Any, array: Any, rows: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            indices = cgutils.unpack_tuple(builder, args[1], 8)
            return _exchange(context, builder, signature, args, indices, pairs)

        return types.void(array, types.UniTuple(types.intp, 8)), generate

    return exchange


def _column(size: int, pairs: Any) -> Callable[..., Any]:
    def sort(_: Any, array: Any, first: Any, stride: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            indices = [args[1]]
            while len(indices) < size:
                indices.append(builder.add(indices[-1], args[2]))
            return _exchange(context, builder, signature, args, indices, pairs)

        return types.void(array, types.intp, types.intp), generate

    return sort


def _column_of_differences(size: int, pairs: Any) -> Callable[..., Any]:
    def sort(
        _: Any, array: Any, first: Any, stride: Any, ensemble: Any, place: Any, truth: Any
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, y = signature.args[3], signature.args[5]
            start, between, members, point = cgutils.unpack_tuple(builder, args[4], 4)
            count = _of(array.dtype).count
            observed = _load(context, builder, y, args[5], point, count)
            rows, sources = [args[1]], [start]
            while len(rows) < size:
                rows.append(builder.add(rows[-1], args[2]))
                sources.append(builder.add(sources[-1], between))
            values = [
                builder.fsub(_load(context, builder, x, args[3], source, count), observed)
                for source in sources[:-1]
            ]
            with builder.if_else(
                builder.icmp_signed("==", members, members.type(size)), likely=True
            ) as (all_there, one_less):
                with all_there:
                    loaded = _load(context, builder, x, args[3], sources[-1], count)
                    last, of_last = builder.fsub(loaded, observed), builder.block
                with one_less:
                    infinity = _load(context, builder, array, args[0], rows[-1], count)
                    of_infinity = builder.block
            either = builder.phi(last.type)
            either.add_incoming(last, of_last)
            either.add_incoming(infinity, of_infinity)
            values.append(either)
            _sort(builder, values, pairs)
            for row, value in zip(rows, values, strict=True):
                _store(context, builder, array, args[0], row, value)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, ensemble, place, truth), generate

    return sort


exchange = tuple(_intrinsic(_block(pairs)) for pairs in EXCHANGES)
"""By kind of block: exchange the vectors that begin at eight indices of an array."""

column = tuple(_intrinsic(_column(size, pairs)) for size, pairs in COLUMNS.items())
"""Sort 10, 12, 14 or 16 vectors of an array, from an index on, a stride apart."""

column_of_differences = tuple(
    _intrinsic(_column_of_differences(size, pairs)) for size, pairs in COLUMNS.items()
)
"""The same of differences to observations, where the last row may hold infinity instead.

Arguments are the array, its index and stride; the ensemble, and where in it (first index, stride,
number of members, index of the observation); the observations.
"""
