"""The network of recurrent agents: an encoder of single observations, a recurrent layer, values of the actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.value_network import make_backbone
from aprendiz.errors import ConfigError
from aprendiz.recurrent import Recurrent
from aprendiz.recurrent.cells import Cell
from aprendiz.recurrent.network import State, kept


class RecurrentQNetwork(nn.Module):
    """Encoder, recurrent layer, linear: observations [T, B, ...] and a state to values [T, B, A] and a state.

    The recurrent layer stands in the place of the backbone's last dense one (Hausknecht and Stone 2015).
    `options` are the backbone's; raises ConfigError where it has no such option.
    """

    def __init__(
        self,
        backbone: str,
        observation_space: Space,
        actions: int,
        *,
        cell: Cell,
        units: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = make_backbone(backbone, observation_space, options or {}, trunk=True)
        width = int(self.encoder.features)  # type: ignore[arg-type]
        self.recurrent = Recurrent(Box(-np.inf, np.inf, (width,), np.float32), cell=cell, units=units)
        self.head = nn.Linear(units, actions)

    def forward(self, observation: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """`resets`: bool [T, B] on the CPU, before which steps the state is set to zero."""
        features = self.encoder(observation.flatten(0, 1)).unflatten(0, observation.shape[:2])  # [T, B, D]
        features, state = self.recurrent(features, state, resets=resets)
        return self.head(features), state

    def state_after(self, observation: Tensor, steps: NDArray[np.int64]) -> State:
        """The state after a burn-in [W, B, ...] of which, in sequence b, the last `steps[b]` of W are no padding."""
        length, count = observation.shape[:2]
        begins = (np.arange(length)[:, None] == length - steps) & (steps < length)  # [W, B]
        _, state = self(observation, self.recurrent.start(count), torch.from_numpy(begins))
        return kept(state, torch.from_numpy(steps > 0))


def newest_space(space: Space, frames: int | None) -> Space:
    """The space of the newest frames of a stack. Raises ConfigError where there are not so many."""
    if frames is None:
        return space
    if not (isinstance(space, Box) and len(space.shape) == 3):
        raise ConfigError(
            f"frames {frames} asks for the newest frames of a stack, and there is none; leave --frames out"
        )
    if space.shape[0] < frames:
        raise ConfigError(f"frames {frames} asks for more than the {space.shape[0]} that are stacked")
    return Box(space.low[-frames:], space.high[-frames:], dtype=space.dtype.type)
