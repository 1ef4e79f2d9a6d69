"""Agents of Stable-Baselines3 by our commands: trained, resumed, evaluated, and nothing pickled."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agents import evaluate as evaluation
from agents import training
from agents.saved import load_saved
from agents.train import parse_task, run_command
from aprendiz.loop import LoopState, load_run
from aprendiz.run import Run
from aprendiz.testing.common import difference, global_random_state_left_alone

COMMON = ("--wandb", "disabled", "--no-video", "--device", "cpu")
BUFFER = ("--replay-capacity", "300", "--batch-size", "8", "--warmup-env-steps", "20", "--hidden-units", "16")
COMMANDS: dict[str, tuple[str, ...]] = {
    "sb3-dqn": ("cartpole", *BUFFER, "--train-period-env-steps", "4", "--gradient-steps", "1"),
    "sb3-qrdqn": ("cartpole", *BUFFER, "--train-period-env-steps", "4", "--gradient-steps", "1", "--quantiles", "5"),
    "sb3-ppo": ("cartpole", "--num-envs", "2", "--rollout-steps", "16", "--batch-size", "16", "--epochs", "2"),
    "sb3-a2c": ("cartpole", "--num-envs", "2"),
    "sb3-sac": ("pendulum", *BUFFER, "--train-period-env-steps", "4"),
}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))


def train(name: str, steps: int, *more: str) -> Run:
    task, *options = COMMANDS[name]
    words = [task, "--agent", name, "--steps", str(steps), "--evaluations", "1", "--evaluation-games", "1"]
    assert run_command([*words, *options, *COMMON, *more]) == 0
    return Run.open("latest")


def learned(run: Run) -> Any:
    return run.load("last")["learner"]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_train_resume_and_evaluate_without_a_pickle(name: str) -> None:
    # Schedules belong to the budget that a run was created with: both have the same.
    exploration = ("--exploration-env-steps", "60")
    falling = ("--learning-rate-falls", "--schedule-env-steps", "120")
    schedules = {"sb3-dqn": exploration, "sb3-qrdqn": exploration, "sb3-sac": ()}
    schedule = schedules.get(name, falling)
    whole = train(name, 120, *schedule)
    run = train(name, 66, *schedule)
    assert run_command(["--resume", str(run.path), "--steps", "120", *COMMON[:3]]) == 0
    assert not difference(learned(whole), learned(Run.open(run.path)))
    evaluation.command([str(run.path), "--episodes", "2", "--device", "cpu"])
    found = json.loads((run.path / "evaluations.json").read_text())
    assert len(found[-1]["scores"]) == 2
    for path in run.path.rglob("*"):
        if path.is_file():
            assert not zipfile.is_zipfile(path) and path.suffix not in (".pkl", ".pickle", ".zip", ".pt", ".pth")
            assert path.read_bytes()[:2] not in (b"\x80\x04", b"\x80\x05", b"\x80\x02")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_whole_run_leaves_the_global_random_state_alone(name: str) -> None:
    """From creating a run to evaluating it. Two packages that every command uses draw from Python's by themselves: rich
    when it is first imported, and tyro, which checks itself by chance where pytest is there."""
    importlib.import_module("rich.style")
    words = [
        *COMMANDS[name],
        "--agent",
        name,
        "--steps",
        "40",
        "--evaluations",
        "1",
        "--evaluation-games",
        "1",
        *COMMON,
    ]
    parsed = parse_task(words)
    with global_random_state_left_alone():
        assert training.create(*parsed, command=words) == 0
        evaluation.evaluate(load_saved(Run.open("latest"), "last", "cpu"), episodes=2, seed=1000, explore=0.01)


def test_resuming_without_the_memory_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    run = train("sb3-dqn", 60, "--no-save-replay")
    assert run_command(["--resume", str(run.path), "--steps", "100", *COMMON[:3]]) == 0
    assert "its replay memory was not kept" in capsys.readouterr().out


def test_the_memory_is_loaded_from_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.saved import new_agent

    run = train("sb3-dqn", 60)
    agent, _, make_env = new_agent(run, "cpu")
    source = agent.make_source(make_env(1), seed=run.seed)
    assert load_run(run, agent, source, LoopState())
    assert source.metrics()["rollout/replay_fill"] == 60 / 300
