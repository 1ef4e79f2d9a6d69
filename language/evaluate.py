"""Score saved models: predictors and classifiers on text that they never learned from, vectors on word tasks.

python -m language.evaluate RUN [RUN ...]
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError
from aprendiz.evaluate_command import print_rows, show_and_keep

if TYPE_CHECKING:
    from aprendiz.run import Run
    from language.saved import SavedModel
    from language.word_tasks import WordTable

PROG = "python -m language.evaluate"
LARGEST_BASELINE = 12_000_000
"""Training tokens up to which n-grams are counted beside a model: of so many they take less than 2 GB."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder, its name, a text or model (its newest run), or `latest`; or a file of word vectors."""
    split: Literal["test", "validation"] = "test"
    """Which part of the text. Choose between models by the validation part, and score the test part once."""
    ngram: bool = True
    """Beside models that predict: count n-grams on the same training part, choose their order on the validation part,
    and score them on the same text. Left out where the training part has more than 12,000,000 tokens."""
    analogies: tuple[Path, ...] = ()
    """Of vectors: files in the format of questions-words, a word with three others a line. Without any file: analogies
    of common words."""
    similarity: tuple[Path, ...] = ()
    """Of vectors: files of word pairs with people's scores, such as WordSim-353 and SimLex-999."""
    restrict: int = 30_000
    """Analogies are answered among so many of the most frequent words."""
    seed: int = 1000
    """Decides where the windows lie that predictors are scored on, and whatever else is random."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if self.restrict < 4:
            raise ConfigError(f"restrict must be at least 4, got {self.restrict}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Score saved language models.")
    if not options.runs:
        raise ConfigError(f"which run? give its folder, its name, a text, a model or `latest`; {PROG} --help")
    from aprendiz.run import Run
    from language import vector_files

    found = [vector_files.named(text) or Run.open(text, "language") for text in options.runs]
    for one in found:
        if isinstance(one, Path):
            evaluate_file(one, options)
        else:
            evaluate_run(one, options)


def evaluate_run(run: Run, options: Options) -> dict[str, Any]:
    """Evaluate one run, print the result, add it to the run's evaluations.json, and return it.

    Raises StorageError where it cannot be added; it is printed all the same.
    """
    from aprendiz.session import chosen_checkpoint
    from language.saved import open_model

    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    if options.analogies or options.similarity:
        saved.require("vectors", "--analogies" if options.analogies else "--similarity")
    began = time.perf_counter()
    metrics: dict[str, Any] = {}
    protocol: dict[str, Any] = {"seed": options.seed}
    notes: list[str] = []
    able = saved.model.abilities
    if not {"predict", "classify"}.isdisjoint(able) or _held_out_tokens(run, options.split) > 1:
        _held_out(saved, options, metrics, protocol, notes)
    if "vectors" in able:
        _words(saved, options, metrics, protocol, notes)
    result = {
        "text": run.task,
        "model": run.learner,
        "which": saved.which,
        "checkpoint_step": saved.step,
        "metrics": {name: _plain(value) for name, value in metrics.items()},
        "protocol": protocol,
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 1),
    }
    show_and_keep(run, result, _rows(result), "tokens")
    return result


def _held_out_tokens(run: Run, split: str) -> int:
    """Of the part, as far as its run knows: vectors need no text to be looked at."""
    return int(run.config.get("text", {}).get("sizes", {}).get(split, 0))


def _held_out(
    saved: SavedModel, options: Options, metrics: dict[str, Any], protocol: dict[str, Any], notes: list[str]
) -> None:
    """What the model measures on its part of the text, and the n-grams beside it."""
    from language.core import Purpose, torch_generator

    part = getattr(saved.data, options.split)
    if len(part.ids) < 2:
        raise ConfigError(f"{saved.run.task} has no {options.split} part to score {saved.run.name} on")
    protocol |= {"split": options.split, "tokens": len(part.ids), "text_fingerprint": saved.data.fingerprint}
    if hasattr(part, "labels"):
        protocol |= {"texts": len(part)}
    if "predict" in saved.model.abilities:
        from language.held_out import WINDOW, WINDOWS

        length = min(WINDOW, len(part.ids) - 1)
        protocol |= {"windows": WINDOWS, "window_tokens": length, "characters": part.characters}
    metrics |= saved.model.evaluate(saved.data, options.split, torch_generator(options.seed, Purpose.EVALUATION))
    if not options.ngram or "predict" not in saved.model.abilities or saved.run.learner == "ngram":
        return
    if len(saved.data.train.ids) > LARGEST_BASELINE:
        notes.append(f"more than {LARGEST_BASELINE:,} tokens: for n-grams beside, train and evaluate the model ngram")
    else:
        counted = best_ngram(saved.data)
        scores = counted.evaluate(saved.data, options.split, torch_generator(options.seed, Purpose.EVALUATION))
        metrics |= {f"ngram_{name}": value for name, value in scores.items()}


def best_ngram(data: Any) -> Any:
    """n-grams (interpolated Kneser-Ney with modified discounts) of the training part of a text, their order chosen on
    the validation part."""
    from language.ngram import NGram

    config = NGram.presets(data.spec)["default"]
    tokens = len(data.train)
    config = NGram.resolve(config, data.spec, train_tokens=tokens, budget_tokens=tokens)
    model = NGram(config, data.spec, data.vocabulary, seed=0)
    source = model.make_source(data, seed=0)
    while (work := source.next()).batch is not None:
        model.update(work.batch)
    return model


def _words(
    saved: SavedModel, options: Options, metrics: dict[str, Any], protocol: dict[str, Any], notes: list[str]
) -> None:
    """What the vectors of a model know of words: by the files that are given, else by analogies of common words."""
    from language import common_words, word_tasks

    table = word_tasks.table_of(saved.model.vectors(), saved.vocabulary.symbols)
    if options.analogies or not options.similarity:
        protocol["restrict"] = options.restrict
    if options.analogies or options.similarity:
        files = {"analogies": options.analogies, "similarity": options.similarity}
        protocol |= {name: [path.name for path in given] for name, given in files.items() if given}
        metrics |= word_metrics(table, options)
        return
    answers = word_tasks.answer_analogies(
        table.vectors, table.words, common_words.questions(), vocabulary=options.restrict
    )
    more = "give --analogies FILE (questions-words) and --similarity FILE (WordSim-353, SimLex-999)"
    if not answers.over().asked:
        notes.append(f"the {len(table.words):,} words have too few common ones among them to make analogies of; {more}")
        return
    metrics |= {f"common_{name}": value for name, value in answers.metrics().items()}
    protocol["common_words"] = True
    notes.append(f"analogies of common words, each pair with every other one of its kind; for others {more}")


def word_metrics(table: WordTable, options: Options) -> dict[str, float]:
    """Results of all files of word tasks; those of several files of a kind are told apart by the files' names."""
    from language import word_tasks

    metrics: dict[str, float] = {}
    for path in options.analogies:
        questions = word_tasks.read_questions(path)
        answers = word_tasks.answer_analogies(table.vectors, table.words, questions, vocabulary=options.restrict)
        prefix = f"{path.stem}_" if len(options.analogies) > 1 else ""
        metrics |= {f"{prefix}{name}": value for name, value in answers.metrics().items()}
    for path in options.similarity:
        result = word_tasks.similarity(table.vectors, table.words, word_tasks.read_judgements(path))
        metrics |= {
            f"{path.stem}_spearman": result.spearman,
            f"{path.stem}_pairs": result.pairs,
            f"{path.stem}_unknown": result.unknown,
        }
    return metrics


def evaluate_file(path: Path, options: Options) -> dict[str, float]:
    """Word tasks of a file of vectors, printed and returned."""
    from language import vector_files

    if not options.analogies and not options.similarity:
        raise ConfigError(f"{path} holds vectors: give --analogies FILE or --similarity FILE to score them on")
    table = vector_files.read(path)
    metrics = word_metrics(table, options)
    print_rows(f"{path}: {len(table.words):,} words", _rows({"metrics": metrics, "protocol": {}, "notes": []}))
    return metrics


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    metrics, protocol, rows = result["metrics"], result["protocol"], []
    for name, value in metrics.items():
        if name.startswith("ngram_") and name.removeprefix("ngram_") in metrics:
            continue
        text = "not finite" if value is None else f"{value:.5g}"
        beside = metrics.get(f"ngram_{name}")
        rows.append((name.replace("_", " "), text if beside is None else f"{text}   (n-grams: {beside:.5g})"))
    if "split" in protocol:
        texts = f", {protocol['texts']:,} texts" if "texts" in protocol else ""
        rows.append(("scored on", f"{protocol['tokens']:,} {protocol['split']} tokens{texts}"))
    if "windows" in protocol:
        places = (
            f"{protocol['windows']} of {protocol['window_tokens']} tokens from a zero state, seed {protocol['seed']}"
        )
        rows.append(("windows", places))
    return [*rows, *(("note", note) for note in result["notes"])]


def _plain(value: Any) -> float | None:
    """A number as JSON holds it."""
    import math

    number = float(value)
    return number if math.isfinite(number) else None


if __name__ == "__main__":
    cli.main(command)
