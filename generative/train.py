"""`python -m generative.train denoising`: train a generative model on images; `--resume RUN` continues a run.

A run is data + model + preset + overrides. All of it is resolved once, when the run is created, and saved: epochs and
fractions of the budget become numbers of images, and what is chosen by measuring the machine (precision) is written
down, so that continuing a run never moves anything.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Optional, get_args

from aprendiz import BACKBONES, DATASETS
from aprendiz.cli import Section, given, main, parse_known, print_list, registry_section
from aprendiz.errors import ConfigError
from aprendiz.train_command import TrainCommand, preset_of

if TYPE_CHECKING:
    from aprendiz.data.augment import Augment
    from aprendiz.data.core import Dataset

PROG = "python -m generative.train"
DESCRIPTION = (
    "Train a generative model. `<model> --help` adds the hyperparameters of the model and the options of the data "
    "(`<model> --data mnist --help`); --list shows models, presets, data sets and backbones; --resume RUN continues a "
    "run."
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What every training run has. Images are training images seen: an epoch is a pass over all of them."""

    data: str = "digits"
    """Data set by its registered name, or folder:PATH for your own pictures."""
    preset: str = "default"
    """Named hyperparameters of the model for such images."""
    epochs: Optional[int] = None  # noqa: UP045 (tyro's help reads better)
    """Passes over the training images of the whole run. No budget given: the model's own number."""
    images: Optional[int] = None  # noqa: UP045
    """Training images of the whole run, instead of epochs."""
    minutes: Optional[float] = None  # noqa: UP045
    """Wall-clock minutes of training, over all sessions, after which the run ends."""
    seed: int = 1
    """Decides everything random: initial parameters, order of the images, noise, samples on the way."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of forward passes; auto measures on this machine, once, and writes the faster one down."""
    wandb: Optional[Literal["online", "offline", "disabled"]] = None  # noqa: UP045
    """Weights & Biases. Unset: WANDB_MODE, else online where a key is configured, else offline."""
    validations: int = 20
    """How often the validation images are scored on the way, to choose the checkpoint called best; 0 never."""
    pictures: int = 64
    """Images in each picture of samples, drawn at validations and always from the same random numbers; 0 for none."""
    checkpoint_minutes: float = 10.0
    """Wall-clock minutes between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Continue a run. Everything that is not given here stays as it was."""

    resume: str
    """The run: its folder, its name, a data set or a model (the newest run of it), or latest."""
    epochs: Optional[int] = None  # noqa: UP045
    """New total of passes over the training images."""
    images: Optional[int] = None  # noqa: UP045
    """New total of training images."""
    minutes: Optional[float] = None  # noqa: UP045
    """New total of wall-clock minutes, those before included."""
    checkpoint: str = "last"
    """Continue from another checkpoint than the last: best, or a number of images. Later ones are then deleted."""
    learning_rate_factor: Optional[float] = None  # noqa: UP045
    """Multiply every learning rate by this, from here on: below 1 for a run that diverged."""
    device: Optional[str] = None  # noqa: UP045
    """Another device than before (numbers may then differ in the last digits)."""
    wandb: Optional[Literal["online", "offline", "disabled"]] = None  # noqa: UP045
    """Weights & Biases, as before unless given."""


class Order(NamedTuple):
    """What the words of a command for a new run come to."""

    model: str
    options: TrainOptions
    hyperparameters: Any
    dataset: Dataset
    data_options: dict[str, Any]
    """What the data set made of its options: what it measured (whether pictures fit in memory) is decided once."""
    augment: Augment
    """How training images are varied."""


COMMAND = TrainCommand(
    prog=PROG,
    description=DESCRIPTION,
    subject="model",
    example="denoising",
    options=TrainOptions,
    resume_options=ResumeOptions,
)


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code: 0, or 128 + the signal that stopped it."""
    return COMMAND.run(argv, show_lists=show_lists, create=_create, resume=_resume)


def _create(argv: list[str]) -> int:
    order = parse_order(argv)
    from generative import training

    return training.create(order, command=[PROG, *argv])


def _resume(options: ResumeOptions) -> int:
    from generative import training

    return training.resume(options)


def parse_order(argv: list[str]) -> Order:
    """The model, the common options, the model's config, the data set and its augmentation.

    Which hyperparameters there are, and their defaults, is the business of the model, its preset and the images: the
    data set is opened first, as its options say, then everything is parsed together.
    """
    from aprendiz import data
    from generative import GENERATIVE

    name, rest = argv[0], argv[1:]
    name = GENERATIVE.canonical(name)
    data_name, preset = given(rest, "data") or TrainOptions.data, given(rest, "preset") or "default"
    types = data.option_types(data_name)
    data_type, rest = _dataclass(data.options(data_name), types), _spelled_out(rest, types)
    model = GENERATIVE.get(name)
    data_options: Any = parse_known(data_type, rest, prog=PROG)

    from aprendiz.data.augment import Augment

    dataset = data.load(data_name, **dataclasses.asdict(data_options))
    if model.needs_labels and not dataset.spec.classes:
        what = f"patches of {dataset.spec.name} have" if dataset.options.get("patch") else f"{dataset.spec.name} has"
        raise ConfigError(f"{name} learns from labelled images, and {what} no labels")
    config = preset_of(model.presets(dataset.spec), preset, name, dataset.spec.name)
    parsed = COMMAND.parse_new(
        rest,
        f"Train {name} on {dataset.spec.name}.",
        name,
        hyperparameters=(f"{name}, preset {preset}", config),
        data_options=(f"data {dataset.spec.name}", data_options),
        augmentation=("augmentation of training images", Augment()),
    )
    _check(parsed.common)
    return Order(
        name,
        parsed.common,
        parsed.hyperparameters,
        dataset,
        {key: dataset.options.get(key, value) for key, value in dataclasses.asdict(data_options).items()},
        parsed.augmentation,
    )


def show_lists() -> None:
    """Models, presets, data sets and backbones, with where they come from. Imports no model."""
    from generative import GENERATIVE

    presets = [
        ("default", "the model's well-tried hyperparameters for such images"),
        ("...", "others have names of their own, such as paper: `<model> --preset ?` names them"),
    ]
    print_list(
        [
            registry_section("models", GENERATIVE),
            Section("presets", ("name", "summary"), presets),
            registry_section("data sets", DATASETS),
            registry_section("backbones", BACKBONES),
        ]
    )


def _dataclass(defaults: dict[str, Any], types: dict[str, Any]) -> type:
    """A dataclass of a data set's options."""
    fields: list[Any] = [(key, types[key], field(default=default)) for key, default in defaults.items()]
    return dataclasses.make_dataclass(
        "DataOptions", fields, frozen=True, kw_only=True, namespace={"__doc__": "Options of the data set."}
    )


def _spelled_out(argv: list[str], types: dict[str, Any]) -> list[str]:
    """`--stream` and `--no-stream`, of an option that may also be left open, with the value that tyro asks for."""
    flags = {name.replace("_", "-") for name, kind in types.items() if set(get_args(kind)) == {bool, type(None)}}
    result = []
    for word, following in itertools.pairwise([*argv, ""]):
        if word.startswith("--no-") and word.removeprefix("--no-") in flags:
            result += [f"--{word.removeprefix('--no-')}", "False"]
        elif word.removeprefix("--") in flags and following not in ("True", "False", "None"):
            result += [word, "True"]
        else:
            result.append(word)
    return result


def _check(options: TrainOptions) -> None:
    from aprendiz.session import check_budget, check_not_negative

    check_budget(options, "images", "checkpoint_minutes")
    check_not_negative(options, "seed", "validations", "pictures")


if __name__ == "__main__":
    main(run_command)
