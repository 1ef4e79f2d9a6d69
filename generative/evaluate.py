"""Score saved models on images that they never learned from.

python -m generative.evaluate RUN [RUN ...]
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError
from aprendiz.evaluate_command import progress, show_and_keep

if TYPE_CHECKING:
    from aprendiz.run import Run

PROG = "python -m generative.evaluate"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder, its name, a data set or model (its newest run), or `latest`."""
    split: Literal["test", "validation"] = "test"
    """Which images. Choose between models by the validation images, and score the test images once."""
    samples: int = 10_000
    """Samples drawn for the metrics of samples (FID, precision, recall, class balance)."""
    seed: int = 1000
    """Decides samples, noise and whatever else is random."""
    checkpoint: str | None = None
    """`last`, `best` or a number of images. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ConfigError(f"samples must be 0 (no metrics of samples) or more, got {self.samples}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options, argv, prog=PROG, description="Score saved generative models on images that they never learned from."
    )
    if not options.runs:
        raise ConfigError(f"which run? give its folder, its name, a data set, a model or `latest`; {PROG} --help")
    from aprendiz.run import Run

    runs = [Run.open(text, "generative") for text in options.runs]
    for run in runs:
        evaluate_run(run, options)


def evaluate_run(run: Run, options: Options) -> dict[str, Any]:
    """Evaluate one run, print the result, add it to the run's evaluations.json, and return it.

    Raises StorageError where it cannot be added; it is printed all the same.
    """
    from aprendiz.session import chosen_checkpoint
    from generative.metrics import report
    from generative.saved import open_model

    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    if len(saved.dataset.test if options.split == "test" else saved.dataset.validation) == 0:
        raise ConfigError(f"{run.task} has no {options.split} images to score {run.name} on")
    began = time.perf_counter()
    with progress(run.name) as say:
        tell = (lambda words, fraction: say(f"{words}, {fraction:.0%}")) if say else None
        result = report(saved, samples=options.samples, seed=options.seed, split=options.split, progress=tell)
    result = {"data": run.task, "model": run.learner, **result, "seconds": round(time.perf_counter() - began, 1)}
    show_and_keep(run, result, _rows(result), "images")
    return result


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    metrics, protocol, rows = result["metrics"], result["protocol"], []
    for name, value in metrics.items():
        if name.startswith("floor_") and name.removeprefix("floor_") in metrics:
            continue
        floor = metrics.get(f"floor_{name}")
        text = _number(value) + ("" if floor is None else f"   (training images: {_number(floor)})")
        rows.append((name.replace("_", " "), text))
    if result["class_shares"]:
        rows.append(("class shares", ", ".join(f"{one} {share:.1%}" for one, share in result["class_shares"].items())))
    rows.append(("scored on", f"{protocol['images']:,} {protocol['split']} images"))
    if protocol["samples"]:
        rows.append(("drawn", f"{protocol['samples']:,} samples, seed {protocol['seed']}"))
    if protocol["extractor"]:
        right = protocol["extractor_accuracy"].get("validation", 0.0)
        rows.append(("extractor", f"{protocol['extractor']}, sha256 {protocol['extractor_sha256'][:12]}"))
        rows.append(("", f"which names {right:.2%} of the validation images rightly"))
    return [*rows, *(("note", note) for note in result["notes"])]


def _number(value: float | None) -> str:
    """Five digits, or all of a whole number, such as a seed."""
    if value is None:
        return "not finite"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.5g}"


if __name__ == "__main__":
    cli.main(command)
