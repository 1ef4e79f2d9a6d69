"""What vectors of words are good for, and how good they are: neighbours, analogies, and agreement with human judgement.

Analogies: Mikolov, Yih and Zweig, "Linguistic regularities in continuous space word representations", NAACL 2013 (a
is to b as c is to ?: the word nearest to b - a + c by cosine, 3CosAdd in Levy and Goldberg, CoNLL 2014, equation 3,
the three asked with left out). Similarity: WordSim-353 (Finkelstein et al., ACM TOIS 20, 2002) and SimLex-999 (Hill
et al., Computational Linguistics 41, 2015), by Spearman's rank correlation. A question or pair with a word that is
not among the words is counted, and left out.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import ConfigError, DataError
from aprendiz.text.core import LINE_END
from aprendiz.text.vocabulary import LINE_END_WORD, UNKNOWN_WORD

VOCABULARY = 30_000
"""Most frequent words that an analogy is asked with and answered from."""
_QUESTIONS = 512
"""Analogies that are answered at once."""
_SCORES = ("simlex999", "human (mean)", "human", "score", "similarity", "rating")
"""How the column of judgements is called, where a file names its columns."""


@dataclass(frozen=True)
class WordTable:
    """Words, the most frequent first, and their vectors: `words, vectors = table`."""

    words: tuple[str, ...]
    """[N], all different."""
    vectors: NDArray[np.float32]
    """[N, D]"""

    def __iter__(self) -> Iterator[Any]:
        return iter((self.words, self.vectors))

    @functools.cached_property
    def units(self) -> NDArray[np.float32]:
        """[N, D] of length 1; a vector of zeros stays one."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return (self.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Where each word stands."""
        return {word: place for place, word in enumerate(self.words)}

    @functools.cached_property
    def folded(self) -> dict[str, int]:
        """Where the most frequent of the words that differ in case alone stands, by its case-folded form."""
        folded: dict[str, int] = {}
        for place, word in enumerate(self.words):
            folded.setdefault(word.casefold(), place)
        return folded

    def find(self, word: str) -> int | None:
        """Where a word stands, as it is written or else in another case; None where it does not."""
        return self.index.get(word, self.folded.get(word.casefold()))

    def require(self, words: Iterable[str]) -> list[int]:
        """Where words stand. Raises ConfigError naming those that do not, and the closest ones that do."""
        words = list(words)
        if missing := [word for word in words if self.find(word) is None]:
            import difflib

            close = difflib.get_close_matches(missing[0].casefold(), [*self.folded][:50_000], n=3)
            hint = f"; close to {missing[0]}: {', '.join(close)}" if close else ""
            raise ConfigError(f"not among the {len(self.words):,} words: {', '.join(missing)}{hint}")
        return [place for word in words if (place := self.find(word)) is not None]


def table_of(vectors: NDArray[Any], symbols: Sequence[str]) -> WordTable:
    """Vectors [V, D] and symbols [V] of a vocabulary of words, without the two symbols that are none: UNKNOWN and
    LINE_END. Such a vocabulary is in the order of frequency."""
    first = LINE_END + 1 if tuple(symbols[: LINE_END + 1]) == (UNKNOWN_WORD, LINE_END_WORD) else 0
    return WordTable(tuple(symbols[first:]), np.asarray(vectors[first:], np.float32))


def nearest(
    table: WordTable, direction: NDArray[Any], count: int, *, without: Sequence[int] = (), limit: int | None = None
) -> list[tuple[str, float]]:
    """The `count` words whose vectors have the greatest cosine with `direction` [D], and that cosine, greatest first.

    without: places that are no answer; limit: only among so many most frequent words.
    """
    if count < 1:
        raise ConfigError(f"the number of words must be at least 1, got {count}")
    units = table.units[:limit]
    length = float(np.linalg.norm(direction))
    cosines = units @ (np.asarray(direction, np.float32) / (length or 1.0))
    excluded = {place for place in without if place < len(units)}
    cosines[[*excluded]] = -np.inf
    count = min(count, len(cosines) - len(excluded))
    if count < 1:
        return []
    best = np.argpartition(-cosines, count - 1)[:count]
    best = best[np.lexsort((best, -cosines[best]))]
    return [(table.words[place], float(cosines[place])) for place in best]


def neighbours(
    vectors: NDArray[Any], symbols: Sequence[str], word: str, count: int = 10, *, limit: int | None = None
) -> list[tuple[str, float]]:
    """The words nearest to a word, itself left out, and their cosines; vectors [V, D], symbols [V]. limit: only among
    so many most frequent words. Raises ConfigError where the word is not among the symbols."""
    table = table_of(vectors, symbols)
    (place,) = table.require([word])
    return nearest(table, table.units[place], count, without=[place], limit=limit)


def analogy(
    vectors: NDArray[Any],
    symbols: Sequence[str],
    a: str,
    b: str,
    c: str,
    count: int = 10,
    *,
    limit: int | None = VOCABULARY,
) -> list[tuple[str, float]]:
    """a is to b as c is to these words, and their cosines with b - a + c; a, b and c are left out. vectors [V, D],
    symbols [V]. Raises ConfigError where one of the three is not among the symbols."""
    table = table_of(vectors, symbols)
    places = table.require([a, b, c])
    units = table.units
    return nearest(table, units[places[1]] - units[places[0]] + units[places[2]], count, without=places, limit=limit)


class Section(NamedTuple):
    """Questions of one kind."""

    correct: int
    asked: int
    unknown: int
    """Questions left out, for one of their words is not among the words."""

    @property
    def accuracy(self) -> float:
        """Part of those asked that were answered rightly; NaN where none was."""
        return self.correct / self.asked if self.asked else float("nan")


@dataclass(frozen=True)
class Analogies:
    """Answers to a file of analogies."""

    sections: Mapping[str, Section]

    def over(self, prefix: str = "", *, inverse: bool = False) -> Section:
        """All questions whose kind begins with a prefix, or does not. Syntactic ones begin with `gram`."""
        chosen = [part for name, part in self.sections.items() if name.startswith(prefix) != inverse]
        return Section(*(sum(column) for column in zip(*chosen, strict=True))) if chosen else Section(0, 0, 0)

    def metrics(self) -> dict[str, float]:
        """Accuracies: all, semantic, syntactic; questions asked, and left out."""
        total, syntactic, semantic = self.over(), self.over("gram"), self.over("gram", inverse=True)
        return {
            "analogies": total.accuracy,
            "analogies_semantic": semantic.accuracy,
            "analogies_syntactic": syntactic.accuracy,
            "analogies_asked": total.asked,
            "analogies_unknown": total.unknown,
        }


Questions = Mapping[str, Sequence[tuple[str, str, str, str]]]
"""Questions by kind: a is to b as c is to d."""


def read_questions(path: str | Path) -> Questions:
    """A file in the format of questions-words: lines of four words, in sections that begin with `: name`. Raises
    DataError for anything else."""
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = "all"
    for number, line in enumerate(_lines(path), 1):
        if line.startswith(":"):
            name = line[1:].strip() or "all"
            continue
        words = line.split()
        if not words or words[0] == "#":
            continue
        if len(words) != 4:
            raise DataError(f"{path}, line {number}: an analogy is four words, got {len(words)}")
        sections.setdefault(name, []).append((words[0], words[1], words[2], words[3]))
    if not sections:
        raise DataError(f"{path} holds no analogies; its lines should be four words each, as in questions-words.txt")
    return sections


def answer_analogies(
    vectors: NDArray[Any], symbols: Sequence[str], questions: Questions, *, vocabulary: int | None = VOCABULARY
) -> Analogies:
    """Answers each question with the word nearest to b - a + c, never a, b or c, among the `vocabulary` most frequent
    words (None: all). A question with a word outside them is left out, and counted. Case does not matter. vectors [V,
    D], symbols [V]."""
    table = table_of(vectors, symbols)
    limit = len(table.words) if vocabulary is None else min(vocabulary, len(table.words))
    units = table.units[:limit]
    results: dict[str, Section] = {}
    for name, asked in questions.items():
        found = [[table.folded.get(word.casefold(), limit) for word in question] for question in asked]
        places = np.array([row for row in found if max(row) < limit], dtype=np.int64).reshape(-1, 4)  # [Q, 4]
        correct = 0
        for first in range(0, len(places), _QUESTIONS):
            a, b, c, d = places[first : first + _QUESTIONS].T
            cosines = (units[b] - units[a] + units[c]) @ units.T  # [Q, N], each row times a length
            rows = np.arange(len(a))
            for query in (a, b, c):
                cosines[rows, query] = -np.inf
            correct += int((cosines.argmax(1) == d).sum())
        results[name] = Section(correct, len(places), len(asked) - len(places))
    return Analogies(results)


class Similarity(NamedTuple):
    """Agreement with human judgements."""

    spearman: float
    """Spearman's rank correlation; NaN for fewer than two pairs."""
    pairs: int
    """Pairs that it was computed from."""
    unknown: int
    """Pairs left out, for a word of theirs is not among the words."""


Judgements = Sequence[tuple[str, str, float]]
"""Two words, and how alike people find them."""


def read_judgements(path: str | Path) -> Judgements:
    """WordSim-353, SimLex-999 (also the authors' own file), or any lines of two words and a number, with tabs or commas
    between them. Lines that begin with # are comments; a first line may name the columns. Raises DataError."""
    lines = [(number, line) for number, line in enumerate(_lines(path), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise DataError(f"{path} holds no judgements; its lines should be two words and a number")
    delimiter = "\t" if "\t" in lines[0][1] else ","
    judgements: list[tuple[str, str, float]] = []
    column = 2
    for number, line in lines:
        cells: list[str] = []
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
            judgements.append((cells[0], cells[1], float(cells[column])))
        except (ValueError, IndexError, csv.Error):
            names = [cell.casefold() for cell in cells]
            if not judgements and number == lines[0][0] and len(cells) > 2:  # the names of the columns
                column = next((names.index(name) for name in _SCORES if name in names), 2)
                continue
            got = repr(line.strip()[:60])
            raise DataError(f"{path}, line {number}: two words and a number expected, got {got}") from None
    if not judgements:
        raise DataError(f"{path} names its columns, and holds no judgements")
    return judgements


def similarity(vectors: NDArray[Any], symbols: Sequence[str], judgements: Judgements) -> Similarity:
    """Rank correlation of cosines and judgements. Case does not matter. vectors [V, D], symbols [V]."""
    from scipy.stats import spearmanr

    table = table_of(vectors, symbols)

    found = [(table.folded.get(a.casefold()), table.folded.get(b.casefold()), score) for a, b, score in judgements]
    known = [(a, b, score) for a, b, score in found if a is not None and b is not None]
    if len(known) < 2:
        return Similarity(float("nan"), len(known), len(found) - len(known))
    places = np.array([row[:2] for row in known], dtype=np.int64)  # [pairs, 2]
    cosines = (table.units[places[:, 0]] * table.units[places[:, 1]]).sum(1)
    return Similarity(float(spearmanr(cosines, [row[2] for row in known])[0]), len(known), len(found) - len(known))


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,})") from error
