"""What the README claims of the small tasks: CartPole with DQN, and the tabular tasks against value iteration.

Everything goes through the commands that a user types. CartPole: `agents.train cartpole --seed S`, then the
checkpoint called `best` (chosen on other games) plays 100 fresh games. Tabular: `agents.train TASK --seed S`, then the
greedy policy of the last table is evaluated exactly (a linear solve) on the environment's own transition probabilities
and compared with value iteration, both at the start distribution with the agent's discount.

    python -m benchmarks.solved [--seeds 5] [--tasks cartpole taxi]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from benchmarks.common import BenchmarkOptions, machine, write_result

TABULAR = ("gridworld", "frozen-lake", "taxi", "cliff-walking")


def train(task: str, seed: int, runs: Path) -> tuple[Path, float]:
    """The run's folder, and the wall-clock seconds of the whole command."""
    command = [sys.executable, "-m", "agents.train", task, "--seed", str(seed), "--wandb", "disabled", "--no-video"]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment(runs), check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    found = re.search(rf"{re.escape(str(runs))}/\S+", done.stdout)
    assert found is not None, done.stdout
    return Path(found.group()), seconds


def environment(runs: Path) -> dict[str, str]:
    return os.environ | {"APRENDIZ_RUNS": str(runs)}


def cartpole(seed: int, runs: Path) -> dict[str, Any]:
    from agents.evaluate import evaluate
    from agents.saved import load_saved
    from aprendiz.run import Run

    path, seconds = train("cartpole", seed, runs)
    found = evaluate(load_saved(Run.open(path), "best", "cpu"), episodes=100, seed=1000, explore=0.01)
    kept = {"mean": found["mean"], "min": found["min"], "checkpoint_step": found["checkpoint_step"]}
    return {"seed": seed, "seconds": seconds} | kept


def tabular(task: str, seed: int, runs: Path) -> dict[str, Any]:
    from agents.saved import load_saved
    from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
    from aprendiz.run import Run

    path, seconds = train(task, seed, runs)
    saved = load_saved(Run.open(path), "last", "cpu")
    table = saved.make_env(1).table()
    assert table is not None
    discount = saved.agent.config.discount
    optimal = start_value(table, value_iteration(table, discount)[0])
    learned = start_value(table, policy_value(table, greedy_policy(saved.agent.q), discount))  # type: ignore[attr-defined]
    gap = abs(optimal - learned) / abs(optimal)
    return {"seed": seed, "optimal": optimal, "learned": learned, "gap": gap, "seconds": seconds}


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    seeds: int = 5
    """Runs of each task, with seeds 1, 2, ..."""
    tasks: tuple[str, ...] = ("cartpole", *TABULAR)
    """Which tasks."""


def run(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.solved", description=__doc__ or "")
    before = machine()
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            results[task] = []
            for seed in range(1, options.seeds + 1):
                runs = Path(folder)
                results[task].append(cartpole(seed, runs) if task == "cartpole" else tabular(task, seed, runs))
                print(task, results[task][-1], flush=True)
    write_result("solved", options, results, before)
    return 0


if __name__ == "__main__":
    main(run)
