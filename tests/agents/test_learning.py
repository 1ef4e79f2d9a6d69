"""DQN learns better than chance in seconds, and (slow) every agent of its line the whole of CartPole, as the command
trains it."""

from __future__ import annotations

from pathlib import Path

import pytest

import envs
from agents.core import Purpose
from agents.dqn import DQN
from agents.play import game_seeds, play_games
from agents.saved import make_env_of, open_agent
from agents.train import run_command
from aprendiz.run import Run
from tests.agents.value_agents import LINE


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
@pytest.mark.parametrize("name", [*LINE, "drqn", "pqn"])
def test_every_agent_solves_cartpole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, the most there is, in each of 100 fresh games after at most 50,000 steps, with four seeds of five."""
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    means = []
    for seed in range(1, 6):
        arguments = ["--agent", name, "--steps", "50_000", "--seed", str(seed), "--device", "cpu"]
        assert run_command(["cartpole", *arguments, "--wandb", "disabled", "--no-video"]) == 0
        run = Run.open("latest", kind="agents")
        seeds = game_seeds(run.seed, 100, Purpose.EVALUATION)
        means.append(float(play_games(open_agent(run, "best"), make_env_of(run), seeds, explore=0.0).scores.mean()))
    assert means.count(500.0) >= 4, means
