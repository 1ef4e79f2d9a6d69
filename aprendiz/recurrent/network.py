"""The shared recurrent backbone: vanilla RNN, LSTM or GRU layers, one after the other, with the state in the open.

Papers: Elman 1990, Cognitive Science 14:179; Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; Cho et al.
2014, EMNLP. Both directions: Schuster and Paliwal 1997, IEEE Trans. Signal Processing 45:2673. Dropout between layers
only, never through time: Zaremba et al. 2014, arXiv:1409.2329. Layer normalisation: Ba et al. 2016, arXiv:1607.06450.

Weights lie in PyTorch's own layers, one for each layer and direction, which also compute on GPUs (cuDNN). On a CPU it
is `aprendiz.recurrent.fused` that computes, and with layer normalisation the equations of `aprendiz.recurrent.cells`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aprendiz.errors import ConfigError
from aprendiz.recurrent.cells import GATES, STATES, Cell, gru_step, lstm_step, rnn_step
from aprendiz.recurrent.fused import DTYPES, GRUSequence, LSTMSequence, RNNSequence

State = tuple[Tensor, ...]
"""h, and c for an LSTM: float [layers, B, H] each. What was read so far, and all of it."""

SMALL_TABLE = 1024
"""Rows up to which the gradient of a table is a matrix product."""
ONE_HOT_DEVIATION = 0.3
"""Standard deviation of the first weights of one-hot inputs: that of what a vector of 64 numbers adds at first."""
_LAYERS: dict[Cell, Callable[[int, int], nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def detached(state: State) -> State:
    """The same numbers without the history of how they came to be: where backpropagation through time is cut."""
    return tuple(tensor.detach() for tensor in state)


def kept(state: State, keep: Tensor) -> State:
    """The state where `keep` (bool [B]) holds, and the state before any input, zero, elsewhere."""
    keep = keep.to(state[0].device).unsqueeze(1)  # [B, 1]
    return tuple(tensor.where(keep, tensor.new_zeros(())) for tensor in state)


def dropout(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zeroes a share of the numbers, drawn by `generator`, and scales the others up so that the mean stays.

    On a CPU one random byte decides for each number, so that the share is rounded to a multiple of 1/256 (the scale is
    that of the rounded share); drawing floats would take ten times as long.
    """
    if share <= 0.0:
        return values
    if values.device.type != "cpu":
        uniform = torch.rand(values.shape, generator=generator, device=values.device)
        return values * (uniform >= share).to(values.dtype).div_(1.0 - share)
    limit = min(max(round(256 * share), 1), 255)
    words = torch.empty((values.numel() + 7) // 8, dtype=torch.int64)
    words.random_(-(2**63), 2**63 - 1, generator=generator)
    mask = (words.view(torch.uint8)[: values.numel()].view(values.shape) >= limit).to(values.dtype)
    return values * mask.mul_(256.0 / (256 - limit))


class _TableRows(torch.autograd.Function):
    """Rows of a table [V, G] by ids [T, B]. The gradient is summed in float32 whatever the type is: many small numbers
    added up in bfloat16 one after the other would be lost."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = len(table)
        return F.embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        gradient = gradient.flatten(0, -2)  # [T * B, G]
        if ctx.rows > SMALL_TABLE:
            sums = torch.zeros(ctx.rows, gradient.shape[1], dtype=torch.promote_types(gradient.dtype, torch.float32))
            return sums.index_add_(0, ids.reshape(-1), gradient.to(sums.dtype)).to(gradient.dtype), None
        chosen = gradient.new_zeros(ctx.rows, len(gradient))
        chosen.scatter_(0, ids.reshape(1, -1), 1.0)
        return chosen @ gradient, None


class Recurrent(nn.Module):
    """Layers of recurrent cells. Reads vectors (Box [D]) or tokens (Discrete, one-hot encoded) step by step.

    `forward(inputs, state)` takes a stretch of a sequence and the state before it, and returns features
    [T, B, features] and the state after it: reading on from there is the same as having read all of it at once. Nothing
    is kept inside. Raises ConfigError for other spaces and for options that cannot be.
    """

    def __init__(
        self,
        observation_space: Space,
        cell: Cell = "lstm",
        units: int = 256,
        layers: int = 1,
        bidirectional: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in get_args(Cell):
            raise ConfigError(f"cell must be one of {', '.join(get_args(Cell))}, got {cell!r}")
        if units < 1 or layers < 1:
            raise ConfigError(f"units and layers must be at least 1, got {units} and {layers}")
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.tokens = isinstance(observation_space, Discrete)
        if isinstance(observation_space, Discrete):
            width = int(observation_space.n)
        elif isinstance(observation_space, Box) and len(observation_space.shape) == 1:
            width = observation_space.shape[0]
        else:
            raise ConfigError(f"backbone recurrent reads vectors and tokens, not {observation_space}")
        self.cell, self.units, self.dropout = cell, units, dropout
        self.directions = 2 if bidirectional else 1
        self.features = units * self.directions
        self.layers: Any = nn.ModuleList()
        """Layer by layer, in each the forward direction first."""
        self.norms: Any = nn.ModuleList()
        """For each of those, in the same order: of W_x x, of W_h h, and (LSTM) of c."""
        for layer in range(layers):
            for _ in range(self.directions):
                made: Any = _LAYERS[cell](width if layer == 0 else self.features, units)
                if (
                    cell == "lstm"
                ):  # what is remembered is not forgotten at once (Gers et al. 2000; Jozefowicz et al. 2015)
                    with torch.no_grad():
                        made.bias_ih_l0[units : 2 * units] = 1.0
                        made.bias_hh_l0.zero_()
                if self.tokens and layer == 0:
                    # PyTorch's range is made for inputs that are all there; of a one-hot input a single number is.
                    nn.init.normal_(made.weight_ih_l0, std=ONE_HOT_DEVIATION)
                self.layers.append(made)
                if layer_norm:
                    of_gates = [nn.LayerNorm(GATES[cell] * units) for _ in range(2)]
                    self.norms.append(nn.ModuleList([*of_gates, *([nn.LayerNorm(units)] if cell == "lstm" else [])]))

    def start(self, count: int) -> State:
        """The state before any input, of `count` sequences. Raises ConfigError for a bidirectional network."""
        self._require_one_direction()
        weight = self.layers[0].weight_hh_l0
        shape = (len(self.layers), count, self.units)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return tuple(torch.zeros(shape, dtype=dtype, device=weight.device) for _ in range(STATES[self.cell]))

    def forward(
        self,
        inputs: Tensor,
        state: State | None = None,
        *,
        resets: Tensor | None = None,
        lengths: Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_first: bool = False,
    ) -> tuple[Tensor, State]:
        """Features [T, B, features] and the state after the last step.

        inputs: [T, B, D], or ids int64 [T, B] for tokens; [B, T, ...] with `batch_first`, and features then, too.
        state: as `start` gives it, which it is where none is given.
        resets: bool [T, B] on the CPU ([B, T] with `batch_first`): before which steps the state is set to zero, as
            where a game ended.
        lengths: int64 [B], for a bidirectional network: where each sequence ends and only padding follows, so that its
            way back begins there. Features of padding mean nothing.
        generator: draws what is dropped while in training mode; only then is there dropout.

        A bidirectional network reads whole sequences: it takes no state and no resets, and returns an empty one.
        """
        if inputs.dim() != (2 if self.tokens else 3):
            raise ConfigError(
                f"backbone recurrent reads sequences of {'tokens' if self.tokens else 'vectors'} with a state, not a "
                f"tensor of {inputs.dim()} axes: it needs a learner that carries the state, others take --backbone mlp"
            )
        if batch_first:
            inputs = inputs.transpose(0, 1)
            resets = None if resets is None else resets.transpose(0, 1)
        if self.directions == 2:
            if state or resets is not None:
                self._require_one_direction()
            features, state = self._both_ways(inputs, lengths, generator), ()
        else:
            state = self.start(inputs.shape[1]) if state is None else state
            features, state = self._onwards(inputs, state, resets, generator)
        return (features.transpose(0, 1) if batch_first else features), state

    def embedded(
        self,
        table: Tensor,
        ids: Tensor,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """`forward(table[ids], state)` for a table of vectors [V, D] and ids int64 [T, B].

        Where it is less work, the first layer's product is done with the table instead of with the vectors looked up.
        """
        if self.directions == 2 or self.norms or not _fusible(table) or len(table) > ids.numel():
            return self(F.embedding(ids, table), state, lengths=lengths, generator=generator)
        state = self.start(ids.shape[1]) if state is None else state
        return self._from_projections(_TableRows.apply(self._project(0, table), ids), state, generator)

    def _onwards(
        self, inputs: Tensor, state: State, resets: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """One direction; cut into stretches wherever a sequence of the batch begins anew."""
        if resets is None:
            return self._stretch(inputs, state, generator)
        at = [int(step) for step in resets.any(dim=1).nonzero().flatten()]
        cuts = sorted({0, *at, len(inputs)})
        parts = []
        for start, stop in itertools.pairwise(cuts):
            if start in at:
                state = kept(state, ~resets[start])
            features, state = self._stretch(inputs[start:stop], state, generator)
            parts.append(features)
        return torch.cat(parts), state

    def _stretch(self, inputs: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        if self.tokens:
            if _fusible(self.layers[0].weight_ih_l0) and not self.norms:
                # One-hot inputs choose columns of the first layer's weights.
                table = self.layers[0].weight_ih_l0.t() + self._bias(0)  # [V, gates * H]
                if torch.is_autocast_enabled("cpu"):
                    table = table.to(torch.get_autocast_dtype("cpu"))
                return self._from_projections(_TableRows.apply(table, inputs), state, generator)
            inputs = self._one_hot(inputs)
        return self._above(0, inputs, state, (), generator)

    def _from_projections(
        self, projected: Tensor, state: State, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """The first layer from its projected inputs, then the others."""
        features, after = self._fused(0, projected, tuple(tensor[0] for tensor in state))
        return self._above(1, features, state, (after,), generator)

    def _above(
        self, first: int, features: Tensor, state: State, done: Sequence[State], generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """The layers from `first` on; `done` are the new states of those before."""
        states = list(done)
        for index in range(first, len(self.layers)):
            if index > 0:
                features = self._dropped(features, generator)
            features, after = self._layer(index, features, tuple(tensor[index] for tensor in state))
            states.append(after)
        return features, tuple(torch.stack(tensors) for tensors in zip(*states, strict=True))

    def _both_ways(self, inputs: Tensor, lengths: Tensor | None, generator: torch.Generator | None) -> Tensor:
        features = self._one_hot(inputs) if self.tokens else inputs
        steps, batch = inputs.shape[:2]
        order = _reversal(steps, batch, lengths, features.device)  # [T, B]
        zero = features.new_zeros(batch, self.units, dtype=torch.promote_types(self._type(), torch.float32))
        start = (zero,) * STATES[self.cell]
        for index in range(0, len(self.layers), 2):
            if index > 0:
                features = self._dropped(features, generator)
            forwards, _ = self._layer(index, features, start)
            backwards, _ = self._layer(index + 1, _reordered(features, order), start)
            features = torch.cat([forwards, _reordered(backwards, order)], dim=2)  # [T, B, 2 H]
        return features

    def _layer(self, index: int, features: Tensor, state: State) -> tuple[Tensor, State]:
        """[T, B, D] and the layer's state, [B, H] tensors, to [T, B, H] and its new state."""
        if self.norms:
            return self._step_by_step(index, features, state)
        if _fusible(features) and _fusible(self.layers[index].weight_hh_l0):
            return self._fused(index, self._project(index, features), state)
        kind = self.layers[index].weight_hh_l0.dtype
        given = tuple(tensor.to(kind).unsqueeze(0).contiguous() for tensor in state)
        # cuDNN's recurrences are cast to float16 whatever autocast says, and small gradients vanish in it.
        with torch.autocast(features.device.type, enabled=False):
            outputs, after = self.layers[index](features.to(kind), given if self.cell == "lstm" else given[0])
        after = after if self.cell == "lstm" else (after,)
        return outputs, tuple(tensor.squeeze(0).to(before.dtype) for tensor, before in zip(after, state, strict=True))

    def _project(self, index: int, features: Tensor) -> Tensor:
        """W_x x + b of a layer, [..., gates * H]."""
        return F.linear(features, self.layers[index].weight_ih_l0, self._bias(index))

    def _bias(self, index: int) -> Tensor:
        """The biases of both products together, [gates * H], but for what a GRU needs apart."""
        layer = self.layers[index]
        other = layer.bias_hh_l0
        if self.cell == "gru":
            other = torch.cat([other[: 2 * self.units], torch.zeros_like(other[2 * self.units :])])
        return layer.bias_ih_l0 + other

    def _fused(self, index: int, projected: Tensor, state: State) -> tuple[Tensor, State]:
        layer = self.layers[index]
        if self.cell == "rnn":
            outputs = RNNSequence.apply(projected, state[0], layer.weight_hh_l0)
            return outputs, (outputs[-1].to(state[0].dtype),)
        if self.cell == "lstm":
            outputs, cell = LSTMSequence.apply(projected, state[0], state[1], layer.weight_hh_l0)
            return outputs, (outputs[-1].to(state[0].dtype), cell)
        bias = layer.bias_hh_l0[2 * self.units :]
        outputs, hidden = GRUSequence.apply(projected, state[0], layer.weight_hh_l0, bias)
        return outputs, (hidden,)

    def _step_by_step(self, index: int, features: Tensor, state: State) -> tuple[Tensor, State]:
        """With layer normalisation (Ba et al. 2016, equations 20 to 27): the equations one step after the other."""
        layer, norms = self.layers[index], self.norms[index]
        # After normalisation it is the norms' biases that count, and one of ours, so that gates begin as without.
        dtype, outputs = state[0].dtype, []
        projected = norms[0](F.linear(features, layer.weight_ih_l0)).to(dtype) + layer.bias_ih_l0
        for step in projected.unbind(0):
            recurrent = norms[1](F.linear(state[0], layer.weight_hh_l0)).to(dtype)
            if self.cell == "rnn":
                state = (rnn_step(step, recurrent),)
            elif self.cell == "lstm":
                state = lstm_step(step, recurrent, state[1], norms[2])
            else:
                state = (gru_step(step, recurrent, state[0]),)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def _dropped(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return features
        if generator is None:
            raise ValueError("a network with dropout needs a generator while it is in training mode")
        return dropout(features, self.dropout, generator)

    def _one_hot(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids, self.layers[0].input_size).to(self._type())

    def _type(self) -> torch.dtype:
        return self.layers[0].weight_hh_l0.dtype

    def _require_one_direction(self) -> None:
        if self.directions == 2:
            raise ConfigError("a bidirectional network reads whole sequences: it has no state to carry, and no resets")


def _fusible(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in DTYPES


def _reversal(steps: int, batch: int, lengths: Tensor | None, device: torch.device) -> Tensor:
    """int64 [T, B]: which step comes at which place when each sequence is read from its end; padding stays in place."""
    step = torch.arange(steps, device=device).unsqueeze(1)  # [T, 1]
    if lengths is None:
        return (steps - 1 - step).expand(steps, batch)
    ends = lengths.to(device).unsqueeze(0)  # [1, B]
    return torch.where(step < ends, ends - 1 - step, step)


def _reordered(features: Tensor, order: Tensor) -> Tensor:
    """features[order[t, b], b] of [T, B, D]."""
    return features.gather(0, order.unsqueeze(2).expand(-1, -1, features.shape[2]))
