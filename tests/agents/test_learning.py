"""DQN learns: better than chance in seconds, and (slow) the whole of CartPole as the command trains it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import envs
from agents.core import Purpose
from agents.dqn import DQN
from agents.play import game_seeds, play_games
from agents.saved import make_env_of, open_agent
from agents.train import run_command
from aprendiz.run import Run


def test_dqn_learns_cartpole_better_than_chance() -> None:
    env_steps, make_env = 10_000, lambda games: envs.make("cartpole", games)
    spec = make_env(1).spec
    config = DQN.resolve(DQN.presets(spec)["default"], env_steps)
    agent = DQN(config, spec.observation_space, spec.action_space, seed=0)
    seeds = game_seeds(0, 20, Purpose.EVALUATION)
    untrained = play_games(agent, make_env, seeds, explore=0.0).scores.mean()
    source = agent.make_source(make_env(config.num_envs), seed=0)
    while source.env_steps < env_steps:
        work = source.next()
        if work.batch is not None:
            agent.update(work.batch)
    trained = play_games(agent, make_env, seeds, explore=0.0).scores.mean()
    assert untrained < 60 and trained > 100  # uniformly random play: 22


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_cartpole_is_solved_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    started = time.perf_counter()
    arguments = ["--steps", "50_000", "--seed", str(seed), "--device", "cpu", "--wandb", "disabled", "--no-video"]
    assert run_command(["cartpole", *arguments]) == 0
    seconds = time.perf_counter() - started
    run = Run.open("latest", kind="agents")
    seeds = game_seeds(run.seed, 100, Purpose.EVALUATION)
    scores = play_games(open_agent(run, "best"), make_env_of(run), seeds, explore=0.0).scores
    assert np.mean(scores) >= 475
    assert seconds < 60
