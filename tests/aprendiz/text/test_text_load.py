"""Texts by name: their parts, levels, vocabularies, options and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aprendiz.errors import ConfigError, DataError, UnknownNameError
from aprendiz.text import build, canonical, keep, kept, load, names, option_types, options, reading
from aprendiz.text.core import RawText, TextData
from aprendiz.text.encode import Encoding

LETTERS = "".join(chr(ord("a") + number % 7) + ("\n" if number % 11 == 0 else "") for number in range(917))
"""1,001 characters"""


def text(content: str, *, name: str = "made-up", piece: int = 10**9, **encoding) -> TextData:
    shares = {key: encoding.pop(key) for key in ("held_out", "validation") if key in encoding}
    raw = RawText(name=name, pieces=lambda: (content[at : at + piece] for at in range(0, len(content), piece)))
    return build.text_data(raw, Encoding(**encoding), options={}, **{"held_out": 0.1, "validation": 0.1, **shares})


def decoded(data: TextData) -> list[str]:
    return [data.vocabulary.decode(part.ids) for part in (data.train, data.validation, data.test)]


def test_the_last_tenth_is_held_out_as_nanogpt_does_it() -> None:
    data = text(LETTERS)
    n = len(LETTERS)
    assert decoded(data) == [LETTERS[: int(n * 0.8)], LETTERS[int(n * 0.8) : int(n * 0.9)], LETTERS[int(n * 0.9) :]]
    assert [one.characters for one in (data.train, data.validation, data.test)] == [800, 100, 101]


def test_shares_are_reckoned_exactly() -> None:
    assert reading.cuts("x", 1_115_394, 0.1, 0.1) == (892_315, 1_003_854)
    assert reading.cuts("x", 10, 0.3, 0.0) == (7, 7)  # 10 * (1 - 0.9) is 0.99... in floating point
    assert reading.cuts("x", 10, 0.9, 0.0) == (1, 1)


@pytest.mark.parametrize("level", ["char", "byte", "word"])
def test_pieces_and_blocks_of_any_size_give_the_same_ids(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "Où est-ce que, l'œuf?\r\nIci\r\rdon't 中文\n" * 40
    expected = text(content, level=level)
    for piece, block in ((1, 50), (7, 33), (1_000, 1)):
        monkeypatch.setattr(reading, "BLOCK", block)
        again = text(content, level=level, piece=piece)
        assert again.fingerprint == expected.fingerprint and decoded(again) == decoded(expected)


def test_line_ends_of_every_system_become_the_same() -> None:
    assert text("one\r\ntwo\rthree\n" * 20, piece=4).fingerprint == text("one\ntwo\nthree\n" * 20).fingerprint


def test_no_word_is_cut_where_parts_meet() -> None:
    data = text("somewhat longer words " * 51, level="word")
    assert set(data.vocabulary.symbols[2:]) == {"somewhat", "longer", "words"}
    assert not any((part.ids == 0).any() for part in (data.train, data.validation, data.test))
    assert data.train.characters + data.validation.characters + data.test.characters == 1_122
    assert data.train.characters == 901  # 897 would be within a word


def test_parts_of_words_and_characters_are_the_same_stretches() -> None:
    content = "".join(f"number {number % 7} is odd, or not.\n" for number in range(400))
    words, letters = decoded(text(content, level="word")), decoded(text(content))
    for one, other in zip(words, letters, strict=True):
        assert abs(len(one) - len(other)) < 10


def test_the_vocabulary_is_that_of_the_training_part_alone() -> None:
    data = text("ab" * 400 + "xy" * 100)
    assert data.vocabulary.symbols == ("\ufffd", "a", "b") and data.vocabulary.counts.tolist() == [0, 400, 400]
    assert set(data.validation.ids.tolist()) == set(data.test.ids.tolist()) == {0}
    words = text("a b " * 200 + "x y " * 50, level="word")
    assert words.vocabulary.symbols[2:] == ("a", "b") and set(words.test.ids.tolist()) == {0}


def test_words_are_sorted_by_how_often_they_occur_then_by_name() -> None:
    data = text("b a c c\n" * 10, level="word", held_out=0.0, validation=0.0)
    assert data.vocabulary.symbols == ("<unk>", "</s>", "c", "a", "b")
    assert data.vocabulary.counts.tolist() == [0, 10, 20, 10, 10]


def test_rare_symbols_become_unknown_and_are_counted_as_such() -> None:
    whole = {"held_out": 0.0, "validation": 0.0}
    data = text("a a a b b c\n", level="word", min_count=2, **whole)
    assert data.vocabulary.symbols[2:] == ("a", "b") and data.vocabulary.counts.tolist() == [1, 1, 3, 2]
    assert data.train.ids.tolist() == [2, 2, 2, 3, 3, 0, 1]
    data = text("a a a b b c\n", level="word", vocabulary_limit=3, **whole)
    assert data.vocabulary.symbols[2:] == ("a",) and data.vocabulary.counts.tolist() == [3, 1, 3]
    data = text("aaabbc", min_count=2, **whole)
    assert data.vocabulary.symbols[1:] == ("a", "b") and data.train.ids.tolist() == [1, 1, 1, 2, 2, 0]


def test_a_literal_unknown_is_unknown_however_rare_it_is() -> None:
    data = text("a a <unk> a </s>\n" * 2, level="word", tokens="whitespace", min_count=3, held_out=0.0, validation=0.0)
    assert data.train.ids.tolist() == [2, 2, 0, 2, 1, 1] * 2 and data.vocabulary.symbols == ("<unk>", "</s>", "a")


def test_lower_case_is_for_words_alone() -> None:
    assert text("The THE the " * 30, level="word", lower=True).vocabulary.symbols[2:] == ("the",)
    with pytest.raises(ConfigError, match="lower is for words"):
        text("x" * 100, lower=True)


def test_a_validation_part_may_be_left_out() -> None:
    data = text(LETTERS, validation=0.0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [900, 0, 101]


def test_no_option_is_without_effect_on_the_fingerprint() -> None:
    changes: list[dict] = [
        {},
        {"level": "word"},
        {"level": "byte"},
        {"held_out": 0.2},
        {"validation": 0.2},
        {"min_count": 70},
        {"vocabulary_limit": 4},
    ]
    assert len({text(LETTERS, **one).fingerprint for one in changes}) == len(changes)
    assert text(LETTERS + "a").fingerprint != text(LETTERS).fingerprint == text(LETTERS, name="other").fingerprint


@pytest.mark.parametrize(
    ("content", "encoding", "error", "message"),
    [
        ("", {}, DataError, "the text made-up is empty"),
        ("abc", {}, DataError, "has 3 characters: too few to hold out 0.1 and validate on 0.1"),
        ("ab\0c" * 9, {}, DataError, "NUL characters.*character 2"),
        ("ab\ud800" * 9, {}, DataError, "half a character .U.D800"),
        ("   \t" * 9, {"level": "word"}, DataError, "the training part of made-up has no word: use a longer text"),
        ("a b c d e f g h i j", {"level": "word", "min_count": 2}, DataError, "lower min_count"),
        ("x" * 99, {"held_out": 1.0}, ConfigError, "held_out is 1.0"),
        ("x" * 99, {"held_out": 0.5, "validation": 0.5}, ConfigError, "leave nothing to train on"),
        ("x" * 99, {"level": "bpe"}, ConfigError, "char, byte or word"),
        ("x" * 99, {"min_count": 0}, ConfigError, "1 or more"),
        ("x" * 99, {"vocabulary_limit": 2}, ConfigError, "3 symbols or more"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(content: str, encoding: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        text(content, **encoding)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", ["char", "word"])
def test_another_text_can_be_read_with_a_vocabulary_that_is_there(level: str, tmp_path: Path) -> None:
    data = text("Alpha beta, gamma. " * 30, level=level)
    (tmp_path / "other.txt").write_text("gamma delta, alpha Alpha\n" * 20)
    other = load(f"file:{tmp_path}/other.txt", vocabulary=data.vocabulary)
    assert other.vocabulary is data.vocabulary and other.spec.level == level
    whole = np.concatenate([part.ids for part in (other.train, other.validation, other.test)])
    assert whole.tolist() == data.vocabulary.encode("gamma delta, alpha Alpha\n" * 20).tolist()


def test_python_s_own_texts_need_no_network() -> None:
    english = load("pydoc")
    assert english.spec.name == "pydoc" and 300_000 < len(english.train) < 1_000_000
    assert english.fingerprint == load("pydoc").fingerprint
    assert "lambda" in english.vocabulary.decode(english.train.ids)


def test_the_standard_library_is_source_code_without_tests() -> None:
    data = load("stdlib")
    source = "".join(decoded(data))
    assert 5_000_000 < len(source) < build.SMALL_CHARACTERS
    assert "class JSONDecoder" in source and "def mkdtemp" in source
    assert "class TestMkdtemp" not in source and "site-packages/numpy" not in source


def test_tests_of_the_standard_library_and_what_else_lies_there_are_left_out(tmp_path: Path) -> None:
    from aprendiz.text.embedded import _modules

    inside = ["json/decoder.py", "abc.py", "json/tool.py"]
    outside = ["json/tests/x.py", "test/x.py", "site-packages/numpy.py", "sitecustomize2.py", "abc.pyc"]
    for name in [*inside, *outside]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in _modules(tmp_path)] == sorted(inside)


def test_names_and_options_are_known_beforehand() -> None:
    assert {"pydoc", "stdlib", "tiny-shakespeare", "text8", "file", "folder", "-", "tsv", "negation"} <= set(names())
    assert options("pydoc") == {
        "level": "char",
        "held_out": 0.1,
        "validation": 0.1,
        "min_count": 1,
        "vocabulary_limit": None,
        "tokens": "words-and-marks",
        "lower": False,
    }
    assert options("file:x.txt")["encoding"] == "utf-8" and "path" not in options("file:x.txt")
    assert set(option_types("folder:x")) == set(options("folder:x"))


def test_a_run_can_save_the_name_and_the_options(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some words here\n" * 30)
    data = load(f"file:{path}", level="word", min_count=2)
    again = load(canonical(f"file:{path}"), **data.options)
    assert again.fingerprint == data.fingerprint and again.options == data.options
    assert canonical("file:a.txt") == f"file:{Path('a.txt').resolve()}"
    assert canonical("Tiny_Shakespeare") == "tiny-shakespeare" and canonical("-") == "-"


def test_wrong_names_and_options_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("x")
    with pytest.raises(UnknownNameError, match="closest: pydoc"):
        load("pydocs")
    with pytest.raises(ConfigError, match=r"use file:book\.txt"):
        load("book.txt")
    with pytest.raises(ConfigError, match="file wants a path, as in file:PATH"):
        load("file")
    with pytest.raises(ConfigError, match="has no option 'size'; it has: level"):
        load("pydoc", size=3)
    with pytest.raises(ConfigError, match="min_count is 2.5, not a whole number"):
        load("pydoc", min_count=2.5)


def test_a_text_can_be_kept_in_a_run_s_folder(tmp_path: Path) -> None:
    data = text("word upon word\n" * 50, level="word")
    keep(data, tmp_path / "run" / "text")
    again = kept(tmp_path / "run" / "text", data.spec.name, dict(data.options))
    assert again.spec == data.spec and again.fingerprint == data.fingerprint
    assert isinstance(again.train.ids, np.memmap) and again.train.ids.dtype == np.uint8
    assert decoded(again) == decoded(data) and again.test.characters == data.test.characters


def test_loading_imports_no_torch() -> None:
    code = "import sys; from aprendiz.text import load; load('pydoc', level='word'); load('negation')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print({{'torch', 'numba'}} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
