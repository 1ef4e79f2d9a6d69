"""The training loop with a toy learner: what happens when, and that an interrupted run equals an uninterrupted one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import loop
from aprendiz.errors import DivergedError, StorageError
from aprendiz.loop import Budget, Cadence, LoopState, Outcome, Source, TrainResult, Work, crossed, load_run, train
from aprendiz.run import Run

FIRST_CHECKPOINT_NEVER = 1e6


class ToySource(Source):
    """Three units at a time; two batches of noise come before each safe point, none in the first nine units."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.units = 0
        self.due = 0
        self.safe = True
        self.limits: list[int | None] = []
        self.fed_back: list[float] = []

    def next(self, limit: int | None = None) -> Work:
        self.limits.append(limit)
        if self.safe:
            self.due = 2 if self.units >= 9 else 0
        self.safe = self.due == 0
        if self.due:
            self.due -= 1
            return Work(torch.tensor(self.generator.standard_normal(), dtype=torch.float32), 0, False)
        self.units += 3
        return Work(None, 3, True)

    def feedback(self, batch: torch.Tensor, outcome: Outcome) -> None:
        self.fed_back.append(float(outcome.per_sample["error"]))

    def metrics(self) -> dict[str, float]:
        return {"rollout/units": float(self.units)}

    def state_dict(self) -> dict[str, Any]:
        assert self.safe, "saved while work was under way"
        return {"units": self.units, "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.units = state["units"]
        self.generator.bit_generator.state = state["generator"]


class ToyLearner:
    """A weight that follows the batches; `on_update` is called with the number of the update."""

    def __init__(self, on_update: Callable[[int], None] = lambda number: None) -> None:
        self.weight = torch.zeros(())
        self.updates = 0
        self.on_update = on_update

    def update(self, batch: torch.Tensor) -> Outcome:
        self.updates += 1
        self.on_update(self.updates)
        error = batch - self.weight
        self.weight = self.weight + 0.1 * error
        return Outcome({"loss": error**2, "number": float(self.updates)}, {"error": error})

    def modules(self) -> dict[str, torch.nn.Module]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight, self.updates = state["weight"], state["updates"]


def cadence(**changes: Any) -> Cadence:
    settings = {"log_every_units": 10, "checkpoint_every_minutes": FIRST_CHECKPOINT_NEVER, "step_name": "units"}
    return Cadence(**{**settings, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = make_run(tmp_path)
    yield run
    run.close()


def make_run(root: Path) -> Run:
    return Run.create(
        kind="agents", task="toy", learner="toy", seed=0, config={}, command=["toy"], device="cpu", root=root
    )


def go(run: Run, units: int | None, **arguments: Any) -> TrainResult:
    source, learner = arguments.pop("source", None) or ToySource(), arguments.pop("learner", None) or ToyLearner()
    budget = arguments.pop("budget", Budget(units=units))
    return train(learner, source, run, budget, **{"cadence": cadence(), "progress": False, **arguments})


def logged(run: Run, name: str) -> list[tuple[int, Any]]:
    return [(line["step"], line[name]) for line in run.metrics() if name in line]


def test_multiples_that_are_jumped_over_are_counted() -> None:
    assert [crossed(before, before + 4, 10) for before in (0, 4, 8, 12, 16)] == [0, 0, 1, 0, 1]
    assert crossed(0, 35, 10) == 3
    assert crossed(0, 10, 10) == 1 and crossed(10, 19, 10) == 0


def test_a_run_ends_when_its_units_are_spent(run: Run) -> None:
    result = go(run, 30)
    assert (result.reason, result.state.units, result.state.updates) == ("finished", 30, 2 * 7)
    assert run.status()["state"] == "finished" and run.status()["step"] == 30


def test_the_source_is_told_what_is_left(run: Run) -> None:
    source = ToySource()
    go(run, 9, source=source)
    assert source.limits == [9, 6, 3]


def test_a_finished_run_does_nothing_more(run: Run) -> None:
    result = go(run, 30)
    learner = ToyLearner()
    again = go(run, 30, learner=learner, state=result.state)
    assert again.reason == "finished" and learner.updates == 0


def test_what_an_update_told_goes_back_to_the_source(run: Run) -> None:
    source = ToySource()
    go(run, 12, source=source)
    first, second = (np.float32(x) for x in np.random.default_rng(0).standard_normal(2))
    np.testing.assert_allclose(source.fed_back, [first, second - 0.1 * first], rtol=1e-6)


def test_logging_happens_whenever_a_multiple_was_crossed(run: Run) -> None:
    go(run, 45)
    assert [step for step, _ in logged(run, "rollout/units")] == [12, 21, 30, 42]


def test_the_log_holds_means_since_the_line_before(run: Run) -> None:
    go(run, 33)
    # updates 1, 2 came before unit 12; 3 to 8 before 21; 9 to 14 before 30
    assert logged(run, "train/number") == [(12, 1.5), (21, 5.5), (30, 11.5)]
    assert logged(run, "train/updates") == [(12, 2), (21, 8), (30, 14)]


def test_every_line_of_training_tells_the_memory_in_use(run: Run) -> None:
    go(run, 25)
    assert all(value > 10 for _, value in logged(run, "speed/memory_mb")) and logged(run, "speed/memory_mb")


def test_before_the_first_update_there_is_nothing_to_average(run: Run) -> None:
    go(run, 9, cadence=cadence(log_every_units=3))
    assert logged(run, "train/loss") == []
    assert [step for step, _ in logged(run, "rollout/units")] == [3, 6, 9]


def test_checkpoints_are_made_at_safe_points_only(run: Run) -> None:
    learner = ToyLearner(on_update=lambda number: time.sleep(0.001))
    go(run, 60, learner=learner, cadence=cadence(checkpoint_every_minutes=0.0))  # the source refuses other points
    assert run.load("last")["loop"]["units"] == 60


def test_checkpoints_follow_the_clock(run: Run) -> None:
    saved = record_saves(run)
    go(run, 60, cadence=cadence(checkpoint_every_minutes=0.0))
    assert [step for step, _ in saved] == list(range(3, 61, 3))


def test_without_waiting_for_the_clock_one_checkpoint_is_made_at_the_end(run: Run) -> None:
    saved = record_saves(run)
    go(run, 60)
    assert saved == [(60, False)]


def record_saves(run: Run) -> list[tuple[int, bool]]:
    saved: list[tuple[int, bool]] = []
    original = run.save

    def save(step: int, state: Mapping[str, Any], *, keep: bool = False, best: bool = False) -> None:
        saved.append((step, best))
        original(step, state, keep=keep, best=best)

    run.save = save  # type: ignore[method-assign]
    return saved


def test_the_clock_ends_a_run(run: Run) -> None:
    learner = ToyLearner(on_update=lambda number: time.sleep(0.002))
    started = time.perf_counter()
    result = go(run, None, learner=learner, budget=Budget(minutes=0.1 / 60))
    assert result.reason == "clock" and 0.1 <= time.perf_counter() - started < 2.0
    assert run.load("last")["loop"]["units"] == result.state.units
    assert run.status()["state"] == "finished"


def test_time_of_earlier_sessions_counts(run: Run) -> None:
    result = go(run, None, budget=Budget(minutes=1.0), state=LoopState(elapsed_seconds=60.0))
    assert result.reason == "clock" and result.state.units == 3 and result.state.elapsed_seconds >= 60.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_safe_point_and_saves(run: Run, number: signal.Signals) -> None:
    learner = ToyLearner(on_update=lambda update: os.kill(os.getpid(), number) if update == 5 else None)
    handler = signal.getsignal(number)
    result = go(run, 300, learner=learner)
    # update 5 is the first of the two before unit 18
    assert (result.reason, result.state.units, result.state.updates) == (number.name, 18, 6)
    assert run.load("last")["loop"]["updates"] == 6
    assert run.status()["state"] == "stopped"
    assert signal.getsignal(number) is handler


def test_a_second_interrupt_does_not_wait(run: Run) -> None:
    learner = ToyLearner(on_update=lambda update: os.kill(os.getpid(), signal.SIGINT) if update in (5, 6) else None)
    with pytest.raises(KeyboardInterrupt):
        go(run, 300, learner=learner)


def test_a_full_disk_ends_the_run_with_its_own_error(run: Run) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise StorageError("the disk is full")

    run.save = full  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="the disk is full"):
        go(run, 30)


class DivergingLearner(ToyLearner):
    """Loses its mind in update `at`: its loss, or only its weight, is no number from then on."""

    def __init__(self, at: int, *, loss: float = float("nan"), silent: bool = False) -> None:
        super().__init__()
        self.at, self.loss, self.silent = at, loss, silent
        self.module = torch.nn.Linear(1, 1)

    def update(self, batch: torch.Tensor) -> Outcome:
        outcome = super().update(batch)
        if self.updates < self.at:
            return outcome
        with torch.no_grad():
            self.module.weight.fill_(float("nan"))
        metrics = {} if self.silent else {"loss": torch.tensor(self.loss)}
        return Outcome({**outcome.metrics, **metrics}, outcome.per_sample)

    def modules(self) -> dict[str, torch.nn.Module]:
        return {"network": self.module}


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_the_run_at_the_next_log_line(run: Run, loss: float) -> None:
    with pytest.raises(DivergedError, match=rf"loss became {loss} between 21 and 30 units; no checkpoint .*; lower"):
        go(run, 300, learner=DivergingLearner(at=9, loss=loss))
    assert run.status()["state"] == "diverged" and run.steps() == []
    assert [step for step, _ in logged(run, "train/loss")] == [12, 21]


def test_the_last_good_checkpoint_stays_and_no_broken_one_is_saved(run: Run) -> None:
    often = cadence(log_every_units=1_000, checkpoint_every_minutes=0.0)
    with pytest.raises(DivergedError, match="between 0 and 24 units; checkpoint 21 is whole and kept"):
        go(run, 300, learner=DivergingLearner(at=9), cadence=often)  # update 9 comes before unit 24
    assert (run.status()["state"], run.status()["step"]) == ("diverged", 21)
    saved = run.load("last")
    assert saved["loop"]["units"] == 21 and torch.isfinite(saved["learner"]["weight"])


@pytest.mark.parametrize("silent", [False, True])
def test_what_diverged_is_not_saved_at_the_end_either(run: Run, silent: bool) -> None:
    with pytest.raises(DivergedError, match=r"weight network\.weight" if silent else "loss became nan"):
        go(run, 24, learner=DivergingLearner(at=9, silent=silent), cadence=cadence(log_every_units=1_000))
    assert run.steps() == []


def test_weights_that_are_no_numbers_are_found_before_a_checkpoint_though_every_loss_was_finite(run: Run) -> None:
    often = cadence(checkpoint_every_minutes=0.0)
    with pytest.raises(DivergedError, match=r"weight network\.weight is no longer finite"):
        go(run, 300, learner=DivergingLearner(at=9, silent=True), cadence=often)
    assert run.steps()[-1] == 21


def test_what_diverged_is_never_evaluated_and_never_the_best(run: Run) -> None:
    scored: list[int] = []

    def evaluate(units: int) -> dict[str, float]:
        scored.append(units)
        return {"score": 0.0}

    settings = cadence(log_every_units=1_000, evaluate_every_units=10)
    with pytest.raises(DivergedError):
        go(run, 300, learner=DivergingLearner(at=9, silent=True), evaluate=evaluate, cadence=settings)
    assert scored == [12, 21] and run.best_step() == 21


def test_a_run_that_diverged_goes_on_from_its_last_good_checkpoint(run: Run) -> None:
    with pytest.raises(DivergedError):
        go(run, 60, learner=DivergingLearner(at=9), cadence=cadence(checkpoint_every_minutes=0.0))
    learner, source, state = ToyLearner(), ToySource(seed=99), LoopState()
    load_run(run, learner, source, state)
    assert state.units == 21 and go(run, 60, learner=learner, source=source, state=state).reason == "finished"
    assert run.status()["state"] == "finished"


def test_looking_for_what_is_not_finite_costs_nothing_between_log_lines(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    original = loop.check_finite

    def check_finite(run: Run, learner: Any, state: LoopState, *arguments: Any) -> None:
        looked.append(state.units)
        original(run, learner, state, *arguments)

    monkeypatch.setattr(loop, "check_finite", check_finite)
    go(run, 60)
    assert looked == [12, 21, 30, 42, 51, 60, 60]  # the log lines, and the checkpoint at the end


def test_a_score_that_is_no_number_is_never_the_best(run: Run) -> None:
    scores = {12: float("nan"), 21: 1.0, 30: float("nan"), 33: 0.5}
    go(run, 33, evaluate=lambda units: {"score": scores[units]}, cadence=cadence(evaluate_every_units=10))
    assert run.best_step() == 21


def test_the_best_checkpoint_is_the_one_with_the_highest_score_later_of_equals(run: Run) -> None:
    scores = {12: 1.0, 21: 5.0, 30: 5.0, 42: 3.0, 45: 4.0}
    result = go(run, 45, evaluate=lambda units: {"score": scores[units]}, cadence=cadence(evaluate_every_units=10))
    assert logged(run, "eval/score") == list(scores.items())  # at the end too
    assert (result.state.best_score, result.state.best_units) == (5.0, 30)
    assert run.load("best")["loop"]["units"] == 30
    assert run.load("last")["loop"]["units"] == 45


def test_the_last_evaluation_may_be_the_best(run: Run) -> None:
    go(run, 45, evaluate=lambda units: {"score": float(units)}, cadence=cadence(evaluate_every_units=20))
    assert run.load("best")["loop"]["best_units"] == run.load("last")["loop"]["units"] == 45


def test_a_run_without_evaluation_cadence_is_not_evaluated(run: Run) -> None:
    go(run, 30, evaluate=lambda units: pytest.fail("evaluated"))


def test_evaluation_is_not_counted_as_training_time(run: Run) -> None:
    def evaluate(units: int) -> dict[str, float]:
        time.sleep(0.2)
        return {"score": 0.0}

    go(run, 24, evaluate=evaluate, cadence=cadence(evaluate_every_units=10))
    speeds = dict(logged(run, "speed/units_per_second"))
    assert speeds[21] > 9 / 0.15  # the nine units after the evaluation at 12 took no 0.2 seconds


def without_clock(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "time" and not name.startswith("speed/")}


@pytest.mark.parametrize("stop_at_update", [1, 5, 8, 20, 27])
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, stop_at_update: int) -> None:
    settings: dict[str, Any] = {
        "evaluate": lambda units: {"score": float(-abs(units - 30))},
        "cadence": cadence(evaluate_every_units=15),
    }
    whole, parts = make_run(tmp_path), make_run(tmp_path)
    learner = ToyLearner()
    result = go(whole, 61, learner=learner, **settings)

    interrupt = ToyLearner(lambda update: os.kill(os.getpid(), signal.SIGTERM) if update == stop_at_update else None)
    assert go(parts, 61, learner=interrupt, **settings).reason == "SIGTERM"
    parts.log(10**6, {"train/loss": 0.0})  # written after the checkpoint, by a process that was then killed
    parts.close()

    parts = Run.open(parts.path)
    resumed, source, state = ToyLearner(), ToySource(seed=99), LoopState()
    assert load_run(parts, resumed, source, state)
    again = go(parts, 61, learner=resumed, source=source, state=state, **settings)
    assert torch.equal(resumed.weight, learner.weight)
    for name in ("units", "updates", "best_score", "best_units", "sums", "count"):
        assert getattr(again.state, name) == getattr(result.state, name), name
    assert [without_clock(line) for line in parts.metrics()] == [without_clock(line) for line in whole.metrics()]


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    whole, parts = make_run(tmp_path), make_run(tmp_path)
    learner = ToyLearner()
    go(whole, 60, learner=learner)
    go(parts, 33)
    resumed, source, state = ToyLearner(), ToySource(seed=99), LoopState()
    load_run(parts, resumed, source, state)
    go(parts, 60, learner=resumed, source=source, state=state)
    assert torch.equal(resumed.weight, learner.weight)
    assert [without_clock(line) for line in parts.metrics()] == [without_clock(line) for line in whole.metrics()]


class BulkySource(ToySource):
    """Notes in which order its bulk data are written, read and pruned."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.calls: list[Any] = []

    def save_bulk(self, folder: Path) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        self.calls.append(("save", self.checkpoint()))
        return {"units": self.units}

    def prune_bulk(self, folder: Path) -> None:
        self.calls.append(("prune", self.checkpoint()))

    def load_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.calls.append(("load", manifest["units"]))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls.append(("state", state["units"]))

    def checkpoint(self) -> int:
        return max(self.run.steps(), default=0)


def test_bulk_data_come_before_the_checkpoint_and_are_pruned_after_it(run: Run) -> None:
    source = BulkySource(run)
    go(run, 6, source=source, cadence=cadence(checkpoint_every_minutes=0.0))
    assert source.calls[:4] == [("save", 0), ("prune", 3), ("save", 3), ("prune", 6)]


def test_bulk_data_are_loaded_before_the_state(run: Run) -> None:
    go(run, 6, source=BulkySource(run))
    source = BulkySource(run)
    assert load_run(run, ToyLearner(), source, LoopState())
    assert source.calls == [("load", 6), ("state", 6)]


def test_bulk_data_that_were_deleted_to_make_room_are_not_asked_for(run: Run) -> None:
    go(run, 6, source=BulkySource(run))
    (run.path / "replay").rmdir()
    source = BulkySource(run)
    assert not load_run(run, ToyLearner(), source, LoopState())
    assert source.calls == [("state", 6)]


def test_without_bulk_data_the_source_is_not_asked_for_them(run: Run) -> None:
    source = BulkySource(run)
    go(run, 6, source=source, cadence=cadence(save_bulk=False))
    assert source.calls == []
    assert not load_run(run, ToyLearner(), source, LoopState())
    assert source.calls == [("state", 6)]


def test_the_progress_line_shows_steps_rate_time_left_and_score(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"rollout/score_mean": 12.34, "rollout/exploration": 0.25}
    monkeypatch.setattr(ToySource, "metrics", lambda self: names)
    go(run, 1200, progress=True)
    line = capsys.readouterr().out.splitlines()[-1]
    for part in ("1,200/1,200 units", "/s", "gone", "0:00 left", "score 12.3", "epsilon 0.25"):
        assert part in line, line
