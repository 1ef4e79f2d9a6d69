"""The cells' equations, one step of each, as pure functions of PyTorch: what everything faster is checked against.

`projected` is the share of the input, W_x x + b, and `recurrent` that of the last state, W_h h; both [B, gates * H]
with the gates side by side in PyTorch's order. Layer normalisation, where wanted, is done to these before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Cell = Literal["rnn", "lstm", "gru"]
GATES: dict[Cell, int] = {"rnn": 1, "lstm": 4, "gru": 3}
"""Blocks of H rows in a cell's weights: (h), (input, forget, candidate, output), (reset, update, candidate)."""
STATES: dict[Cell, int] = {"rnn": 1, "lstm": 2, "gru": 1}
"""Tensors in a cell's state: h, or h and c."""


def rnn_step(projected: Tensor, recurrent: Tensor) -> Tensor:
    """h_t = tanh(W_x x_t + W_h h_{t-1} + b), [B, H]. Elman (1990); Mikolov et al. (2010) with a sigmoid."""
    return torch.tanh(projected + recurrent)


def lstm_step(
    projected: Tensor, recurrent: Tensor, cell: Tensor, before_output: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """h_t and c_t, [B, H] each, of c_{t-1}:

        i, f, o = sigmoid(...),  g = tanh(...)       the four blocks of W_x x_t + W_h h_{t-1} + b
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000). `before_output` is done to c_t before
    the last tanh: layer normalisation (Ba et al. 2016, equation 22).
    """
    i, f, g, o = (projected + recurrent).chunk(4, dim=-1)
    new_cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    seen = new_cell if before_output is None else before_output(new_cell)
    return torch.sigmoid(o) * torch.tanh(seen), new_cell


def gru_step(projected: Tensor, recurrent: Tensor, hidden: Tensor) -> Tensor:
    """h_t, [B, H], of h_{t-1}:

        r, z = sigmoid(...)                          the first two blocks of W_x x_t + b + W_h h_{t-1} + b'
        n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + b'_n))
        h_t = (1 - z) * n + z * h_{t-1}

    Cho et al. (2014), equations 5 to 8, in the variant that resets after the product with U_n (that of cuDNN and of
    PyTorch), so that all recurrent products are one; z is theirs.
    """
    blocks, memory = projected.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
    reset = torch.sigmoid(blocks[0] + memory[0])
    update = torch.sigmoid(blocks[1] + memory[1])
    candidate = torch.tanh(blocks[2] + reset * memory[2])
    return (1.0 - update) * candidate + update * hidden
