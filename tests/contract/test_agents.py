"""Every registered agent keeps the contract, and `check_agent` finds the mistakes that it is there to find."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

import envs
from agents import AGENTS
from agents.core import Agent, check_actions_fit
from agents.q_learning import QLearning
from agents.step_source import StepSource
from aprendiz.config import field_docs
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Work
from aprendiz.testing import check_agent

PLACES = ("cartpole", "frozen-lake", "pendulum")
"""Small environments: of vectors, of states, and of continuous actions. An agent is checked wherever it can learn."""
EXTRAS = {"sb3-qrdqn": "sb3_contrib"}
"""Agents that an optional package brings."""


def make_env(name: str) -> Any:
    return lambda num_envs: envs.make(name, num_envs)


def fits(name: str, agent: Any, task: str) -> bool:
    spec = make_env(task)(1).spec
    try:
        check_actions_fit(agent, name, spec)
        agent.presets(spec)
    except ConfigError:
        return False
    return True


def small(config: Any) -> Any:
    """The config with what is large made small enough for a few hundred steps."""
    sizes = {"batch_size": 8, "replay_capacity": 400, "target_period_env_steps": 50, "chunk_env_steps": 70}
    sizes |= {"rollout_steps": 16, "epochs": 2, "hidden_units": 16}
    sizes |= {"gradient_steps": min(4, getattr(config, "gradient_steps", 1))}
    sizes |= dict.fromkeys(("atoms", "quantiles", "target_quantiles", "policy_quantiles"), 5)
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: size for name, size in sizes.items() if name in known})


@pytest.mark.parametrize("task", PLACES)
@pytest.mark.parametrize("name", AGENTS.names())
def test_every_agent_keeps_the_contract(name: str, task: str) -> None:
    agent = AGENTS.get(name)
    if not fits(name, agent, task):
        pytest.skip(f"{name} says that it cannot learn {task}")
    config = small(agent.presets(make_env(task)(1).spec)["default"])
    check_agent(agent, make_env(task), config=config, env_steps=160)


@pytest.mark.parametrize("name", AGENTS.names())
def test_every_agent_can_learn_somewhere(name: str) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    assert any(fits(name, AGENTS.get(name), task) for task in PLACES)


@pytest.mark.parametrize("name", AGENTS.names())
def test_every_number_of_an_agent_is_explained(name: str) -> None:
    assert [field for field, said in field_docs(AGENTS.get(name).Config).items() if not said] == []


@pytest.mark.parametrize("name", ["dqn", "prioritized-dqn", "btr", "sb3-dqn", "sb3-ppo"])
def test_agents_keep_the_contract_on_images_whose_games_cannot_be_restored(name: str) -> None:
    agent = AGENTS.get(name)
    config = dataclasses.replace(small(agent.presets(envs.make("pong", 1).spec)["default"]), num_envs=2)
    if name == "btr":  # one update for each step of its 64 games
        config = dataclasses.replace(config, train_period_env_steps=4)
    check_agent(agent, lambda num_envs: envs.make("pong", num_envs), config=config, env_steps=30)


class Stepwise(QLearning):
    """Q-learning in single steps: correct, and small enough to spoil."""

    def make_source(self, env: Any, *, seed: int) -> StepSource:
        return StepSource(self, env, discount=self.config.discount, seed=seed)


def check(**spoilt: Any) -> None:
    agent = type("Spoilt", (Stepwise,), spoilt)
    check_agent(agent, make_env("gridworld"), env_steps=120)


def test_the_unspoilt_one_passes() -> None:
    check()


def seed_torch(self: Any, *arguments: Any, **options: Any) -> None:
    torch.manual_seed(options["seed"])
    Stepwise.__init__(self, *arguments, **options)


def draw_from_numpy(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    np.random.random()
    return Stepwise.act(self, observations, explore, generator)


def draw_from_python(self: Any, batch: Any) -> Outcome:
    random.random()
    return Stepwise.update(self, batch)


def start_anyhow(self: Any, *arguments: Any, **options: Any) -> None:
    Stepwise.__init__(self, *arguments, **options)
    self.table += np.random.default_rng().normal(size=self.table.shape)


def forget_the_config(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
    Stepwise.__init__(self, config, *arguments, **options)
    self.config = dataclasses.replace(config, discount=0.5)


def act_in_int32(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    return Stepwise.act(self, observations, explore, generator).astype(np.int32)


def act_out_of_range(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    return Stepwise.act(self, observations, explore, generator) + 1


def always_explore(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    return generator.integers(0, self.q.shape[1], len(observations))


def never_explore(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    return Stepwise.act(self, observations, 0.0, generator)


def toss_one_coin_for_all(self: Any, observations: Any, explore: float, generator: Any) -> Any:
    if generator.random() < explore:
        return np.full(len(observations), generator.integers(0, self.q.shape[1]))
    return Stepwise.act(self, observations, 0.0, generator)


def turn_the_values_round(self: Any, observations: Any) -> Any:
    return {"q_values": Stepwise.inspect(self, observations)["q_values"].T}


def think_in_float64(self: Any, observations: Any) -> Any:
    return {"q_values": self.q[observations]}


def write_to_observations(self: Any, observations: Any) -> Any:
    values = Stepwise.inspect(self, observations)
    observations[:] = 1
    return values


def explore_in_percent(self: Any, env_steps: int) -> float:
    return 100.0 * Stepwise.exploration(self, env_steps)


def measure_nothing_finite(self: Any, batch: Any) -> Outcome:
    return Outcome(Stepwise.update(self, batch).metrics | {"loss": float("nan")})  # type: ignore[operator]


def measure_a_vector(self: Any, batch: Any) -> Outcome:
    Stepwise.update(self, batch)
    return Outcome({"loss": torch.zeros(3)})


def learn_nothing(self: Any, batch: Any) -> Outcome:
    return Outcome({"loss": 0.0})


def forget_the_visits(self: Any, state: Mapping[str, Any]) -> None:
    self.q[...] = np.asarray(state["q"])


def save_an_object(self: Any) -> dict[str, Any]:
    return {**Stepwise.state_dict(self), "config": self.config}


@classmethod  # type: ignore[misc]
def resolve_twice(cls: Any, config: Any, budget_env_steps: int) -> Any:
    return dataclasses.replace(config, exploration_env_steps=budget_env_steps // 2)


@classmethod  # type: ignore[misc]
def have_no_default(cls: Any, spec: Any) -> dict[str, Any]:
    return {"fast": cls.Config()}


class ForgetfulSource(StepSource):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        generator = self.generator.bit_generator.state
        super().load_state_dict(state)
        self.generator.bit_generator.state = generator


class IdleSource(StepSource):
    def next(self, limit: int | None = None) -> Work:
        return dataclasses.replace(super().next(limit), batch=None)


class GreedySource(StepSource):
    def next(self, limit: int | None = None) -> Work:
        return dataclasses.replace(super().next(limit), units=1000)


class VagueSource(StepSource):
    def next(self, limit: int | None = None) -> Work:
        return dataclasses.replace(super().next(limit), safe_point=None)  # type: ignore[arg-type]


def from_source(kind: type[StepSource]) -> Any:
    return lambda self, env, *, seed: kind(self, env, discount=self.config.discount, seed=seed)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"__init__": seed_torch}, "global random state of torch"),
        ({"act": draw_from_numpy}, "global random state of NumPy"),
        ({"update": draw_from_python}, "global random state of Python"),
        ({"__init__": start_anyhow}, "one seed gives two different new agents"),
        ({"__init__": forget_the_config}, "agent.config is not the config"),
        ({"act": act_in_int32}, "int32"),
        ({"act": act_out_of_range}, "actions are 0 to 3"),
        ({"act": always_explore}, "with explore 0 the generator decides"),
        ({"act": never_explore}, "with explore 1 not every action"),
        ({"act": toss_one_coin_for_all}, "one and the same random action"),
        ({"inspect": turn_the_values_round}, "inspect gave q_values"),
        ({"inspect": think_in_float64}, "inspect gave q_values .* float64"),
        ({"inspect": write_to_observations}, "wrote to the observations"),
        ({"exploration": explore_in_percent}, "exploration.* not in 0..1"),
        ({"update": measure_nothing_finite}, "metric loss of update is nan"),
        ({"update": measure_a_vector}, "metric loss of update is no scalar"),
        ({"update": learn_nothing}, "left the agent's state as it was"),
        ({"load_state_dict": forget_the_visits}, "another after loading it: /visits"),
        ({"state_dict": save_an_object}, "cannot be saved.*QLearningConfig"),
        ({"resolve": resolve_twice}, "another budget moves it"),
        ({"presets": have_no_default}, "not called default"),
        ({"make_source": from_source(ForgetfulSource)}, "not the one that was not stopped"),
        ({"make_source": from_source(IdleSource)}, "no update"),
        ({"make_source": from_source(GreedySource)}, "the source went on to 1000"),
        ({"make_source": from_source(VagueSource)}, "safe_point is None"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(*value.values(), "__name__", "source"),
)
def test_a_spoilt_agent_is_found(spoilt: dict[str, Any], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(**spoilt)


def test_another_constructor_is_found() -> None:
    class Named(Stepwise):
        def __init__(self, config: Any, observation_space: Any, action_space: Any, *, seed: int) -> None:
            super().__init__(config, observation_space, action_space, seed=seed)

    with pytest.raises(AssertionError, match="the constructor does not take .* 'device'"):
        check_agent(Named, make_env("gridworld"))


def test_a_config_that_json_cannot_hold_is_found() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        table: tuple[int, ...] = dataclasses.field(default_factory=lambda: np.zeros(3))  # type: ignore[assignment]

    class Arrays(Agent):
        @classmethod
        def presets(cls, spec: Any) -> dict[str, Any]:
            return {"default": Config()}

    Arrays.Config = Config
    with pytest.raises(AssertionError, match="preset default is not JSON-able"):
        check_agent(Arrays, make_env("gridworld"))
