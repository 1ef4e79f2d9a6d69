"""Environments by name, always a batch: `make("breakout", 8)`, `make("cartpole", 1)`, `make("gym:Blackjack-v1", 1)`."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from aprendiz.errors import ConfigError, EnvError
from aprendiz.registry import Entry, Registry
from envs.core import Env, EnvSpec, Step, TransitionTable

__all__ = ["ENVS", "WITH_TABLE", "Env", "EnvSpec", "Step", "TransitionTable", "make", "options", "options_class"]

WITH_TABLE = (
    "gridworld",
    "slippery-gridworld",
    "frozen-lake",
    "frozen-lake-8x8",
    "taxi",
    "cliff-walking",
    "blackjack-cards",
)
"""Names of the environments that expose their transition probabilities."""

_TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")
_ALE_PAPER = "Bellemare et al. 2013, JAIR 47:253"
_MUJOCO = "Todorov et al. 2012, IROS"
_OWN = {
    "acrobot": Entry("envs.gymnasium_tasks:plain", "swing a two-link arm above a line", "Sutton 1996"),
    "ant": Entry("envs.gymnasium_tasks:plain", "walk on four legs (continuous; needs MuJoCo)", _MUJOCO),
    "blackjack-cards": Entry(
        "envs.blackjack:blackjack", "hit or stick against the dealer", "Sutton and Barto 2018, ex. 5.1"
    ),
    "cartpole": Entry("envs.gymnasium_tasks:plain", "balance a pole on a cart", "Barto, Sutton and Anderson 1983"),
    "cliff-walking": Entry(
        "envs.gymnasium_tasks:cliff_walking", "walk along a cliff", "Sutton and Barto 2018, ex. 6.6"
    ),
    "frozen-lake": Entry("envs.gymnasium_tasks:frozen_lake", "cross slippery ice between holes"),
    "frozen-lake-8x8": Entry("envs.gymnasium_tasks:frozen_lake_8x8", "cross a larger lake"),
    "gridworld": Entry("envs.gridworld:gridworld", "walls, a goal and a pit", "Russell and Norvig, AIMA, ch. 17"),
    "halfcheetah": Entry(
        "envs.gymnasium_tasks:plain", "run on two legs in a plane (continuous; needs MuJoCo)", _MUJOCO
    ),
    "hopper": Entry("envs.gymnasium_tasks:plain", "hop on one leg (continuous; needs MuJoCo)", _MUJOCO),
    "humanoid": Entry("envs.gymnasium_tasks:plain", "walk like a human (continuous; needs MuJoCo)", _MUJOCO),
    "humanoid-standup": Entry(
        "envs.gymnasium_tasks:plain", "stand up from the floor (continuous; needs MuJoCo)", _MUJOCO
    ),
    "inverted-double-pendulum": Entry(
        "envs.gymnasium_tasks:plain", "balance two poles on a cart (continuous; needs MuJoCo)", _MUJOCO
    ),
    "inverted-pendulum": Entry("envs.gymnasium_tasks:plain", "balance a pole (continuous; needs MuJoCo)", _MUJOCO),
    "lunar-lander": Entry("envs.gymnasium_tasks:plain", "land between two flags (needs Box2D)"),
    "mountain-car": Entry("envs.gymnasium_tasks:plain", "rock a weak car out of a valley", "Moore 1990"),
    "mountain-car-continuous": Entry(
        "envs.gymnasium_tasks:plain", "the same, with any force (continuous)", "Moore 1990"
    ),
    "pendulum": Entry("envs.gymnasium_tasks:plain", "swing a pendulum up and hold it (continuous)"),
    "pusher": Entry("envs.gymnasium_tasks:plain", "push a cylinder to a place (continuous; needs MuJoCo)", _MUJOCO),
    "reacher": Entry("envs.gymnasium_tasks:plain", "reach a point with an arm (continuous; needs MuJoCo)", _MUJOCO),
    "slippery-gridworld": Entry(
        "envs.gridworld:slippery_gridworld", "four rooms with a slippery floor", "Sutton, Precup and Singh 1999"
    ),
    "swimmer": Entry("envs.gymnasium_tasks:plain", "swim with three links (continuous; needs MuJoCo)", _MUJOCO),
    "taxi": Entry("envs.gymnasium_tasks:taxi", "fetch a passenger and bring them home", "Dietterich 2000"),
    "walker2d": Entry("envs.gymnasium_tasks:plain", "walk on two legs in a plane (continuous; needs MuJoCo)", _MUJOCO),
}
_MINIGRID = {
    "doorkey-5x5": "fetch a key, unlock the door, reach the goal",
    "doorkey-6x6": "fetch a key, unlock the door, reach the goal",
    "doorkey-8x8": "fetch a key, unlock the door, reach the goal",
    "dynamic-obstacles-6x6": "reach the goal between moving balls",
    "empty-5x5": "an empty room with a goal",
    "empty-6x6": "an empty room with a goal",
    "empty-8x8": "an empty room with a goal",
    "empty-16x16": "an empty room with a goal",
    "empty-random-6x6": "an empty room with a goal, from anywhere",
    "four-rooms": "four rooms with doors, the goal anywhere",
    "key-corridor-s3r1": "find the key of the room with the ball",
    "lava-crossing-s9n1": "cross a stream of lava",
    "lava-gap-s5": "pass through a gap in the lava",
    "lava-gap-s7": "pass through a gap in the lava",
    "memory-s7": "remember an object, choose the same one",
    "multi-room-n2-s4": "two rooms with a door between",
    "simple-crossing-s9n1": "cross a wall with one gap",
    "unlock": "find the key and unlock the door",
}
_VIZDOOM = {
    "basic": "shoot the monster on the other side",
    "deadly-corridor": "run through a corridor of enemies",
    "defend-the-center": "turn and shoot those who come from all sides",
    "defend-the-line": "turn and shoot those who come from the front",
    "health-gathering": "survive on acid by collecting medkits",
    "health-gathering-supreme": "the same in a maze with poison",
    "my-way-home": "find the armour in a maze",
    "predict-position": "hit a moving monster with one rocket",
    "take-cover": "dodge fireballs",
}


def _builtins() -> dict[str, Entry]:
    table = dict(_OWN)
    for name, summary in _MINIGRID.items():
        table[f"minigrid-{name}"] = Entry("envs.minigrid_env:minigrid", summary, "Chevalier-Boisvert et al. 2023")
    for name, summary in _VIZDOOM.items():
        full = f"{summary} (needs ViZDoom)"
        table[f"vizdoom-{name}"] = Entry("envs.vizdoom_env:vizdoom", full, "Kempka et al. 2016, CIG")
    found = importlib.util.find_spec("ale_py")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for rom in sorted(Path(folder, "roms").glob("*.bin")):
            summary = "needs two players: listed, not playable" if rom.stem in _TWO_PLAYERS else "Atari 2600 game"
            table[rom.stem.replace("_", "-")] = Entry("envs.atari:atari", summary, _ALE_PAPER)
    return table


ENVS = Registry("envs", _builtins)
"""A name stands for a callable `factory(name, num_envs, *, render=False, **options) -> Env`."""


def make(name: str, num_envs: int, *, render: bool = False, **options: Any) -> Env:
    """`num_envs` games of `name`: a registered name, `gym:<Gymnasium id>`, `minigrid:<MiniGrid id>` or
    `package.module:factory`.

    Raises UnknownNameError, PluginError, ConfigError for an option that the environment does not have, and EnvError
    where it cannot be played here.
    """
    factory, name = _factory(name), _canonical(name)
    known = _options(factory, name)
    if known is not None:
        for option in options:
            if option not in known:
                has = f"it has: {', '.join(known)}" if known else "it has none"
                raise ConfigError(f"environment {name} has no option {option!r}; {has}")
    return factory(name, num_envs, render=render, **options)


def options(name: str) -> dict[str, Any]:
    """The options that `make(name, ...)` takes, with their defaults; builds no environment. Raises as `make`."""
    factory, name = _factory(name), _canonical(name)
    return dict(_options(factory, name) or {})


def options_class(name: str) -> type:
    """A dataclass of the options that can be typed, for a parser of commands. Raises as `make`."""
    fields: list[Any] = []
    for option, default in options(name).items():
        kind: Any = type(default) if isinstance(default, (bool, int, float, str)) else Optional[str]  # noqa: UP045
        if default is None or isinstance(default, (bool, int, float, str)):
            fields.append((option, kind, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(
        "EnvironmentOptions", fields, frozen=True, kw_only=True, namespace={"__doc__": "Options of the environment."}
    )


def _canonical(name: str) -> str:
    return name if name.startswith(("gym:", "minigrid:")) else ENVS.canonical(name)


def _factory(name: str) -> Callable[..., Env]:
    if name.startswith("gym:"):
        from envs.gymnasium_tasks import any_id

        return any_id
    if name.startswith("minigrid:"):
        from envs.minigrid_env import minigrid

        return minigrid
    factory = ENVS.get(name)
    if not callable(factory):
        raise EnvError(
            f"environment {name!r} is a {type(factory).__name__}; give a callable factory(name, num_envs, ...)"
        )
    return factory


def _options(factory: Callable[..., Env], name: str) -> dict[str, Any] | None:
    """Option to default, or None where the factory takes anything."""
    if name.startswith("gym:"):
        from envs.gymnasium_tasks import constructor_options

        return constructor_options(name.removeprefix("gym:"))
    result: dict[str, Any] = {}
    for parameter in list(inspect.signature(factory).parameters.values())[2:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        if parameter.name != "render" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            result[parameter.name] = None if parameter.default is parameter.empty else parameter.default
    return result
