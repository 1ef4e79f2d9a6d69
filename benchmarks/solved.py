"""What the README claims of the small tasks: CartPole with DQN, and the tabular tasks against value iteration.

Everything goes through the commands that a user types. CartPole: `agents.train cartpole --seed S`, then the
checkpoint called `best` (chosen on other games) plays 100 fresh games. Tabular: `agents.train TASK --seed S`, then the
greedy policy of the last table is evaluated exactly (a linear solve) on the environment's own transition probabilities
and compared with value iteration, both at the start distribution with the agent's discount.

    python -m benchmarks.solved [--seeds 5] [--tasks cartpole taxi]
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from benchmarks.agent_runs import against_the_optimum, scores, train
from benchmarks.common import BenchmarkOptions, machine, write_result

TABULAR = ("gridworld", "frozen-lake", "taxi", "cliff-walking")


def cartpole(seed: int, runs: Path) -> dict[str, Any]:
    path, seconds = train(["cartpole", "--seed", str(seed), "--no-video"], runs)
    found = scores(path, "best", 100)
    kept = {"mean": found["mean"], "min": found["min"], "checkpoint_step": found["checkpoint_step"]}
    return {"seed": seed, "seconds": seconds} | kept


def tabular(task: str, seed: int, runs: Path) -> dict[str, Any]:
    path, seconds = train([task, "--seed", str(seed), "--no-video"], runs)
    return {"seed": seed} | against_the_optimum(path) | {"seconds": seconds}


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
