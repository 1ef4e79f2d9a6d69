"""Which agents solve CartPole within 50,000 steps, and how often: each agent, several seeds.

Everything goes through the commands that a user types: `agents.train cartpole --agent NAME --seed S --steps 50_000`,
then the checkpoint called `best` (chosen on other games) plays 100 fresh games, once with 1% random actions, as
everywhere here, and once without. Solved means 500 on average, which is the most there is. The file of results is
written after every run, and a run that stands in it already is not made again: stop and start it as you like.

    python -m benchmarks.cartpole [--agents c51 rainbow] [--seeds 5] [--jobs 2]
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from benchmarks.agent_runs import finished, precision_of, scores, side_by_side, threads_of, train
from benchmarks.common import BenchmarkOptions, machine, made_by, print_table, write_result

AGENTS = (
    "dqn",
    "dqn --n-step 1",  # whose default here is ten steps, as that of all that derive from it
    "double-dqn",
    "dueling-dqn",
    "prioritized-dqn",
    "n-step-dqn",
    "noisy-dqn",
    "c51",
    "qr-dqn",
    "iqn",
    "munchausen-dqn",
    "rainbow",
    "btr",
    "drqn",
    "pqn",
)
MOST = 500.0
"""Steps, and so points, after which a game of CartPole is stopped."""
EPISODES = 100


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Which agents solve CartPole, and how often."""

    agents: tuple[str, ...] = AGENTS
    """Which agents, each with options of its own behind its name."""
    seeds: int = 5
    """Runs of each, with seeds 1, 2, ..."""
    steps: int = 50_000
    """Environment steps of a run."""
    preset: str = "default"
    """Of every agent."""
    jobs: int = 1
    """Runs at a time, each on its share of the cores."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "jobs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}")


def solve(agent: str, seed: int, options: Options) -> dict[str, Any]:
    """One run through the command, and what its best checkpoint scores."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["cartpole", "--agent", *agent.split(), "--seed", str(seed), "--steps", str(options.steps)]
        words += ["--preset", options.preset, "--no-video", "--device", "cpu"]
        run, seconds = train(words, Path(folder), threads=threads_of(options.jobs))
        scored = scores(run, "best", EPISODES)
        greedy = scores(run, "best", EPISODES, explore=0.0)
        precision = precision_of(run)
    return {
        "agent": agent,
        "seed": seed,
        "mean": scored["mean"],
        "min": scored["min"],
        "greedy_mean": greedy["mean"],
        "checkpoint_step": scored["checkpoint_step"],
        "seconds": round(seconds, 1),
        **made_by(),
        "precision": precision,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By agent: how many of its runs reach 500 with 1% random actions and without, their means, the longest time."""
    by_agent: dict[str, list[dict[str, Any]]] = {}
    for one in runs:
        by_agent.setdefault(one["agent"], []).append(one)
    return {
        agent: {
            "runs": len(found),
            "solved": sum(one["mean"] == MOST for one in found),
            "solved_greedily": sum(one["greedy_mean"] == MOST for one in found),
            "means": [one["mean"] for one in found],
            "seconds": max(one["seconds"] for one in found),
        }
        for agent, found in by_agent.items()
    }


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.cartpole", description=__doc__ or "")
    before, runs = machine(), list(finished("cartpole", options, ("steps", "preset")).get("runs", ()))
    there = {(one["agent"], one["seed"]) for one in runs}
    missing = [  # all agents once, before any of them again
        functools.partial(solve, agent, seed, options)
        for seed in range(1, options.seeds + 1)
        for agent in options.agents
        if (agent, seed) not in there
    ]
    for one in side_by_side(missing, options.jobs):
        runs.append(one)
        print(one, flush=True)
        write_result("cartpole", options, {"summary": summary(runs), "runs": runs}, before)
    rows = [("agent", "solved", "of", "greedily", "least mean", "longest, s")]
    for agent, found in summary(runs).items():
        counts = (found["solved"], found["runs"], found["solved_greedily"])
        rows.append((agent, *map(str, counts), f"{min(found['means']):.1f}", f"{found['seconds']:.0f}"))
    print_table(rows)
    return 0


if __name__ == "__main__":
    main(run_command)
