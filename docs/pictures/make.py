"""The README's pictures of a run: its learning curve, and a film of its best checkpoint as a GIF.

    python docs/pictures/make.py <run> [--seconds 15] [--start 0]

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
from aprendiz.run import Run

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Options:
    run: Annotated[str, tyro.conf.Positional]
    """Folder or name of the run."""
    seconds: float = 15.0
    """Length of the film."""
    start: float = 0.0
    """Where in the game it starts, in seconds."""
    width: int = 560
    """Width of the film in pixels."""


def make(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python docs/pictures/make.py", description=__doc__ or "")
    run = Run.open(options.run, kind="agents")
    curve(run, HERE / f"{run.task}-curve.png")
    film(run, HERE / f"{run.task}.gif", options)
    return 0


def curve(run: Run, path: Path) -> None:
    lines = run.metrics()
    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=110)
    for key, label, style in (
        ("rollout/score_mean", "training games, mean of the last 100", {"lw": 2}),
        ("eval/score", f"evaluation, mean of {run.config['evaluation']['games']} games", {"marker": "o", "lw": 0.8}),
    ):
        points = [(line["time"] / 60, line[key]) for line in lines if line.get(key) is not None]
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set(xlabel="minutes of training", ylabel="score", title=f"{run.learner} in {run.task}, seed {run.seed}")
    axes.grid(alpha=0.3)
    axes.legend()
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
