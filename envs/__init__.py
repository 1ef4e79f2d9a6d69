"""Environments by name, always a batch: `make("breakout", 8)`, `make("cartpole", 1)`, `make("gym:Blackjack-v1", 1)`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aprendiz.errors import ConfigError, EnvError
from aprendiz.registry import Entry, Registry
from envs.core import Env, EnvSpec, Step, TransitionTable

__all__ = ["ENVS", "Env", "EnvSpec", "Step", "TransitionTable", "make", "options"]

_TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")
_ALE_PAPER = "Bellemare et al. 2013, JAIR 47:253"
_OWN = {
    "acrobot": Entry("envs.gymnasium_env:plain", "swing a two-link arm above a line", "Sutton 1996"),
    "cartpole": Entry("envs.gymnasium_env:plain", "balance a pole on a cart", "Barto, Sutton and Anderson 1983"),
    "cliff-walking": Entry("envs.gymnasium_env:cliff_walking", "walk along a cliff", "Sutton and Barto 2018, ex. 6.6"),
    "frozen-lake": Entry("envs.gymnasium_env:frozen_lake", "cross slippery ice between holes"),
    "gridworld": Entry("envs.gridworld:gridworld", "walls, a goal and a pit", "Russell and Norvig, AIMA, ch. 17"),
    "lunar-lander": Entry("envs.gymnasium_env:plain", "land between two flags (needs Box2D)"),
    "mountain-car": Entry("envs.gymnasium_env:plain", "rock a weak car out of a valley", "Moore 1990"),
    "taxi": Entry("envs.gymnasium_env:taxi", "fetch a passenger and bring them home", "Dietterich 2000"),
}


def _builtins() -> dict[str, Entry]:
    table = dict(_OWN)
    found = importlib.util.find_spec("ale_py")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for rom in sorted(Path(folder, "roms").glob("*.bin")):
            summary = "needs two players: listed, not playable" if rom.stem in _TWO_PLAYERS else "Atari 2600 game"
            table[rom.stem.replace("_", "-")] = Entry("envs.atari:atari", summary, _ALE_PAPER)
    return table


ENVS = Registry("envs", _builtins)
"""A name stands for a callable `factory(name, num_envs, *, render=False, **options) -> Env`."""


def make(name: str, num_envs: int, *, render: bool = False, **options: Any) -> Env:
    """`num_envs` games of `name`: a registered name, `gym:<Gymnasium id>` or `package.module:factory`.

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


def _canonical(name: str) -> str:
    return name if name.startswith("gym:") else ENVS.canonical(name)


def _factory(name: str) -> Callable[..., Env]:
    if name.startswith("gym:"):
        from envs.gymnasium_env import any_id

        return any_id
    factory = ENVS.get(name)
    if not callable(factory):
        raise EnvError(
            f"environment {name!r} is a {type(factory).__name__}; give a callable factory(name, num_envs, ...)"
        )
    return factory


def _options(factory: Callable[..., Env], name: str) -> dict[str, Any] | None:
    """Option to default, or None where the factory takes anything."""
    if name.startswith("gym:"):
        from envs.gymnasium_env import constructor_options

        return constructor_options(name.removeprefix("gym:"))
    result: dict[str, Any] = {}
    for parameter in list(inspect.signature(factory).parameters.values())[2:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        if parameter.name != "render" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            result[parameter.name] = None if parameter.default is parameter.empty else parameter.default
    return result
