"""Any Gymnasium environment with a finite set of actions, as a batch whose games restart in the step that ends them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aprendiz.errors import ConfigError, EnvError
from envs.core import Env, EnvSpec, Step, TransitionTable, check_actions, check_lanes, check_num_envs, lane_seeds

if TYPE_CHECKING:
    import gymnasium

_IDS = {
    "acrobot": ("Acrobot-v1", 100_000),
    "cartpole": ("CartPole-v1", 50_000),
    "lunar-lander": ("LunarLander-v3", 200_000),
    "mountain-car": ("MountainCar-v0", 200_000),
}
_ANY_DEFAULT_ENV_STEPS = 200_000
_TABULAR_DEFAULT_ENV_STEPS = 2_000_000
# Their whole state is in plain attributes, arrays and one random generator.
_RESTORABLE = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")


def plain(name: str, num_envs: int, *, render: bool = False, time_limit_steps: int = 0) -> GymnasiumEnv:
    """CartPole-v1, Acrobot-v1, MountainCar-v0 or LunarLander-v3; `time_limit_steps` 0 keeps the registered limit."""
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
    return GymnasiumEnv(name, ids[map_name], num_envs, render, time_limit_steps, _TABULAR_DEFAULT_ENV_STEPS, changes)


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

    registered = _translate(gymnasium_id, lambda: _registered(gymnasium_id))
    entry = registered.entry_point
    creator = _translate(gymnasium_id, lambda: load_env_creator(entry)) if isinstance(entry, str) else entry
    result: dict[str, Any] = {"time_limit_steps": 0}
    for parameter in inspect.signature(creator).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        if parameter.name not in ("self", "render_mode") and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            default = None if parameter.default is parameter.empty else parameter.default
            result[parameter.name] = registered.kwargs.get(parameter.name, default)
    return result


class GymnasiumEnv(Env):
    """N environments of one Gymnasium id, stepped in turn in this process.

    Observations: Discrete, or a Tuple of them as one index, gives `discrete`; a uint8 Box of 2 or 3 axes gives `image`
    [C, H, W]; any other Box gives `vector`, flattened. Classic control and toy text are restorable. Raises EnvError for
    other spaces, unknown ids and missing packages.
    """

    def __init__(
        self,
        name: str,
        gymnasium_id: str,
        num_envs: int,
        render: bool,
        time_limit_steps: int,
        default_env_steps: int,
        options: dict[str, Any],
    ) -> None:
        import gymnasium

        self.num_envs = check_num_envs(num_envs)
        if time_limit_steps < 0:
            raise ConfigError(f"time_limit_steps is {time_limit_steps}; give 1 or more, or 0 for the environment's own")
        settings: dict[str, Any] = dict(options, disable_env_checker=True)
        if time_limit_steps:
            settings["max_episode_steps"] = time_limit_steps
        if render:
            settings["render_mode"] = "rgb_array"
        registered = _translate(gymnasium_id, lambda: _registered(gymnasium_id))
        self._envs = [
            _translate(gymnasium_id, lambda: gymnasium.make(gymnasium_id, **settings)) for _ in range(num_envs)
        ]
        first = self._envs[0]
        self._raw = [env.unwrapped for env in self._envs]
        self._renders = render
        self._time_limit = time_limit_steps or registered.max_episode_steps
        actions = first.action_space
        if not isinstance(actions, gymnasium.spaces.Discrete):
            raise EnvError(f"{gymnasium_id} has the action space {actions}; supported: Discrete")
        self._first_action, self._num_actions = int(actions.start), int(actions.n)
        kind, space, self._convert = _observation(gymnasium_id, first.observation_space)
        self._dtype, self._shape = space.dtype, (num_envs, *(space.shape or ()))
        module = type(self._raw[0]).__module__ + "."
        self.spec = EnvSpec(
            name=name,
            observation_kind=kind,
            observation_space=space,
            action_space=gymnasium.spaces.Discrete(int(actions.n)),
            protocol={
                "suite": "Gymnasium",
                "version": gymnasium.__version__,
                "id": gymnasium_id,
                "options": {option: _plain(value) for option, value in options.items()},
                "time_limit_steps": self._time_limit,
                "score": "whole games",
            },
            default_env_steps=default_env_steps,
            # An option makes it another task, for which nobody has set a threshold.
            solved_score=None if options or time_limit_steps else registered.reward_threshold,
            restorable=module.startswith(_RESTORABLE),
        )
        self._no_action = np.full(num_envs, -1, np.int64)
        self._steps = [env.step for env in self._envs]
        self._seeds: list[int] = []
        self._restores = self._env_steps = 0
        self._score = [0.0] * num_envs
        self._length = [0] * num_envs
        self._actions: list[int] | None = None
        self._observation = np.zeros(self._shape, self._dtype)

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        self._seeds = lane_seeds(seed, self.num_envs)
        self._restores = self._env_steps = 0
        return self._start(self._seeds)

    def _start(self, seeds: list[int]) -> np.ndarray:
        observation = np.empty(self._shape, self._dtype)
        for lane, env in enumerate(self._envs):
            observation[lane] = self._convert(env.reset(seed=seeds[lane])[0])
        self._score = [0.0] * self.num_envs
        self._length = [0] * self.num_envs
        self._actions = None
        self._observation = observation
        return observation.copy()

    def send(self, actions: np.ndarray) -> None:
        if self._actions is not None or not self._seeds:
            raise RuntimeError("recv() before the next send()" if self._seeds else "reset() before the first send()")
        self._actions = check_actions(actions, self.num_envs, self._num_actions, self.spec.name)

    def recv(self) -> Step:
        if self._actions is None:
            raise RuntimeError("send() before recv()")
        num_envs, convert, scores, lengths = self.num_envs, self._convert, self._score, self._length
        observation = np.empty(self._shape, self._dtype)
        final_observation = observation
        reward_array = np.empty(num_envs, np.float32)
        terminations, truncations = np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.bool_)
        ended = []
        for lane, action in enumerate(self._actions):
            seen, reward, terminated, truncated, _ = self._steps[lane](action + self._first_action)
            observation[lane] = convert(seen)
            reward_array[lane] = reward
            scores[lane] += float(reward)
            lengths[lane] += 1
            if terminated or truncated:
                terminations[lane] = terminated
                truncations[lane] = not terminated
                ended.append(lane)
        score, length = np.array(scores), np.array(lengths, np.int64)
        if ended:
            final_observation = observation.copy()
            for lane in ended:
                observation[lane] = convert(self._envs[lane].reset()[0])
                scores[lane], lengths[lane] = 0.0, 0
        self._env_steps += num_envs
        self._actions = None
        self._observation = observation
        return Step(
            observation,
            reward_array,
            terminations,
            truncations,
            final_observation,
            np.zeros(num_envs, np.bool_),
            self._no_action.copy(),
            score,
            length,
        )

    def table(self) -> TransitionTable | None:
        """Of toy text that publishes its probabilities; None elsewhere, and where they do not tell the whole story."""
        raw: Any = self._raw[0]
        outcomes = getattr(raw, "P", None)
        if outcomes is None or not self.spec.restorable or getattr(raw, "fickle_passenger", False):
            return None
        num_states, num_actions = len(outcomes), self.spec.num_actions
        widest = max(len(outcomes[state][action]) for state in range(num_states) for action in range(num_actions))
        shape = (num_states, num_actions, widest)
        next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        probability, reward = np.zeros(shape), np.zeros(shape)
        for state in range(num_states):
            for action in range(num_actions):
                for k, row in enumerate(outcomes[state][action]):
                    at = state, action, k
                    probability[at], next_state[at], reward[at], terminated[at] = row
        initial = np.array(raw.initial_state_distrib, np.float64)
        return TransitionTable(next_state, probability, reward, terminated, initial, self._time_limit)

    def render(self, lane: int = 0) -> np.ndarray:
        if not self._renders:
            raise EnvError(f"{self.spec.name} was made without pictures; make it with render=True")
        return np.asarray(self._envs[lane].render())

    def state_dict(self) -> dict[str, Any]:
        """Restorable: every plain attribute of each environment and its wrappers, and its random generator. Otherwise
        seeds and counters."""
        state: dict[str, Any] = {"seeds": list(self._seeds), "steps": self._env_steps, "restores": self._restores}
        if self.spec.restorable:
            state["lanes"] = [_save_env(env) for env in self._envs]
            state["score"], state["length"] = list(self._score), list(self._length)
            state["observation"] = self._observation.copy()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        check_lanes(state, "seeds", self)
        self._seeds = [int(seed) for seed in state["seeds"]]
        self._env_steps, self._restores = int(state["steps"]), int(state["restores"])
        if not self.spec.restorable:
            self._restores += 1
            derived = [np.random.SeedSequence([seed, self._restores, self._env_steps]) for seed in self._seeds]
            return self._start([int(sequence.generate_state(1)[0]) >> 1 for sequence in derived])
        for env, saved in zip(self._envs, state["lanes"], strict=True):
            env.reset(seed=0)
            _load_env(env, saved)
        self._score, self._length = [float(score) for score in state["score"]], [int(one) for one in state["length"]]
        self._actions = None
        self._observation = np.array(state["observation"], self._dtype)
        return self._observation.copy()

    def close(self) -> None:
        for env in self._envs:
            env.close()


def _registered(gymnasium_id: str) -> Any:
    import gymnasium

    if gymnasium_id.startswith("ALE/"):
        import ale_py

        gymnasium.register_envs(ale_py)
    return gymnasium.spec(gymnasium_id)


def _translate(gymnasium_id: str, function: Callable[[], Any]) -> Any:
    """What `function` returns; what Gymnasium raises about ids, packages and options becomes one line for the user."""
    import gymnasium

    try:
        return function()
    except gymnasium.error.DependencyNotInstalled as error:
        box2d = ' (pip install "gymnasium[box2d]")' if "box2d" in str(error).lower() else ""
        raise EnvError(f"{gymnasium_id} needs a package that is not installed{box2d}: {_line(error)}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise EnvError(f"Gymnasium cannot make {gymnasium_id}: {_line(error)}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{gymnasium_id} does not take these options: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def _same(observation: Any) -> Any:
    return observation


def _observation(
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


def _layers(env: Any) -> list[Any]:
    result = [env]
    while result[-1] is not result[-1].unwrapped:
        result.append(result[-1].env)
    return result


def _save_env(env: Any) -> dict[str, Any]:
    layers = [
        {name: _encode(value) for name, value in vars(layer).items() if name != "render_mode" and _savable(value)}
        for layer in _layers(env)
    ]
    return {"layers": layers, "random": env.unwrapped.np_random.bit_generator.state}


def _load_env(env: Any, saved: dict[str, Any]) -> None:
    for layer, attributes in zip(_layers(env), saved["layers"], strict=True):
        for name, value in attributes.items():
            # A window that is open here stays, though there was none where the state was saved.
            if _savable(vars(layer).get(name)):
                setattr(layer, name, _decode(value))
    env.unwrapped.np_random.bit_generator.state = saved["random"]


def _savable(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, (tuple, list)):
        return all(not isinstance(one, np.ndarray) and _savable(one) for one in value)
    return isinstance(value, (bool, int, float, str, np.bool_, np.number, type(None)))


def _encode(value: Any) -> Any:
    if isinstance(value, (np.bool_, np.number)):
        return {"numpy": value.dtype.str, "value": value.item()}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(one) for one in value]}
    return value.copy() if isinstance(value, np.ndarray) else str(value) if isinstance(value, str) else value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value.copy() if isinstance(value, np.ndarray) else value
    if "numpy" in value:
        return np.dtype(value["numpy"]).type(value["value"])
    parts = [_decode(one) for one in (value["tuple"] if "tuple" in value else value["list"])]
    return tuple(parts) if "tuple" in value else parts
