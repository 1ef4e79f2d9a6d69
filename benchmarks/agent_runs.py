"""Training agents through the command, as a user does, and going on where a long series of runs was stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, cores

FIRST_SEED = 1000
"""Of the games that are reported."""


def train(words: Sequence[str], runs: Path, *, threads: int | None = None) -> tuple[Path, float]:
    """`agents.train` with these words, on so many threads (None: its own choice): the run's folder under `runs`, and
    the wall-clock seconds of the whole command.

    Raises CalledProcessError where the command does not end well; what it said against that is on stderr.
    """
    command = [sys.executable, "-m", "agents.train", *words, "--wandb", "disabled"]
    environment = os.environ | {"APRENDIZ_RUNS": str(runs)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    found = re.search(rf"{re.escape(str(runs))}/\S+", done.stdout)
    assert found is not None, done.stdout
    return Path(found.group()), seconds


def precision_of(run: Path) -> str:
    """What the networks of a run computed in: fp32 or bf16."""
    from aprendiz.run import Run

    return str(Run.open(run).config["precision"])


def threads_of(jobs: int) -> int | None:
    """Threads for each of so many runs at a time; None for one run, which may take what it likes."""
    return None if jobs == 1 else max(1, cores() // jobs)


def side_by_side(work: Iterable[Callable[[], dict[str, Any]]], jobs: int) -> Iterator[dict[str, Any]]:
    """What the functions return, `jobs` of them at a time, as they come in; started in their order. Where one raises,
    those that have not begun are left out."""
    if jobs > 1:
        import torch

        torch.set_num_threads(1)  # for playing games, beside runs that learn
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one) for one in work]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def scores(run: Path, which: str, episodes: int, *, explore: float = 0.01) -> dict[str, Any]:
    """What a checkpoint of a run, `last` or `best`, scores in fresh games: as `agents.evaluate` reports it."""
    from agents.evaluate import evaluate
    from agents.saved import load_saved
    from aprendiz.run import Run

    saved = load_saved(Run.open(run), which, "cpu")
    return evaluate(saved, episodes=episodes, seed=FIRST_SEED, explore=explore)


def against_the_optimum(run: Path) -> dict[str, float]:
    """Of a tabular run: value iteration's value at the start distribution, that of the greedy policy of the last table
    (an exact linear solve), both with the agent's discount, and the relative gap between them."""
    from agents.saved import load_saved
    from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
    from aprendiz.run import Run

    saved = load_saved(Run.open(run), "last", "cpu")
    table = saved.make_env(1).table()
    assert table is not None
    discount = saved.agent.config.discount
    optimal = start_value(table, value_iteration(table, discount)[0])
    learned = start_value(table, policy_value(table, greedy_policy(saved.agent.q), discount))  # type: ignore[attr-defined]
    return {"optimal": optimal, "learned": learned, "gap": abs(optimal - learned) / abs(optimal)}


def learning_curve(run: Path) -> list[dict[str, float]]:
    """The evaluations on the way: environment steps, seconds of training (evaluations included), mean score."""
    from aprendiz.run import Run

    return [
        {"env_steps": line["step"], "seconds": line["time"], "score": line["eval/score"]}
        for line in Run.open(run).metrics()
        if line.get("eval/score") is not None
    ]


def reached(curve: Sequence[dict[str, float]], goal: float) -> dict[str, float] | None:
    """The first evaluation of a learning curve that scores at least `goal`."""
    return next((point for point in curve if point["score"] >= goal), None)


def finished(name: str, options: BenchmarkOptions, same: Sequence[str]) -> dict[str, Any]:
    """What stands in the file of results of a series that was stopped, {} where there is none.

    Raises ConfigError where it was made with other values of the options `same`.
    """
    path = options.results / f"{name}.json"
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    for option in same:
        there, asked = content["options"].get(option), getattr(options, option)
        if there != (list(asked) if isinstance(asked, tuple) else asked):
            raise ConfigError(f"{path} was made with {option} {there}, not {asked}; choose another --results")
    return content
