"""Gymnasium's environments by our names, with the options that are worth having."""

from __future__ import annotations

import inspect
from typing import Any

from aprendiz.errors import ConfigError
from envs.gymnasium_env import GymnasiumEnv
from envs.gymnasium_packages import find_spec, translate

_IDS = {
    "acrobot": ("Acrobot-v1", 100_000),
    "cartpole": ("CartPole-v1", 50_000),
    "lunar-lander": ("LunarLander-v3", 200_000),
    "mountain-car": ("MountainCar-v0", 200_000),
    "mountain-car-continuous": ("MountainCarContinuous-v0", 100_000),
    "pendulum": ("Pendulum-v1", 100_000),
    # MuJoCo
    "ant": ("Ant-v5", 1_000_000),
    "halfcheetah": ("HalfCheetah-v5", 1_000_000),
    "hopper": ("Hopper-v5", 1_000_000),
    "humanoid": ("Humanoid-v5", 2_000_000),
    "humanoid-standup": ("HumanoidStandup-v5", 1_000_000),
    "inverted-double-pendulum": ("InvertedDoublePendulum-v5", 300_000),
    "inverted-pendulum": ("InvertedPendulum-v5", 100_000),
    "pusher": ("Pusher-v5", 1_000_000),
    "reacher": ("Reacher-v5", 300_000),
    "swimmer": ("Swimmer-v5", 1_000_000),
    "walker2d": ("Walker2d-v5", 1_000_000),
}
_ANY_DEFAULT_ENV_STEPS = 200_000
_TABULAR_DEFAULT_ENV_STEPS = 2_000_000


def plain(name: str, num_envs: int, *, render: bool = False, time_limit_steps: int = 0) -> GymnasiumEnv:
    """One of Gymnasium's environments without options of ours; `time_limit_steps` 0 keeps the registered limit."""
    gymnasium_id, default_env_steps = _IDS[name]
    return GymnasiumEnv(name, gymnasium_id, num_envs, render, time_limit_steps, default_env_steps, {})


def frozen_lake(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    map_name: str = "4x4",
    is_slippery: bool = True,
    time_limit_steps: int = 0,
) -> GymnasiumEnv:
    """FrozenLake-v1 on the map `4x4` or `8x8`, whose limits are 100 and 200 steps; on slippery ice one move in three is
    the one that was meant."""
    ids = {"4x4": "FrozenLake-v1", "8x8": "FrozenLake8x8-v1"}
    if map_name not in ids:
        raise ConfigError(f"map_name is {map_name!r}; frozen-lake has the maps 4x4 and 8x8")
    changes = {} if is_slippery else {"is_slippery": False}
    # Chance hides the goal of the large lake well.
    budget = (5 if map_name == "8x8" else 1) * _TABULAR_DEFAULT_ENV_STEPS
    return GymnasiumEnv(name, ids[map_name], num_envs, render, time_limit_steps, budget, changes)


def frozen_lake_8x8(
    name: str, num_envs: int, *, render: bool = False, is_slippery: bool = True, time_limit_steps: int = 0
) -> GymnasiumEnv:
    """`frozen-lake` with the map `8x8`."""
    return frozen_lake(
        name, num_envs, render=render, map_name="8x8", is_slippery=is_slippery, time_limit_steps=time_limit_steps
    )


def taxi(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    is_rainy: bool = False,
    fickle_passenger: bool = False,
    time_limit_steps: int = 0,
) -> GymnasiumEnv:
    """Taxi-v4 (Taxi-v3 in older Gymnasium): 500 states, 200 steps. A fickle passenger has no transition table."""
    import gymnasium

    options = {"is_rainy": is_rainy, "fickle_passenger": fickle_passenger}
    changes = {option: value for option, value in options.items() if value}
    gymnasium_id = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
    return GymnasiumEnv(name, gymnasium_id, num_envs, render, time_limit_steps, _TABULAR_DEFAULT_ENV_STEPS, changes)


def cliff_walking(
    name: str, num_envs: int, *, render: bool = False, is_slippery: bool = False, time_limit_steps: int = 1_000
) -> GymnasiumEnv:
    """CliffWalking-v1. Gymnasium sets no time limit, so that an untaught greedy agent would play for ever; we do."""
    import gymnasium

    gymnasium_id = "CliffWalking-v1" if "CliffWalking-v1" in gymnasium.registry else "CliffWalking-v0"
    changes = {"is_slippery": True} if is_slippery else {}
    return GymnasiumEnv(name, gymnasium_id, num_envs, render, time_limit_steps, _TABULAR_DEFAULT_ENV_STEPS, changes)


def any_id(
    name: str, num_envs: int, *, render: bool = False, time_limit_steps: int = 0, **options: Any
) -> GymnasiumEnv:
    """`gym:<id>` for any id that Gymnasium knows; the other options are those of its constructor."""
    return GymnasiumEnv(
        name, name.removeprefix("gym:"), num_envs, render, time_limit_steps, _ANY_DEFAULT_ENV_STEPS, options
    )


def constructor_options(gymnasium_id: str) -> dict[str, Any] | None:
    """Options of a Gymnasium id with their defaults; None where its constructor takes anything.

    Raises EnvError where the id is unknown or does not import.
    """
    from gymnasium.envs.registration import load_env_creator

    registered = translate(gymnasium_id, lambda: find_spec(gymnasium_id))
    entry = registered.entry_point
    creator = translate(gymnasium_id, lambda: load_env_creator(entry)) if isinstance(entry, str) else entry
    result: dict[str, Any] = {"time_limit_steps": 0}
    for parameter in inspect.signature(creator).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        if parameter.name not in ("self", "render_mode") and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            default = None if parameter.default is parameter.empty else parameter.default
            result[parameter.name] = registered.kwargs.get(parameter.name, default)
    return result
