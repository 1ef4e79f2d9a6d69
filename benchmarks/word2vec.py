"""word2vec beside gensim: words a second, worth of the vectors, and memory, on the same text with the same settings.

Settings: 100 dimensions, windows of 5, 5 negatives, subsampling 1e-4, words that occur 5 times, 5 passes, a rate that
falls from 0.025 (CBOW: 0.05) to 0.0001, 2 threads. gensim reads its text in the way that is faster here (lists in
memory, or `corpus_file`), found out first in one pass each.

Each training has a process of its own, and they take turns: ours and gensim's with the same seed, the order changing
from seed to seed. Words a second are raw words (those that are dropped count) by the wall clock of training alone,
without reading, counting and compiling. Vectors of both are judged by the same code: analogies among the 30,000 most
frequent words, WordSim-353 and SimLex-999.

    pip install "gensim==4.4.0"
    python -m benchmarks.word2vec --text english.txt.gz --words FOLDER

FOLDER holds questions-words.txt, wordsim353.tsv and simlex999.txt. The text has its words between spaces.

    python -m benchmarks.word2vec --text english.txt.gz --memory

measures something else, and needs neither gensim nor FOLDER: the most memory that `python -m language.train word2vec`
takes for one pass over a text of `--megabytes`, made by repeating the other one, and over a fifth of that in a single
line. Each has a process and an empty cache of its own, so that reading, counting and numbering the text are in it, and
so are PyTorch, the compiler, and the pages of the mapped text that are in memory.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result
from benchmarks.text_encoding import repeated

SCORES = ("analogies", "wordsim353", "simlex999")
_TRAIN = """
import json, sys
from language.train import run_command
code = run_command(sys.argv[1:])
from aprendiz.run import Run
from benchmarks.word2vec import peak_megabytes
run = Run.open("latest", "language")
text, model = run.config["text"], run.config["model"]["hyperparameters"]
print(json.dumps({
    "code": code,
    "peak_megabytes": peak_megabytes(),
    "tokens": text["sizes"]["train"],
    "seconds": run.load()["loop"]["elapsed_seconds"],
    "model_megabytes": 2 * text["spec"]["vocabulary_size"] * -(-model["dimensions"] // 16) * 16 * 4 / 2**20,
}))
"""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """word2vec beside gensim."""

    text: Path
    """A text file, gzipped or not, with its words between spaces."""
    words: Optional[Path] = None  # noqa: UP045 (tyro's help reads better)
    """Folder of questions-words.txt, wordsim353.tsv and simlex999.txt."""
    architectures: tuple[Literal["skip-gram", "cbow"], ...] = ("skip-gram", "cbow")
    """Which."""
    seeds: int = 3
    """Trainings of each kind, with seeds 1, 2, ..."""
    threads: int = 2
    """Threads of ours, workers of gensim's."""
    epochs: int = 5
    """Passes over the text."""
    own_negatives: bool = False
    """Trains ours a second time with negatives drawn for each pair, to see what sharing them costs."""
    memory: bool = False
    """Measures the memory that a large text takes, and nothing else."""
    megabytes: int = 1_000
    """Size of that text; its single line has a fifth."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.threads < 1 or self.epochs < 1:
            raise ConfigError("--seeds, --threads and --epochs must be at least 1")
        if self.megabytes < 20:
            raise ConfigError(f"--megabytes must be at least 20, got {self.megabytes}")
        if self.words is None and not self.memory:
            raise ConfigError("--words wants the folder of questions-words.txt, wordsim353.tsv and simlex999.txt")
        for path in (self.text, self.words):
            if path is not None and not path.exists():
                raise ConfigError(f"{path} does not exist")
        if not self.memory and importlib.util.find_spec("gensim") is None:
            raise ConfigError('gensim is missing; pip install "gensim==4.4.0"')


def scores(vectors: Any, words: Any, folder: Path | None) -> dict[str, float]:
    """What vectors are worth."""
    from language import word_tasks as tasks

    assert folder is not None
    answers = tasks.answer_analogies(vectors, words, tasks.read_questions(folder / "questions-words.txt")).over()
    result = {"analogies": answers.accuracy, "analogies_asked": answers.asked, "analogies_unknown": answers.unknown}
    for name, file in (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")):
        found = tasks.similarity(vectors, words, tasks.read_judgements(folder / file))
        result |= {name: found.spearman, f"{name}_unknown": found.unknown}
    return result


def ours(options: Options, text: Path, architecture: str, seed: int, own: bool) -> dict[str, float]:
    """One training, as `python -m language.train word2vec` does it."""
    import numpy as np

    from aprendiz import text as texts
    from aprendiz.loop import Budget, Cadence, train
    from aprendiz.run import Run
    from aprendiz.text.core import LINE_END, TextData
    from language.word2vec import Word2Vec

    started = time.perf_counter()
    defaults = {key: value for key, value in Word2Vec.text_defaults.items() if key != "min_count"}
    defaults |= {"tokens": "whitespace", "lower": False}  # as gensim's LineSentence reads
    data = texts.load(f"file:{text}", **defaults, min_count=5)
    assert isinstance(data, TextData)
    opened = time.perf_counter() - started
    cbow = architecture == "cbow"
    config = Word2Vec.Config(
        architecture=architecture, learning_rate=0.05 if cbow else 0.025, threads=options.threads, share_negatives=not
        own
    )  # fmt: skip
    tokens = options.epochs * len(data.train)
    config = Word2Vec.resolve(config, data.spec, train_tokens=len(data.train), budget_tokens=tokens)
    warm = Word2Vec(config, data.spec, data.vocabulary, seed=seed)  # compiles, or loads what was compiled
    chunk = warm.make_source(data, seed=seed).next(20_000).batch
    assert chunk is not None
    warm.update(chunk)
    model = Word2Vec(config, data.spec, data.vocabulary, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(
            kind="language", task="t", learner="m", seed=seed, config={}, command=[], device="cpu", root=Path(folder)
        )
        cadence = Cadence(log_every_units=1_000_000, checkpoint_every_minutes=1e9, step_name="tokens")
        source = model.make_source(data, seed=seed)
        state = train(model, source, run, Budget(units=tokens), cadence=cadence, progress=False).state
        run.close()
    line_ends = sum(
        int((np.asarray(data.train.ids[first : first + 2**20]) == LINE_END).sum())
        for first in range(0, len(data.train), 2**20)
    )
    words = state.units - options.epochs * line_ends
    peak = peak_megabytes()
    return {
        "words_per_second": words / state.elapsed_seconds,
        "words": words,
        "vocabulary": data.spec.vocabulary_size - 2,
        "seconds_before_training": opened,
        "peak_megabytes": peak,
        **scores(model.vectors(), data.vocabulary.symbols, options.words),
    }


def gensim(options: Options, text: Path, architecture: str, seed: int, reads: str, epochs: int) -> dict[str, float]:
    """One training of gensim's."""
    from gensim.models import Word2Vec
    from gensim.models.word2vec import LineSentence

    started = time.perf_counter()
    cbow = architecture == "cbow"
    model = Word2Vec(
        vector_size=100, window=5, negative=5, sample=1e-4, min_count=5, sg=not cbow, workers=options.threads,
        alpha=0.05 if cbow else 0.025, min_alpha=0.0001, seed=seed,
    )  # fmt: skip
    corpus = (
        {"corpus_file": str(text)} if reads == "corpus_file" else {"corpus_iterable": list(LineSentence(str(text)))}
    )
    model.build_vocab(**corpus)
    opened = time.perf_counter() - started
    started = time.perf_counter()
    _, words = model.train(
        **corpus, total_examples=model.corpus_count, total_words=model.corpus_total_words, epochs=epochs
    )  # fmt: skip
    seconds = time.perf_counter() - started
    peak = peak_megabytes()
    result = {
        "words_per_second": words / seconds,
        "words": words,
        "vocabulary": len(model.wv),
        "seconds_before_training": opened,
        "peak_megabytes": peak,
    }
    return result | (scores(model.wv.vectors, model.wv.index_to_key, options.words) if epochs == options.epochs else {})


def peak_megabytes() -> float:
    """The most memory that this process has had resident, mapped files included."""
    try:  # getrusage would count what the process was before it became this one
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _in_child(function: Callable[..., Any], arguments: tuple[Any, ...], results: Any) -> None:
    results.put(function(*arguments))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that has a process to itself."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_in_child, args=(function, arguments, results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{function.__name__} ended with exit code {process.exitcode}")
    return results.get()


def memory(options: Options) -> dict[str, dict[str, float]]:
    """What one pass over a large text takes, with lines and without."""
    with gzip.open(options.text) if is_compressed(options.text) else options.text.open("rb") as file:
        content = file.read()
    texts = {
        "lines": (content.rstrip(b"\n") + b"\n", options.megabytes * 10**6),
        "one line": (b" ".join(content.split()) + b" ", options.megabytes * 10**6 // 5),
    }
    found = {}
    for name, (repeat, size) in texts.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "text.txt")
            repeated(path, repeat, size)
            arguments = ("--data", f"file:{path}", "--epochs", "1", "--threads", str(options.threads))
            done = subprocess.run(
                [sys.executable, "-c", _TRAIN, "word2vec", *arguments, "--device", "cpu", "--wandb", "disabled"],
                cwd=Path(__file__).resolve().parents[1],
                env={**os.environ, "APRENDIZ_DATA": f"{folder}/cache", "APRENDIZ_RUNS": f"{folder}/runs"},
                stdout=subprocess.PIPE,
                check=True,
            )
            megabytes = path.stat().st_size / 1e6
        found[f"{name}, {megabytes:,.0f} MB"] = json.loads(done.stdout.splitlines()[-1])
    return found


def show_memory(found: Mapping[str, Mapping[str, float]]) -> None:
    rows = [["text", "words", "s", "peak MB", "model MB", "peak without the model, MB"]]
    for name, one in found.items():
        sizes = (one["peak_megabytes"], one["model_megabytes"], one["peak_megabytes"] - one["model_megabytes"])
        rows.append([name, f"{one['tokens']:,}", f"{one['seconds']:.0f}", *(f"{size:,.0f}" for size in sizes)])
    print_table(rows)


def is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def mean_and_error(values: list[float]) -> dict[str, float]:
    """Mean, and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": statistics.mean(values), "standard_error": error}


def compare(options: Options, text: Path, architecture: str) -> dict[str, Any]:
    """All trainings of one architecture."""
    probes = {
        reads: apart(gensim, options, text, architecture, 1, reads, 1)["words_per_second"]
        for reads in ("memory", "corpus_file")
    }
    reads = max(probes, key=lambda name: probes[name])
    turns: dict[str, tuple[Any, ...]] = {
        "ours": (ours, options, text, architecture, False),
        "gensim": (gensim, options, text, architecture, reads),
    }
    if options.own_negatives and architecture == "skip-gram":
        turns["ours, own negatives"] = (ours, options, text, architecture, True)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
    for seed in range(1, options.seeds + 1):
        for name in list(turns) if seed % 2 else reversed(turns):
            function, *arguments, last = turns[name]
            rest = (last, options.epochs) if function is gensim else (last,)
            one = apart(function, *arguments, seed, *rest)
            found[name].append(one)
            print(f"{architecture}, {name}, seed {seed}: " + _line(one), flush=True)
    result: dict[str, Any] = {"gensim_reads": reads, "gensim_probes_words_per_second": probes, "trainings": found}
    result["words_per_second"] = {
        name: statistics.median(one["words_per_second"] for one in runs) for name, runs in found.items()
    }
    result["ratio"] = statistics.median(
        mine["words_per_second"] / theirs["words_per_second"]
        for mine, theirs in zip(found["ours"], found["gensim"], strict=True)
    )
    result["scores"] = {
        name: {score: mean_and_error([one[score] for one in runs]) for score in SCORES} for name, runs in found.items()
    }
    result["peak_megabytes"] = {name: max(one["peak_megabytes"] for one in runs) for name, runs in found.items()}
    return result


def _line(result: Mapping[str, float]) -> str:
    judged = ", ".join(f"{name} {result[name]:.3f}" for name in SCORES)
    return f"{result['words_per_second']:,.0f} words/s, {judged}, {result['peak_megabytes']:,.0f} MB"


def show(architecture: str, result: Mapping[str, Any]) -> None:
    rows = [[architecture, "words/s", *SCORES, "peak MB"]]
    for name in result["trainings"]:
        judged = [f"{one['mean']:.3f} ± {one['standard_error']:.3f}" for one in result["scores"][name].values()]
        rows.append(
            [name, f"{result['words_per_second'][name]:,.0f}", *judged, f"{result['peak_megabytes'][name]:,.0f}"]
        )
    print()
    print_table(rows)
    print(f"ratio of words a second: {result['ratio']:.2f}")


def run(argv: list[str]) -> int:
    """The benchmark."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.word2vec", description=__doc__ or "")
    before = machine()
    if options.memory:
        found = memory(options)
        show_memory(found)
        write_result("word2vec_memory", options, {"text": options.text.name, "results": found}, before)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        text = options.text
        if is_compressed(text):  # gensim's corpus_file reads plain text only
            text = Path(folder) / text.name.removesuffix(".gz")
            with gzip.open(options.text, "rb") as packed, text.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        results = {architecture: compare(options, text, architecture) for architecture in options.architectures}
    for architecture, result in results.items():
        show(architecture, result)
    versions = {"gensim": importlib.metadata.version("gensim"), "numba": importlib.metadata.version("numba")}
    write_result("word2vec", options, {"text": options.text.name, "versions": versions, "results": results}, before)
    return 0


if __name__ == "__main__":
    main(run)
