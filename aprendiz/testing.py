"""Conformance checks that anyone who adds something to aprendiz can run on it, inside a test of their own."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    written to later; restart in the same step with the true final observation; `terminated` and `truncated` apart; that
    the score is the sum of the rewards of whole games; that one seed gives one game, each lane by its own seed alone;
    forced actions; and that saving and loading continues the games exactly where the environment says that it can.
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
    _require(env.num_envs == num_envs, f"num_envs is {env.num_envs}, asked for {num_envs}")
    _require(
        spec.observation_kind in _OBSERVATION_DTYPES,
        f"observation_kind is {spec.observation_kind!r}; allowed: {', '.join(_OBSERVATION_DTYPES)}",
    )
    _require(type(spec.action_space).__name__ == "Discrete", f"action space {spec.action_space} is not Discrete")
    _require(int(spec.action_space.start) == 0, f"actions start at {spec.action_space.start}, not at 0")
    _require(spec.default_env_steps > 0, f"default_env_steps is {spec.default_env_steps}")
    axes = {"image": 3, "vector": 1, "discrete": 0}[spec.observation_kind]
    shape = tuple(spec.observation_space.shape or ())
    _require(len(shape) == axes, f"{spec.observation_kind} observations have {axes} axes, the space has shape {shape}")
    if axes == 3:
        _require(shape[0] % spec.frame_stack == 0, f"{shape[0]} channels are no multiple of {spec.frame_stack} frames")
    _require(_is_json(spec.protocol), f"protocol is not JSON-able: {spec.protocol}")


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
        _require(bool((env.forced_action == -1).all()), "forced_action is not -1 after a reset")
    for _ in range(steps):
        forced = env.forced_action
        random_actions = generator.integers(0, env.spec.action_space.n, env.num_envs)
        actions = np.where(forced >= 0, forced, random_actions)
        copies.append(observation.copy())
        env.send(actions)
        step = env.recv()
        record.append((observation, step))
        if check:
            score += step.reward
            length += 1
            _check_step(env, step, score, length)
            score[step.ended] = 0
            length[step.ended] = 0
        observation = step.observation
    if check:
        for (kept, _), copy in zip(record, copies, strict=True):
            _require(np.array_equal(kept, copy), "an observation that was handed out was written to later")
    return record


def _check_observation(env: Any, observation: np.ndarray, what: str) -> None:
    spec = env.spec
    shape = (env.num_envs, *(spec.observation_space.shape or ()))
    dtype = _OBSERVATION_DTYPES[spec.observation_kind]
    _require(observation.shape == shape, f"{what}: observation has shape {observation.shape}, not {shape}")
    _require(observation.dtype == dtype, f"{what}: observation has dtype {observation.dtype}, not {np.dtype(dtype)}")
    for one in observation:
        _require(spec.observation_space.contains(one), f"{what}: an observation lies outside {spec.observation_space}")


def _check_step(env: Any, step: Any, score: np.ndarray, length: np.ndarray) -> None:
    _check_observation(env, step.observation, "step")
    _check_observation(env, step.final_observation, "final_observation")
    for name, dtype in _DTYPES.items():
        value = getattr(step, name)
        _require(value.shape == (env.num_envs,), f"{name} has shape {value.shape}, not {(env.num_envs,)}")
        _require(value.dtype == dtype, f"{name} has dtype {value.dtype}, not {np.dtype(dtype)}")
    ended = step.ended
    _require(not (step.terminated & step.truncated).any(), "a game is both terminated and truncated; terminated wins")
    _require(not (step.life_lost & ended).any(), "life_lost is set where the game ended")
    going = step.final_observation[~ended], step.observation[~ended]
    _require(np.array_equal(*going), "final_observation differs from observation where no game ended")
    _require(
        bool(((step.forced_action >= -1) & (step.forced_action < env.spec.action_space.n)).all()),
        f"forced_action {step.forced_action} is neither -1 nor an action",
    )
    _require(not (step.forced_action[ended] >= 0).any(), "an action is forced at the start of a game")
    _require(np.array_equal(env.forced_action, step.forced_action), "env.forced_action is not that of the last step")
    _require(
        np.allclose(step.score[ended], score[ended], rtol=1e-4, atol=1e-4),
        f"score {step.score[ended]} is not the sum of the rewards of the whole game, {score[ended]}",
    )
    _require(
        np.array_equal(step.length[ended], length[ended]),
        f"length {step.length[ended]} is not the number of steps of the whole game, {length[ended]}",
    )


def _check_lane_seeds(make: Callable[[int], Any], env: Any, steps: int, seed: int) -> None:
    """With a sequence of seeds, a lane's game is a function of its seed, whichever lane it is played in."""
    seeds = [seed + 100 + lane for lane in range(env.num_envs)]
    alone = make(1)
    wide, single = env.reset(seeds), alone.reset(seeds[-1:])
    actions = np.random.default_rng(seed).integers(0, env.spec.action_space.n, steps)
    for action in actions:
        _require(np.array_equal(wide[-1], single[0]), "a lane's game depends on more than its own seed")
        wide = env.step(np.full(env.num_envs, action)).observation
        single = alone.step(np.full(1, action)).observation
    alone.close()


def _check_state(make: Callable[[int], Any], env: Any, steps: int, seed: int) -> None:
    _play(env, env.reset(seed), steps, seed)
    state = env.state_dict()
    _require(_is_json(state), "state_dict holds something other than JSON-able values and numpy arrays")
    if env.spec.restorable:
        fresh = make(env.num_envs)
        observation = fresh.load_state_dict(state)
        original = env.step(np.zeros(env.num_envs, np.int64))
        restored = fresh.step(np.zeros(env.num_envs, np.int64))
        _require(observation.shape == original.observation.shape, "load_state_dict does not return the observations")
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
        _require(np.array_equal(seen, other_seen), f"{message}: observation of step {number}")
        for name in (
            "observation",
            "final_observation",
            "reward",
            "terminated",
            "truncated",
            "life_lost",
            "forced_action",
        ):
            _require(np.array_equal(getattr(step, name), getattr(other, name)), f"{message}: {name} of step {number}")
        for name in ("score", "length"):
            ended = step.ended
            same = np.array_equal(getattr(step, name)[ended], getattr(other, name)[ended])
            _require(same, f"{message}: {name} of step {number}")


def check_agent(
    agent_class: Any,
    make_env: Callable[[int], Any],
    *,
    config: Any = None,
    budget_env_steps: int = 1_000,
    env_steps: int = 300,
    seed: int = 7,
) -> None:
    """Train an agent for a moment and raise AssertionError, saying what is wrong, where it breaks the contract.

    `agent_class` is a subclass of `agents.core.Agent`, `make_env(num_envs)` returns a new `envs.Env` that it can learn
    in, and `config` is what it is checked with (the preset `default` unless given; give a small replay memory and
    batch where that one is large). The agent has to make its first update within `2 * env_steps` environment steps.

    Checked: presets, their JSON, and that `resolve` moves nothing twice; the constructor; shapes, dtypes and range of
    `act` and `inspect`, and that exploration is what was asked for; the source's units and safe points; finite scalar
    metrics; that one seed gives one training and another seed another; that a checkpoint loaded into a fresh agent
    goes on exactly (with new games where the environment cannot restore its own); and that the global random states of
    Python, NumPy and torch are left alone.
    """
    with _global_random_state_left_alone():
        config = _check_configs(agent_class, make_env, config, budget_env_steps)
        make = _Maker(agent_class, make_env, config)
        first = make(seed)
        _check_constructor(agent_class, first, config)
        _check_acting(make, first.agent, budget_env_steps, seed)
        untrained = first.agent.state_dict()
        _require(not _difference(untrained, make(seed).agent.state_dict()), "one seed gives two different new agents")
        untrained = _through_a_checkpoint(untrained)
        record = first.train(env_steps)
        with tempfile.TemporaryDirectory() as folder:
            saved = first.save(Path(folder))
            record += first.train(2 * env_steps)
            _check_training(first, record, untrained)
            _check_same_training(make, first, record, env_steps, seed)
            _check_resuming(make, first, saved, Path(folder), record, env_steps, seed)
        first.env.close()
        _check_acting(make, first.agent, budget_env_steps, seed)


class _Training:
    """An agent, its source and what came of them."""

    def __init__(self, agent_class: Any, env: Any, config: Any, seed: int) -> None:
        spec = env.spec
        self.env, self.units, self.updates = env, 0, 0
        self.agent = agent_class(config, spec.observation_space, spec.action_space, seed=seed)
        self.source = self.agent.make_source(env, seed=seed)

    def train(self, until: int) -> list[tuple[int, bool, dict[str, float]]]:
        """Goes on until so many units and a safe point; returns units, safe point and metrics of each piece of work."""
        record = []
        idle = 0
        while True:
            work = self.source.next(until - self.units)
            units, safe_point = work.units, work.safe_point
            _require(type(units) is int and units >= 0, f"a source counted {units!r} units; give an int, 0 or more")
            _require(type(safe_point) is bool, f"safe_point is {safe_point!r}, not a bool")
            metrics: dict[str, float] = {}
            if work.batch is not None:
                outcome = self.agent.update(work.batch)
                metrics = _scalars(outcome.metrics, "update")
                self.source.feedback(work.batch, outcome)
                self.updates += 1
            record.append((units, safe_point, metrics))
            self.units += units
            _require(
                self.units < until + self.env.num_envs,
                f"told that {until} units are left in all, the source went on to {self.units}",
            )
            idle = 0 if units else idle + 1
            _require(idle < 100_000, "a source that hands out work for ever, and never counts a unit")
            if safe_point and self.units >= until:
                return record

    def save(self, folder: Path) -> dict[str, Any]:
        manifest = self.source.save_bulk(folder / "bulk")
        source, learner = self.source.state_dict(), self.agent.state_dict()
        state = _through_a_checkpoint({"learner": learner, "source": source, "bulk": manifest, "units": self.units})
        self.source.prune_bulk(folder / "bulk")
        return state

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        self.agent.load_state_dict(state["learner"])
        self.source.load_bulk(folder / "bulk", state["bulk"])
        self.source.load_state_dict(state["source"])
        self.units = state["units"]

    def state(self) -> dict[str, Any]:
        return {"learner": self.agent.state_dict(), "source": self.source.state_dict()}


class _Maker:
    """Makes trainings of one kind."""

    def __init__(self, agent_class: Any, make_env: Callable[[int], Any], config: Any) -> None:
        self.agent_class, self.make_env, self.config = agent_class, make_env, config

    def __call__(self, seed: int) -> _Training:
        env = self.make_env(getattr(self.config, "num_envs", 1))
        return _Training(self.agent_class, env, self.config, seed)


def _check_configs(agent_class: Any, make_env: Callable[[int], Any], config: Any, budget_env_steps: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""
    from aprendiz.config import from_json, to_json

    kind = agent_class.Config
    parameters = getattr(kind, "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    _require(frozen, f"Config {kind.__name__} is not a frozen dataclass")
    env = make_env(1)
    presets = agent_class.presets(env.spec)
    env.close()
    _require(list(presets)[:1] == ["default"], f"the first preset is not called default: {list(presets)}")
    configs = {f"preset {name}": preset for name, preset in presets.items()}
    configs |= {} if config is None else {"config": config}
    for name, one in configs.items():
        _require(isinstance(one, kind), f"{name} is a {type(one).__name__}, not a {kind.__name__}")
        resolved = agent_class.resolve(one, budget_env_steps)
        _require(isinstance(resolved, kind), f"resolve made {name} a {type(resolved).__name__}, not a {kind.__name__}")
        again = agent_class.resolve(resolved, 10 * budget_env_steps)
        _require(again == resolved, f"{name}: resolving a resolved config with another budget moves it")
        for variant in (one, resolved):
            try:
                back = from_json(kind, json.loads(json.dumps(to_json(variant))))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name} is not JSON-able: {error}") from error
            _require(back == variant, f"{name} comes back from JSON as {back}, not as {variant}")
    return agent_class.resolve(configs.get("config", presets["default"]), budget_env_steps)


def _check_constructor(agent_class: Any, training: _Training, config: Any) -> None:
    spec = training.env.spec
    options = {"seed": 1, "device": "cpu", "precision": "fp32"}
    try:
        inspect.signature(agent_class).bind(config, spec.observation_space, spec.action_space, **options)
    except TypeError as error:
        takes = "(config, observation_space, action_space, *, seed, device, precision)"
        raise AssertionError(f"the constructor does not take {takes}: {error}") from error
    _require(training.agent.config == config, "agent.config is not the config that it was made with")
    precisions = agent_class.precisions
    _require(
        isinstance(precisions, tuple) and set(precisions) <= {"fp32", "bf16"} and len(precisions) > 0,
        f"precisions are {precisions!r}; give a tuple of fp32 and bf16",
    )
    import torch

    for name, module in training.agent.modules().items():
        _require(isinstance(module, torch.nn.Module), f"modules()[{name!r}] is a {type(module).__name__}")


def _check_acting(make: _Maker, agent: Any, budget_env_steps: int, seed: int) -> None:
    """`act`, `inspect` and `exploration`, in games of their own."""
    env = make.make_env(3)
    actions, observations = int(env.spec.action_space.n), env.reset(seed)
    env.close()
    for at in (0, budget_env_steps // 2, 10 * budget_env_steps):
        explore = agent.exploration(at)
        _require(isinstance(explore, float) and 0.0 <= explore <= 1.0, f"exploration({at}) is {explore!r}, not in 0..1")
    before = observations.copy()

    def act(explore: float, number: int) -> np.ndarray:
        chosen = agent.act(observations, explore, np.random.default_rng([seed, number]))
        right = isinstance(chosen, np.ndarray) and chosen.shape == (len(observations),) and chosen.dtype == np.int64
        _require(right, f"act gave {_form(chosen)} for {len(observations)} observations; it must be int64 [N]")
        _require(chosen.min() >= 0 and chosen.max() < actions, f"act chose {chosen}; actions are 0 to {actions - 1}")
        return chosen

    greedy = act(0.0, 0)
    _require(all(np.array_equal(act(0.0, n), greedy) for n in range(1, 5)), "with explore 0 the generator decides")
    draws = np.stack([act(1.0, number) for number in range(20 * actions)])  # [draws, N]
    missing = sorted(set(range(actions)) - set(draws.flatten().tolist()))
    _require(not missing, f"with explore 1 not every action is taken: never {missing}")
    same = (draws == draws[:, :1]).all(axis=1).mean()
    _require(actions == 1 or same < 0.9, "with explore 1 all environments take one and the same random action")
    _require(np.array_equal(draws[3], act(1.0, 3)), "the same generator gives other actions")
    values = agent.inspect(observations).get("q_values")
    shape = (len(observations), actions)
    right = isinstance(values, np.ndarray) and values.shape == shape and values.dtype == np.float32
    _require(right, f"inspect gave q_values {_form(values)}; they must be float32 {shape}")
    assert values is not None
    _require(bool(np.isfinite(values).all()), "inspect gave q_values that are not finite")
    _require(np.array_equal(observations, before), "act or inspect wrote to the observations")


def _check_training(training: _Training, record: list[tuple[int, bool, dict[str, float]]], untrained: Any) -> None:
    _require(training.updates > 0, f"there was no update within {training.units} environment steps")
    learned = _difference(untrained, training.agent.state_dict())
    _require(bool(learned), f"{training.updates} updates left the agent's state as it was")
    named = {tuple(sorted(metrics)) for _, _, metrics in record if metrics}
    _require(len(named) == 1, f"updates give metrics of changing names: {sorted(named)}")
    for name in _scalars(training.source.metrics(), "the source"):
        _require("/" in name, f"the source's metric {name!r} belongs to no family, such as rollout/{name}")


def _check_same_training(make: _Maker, first: _Training, record: list[Any], env_steps: int, seed: int) -> None:
    second, other = make(seed), make(seed + 1)
    repeated = second.train(env_steps) + second.train(2 * env_steps)
    where = _difference(record, repeated) or _difference(first.state(), second.state())
    _require(not where, f"one seed gives two different trainings: {where}")
    other.train(env_steps)
    other.train(2 * env_steps)
    _require(bool(_difference(first.state(), other.state())), "two seeds give one and the same training")
    for training in (second, other):
        training.env.close()


def _check_resuming(
    make: _Maker, whole: _Training, saved: dict[str, Any], folder: Path, record: list[Any], env_steps: int, seed: int
) -> None:
    """A checkpoint goes on in a fresh agent, of another seed so that nothing comes from that."""
    resumed, twin = make(seed + 2), make(seed + 3)
    for training in (resumed, twin):
        training.load(saved, folder)
        where = _difference(saved["learner"], _through_a_checkpoint(training.agent.state_dict()))
        _require(not where, f"the learner's state is another after loading it: {where}")
    continued = resumed.train(2 * env_steps)
    if whole.env.spec.restorable:
        where = _difference(record[-len(continued) :], continued) or _difference(whole.state(), resumed.state())
        _require(not where, f"a resumed training is not the one that was not stopped: {where}")
    where = _difference(continued, twin.train(2 * env_steps)) or _difference(resumed.state(), twin.state())
    _require(not where, f"one checkpoint goes on in two ways: {where}")
    for training in (resumed, twin):
        training.env.close()


def _through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    from aprendiz import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        try:
            checkpoint.save(Path(folder) / "state", state)
        except TypeError as error:
            raise AssertionError(f"a state_dict cannot be saved: {error}") from error
        return checkpoint.load(Path(folder) / "state")


def _scalars(metrics: Any, whose: str) -> dict[str, float]:
    _require(isinstance(metrics, Mapping), f"metrics of {whose} are a {type(metrics).__name__}, not a mapping")
    values = {}
    for name, value in metrics.items():
        _require(isinstance(name, str), f"{whose} gave a metric named {name!r}, not by text")
        _require(not getattr(value, "shape", ()), f"metric {name} of {whose} is no scalar: {_form(value)}")
        try:
            values[name] = float(value)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"metric {name} of {whose} is no number: {value!r}") from error
        _require(math.isfinite(values[name]), f"metric {name} of {whose} is {values[name]}")
    return values


def _form(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"{type(value).__name__} {value.dtype} {list(value.shape)}"
    return type(value).__name__


def _difference(left: Any, right: Any, place: str = "") -> str:
    """Where two nested values first differ; empty where they are equal, number for number."""
    import torch

    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        left, right = left.detach().cpu().numpy(), right.detach().cpu().numpy()
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        same = left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
        return "" if same else place or "everything"
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return f"{place} has {sorted(map(str, left.keys() ^ right.keys()))} on one side only"
        found = (_difference(left[key], right[key], f"{place}/{key}") for key in left)
        return next(filter(None, found), "")
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return f"{place} has {len(left)} and {len(right)} entries"
        pairs = enumerate(zip(left, right, strict=True))
        found = (_difference(one, other, f"{place}/{number}") for number, (one, other) in pairs)
        return next(filter(None, found), "")
    return "" if left == right else f"{place}: {left!r} and {right!r}"


@contextlib.contextmanager
def _global_random_state_left_alone() -> Iterator[None]:
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    for name, then, now in (
        ("Python's random module", before[0], random.getstate()),
        ("NumPy", before[1], np.random.get_state()),
        ("torch", before[2], torch.get_rng_state()),
    ):
        same = not _difference(then, now)
        _require(same, f"the global random state of {name} was touched; use generators of its own")


def _is_json(value: Any) -> bool:
    """JSON-able but for numpy arrays; keys are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_json(one) for one in value)
    return value is None or type(value) in (bool, int, float, str, np.ndarray)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
