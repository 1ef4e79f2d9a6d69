"""How long does a command take to say what it can do?

Wall time of `--help` and `--list` as new processes, from start to end, in turns and after one uncounted turn that
leaves files in the system's cache. Beside them an interpreter that does nothing, and one that imports torch, which no
command does before it must.

    python -m benchmarks.startup
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result

COMMANDS = {
    "agents.train --help": ("-m", "agents.train", "--help"),
    "agents.train --list": ("-m", "agents.train", "--list"),
    "agents.evaluate --help": ("-m", "agents.evaluate", "--help"),
    "agents.watch --help": ("-m", "agents.watch", "--help"),
    "generative.train --help": ("-m", "generative.train", "--help"),
    "generative.train --list": ("-m", "generative.train", "--list"),
    "generative.sample --help": ("-m", "generative.sample", "--help"),
    "generative.evaluate --help": ("-m", "generative.evaluate", "--help"),
    "language.train --help": ("-m", "language.train", "--help"),
    "language.train --list": ("-m", "language.train", "--list"),
    "language.sample --help": ("-m", "language.sample", "--help"),
    "language.neighbors --help": ("-m", "language.neighbors", "--help"),
    "aprendiz.report --help": ("-m", "aprendiz.report", "--help"),
    "aprendiz.runs --help": ("-m", "aprendiz.runs", "--help"),
    "aprendiz.live --help": ("-m", "aprendiz.live", "--help"),
    "python, nothing": ("-c", ""),
    "python, import torch": ("-c", "import torch"),
}


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Wall time of `--help` and `--list`."""

    repeats: int = 5
    """Runs of each command that count."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"--repeats must be at least 1, got {self.repeats}")


def seconds(arguments: tuple[str, ...]) -> float:
    """Of one new process. Raises CalledProcessError where it fails."""
    root = Path(__file__).resolve().parents[1]
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=root, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.startup", description=__doc__ or "")
    before = machine()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(options.repeats + 1):
        for name, arguments in COMMANDS.items():
            taken = seconds(arguments)
            if turn:
                times[name].append(taken)
    result = {name: spread(values) for name, values in times.items()}
    print_table(
        [("", "median s", "lowest", "highest")]
        + [(name, *(f"{found[key]:.2f}" for key in ("median", "min", "max"))) for name, found in result.items()]
    )
    write_result("startup", options, {"seconds": result}, before)
    return 0


if __name__ == "__main__":
    main(run_command)
