"""What the cells do besides matrix products, one step forwards or backwards, compiled for the CPU.

Each loop goes over one row and few arrays, from the first number on (a start that may be negative, for all that the
compiler knows, would count from the end), so that it becomes vector instructions. Arrays of uint16 hold bfloat16 (numpy
knows no such type): they are widened when read and rounded to the nearest, ties to even, when written; everything in
between is computed in the type of the state, float32 or float64. [B, ...] rows are independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

_f = np.float32
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


@intrinsic
def _bits(context, value):
    """float32 -> its 32 bits."""
    return types.uint32(types.float32), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _float(context, value):
    """32 bits -> float32."""
    return types.float32(types.uint32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


def _load(value: Any) -> Any:
    """A number of an array as a float."""
    raise NotImplementedError


@overload(_load, inline="always")
def _load_overload(value):
    if value == types.uint16:
        return lambda value: _float(np.uint32(value) << np.uint32(16))  # type: ignore[call-arg]
    return lambda value: value


def _stored(array: Any, value: Any) -> Any:
    """A float as the array keeps it."""
    raise NotImplementedError


@overload(_stored, inline="always")
def _stored_overload(array, value):
    if array.dtype == types.uint16:

        def rounded(array, value):
            bits: Any = _bits(_f(value))  # type: ignore[call-arg]
            return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return rounded
    return lambda array, value: value


@njit(inline="always", **_OPTIONS)
def _tanh(x):
    """tanh as a quotient of polynomials on [-7.9, 7.9], constant beyond: within 4e-7.

    The coefficients are those of a minimax fit of degree 13 over 6, as many libraries of vector mathematics use it.
    """
    x = min(max(x, _f(-7.9)), _f(7.9))
    s = x * x
    p = _f(-2.76076847742355e-16)
    p = p * s + _f(2.00018790482477e-13)
    p = p * s + _f(-8.60467152213735e-11)
    p = p * s + _f(5.12229709037114e-08)
    p = p * s + _f(1.48572235717979e-05)
    p = p * s + _f(6.37261928875436e-04)
    p = p * s + _f(4.89352455891786e-03)
    q = _f(1.19825839466702e-06)
    q = q * s + _f(1.18534705686654e-04)
    q = q * s + _f(2.26843463243900e-03)
    q = q * s + _f(4.89352518554385e-03)
    return x * p / q


@njit(**_OPTIONS)
def _sigmoids(x, h, out):
    for j in range(out.shape[0]):
        out[j] = _f(0.5) + _f(0.5) * _tanh(_f(0.5) * (_load(x[j]) + _load(h[j])))


@njit(**_OPTIONS)
def _tanhs(x, h, out):
    for j in range(out.shape[0]):
        out[j] = _tanh(_load(x[j]) + _load(h[j]))


@njit(**_OPTIONS)
def _tanh_row(x, out):
    for j in range(x.shape[0]):
        out[j] = _tanh(x[j])


@njit(**_OPTIONS)
def _store_row(values, out):
    for j in range(out.shape[0]):
        out[j] = _stored(out, values[j])


@njit(**_OPTIONS)
def _load_row(array, out):
    for j in range(array.shape[0]):
        out[j] = _load(array[j])


@njit(**_OPTIONS)
def _sum_row(a, b, out):
    for j in range(out.shape[0]):
        out[j] = _load(a[j]) + _load(b[j])


# Vanilla: h = tanh(x + W h)


@njit(**_OPTIONS)
def rnn_forward(projected, recurrent, hidden, row):
    """Writes h_t into `hidden`; all [B, H]. `row` is room for [H] floats."""
    for b in range(hidden.shape[0]):
        _tanhs(projected[b], recurrent[b], row)
        _store_row(row, hidden[b])


@njit(**_OPTIONS)
def _rnn_slopes(gradient, hidden, out):
    for j in range(out.shape[0]):
        out[j] = _stored(out, gradient[j] * (_f(1.0) - _load(hidden[j]) * _load(hidden[j])))


@njit(**_OPTIONS)
def rnn_backward(from_output, from_next, hidden, sums, row):
    """Writes the gradient of x + W h into `sums`, from those of h_t: what comes from above and from step t + 1."""
    for b in range(hidden.shape[0]):
        _sum_row(from_output[b], from_next[b], row)
        _rnn_slopes(row, hidden[b], sums[b])


# LSTM


@njit(**_OPTIONS)
def _cells(gates, cell, new_cell):
    size = cell.shape[0]
    for j in range(size):
        new_cell[j] = gates[size + j] * cell[j] + gates[j] * gates[2 * size + j]


@njit(**_OPTIONS)
def _outputs(gates, new_cell, hidden):
    size = new_cell.shape[0]
    for j in range(size):
        hidden[j] = _stored(hidden, gates[3 * size + j] * _tanh(new_cell[j]))


@njit(**_OPTIONS)
def lstm_forward(projected, recurrent, cell, gates, new_cell, hidden):
    """Writes i, f, g, o into `gates` [B, 4 H], c_t into `new_cell` and h_t into `hidden`, both [B, H]."""
    size = cell.shape[1]
    row = np.empty(4 * size, cell.dtype)
    for b in range(cell.shape[0]):
        x, h = projected[b], recurrent[b]
        _sigmoids(x, h, row[: 2 * size])
        _tanhs(x[2 * size :], h[2 * size :], row[2 * size : 3 * size])
        _sigmoids(x[3 * size :], h[3 * size :], row[3 * size :])
        _cells(row, cell[b], new_cell[b])
        _outputs(row, new_cell[b], hidden[b])
        _store_row(row, gates[b])


@njit(**_OPTIONS)
def _output_slopes(gates, gradient, through, from_cell, sums):
    """The output gate's gradient into `sums`; that of c_t in place of `through`, which holds tanh(c_t)."""
    size = gradient.shape[0]
    for j in range(size):
        o, t = gates[3 * size + j], through[j]
        sums[3 * size + j] = _stored(sums, gradient[j] * t * o * (_f(1.0) - o))
        through[j] = from_cell[j] + gradient[j] * o * (_f(1.0) - t * t)


@njit(**_OPTIONS)
def _input_slopes(gates, gradient, sums):
    size = gradient.shape[0]
    for j in range(size):
        i, g = gates[j], gates[2 * size + j]
        sums[j] = _stored(sums, gradient[j] * g * i * (_f(1.0) - i))
        sums[2 * size + j] = _stored(sums, gradient[j] * i * (_f(1.0) - g * g))


@njit(**_OPTIONS)
def _forget_slopes(gates, gradient, cell, sums, from_cell):
    size = gradient.shape[0]
    for j in range(size):
        f = gates[size + j]
        sums[size + j] = _stored(sums, gradient[j] * cell[j] * f * (_f(1.0) - f))
        from_cell[j] = gradient[j] * f


@njit(**_OPTIONS)
def lstm_backward(from_output, from_next, gates, cell, new_cell, from_cell, sums):
    """Writes the gradient of the four sums before the nonlinearities into `sums` [B, 4 H].

    `from_cell` [B, H] is the gradient of c_t that comes from step t + 1, and becomes that of c_{t-1}.
    """
    size = cell.shape[1]
    row, gradient, through = np.empty(4 * size, cell.dtype), np.empty(size, cell.dtype), np.empty(size, cell.dtype)
    for b in range(cell.shape[0]):
        _sum_row(from_output[b], from_next[b], gradient)
        _load_row(gates[b], row)
        _tanh_row(new_cell[b], through)
        _output_slopes(row, gradient, through, from_cell[b], sums[b])
        _input_slopes(row, through, sums[b])
        _forget_slopes(row, through, cell[b], sums[b], from_cell[b])


# GRU


@njit(**_OPTIONS)
def _candidates(projected, recurrent, bias, gates, memory):
    size = memory.shape[0]
    for j in range(size):
        u = _load(recurrent[2 * size + j]) + bias[j]
        memory[j] = _stored(memory, u)
        gates[2 * size + j] = _tanh(_load(projected[2 * size + j]) + gates[j] * u)


@njit(**_OPTIONS)
def _mixtures(gates, hidden, new_hidden):
    size = hidden.shape[0]
    for j in range(size):
        n = gates[2 * size + j]
        new_hidden[j] = n + gates[size + j] * (hidden[j] - n)


@njit(**_OPTIONS)
def gru_forward(projected, recurrent, bias, hidden, gates, memory, new_hidden, output):
    """Writes r, z, n into `gates` [B, 3 H], U_n h + b' into `memory`, h_t into `new_hidden` and `output`,
    all [B, H]."""
    size = hidden.shape[1]
    row = np.empty(3 * size, hidden.dtype)
    for b in range(hidden.shape[0]):
        _sigmoids(projected[b], recurrent[b], row[: 2 * size])
        _candidates(projected[b], recurrent[b], bias, row, memory[b])
        _mixtures(row, hidden[b], new_hidden[b])
        _store_row(new_hidden[b], output[b])
        _store_row(row, gates[b])


@njit(**_OPTIONS)
def _update_slopes(gates, hidden, gradient, of_inputs, of_states, candidate):
    size = gradient.shape[0]
    for j in range(size):
        z, n = gates[size + j], gates[2 * size + j]
        slope = gradient[j] * (hidden[j] - n) * z * (_f(1.0) - z)
        of_inputs[size + j] = _stored(of_inputs, slope)
        of_states[size + j] = _stored(of_states, slope)
        candidate[j] = gradient[j] * (_f(1.0) - z) * (_f(1.0) - n * n)
        gradient[j] = gradient[j] * z


@njit(**_OPTIONS)
def _reset_slopes(gates, memory, candidate, of_inputs, of_states):
    size = candidate.shape[0]
    for j in range(size):
        r = gates[j]
        slope = candidate[j] * _load(memory[j]) * r * (_f(1.0) - r)
        of_inputs[j] = _stored(of_inputs, slope)
        of_states[j] = _stored(of_states, slope)
        of_inputs[2 * size + j] = _stored(of_inputs, candidate[j])
        of_states[2 * size + j] = _stored(of_states, candidate[j] * r)


@njit(**_OPTIONS)
def gru_backward(from_output, from_next, direct, gates, memory, hidden, of_inputs, of_states):
    """Writes the gradients of W_x x + b into `of_inputs` and of W_h h + b' into `of_states`, both [B, 3 H].

    The gradient of h_t comes from above, through step t + 1's products (`from_next`) and past them (`direct`, [B, H],
    which becomes that of step t).
    """
    size = hidden.shape[1]
    row, gradient, candidate = (
        np.empty(3 * size, hidden.dtype),
        np.empty(size, hidden.dtype),
        np.empty(size, hidden.dtype),
    )
    for b in range(hidden.shape[0]):
        _sum_row(from_output[b], from_next[b], gradient)
        _sum_row(gradient, direct[b], gradient)
        _load_row(gates[b], row)
        _update_slopes(row, hidden[b], gradient, of_inputs[b], of_states[b], candidate)
        _reset_slopes(row, memory[b], candidate, of_inputs[b], of_states[b])
        _store_row(gradient, direct[b])
