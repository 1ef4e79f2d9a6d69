"""Agents out of saved runs: the class by name, its hyperparameters, its weights, and the environment it learned in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import envs
from agents import AGENTS
from agents.core import Agent
from aprendiz import saved
from aprendiz.config import from_json

if TYPE_CHECKING:
    from aprendiz.run import Run
    from envs.core import Env, EnvSpec


class MakeEnv(Protocol):
    """Makes environments of one kind, with a colour picture where `render` is true."""

    def __call__(self, num_envs: int, *, render: bool = False) -> Env: ...


@dataclass(frozen=True)
class SavedAgent:
    """An agent with the weights of a checkpoint, and where it plays."""

    agent: Agent
    spec: EnvSpec
    make_env: MakeEnv
    which: str | int
    """The checkpoint that was asked for: `last`, `best` or a step."""
    step: int
    """Environment steps that it has learned from."""


def load_saved(run: Run, which: str | int = "last", device: str = "auto") -> SavedAgent:
    """The agent of a run as it was at a checkpoint: `last`, `best` or a step.

    Raises what `new_agent` raises, and CheckpointError where the checkpoint is not there or does not fit.
    """
    agent, spec, make_env = new_agent(run, device)
    step = saved.load_learner(run, agent, which)
    return SavedAgent(agent, spec, make_env, which, step)


def new_agent(run: Run, device: str = "auto") -> tuple[Agent, EnvSpec, MakeEnv]:
    """The agent of a run as it was before it learned, its environment's spec and how to make that environment.

    It computes in the precision that it learned in where the device is of the same kind, and in fp32 elsewhere. Raises
    RunError or ConfigError where the run's config or the device does not fit.
    """
    part = saved.mapping_of(run, run.config, "agent")
    cls = AGENTS.get(_text(run, part, "name"))
    chosen, precision = saved.home_of(run, cls.devices, device)
    spec = spec_of(run)
    agent = cls(
        from_json(cls.Config, part.get("hyperparameters", {})),
        spec.observation_space,
        spec.action_space,
        seed=run.seed,
        device=chosen,
        precision=precision,
    )
    return agent, spec, make_env_of(run)


def spec_of(run: Run) -> EnvSpec:
    """What is played in a run."""
    env = make_env_of(run)(1)
    try:
        return env.spec
    finally:
        env.close()


def open_agent(run: Run, which: str | int = "last", device: str = "auto") -> Agent:
    """The agent alone, as `load_saved`."""
    return load_saved(run, which, device).agent


def make_env_of(run: Run) -> MakeEnv:
    """Makes environments as the run had them: number of games, and `render`, are the caller's."""
    environment = saved.mapping_of(run, run.config, "environment")
    name, options = _text(run, environment, "name"), dict(environment.get("options") or {})

    def make_env(num_envs: int, *, render: bool = False) -> Env:
        return envs.make(name, num_envs, render=render, **options)

    return make_env


def _text(run: Run, part: dict[str, Any], key: str) -> str:
    return saved.text_of(run, part, key, "agent or environment")
