"""A world of squares with walls, goals and pits, drawn as text, whose every probability is known.

The default is the 4x3 world of Russell and Norvig, *Artificial Intelligence: A Modern Approach*, chapter "Making
Complex Decisions": each step costs 0.04, and one move in five slips to a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aprendiz.errors import ConfigError
from envs.core import Env, EnvSpec, Step, TransitionTable, check_actions, check_lanes, check_num_envs, lane_seeds

RUSSELL_AND_NORVIG = "...G/.#.P/S..."
UP, RIGHT, DOWN, LEFT = range(4)
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
_WALL, _START, _GOAL, _PIT, _FLOOR = "#SGP."
_COLOURS = {
    _WALL: (60, 60, 60),
    _START: (205, 220, 245),
    _GOAL: (80, 170, 90),
    _PIT: (200, 70, 60),
    _FLOOR: (245, 245, 245),
}
_SQUARE_PIXELS = 48


def gridworld(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    map: str = RUSSELL_AND_NORVIG,
    slip: float = 0.2,
    step_reward: float = -0.04,
    time_limit_steps: int = 100,
) -> Gridworld:
    """N walkers, each in its own copy of the map.

    `map` is text, its rows parted by `/` or by new lines, or the path of a text file: `#` wall, `.` floor, `S` start
    (any of them; any floor where there is none), `G` goal (+1, the game is over), `P` pit (-1, the game is over).
    Actions 0 to 3 are up, right, down, left; with probability `slip` the move goes to one of the two sides instead; a
    move into a wall or off the map stays. Every step adds `step_reward`. Raises ConfigError for a map or number that
    cannot be.
    """
    return Gridworld(name, num_envs, _read_map(map), slip, step_reward, time_limit_steps)


class Gridworld(Env):
    """The observation is the square's number, row * width + column. Restorable; `render` needs no preparation."""

    def __init__(
        self, name: str, num_envs: int, rows: list[str], slip: float, step_reward: float, time_limit_steps: int
    ) -> None:
        from gymnasium.spaces import Discrete

        self.num_envs = check_num_envs(num_envs)
        if not 0.0 <= slip <= 1.0:
            raise ConfigError(f"slip is {slip}; it is a probability: 0.0 to 1.0")
        if not math.isfinite(step_reward):
            raise ConfigError(f"step_reward is {step_reward}; it must be a finite number, such as -0.04")
        if not 1 <= time_limit_steps < math.inf:
            raise ConfigError(f"time_limit_steps is {time_limit_steps}; it must be at least 1")
        self._rows = rows
        self._table = _build_table(rows, slip, step_reward, time_limit_steps)
        self._outcomes = _sampling_rows(self._table)
        self._starts = [int(state) for state in np.flatnonzero(self._table.initial)]
        self._time_limit = time_limit_steps
        num_states = len(self._table.initial)
        self.spec = EnvSpec(
            name=name,
            observation_kind="discrete",
            observation_space=Discrete(num_states),
            action_space=Discrete(len(_MOVES)),
            protocol={
                "map": "/".join(rows),
                "slip": slip,
                "step_reward": step_reward,
                "time_limit_steps": time_limit_steps,
                "score": "whole games",
            },
            default_env_steps=2_000_000,
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
        self._actions = check_actions(actions, self.num_envs, len(_MOVES), self.spec.name)

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
        """Three outcomes an action: as meant, slipped to the left, slipped to the right. Terminal squares stay put."""
        return self._table

    def render(self, lane: int = 0) -> np.ndarray:
        """The map from above, 48 pixels a square, the walker a blue disc."""
        height, width = len(self._rows), len(self._rows[0])
        squares = np.array([[_COLOURS[letter] for letter in row] for row in self._rows], np.uint8)  # [rows, columns, 3]
        picture = squares.repeat(_SQUARE_PIXELS, axis=0).repeat(_SQUARE_PIXELS, axis=1)  # [H, W, 3]
        picture[::_SQUARE_PIXELS] = picture[:, ::_SQUARE_PIXELS] = 170
        row, column = divmod(self._states[lane], width)
        y, x = np.ogrid[: height * _SQUARE_PIXELS, : width * _SQUARE_PIXELS]
        centre_y, centre_x = (row + 0.5) * _SQUARE_PIXELS, (column + 0.5) * _SQUARE_PIXELS
        picture[(y - centre_y) ** 2 + (x - centre_x) ** 2 < (0.3 * _SQUARE_PIXELS) ** 2] = (40, 90, 200)
        return picture

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
        return self._starts[int(self._random[lane].random() * len(self._starts))]


def _read_map(text: str) -> list[str]:
    letters = set(_WALL + _START + _GOAL + _PIT + _FLOOR + "/\n\r ")
    if not set(text) <= letters or (len(text) < 250 and Path(text).is_file()):
        try:
            text = Path(text).read_text()
        except (OSError, ValueError) as error:
            raise ConfigError(f"map {text!r} is neither a readable file nor rows of # . S G P parted by /") from error
    rows = [row.strip() for row in text.replace("/", "\n").splitlines() if row.strip()]
    wrong = sorted({letter for row in rows for letter in row} - set(_WALL + _START + _GOAL + _PIT + _FLOOR))
    if wrong:
        raise ConfigError(f"the map has {wrong[0]!r}; allowed: # wall, . floor, S start, G goal, P pit")
    if len({len(row) for row in rows}) != 1:
        raise ConfigError(f"the map's rows have lengths {[len(row) for row in rows]}; make them equal")
    if not any(_GOAL in row or _PIT in row for row in rows):
        raise ConfigError("the map has no end; give it a goal G or a pit P")
    if not any(_START in row or _FLOOR in row for row in rows):
        raise ConfigError("the map has nowhere to start; give it a start S or floor .")
    return rows


def _build_table(rows: list[str], slip: float, step_reward: float, time_limit: int) -> TransitionTable:
    height, width = len(rows), len(rows[0])
    cells = "".join(rows)
    shape = (height * width, len(_MOVES), 3)
    next_state = np.empty(shape, np.int64)
    probability = np.broadcast_to([1.0 - slip, slip / 2, slip / 2], shape).copy()
    reward, terminated = np.zeros(shape), np.zeros(shape, np.bool_)
    for state, letter in enumerate(cells):
        next_state[state] = state
        if letter in (_WALL, _GOAL, _PIT):
            probability[state] = (1.0, 0.0, 0.0)
            terminated[state] = letter != _WALL
            continue
        for action in range(len(_MOVES)):
            for k, direction in enumerate((action, action - 1, (action + 1) % len(_MOVES))):
                row, column = (state // width + _MOVES[direction][0], state % width + _MOVES[direction][1])
                if 0 <= row < height and 0 <= column < width and rows[row][column] != _WALL:
                    next_state[state, action, k] = row * width + column
                arrived = cells[next_state[state, action, k]]
                reward[state, action, k] = step_reward + (arrived == _GOAL) - (arrived == _PIT)
                terminated[state, action, k] = arrived in (_GOAL, _PIT)
    start = _START if _START in cells else _FLOOR
    initial = np.array([float(letter == start) for letter in cells])
    return TransitionTable(next_state, probability, reward, terminated, initial / initial.sum(), time_limit)


def _sampling_rows(table: TransitionTable) -> list[list[list[tuple[float, int, float, bool]]]]:
    """By state and action: cumulative probability, next state, reward, terminated; the last row always matches."""
    result = []
    for state in range(len(table.initial)):
        by_action = []
        for action in range(len(_MOVES)):
            likely = np.flatnonzero(table.probability[state, action])
            cumulative = np.cumsum(table.probability[state, action, likely]).tolist()
            cumulative[-1] = 2.0
            at = (state, action, likely)
            columns = (table.next_state[at].tolist(), table.reward[at].tolist(), table.terminated[at].tolist())
            by_action.append(list(zip(cumulative, *columns, strict=True)))
        result.append(by_action)
    return result
