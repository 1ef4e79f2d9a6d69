from __future__ import annotations

from pathlib import Path

import pytest

from aprendiz import session
from aprendiz.errors import ConfigError
from aprendiz.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(
        kind="agents", task="cartpole", learner="dqn", seed=1, config={}, command=["x"], device="cpu", root=tmp_path
    )


def test_the_best_checkpoint_is_taken_where_none_is_named_and_the_last_where_none_is_the_best(run: Run) -> None:
    run.save(100, {"x": 1})
    assert session.chosen_checkpoint(run, None) == "last"
    run.save(200, {"x": 1}, best=True)
    assert session.chosen_checkpoint(run, None) == "best" and session.chosen_checkpoint(run, "last") == "last"


@pytest.mark.parametrize(("text", "step"), [("0", 0), ("50_000", 50_000)])
def test_a_step_is_a_step_also_the_very_first(run: Run, text: str, step: int) -> None:
    run.save(100, {"x": 1}, best=True)
    assert session.chosen_checkpoint(run, text) == session.checkpoint_choice(text) == step


@pytest.mark.parametrize("text", ["newest", "-1", "1.5", "_", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not last, best or a step"):
        session.checkpoint_choice(text)
