"""Whether an agent keeps the contract."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aprendiz.testing.common import (
    Training,
    difference,
    form,
    global_random_state_left_alone,
    require,
    through_a_checkpoint,
)
from aprendiz.testing.training import (
    PRECISIONS,
    check_choices,
    check_configs,
    check_constructor,
    check_metric_names,
    check_modules,
    check_source_metrics,
)


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
    with global_random_state_left_alone():
        config = _check_configs(agent_class, make_env, config, budget_env_steps)
        make = _Maker(agent_class, make_env, config)
        first = make(seed)
        _check_constructor(agent_class, first, config)
        _check_acting(make, first.agent, budget_env_steps, seed)
        untrained = first.agent.state_dict()
        require(not difference(untrained, make(seed).agent.state_dict()), "one seed gives two different new agents")
        untrained = through_a_checkpoint(untrained)
        record = first.train(env_steps)
        with tempfile.TemporaryDirectory() as folder:
            saved = first.save(Path(folder))
            record += first.train(2 * env_steps)
            _check_training(first, record, untrained)
            _check_same_training(make, first, record, env_steps, seed)
            _check_resuming(make, first, saved, Path(folder), record, env_steps, seed)
        first.env.close()
        _check_acting(make, first.agent, budget_env_steps, seed)


class _Training(Training):
    """An agent in its environment."""

    def __init__(self, agent_class: Any, env: Any, config: Any, seed: int) -> None:
        spec = env.spec
        self.env = env
        self.agent = agent_class(config, spec.observation_space, spec.action_space, seed=seed)
        super().__init__(self.agent, self.agent.make_source(env, seed=seed), env.num_envs)


class _Maker:
    """Makes trainings of one kind."""

    def __init__(self, agent_class: Any, make_env: Callable[[int], Any], config: Any) -> None:
        self.agent_class, self.make_env, self.config = agent_class, make_env, config

    def __call__(self, seed: int) -> _Training:
        env = self.make_env(getattr(self.config, "num_envs", 1))
        return _Training(self.agent_class, env, self.config, seed)


def _check_configs(agent_class: Any, make_env: Callable[[int], Any], config: Any, budget_env_steps: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""

    def presets() -> Any:
        env = make_env(1)
        found = agent_class.presets(env.spec)
        env.close()
        return found

    return check_configs(agent_class.Config, presets, config, agent_class.resolve, budget_env_steps)


def _check_constructor(agent_class: Any, training: _Training, config: Any) -> None:
    spec = training.env.spec
    takes = "config, observation_space, action_space"
    check_constructor(agent_class, takes, config, spec.observation_space, spec.action_space)
    require(training.agent.config == config, "agent.config is not the config that it was made with")
    check_choices(agent_class, "precisions", PRECISIONS)
    check_modules(training.agent)


def _check_acting(make: _Maker, agent: Any, budget_env_steps: int, seed: int) -> None:
    """`act`, `inspect` and `exploration`, in games of their own."""
    env = make.make_env(3)
    space, observations = env.spec.action_space, env.reset(seed)
    continuous = env.spec.continuous
    env.close()
    for at in (0, budget_env_steps // 2, 10 * budget_env_steps):
        explore = agent.exploration(at)
        require(isinstance(explore, float) and 0.0 <= explore <= 1.0, f"exploration({at}) is {explore!r}, not in 0..1")
    before = observations.copy()

    def act(explore: float, number: int) -> np.ndarray:
        chosen = agent.act(observations, explore, np.random.default_rng([seed, number]))
        (_check_continuous if continuous else _check_numbered)(chosen, len(observations), space)
        return chosen

    greedy = act(0.0, 0)
    require(all(np.array_equal(act(0.0, n), greedy) for n in range(1, 5)), "with explore 0 the generator decides")
    actions = 2 if continuous else int(space.n)
    draws = np.stack([act(1.0, number) for number in range(20 * actions)])  # [draws, N, ...]
    if continuous:
        require(bool((draws.std(axis=0) > 0).all()), "with explore 1 the actions are always the same")
    else:
        missing = sorted(set(range(actions)) - set(draws.flatten().tolist()))
        require(not missing, f"with explore 1 not every action is taken: never {missing}")
    same = (draws == draws[:, :1]).reshape(len(draws), -1).all(axis=1).mean()
    require(actions == 1 or same < 0.9, "with explore 1 all environments take one and the same random action")
    require(np.array_equal(draws[3], act(1.0, 3)), "the same generator gives other actions")
    _check_thought(agent.inspect(observations), len(observations), None if continuous else actions)
    require(np.array_equal(observations, before), "act or inspect wrote to the observations")


def _check_numbered(chosen: Any, count: int, space: Any) -> None:
    right = isinstance(chosen, np.ndarray) and chosen.shape == (count,) and chosen.dtype == np.int64
    require(right, f"act gave {form(chosen)} for {count} observations; it must be int64 [N]")
    last = int(space.n) - 1
    require(chosen.min() >= 0 and chosen.max() <= last, f"act chose {chosen}; actions are 0 to {last}")


def _check_continuous(chosen: Any, count: int, space: Any) -> None:
    right = isinstance(chosen, np.ndarray) and chosen.shape == (count, *space.shape) and chosen.dtype == np.float32
    require(right, f"act gave {form(chosen)} for {count} observations; it must be float32 {(count, *space.shape)}")
    inside = bool((chosen >= space.low).all() and (chosen <= space.high).all())
    require(inside, f"act chose {chosen}; actions lie from {space.low} to {space.high}")


def _check_thought(thought: Any, count: int, actions: int | None) -> None:
    """What `inspect` gave. Agents that value no single action, or whose actions have no numbers, leave q_values out and
    give the state's `value`."""
    if "q_values" in thought or "value" not in thought:
        values, shape = thought.get("q_values"), (count, actions)
        right = isinstance(values, np.ndarray) and values.shape == shape and values.dtype == np.float32
        require(right, f"inspect gave q_values {form(values)}; they must be float32 {shape}")
    else:
        values = thought["value"]
        right = isinstance(values, np.ndarray) and values.shape == (count,) and values.dtype == np.float32
        require(right, f"inspect gave value {form(values)}; it must be float32 {(count,)}")
    for name, array in thought.items():
        require(bool(np.isfinite(array).all()), f"inspect gave {name} that are not finite")


def _check_training(training: _Training, record: list[tuple[int, bool, dict[str, float]]], untrained: Any) -> None:
    require(training.updates > 0, f"there was no update within {training.units} environment steps")
    learned = difference(untrained, training.agent.state_dict())
    require(bool(learned), f"{training.updates} updates left the agent's state as it was")
    check_metric_names(record)
    check_source_metrics(training.source, "rollout")


def _check_same_training(make: _Maker, first: _Training, record: list[Any], env_steps: int, seed: int) -> None:
    second, other = make(seed), make(seed + 1)
    repeated = second.train(env_steps) + second.train(2 * env_steps)
    where = difference(record, repeated) or difference(first.state(), second.state())
    require(not where, f"one seed gives two different trainings: {where}")
    other.train(env_steps)
    other.train(2 * env_steps)
    require(bool(difference(first.state(), other.state())), "two seeds give one and the same training")
    for training in (second, other):
        training.env.close()


def _check_resuming(
    make: _Maker, whole: _Training, saved: dict[str, Any], folder: Path, record: list[Any], env_steps: int, seed: int
) -> None:
    """A checkpoint goes on in a fresh agent, of another seed so that nothing comes from that."""
    resumed, twin = make(seed + 2), make(seed + 3)
    for training in (resumed, twin):
        training.load(saved, folder)
        where = difference(saved["learner"], through_a_checkpoint(training.agent.state_dict()))
        require(not where, f"the learner's state is another after loading it: {where}")
    continued = resumed.train(2 * env_steps)
    if whole.env.spec.restorable:
        where = difference(record[-len(continued) :], continued) or difference(whole.state(), resumed.state())
        require(not where, f"a resumed training is not the one that was not stopped: {where}")
    where = difference(continued, twin.train(2 * env_steps)) or difference(resumed.state(), twin.state())
    require(not where, f"one checkpoint goes on in two ways: {where}")
    for training in (resumed, twin):
        training.env.close()
