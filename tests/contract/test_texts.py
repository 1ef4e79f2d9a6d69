"""Every registered text keeps the contract, and `check_text` finds the mistakes that it is there to find."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aprendiz import TEXTS
from aprendiz.errors import DataError
from aprendiz.testing import check_text
from aprendiz.text import build, load, options
from aprendiz.text.core import Documents, LabelledRows, RawText, Tokens
from aprendiz.text.encode import Encoding

BUILTINS = [one.name for one in TEXTS.describe_all() if one.distribution == "aprendiz"]
CONTENT = "".join(f"Line {number % 9} isn't like line {number % 7}, naïve or not?\n" for number in range(300))


@pytest.mark.parametrize("name", ["pydoc", "negation"])
def test_what_is_embedded_keeps_the_contract(name: str) -> None:
    check_text(functools.partial(load, name))


@pytest.mark.parametrize("choice", [{"min_count": 5}, {"vocabulary_limit": 50}, {"tokens": "whitespace"}], ids=str)
def test_rare_words_and_characters_keep_the_contract(choice: dict) -> None:
    check_text(functools.partial(load, "pydoc", **choice))


def test_source_code_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    from aprendiz.text import embedded

    modules = embedded._modules
    monkeypatch.setattr(embedded, "_modules", lambda root: modules(root)[:20])
    check_text(functools.partial(load, "stdlib"))


@pytest.mark.parametrize("large", [False, True], ids=["in memory", "cached"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_s_own_texts_keep_the_contract(
    kind: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    if large:
        monkeypatch.setattr(build, "SMALL_CHARACTERS", 0)
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text(CONTENT, encoding="utf-8")
    path = tmp_path / "texts" / ("a.txt" if kind == "file" else "")
    check_text(functools.partial(load, f"{kind}:{path}"))


def test_standard_input_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(**given: Any) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT.encode())))
        return load("-", **given)

    check_text(piped)


def test_a_tab_separated_file_keeps_the_contract(tmp_path: Path) -> None:
    lines = CONTENT.splitlines()
    (tmp_path / "x.tsv").write_text("".join(f"{n % 3}\t{line} {n}\n" for n, line in enumerate(lines)), encoding="utf-8")
    check_text(functools.partial(load, f"tsv:{tmp_path}/x.tsv"))


@pytest.mark.parametrize("name", ["tiny-shakespeare", "text8"])
def test_what_is_downloaded_keeps_the_contract_where_it_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "APRENDIZ_TEST_DATA" not in os.environ:
        pytest.skip("needs the data")
    path = Path(os.environ["APRENDIZ_TEST_DATA"]) / "text" / {"tiny-shakespeare": "tinyshakespeare.txt"}.get(name, name)
    try:
        load(name, path=str(path))
    except DataError:
        pytest.skip(f"{name} is not among the data")
    check_text(functools.partial(load, name, path=str(path)))


@pytest.mark.parametrize("name", BUILTINS)
def test_every_text_has_one_line_and_options(name: str) -> None:
    assert TEXTS.describe(name).summary
    full = f"{name}:x" if name in ("file", "folder", "tsv") else name
    assert {"level", "held_out", "validation", "min_count"} <= set(options(full))


def made(level: str = "char", pieces: Callable[[], Any] = lambda: [CONTENT]) -> Any:
    raw = RawText(name="lines", pieces=pieces)
    return build.text_data(raw, Encoding(level=level), held_out=0.1, validation=0.1, options={})  # type: ignore[arg-type]


def labelled(level: str = "char") -> Any:
    rows = LabelledRows(
        name="rows", rows=lambda: ((str(n % 2), f"text {n % 13} of {n % 7}") for n in range(100)), classes=("0", "1")
    )
    return build.labelled_texts(rows, Encoding(level=level), held_out=0.1, validation=0.1, options={})  # type: ignore[arg-type]


def with_change(make: Callable[..., Any], **changes: Callable[[Any], Any]) -> Callable[..., Any]:
    def changed(level: str = "char") -> Any:
        data = make(level)
        return dataclasses.replace(data, **{name: change(data) for name, change in changes.items()})

    return changed


def with_other_counts(data: Any) -> Any:
    data.vocabulary.counts = data.vocabulary.counts + 1
    return data.vocabulary


def different_each_time() -> list[str]:
    return [CONTENT, str(np.random.default_rng().integers(10**9))]


def from_global_state() -> list[str]:
    np.random.rand()
    return [CONTENT]


def of_documents(data: Any, **changes: Any) -> Documents:
    return dataclasses.replace(data.validation, **changes)


MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "another text each time": (
        functools.partial(made, pieces=different_each_time),
        "the fingerprint is another",
    ),
    "global random state": (functools.partial(made, pieces=from_global_state), "global random state of NumPy"),
    "options that are no JSON": (with_change(made, options=lambda data: {"path": Path("x")}), "what JSON can hold"),
    "no fingerprint": (with_change(made, fingerprint=lambda data: ""), "no fingerprint"),
    "one fingerprint for everything": (with_change(made, fingerprint=lambda data: "x"), "two levels have one"),
    "another size": (
        with_change(made, spec=lambda data: dataclasses.replace(data.spec, vocabulary_size=3)),
        "counts 3 symbols",
    ),
    "a level ignored": (lambda level="char": made("char"), "asked for level byte, it is char"),
    "counts of something else": (with_change(made, vocabulary=with_other_counts), "not those of the training part"),
    "a vocabulary of all parts": (
        with_change(made, train=lambda data: Tokens(data.train.ids[:50], 50)),
        "not those of the training part",
    ),
    "ids that are too wide": (
        with_change(made, test=lambda data: Tokens(data.test.ids.astype(np.int64), len(data.test))),
        "ids of test are ndarray int64",
    ),
    "an empty part": (with_change(made, test=lambda data: Tokens(data.test.ids[:0], 0)), "test is empty"),
    "characters miscounted": (
        with_change(made, test=lambda data: Tokens(data.test.ids, 7)),
        "characters and says 7",
    ),
    "labels out of range": (
        with_change(labelled, validation=lambda data: of_documents(data, labels=data.validation.labels + 1)),
        "run from 1 to 2; there are 2 classes",
    ),
    "offsets that leave tokens out": (
        with_change(labelled, validation=lambda data: of_documents(data, offsets=data.validation.offsets // 2)),
        "do not divide",
    ),
    "labels of another type": (
        with_change(
            labelled, validation=lambda data: of_documents(data, labels=data.validation.labels.astype(np.int32))
        ),
        "must be int64",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_text_is_found_and_named(what: str) -> None:
    make, message = MISTAKES[what]
    with pytest.raises(AssertionError, match=message):
        check_text(make)


@pytest.mark.parametrize("make", [made, labelled])
def test_good_texts_pass(make: Callable[..., Any]) -> None:
    check_text(make)
