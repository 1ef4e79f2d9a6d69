"""Two things that numba has no words for, for compiled kernels that wait for memory: asking for a cache line before it
is needed, and laying the bytes of four places side by side.

Both are for use inside functions that numba compiles. Nothing checks that an offset lies inside its array.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils

intrinsic: Any = numba.extending.intrinsic
"""Untyped: what it returns is called with one argument fewer than the function that it is given."""
BLOCK = 64
"""Bytes of each array that `interleave` reads: a cache line, and the widest register of any processor of today."""

LOCALITY_ONCE = 0 if llvmlite.binding.get_host_cpu_name().startswith("znver") else 3
"""How near to keep what is read once. Intel's processors fetch what is not to be kept more slowly: gathering batches
out of gigabytes took 1.2 times as long on an Emerald Rapids."""


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, element: Any) -> Any:
    """Address of the array's element `offset`, as of an `element`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), element.as_pointer())


@intrinsic
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Asks for the cache line of an array's element `offset`, counted as if the array were flat; changes nothing.

    The array is C-contiguous. An offset outside it does no harm.
    """
    return _prefetching(array, 3)


@intrinsic
def prefetch_once(typing_context: Any, array: Any, offset: Any) -> Any:
    """As `prefetch`, for what is read once: it leaves other things in the caches, where that costs no time."""
    return _prefetching(array, LOCALITY_ONCE)


def _prefetching(array: Any, locality: int) -> Any:
    if not isinstance(array, types.Array) or array.layout != "C":
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        source, place = arguments
        address = _address(context, builder, array, source, place, ir.IntType(8))
        for_reading, keep, data = (ir.Constant(number, value) for value in (0, locality, 1))
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        # Where pointers have no type of their own (LLVM 15 and later) this is the name of the only variant.
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, for_reading, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def interleave(typing_context: Any, array: Any, a: Any, b: Any, c: Any, d: Any, out: Any, offset: Any) -> Any:
    """out[offset : offset + 4 * BLOCK] = array[a], array[b], array[c], array[d], array[a + 1], array[b + 1], ...

    Both are flat, C-contiguous arrays of uint8.
    """
    if array != types.Array(types.uint8, 1, "C") or out != array:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        source, *begins, target, first = arguments
        loaded = []
        for begin in begins:
            address = _address(context, builder, array, source, begin, vector)
            loaded.append(builder.load(address, align=1, typ=vector))
        left, right = _zipped(builder, loaded[0], loaded[1], 1), _zipped(builder, loaded[2], loaded[3], 1)
        blocks = [block for pair in zip(left, right, strict=True) for block in _zipped(builder, *pair, 2)]
        for index, block in enumerate(blocks):
            at = builder.add(first, ir.Constant(first.type, BLOCK * index))
            builder.store(block, _address(context, builder, out, target, at, vector), align=1)
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 4, out, types.intp), generate


def _zipped(builder: Any, left: Any, right: Any, width: int) -> list[Any]:
    """Pieces of `width` bytes of two vectors in turns: two vectors."""
    places = [
        piece * width + byte + side
        for piece in range(BLOCK // width)
        for side in (0, BLOCK)
        for byte in range(width)
    ]  # fmt: skip
    halves = places[:BLOCK], places[BLOCK:]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), half) for half in halves]
    return [builder.shuffle_vector(left, right, mask) for mask in masks]
