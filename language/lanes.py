"""Vectors of several numbers in processor registers, for compiled kernels whose inner loops must not be left to chance.

`load` takes LANES neighbouring numbers of a flat array into one value, `multiply_add` works on all of them at once, and
`totals` adds them up. LLVM turns a vector into whatever the processor has: one AVX-512 register, two of AVX2, four of
NEON. A loop over rows whose length is a multiple of LANES then keeps its sums in registers, which a loop over single
numbers does not reliably do.

All of these are for use inside functions that numba compiles, on C-contiguous 1-D arrays of float32 or float64. Nothing
checks that an offset lies inside its array.
"""

from __future__ import annotations

from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

intrinsic: Any = numba.extending.intrinsic
"""Untyped: what it returns is called with one argument fewer than the function that it is given."""
LANES = 16
"""Numbers in a vector; the length of every row is a multiple of it."""


class LanesType(types.Type):
    """LANES numbers of one type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype}, {LANES})")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: LanesType) -> None:
        element = ir.FloatType() if frontend_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, frontend_type, ir.VectorType(element, LANES))


def _is_flat_floats(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and _is_float(array.dtype)


def _is_float(dtype: Any) -> bool:
    return dtype in (types.float32, types.float64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Address of array[offset]."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _call(builder: Any, name: str, result: Any, arguments: Any, fastmath: tuple[str, ...] = ()) -> Any:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, arguments, fastmath=fastmath)


def _suffix(vector: Any) -> str:
    return f"v{LANES}f32" if isinstance(vector.element, ir.FloatType) else f"v{LANES}f64"


@intrinsic
def zeros_like(typing_context: Any, array: Any) -> Any:
    """LANES zeros of an array's type."""
    if not _is_flat_floats(array):
        return None
    lanes = LanesType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(array), generate


@intrinsic
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + LANES]."""
    if not _is_flat_floats(array):
        return None
    lanes = LanesType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(lanes)
        address = _pointer(context, builder, signature.args[0], *arguments)
        address = builder.bitcast(address, vector.as_pointer())
        return builder.load(address, align=array.dtype.bitwidth // 8, typ=vector)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, vector: Any) -> Any:
    """array[offset : offset + LANES] = vector."""
    if not _is_flat_floats(array) or not isinstance(vector, LanesType) or vector.dtype != array.dtype:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _pointer(context, builder, signature.args[0], *arguments[:2])
        address = builder.bitcast(address, arguments[2].type.as_pointer())
        builder.store(arguments[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def spread(typing_context: Any, number: Any) -> Any:
    """LANES times the same number."""
    if not _is_float(number):
        return None
    lanes = LanesType(number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(lanes)
        index = ir.IntType(32)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], ir.Constant(index, 0))
        everywhere = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), everywhere)

    return lanes(number), generate


def _elementwise(left: Any, right: Any, generate: Any) -> Any:
    """The typing of an operation on two vectors, whose code `generate(builder, left, right)` writes."""
    if not isinstance(left, LanesType) or left != right:
        return None
    return left(left, right), lambda context, builder, signature, arguments: generate(builder, *arguments)


@intrinsic
def add(typing_context: Any, left: Any, right: Any) -> Any:
    """left + right."""
    return _elementwise(left, right, lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def subtract(typing_context: Any, left: Any, right: Any) -> Any:
    """left - right."""
    return _elementwise(left, right, lambda builder, a, b: builder.fsub(a, b))


@intrinsic
def multiply(typing_context: Any, left: Any, right: Any) -> Any:
    """left * right."""
    return _elementwise(left, right, lambda builder, a, b: builder.fmul(a, b))


@intrinsic
def divide(typing_context: Any, left: Any, right: Any) -> Any:
    """left / right."""
    return _elementwise(left, right, lambda builder, a, b: builder.fdiv(a, b))


@intrinsic
def lesser(typing_context: Any, left: Any, right: Any) -> Any:
    """The lesser of each two; right where left is no number."""
    return _elementwise(left, right, lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@intrinsic
def greater(typing_context: Any, left: Any, right: Any) -> Any:
    """The greater of each two; right where left is no number."""
    return _elementwise(left, right, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def multiply_add(typing_context: Any, left: Any, right: Any, addend: Any) -> Any:
    """left * right + addend, rounded once where the processor can."""
    if not isinstance(left, LanesType) or left != right or left != addend:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = arguments[0].type
        return _call(builder, f"llvm.fmuladd.{_suffix(vector)}", vector, arguments)

    return left(left, right, addend), generate


@intrinsic
def totals(typing_context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """The sums of each of six vectors, in the first six places of one; zeros in the others.

    Halves are added to halves, and vectors that are half empty then share one: 30 operations instead of six times 8.
    """
    if not isinstance(a, LanesType) or any(other != a for other in (b, c, d, e, f)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = [*arguments, *[ir.Constant(arguments[0].type, None)] * 2]  # eight of LANES numbers
        width = LANES
        while width > len(parts):
            parts = [_halved(builder, part, part, width, 1) for part in parts]
            width //= 2
        pieces = 1  # how many sums a vector holds parts of
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [_halved(builder, left, right, width // pieces, pieces) for left, right in pairs]
            pieces *= 2
        return _selected(builder, parts[0], ir.Constant(parts[0].type, None), [*range(8), *[8] * (LANES - 8)])

    return a(a, b, c, d, e, f), generate


def _halved(builder: Any, left: Any, right: Any, length: int, pieces: int) -> Any:
    """Adds the two halves of each piece of `length` numbers, of one vector or of two, and puts the results side by
    side."""
    count = pieces * length
    starts = range(0, count if left is right else 2 * count, length)
    low = [start + place for start in starts for place in range(length // 2)]
    high = [place + length // 2 for place in low]
    return builder.fadd(_selected(builder, left, right, low), _selected(builder, left, right, high))


def _selected(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


@intrinsic
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Asks for the cache line of array[offset], which will be written to soon; changes nothing."""
    if not _is_flat_floats(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        address = _pointer(context, builder, signature.args[0], *arguments)
        address = builder.bitcast(address, ir.IntType(8).as_pointer())
        for_writing, keep, data = (ir.Constant(number, value) for value in (1, 3, 1))
        # Where pointers have no type of their own (LLVM 15 and later) this is the name of the only variant.
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [address, for_writing, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
