"""Films of a run in training."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from agents.train import run_command
from aprendiz.run import Run

TRAINING = (
    *("cartpole", "--num-envs", "4", "--batch-size", "16", "--train-period-env-steps", "4", "--replay-capacity", "800"),
    *("--evaluation-games", "2", "--steps", "120", "--evaluations", "3", "--wandb", "disabled", "--device", "cpu"),
)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation is filmed."""
    monkeypatch.setattr("agents.films.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("agents.films.SHARE", float("inf"))


def train(*more: str, code: int = 0) -> Run:
    assert run_command([*TRAINING, *more]) == code
    return Run.open("latest")


def scores(run: Run) -> dict[int, float]:
    """Of the evaluations on the way, by step."""
    return {line["step"]: line["eval/score"] for line in run.metrics() if "eval/score" in line}


def films(run: Run) -> list[str]:
    return sorted(path.name for path in run.videos.iterdir())


def test_a_long_training_is_filmed_on_the_way_and_goes_as_it_would_unseen(patient):
    filmed, unseen = train(), train("--no-video")
    assert films(filmed) == [f"step-{step:012d}.mp4" for step in (40, 80, 120)] and films(unseen) == []
    assert scores(filmed) == scores(unseen) and len(scores(filmed)) == 3


def test_a_short_training_is_filmed_at_its_end_alone():
    run = train()
    assert films(run) == [f"step-{run.best_step():012d}.mp4"]


def test_films_on_the_way_take_their_share_of_the_time(monkeypatch):
    monkeypatch.setattr("agents.films.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("agents.films.SHARE", 1e-9)  # the first one has taken it for years to come
    made: list[int] = []

    def film(agent: Any, make_env: Any, path: Path, **given: Any) -> Path:
        made.append(given["max_steps"])
        return path

    monkeypatch.setattr("agents.video.record_video", film)
    train()
    assert made == [600, 2_000]


def test_a_film_that_fails_is_the_last_one_on_the_way(patient, monkeypatch, capsys):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no encoder")

    monkeypatch.setattr("agents.video.record_video", fail)
    assert len(scores(train())) == 3
    assert capsys.readouterr().err == "no video: OSError: no encoder\n" * 2  # on the way, and at the end


def test_a_signal_ends_a_film_and_the_evaluation_before_it_counts(patient, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it was not interrupted")

    monkeypatch.setattr("agents.video.record_video", interrupted)
    run = train(code=128 + signal.SIGTERM)
    assert list(scores(run)) == [40] and run.best_step() == 40
