"""What training commands of all families share: budgets of resumed runs, what is chosen by measuring, the training of a
run, and how it ends."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aprendiz.device import choose_device, flush_denormals, keep_freed_memory
from aprendiz.errors import ConfigError, DivergedError, RunError, StorageError
from aprendiz.loop import (
    Budget,
    Cadence,
    Evaluate,
    Learner,
    LoopState,
    Source,
    TrainResult,
    load_run,
    save_run,
    train,
)

if TYPE_CHECKING:
    import torch

    from aprendiz.run import Run

MEASURE_SECONDS = 2.5
"""How long each precision is tried when a run is created."""
MEASURE_SHARE, LONGEST_MEASURE_SECONDS = 0.01, 20.0
"""How long the machine is then tried for a plan: this part of the time that is planned for, and at most so long."""


@dataclass(frozen=True)
class Unit:
    """What a family counts: environment steps, images, tokens."""

    key: str
    """Its name in a run's budget, and the x axis of every metric: `env_steps`."""
    words: str
    """In a sentence: `steps`."""
    flag: str
    """The option that gives a total: `--steps`."""
    in_full: str
    """Where nobody may take them for others: `environment steps`."""


def check_positive(options: Any, *names: str) -> None:
    """Raises ConfigError for an option that is given, and not a finite number above 0."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} must be above 0, got {value}")


def check_budget(options: Any, units: str, *others: str) -> None:
    """Raises ConfigError for epochs, `units` (images, say), minutes or `others` that are no finite numbers above 0, and
    where both epochs and units are given."""
    check_positive(options, "epochs", units, "minutes", *others)
    if options.epochs is not None and getattr(options, units) is not None:
        raise ConfigError(f"give --epochs or --{units}, not both")


def check_not_negative(options: Any, *names: str) -> None:
    """Raises ConfigError for an option below 0."""
    for name in names:
        if (getattr(options, name) or 0) < 0:
            raise ConfigError(f"--{name} must be 0 or more, got {getattr(options, name)}")


def require_entries(run: Run, names: Sequence[str]) -> None:
    """Raises RunError where the run's config lacks one of them."""
    if missing := [name for name in names if name not in run.config]:
        raise RunError(f"{run.path / 'config.json'} lacks {', '.join(missing)}: it was cut, or changed by hand")


def checkpoint_choice(text: str | None, otherwise: str = "last") -> str | int:
    """`last`, `best`, or a step such as `50_000` as a number; `otherwise` where none is given. Raises ConfigError for
    anything else."""
    if text is None:
        return otherwise
    if text in ("last", "best"):
        return text
    if not text.replace("_", "").isdecimal():
        raise ConfigError(f"checkpoint {text!r} is not last, best or a step such as 50_000")
    return int(text)


def chosen_checkpoint(run: Run, text: str | None) -> str | int:
    """What `checkpoint_choice` makes of `text`; None is `best` where the run has such a checkpoint, else `last`."""
    return checkpoint_choice(text, "last" if run.best_step() is None else "best")


def device_for(name: str, allowed: Sequence[str], owner: str, *, small: bool) -> torch.device:
    """The device asked for. `auto` means the CPU where networks are small, and where the learner does not know the
    device that this machine has.

    Raises ConfigError where there is no such device, or `owner` does not live on it.
    """
    device = choose_device("cpu" if name == "auto" and small else name)
    if name == "auto" and device.type not in allowed:
        device = choose_device("cpu")
    if device.type not in allowed:
        raise ConfigError(f"{owner} lives on {', '.join(allowed)}, not on {name}")
    return device


def set_threads(saved: int | None, device: torch.device, *, small: bool) -> int:
    """Sets and returns PyTorch's threads: what the run had, else one for small networks (more only wait for each other)
    and PyTorch's own choice for others."""
    import torch

    if device.type == "cpu":
        keep_freed_memory()
        flush_denormals()
    threads = saved or (1 if small else torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads


def precisions_to_try(asked: str, known: Sequence[str], owner: str, *, small: bool) -> Sequence[str]:
    """What `--precision` leaves to choose from. Raises ConfigError where `owner` cannot learn in what was asked for."""
    if asked != "auto" and asked not in known:
        raise ConfigError(f"{owner} learns in {', '.join(known)}, not in {asked}; use --precision auto")
    candidates = tuple(known) if asked == "auto" else (asked,)
    return candidates[:1] if small else candidates  # small networks gain nothing from narrow numbers


def fastest(rates: Mapping[str, float]) -> tuple[str, float]:
    """The precision with the highest rate, and that rate. fp32 wins where the others gain less than a twentieth."""
    best = max(rates, key=lambda name: rates[name] * (1.05 if name == "fp32" else 1.0))
    return best, rates[best]


def rate_of(learner: Learner, source: Source, seconds: float | None = None) -> float:
    """Units a second of a learner and its source, after a moment to get going."""
    seconds = MEASURE_SECONDS if seconds is None else seconds
    started, units = math.inf, 0
    begin = time.perf_counter()
    while True:
        work = source.next()
        if work.batch is not None:
            source.feedback(work.batch, learner.update(work.batch))
        units += work.units
        now = time.perf_counter()
        if work.safe_point:
            if started == math.inf:
                if now - begin > 0.2 * seconds:
                    started, units = now, 0
            elif now - started > seconds:
                return units / (now - started)


def fastest_of(
    precisions: Sequence[str], make: Callable[[str], tuple[Learner, Source]], minutes: float | None = None
) -> tuple[str, float]:
    """The fastest of some precisions, and units a second: the real thing is run for a moment with each. Where `minutes`
    are to be planned for, the fastest is then run for longer: first moments are slow, and a plan that is short leaves
    time unused."""

    def rate(precision: str, seconds: float) -> float:
        learner, source = make(precision)
        try:
            return rate_of(learner, source, seconds)
        finally:
            close_source(source)

    longer = 0.0 if minutes is None else min(MEASURE_SHARE * 60 * minutes, LONGEST_MEASURE_SECONDS)
    if longer > MEASURE_SECONDS:
        print(f"trying for {longer:.0f} seconds how fast this machine is", flush=True)
    if len(precisions) == 1:
        return precisions[0], rate(precisions[0], max(MEASURE_SECONDS, longer))
    best, found = fastest({precision: rate(precision, MEASURE_SECONDS) for precision in precisions})
    return best, rate(best, longer) if longer > MEASURE_SECONDS else found


def close_source(source: Source) -> None:
    """Ends what a source left running in the background."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def round_plan(units: int) -> int:
    """To three leading digits: a plan, not a measurement."""
    scale = 10 ** max(int(math.log10(max(units, 1))) - 2, 0)
    return (units + scale // 2) // scale * scale


def planned_units(rate: float, minutes: float | None, units: int | None, default: int, smallest: int = 1) -> int:
    """How many units a run will make, as far as can be told: what schedules are laid out for."""
    if minutes is None:
        return units or default
    by_clock = max(round_plan(int(rate * 60 * minutes)), smallest)
    return min(by_clock, units) if units else by_clock


def extend_budget(budget: dict[str, Any], unit: Unit, units: int | None, minutes: float | None) -> None:
    """Sets the new totals of a run that is resumed; without any, everything stays."""
    if units is not None:
        budget[unit.key] = units
        budget["minutes"] = minutes  # None: the new total counts, not the clock of the first session
    elif minutes is not None:
        budget[unit.key], budget["minutes"] = None, minutes


def check_unfinished(run: Run, which: str | int, unit: Unit, *, new_total: bool) -> None:
    """Raises RunError where a checkpoint has already used up the run's budget; before anything is cut back to it.

    `new_total`: whether the user gave one in units.
    """
    budget = run.config["budget"]
    made = int(run.checkpoint(which).name.removeprefix("step-"))
    # A signal may have come in the last evaluation, which is then still owed.
    owed = not new_total and which == "last" and run.status()["state"] == "stopped"
    total, minutes = budget[unit.key], budget["minutes"]
    if total is not None and made >= total and not owed:
        raise RunError(
            f"{run.name} has already made {made:,} of {total:,} {unit.words}; give a larger total, as in "
            f"--resume {run.name} {unit.flag} {2 * made}"
        )
    if minutes is not None and not owed and (gone := run.load(which)["loop"]["elapsed_seconds"]) >= 60.0 * minutes:
        raise RunError(
            f"{run.name} has already trained for {gone / 60:.1f} of {minutes:g} minutes; give a larger total, as in "
            f"--resume {run.name} --minutes {2 * minutes:g}"
        )


def slower(hyperparameters: Mapping[str, Any], factor: float) -> dict[str, float]:
    """Every learning rate times `factor`. Raises ConfigError where there is none."""
    rates = {name: rate * factor for name, rate in _learning_rates(hyperparameters).items()}
    if not rates:
        raise ConfigError("this model has no learning rate that --learning-rate-factor could change")
    return rates


def lower_learning_rates(run: Run, prog: str) -> str:
    """What ends the line about a model that diverged: its learning rates, and how to go on with lower ones."""
    rates = _learning_rates(run.config["model"]["hyperparameters"]).items()
    text = f" ({', '.join(f'{name} is {rate:g}' for name, rate in rates)})" if rates else ""
    if not run.steps():
        return text
    return f"{text} in a new run, or go on with {prog} --resume {run.name} --learning-rate-factor 0.1"


def _learning_rates(hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: rate
        for name, rate in hyperparameters.items()
        if name.endswith("learning_rate") and not name.startswith("final") and isinstance(rate, (int, float))
    }


def change_model_run(run: Run, unit: Unit, units: int | None, options: Any) -> str | int:
    """Writes what `--resume` changes of the run of a model into its config: totals, epochs, learning rates. Returns the
    checkpoint to go on from. Raises RunError where it has used up its budget, ConfigError.

    `units`: the new total, as --epochs or the option of the unit gives it.
    """
    config = run.config
    extend_budget(config["budget"], unit, units, options.minutes)
    if units is not None or options.minutes is not None:
        config["budget"]["epochs"] = options.epochs
    which = checkpoint_choice(options.checkpoint)
    check_unfinished(run, which, unit, new_total=units is not None)
    if options.learning_rate_factor is not None:
        config["model"]["hyperparameters"] |= slower(config["model"]["hyperparameters"], options.learning_rate_factor)
    return which


def go_on(run: Run, learner: Learner, source: Source, which: str | int, unit: Unit) -> tuple[LoopState, bool]:
    """Loads a checkpoint, saves the run's changed config and says so. Returns the loop's state, and what `load_run`
    does."""
    state = LoopState()
    whole = load_checkpoint(run, learner, source, state, Cadence(**run.config["cadence"]), which)
    run.save_config()
    print(f"resuming {run.path} at {state.units:,} {unit.in_full}")
    run.set_status("running", step=state.units)
    return state, whole


def load_checkpoint(
    run: Run, learner: Learner, source: Source, state: LoopState, cadence: Cadence, which: str | int
) -> bool:
    """`load_run`; where `which` is an older checkpoint, it becomes the last one and what came after it goes."""
    whole = load_run(run, learner, source, state, which)
    if which != "last":
        # What the older checkpoint needs is saved anew before the later ones go.
        save_run(run, learner, source, state, cadence)
        run.go_back_to(state.units, state.best_units)
    return whole


def train_run(
    run: Run,
    learner: Learner,
    source: Source,
    state: LoopState,
    unit: Unit,
    *,
    evaluate: Evaluate | None,
    finish: Callable[[TrainResult], None],
    close: Callable[[], None],
    advice: Callable[[], str],
) -> int:
    """Trains to the end of the run's budget at its cadence, then does what is to `finish` it; see `run_to_end`."""
    budget, cadence = run.config["budget"], Cadence(**run.config["cadence"])

    def work() -> TrainResult:
        result = train(
            learner,
            source,
            run,
            Budget(units=budget[unit.key], minutes=budget["minutes"]),
            evaluate if cadence.evaluate_every_units else None,
            cadence=cadence,
            state=state,
        )
        finish(result)
        return result

    return run_to_end(run, state, work, close, advice)


def run_to_end(
    run: Run, state: LoopState, work: Callable[[], TrainResult], close: Callable[[], None], advice: Callable[[], str]
) -> int:
    """Does the `work` of a session: training, and what comes after it. Returns the command's exit code.

    That is 0, or 128 + the signal that stopped it. Whatever is raised marks the run as failed, comes out again, and
    leaves nothing open; `advice` ends the line about a training that diverged.
    """
    result: TrainResult | None = None
    try:
        result = work()
    except DivergedError as error:
        raise DivergedError(f"{error}{advice()}") from error
    except BaseException:
        with contextlib.suppress(StorageError):  # on a full disk the first error is the one to tell
            run.set_status("failed", step=state.units)
        raise
    finally:
        close()
        run.close()
        if run.tracker is not None:
            run.tracker.finish(0 if result else 1)
    if result.reason in ("finished", "clock"):
        return 0
    return 128 + signal.Signals[result.reason].value


# What they print


def print_pace(run: Run, state: LoopState, unit: Unit) -> None:
    """How far a training came, and how fast."""
    rate = state.units / max(state.elapsed_seconds, 1e-9)
    print(f"{state.units:,} {unit.in_full} in {state.elapsed_seconds:,.0f} s ({rate:,.0f}/s): {run.path}")


def summary_of(state: LoopState, unit: Unit) -> dict[str, Any]:
    """What stands in the summary of a tracked run."""
    summary: dict[str, Any] = {unit.key: state.units, "updates": state.updates, "seconds": state.elapsed_seconds}
    if state.best_units is not None:
        summary |= {"best_score": state.best_score, f"best_{unit.key}": state.best_units}
    return summary


def either(*ends: str) -> str:
    """What ends a run: those of `ends` that are not empty."""
    return " or ".join(end for end in ends if end)


def print_machine(config: Mapping[str, Any], rate: float, unit: Unit) -> None:
    """Device and precision of a run and, where it was measured, how fast that is."""
    speed = f"; about {rate:,.0f} {unit.in_full} a second here" if rate else ""
    print(f"  {config['device']}, {config['precision']}{speed}")
