"""A world of squares with walls, goals and pits, drawn as text, whose every probability is known.

The default is the 4x3 world of Russell and Norvig, *Artificial Intelligence: A Modern Approach*, chapter "Making
Complex Decisions": each step costs 0.04, and one move in five slips to a side.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from aprendiz.errors import ConfigError
from envs.core import TransitionTable
from envs.table_env import TableEnv

RUSSELL_AND_NORVIG = "...G/.#.P/S..."
FOUR_ROOMS = (
    "S....#...../.....#...../.........../.....#...../.....#...../#.####...../.....###.##/.....#...../.....#...../...........\
/.....#....G"
)
"""Sutton, Precup and Singh, "Between MDPs and semi-MDPs", Artificial Intelligence 112, 1999, figure 2, its outer wall
left away; here the walk is from corner to corner."""
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


def slippery_gridworld(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    map: str = FOUR_ROOMS,
    slip: float = 1 / 3,
    step_reward: float = -0.01,
    time_limit_steps: int = 300,
) -> Gridworld:
    """A larger `gridworld`: four rooms joined by doors, where one move in three slips to a side, as in Sutton, Precup
    and Singh 1999 (there it can also slip backwards). Options and errors as `gridworld`."""
    return Gridworld(name, num_envs, _read_map(map), slip, step_reward, time_limit_steps)


class Gridworld(TableEnv):
    """The observation is the square's number, row * width + column. Restorable; `render` needs no preparation.

    Three outcomes an action: as meant, slipped to the left, slipped to the right. Terminal squares stay put.
    """

    def __init__(
        self, name: str, num_envs: int, rows: list[str], slip: float, step_reward: float, time_limit_steps: int
    ) -> None:
        if not 0.0 <= slip <= 1.0:
            raise ConfigError(f"slip is {slip}; it is a probability: 0.0 to 1.0")
        if not math.isfinite(step_reward):
            raise ConfigError(f"step_reward is {step_reward}; it must be a finite number, such as -0.04")
        if not 1 <= time_limit_steps < math.inf:
            raise ConfigError(f"time_limit_steps is {time_limit_steps}; it must be at least 1")
        self._rows = rows
        super().__init__(
            name,
            num_envs,
            _build_table(rows, slip, step_reward, time_limit_steps),
            protocol={"map": "/".join(rows), "slip": slip, "step_reward": step_reward},
            options={"map": "/".join(rows)},
            default_env_steps=2_000_000,
        )

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
