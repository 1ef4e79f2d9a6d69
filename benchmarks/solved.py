"""What the README claims of the small tasks: CartPole with DQN, and the tabular tasks against value iteration.

Everything goes through the commands that a user types. CartPole: `agents.train cartpole --seed S`, then the checkpoint
called `best` (chosen on other games) plays 100 fresh games. Tabular: `agents.train TASK --seed S`, then the greedy policy
of the last table is evaluated exactly (a linear solve) on the environment's own transition probabilities and compared
with value iteration, both at the start distribution with the agent's discount.

    python benchmarks/solved.py [--seeds 5] [--tasks cartpole gridworld frozen-lake taxi cliff-walking]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import write_result

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
    import os

    return os.environ | {"APRENDIZ_RUNS": str(runs)}


def cartpole(seed: int, runs: Path) -> dict[str, Any]:
    from agents.evaluate import evaluate
    from agents.saved import load_saved
    from aprendiz.run import Run

    path, seconds = train("cartpole", seed, runs)
    found = evaluate(load_saved(Run.open(path), "best", "cpu"), episodes=100, seed=1000, explore=0.01)
    return {"seed": seed, "mean": found["mean"], "min": found["min"], "step": found["checkpoint_step"], "seconds": seconds}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=["cartpole", *TABULAR], choices=["cartpole", *TABULAR])
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            results[task] = []
            for seed in range(1, arguments.seeds + 1):
                runs = Path(folder)
                results[task].append(cartpole(seed, runs) if task == "cartpole" else tabular(task, seed, runs))
                print(task, results[task][-1], flush=True)
    write_result("solved", results)


if __name__ == "__main__":
    main()
