"""Rows `start` to `stop` of a batch through all steps of a layer, forwards or backwards, in one compiled function.

For bfloat16 on CPUs that multiply it (`aprendiz.recurrent.products`): a step is a product, whose sums stay float32, and
the cell's kernel. Arrays are whole batches [T, B, ...], states with a step more than the projections; weights are
packed, transposed on the way forwards. `recurrent` and `from_next`, zeros float32, are room for what a step's product
makes of these rows; `from_first` [B, H] becomes the gradient of the state before the first step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from aprendiz.recurrent import kernels
from aprendiz.recurrent.products import product

_f = np.float32
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True}


@njit(**_OPTIONS)
def _copy(values, out):
    """Rows one by one: an assignment to a slice would compile for seconds."""
    for row in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[row, j] = values[row, j]


@njit(**_OPTIONS)
def rnn_forward(projected, weight, states, recurrent, start, stop):
    row = np.empty(projected.shape[2], _f)
    for t in range(projected.shape[0]):
        product(states[t][start:stop], weight, recurrent)
        kernels.rnn_forward(projected[t][start:stop], recurrent, states[t + 1][start:stop], row)


@njit(**_OPTIONS)
def rnn_backward(from_outputs, weight, states, sums, from_first, from_next, start, stop):
    row = np.empty(sums.shape[2], _f)
    for t in range(sums.shape[0] - 1, -1, -1):
        of_sums = sums[t][start:stop]
        kernels.rnn_backward(from_outputs[t][start:stop], from_next, states[t + 1][start:stop], of_sums, row)
        product(of_sums, weight, from_next)
    _copy(from_next, from_first[start:stop])


@njit(**_OPTIONS)
def lstm_forward(projected, weight, states, cells, gates, recurrent, start, stop):
    for t in range(projected.shape[0]):
        product(states[t][start:stop], weight, recurrent)
        kernels.lstm_forward(
            projected[t][start:stop],
            recurrent,
            cells[t][start:stop],
            gates[t][start:stop],
            cells[t + 1][start:stop],
            states[t + 1][start:stop],
        )


@njit(**_OPTIONS)
def lstm_backward(from_outputs, weight, gates, cells, from_cell, sums, from_first, from_next, start, stop):
    for t in range(sums.shape[0] - 1, -1, -1):
        of_sums = sums[t][start:stop]
        kernels.lstm_backward(
            from_outputs[t][start:stop],
            from_next,
            gates[t][start:stop],
            cells[t][start:stop],
            cells[t + 1][start:stop],
            from_cell[start:stop],
            of_sums,
        )
        product(of_sums, weight, from_next)
    _copy(from_next, from_first[start:stop])


@njit(**_OPTIONS)
def gru_forward(projected, weight, bias, gates, memory, states, outputs, recurrent, start, stop):
    for t in range(projected.shape[0]):
        product(outputs[t][start:stop], weight, recurrent)
        kernels.gru_forward(
            projected[t][start:stop],
            recurrent,
            bias,
            states[t][start:stop],
            gates[t][start:stop],
            memory[t][start:stop],
            states[t + 1][start:stop],
            outputs[t + 1][start:stop],
        )


@njit(**_OPTIONS)
def gru_backward(
    from_outputs, weight, direct, gates, memory, states, of_inputs, of_states, from_first, from_next, start, stop
):
    for t in range(gates.shape[0] - 1, -1, -1):
        of_sums = of_states[t][start:stop]
        kernels.gru_backward(
            from_outputs[t][start:stop],
            from_next,
            direct[start:stop],
            gates[t][start:stop],
            memory[t][start:stop],
            states[t][start:stop],
            of_inputs[t][start:stop],
            of_sums,
        )
        product(of_sums, weight, from_next)
    _copy(from_next, from_first[start:stop])
