"""The one training loop: it knows about time, and nothing about any algorithm.

A *source* makes batches, a *learner* learns from them, a *run* keeps what comes out. The loop asks the source for work,
hands the batch to the learner, counts units (environment steps, images, tokens) and decides when to log, evaluate, save
and stop. All of that happens at safe points only, which the source announces: a saved run can always be resumed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from aprendiz.device import used_memory
from aprendiz.errors import CheckpointError, DivergedError, StorageError
from aprendiz.progress import ProgressLine
from aprendiz.stop_signals import StopRequested, StopSignals

if TYPE_CHECKING:
    from aprendiz.run import Run


@dataclass(frozen=True, slots=True)
class Work:
    """What a source hands to the loop."""

    batch: Any | None
    """What the learner is updated on; None while time passes without learning (warm-up, acting)."""
    units: int
    """How many units (the family's own: environment steps, images, tokens) passed since the last `next()`."""
    safe_point: bool
    """Whether the run may be saved or stopped before the next `next()`: never while actions are on their way."""


@dataclass(slots=True)
class Outcome:
    """What one update of a learner tells."""

    metrics: Mapping[str, Tensor | float]
    """Scalars (0-d tensors stay on their device until the loop logs them)."""
    per_sample: dict[str, Tensor] = field(default_factory=dict)
    """Tensors [B], for the source: new priorities, for instance."""


class Learner(Protocol):
    """What the loop needs of anything that learns."""

    def update(self, batch: Any) -> Outcome: ...
    def modules(self) -> dict[str, torch.nn.Module]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Source:
    """Where batches come from: a data set, a text, or acting in an environment. Subclasses replace what they need."""

    bulky: ClassVar[bool] = False
    """Whether it has bulk data: a replay memory, say."""

    def next(self, limit: int | None = None) -> Work:
        """The next piece of work. `limit`: units left in the budget (None: no end), which it should not pass."""
        raise NotImplementedError

    def feedback(self, batch: Any, outcome: Outcome) -> None:
        """Called after each update with what came out of it."""

    def metrics(self) -> dict[str, float]:
        """Scalars for the log and the progress line, by their full names (`rollout/score_mean`)."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything but bulk data that is needed to go on exactly."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The counterpart of `state_dict`."""

    def save_bulk(self, folder: Path) -> dict[str, Any]:
        """Writes what is new of the bulk data (a replay memory) into `folder`; returns its manifest."""
        return {}

    def has_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """Whether all that a manifest lists is still there: of older checkpoints it goes when it is overwritten."""
        return True

    def load_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """The counterpart of `save_bulk`."""

    def prune_bulk(self, folder: Path) -> None:
        """Called when a checkpoint is complete: deletes bulk files that neither it nor the one before needs."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a run ends: at so many units, or when the clock says so, whichever comes first."""

    units: int | None = None
    minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often the loop does what. Units are the source's; fixed when the run is created and saved with it."""

    log_every_units: int
    evaluate_every_units: int | None = None
    checkpoint_every_minutes: float = 5.0
    step_name: str = "env_steps"
    """Name of the unit, and of the x axis of every metric."""
    save_bulk: bool = True
    """Whether checkpoints hold the source's bulk data (the replay memory)."""


@dataclass
class LoopState:
    """The loop's own memory, saved in every checkpoint."""

    units: int = 0
    updates: int = 0
    elapsed_seconds: float = 0.0
    """Wall-clock seconds of training, over all sessions of the run."""
    evaluated_units: int = 0
    """Units at the last evaluation: one that a signal cut off is made up for."""
    best_score: float = -math.inf
    best_units: int | None = None
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    """Sums of the learner's metrics since the last log line."""
    count: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, state[name])
        self.sums = dict(self.sums)


@dataclass(frozen=True)
class TrainResult:
    """How `train` ended. `reason` is "finished", "clock" or the name of a signal ("SIGINT", "SIGTERM")."""

    reason: str
    state: LoopState


Evaluate = Callable[[int], Mapping[str, float]]
"""Takes the units so far; returns metrics, among them "score" (higher is better), which chooses `best`."""


def crossed(before: int, after: int, period: int) -> int:
    """How many multiples of `period` lie in (before, after]. With several environments a counter jumps over multiples,
    so that `step % period == 0` would miss them."""
    return after // period - before // period


def train(
    learner: Learner,
    source: Source,
    run: Run,
    budget: Budget,
    evaluate: Evaluate | None = None,
    *,
    cadence: Cadence,
    state: LoopState | None = None,
    progress: bool = True,
) -> TrainResult:
    """Runs until the budget is spent or a signal asks to stop, and saves at the end.

    The result depends on the seed alone, never on the clock: what happens by the clock (saving, drawing the progress
    line) changes nothing that is learned. Raises what the learner, the source or the disk raises, and DivergedError
    where what is learned is no longer finite: looked for whenever metrics are logged, before every evaluation and
    before every checkpoint, so that none is ever saved broken. The run's status is then "diverged".
    """
    state = state or LoopState()
    session_start = time.perf_counter() - state.elapsed_seconds

    def clock() -> float:
        return time.perf_counter() - session_start

    last_log = (state.units, state.updates, clock())
    next_save = clock() + 60.0 * cadence.checkpoint_every_minutes
    saved_at = -1
    reason = ""
    line = ProgressLine(cadence.step_name, budget.units, budget.minutes, enabled=progress)

    def save(best: bool = False) -> None:
        nonlocal saved_at, next_save
        check_finite(run, learner, state, cadence, last_log[0])
        state.elapsed_seconds = clock()
        save_run(run, learner, source, state, cadence, best=best)
        saved_at = state.units
        next_save = clock() + 60.0 * cadence.checkpoint_every_minutes

    with StopSignals() as signals, line:
        every = cadence.evaluate_every_units if evaluate else None

        def evaluate_now() -> str:
            """Evaluates and keeps the best; a signal ends it at once, and it is made up for when the run goes on."""
            nonlocal last_log
            assert evaluate is not None
            check_finite(run, learner, state, cadence, last_log[0])
            started = clock()
            try:
                with signals.interrupting():
                    metrics = dict(evaluate(state.units))
            except StopRequested:
                return signals.received
            state.evaluated_units = state.units
            if keep_best(run, state, metrics):
                save(best=True)
            last_log = (*last_log[:2], last_log[2] + clock() - started)  # evaluation is not training time
            return ""

        if budget.units is not None and state.units >= budget.units:
            reason = "finished"
        if every and crossed(state.evaluated_units, state.units, every):
            reason = evaluate_now() or reason
        before = state.units  # at the last safe point
        while not reason:
            work = source.next(None if budget.units is None else budget.units - state.units)
            if work.batch is not None:
                outcome = learner.update(work.batch)
                source.feedback(work.batch, outcome)
                state.updates += 1
                accumulate(state, outcome.metrics)
            state.units += work.units
            if not work.safe_point:
                continue
            seconds = clock()
            if line.due(seconds):
                line.show(state.units, seconds, source.metrics())
            if crossed(before, state.units, cadence.log_every_units):
                check_finite(run, None, state, cadence, last_log[0])
                log(run, state, source, last_log, seconds)
                last_log = (state.units, state.updates, seconds)
            if budget.units is not None and state.units >= budget.units:
                reason = "finished"
            elif budget.minutes is not None and seconds >= 60.0 * budget.minutes:
                reason = "clock"
            elif signals.received:
                reason = signals.received
            due = every and (crossed(before, state.units, every) or reason in ("finished", "clock"))
            if due:  # a run whose last evaluation is still owed has not finished
                reason = signals.received or evaluate_now() or reason
            if not reason and clock() >= next_save:
                save()
            before = state.units
        if saved_at != state.units or reason != "finished":
            save()
        line.show(state.units, clock(), source.metrics())
    run.set_status("finished" if reason in ("finished", "clock") else "stopped", step=state.units)
    return TrainResult(reason, state)


def save_run(
    run: Run, learner: Learner, source: Source, state: LoopState, cadence: Cadence, *, best: bool = False
) -> None:
    """One checkpoint: bulk data first (append-only, so that the older checkpoint stays whole), then the rest."""
    bulk = source.save_bulk(run.path / "replay") if cadence.save_bulk else None
    run.save(
        state.units,
        {"learner": learner.state_dict(), "source": source.state_dict(), "loop": state.state_dict(), "bulk": bulk},
        best=best,
    )
    if bulk is not None:
        source.prune_bulk(run.path / "replay")


def load_run(run: Run, learner: Learner, source: Source, state: LoopState, which: str | int = "last") -> bool:
    """Puts everything back as `save_run` found it, and cuts the metrics back to that point.

    Returns False when the checkpoint has no bulk data (it was saved without its replay memory, or that has been deleted
    or overwritten since): then the source starts with an empty one. Raises CheckpointError or RunError when the
    checkpoint cannot be read, or does not fit the learner.
    """
    saved = run.load(which)
    try:
        learner.load_state_dict(saved["learner"])
        # Whoever needed room may have deleted the whole folder; anything less than that is damage.
        pruned = bool(saved["bulk"]) and not (run.path / "replay").is_dir()
        whole = saved["bulk"] is not None and not pruned
        if whole and which != "last":
            whole = source.has_bulk(run.path / "replay", saved["bulk"])
        if whole:
            source.load_bulk(run.path / "replay", saved["bulk"])
        source.load_state_dict(saved["source"])
        state.load_state_dict(saved["loop"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"checkpoint {which} of {run.name} does not fit its own config.json ({reason}); choose another with "
            f"--checkpoint, there are {', '.join(map(str, run.steps()))}"
        ) from error
    run.truncate_metrics(state.units)
    return whole


def accumulate(state: LoopState, metrics: Mapping[str, Tensor | float]) -> None:
    """Adds up metrics without waiting for the device."""
    state.count += 1
    for name, value in metrics.items():
        value = value.detach() if isinstance(value, Tensor) else value
        state.sums[name] = state.sums[name] + value if name in state.sums else value


def check_finite(run: Run, learner: Learner | None, state: LoopState, cadence: Cadence, since: int) -> None:
    """Raises DivergedError where a sum of metrics or, if a learner is given, a weight of it is NaN or infinite.

    `since`: units at the last log line, from which on the metrics were summed.
    """
    broken = next((name for name, total in state.sums.items() if not math.isfinite(float(total))), None)
    what = f"{broken} became {float(state.sums[broken])}" if broken is not None else ""
    if not what and learner is not None:
        weights = {
            f"{name}.{inner}": weight
            for name, module in learner.modules().items()
            for inner, weight in module.named_parameters()
        }
        finite = {name: torch.isfinite(weight.detach()).all() for name, weight in weights.items()}
        broken = next((name for name, good in finite.items() if not good), None)
        what = f"weight {broken} is no longer finite" if broken is not None else ""
    if not what:
        return
    unit, steps = cadence.step_name.replace("_", " "), run.steps()
    kept = f"checkpoint {steps[-1]:,} is whole and kept" if steps else "no checkpoint had been saved before"
    with contextlib.suppress(StorageError):  # what broke is the thing to tell
        run.set_status("diverged", step=steps[-1] if steps else 0)
    raise DivergedError(
        f"{run.name} diverged: {what} between {since:,} and {state.units:,} {unit}; {kept}; lower the learning rate"
    )


def log(run: Run, state: LoopState, source: Source, last: tuple[int, int, float], seconds: float) -> None:
    """One line of metrics: means of the learner's since the last line, the source's own, and the speed."""
    metrics = {f"train/{name}": float(total) / state.count for name, total in state.sums.items()}
    state.sums, state.count = {}, 0
    passed = max(seconds - last[2], 1e-9)
    metrics |= source.metrics()
    metrics |= {
        "speed/units_per_second": (state.units - last[0]) / passed,
        "speed/updates_per_second": (state.updates - last[1]) / passed,
        "train/updates": state.updates,
        **used_memory(),
    }
    run.log(state.units, metrics, seconds=seconds)


def keep_best(run: Run, state: LoopState, metrics: Mapping[str, float]) -> bool:
    """Logs an evaluation, and says whether it is the best so far. Of equal scores the later one counts."""
    run.log(state.units, {f"eval/{name}": value for name, value in metrics.items()}, seconds=None)
    if not metrics["score"] >= state.best_score:  # nor is NaN
        return False
    state.best_score, state.best_units = metrics["score"], state.units
    return True
