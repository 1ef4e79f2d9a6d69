"""Matrix products of few rows in bfloat16, from the processor's own instruction, for compiled loops on a CPU.

A library's product of 8 rows takes nearly as long as one of 32: for one use it cannot lay the weights out as the
instruction wants them. A layer uses the same weights at every step, so that they are laid out once. `vdpbf16ps`
(AVX-512 BF16) takes pairs of neighbours from both sides and adds their products to 16 sums in float32, which here stay
in registers from the first pair to the last. Each sum goes through its pairs in the same order however many rows and
threads there are, so that a row's numbers do not depend on the rows beside it.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding
import numba.core.config
import numba.extending
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from torch import Tensor

intrinsic: Any = numba.extending.intrinsic
LANES = 16
"""Sums in a register; the columns of a product are a multiple of it."""
ROWS, REGISTERS = 4, 4
"""Rows, and registers of each, whose sums are made together: enough to hide how long an addition takes, with one load
for two products."""
FEWEST = 4
"""Rows below which a part of a batch is not worth a thread."""


@functools.cache
def available() -> bool:
    """Whether this CPU has the instruction, and code is compiled for this CPU."""
    config: Any = numba.core.config
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return False
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16", False))
    except RuntimeError:  # a CPU that LLVM does not know
        return False


def fits(dtype: torch.dtype, size: int) -> bool:
    """Whether a layer of `size` units that computes in `dtype` is computed with these products."""
    return dtype == torch.bfloat16 and size % LANES == 0 and available()


def packed(matrix: Tensor) -> Tensor:
    """A bfloat16 matrix [K, N] as `product` reads it, int32 [N / LANES, K / 2, LANES], each the numbers of two rows; K
    even, N a multiple of LANES."""
    rows, columns = matrix.shape
    result = torch.empty(columns // LANES, rows // 2, LANES, dtype=torch.int32)
    _pack(matrix.contiguous().view(torch.uint16).numpy(), result.numpy())
    return result


def packed_transposed(matrix: Tensor) -> Tensor:
    """`packed` of the transpose of a bfloat16 matrix [N, K], where pairs lie side by side already."""
    return matrix.contiguous().view(torch.int32).view(-1, LANES, matrix.shape[1] // 2).transpose(1, 2).contiguous()


def padded(rows: int) -> int:
    """Rows of an array that `product` can write so many rows to."""
    return -(-rows // ROWS) * ROWS


@intrinsic(prefer_literal=True)
def _tile(typing_context: Any, registers: Any, left: Any, row: Any, right: Any, column: Any, out: Any) -> Any:
    """ROWS rows from `row`, and as many times LANES columns from LANES * `column`, of a product.

    Where `left` [B, K] ends, its last row is computed again for rows of `out` that nobody reads.
    """
    if not isinstance(registers, types.IntegerLiteral) or any(array.layout != "C" for array in (left, right, out)):
        return None
    count = registers.literal_value
    number, sums = ir.IntType(32), ir.VectorType(ir.FloatType(), LANES)
    pairs = ir.VectorType(number, LANES)
    wide = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Any:
            return context.make_array(signature.args[place])(context, builder, arguments[place])

        def address(array: Any, offset: Any, kind: Any) -> Any:
            data = builder.bitcast(array.data, ir.IntType(8).as_pointer())
            return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())

        a, b, c = array(1), array(3), array(5)
        rows, width = cgutils.unpack_tuple(builder, a.shape, 2)
        row_bytes, panel_bytes, out_bytes = (cgutils.unpack_tuple(builder, one.strides)[0] for one in (a, b, c))
        last = builder.sub(rows, ir.Constant(wide, 1))
        lefts, rights, accumulators = [], [], []
        for i in range(ROWS):
            at = builder.add(arguments[2], ir.Constant(wide, i))
            at = builder.select(builder.icmp_signed("<", at, last), at, last)
            lefts.append(address(a, builder.mul(at, row_bytes), number))
        for j in range(count):
            at = builder.add(arguments[4], ir.Constant(wide, j))
            rights.append(address(b, builder.mul(at, panel_bytes), pairs))
        zero = ir.Constant(sums, None)
        for _ in range(ROWS * count):
            accumulators.append(cgutils.alloca_once(builder, sums))
            builder.store(zero, accumulators[-1])
        # Older LLVMs have the pairs as whole numbers; newer ones, which have them as bfloat, take both.
        signature_ = ir.FunctionType(sums, [sums, pairs, pairs])
        dot = cgutils.get_or_insert_function(builder.module, signature_, "llvm.x86.avx512bf16.dpbf16ps.512")
        nothing, everywhere = ir.Constant(pairs, ir.Undefined), ir.Constant(pairs, [0] * LANES)
        with cgutils.for_range(builder, builder.lshr(width, ir.Constant(wide, 1))) as loop:
            weights = [builder.load(builder.gep(one, [loop.index]), align=2, typ=pairs) for one in rights]
            for i in range(ROWS):
                pair = builder.load(builder.gep(lefts[i], [loop.index]), align=2, typ=number)
                pair = builder.insert_element(nothing, pair, ir.Constant(number, 0))
                pair = builder.shuffle_vector(pair, nothing, everywhere)
                for weight, kept in zip(weights, accumulators[i * count : (i + 1) * count], strict=True):
                    builder.store(builder.call(dot, [builder.load(kept), weight, pair]), kept)
        start = builder.mul(arguments[4], ir.Constant(wide, 4 * LANES))
        for i in range(ROWS):
            at = builder.add(arguments[2], ir.Constant(wide, i))
            place = address(c, builder.add(builder.mul(at, out_bytes), start), sums)
            for j in range(count):
                value = builder.load(accumulators[i * count + j])
                builder.store(value, builder.gep(place, [ir.Constant(wide, j)]), align=4)
        return context.get_dummy_value()

    return types.void(registers, left, types.intp, right, types.intp, out), generate


@njit(cache=True, nogil=True)
def _pack(matrix, out):
    for pair in range(out.shape[1]):
        first, second = matrix[2 * pair], matrix[2 * pair + 1]
        for column in range(out.shape[0]):
            for lane in range(LANES):
                low, high = first[column * LANES + lane], second[column * LANES + lane]
                out[column, pair, lane] = np.int32(np.uint32(low) | (np.uint32(high) << np.uint32(16)))


@njit(cache=True, nogil=True)
def product(left, right, out):
    """left times right, of bfloat16 [B, K] as uint16 and a matrix as `packed` has it, to `out` float32 [padded(B), N].

    Nothing checks that the sizes fit.
    """
    rows, columns = left.shape[0], right.shape[0]
    whole = columns - columns % REGISTERS
    for column in range(0, whole, REGISTERS):  # so many columns of the weights stay near while all rows use them
        for row in range(0, rows, ROWS):
            _tile(REGISTERS, left, row, right, column, out)
    for column in range(whole, columns):
        for row in range(0, rows, ROWS):
            _tile(1, left, row, right, column, out)
