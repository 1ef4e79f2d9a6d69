"""What agents reach in an Atari game after the same minutes on this machine: one table, one run at a time.

Everything goes through the commands that a user types: `agents.train GAME --agent NAME --preset fast --minutes M`, then
the checkpoint called `best` (chosen on other games) plays 30 fresh whole games with 1% random actions; what `last` has
in the same games stands beside. The rows are
agents, and BTR without some of its parts. The runs stay in the folder of runs, for curves and videos; the file of
results, `atari-GAME-MINUTES.json`, is written after every run, and what stands in it is not run again.

What papers lead one to expect, in the median over 57 games after 200 million frames: DQN, then C51, then QR-DQN, then
IQN and Rainbow (Dabney et al. 2018b, table 1), BTR far above them (Clark et al. 2024); PQN about where Rainbow is, in
a fraction of the time (Gallici et al. 2024). Twenty minutes on two cores are about a hundredth of that, where what
counts is how many steps and updates fit in.

    python -m benchmarks.atari [--game breakout] [--minutes 20] [--rows dqn pqn]
    python -m benchmarks.atari --rows qr-dqn --minutes 60 --seeds 2        # the preset `fast` for an hour
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.run import Run, runs_folder
from benchmarks.agent_runs import finished, learning_curve, precision_of, scores, train
from benchmarks.common import BenchmarkOptions, machine, made_by, print_table, write_result

NATURE = ("--backbone", "nature-cnn", "--backbone-width", "1", "--no-spectral-norm", "--max-pool", "0")
ROWS: dict[str, tuple[str, ...]] = {
    "dqn": ("--agent", "dqn"),
    "qr-dqn": ("--agent", "qr-dqn"),
    "c51": ("--agent", "c51"),
    "iqn": ("--agent", "iqn"),
    "rainbow": ("--agent", "rainbow"),
    "pqn": ("--agent", "pqn"),
    "btr": ("--agent", "btr"),
    "btr, Nature network": ("--agent", "btr", *NATURE),
    "btr, no spectral norm": ("--agent", "btr", "--no-spectral-norm"),
    "btr, no max-pooling": ("--agent", "btr", "--max-pool", "0"),
    "btr, no Munchausen": ("--agent", "btr", "--no-munchausen"),
}
"""Name of a row to the words that make it."""
EPISODES = 30


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Agents in an Atari game after the same minutes."""

    game: str = "breakout"
    """Which game."""
    minutes: float = 20.0
    """Of training; evaluations on the way are counted in."""
    preset: str = "fast"
    """Of every agent."""
    seeds: int = 1
    """Runs of each row, with seeds 1, 2, ..."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Which rows."""
    device: str = "cpu"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}")
        if not 0.0 < self.minutes < float("inf"):
            raise ConfigError(f"--minutes must be above 0, got {self.minutes}")
        if unknown := [row for row in self.rows if row not in ROWS]:
            raise ConfigError(f"there is no row {unknown[0]!r}; rows are {', '.join(ROWS)}")


def one_run(row: str, seed: int, options: Options) -> dict[str, Any]:
    """One run through the command, and what its best checkpoint scores."""
    words = [options.game, *ROWS[row], "--preset", options.preset, "--seed", str(seed), "--device", options.device]
    words += ["--minutes", str(options.minutes), "--no-save-replay", "--no-video"]
    run, seconds = train(words, runs_folder().resolve())
    best, last = scores(run, "best", EPISODES), scores(run, "last", EPISODES)
    kept = ("mean", "interval", "median", "iqm", "min", "max", "human_normalized", "checkpoint_step", "protocol")
    return {
        "row": row,
        "seed": seed,
        "run": run.name,
        "seconds": round(seconds, 1),
        **made_by(),
        "precision": precision_of(run),
        "env_steps": Run.open(run).steps()[-1],
        "curve": learning_curve(run),
        "last": {key: last[key] for key in ("mean", "interval", "median", "checkpoint_step")},
    } | {key: best[key] for key in kept}


def show(runs: Sequence[dict[str, Any]]) -> None:
    """The table, the best first."""
    rows = [("row", "seed", "mean", "95% interval", "median", "human", "steps")]
    for one in sorted(runs, key=lambda one: -one["mean"]):
        human = "-" if one["human_normalized"] is None else f"{one['human_normalized']:.0%}"
        interval = "{:.1f} to {:.1f}".format(*one["interval"])
        numbers = (f"{one['mean']:.1f}", interval, f"{one['median']:.1f}", human, f"{one['env_steps']:,}")
        rows.append((one["row"], str(one["seed"]), *numbers))
    print_table(rows)


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.atari", description=__doc__ or "")
    name = f"atari-{options.game}-{options.minutes:g}"
    before, runs = machine(), list(finished(name, options, ("preset", "device")).get("runs", ()))
    for seed in range(1, options.seeds + 1):
        for row in options.rows:
            if any((one["row"], one["seed"]) == (row, seed) for one in runs):
                continue
            runs.append(one_run(row, seed, options))
            print({key: value for key, value in runs[-1].items() if key not in ("curve", "protocol")}, flush=True)
            write_result(name, options, {"runs": runs}, before)
    show(runs)
    return 0


if __name__ == "__main__":
    main(run_command)
