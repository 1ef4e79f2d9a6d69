"""What whole runs of generative models came to, gathered from their folders: the numbers on the models' pages.

Nothing is trained or scored here. `python -m generative.train` made the runs, each with the command that is kept of it,
and `python -m generative.evaluate` scored the checkpoint that is best on validation images, once, on the test images.
The machine is the one that gathers: it should be the one that trained. What a run says of it stands beside its numbers:
device, precision, threads, versions.

    python -m benchmarks.quality runs/mnist-dcgan-s1-... runs/mnist-vae-s1-...
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.run import Run
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result

PLACES = ("folder", "path")
"""Options of data sets that say where this machine keeps them, which is nobody's business."""
HEADLINES = (
    "fid",
    "elbo",
    "nats",
    "log_likelihood",
    "log_likelihood_bound",
    "reconstruction_error",
    "denoising_loss",
    "mean_squared_error",
)


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Results of runs of generative models, in one file."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder or its name."""


def gathered(run: Run) -> dict[str, Any]:
    """What a run's folder says of how it was made and of what it came to."""
    config, data, model = run.config, run.config["data"], run.config["model"]
    chosen = run.best_step() or run.status()["step"]
    return {
        "run": run.name,
        "model": model["name"],
        "preset": model["preset"],
        "seed": run.seed,
        "data": _without_place(data["name"]),
        "data_options": {name: value for name, value in data["options"].items() if name not in PLACES},
        "data_sizes": data["sizes"],
        "hyperparameters": model["hyperparameters"],
        "budget": config["budget"],
        "images": run.status()["step"],
        "seconds": max(line["time"] for line in run.metrics()),
        "command": " ".join(map(_without_place, run.info["command"])),
        "device": config["device"],
        "precision": config["precision"],
        "torch_threads": config["torch_threads"],
        "versions": run.info["versions"],
        "git_commit": run.info["git_commit"],
        "created": run.info["created"],
        "checkpoint_images": chosen,
        "validation": _validation(run, chosen),
        "evaluations": run.evaluations(),
    }


def _validation(run: Run, images: int) -> dict[str, Any]:
    """What was measured on validation images when the checkpoint that was scored was saved."""
    found: dict[str, Any] = {}
    for line in run.metrics():
        if line["step"] == images:
            found |= {name.removeprefix("eval/"): value for name, value in line.items() if name.startswith("eval/")}
    return found


def _without_place(word: str) -> str:
    """`folder:PATH`, whatever the path is."""
    return "folder:PATH" if word.startswith("folder:") else word


def _row(result: dict[str, Any]) -> list[str]:
    scored = result["evaluations"][-1] if result["evaluations"] else None
    metrics = scored["metrics"] if scored else result["validation"]
    shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in HEADLINES if name in metrics)
    split = scored["protocol"]["split"] if scored else "validation"
    return [result["run"], f"{result['images']:,}", f"{result['seconds']:,.0f}", split, shown]


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.quality", description=__doc__ or "")
    if not options.runs:
        raise ConfigError("which runs? give their folders; python -m benchmarks.quality --help")
    before = machine()
    results = [gathered(Run.open(text, "generative")) for text in options.runs]
    results.sort(key=lambda result: (result["model"], result["created"]))
    if re.search(r'["\s]/', json.dumps(results)):
        raise ConfigError("a run names a folder of this machine; leave it out")
    print_table([["run", "images", "seconds", "scored on", ""], *map(_row, results)])
    write_result("generative_quality", BenchmarkOptions(results=options.results), {"runs": results}, before)
    return 0


if __name__ == "__main__":
    main(run_command)
