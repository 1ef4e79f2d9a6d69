"""The README's pictures of runs of a task: their learning curves, a film of the first one's best checkpoint (GIF).

    python docs/pictures/make.py <run> [<run> ...] [--seconds 15] [--start 0]

Writes <task>-curve.png and <task>.gif beside this file; the film is cut out of the mp4 of `python -m agents.watch`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import imageio_ffmpeg
import matplotlib.pyplot as plt
import tyro

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.run import Run

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or names of the runs."""
    seconds: float = 15.0
    """Length of the film."""
    start: float = 0.0
    """Where in the game it starts, in seconds."""
    width: int = 560
    """Width of the film in pixels."""


def make(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python docs/pictures/make.py", description=__doc__ or "")
    if not options.runs:
        raise ConfigError("name at least one run")
    runs = [Run.open(name, kind="agents") for name in options.runs]
    curves(runs, HERE / f"{runs[0].task}-curve.png")
    film(runs[0], HERE / f"{runs[0].task}.gif", options)
    return 0


def curves(runs: list[Run], path: Path) -> None:
    """A colour for each run: games of training as a line, evaluations as dots."""
    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=110)
    for place, run in enumerate(runs):
        lines, games = run.metrics(), run.config["evaluation"]["games"]
        for key, label, style in (
            ("rollout/score_mean", "training games, mean of the last 100", {"lw": 2}),
            ("eval/score", f"evaluation, mean of {games} games", {"marker": "o", "ms": 4, "lw": 0.6}),
        ):
            points = [(line["time"] / 60, line[key]) for line in lines if line.get(key) is not None]
            axes.plot(*zip(*points, strict=True), color=f"C{place}", label=f"seed {run.seed}: {label}", **style)
    axes.set(xlabel="minutes of training", ylabel="score", title=f"{runs[0].learner} in {runs[0].task}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
    print(path)


def film(run: Run, path: Path, options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp4 = Path(folder, "film.mp4")
        subprocess.run([sys.executable, "-m", "agents.watch", str(run.path), "--video", str(mp4)], check=True)
        palette = "split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none"
        subprocess.run(
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                *("-loglevel", "error", "-y", "-ss", str(options.start), "-t", str(options.seconds), "-i", str(mp4)),
                *("-vf", f"fps=15,scale={options.width}:-1:flags=lanczos,{palette}", str(path)),
            ],
            check=True,
        )
    print(path)


if __name__ == "__main__":
    main(make)
