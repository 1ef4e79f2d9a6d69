"""Whether an environment keeps the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aprendiz.testing.common import is_json, require

_DTYPES = {
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "life_lost": np.bool_,
    "forced_action": np.int64,
    "score": np.float64,
    "length": np.int64,
}
_OBSERVATION_DTYPES = {"image": np.uint8, "vector": np.float32, "discrete": np.int64}


def check_env(make: Callable[[int], Any], *, num_envs: int = 3, steps: int = 300, seed: int = 7) -> None:
    """Play random games and raise AssertionError, saying what is wrong, where an environment breaks the contract.

    `make(num_envs)` returns a new `envs.Env`. Checked: spaces, dtypes and shapes; that arrays handed out are not
    written to later; that stacked frames, newest last, move on by one a step and begin with zeros; restart in the same
    step with the true final observation; `terminated` and `truncated` apart; that the score is the sum of the rewards
    of whole games; that one seed gives one game, each lane by its own seed alone; forced actions; and that saving and
    loading continues the games exactly where the environment says that it can.
    """
    env = make(num_envs)
    _check_spec(env, num_envs)
    record = _play(env, env.reset(seed), steps, seed, check=True)
    again = make(num_envs)
    _same_games(record, _play(again, again.reset(seed), steps, seed), "two environments with one seed play differently")
    _same_games(record, _play(env, env.reset(seed), steps, seed), "reset(seed) does not start the same games again")
    _check_lane_seeds(make, env, min(steps, 100), seed)
    _check_state(make, env, steps, seed)
    for one in (env, again):
        one.close()
        one.close()


def _check_spec(env: Any, num_envs: int) -> None:
    spec = env.spec
    require(env.num_envs == num_envs, f"num_envs is {env.num_envs}, asked for {num_envs}")
    require(
        spec.observation_kind in _OBSERVATION_DTYPES,
        f"observation_kind is {spec.observation_kind!r}; allowed: {', '.join(_OBSERVATION_DTYPES)}",
    )
    kind = type(spec.action_space).__name__
    require(kind in ("Discrete", "Box"), f"action space {spec.action_space} is neither Discrete nor Box")
    if kind == "Discrete":
        require(int(spec.action_space.start) == 0, f"actions start at {spec.action_space.start}, not at 0")
    else:
        require(spec.action_space.dtype == np.float32, f"actions are {spec.action_space.dtype}, not float32")
        bounded = np.isfinite(spec.action_space.low).all() and np.isfinite(spec.action_space.high).all()
        require(bool(bounded), f"the bounds of {spec.action_space} are not finite")
    require(spec.default_env_steps > 0, f"default_env_steps is {spec.default_env_steps}")
    axes = {"image": 3, "vector": 1, "discrete": 0}[spec.observation_kind]
    shape = tuple(spec.observation_space.shape or ())
    require(len(shape) == axes, f"{spec.observation_kind} observations have {axes} axes, the space has shape {shape}")
    if spec.frame_stack != 1:
        stack = f"frame_stack is {spec.frame_stack}"
        require(
            spec.frame_stack > 1 and axes == 3, f"{stack}: it is 1, or the number of frames of an image observation"
        )
        require(shape[0] == spec.frame_stack, f"{stack}: {shape[0]} channels are not so many grey frames")
    require(is_json(spec.protocol), f"protocol is not JSON-able: {spec.protocol}")


def _random_actions(env: Any, generator: np.random.Generator, count: int) -> np.ndarray:
    """Uniform over the action space: int64 [count], or float32 [count, ...]."""
    space = env.spec.action_space
    if hasattr(space, "n"):
        return generator.integers(0, space.n, count)
    return generator.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


def _first_actions(env: Any) -> np.ndarray:
    """Action 0, or the lower bounds, in every lane."""
    space = env.spec.action_space
    if hasattr(space, "n"):
        return np.zeros(env.num_envs, np.int64)
    return np.repeat(space.low[None], env.num_envs, axis=0)


def _play(
    env: Any, observation: np.ndarray, steps: int, seed: int, check: bool = False
) -> list[tuple[np.ndarray, Any]]:
    """Observations acted on and steps received, of random play."""
    generator = np.random.default_rng(seed)
    record: list[tuple[np.ndarray, Any]] = []
    copies: list[np.ndarray] = []
    score, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    if check:
        _check_observation(env, observation, "reset")
        require(bool((env.forced_action == -1).all()), "forced_action is not -1 after a reset")
        _check_padding(env, observation)
    for _ in range(steps):
        forced = env.forced_action
        actions = _random_actions(env, generator, env.num_envs)
        if actions.ndim == 1 and actions.dtype == np.int64:
            actions = np.where(forced >= 0, forced, actions)
        copies.append(observation.copy())
        env.send(actions)
        step = env.recv()
        record.append((observation, step))
        if check:
            score += step.reward
            length += 1
            _check_step(env, step, score, length)
            _check_stacks(env, copies[-1], step)
            score[step.ended] = 0
            length[step.ended] = 0
        observation = step.observation
    if check:
        for (kept, _), copy in zip(record, copies, strict=True):
            require(np.array_equal(kept, copy), "an observation that was handed out was written to later")
    return record


def _check_observation(env: Any, observation: np.ndarray, what: str) -> None:
    spec = env.spec
    shape = (env.num_envs, *(spec.observation_space.shape or ()))
    dtype = _OBSERVATION_DTYPES[spec.observation_kind]
    require(observation.shape == shape, f"{what}: observation has shape {observation.shape}, not {shape}")
    require(observation.dtype == dtype, f"{what}: observation has dtype {observation.dtype}, not {np.dtype(dtype)}")
    for one in observation:
        require(spec.observation_space.contains(one), f"{what}: an observation lies outside {spec.observation_space}")


def _check_step(env: Any, step: Any, score: np.ndarray, length: np.ndarray) -> None:
    _check_observation(env, step.observation, "step")
    _check_observation(env, step.final_observation, "final_observation")
    for name, dtype in _DTYPES.items():
        value = getattr(step, name)
        require(value.shape == (env.num_envs,), f"{name} has shape {value.shape}, not {(env.num_envs,)}")
        require(value.dtype == dtype, f"{name} has dtype {value.dtype}, not {np.dtype(dtype)}")
    ended = step.ended
    require(not (step.terminated & step.truncated).any(), "a game is both terminated and truncated; terminated wins")
    require(not (step.life_lost & ended).any(), "life_lost is set where the game ended")
    going = step.final_observation[~ended], step.observation[~ended]
    require(np.array_equal(*going), "final_observation differs from observation where no game ended")
    actions = getattr(env.spec.action_space, "n", 0)
    require(
        bool(((step.forced_action >= -1) & (step.forced_action < max(actions, 1))).all()),
        f"forced_action {step.forced_action} is neither -1 nor an action",
    )
    require(not (step.forced_action[ended] >= 0).any(), "an action is forced at the start of a game")
    require(np.array_equal(env.forced_action, step.forced_action), "env.forced_action is not that of the last step")
    require(
        np.allclose(step.score[ended], score[ended], rtol=1e-4, atol=1e-4),
        f"score {step.score[ended]} is not the sum of the rewards of the whole game, {score[ended]}",
    )
    require(
        np.array_equal(step.length[ended], length[ended]),
        f"length {step.length[ended]} is not the number of steps of the whole game, {length[ended]}",
    )


def _check_padding(env: Any, observation: np.ndarray) -> None:
    """A replay memory keeps each frame once, and puts stacks together again: at the start of a game with zeros."""
    if env.spec.frame_stack > 1:
        padded = not observation[:, :-1].any()
        require(padded, "the frames before the first one of a game are not zero")


def _check_stacks(env: Any, before: np.ndarray, step: Any) -> None:
    """In every step the oldest frame goes and a new one comes behind the others."""
    if env.spec.frame_stack > 1:
        shifted = np.array_equal(step.final_observation[:, :-1], before[:, 1:])
        require(shifted, "a stack is not the one before without its oldest frame and with a new one at its end")
        _check_padding(env, step.observation[step.ended])


def _check_lane_seeds(make: Callable[[int], Any], env: Any, steps: int, seed: int) -> None:
    """With a sequence of seeds, a lane's game is a function of its seed, whichever lane it is played in."""
    seeds = [seed + 100 + lane for lane in range(env.num_envs)]
    alone = make(1)
    wide, single = env.reset(seeds), alone.reset(seeds[-1:])
    for action in _random_actions(env, np.random.default_rng(seed), steps):
        require(np.array_equal(wide[-1], single[0]), "a lane's game depends on more than its own seed")
        wide = env.step(np.repeat(action[None], env.num_envs, axis=0)).observation
        single = alone.step(action[None]).observation
    alone.close()


def _check_state(make: Callable[[int], Any], env: Any, steps: int, seed: int) -> None:
    _play(env, env.reset(seed), steps, seed)
    state = env.state_dict()
    require(is_json(state), "state_dict holds something other than JSON-able values and numpy arrays")
    if env.spec.restorable:
        fresh = make(env.num_envs)
        observation = fresh.load_state_dict(state)
        original = env.step(_first_actions(env))
        restored = fresh.step(_first_actions(env))
        require(observation.shape == original.observation.shape, "load_state_dict does not return the observations")
        message = "a restored environment plays differently"
        _same_games([(observation, original)], [(observation, restored)], message)
        rest = [_play(one, last.observation, steps, seed + 1) for one, last in ((env, original), (fresh, restored))]
        _same_games(rest[0], rest[1], message)
        fresh.close()
    else:
        first, second = make(env.num_envs), make(env.num_envs)
        records = [_play(one, one.load_state_dict(state), min(steps, 50), seed) for one in (first, second)]
        _same_games(records[0], records[1], "loading one state twice starts different games")
        first.close()
        second.close()


def _same_games(left: list[tuple[np.ndarray, Any]], right: list[tuple[np.ndarray, Any]], message: str) -> None:
    for number, ((seen, step), (other_seen, other)) in enumerate(zip(left, right, strict=True)):
        require(np.array_equal(seen, other_seen), f"{message}: observation of step {number}")
        for name in (
            "observation",
            "final_observation",
            "reward",
            "terminated",
            "truncated",
            "life_lost",
            "forced_action",
        ):
            require(np.array_equal(getattr(step, name), getattr(other, name)), f"{message}: {name} of step {number}")
        for name in ("score", "length"):
            ended = step.ended
            same = np.array_equal(getattr(step, name)[ended], getattr(other, name)[ended])
            require(same, f"{message}: {name} of step {number}")
