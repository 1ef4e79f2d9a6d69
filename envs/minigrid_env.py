"""MiniGrid (Chevalier-Boisvert et al. 2023): small mazes with doors, keys and lava, as small colour pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from aprendiz.errors import ConfigError
from envs.gymnasium_env import GymnasiumEnv
from envs.gymnasium_packages import import_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = "minigrid:"
IDS = {
    "minigrid-doorkey-5x5": "MiniGrid-DoorKey-5x5-v0",
    "minigrid-doorkey-6x6": "MiniGrid-DoorKey-6x6-v0",
    "minigrid-doorkey-8x8": "MiniGrid-DoorKey-8x8-v0",
    "minigrid-dynamic-obstacles-6x6": "MiniGrid-Dynamic-Obstacles-6x6-v0",
    "minigrid-empty-5x5": "MiniGrid-Empty-5x5-v0",
    "minigrid-empty-6x6": "MiniGrid-Empty-6x6-v0",
    "minigrid-empty-8x8": "MiniGrid-Empty-8x8-v0",
    "minigrid-empty-16x16": "MiniGrid-Empty-16x16-v0",
    "minigrid-empty-random-6x6": "MiniGrid-Empty-Random-6x6-v0",
    "minigrid-four-rooms": "MiniGrid-FourRooms-v0",
    "minigrid-key-corridor-s3r1": "MiniGrid-KeyCorridorS3R1-v0",
    "minigrid-lava-crossing-s9n1": "MiniGrid-LavaCrossingS9N1-v0",
    "minigrid-lava-gap-s5": "MiniGrid-LavaGapS5-v0",
    "minigrid-lava-gap-s7": "MiniGrid-LavaGapS7-v0",
    "minigrid-memory-s7": "MiniGrid-MemoryS7-v0",
    "minigrid-multi-room-n2-s4": "MiniGrid-MultiRoom-N2-S4-v0",
    "minigrid-simple-crossing-s9n1": "MiniGrid-SimpleCrossingS9N1-v0",
    "minigrid-unlock": "MiniGrid-Unlock-v0",
}
ACTIONS = ("left", "right", "forward", "pick up", "drop", "toggle", "done")
MOVES = 3
"""The first so many actions walk."""
_DEFAULT_ENV_STEPS = 200_000


def minigrid(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    view: str = "full",
    actions: str = "all",
    tile_pixels: int = 8,
    time_limit_steps: int = 0,
) -> GymnasiumEnv:
    """A registered name, or `minigrid:<id>`, with or without `MiniGrid-` and a version.

    view: `full` shows the whole grid from above, [3, rows * tile_pixels, columns * tile_pixels]; `partial` the 7 x 7
    squares before the agent that it can see, itself at the bottom, looking up. actions: `all` that there are (seven as
    a rule), or `move`: left, right and forward. time_limit_steps: 0 keeps MiniGrid's own. Raises ConfigError for
    another view, other actions or numbers that cannot be, EnvError for an id that there is not.
    """
    import_package("minigrid", name)
    if view not in ("full", "partial"):
        raise ConfigError(f"view is {view!r}; choose full or partial")
    if actions not in ("all", "move"):
        raise ConfigError(f"actions is {actions!r}; choose all or move")
    if time_limit_steps < 0:
        raise ConfigError(f"time_limit_steps is {time_limit_steps}; give 1 or more, or 0 for MiniGrid's own")
    if tile_pixels < 3:
        raise ConfigError(f"tile_pixels is {tile_pixels}; give at least 3, such as 8")
    count = MOVES if actions == "move" else len(ACTIONS)
    env = GymnasiumEnv(
        name,
        IDS.get(name) or _full_id(name.removeprefix(PREFIX)),
        num_envs,
        render,
        0,
        _DEFAULT_ENV_STEPS,
        {"max_steps": time_limit_steps} if time_limit_steps else {},
        wrap=lambda env: Pixels(env, view == "full", count, tile_pixels),
        protocol={"view": view, "tile_pixels": tile_pixels},
    )
    env.spec.protocol["action_set"] = list(ACTIONS[: env.spec.num_actions])
    env.spec.protocol["time_limit_steps"] = int(env.first.max_steps)
    return env


def _full_id(text: str) -> str:
    """`Empty-8x8` as `MiniGrid-Empty-8x8-v0`; the latest version where none is named."""
    text = text if text.startswith("MiniGrid-") else f"MiniGrid-{text}"
    if text in gymnasium.registry:
        return text
    versions = [known for known in gymnasium.registry if known.rpartition("-v")[0] == text]
    return max(versions, default=text)


class Pixels(gymnasium.Wrapper):
    """MiniGrid's encoded squares as a picture uint8 [3, H, W], looked up tile by tile; the mission is left away."""

    def __init__(self, env: gymnasium.Env, full: bool, actions: int, tile_pixels: int) -> None:
        super().__init__(env)
        unwrapped: Any = env.unwrapped
        self._grid_env = unwrapped
        self._full, self._tile_pixels = full, tile_pixels
        self._tiles: dict[tuple[int, ...], NDArray[np.uint8]] = {}
        game = self._grid_env
        size = (game.height, game.width) if full else (game.agent_view_size, game.agent_view_size)
        shape = (3, size[0] * tile_pixels, size[1] * tile_pixels)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(min(actions, unwrapped.action_space.n))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seen, info = self.env.reset(seed=seed, options=options)
        return self._picture(seen), info

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._picture(seen), reward, terminated, truncated, info

    def _picture(self, seen: dict[str, Any]) -> NDArray[np.uint8]:
        game = self._grid_env
        if self._full:
            squares, at, direction = game.grid.encode(), tuple(game.agent_pos), int(game.agent_dir)  # [x, y, 3]
        else:
            squares, direction = seen["image"], 3
            at = (squares.shape[0] // 2, squares.shape[1] - 1)
        columns, rows = squares.shape[:2]
        codes = squares.reshape(-1, 3).tolist()
        agent = int(at[0]) * rows + int(at[1])
        tiles = [self._tile((*code, direction if index == agent else -1)) for index, code in enumerate(codes)]
        pixels = self._tile_pixels
        picture = np.stack(tiles).reshape(columns, rows, pixels, pixels, 3)
        return picture.transpose(4, 1, 2, 0, 3).reshape(3, rows * pixels, columns * pixels)

    def _tile(self, code: tuple[int, ...]) -> NDArray[np.uint8]:
        """uint8 [tile, tile, 3] of a square: kind, colour and state as MiniGrid encodes them, and the agent's direction
        or -1."""
        if code not in self._tiles:
            from minigrid.core.constants import OBJECT_TO_IDX
            from minigrid.core.grid import Grid
            from minigrid.core.world_object import WorldObj

            kind, colour, state, direction = code
            unseen = kind == OBJECT_TO_IDX["unseen"]
            thing = None if unseen else WorldObj.decode(kind, colour, state)
            facing = None if direction < 0 else direction
            lit = not self._full and not unseen
            self._tiles[code] = Grid.render_tile(thing, facing, highlight=lit, tile_size=self._tile_pixels).copy()
        return self._tiles[code]
