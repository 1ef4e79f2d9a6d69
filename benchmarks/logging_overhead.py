"""How much of a training run's time does logging take?

A CartPole run, made by `agents.train` as a user would make it, with Weights & Biases offline. Timed inside that run:
    each call   of `Run.log`, which appends to metrics.jsonl and hands over to the tracker, flushes to W&B included;
    training    the whole loop, the evaluations on the way included: what the calls are a share of;
    once        W&B's start and its end, and the CPU time of its background process, which no call waits for.

    python -m benchmarks.logging_overhead
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil

from agents.train import run_command as train
from aprendiz import session
from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.run import Run
from aprendiz.tracking import Tracker
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Share of a CartPole run's time that logging takes."""

    steps: int = 50_000
    """Environment steps of each run."""
    repeats: int = 3
    """Runs, with one seed each."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.repeats < 1:
            raise ConfigError("--steps and --repeats must be at least 1")


class Stopwatch:
    """Seconds of each call of what it wraps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds.append(time.perf_counter() - start)

        return timed


def measure(steps: int, seed: int) -> dict[str, Any]:
    """One run."""
    log, flush, start, finish, loop = (Stopwatch() for _ in range(5))
    background: list[float] = []
    finish_of_tracker = Tracker.finish

    def finish_and_ask(tracker: Tracker, *arguments: Any) -> None:
        if tracker.active:  # its process ends with it: the last moment to ask
            background.append(children_cpu_seconds())
        finish.around(finish_of_tracker)(tracker, *arguments)

    with ExitStack() as stack:
        for owner, name, replacement in (
            (Run, "log", log.around(Run.log)),
            (Tracker, "flush", flush.around(Tracker.flush)),
            (Run, "track", start.around(Run.track)),
            (Tracker, "finish", finish_and_ask),
            (session, "train", loop.around(session.train)),
        ):
            stack.enter_context(patch.object(owner, name, replacement))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="logging-"))
        stack.enter_context(patch.dict(os.environ, {"APRENDIZ_RUNS": folder}))
        code = train(["cartpole", f"--steps={steps}", f"--seed={seed}", "--wandb=offline", "--no-video"])
    if code:
        raise SystemExit(code)
    return {
        "training_seconds": sum(loop.seconds),
        "calls": len(log.seconds),
        "flushes_to_wandb": len(flush.seconds),
        "log_seconds": sum(log.seconds),
        "share": sum(log.seconds) / sum(loop.seconds),
        "microseconds_per_call": {
            "mean": 1e6 * float(np.mean(log.seconds)),
            "median": 1e6 * float(np.median(log.seconds)),
            "max": 1e6 * max(log.seconds),
        },
        "wandb_start_seconds": sum(start.seconds),
        "wandb_finish_seconds": sum(finish.seconds),
        "wandb_background_cpu_seconds": sum(background),
    }


def children_cpu_seconds() -> float:
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.logging_overhead", description=__doc__ or "")
    before = machine()
    runs = [measure(options.steps, seed) for seed in range(1, options.repeats + 1)]
    share = spread([run["share"] for run in runs])
    rows = [("seed", "training s", "calls", "in log s", "share", "mean us", "W&B start s", "end s", "background CPU s")]
    rows += [
        (
            str(seed),
            f"{run['training_seconds']:.1f}",
            f"{run['calls']:,}",
            f"{run['log_seconds']:.3f}",
            f"{run['share']:.2%}",
            f"{run['microseconds_per_call']['mean']:.0f}",
            f"{run['wandb_start_seconds']:.2f}",
            f"{run['wandb_finish_seconds']:.2f}",
            f"{run['wandb_background_cpu_seconds']:.2f}",
        )
        for seed, run in enumerate(runs, start=1)
    ]
    print()
    print_table(rows)
    print(f"\nlogging takes {share['median']:.2%} of training (median of {options.repeats})")
    write_result("logging_overhead", options, {"share": share, "runs": runs}, before)
    return 0


if __name__ == "__main__":
    main(run_command)
