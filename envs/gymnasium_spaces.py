"""Gymnasium's observation spaces as the three kinds that there are here: discrete, image, vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aprendiz.errors import EnvError

if TYPE_CHECKING:
    import gymnasium


def _same(observation: Any) -> Any:
    return observation


def observation_of(
    gymnasium_id: str, space: gymnasium.Space
) -> tuple[str, gymnasium.Space, Callable[[Any], np.ndarray | int]]:
    """Kind, our space, and how to turn what the environment shows into an element of it."""
    from gymnasium.spaces import Box, Discrete, Tuple
    from gymnasium.spaces.utils import flatten_space

    if isinstance(space, Discrete):
        start = int(space.start)
        return "discrete", Discrete(int(space.n)), (_same if start == 0 else lambda seen: seen - start)
    if isinstance(space, Tuple) and all(isinstance(part, Discrete) for part in space.spaces):
        parts: list[Any] = list(space.spaces)
        sizes, starts = [int(part.n) for part in parts], [int(part.start) for part in parts]

        def index(seen: Sequence[int]) -> int:
            result = 0
            for value, size, start in zip(seen, sizes, starts, strict=True):
                result = result * size + int(value) - start
            return result

        return "discrete", Discrete(int(np.prod(sizes))), index
    if isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        if len(space.shape) == 2:
            return "image", Box(0, 255, (1, *space.shape), np.uint8), lambda seen: seen[None]
        height, width, channels = space.shape
        if channels in (1, 3, 4):
            return "image", Box(0, 255, (channels, height, width), np.uint8), lambda seen: seen.transpose(2, 0, 1)
        return "image", Box(0, 255, space.shape, np.uint8), _same
    if isinstance(space, Box):
        if space.dtype == np.float32 and len(space.shape) == 1:
            return "vector", space, _same
        flat: Any = flatten_space(space)
        low, high = flat.low.astype(np.float32), flat.high.astype(np.float32)
        return "vector", Box(low, high, dtype=np.float32), lambda seen: np.asarray(seen).ravel()
    raise EnvError(
        f"{gymnasium_id} has the observation space {space}; supported: Discrete, a Tuple of Discrete, and Box"
    )
