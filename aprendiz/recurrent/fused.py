"""Whole sequences through one layer on a CPU: matrix products by PyTorch, everything between them in compiled loops.

PyTorch's own layers do the same work in about 1.3 times the time (LSTM, bfloat16), because they know only a dense
input, and multiply with the weights' gradient step by step. Here the projections of all inputs come from outside (for
tokens they are rows of a table), and the gradient of the recurrent weights is one product over all steps.
The compute type is that of the projections: bfloat16, float32 or float64. The state is float32 where they are bfloat16.
Rows of the batch are shared among PyTorch's threads (`aprendiz.recurrent.rows`). In bfloat16, on CPUs that multiply it,
not even the products are PyTorch's: all steps are one compiled call (`aprendiz.recurrent.sequences`).
Axes: T time, B batch, H units. Gates lie side by side as in `aprendiz.recurrent.cells`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from aprendiz.recurrent import kernels, products, sequences
from aprendiz.recurrent.rows import in_parts

DTYPES = (torch.bfloat16, torch.float32, torch.float64)
"""Types of projections that the functions here take."""


def _array(tensor: Tensor) -> NDArray[Any]:
    """The same memory as numpy sees it: bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _state_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype


def _weight_gradient(sums: Tensor, states: Tensor, like: torch.dtype) -> Tensor:
    """sum over t and b of sums[t, b] states[t, b]^T, [gates * H, H], of [T, B, ...]."""
    return torch.mm(sums.flatten(0, 1).t(), states.flatten(0, 1)).to(like)


def _in_one_call(function: Callable[..., None], rows: int, inputs: Tensor, weight: Tensor, *others: Tensor) -> None:
    """One of `aprendiz.recurrent.sequences`, with its packed weight, for all rows of a batch."""
    arrays = [_array(tensor) for tensor in (inputs, weight, *others)]

    def part(start: int, stop: int) -> None:
        room = np.zeros((products.padded(stop - start), len(weight) * products.LANES), np.float32)
        function(*arrays, room, start, stop)

    in_parts(part, rows, products.FEWEST)


class RNNSequence(torch.autograd.Function):
    """projected [T, B, H], hidden [B, H], weight [H, H] -> outputs [T, B, H]."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
        steps, batch, size = projected.shape
        dtype = projected.dtype
        weight_here, projected = weight.to(dtype), projected.contiguous()
        states = projected.new_empty(steps + 1, batch, size)
        states[0] = hidden
        if products.fits(dtype, size):
            _in_one_call(sequences.rnn_forward, batch, projected, products.packed_transposed(weight_here), states)
        else:
            recurrent = projected.new_empty(batch, size)

            def part(start: int, stop: int) -> None:
                sums, rows = recurrent[start:stop], states[:, start:stop].unbind(0)
                x, h, r = (_array(tensor) for tensor in (projected[:, start:stop], states[:, start:stop], sums))
                row = _array(torch.empty(size, dtype=_state_type(dtype)))
                for t in range(steps):
                    torch.mm(rows[t], weight_here.t(), out=sums)
                    kernels.rnn_forward(x[t], r, h[t + 1], row)

            in_parts(part, batch)
        ctx.save_for_backward(states, weight_here)
        ctx.types = hidden.dtype, weight.dtype
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, weight = ctx.saved_tensors
        from_outputs = from_outputs.contiguous()
        sums = torch.empty_like(from_outputs)
        if products.fits(sums.dtype, sums.shape[2]):
            from_next = states.new_empty(states.shape[1:], dtype=torch.float32)
            given = (from_outputs, products.packed(weight), states, sums, from_next)
            _in_one_call(sequences.rnn_backward, len(from_next), *given)
        else:
            from_next = torch.zeros_like(states[0])

            def part(start: int, stop: int) -> None:
                next_, rows = from_next[start:stop], sums[:, start:stop].unbind(0)
                all_of = (from_outputs, states, from_next, sums)
                above, h, r, s = (_array(tensor[..., start:stop, :]) for tensor in all_of)
                row = _array(torch.empty(sums.shape[2], dtype=_state_type(sums.dtype)))
                for t in reversed(range(len(sums))):
                    kernels.rnn_backward(above[t], r, h[t + 1], s[t], row)
                    torch.mm(rows[t], weight, out=next_)

            in_parts(part, len(from_next))
        hidden_type, weight_type = ctx.types
        return sums, from_next.to(hidden_type), _weight_gradient(sums, states[:-1], weight_type)


class LSTMSequence(torch.autograd.Function):
    """projected [T, B, 4 H], hidden [B, H], cell [B, H], weight [4 H, H] -> outputs [T, B, H], last cell [B, H]."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        steps, batch, width = projected.shape
        dtype, size = projected.dtype, width // 4
        weight_here, projected = weight.to(dtype), projected.contiguous()
        gates = torch.empty_like(projected)
        states = projected.new_empty(steps + 1, batch, size)
        cells = torch.empty(steps + 1, batch, size, dtype=_state_type(dtype))
        states[0], cells[0] = hidden, cell
        if products.fits(dtype, size):
            given = (projected, products.packed_transposed(weight_here), states, cells, gates)
            _in_one_call(sequences.lstm_forward, batch, *given)
        else:
            recurrent = projected.new_empty(batch, width)

            def part(start: int, stop: int) -> None:
                sums, rows = recurrent[start:stop], states[:, start:stop].unbind(0)
                all_of = (projected, gates, states, cells, recurrent)
                x, g, h, c, r = (_array(tensor[..., start:stop, :]) for tensor in all_of)
                for t in range(steps):
                    torch.mm(rows[t], weight_here.t(), out=sums)
                    kernels.lstm_forward(x[t], r, c[t], g[t], c[t + 1], h[t + 1])

            in_parts(part, batch)
        ctx.save_for_backward(gates, states, cells, weight_here)
        ctx.types = hidden.dtype, cell.dtype, weight.dtype
        return states[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor, from_last_cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates, states, cells, weight = ctx.saved_tensors
        from_outputs = from_outputs.contiguous()
        sums = torch.empty_like(gates)
        from_cell = from_last_cell.clone(memory_format=torch.contiguous_format)
        if products.fits(gates.dtype, states.shape[2]):
            from_next = torch.empty_like(from_cell)
            given = (from_outputs, products.packed(weight), gates, cells, from_cell, sums, from_next)
            _in_one_call(sequences.lstm_backward, len(from_next), *given)
        else:
            from_next = torch.zeros_like(states[0])

            def part(start: int, stop: int) -> None:
                next_, rows = from_next[start:stop], sums[:, start:stop].unbind(0)
                all_of = (from_outputs, from_next, gates, cells, from_cell, sums)
                above, r, g, c, d, s = (_array(tensor[..., start:stop, :]) for tensor in all_of)
                for t in reversed(range(len(sums))):
                    kernels.lstm_backward(above[t], r, g[t], c[t], c[t + 1], d, s[t])
                    torch.mm(rows[t], weight, out=next_)

            in_parts(part, len(from_next))
        hidden_type, cell_type, weight_type = ctx.types
        weight_gradient = _weight_gradient(sums, states[:-1], weight_type)
        return sums, from_next.to(hidden_type), from_cell.to(cell_type), weight_gradient


class GRUSequence(torch.autograd.Function):
    """projected [T, B, 3 H], hidden [B, H], weight [3 H, H], bias [H] (that of U_n h) -> outputs [T, B, H] and the last
    state [B, H], which is not rounded to the type of the outputs."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        steps, batch, width = projected.shape
        dtype, size = projected.dtype, width // 3
        weight_here, projected = weight.to(dtype), projected.contiguous()
        gates, memory = torch.empty_like(projected), projected.new_empty(steps, batch, size)
        states = torch.empty(steps + 1, batch, size, dtype=_state_type(dtype))
        outputs = projected.new_empty(steps + 1, batch, size)
        states[0], outputs[0] = hidden, hidden
        bias_here = bias.to(states.dtype)
        if products.fits(dtype, size):
            given = (projected, products.packed_transposed(weight_here), bias_here, gates, memory, states, outputs)
            _in_one_call(sequences.gru_forward, batch, *given)
        else:
            recurrent = projected.new_empty(batch, width)

            def part(start: int, stop: int) -> None:
                sums, rows = recurrent[start:stop], outputs[:, start:stop].unbind(0)
                all_of = (projected, gates, memory, states, outputs, recurrent)
                x, g, m, h, o, r = (_array(tensor[..., start:stop, :]) for tensor in all_of)
                b = _array(bias_here)
                for t in range(steps):
                    torch.mm(rows[t], weight_here.t(), out=sums)
                    kernels.gru_forward(x[t], r, b, h[t], g[t], m[t], h[t + 1], o[t + 1])

            in_parts(part, batch)
        ctx.save_for_backward(gates, memory, states, outputs, weight_here)
        ctx.types = hidden.dtype, weight.dtype, bias.dtype
        return outputs[1:], states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor, from_last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates, memory, states, outputs, weight = ctx.saved_tensors
        from_outputs = from_outputs.contiguous()
        of_inputs, of_states = torch.empty_like(gates), torch.empty_like(gates)
        direct = from_last.clone(memory_format=torch.contiguous_format)
        size = memory.shape[2]
        if products.fits(gates.dtype, size):
            from_next, kept = torch.empty_like(direct), (gates, memory, states)
            given = (from_outputs, products.packed(weight), direct, *kept, of_inputs, of_states, from_next)
            _in_one_call(sequences.gru_backward, len(from_next), *given)
        else:
            from_next = torch.zeros_like(outputs[0])

            def part(start: int, stop: int) -> None:
                next_, rows = from_next[start:stop], of_states[:, start:stop].unbind(0)
                all_of = (from_outputs, from_next, direct, gates, memory, states, of_inputs, of_states)
                above, r, d, g, m, h, i, s = (_array(tensor[..., start:stop, :]) for tensor in all_of)
                for t in reversed(range(len(gates))):
                    kernels.gru_backward(above[t], r, d, g[t], m[t], h[t], i[t], s[t])
                    torch.mm(rows[t], weight, out=next_)

            in_parts(part, len(from_next))
        hidden_type, weight_type, bias_type = ctx.types
        bias_gradient = of_states[..., 2 * size :].sum((0, 1), dtype=states.dtype).to(bias_type)
        weight_gradient = _weight_gradient(of_states, outputs[:-1], weight_type)
        return of_inputs, (direct + from_next).to(hidden_type), weight_gradient, bias_gradient
