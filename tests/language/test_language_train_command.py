"""`python -m language.train` from end to end: what it leaves behind, stopping and going on, and what it refuses."""

from __future__ import annotations

import functools
import json
import math
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bigram import Bigram, Stretches
from small_texts import piped, sentences

from aprendiz.loop import Outcome
from aprendiz.run import Run
from language.saved import open_model, text_of
from language.train import run_command
from tests import training_runs
from tests.training_runs import (
    assert_same_run,
    change_config,
    forget,
    lines,
    plain,
    record_tracking,
    refused_by,
    truncate_the_tensors,
)

COMMON = ("--wandb", "disabled", "--device", "cpu")
MODEL = "bigram:Bigram"
BIGRAM = (MODEL, "--samples", "20", "--validations", "4", *COMMON)
"""Small enough to be trained many times."""
refused = functools.partial(refused_by, run_command)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "book.txt"
    path.write_text(sentences(150))
    return path


def train(*arguments: str) -> Run:
    """Trains to the end; returns the run."""
    assert run_command(list(arguments)) == 0
    return Run.open("latest")


def resume(run: Run, *arguments: str) -> Run:
    assert run_command(["--resume", str(run.path), *COMMON[:2], *arguments]) == 0
    return Run.open(run.path)


def stop_at(tokens: int, arguments: list[str], number: signal.Signals = signal.SIGTERM) -> Run:
    return training_runs.stop_at(tokens, run_command, arguments, number, Stretches)


# Stopping and going on


@pytest.mark.parametrize(("stops", "number"), [((150,), signal.SIGINT), ((700, 1_450), signal.SIGTERM)])
def test_interrupted_equals_uninterrupted(book: Path, stops: tuple[int, ...], number: signal.Signals) -> None:
    arguments = [*BIGRAM, "--data", f"file:{book}", "--tokens", "2_000"]
    whole = train(*arguments)
    run = stop_at(stops[0], arguments, number)
    assert run.status()["state"] == "stopped" and run.status()["step"] >= stops[0]
    for stop in stops[1:]:
        run = stop_at(stop, ["--resume", str(run.path), *COMMON[:2]], number)
    run = resume(run)
    assert run.status()["state"] == "finished"
    assert_same_run(run, whole)


def test_one_seed_gives_one_training_and_another_seed_another(book: Path) -> None:
    arguments = (*BIGRAM, "--data", f"file:{book}", "--tokens", "400")
    one, two, other = (train(*arguments, "--seed", seed) for seed in ("3", "3", "4"))
    assert_same_run(one, two)
    assert lines(one) != lines(other)


def test_a_finished_run_goes_on_to_a_larger_total_and_nothing_of_it_moves(book: Path) -> None:
    arguments = (MODEL, "--samples", "0", "--validations", "0", *COMMON, "--data", f"file:{book}")
    run = train(*arguments, "--tokens", "500")
    before = run.config
    run = resume(run, "--tokens", "1_000")
    assert run.config["budget"] == {"tokens": 1_000, "epochs": None, "minutes": None, "planned_tokens": 500}
    assert run.config | {"budget": 0} == before | {"budget": 0}
    other = train(*arguments, "--tokens", "1_000")
    np.testing.assert_equal(plain(run.load()["learner"]), plain(other.load()["learner"]))
    run = resume(run, "--epochs", "0.5")
    assert run.load()["loop"]["units"] == round(0.5 * run.config["text"]["sizes"]["train"])


def test_a_run_that_has_seen_its_tokens_says_so(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "200")
    said = refused(capsys, "--resume", str(run.path))
    assert "has already made 200 of 200 tokens; give a larger total" in said and "--tokens 400" in said


def test_the_clock_ends_a_run_that_was_planned_by_measuring(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aprendiz.session.MEASURE_SECONDS", 0.05)
    run = train(*BIGRAM, "--data", f"file:{book}", "--minutes", "0.005")
    assert run.config["budget"]["tokens"] is None and run.config["budget"]["planned_tokens"] > 0
    assert run.status()["state"] == "finished"


def test_without_a_budget_the_model_decides(book: Path) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}")
    assert run.load()["loop"]["units"] == 2 * run.config["text"]["sizes"]["train"]


def test_an_older_checkpoint_can_be_gone_on_from(book: Path, tmp_path: Path) -> None:
    whole = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "2_000")
    run = Run.open(shutil.copytree(whole.path, tmp_path / "copy"))
    older = [step for step in run.steps() if step < 2_000]
    assert older
    assert_same_run(resume(run, "--checkpoint", str(older[-1])), whole)


# Models of one pass


def test_a_model_of_one_pass_ends_with_its_text(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("ngram", "--data", f"file:{book}", "--samples", "0", *COMMON, "--minutes", "5")
    size = run.config["text"]["sizes"]["train"]
    assert run.load()["loop"]["units"] == size and run.status()["state"] == "finished"
    said = refused(capsys, "ngram", "--data", f"file:{book}", "--tokens", str(size + 1), *COMMON)
    assert f"the text has {size:,} of them: give --tokens {size} at most" in said
    assert "nothing more to do" in refused(capsys, "--resume", str(run.path))


def test_half_counted_n_grams_go_on_to_the_whole(book: Path) -> None:
    arguments = ("ngram", "--data", f"file:{book}", "--samples", "0", "--validations", "0", *COMMON)
    whole = train(*arguments)
    half = train(*arguments, "--epochs", "0.5")
    run = resume(half, "--epochs", "1")
    np.testing.assert_equal(plain(run.load()["learner"]), plain(whole.load()["learner"]))


# What it leaves behind


def test_a_run_holds_texts_curves_and_everything_that_decided_it(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}", "--held-out", "0.2", "--tokens", "1_000")
    printed = capsys.readouterr().out
    config = run.config
    assert (run.kind, run.task, run.learner) == ("language", "book", MODEL)
    assert config["text"]["name"] == f"file:{book}" and config["text"]["options"]["held_out"] == 0.2
    data = text_of(run)
    assert config["text"]["sizes"] == {part: len(getattr(data, part).ids) for part in ("train", "validation", "test")}
    assert config["text"]["spec"] == {
        "name": "book",
        "level": "char",
        "vocabulary_size": len(data.vocabulary),
        "classes": [],
    }
    assert config["model"]["preset"] == "default" and config["model"]["hyperparameters"]["noise"] == 0.1
    assert config["budget"] == {"tokens": 1_000, "epochs": None, "minutes": None, "planned_tokens": 1_000}
    texts = sorted(path.name for path in run.samples.glob("text-*.txt"))
    assert texts[-1] == "text-000000001000.txt" and (run.samples / "curves.png").exists()
    assert len((run.samples / texts[-1]).read_text()) == 21
    assert {"train/loss", "eval/score", "eval/nats_per_token"} <= {name for line in run.metrics() for name in line}
    assert "--- after 1,000 tokens" in printed and f"python -m language.sample {run.name}" in printed
    assert json.loads((run.path / "vocabulary.json").read_text())["level"] == "char"


def test_the_texts_on_the_way_are_made_of_the_same_random_numbers(book: Path) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "400", "--learning-rate", "1e-12")
    written = sorted(run.samples.glob("text-*.txt"))
    assert len(written) > 1 and len({path.read_text() for path in written}) == 1


def test_texts_of_a_slow_model_are_written_less_often(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aprendiz.time_share.SHARE_OF_TIME", 0.0)
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "400")
    assert len(list(run.samples.glob("text-*.txt"))) == 2  # the first and the last


def test_a_text_of_words_or_bytes_keeps_its_options(book: Path) -> None:
    words = ("--level", "word", "--min-count", "2", "--text-tokens", "whitespace", "--lower")
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "300", *words)
    assert {"level": "word", "min_count": 2, "tokens": "whitespace", "lower": True}.items() <= run.config["text"][
        "options"
    ].items()
    assert resume(run, "--tokens", "400").config["text"]["options"] == run.config["text"]["options"]
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "300", "--level", "byte")
    assert run.config["text"]["spec"]["vocabulary_size"] == 256


def test_standard_input_is_kept_with_the_run_and_resumed_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (*BIGRAM, "--data", "-", "--tokens")
    monkeypatch.setattr(sys, "stdin", piped(sentences(150).encode()))
    run = train(*arguments, "300")
    assert run.task == "standard-input" and run.config["text"]["name"] == "-"
    monkeypatch.setattr(sys, "stdin", piped(b""))
    run = resume(run, "--tokens", "600")
    monkeypatch.setattr(sys, "stdin", piped(sentences(150).encode()))
    whole = train(*arguments, "600", "--validations", "8")
    np.testing.assert_equal(plain(run.load()["learner"]), plain(whole.load()["learner"]))
    shutil.rmtree(run.path / "text")
    assert "error: " in refused(capsys, "--resume", str(run.path), "--tokens", "900", *COMMON[:2])


def test_metrics_texts_and_curves_go_to_weights_and_biases(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = record_tracking(monkeypatch, "tokens")
    arguments = [word for word in BIGRAM if word not in ("--wandb", "disabled")]
    run = stop_at(120, [*arguments, "--data", f"file:{book}", "--tokens", "600", "--wandb", "offline"])
    assert run_command(["--resume", run.name]) == 0
    first, second = made
    assert first.given.run_id == second.given.run_id == run.info["wandb_id"]
    assert (first.given.resumed, second.given.resumed) == (False, True)
    assert first.given.step_metric == "tokens" and first.given.config["model"]["name"] == MODEL
    assert first.logged[-1] <= 300 <= second.logged[0]
    assert {"sample/text", "sample/curves"} == set(second.media)
    assert first.ended == [300, "finished with 0"] and second.ended == [600, "finished with 0"]


# Losses that are no numbers


def test_nan_losses_stop_the_run_and_a_lower_learning_rate_goes_on(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, count = Bigram.update, [0]

    def explode(self: Any, batch: Any) -> Outcome:
        outcome = original(self, batch)
        count[0] += 1
        return outcome if count[0] < 8 else Outcome({"loss": torch.tensor(math.nan)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bigram, "update", explode)
        line = refused(capsys, *BIGRAM, "--data", f"file:{book}", "--tokens", "1_000")
    run = Run.open("latest")
    assert "diverged: loss became nan" in line and "(learning_rate is 20) in a new run, or go on with" in line
    assert run.status()["state"] == "diverged"
    run = resume(run, "--learning-rate-factor", "0.1")
    assert run.config["model"]["hyperparameters"]["learning_rate"] == pytest.approx(2.0)
    assert run.load()["loop"]["units"] == 1_000


# What it refuses: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ltsm"], "unknown name 'ltsm'.* closest: lstm"),
        (["ngram", "--data", "pydok"], "unknown name 'pydok' among the .* texts; closest: pydoc"),
        (["ngram", "--data", "file:/nowhere.txt"], "there is no file /nowhere.txt"),
        (["ngram", "--data", "folder:/nowhere"], "there is no folder /nowhere"),
        ([], "name a model first"),
        (["--tokens", "5"], "name a model first"),
        (["ngram", "--tokesn", "5"], "unknown option --tokesn; closest: --tokens"),
        (["ngram", "more"], "unexpected argument more"),
        (["ngram", "--tokens"], "--tokens needs a value"),
        (["ngram", "--tokens", "0"], "--tokens must be above 0, got 0"),
        (["ngram", "--tokens", "many"], "--tokens takes INT or None, not 'many'"),
        (["ngram", "--epochs", "1", "--tokens", "5"], "give --epochs or --tokens, not both"),
        (["ngram", "--minutes", "nan"], "--minutes must be above 0"),
        (["ngram", "--seed", "-1"], "--seed must be 0 or more"),
        (["ngram", "--validations", "-1"], "--validations must be 0 or more"),
        (["ngram", "--samples", "-1"], "--samples must be 0 or more"),
        (["ngram", "--checkpoint-minutes", "0"], "--checkpoint-minutes must be above 0"),
        (["ngram", "--preset", "fsat"], "has no preset 'fsat' for pydoc; it has default"),
        (["ngram", "--precision", "bf16"], "ngram learns in fp32, not in bf16"),
        (["ngram", "--device", "tpu"], "unknown device 'tpu': use auto, cpu, cuda or mps"),
        (["ngram", "--wandb", "maybe"], "--wandb cannot be 'maybe'"),
        (["ngram", "--order", "0"], "order must be from 1 to 100, got 0"),
        (["ngram", "--level", "syllable"], "--level cannot be 'syllable'"),
        (["ngram", "--held-out", "1.5"], "held_out is 1.5"),
        (["ngram", "--held-out", "0.6", "--validation", "0.5"], "leave nothing to train on"),
        (["ngram", "--encoding", "utf-99", "--data", "file:/etc/hostname"], "there is no encoding 'utf-99'"),
        (["ngram", "--data", "negation"], "ngram learns from a text without labels"),
        (["word2vec", "--level", "char"], "word2vec learns from tokens of level word, not char"),
        (["--resume"], "--resume needs a value"),
        (["--resume", "nowhere"], "there is no run 'nowhere'"),
        (["--resume", "latest"], "there is no run at all"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, refused(capsys, *arguments))
    assert not runs.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"abc", "has 3 characters: too few"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 50, "holds NUL bytes: that is no text"),
        ("El niño comió piña.\n".encode("latin-1") * 50, "is not UTF-8 .*--encoding latin-1"),
    ],
    ids=["empty", "short", "binary", "latin-1"],
)
def test_a_file_that_is_no_text_ends_in_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given.txt"
    path.write_bytes(content)
    assert re.search(said, refused(capsys, *BIGRAM, "--data", f"file:{path}"))


def test_a_text_shorter_than_a_stretch_ends_in_one_line(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note.txt").write_text(sentences(10)[:70])
    given = ("lstm", "--data", f"file:{tmp_path / 'note.txt'}", *COMMON)
    said = "the training part has 56 tokens, and a stretch takes 65: use a longer text, or shorter stretches (--length)"
    for precision in ("auto", "fp32"):
        assert said in refused(capsys, *given, "--precision", precision)
    assert not runs.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "standard.input is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 50, "standard input holds NUL bytes: that is no text"),
        ("El niño comió piña.\n".encode("latin-1") * 50, "standard input is not UTF-8 .*--encoding latin-1"),
    ],
    ids=["empty", "binary", "latin-1"],
)
def test_standard_input_that_is_no_text_ends_in_one_line(
    content: bytes, said: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", piped(content))
    assert re.search(said, refused(capsys, *BIGRAM, "--data", "-"))
    assert not runs.exists()


def test_a_text_that_changed_or_went_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "letter.txt"
    path.write_text(sentences(100))
    run = train(*BIGRAM, "--data", f"file:{path}", "--tokens", "200")
    path.write_text(sentences(101))
    again = ("--resume", str(run.path), "--tokens", "400", *COMMON[:2])
    assert re.search(
        r"the text file:.* has changed since .* began \(fingerprint \w+, now \w+\)", refused(capsys, *again)
    )
    path.unlink()
    assert "there is no file" in refused(capsys, *again)
    assert open_model(run).model.start(1) is None  # the model itself needs no text


def lose_the_vocabulary(folder: Path) -> None:
    (folder / "vocabulary.json").unlink()


def damage_the_vocabulary(folder: Path) -> None:
    (folder / "vocabulary.json").write_text('{"level": "char"')


def another_vocabulary(folder: Path) -> None:
    info = json.loads((folder / "config.json").read_text())
    info["config"]["text"]["spec"]["vocabulary_size"] = 5
    (folder / "config.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change_config(kind="agents"), "is a run of agents; use python -m agents"),
        (forget("text"), "config.json lacks text: it was cut"),
        (lose_the_vocabulary, "vocabulary.json cannot be read"),
        (damage_the_vocabulary, "vocabulary.json is damaged"),
        (another_vocabulary, "does not fit its own config.json"),
        (truncate_the_tensors, "damaged: tensors.safetensors"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__name__,
)
def test_a_run_that_cannot_be_resumed_says_why_in_one_line(
    book: Path, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "200", "--samples", "0", "--validations", "0")
    damage(run.path)
    assert re.search(said, refused(capsys, "--resume", str(run.path), "--tokens", "400", *COMMON[:2]))


def test_a_run_goes_on_on_another_kind_of_device_in_full_precision(book: Path) -> None:
    run = train(*BIGRAM, "--data", f"file:{book}", "--tokens", "200")
    change_config(config=run.config | {"device": "cuda", "precision": "bf16"})(run.path)
    config = resume(Run.open(run.path), "--tokens", "400", "--device", "cpu").config
    assert (config["device"], config["precision"]) == ("cpu", "fp32")
