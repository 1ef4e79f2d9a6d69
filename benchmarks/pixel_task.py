"""All agents on a small task of pixels after the same minutes, and DQN beside Stable-Baselines3's after the same steps.

The task is a MiniGrid room seen from above as a colour picture (48x48): walk from anywhere to the goal; the score is
1 - 0.9 * steps / limit, or 0. Everything goes through the commands that a user types:

    clock    `agents.train TASK --agent NAME --seed S --minutes M` for each agent, with its default preset
             (`sb3-dqn`: `like-dqn`)
    steps    `dqn` and `sb3-dqn --preset like-dqn`, whose settings are equal, for the same environment steps

Several may run at a time, each on its share of the cores (`--jobs 2` of two: one core each, for all agents alike).

The checkpoint called `last` then plays 100 fresh games. Evaluations on the way say when a score was first reached, by
the clock and in steps. The file of results is written after every run, and what stands in it is not run again.

    python -m benchmarks.pixel_task [--agents dqn c51] [--seeds 5] [--minutes 3]
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.statistics import summarize
from benchmarks.agent_runs import (
    finished,
    learning_curve,
    precision_of,
    reached,
    scores,
    side_by_side,
    threads_of,
    train,
)
from benchmarks.cartpole import AGENTS as OURS
from benchmarks.common import BenchmarkOptions, machine, made_by, print_table, write_result

THEIRS = ("sb3-dqn", "sb3-qrdqn", "sb3-ppo", "sb3-a2c")
EQUAL = ("dqn", "sb3-dqn")
"""Compared after the same steps."""
WITHOUT_REPLAY = ("pqn", "sb3-ppo", "sb3-a2c")
REPLAY_CAPACITY = 100_000
"""More than the steps of most of these runs, and room for Stable-Baselines3, which keeps each picture twice."""
EPISODES = 100
CLOSE = 0.95
"""Share of Stable-Baselines3's mean that ours must have after the same steps."""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """All agents on a small task of pixels."""

    task: str = "minigrid-empty-random-6x6"
    """A MiniGrid task without a text to be read, and small enough for minutes."""
    agents: tuple[str, ...] = (*OURS, *THEIRS)
    """Which agents, each with options of its own behind its name, for the clock."""
    seeds: int = 5
    """Runs of each, with seeds 1, 2, ..."""
    minutes: float = 3.0
    """Of training, in the part `clock`; evaluations on the way are counted in."""
    steps: int = 50_000
    """Environment steps, in the part `steps`."""
    goal: float = 0.9
    """Score that counts as reached when an evaluation on the way (10 games) has it."""
    parts: tuple[str, ...] = ("clock", "steps")
    """What to run."""
    jobs: int = 1
    """Runs at a time."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps, self.jobs) < 1:
            raise ConfigError("--seeds, --steps and --jobs must be at least 1")
        if not 0.0 < self.minutes < float("inf"):
            raise ConfigError(f"--minutes must be above 0, got {self.minutes}")
        if unknown := set(self.parts) - {"clock", "steps"}:
            raise ConfigError(f"--parts are clock and steps, not {', '.join(sorted(unknown))}")


def preset_of(agent: str) -> str:
    return "like-dqn" if agent == "sb3-dqn" else "default"


def one_run(part: str, agent: str, seed: int, options: Options) -> dict[str, Any]:
    """One run through the command, and what it scores."""
    words = [options.task, "--actions", "move", "--agent", *agent.split(), "--preset", preset_of(agent)]
    words += ["--seed", str(seed)]
    words += ["--minutes", str(options.minutes)] if part == "clock" else ["--steps", str(options.steps)]
    words += ["--no-video", "--no-save-replay", "--device", "cpu"]
    if agent not in WITHOUT_REPLAY:
        words += ["--replay-capacity", str(REPLAY_CAPACITY)]
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = train(words, Path(folder), threads=threads_of(options.jobs))
        last = scores(run, "last", EPISODES)
        curve, precision = learning_curve(run), precision_of(run)
    return {
        "part": part,
        "agent": agent,
        "seed": seed,
        "mean": last["mean"],
        "env_steps": last["checkpoint_step"],
        "seconds": round(seconds, 1),
        **made_by(),
        "precision": precision,
        "reached": reached(curve, options.goal),
        "curve": curve,
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By agent: mean of the seeds with its 95% interval, steps, and when the goal was reached (mean of those that
    did)."""
    table = {}
    for agent in dict.fromkeys(one["agent"] for one in runs):
        own = [one for one in runs if one["agent"] == agent]
        found, there = summarize([one["mean"] for one in own]), [one["reached"] for one in own if one["reached"]]
        table[agent] = {
            "runs": len(own),
            "mean": found["mean"],
            "interval": found["mean_interval"],
            "env_steps": sum(one["env_steps"] for one in own) / len(own),
            "reached": len(there),
            "seconds_to_goal": sum(point["seconds"] for point in there) / len(there) if there else None,
            "env_steps_to_goal": sum(point["env_steps"] for point in there) / len(there) if there else None,
        }
    return table


def show(title: str, table: dict[str, dict[str, Any]], goal: float) -> None:
    """The table, the best agent first."""
    print(f"\n{title}")
    rows = [("agent", "mean", "95% interval", "runs", f"{goal:g} reached", "after s", "after steps", "steps")]
    for agent, row in sorted(table.items(), key=lambda item: -item[1]["mean"]):
        seconds, steps = row["seconds_to_goal"], row["env_steps_to_goal"]
        rows.append(
            (
                agent,
                f"{row['mean']:.3f}",
                "{:.3f} to {:.3f}".format(*row["interval"]),
                str(row["runs"]),
                str(row["reached"]),
                "-" if seconds is None else f"{seconds:.0f}",
                "-" if steps is None else f"{steps:,.0f}",
                f"{row['env_steps']:,.0f}",
            )
        )
    print_table(rows)


def compared(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ours over theirs after the same steps: mean, and time to the goal where every seed of both reached it."""
    ours, theirs = (table[name] for name in EQUAL)
    everywhere = all(row["reached"] == row["runs"] for row in (ours, theirs))
    times = ours["seconds_to_goal"], theirs["seconds_to_goal"]
    return {
        "mean_ratio": ours["mean"] / theirs["mean"] if theirs["mean"] else None,
        "close_enough": ours["mean"] >= CLOSE * theirs["mean"],
        "time_ratio": times[0] / times[1] if everywhere else None,
    }


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.pixel_task", description=__doc__ or "")
    before = machine()
    content = finished("pixel_task", options, ("task", "minutes", "steps", "goal", "jobs"))
    runs: list[dict[str, Any]] = list(content.get("runs", ()))
    agents = {"clock": [name for name in options.agents if installed(name)], "steps": list(EQUAL)}
    there = {(one["part"], one["agent"], one["seed"]) for one in runs}
    missing = [  # all agents once, before any of them again
        functools.partial(one_run, part, agent, seed, options)
        for seed in range(1, options.seeds + 1)
        for part in options.parts
        for agent in agents[part]
        if (part, agent, seed) not in there
    ]
    for one in side_by_side(missing, options.jobs):
        runs.append(one)
        print({key: value for key, value in one.items() if key != "curve"}, flush=True)
        write_result("pixel_task", options, results(runs), before)
    found = results(runs)
    if found["clock"]:
        show(f"{options.task} after {options.minutes:g} minutes", found["clock"], options.goal)
    if found["steps"]:
        show(f"{options.task} after {options.steps:,} steps, equal settings", found["steps"], options.goal)
    if found["ours_over_theirs"]:
        print(f"\nours over Stable-Baselines3's: {found['ours_over_theirs']} (mean at least {CLOSE})")
    return 0


def results(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the file of results holds."""
    tables = {part: summary([one for one in runs if one["part"] == part]) for part in ("clock", "steps")}
    both = all(name in tables["steps"] for name in EQUAL)
    return tables | {"ours_over_theirs": compared(tables["steps"]) if both else None, "runs": list(runs)}


def installed(agent: str) -> bool:
    """Whether the packages of an agent are there; those that are not are left out, and it is said."""
    if agent == "sb3-qrdqn" and importlib.util.find_spec("sb3_contrib") is None:
        print('sb3-qrdqn is left out: pip install -e ".[contrib]"', flush=True)
        return False
    return True


if __name__ == "__main__":
    main(run_command)
