"""Games that are played on a transition table: what the table says is what happens, number for number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.core import Env, EnvSpec, Step, TransitionTable, check_actions, check_lanes, check_num_envs, lane_seeds


class TableEnv(Env):
    """N games of one table. The observation is the state's number. Restorable."""

    def __init__(
        self,
        name: str,
        num_envs: int,
        table: TransitionTable,
        *,
        protocol: dict[str, Any],
        default_env_steps: int,
        options: dict[str, Any] | None = None,
    ) -> None:
        """protocol, options: as in `EnvSpec`. Raises ConfigError for a number of games that cannot be."""
        from gymnasium.spaces import Discrete

        self.num_envs = check_num_envs(num_envs)
        self._table = table
        self._outcomes = _sampling_rows(table)
        self._starts = [int(state) for state in np.flatnonzero(table.initial)]
        self._start_bounds: list[float] | None = None
        chances = table.initial[self._starts]
        if not np.allclose(chances, chances[0]):
            self._start_bounds = np.cumsum(chances).tolist()
        self._time_limit = float("inf") if table.time_limit is None else table.time_limit
        num_states, num_actions, _ = table.next_state.shape
        self.spec = EnvSpec(
            name=name,
            observation_kind="discrete",
            observation_space=Discrete(num_states),
            action_space=Discrete(num_actions),
            protocol=protocol | {"time_limit_steps": table.time_limit, "score": "whole games"},
            options=options or {},
            default_env_steps=default_env_steps,
            restorable=True,
        )
        self._random: list[np.random.Generator] = []
        self._states = [0] * num_envs
        self._score = [0.0] * num_envs
        self._length = [0] * num_envs
        self._actions: list[int] | None = None

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        self._random = [np.random.default_rng(one) for one in lane_seeds(seed, self.num_envs)]
        self._states = [self._first_state(lane) for lane in range(self.num_envs)]
        self._score = [0.0] * self.num_envs
        self._length = [0] * self.num_envs
        self._actions = None
        return np.array(self._states, np.int64)

    def send(self, actions: np.ndarray) -> None:
        if self._actions is not None or not self._random:
            raise RuntimeError("recv() before the next send()" if self._random else "reset() before the first send()")
        self._actions = check_actions(actions, self.num_envs, self.spec.num_actions, self.spec.name)

    def recv(self) -> Step:
        if self._actions is None:
            raise RuntimeError("send() before recv()")
        num_envs, states, scores, lengths = self.num_envs, self._states, self._score, self._length
        rewards, terminations, truncations, ended = [0.0] * num_envs, [False] * num_envs, [False] * num_envs, []
        for lane, action in enumerate(self._actions):
            drawn = self._random[lane].random()
            outcomes = self._outcomes[states[lane]][action]
            _, next_state, reward, terminated = next(one for one in outcomes if drawn < one[0])
            states[lane] = next_state
            rewards[lane] = reward
            scores[lane] += reward
            lengths[lane] += 1
            if terminated or lengths[lane] >= self._time_limit:
                terminations[lane], truncations[lane] = terminated, not terminated
                ended.append(lane)
        score, length = np.array(scores), np.array(lengths, np.int64)
        observation = final_observation = np.array(states, np.int64)
        if ended:
            for lane in ended:
                states[lane] = self._first_state(lane)
                scores[lane], lengths[lane] = 0.0, 0
            observation = np.array(states, np.int64)
        self._actions = None
        return Step(
            observation,
            np.array(rewards, np.float32),
            np.array(terminations),
            np.array(truncations),
            final_observation,
            np.zeros(num_envs, np.bool_),
            np.full(num_envs, -1),
            score,
            length,
        )

    def table(self) -> TransitionTable:
        """The table that is played."""
        return self._table

    def state_dict(self) -> dict[str, Any]:
        return {
            "states": list(self._states),
            "score": list(self._score),
            "length": list(self._length),
            "random": [generator.bit_generator.state for generator in self._random],
        }

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        check_lanes(state, "states", self)
        self._random = [np.random.default_rng(0) for _ in range(self.num_envs)]
        for generator, saved in zip(self._random, state["random"], strict=True):
            generator.bit_generator.state = saved
        self._states = [int(one) for one in state["states"]]
        self._score = [float(one) for one in state["score"]]
        self._length = [int(one) for one in state["length"]]
        self._actions = None
        return np.array(self._states, np.int64)

    def _first_state(self, lane: int) -> int:
        drawn = self._random[lane].random()
        if self._start_bounds is None:
            return self._starts[int(drawn * len(self._starts))]
        at = int(np.searchsorted(self._start_bounds, drawn, side="right"))
        return self._starts[min(at, len(self._starts) - 1)]


def _sampling_rows(table: TransitionTable) -> list[list[list[tuple[float, int, float, bool]]]]:
    """By state and action: cumulative probability, next state, reward, terminated; the last row always matches."""
    result = []
    for state in range(len(table.initial)):
        by_action = []
        for action in range(table.next_state.shape[1]):
            likely = np.flatnonzero(table.probability[state, action])
            cumulative = np.cumsum(table.probability[state, action, likely]).tolist()
            cumulative[-1] = 2.0
            at = (state, action, likely)
            columns = (table.next_state[at].tolist(), table.reward[at].tolist(), table.terminated[at].tolist())
            by_action.append(list(zip(cumulative, *columns, strict=True)))
        result.append(by_action)
    return result
