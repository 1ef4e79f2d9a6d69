"""Texts with labels, for classifiers: your own tab-separated file, and a small language in which word order decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from aprendiz.errors import ConfigError, DataError
from aprendiz.text.core import LabelledRows
from aprendiz.text.files import check_encoding, located, read, stem

LONGEST_ROW = 1 << 20
"""Characters of one labelled text."""


def tsv(
    *,
    path: str,
    encoding: str = "utf-8",
    label_column: int = 1,
    text_column: int = 2,
    header: bool = False,
    split_seed: int = 0,
) -> LabelledRows:
    """Labelled texts, one a line, columns divided by tabs; nothing is quoted, and a text may hold no tab.

    `label_column` and `text_column` count from 1, a `header` is passed over, gzipped files are unpacked, empty lines
    left out. `split_seed` decides which rows are learned from. Raises ConfigError for columns that cannot be, DataError
    for a file that is missing, and, when it is read, for a line without these columns.
    """
    check_encoding(encoding)
    if min(label_column, text_column) < 1 or label_column == text_column:
        raise ConfigError(f"columns {label_column} and {text_column}: they count from 1, and must be different")
    where = located(path)
    if not where.is_file():
        raise DataError(f"there is no file {where}")
    needed = max(label_column, text_column)

    def rows() -> Iterator[tuple[str, str]]:
        for number, line in enumerate(_lines(read(where, encoding), where), 1):
            if (header and number == 1) or not line.strip():
                continue
            cells = line.split("\t")
            label = cells[label_column - 1].strip() if len(cells) >= needed else ""
            if not label or not cells[text_column - 1].strip():
                raise DataError(
                    f"line {number} of {where} has no label and text in columns {label_column} and {text_column}, "
                    f"divided by tabs: {line[:60]!r}"
                )
            yield label, cells[text_column - 1].strip()

    return LabelledRows(
        name=stem(where),
        rows=rows,
        split_seed=split_seed,
        options={
            "path": str(where),
            "encoding": encoding,
            "label_column": label_column,
            "text_column": text_column,
            "header": header,
            "split_seed": split_seed,
        },
    )


def _lines(pieces: Iterable[str], where: Path) -> Iterator[str]:
    """Lines without their ends, which are \\n or \\r\\n."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from (line.removesuffix("\r") for line in whole)
        if len(rest) > LONGEST_ROW:
            raise DataError(f"{where} has a line of more than {LONGEST_ROW:,} characters; there is one text a line")
    yield rest.removesuffix("\r")


_NAMES = ("the film", "the book", "this song", "that play", "her story", "the ending", "our meal", "the room")
_GOOD = ("good", "lovely", "clever", "warm", "moving", "bright")
_BAD = ("bad", "dull", "silly", "cold", "boring", "grim")
_BETWEEN = ("quite", "really", "very", "so", "truly", "rather")


def negation(*, texts: int = 4_000, seed: int = 0, split_seed: int = 0) -> LabelledRows:
    """Sentences of a made-up language, half of them `positive`: each holds one word of praise, one of blame and one
    "not", and what "not" stands before decides.

    Every word is as frequent in positive as in negative sentences, so that a bag of words is left to guess, while
    whoever reads in order can be always right:

        our meal is not very dull while the room is lovely    positive
        our meal is dull while the room is not very lovely    negative

    `texts` sentences by `seed`, all different. Raises ConfigError for more than there can be.
    """
    if not 20 <= texts <= 100_000:
        raise ConfigError(f"texts is {texts}; between 20 and 100,000 different sentences can be made")

    def rows() -> Iterator[tuple[str, str]]:
        generator = np.random.default_rng(seed)
        seen: set[str] = set()
        while len(seen) < texts:
            positive = len(seen) % 2 == 0
            sentence = _sentence(generator, positive)
            if sentence not in seen:
                seen.add(sentence)
                yield ("positive" if positive else "negative"), sentence

    return LabelledRows(
        name="negation",
        rows=rows,
        classes=("negative", "positive"),
        split_seed=split_seed,
        options={"texts": texts, "seed": seed, "split_seed": split_seed},
    )


def _sentence(generator: np.random.Generator, positive: bool) -> str:
    """One sentence of a label: whether "not" is in the first or the second half is drawn, the rest follows."""

    def one(words: tuple[str, ...]) -> str:
        return words[int(generator.integers(len(words)))]

    def judged(good: bool, negated: bool) -> str:
        adverb = one(_BETWEEN) + " " if generator.random() < 0.5 else ""
        return f"is {'not ' if negated else ''}{adverb}{one(_GOOD if good else _BAD)}"

    negated = bool(generator.random() < 0.5)
    first_good = positive != negated
    things = generator.choice(len(_NAMES), 2, replace=False)
    link = one(("but", "and", "while", "though"))
    return (
        f"{_NAMES[things[0]]} {judged(first_good, negated)} {link} "
        f"{_NAMES[things[1]]} {judged(not first_good, not negated)}"
    )
