"""What agents learn within minutes in environments other than Atari's games and CartPole: one row each.

Everything goes through the commands that a user types: `agents.train ENVIRONMENT --agent NAME --minutes M`, then the
checkpoint called `best` (chosen on other games) plays fresh games, once with 1% random actions and once with random
actions alone, for what chance scores. Several may run at a time, each on its share of the cores. The file of results is
written after every run, and what stands in it is not run again. Environments whose packages are not installed are
left out.

    pip install -e ".[box2d,mujoco,vizdoom]"
    python -m benchmarks.environments [--rows halfcheetah vizdoom-basic] [--minutes 10] [--jobs 2]
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError, EnvError
from benchmarks.agent_runs import finished, precision_of, scores, side_by_side, threads_of, train
from benchmarks.common import BenchmarkOptions, machine, made_by, print_table, write_result
from envs import make

ROWS: dict[str, str] = {
    "mountain-car": "dqn",
    "acrobot": "dqn",
    "lunar-lander": "dqn",
    "pendulum": "sb3-sac",
    "halfcheetah": "sb3-sac",
    "hopper": "sb3-sac",
    "minigrid-doorkey-5x5": "dqn",
    "vizdoom-basic": "dqn",
    "vizdoom-defend-the-center": "dqn",
}
"""Environment to the agent that learns it."""
EPISODES = 30
REPLAY_CAPACITY = 100_000
"""Where pictures are remembered: more than the steps of these runs."""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """What agents learn within minutes in environments other than Atari's games and CartPole."""

    rows: tuple[str, ...] = tuple(ROWS)
    """Which environments."""
    minutes: float = 10.0
    """Of training; evaluations on the way are counted in."""
    jobs: int = 1
    """Runs at a time."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"--jobs must be at least 1, got {self.jobs}")
        if not 0.0 < self.minutes < float("inf"):
            raise ConfigError(f"--minutes must be above 0, got {self.minutes}")
        if unknown := [row for row in self.rows if row not in ROWS]:
            raise ConfigError(f"there is no row {unknown[0]!r}; rows are {', '.join(ROWS)}")


def one_run(environment: str, options: Options) -> dict[str, Any]:
    """One run through the command, and what its best checkpoint scores."""
    agent = ROWS[environment]
    words = [environment, "--agent", agent, "--minutes", str(options.minutes), "--no-video", "--no-save-replay"]
    words += ["--device", "cpu"]
    if shows_pictures(environment):
        words += ["--replay-capacity", str(REPLAY_CAPACITY)]
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = train(words, Path(folder), threads=threads_of(options.jobs))
        best, chance = (scores(run, "best", EPISODES, explore=share) for share in (0.01, 1.0))
        precision = precision_of(run)
    kept = ("mean", "interval", "median", "min", "max", "checkpoint_step")
    row = {
        "environment": environment,
        "agent": agent,
        "seconds": round(seconds, 1),
        **made_by(),
        "precision": precision,
    }
    random = {"random_mean": chance["mean"], "random_interval": chance["interval"]}
    return row | {key: best[key] for key in kept} | random


def shows_pictures(environment: str) -> bool:
    """Whether pictures are what its memory is full of."""
    env = make(environment, 1)
    env.close()
    return env.spec.observation_kind == "image"


def show(runs: Sequence[dict[str, Any]]) -> None:
    """The table."""
    rows = [("environment", "agent", "mean", "95% interval", "random", "steps of the checkpoint")]
    for one in runs:
        interval = "{:.2f} to {:.2f}".format(*one["interval"])
        numbers = (f"{one['mean']:.2f}", interval, f"{one['random_mean']:.2f}", f"{one['checkpoint_step']:,}")
        rows.append((one["environment"], one["agent"], *numbers))
    print_table(rows)


def installed(environment: str) -> bool:
    """Whether the packages of an environment are there; those that are not are left out, and it is said."""
    try:
        make(environment, 1).close()
    except EnvError as error:
        print(f"{environment} is left out: {error}", flush=True)
        return False
    return True


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.environments", description=__doc__ or "")
    before = machine()
    runs: list[dict[str, Any]] = list(finished("environments", options, ("minutes", "jobs")).get("runs", ()))
    there = {one["environment"] for one in runs}
    missing = [functools.partial(one_run, row, options) for row in options.rows if row not in there and installed(row)]
    for one in side_by_side(missing, options.jobs):
        runs.append(one)
        print(one, flush=True)
        write_result("environments", options, {"runs": runs}, before)
    show(runs)
    return 0


if __name__ == "__main__":
    main(run_command)
