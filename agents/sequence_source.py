"""Acting with a recurrent agent as a source of sequences: its state goes on from step to step, and begins anew with
each game."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from agents.acting import ActingSource
from agents.core import Player
from aprendiz.recurrent.network import State, kept
from aprendiz.replay_sequences import SequenceBatch, sample_sequences


class RecurrentAgent(Protocol):
    """What the source needs of an agent, beside what every agent has."""

    def start_state(self, count: int) -> State:
        """The state of `count` games before their first observation."""
        ...

    def step(self, observations: NDArray[Any], state: State) -> tuple[NDArray[np.float32], State]:
        """Values float32 [N, A] of observations [N, ...] after what the state has seen, and the state after them."""
        ...

    def act_with_state(
        self, observations: NDArray[Any], state: State, env_steps: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], State]:
        """Actions int64 [N] while it learns, and the state after what it was shown."""
        ...


class SequenceSource(ActingSource):
    """As ActingSource, with batches of sequences of up to `unroll_steps` steps, of observations made of the newest
    `frames` frames (None: all), after up to `burn_in` steps that only lead to a state."""

    state: State
    """Of the games that are being played, before the current observation."""

    def __init__(
        self, agent: Any, *arguments: Any, unroll_steps: int, burn_in: int, frames: int | None, **options: Any
    ) -> None:
        """`arguments` and `options` are those of ActingSource."""
        super().__init__(agent, *arguments, **options)
        self.unroll_steps, self.burn_in, self.frames = unroll_steps, burn_in, frames
        self.recurrent: RecurrentAgent = agent
        self.state = self.recurrent.start_state(self.env.num_envs)

    def _act(self) -> NDArray[np.int64]:
        actions, self.state = self.recurrent.act_with_state(
            self.observation, self.state, self.env_steps, self.acting_generator
        )
        return actions

    def _begin(self, games: NDArray[np.bool_]) -> None:
        self.state = kept(self.state, torch.from_numpy(~games))

    def _sample(self) -> SequenceBatch:  # type: ignore[override]
        return sample_sequences(
            self.replay,
            self.batch_size,
            self.unroll_steps,
            self.replay_generator,
            burn_in=self.burn_in,
            frames=self.frames,
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"state": [tensor.cpu().numpy() for tensor in self.state]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.state = self.recurrent.start_state(self.env.num_envs)
        if self.env.spec.restorable:
            saved = (torch.from_numpy(np.array(array)) for array in state["state"])
            self.state = tuple(tensor.to(start) for tensor, start in zip(saved, self.state, strict=True))


class RecurrentPlayer(Player):
    """Plays N games, each with a state of its own that goes on from step to step."""

    def __init__(self, agent: Any, count: int) -> None:
        super().__init__(agent)
        self.recurrent: RecurrentAgent = agent
        self.state = self.recurrent.start_state(count)
        self._before = self.state
        self._q_values: NDArray[np.float32] | None = None

    def act(self, observations: NDArray[Any], ask: NDArray[np.int64]) -> NDArray[np.int64]:
        self._before = self.state
        self._q_values, self.state = self.recurrent.step(observations, self.state)
        return self._q_values.argmax(axis=1)[ask]

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        assert self._q_values is not None, "act comes first"
        return {"q_values": self._q_values}

    def imagine(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        before = tuple(tensor.expand(-1, len(observations), -1).contiguous() for tensor in self._before)  # [L, K, H]
        return {"q_values": self.recurrent.step(observations, before)[0]}

    def begin(self, games: NDArray[np.bool_]) -> None:
        if games.any():
            self.state = kept(self.state, torch.from_numpy(~games))
