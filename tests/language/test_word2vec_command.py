"""`python -m language.train word2vec`: going on exactly, texts of every kind, and what it refuses."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from small_texts import piped, sentences

from aprendiz.run import Run
from aprendiz.text import build, files, reading
from language import train, vectors
from language.saved import open_words
from language.token_chunks import TokenChunks
from tests import training_runs
from tests.training_runs import assert_same_run, lines, refused_by

WORD2VEC = ("word2vec", "--dimensions", "12", "--min-count", "1", "--threads", "1", "--subsampling", "0.01")
COMMON = ("--wandb", "disabled", "--device", "cpu")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    return tmp_path / "runs"


@pytest.fixture
def book(tmp_path: Path) -> str:
    (tmp_path / "book.txt").write_text(sentences(150))
    return f"file:{tmp_path / 'book.txt'}"


def trained(*arguments: str) -> Run:
    assert train.run_command([*WORD2VEC, *COMMON, *arguments]) == 0
    return Run.open("latest")


def stopped(tokens: int, *arguments: str) -> Run:
    words = [*WORD2VEC, *COMMON, *arguments]
    return training_runs.stop_at(tokens, train.run_command, words, signal.SIGTERM, TokenChunks)


def resumed(run: Run) -> Run:
    assert train.run_command(["--resume", str(run.path), "--wandb", "disabled"]) == 0
    return Run.open(run.path)


def test_an_interrupted_run_goes_on_exactly(book: str) -> None:
    arguments = ("--data", book, "--tokens", "4_000", "--validation", "0.1", "--validations", "6")
    whole = trained(*arguments)
    run = stopped(1_500, *arguments)
    assert 1_000 < run.load()["loop"]["units"] < 2_000 and len(lines(whole)) > 5
    assert_same_run(resumed(run), whole)


def test_standard_input_is_kept_with_the_run_which_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--data", "-", "--tokens", "4_000")
    monkeypatch.setattr(sys, "stdin", piped(sentences(150).encode()))
    whole = trained(*arguments)
    monkeypatch.setattr(sys, "stdin", piped(sentences(150).encode()))
    run = stopped(1_500, *arguments)
    monkeypatch.setattr(sys, "stdin", piped(b""))
    assert_same_run(resumed(run), whole)


def test_one_seed_and_one_thread_write_the_same_file_of_vectors_and_another_seed_another(
    book: str, tmp_path: Path
) -> None:
    written = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run = trained("--data", book, "--tokens", "2_000", "--seed", seed)
        vectors.command([str(run.path), "--out", str(tmp_path / f"{name}.bin")])
        written.append((tmp_path / f"{name}.bin").read_bytes())
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize("end", ["\n", " "], ids=["lines", "one line"])
def test_a_text_that_is_mapped_from_the_cache_teaches_the_same(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.txt").write_text(sentences(500).replace("\n", end))
    found = []
    for small in (build.SMALL_CHARACTERS, 0):
        monkeypatch.setattr(build, "SMALL_CHARACTERS", small)
        monkeypatch.setattr(reading, "BLOCK", 5_000)
        monkeypatch.setattr(files, "_SETTLED_SECONDS", -3_600.0)
        run = trained("--data", f"file:{tmp_path / 'book.txt'}", "--epochs", "2")
        found.append(open_words(str(run.path))[0])
        assert (tmp_path / "cache" / "texts").exists() == (small == 0)
    assert found[0].words == found[1].words
    np.testing.assert_array_equal(found[0].vectors, found[1].vectors)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (
            b"the cat sat on the mat\n",
            "no word occurs 5 times in the training part of given; use a longer text, or a lower min_count",
        ),
        (b"hello " * 20, "word2vec needs at least 2 words, given has 1; use a longer text or --min-count 1"),
        (b"hello\nworld\n" * 20, "no line of given has two words of the vocabulary"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 50, "holds NUL bytes: that is no text"),
        ("El niño comió piña.\n".encode("latin-1") * 50, "is not UTF-8 .*--encoding latin-1"),
        (b"\x1f\x8b\x08" + b"\0" * 9, "is gzipped, and damaged"),
    ],
    ids=["empty", "mark alone", "short", "one word", "a word a line", "binary", "latin-1", "damaged archive"],
)
def test_a_file_that_cannot_be_learned_from_ends_in_one_line(
    content: bytes, said: str, tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given.txt").write_bytes(content)
    arguments = ["word2vec", "--threads", "1", *COMMON, "--data", f"file:{tmp_path / 'given.txt'}"]
    line = refused_by(train.run_command, capsys, *arguments)
    assert re.search(said, line) and not runs.exists()
