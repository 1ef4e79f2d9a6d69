from __future__ import annotations

from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("units", "plan"), [(7, 7), (100, 100), (1_234, 1_230), (1_235, 1_240), (1_549_999, 1_550_000)]
)
def test_a_plan_has_three_digits(units: int, plan: int) -> None:
    assert session.round_plan(units) == plan
    assert session.planned_units(units / 60, 1.0, None, 5) == plan
    assert session.planned_units(units / 60, 1.0, 50, 5) == min(plan, 50)


class Timed:
    """A learner and its source in one, which can be closed."""

    closed = 0

    def close(self) -> None:
        Timed.closed += 1


@pytest.mark.parametrize(
    ("precisions", "minutes", "looks"),
    [
        (("fp32",), None, [("fp32", 2.5)]),
        (("fp32",), 1.0, [("fp32", 2.5)]),
        (("fp32",), 20.0, [("fp32", 12.0)]),
        (("fp32", "bf16"), None, [("fp32", 2.5), ("bf16", 2.5)]),
        (("fp32", "bf16"), 3.0, [("fp32", 2.5), ("bf16", 2.5)]),
        (("fp32", "bf16"), 60.0, [("fp32", 2.5), ("bf16", 2.5), ("bf16", 20.0)]),
    ],
)
def test_a_long_run_is_planned_by_a_longer_look(
    precisions: tuple[str, ...], minutes: float | None, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def rate_of(learner: Any, source: Any, seconds: float) -> float:
        seen.append((learner, seconds))
        return {"fp32": 10.0, "bf16": 20.0}[learner] + len(seen)

    monkeypatch.setattr(session, "rate_of", rate_of)
    Timed.closed = 0
    best, rate = session.fastest_of(precisions, lambda precision: (precision, Timed()), minutes)  # type: ignore[arg-type,return-value]
    assert best == precisions[-1] and seen == looks and Timed.closed == len(looks)
    assert rate == {"fp32": 10.0, "bf16": 20.0}[best] + len(looks)


def test_a_source_is_closed_also_where_learning_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "rate_of", lambda *_: 1 / 0)
    Timed.closed = 0
    with pytest.raises(ZeroDivisionError):
        session.fastest_of(("fp32",), lambda precision: (precision, Timed()))  # type: ignore[arg-type,return-value]
    assert Timed.closed == 1
