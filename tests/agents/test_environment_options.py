"""What a run keeps of the options of its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

import envs
from agents.saved import load_saved
from agents.train import run_command
from aprendiz.run import Run


@pytest.fixture
def maze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "maze.txt"
    path.write_text("S..G\n.#.P\n")
    return path


def test_a_map_is_kept_and_not_the_name_of_its_file(maze: Path) -> None:
    run_command(["gridworld", "--map", str(maze), "--steps", "400", "--wandb", "disabled", "--no-video"])
    run = Run.open("latest")
    maze.write_text("S..P\n.#.G\n")  # the same size, another game
    assert load_saved(run).spec.protocol["map"] == "S..G/.#.P"
    maze.unlink()
    assert load_saved(Run.open(run.path)).spec.protocol["map"] == "S..G/.#.P"
    run_command(["--resume", str(run.path), "--steps", "800"])
    assert run.steps()[-1] == 800


def test_options_that_can_be_typed_have_their_types() -> None:
    options = envs.options_class("gridworld")()
    assert options.slip == pytest.approx(0.2) and isinstance(options.map, str)
    assert envs.options_class("cartpole")().time_limit_steps == 0
