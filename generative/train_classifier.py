"""Train the classifier through which samples are judged, from nothing.

python -m generative.train_classifier mnist --test --out generative/weights/mnist.safetensors

made the one that comes with aprendiz. Its hash stands in generative/metrics/judge.py: another file there is refused,
for then no metric could be compared. For other labelled data nobody needs this command: generative.evaluate trains
what it needs once, by itself.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m generative.train_classifier"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command, beside those of the classifier."""

    data: Annotated[str, tyro.conf.Positional] = "mnist"
    """Data set, as for generative.train; it must have labels."""
    out: Path = Path("classifier.safetensors")
    """File to write; a JSON of the same name beside it says how it was made and how good it is."""
    test: bool = False
    """Score the test images too, once everything has been chosen."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    from dataclasses import make_dataclass, replace

    from generative.metrics.classifier_config import ClassifierConfig

    everything = make_dataclass(
        "Everything",
        [
            ("options", Annotated[Options, tyro.conf.arg(name="")]),
            ("config", Annotated[ClassifierConfig, tyro.conf.arg(name="")]),
        ],
        kw_only=True,
        frozen=True,
    )
    parsed: Any = cli.parse(
        everything, argv, prog=PROG, description="Train the classifier through which samples are judged."
    )
    options, config = parsed.options, parsed.config
    if options.out.suffix != ".safetensors":
        raise ConfigError(f"--out must end with .safetensors, got {options.out}")

    from aprendiz import data, provenance
    from generative.metrics.classifier import Trained, accuracy, save, train

    dataset = data.load(options.data)
    trained: Trained = train(dataset, config, _show)
    made = dict(trained.provenance)
    if options.test:
        made["accuracy"] |= {"test": accuracy(trained.classifier, dataset.test)}
        made["data"] |= {"test_images": len(dataset.test)}
    made["command"] = f"{PROG} {shlex.join(argv)}".strip()
    made["git_commit"] = provenance.git_commit()
    made["versions"] = {name: provenance.versions()[name] for name in ("aprendiz", "torch", "numpy")}
    trained = save(replace(trained, provenance=made), options.out)
    beside = options.out.with_suffix(".json")
    beside.write_text(json.dumps({"file": options.out.name, "sha256": trained.sha256, **made}, indent=2) + "\n")
    scores = ", ".join(f"{split} {share:.2%}" for split, share in made["accuracy"].items())
    print(f"accuracy: {scores}; {made['parameters']:,} parameters, {made['seconds']:,.0f} s")
    print(f"written: {options.out} (SHA-256 {trained.sha256}) and {beside}")


def _show(words: str, fraction: float) -> None:
    if round(fraction * 1000) % 50 < 5 or fraction >= 1:
        print(f"{fraction:4.0%}  {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.main(command)
