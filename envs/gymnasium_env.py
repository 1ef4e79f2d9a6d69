"""Any Gymnasium environment with numbered or continuous actions, as a batch whose games restart in the step that ends
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aprendiz.errors import ConfigError, EnvError
from envs.core import (
    Env,
    EnvSpec,
    Step,
    TransitionTable,
    check_actions,
    check_box_actions,
    check_lanes,
    check_num_envs,
    lane_seeds,
)
from envs.gymnasium_packages import find_spec, keep_mujoco_from_logging, one_line, translate
from envs.gymnasium_spaces import observation_of
from envs.gymnasium_state import load_env, save_env

if TYPE_CHECKING:
    import gymnasium

# Their whole state is in plain attributes, arrays and one random generator.
_RESTORABLE = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")
# A game is a function of its first random state and of its actions, and soon played again.
_REPLAYABLE = ("gymnasium.envs.mujoco.", "minigrid.")


class GymnasiumEnv(Env):
    """N environments of one Gymnasium id, stepped in turn in this process.

    Observations: Discrete, or a Tuple of them as one index, gives `discrete`; a uint8 Box of 2 or 3 axes gives `image`
    [C, H, W]; any other Box gives `vector`, flattened. Actions: Discrete, or a bounded Box, whose float32 actions are
    clipped to the bounds. Classic control, toy text, MuJoCo and MiniGrid are restorable: the first two by their
    attributes, the others by playing the game in progress again from its start. Raises EnvError for other spaces,
    unknown ids and missing packages.
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
        *,
        make: Callable[[], gymnasium.Env] | None = None,
        wrap: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
        protocol: dict[str, Any] | None = None,
        frame_stack: int = 1,
        reward_scale: float | None = None,
    ) -> None:
        """make: makes one that Gymnasium does not know. wrap: put around each environment. protocol: added to what the
        spec tells of what is played. frame_stack: of how many pictures an observation is made. reward_scale: as
        `EnvSpec.reward_scale`."""
        import gymnasium

        self.num_envs = check_num_envs(num_envs)
        if time_limit_steps < 0:
            raise ConfigError(f"time_limit_steps is {time_limit_steps}; give 1 or more, or 0 for the environment's own")
        settings: dict[str, Any] = dict(options, disable_env_checker=True)
        if time_limit_steps:
            settings["max_episode_steps"] = time_limit_steps
        if render:
            settings["render_mode"] = "rgb_array"
        registered: Any = None
        if make is None:
            registered = translate(gymnasium_id, lambda: find_spec(gymnasium_id))
            keep_mujoco_from_logging(registered.entry_point)
            make = lambda: translate(gymnasium_id, lambda: gymnasium.make(gymnasium_id, **settings))  # noqa: E731
        self._envs = [make() for _ in range(num_envs)]
        if wrap is not None:
            self._envs = [wrap(env) for env in self._envs]
        first = self._envs[0]
        self._raw = [env.unwrapped for env in self._envs]
        self._renders = render
        self._time_limit = time_limit_steps or getattr(registered, "max_episode_steps", None) or _limit_of(first)
        actions: Any = first.action_space
        self._first_action = self._num_actions = 0
        if isinstance(actions, gymnasium.spaces.Discrete):
            self._first_action, self._num_actions = int(actions.start), int(actions.n)
            action_space: gymnasium.Space = gymnasium.spaces.Discrete(int(actions.n))
        elif isinstance(actions, gymnasium.spaces.Box) and actions.is_bounded("both") and actions.dtype.kind == "f":
            low, high = actions.low.astype(np.float32), actions.high.astype(np.float32)
            action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        else:
            raise EnvError(f"{gymnasium_id} has the action space {actions}; supported: Discrete, and a bounded Box")
        kwargs = getattr(registered, "kwargs", {})
        kind, space, self._convert = observation_of(gymnasium_id, first.observation_space)
        self._dtype, self._shape = space.dtype, (num_envs, *(space.shape or ()))
        module = type(self._raw[0]).__module__ + "."
        self.spec = EnvSpec(
            name=name,
            observation_kind=kind,
            observation_space=space,
            action_space=action_space,
            protocol={
                "suite": "Gymnasium",
                "version": gymnasium.__version__,
                "id": gymnasium_id,
                "options": {option: _plain(value) for option, value in options.items()},
                "time_limit_steps": self._time_limit,
                "score": "whole games",
            }
            | ({"registered": {name: _plain(value) for name, value in kwargs.items()}} if kwargs else {})
            | (protocol or {}),
            default_env_steps=default_env_steps,
            # An option makes it another task, for which nobody has set a threshold.
            solved_score=None if options or time_limit_steps else getattr(registered, "reward_threshold", None),
            frame_stack=frame_stack,
            reward_scale=reward_scale,
            restorable=module.startswith((*_RESTORABLE, *_REPLAYABLE)),
        )
        self._replays = module.startswith(_REPLAYABLE)
        self._starts: list[dict[str, Any]] = []
        self._played: list[list[Any]] = [[] for _ in range(num_envs)]
        self._no_action = np.full(num_envs, -1, np.int64)
        self._steps = [env.step for env in self._envs]
        self._seeds: list[int] = []
        self._restores = self._env_steps = 0
        self._score = [0.0] * num_envs
        self._length = [0] * num_envs
        self._actions: list[Any] | None = None
        self._observation = np.zeros(self._shape, self._dtype)

    @property
    def first(self) -> Any:
        """The first lane's environment, without wrappers."""
        return self._raw[0]

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        self._seeds = lane_seeds(seed, self.num_envs)
        self._restores = self._env_steps = 0
        return self._start(self._seeds)

    def _start(self, seeds: list[int]) -> np.ndarray:
        observation = np.empty(self._shape, self._dtype)
        for lane, env in enumerate(self._envs):
            observation[lane] = self._convert(env.reset(seed=seeds[lane])[0])
        self._starts = [{"seed": seed} for seed in seeds]
        self._played = [[] for _ in seeds]
        self._score = [0.0] * self.num_envs
        self._length = [0] * self.num_envs
        self._actions = None
        self._observation = observation
        return observation.copy()

    def send(self, actions: np.ndarray) -> None:
        if self._actions is not None or not self._seeds:
            raise RuntimeError("recv() before the next send()" if self._seeds else "reset() before the first send()")
        if self._num_actions:
            chosen = check_actions(actions, self.num_envs, self._num_actions, self.spec.name)
            self._actions = [action + self._first_action for action in chosen]
        else:
            self._actions = list(check_box_actions(actions, self.num_envs, self.spec.action_space, self.spec.name))

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
            seen, reward, terminated, truncated, _ = self._steps[lane](action)
            observation[lane] = convert(seen)
            reward_array[lane] = reward
            scores[lane] += float(reward)
            lengths[lane] += 1
            if self._replays:
                self._played[lane].append(action)
            if terminated or truncated:
                terminations[lane] = terminated
                truncations[lane] = not terminated
                ended.append(lane)
        score, length = np.array(scores), np.array(lengths, np.int64)
        if ended:
            final_observation = observation.copy()
            for lane in ended:
                if self._replays:
                    self._starts[lane] = {"random": self._raw[lane].np_random.bit_generator.state}
                    self._played[lane] = []
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
        """Of environments that publish their probabilities as toy text does, with `P[state][action]`, a list of
        (probability, next state, reward, terminated), and `initial_state_distrib`. None elsewhere, and where they do
        not tell the whole story: Taxi's fickle passenger, and wrappers that may change something. Raises EnvError where
        they are no probabilities."""
        from gymnasium.spaces import Discrete
        from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

        raw: Any = self._raw[0]
        outcomes, initial = getattr(raw, "P", None), getattr(raw, "initial_state_distrib", None)
        spaces = raw.observation_space, raw.action_space
        if outcomes is None or initial is None or any(type(one) is not Discrete or one.start for one in spaces):
            return None
        own = OrderEnforcing, PassiveEnvChecker, TimeLimit  # what Gymnasium itself wraps around an environment
        changed = any(type(wrapper) not in own for wrapper in _wrappers(self._envs[0]))
        if changed or getattr(raw, "fickle_passenger", False):
            return None
        num_states, num_actions = (int(space.n) for space in spaces)
        if len(outcomes) != num_states or len(initial) != num_states:
            return None
        widest = max(len(outcomes[state][action]) for state in range(num_states) for action in range(num_actions))
        shape = (num_states, num_actions, widest)
        next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        probability, reward = np.zeros(shape), np.zeros(shape)
        for state in range(num_states):
            for action in range(num_actions):
                for k, row in enumerate(outcomes[state][action]):
                    at = state, action, k
                    probability[at], next_state[at], reward[at], terminated[at] = row
        initial = np.array(initial, np.float64)
        sums = probability.sum(axis=2)
        if not np.isfinite(reward).all() or (probability < 0.0).any() or not np.allclose(sums, 1.0):
            raise EnvError(f"{self.spec.name}: rewards in `P` must be finite, probabilities of an action add up to 1")
        return TransitionTable(next_state, probability, reward, terminated, initial, self._time_limit)

    def render(self, lane: int = 0) -> np.ndarray:
        if not self._renders:
            raise EnvError(f"{self.spec.name} was made without pictures; make it with render=True")
        try:
            return np.asarray(self._envs[lane].render())
        except Exception as error:
            if not type(self._raw[lane]).__module__.startswith("gymnasium.envs.mujoco."):
                raise
            hint = "; try again with MUJOCO_GL=egl (or osmesa) in the environment"
            raise EnvError(f"MuJoCo cannot draw {self.spec.name} here: {one_line(error)}{hint}") from error

    def state_dict(self) -> dict[str, Any]:
        """Restorable: every plain attribute of each environment and its wrappers, and its random generator; or how each
        game began and its actions since. Otherwise seeds and counters."""
        state: dict[str, Any] = {"seeds": list(self._seeds), "steps": self._env_steps, "restores": self._restores}
        if self.spec.restorable:
            if self._replays:
                dtype = np.int64 if self._num_actions else np.float32
                games = zip(self._starts, self._played, strict=True)
                state["lanes"] = [{"start": start, "actions": np.array(played, dtype)} for start, played in games]
            else:
                state["lanes"] = [save_env(env) for env in self._envs]
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
        for lane, (env, saved) in enumerate(zip(self._envs, state["lanes"], strict=True)):
            if self._replays:
                self._replay(lane, saved["start"], list(np.asarray(saved["actions"])))
            else:
                env.reset(seed=0)
                load_env(env, saved)
        self._score, self._length = [float(score) for score in state["score"]], [int(one) for one in state["length"]]
        self._actions = None
        self._observation = np.array(state["observation"], self._dtype)
        return self._observation.copy()

    def _replay(self, lane: int, start: dict[str, Any], actions: list[Any]) -> None:
        """Play a game again from how it began, up to where it was."""
        env = self._envs[lane]
        if "seed" in start:
            env.reset(seed=int(start["seed"]))
        else:
            env.reset(seed=0)
            self._raw[lane].np_random.bit_generator.state = start["random"]
            env.reset()
        if self._num_actions:
            actions = [int(action) for action in actions]
        for action in actions:
            env.step(action)
        if not self._starts:
            self._starts = [{} for _ in self._envs]
        self._starts[lane], self._played[lane] = start, actions

    def close(self) -> None:
        for env in self._envs:
            env.close()


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if callable(value):  # whose repr holds an address, another one in every process
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


def _wrappers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """What is wrapped around an environment, from the outside in."""
    while env is not env.unwrapped:
        yield env
        env = env.env  # type: ignore[attr-defined]


def _limit_of(env: gymnasium.Env) -> int | None:
    """The time limit that is wrapped around an environment, in steps."""
    limits = (vars(wrapper).get("_max_episode_steps") for wrapper in _wrappers(env))
    return next((int(limit) for limit in limits if limit), None)
