"""A game that only a memory can win: what the first observation shows decides which action is right at the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.core import Env, EnvSpec, Step, lane_seeds


class MemoryGame(Env):
    """Observations are (cue, now): the cue, -1 or 1, is shown first and never again; `now` is 1 after `delay` steps,
    when action 0 earns 1 where the cue was -1 and action 1 where it was 1; the other one earns -1."""

    def __init__(self, num_envs: int, delay: int = 3) -> None:
        self.num_envs, self.delay = num_envs, delay
        self.spec = EnvSpec(
            name="memory-game",
            observation_kind="vector",
            observation_space=Box(-1.0, 1.0, (2,), np.float32),
            action_space=Discrete(2),
            default_env_steps=5_000,
            restorable=True,
        )
        self.reset(0)

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        self.generators = [np.random.default_rng(one) for one in lane_seeds(seed, self.num_envs)]
        self.time = np.zeros(self.num_envs, np.int64)
        self.cue = np.array([self._draw(lane) for lane in range(self.num_envs)])
        return self._observe()

    def _draw(self, lane: int) -> int:
        return int(2 * self.generators[lane].integers(2) - 1)

    def _observe(self) -> np.ndarray:
        shown = np.where(self.time == 0, self.cue, 0)
        return np.stack([shown, self.time == self.delay], axis=1).astype(np.float32)

    def send(self, actions: np.ndarray) -> None:
        self._actions = actions

    def recv(self) -> Step:
        over = self.time == self.delay
        right = (self._actions == 1) == (self.cue == 1)
        reward = np.where(over, np.where(right, 1.0, -1.0), 0.0).astype(np.float32)
        self.time += 1
        final, length = self._observe(), self.time.copy()
        for lane in np.flatnonzero(over):
            self.time[lane], self.cue[lane] = 0, self._draw(lane)
        observation = self._observe()
        final[~over] = observation[~over]
        no = np.zeros(self.num_envs, np.bool_)
        return Step(
            observation, reward, over, no, final, no.copy(), self.forced_action, reward.astype(np.float64), length
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "time": self.time.copy(),
            "cue": self.cue.copy(),
            "generators": [generator.bit_generator.state for generator in self.generators],
        }

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        self.time, self.cue = np.array(state["time"]), np.array(state["cue"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        return self._observe()
