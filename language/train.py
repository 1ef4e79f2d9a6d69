"""`python -m language.train lstm`: train a language model on a text; `--resume RUN` continues a run.

A run is text + model + preset + overrides. All of it is resolved once, when the run is created, and saved: epochs and
fractions of the budget become numbers of tokens, and what is chosen by measuring the machine (precision) is written
down, so that continuing a run never moves anything.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional

from aprendiz import TEXTS
from aprendiz.cli import Section, given, let_idle_threads_sleep, main, parse_known, print_list, registry_section
from aprendiz.errors import ConfigError
from aprendiz.train_command import TrainCommand, preset_of

if TYPE_CHECKING:
    from aprendiz.text.core import LabelledTexts, TextData

PROG = "python -m language.train"
DESCRIPTION = (
    "Train a language model. `<model> --help` adds the hyperparameters of the model and the options of the text "
    "(`<model> --data file:PATH --help`); --list shows models, presets and texts; --resume RUN continues a run."
)
DEFAULT_TEXT, DEFAULT_LABELLED = "pydoc", "negation"
TEXT_HELP = {
    "level": "What a token is: a character, a byte of UTF-8, or a word.",
    "held_out": "Share of the text, its tail, that is kept for evaluation; of labelled texts, drawn by a seed.",
    "validation": "Share of the text, before the tail, that chooses checkpoints.",
    "min_count": "Symbols that occur less often in the training part are unknown.",
    "vocabulary_limit": "Keep so many symbols, the most frequent ones. None: all.",
    "tokens": "What a word is: words and punctuation marks, or whatever stands between white space.",
    "lower": "Make everything lower case first.",
    "encoding": "How the file is encoded: utf-8, latin-1, ...",
    "pattern": "Which files of the folder: *.txt, or several with commas.",
    "path": "The file, where it lies already.",
    "label_column": "Column of the labels, from 1.",
    "text_column": "Column of the texts, from 1.",
    "header": "Whether the first line names the columns, and is passed over.",
    "split_seed": "Decides which texts are learned from, and which validate and test.",
    "texts": "How many sentences are made.",
    "seed": "Decides which.",
}
"""What the help says of the options that every text has, and of the commonest others."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What every training run has. Tokens are training tokens seen (characters, bytes or words, as --level says): an
    epoch is a pass over all of them."""

    data: Optional[str] = None  # noqa: UP045 (tyro's help reads better)
    """A text by its registered name, file:PATH or folder:PATH for your own, - for standard input, tsv:PATH for labelled
    texts. None: pydoc; for models that learn from labels, negation."""
    preset: str = "default"
    """Named hyperparameters of the model for such a text."""
    epochs: Optional[float] = None  # noqa: UP045
    """Passes over the training part of the whole run. No budget given: the model's own number of tokens."""
    tokens: Optional[int] = None  # noqa: UP045
    """Training tokens of the whole run, instead of epochs."""
    minutes: Optional[float] = None  # noqa: UP045
    """Wall-clock minutes of training, over all sessions, after which the run ends."""
    seed: int = 1
    """Decides everything random: initial parameters, dropout, order of what is drawn, samples on the way."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of forward passes; auto measures on this machine, once, and writes the faster one down."""
    wandb: Optional[Literal["online", "offline", "disabled"]] = None  # noqa: UP045
    """Weights & Biases. Unset: WANDB_MODE, else online where a key is configured, else offline."""
    validations: int = 20
    """How often the validation part is scored on the way, to choose the checkpoint called best; 0 never."""
    samples: Optional[int] = None  # noqa: UP045
    """Tokens of each text that is written at validations, always from the same random numbers; 0 for none. None: 240
    characters or bytes, or 60 words."""
    checkpoint_minutes: float = 10.0
    """Wall-clock minutes between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Continue a run. Everything that is not given here stays as it was."""

    resume: str
    """The run: its folder, its name, a text or a model (the newest run of it), or latest."""
    epochs: Optional[float] = None  # noqa: UP045
    """New total of passes over the training part."""
    tokens: Optional[int] = None  # noqa: UP045
    """New total of training tokens."""
    minutes: Optional[float] = None  # noqa: UP045
    """New total of wall-clock minutes, those before included."""
    checkpoint: str = "last"
    """Continue from another checkpoint than the last: best, or a number of tokens. Later ones are then deleted."""
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
    text: str
    """The text's name, as `aprendiz.text.load` takes it."""
    data: TextData | LabelledTexts
    text_options: dict[str, Any]


COMMAND = TrainCommand(
    prog=PROG,
    description=DESCRIPTION,
    subject="model",
    example="lstm",
    options=TrainOptions,
    resume_options=ResumeOptions,
)


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code: 0, or 128 + the signal that stopped it."""
    return COMMAND.run(argv, show_lists=show_lists, create=_create, resume=_resume)


def _create(argv: list[str]) -> int:
    order = parse_order(argv)
    from language import training

    return training.create(order, command=[PROG, *argv])


def _resume(options: ResumeOptions) -> int:
    from language import training

    return training.resume(options)


def parse_order(argv: list[str]) -> Order:
    """The model, the common options, the model's config and the text.

    Which hyperparameters there are, and their defaults, is the business of the model, its preset and the text: the
    text is opened first, as its options say, then everything is parsed together. An option of the text that is called
    like another one here is --text-NAME.
    """
    from aprendiz import text
    from language import LANGUAGE

    name, rest = argv[0], argv[1:]
    name = LANGUAGE.canonical(name)
    model = LANGUAGE.get(name)
    text_name = given(rest, "data") or (DEFAULT_LABELLED if model.needs_labels else DEFAULT_TEXT)
    preset = given(rest, "preset") or "default"
    defaults = text_defaults(model, text_name)
    taken = {one.name for kind in (TrainOptions, model.Config) for one in dataclasses.fields(kind)}
    text_type = _dataclass(defaults, text.option_types(text_name), taken)
    own: Any = parse_known(text_type, rest, prog=PROG)
    text_options = _values(own, taken)
    level = text_options.get("level")
    if level is not None and level not in model.levels:
        raise ConfigError(f"{name} learns from tokens of level {', '.join(model.levels)}, not {level}")
    data = text.load(text_name, **text_options)
    if model.needs_labels != bool(data.spec.classes):
        wanted = "labelled texts, such as tsv:PATH or negation" if model.needs_labels else "a text without labels"
        raise ConfigError(f"{name} learns from {wanted}; {data.spec.name} is not that")
    config = preset_of(model.presets(data.spec), preset, name, data.spec.name)
    parsed = COMMAND.parse_new(
        rest,
        f"Train {name} on {data.spec.name}.",
        name,
        hyperparameters=(f"{name}, preset {preset}", config),
        text_options=(f"text {data.spec.name}", own),
    )
    _check(parsed.common)
    return Order(name, parsed.common, parsed.hyperparameters, text_name, data, text_options)


def text_defaults(model: Any, text_name: str) -> dict[str, Any]:
    """Options of a text with their defaults, as a model wants them."""
    from aprendiz import text

    defaults = dict(text.options(text_name))
    wanted = {"level": model.levels[0], **model.text_defaults}
    return defaults | {key: value for key, value in wanted.items() if key in defaults}


def show_lists() -> None:
    """Models, presets and texts, with where they come from. Imports no model."""
    from language import LANGUAGE

    presets = [
        ("default", "the model's well-tried hyperparameters for such a text"),
        ("...", "others have names of their own, such as fast: `<model> --preset ?` names them"),
    ]
    print_list(
        [
            registry_section("models", LANGUAGE),
            Section("presets", ("name", "summary"), presets),
            registry_section("texts", TEXTS),
        ]
    )


def _dataclass(defaults: dict[str, Any], types: dict[str, Any], taken: set[str]) -> type:
    """A dataclass of a text's options; those whose name is taken have `text_` in front."""
    import tyro

    fields: list[Any] = [
        (
            f"text_{key}" if key in taken else key,
            Annotated[types[key], tyro.conf.arg(help=TEXT_HELP.get(key, ""))],
            field(default=default),
        )
        for key, default in defaults.items()
    ]
    return dataclasses.make_dataclass(
        "TextOptions", fields, frozen=True, kw_only=True, namespace={"__doc__": "Options of the text."}
    )


def _values(options: Any, taken: set[str]) -> dict[str, Any]:
    """The text's options under their own names."""
    values = {one.name: getattr(options, one.name) for one in dataclasses.fields(options)}
    return {key.removeprefix("text_") if key.removeprefix("text_") in taken else key: v for key, v in values.items()}


def _check(options: TrainOptions) -> None:
    from aprendiz.session import check_budget, check_not_negative

    check_budget(options, "tokens", "checkpoint_minutes")
    check_not_negative(options, "seed", "validations", "samples")


if __name__ == "__main__":
    let_idle_threads_sleep()
    main(run_command)
