"""Models out of saved runs: the class by name, its hyperparameters, its weights, its vocabulary, and the text."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aprendiz import saved, text
from aprendiz.config import from_json
from aprendiz.errors import ConfigError, DataError, RunError
from aprendiz.text import vocabulary as vocabularies
from aprendiz.text.core import LabelledTexts, TextData, TextSpec, Vocabulary
from language import LANGUAGE
from language.core import LanguageModel
from language.word_tasks import WordTable, table_of

if TYPE_CHECKING:
    from aprendiz.run import Run

STANDARD_INPUT = "-"
_VOCABULARY, _KEPT = "vocabulary.json", "text"
_DOING = {"predict": "predicts the next token", "vectors": "has vectors of words", "classify": "names classes of texts"}


@dataclass
class SavedModel:
    """A model with the weights of a checkpoint, and what it learned from."""

    run: Run
    model: LanguageModel
    spec: TextSpec
    vocabulary: Vocabulary
    which: str | int
    """The checkpoint that was asked for: `last`, `best` or a number of tokens."""
    step: int
    """Training tokens that it has seen."""

    @functools.cached_property
    def data(self) -> TextData | LabelledTexts:
        """The text of its run, opened when first asked for. Raises DataError where it is gone, RunError where it has
        changed since."""
        return text_of(self.run)

    def require(self, ability: str, what: str) -> None:
        """Raises ConfigError where the model lacks an ability, naming the models that `what` can be done with."""
        if ability in self.model.abilities:
            return
        has = ", ".join(sorted(self.model.abilities)) or "nothing of the kind"
        raise ConfigError(
            f"{what} needs a model that {_DOING[ability]}; {self.run.learner} does not (it can: {has}); "
            f"{models_with(ability)}"
        )


def open_model(run: Run, which: str | int = "last", device: str = "auto") -> SavedModel:
    """The model of a run as it was at a checkpoint: `last`, `best` or a number of tokens.

    PyTorch gets as many threads as it learned with, so that the same seed writes the same text. Raises RunError or
    ConfigError where the run's config or the device does not fit, CheckpointError where the checkpoint is not there,
    damaged, or does not fit.
    """
    opened = _opened(run, which, device)
    saved.restore_threads(run)
    return opened


def _opened(run: Run, which: str | int, device: str) -> SavedModel:
    model = new_model(run, device)
    step = saved.load_learner(run, model, which)
    return SavedModel(run, model, model.spec, model.vocabulary, which, step)


def new_model(run: Run, device: str = "auto") -> LanguageModel:
    """The model of a run as it was before it learned.

    It computes in the precision that it learned in where the device is of the same kind, and in fp32 elsewhere.
    """
    part = saved.mapping_of(run, run.config, "model")
    cls = LANGUAGE.get(_text(run, part, "name"))
    home, precision = saved.home_of(run, cls.devices, device)
    config = from_json(cls.Config, part.get("hyperparameters", {}))
    return cls(config, spec_of(run), vocabulary_of(run), seed=run.seed, device=home, precision=precision)


def open_words(
    text: str, checkpoint: str | None = None, device: str = "auto", what: str = "this"
) -> tuple[WordTable, str]:
    """Vectors of words, and what they are called: those of a run, or of a file in word2vec's text or binary format.

    `text` is a file, or what stands for a run; `checkpoint` is `last`, `best` or a number of tokens (None: best where
    there is one, else last). Raises RunError, DataError, and ConfigError where the model has no vectors, which `what`
    needs.
    """
    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from language import vector_files

    if (path := vector_files.named(text)) is not None:
        return vector_files.read(path), path.name
    run = Run.open(text, "language")
    opened = _opened(run, chosen_checkpoint(run, checkpoint), device)  # who trains with them has threads of its own
    opened.require("vectors", what)
    return table_of(opened.model.vectors(), opened.vocabulary.symbols), run.name


def spec_of(run: Run) -> TextSpec:
    """What the text of a run looks like."""
    return from_json(TextSpec, saved.mapping_of(run, saved.mapping_of(run, run.config, "text"), "spec"))


def keep_with(run: Run, data: TextData | LabelledTexts, text_name: str) -> None:
    """Keeps in a run's folder what cannot be had again: the vocabulary, and standard input. Raises StorageError."""
    if text_name == STANDARD_INPUT and isinstance(data, TextData):
        text.keep(data, run.path / _KEPT)
    vocabularies.save(run.path / _VOCABULARY, data.vocabulary)


def vocabulary_of(run: Run) -> Vocabulary:
    """The symbols of a run, and their ids. Raises RunError where they are missing or damaged."""
    try:
        return vocabularies.read(run.path / _VOCABULARY)
    except DataError as error:
        raise RunError(f"{run.name}: {error}; without its vocabulary nothing can be read") from error


def text_of(run: Run) -> TextData | LabelledTexts:
    """The text of a run. Raises DataError where it is gone, RunError where it is not the same any more."""
    part = saved.mapping_of(run, run.config, "text")
    name, options = _text(run, part, "name"), dict(part.get("options") or {})
    if name == STANDARD_INPUT:
        data: TextData | LabelledTexts = text.kept(run.path / _KEPT, spec_of(run).name, options)
    else:
        data = text.load(name, **options)
    if data.fingerprint != part.get("fingerprint"):
        raise RunError(
            f"the text {name} has changed since {run.name} began (fingerprint {part.get('fingerprint')}, now "
            f"{data.fingerprint}): put the old one back, or start a new run"
        )
    return data


def models_with(ability: str) -> str:
    """Which of the registered models have an ability, in a sentence. Imports them."""
    return saved.models_with(LANGUAGE, ability)


def _text(run: Run, part: dict[str, Any], key: str) -> str:
    return saved.text_of(run, part, key, "model or text")
