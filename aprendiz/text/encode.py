"""From characters to ids: tokens are numbered as they come, then the vocabulary of the training part decides.

A text is read twice. The first reading counts its characters, so that it is known where its parts end; the second one
numbers its tokens. The vocabulary is chosen among what the training part holds, and the numbers become ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import ConfigError, DataError
from aprendiz.text import reading, vocabulary, words
from aprendiz.text.core import LINE_END, UNKNOWN, Level, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a text becomes ids."""

    level: Level = "char"
    tokens: str = "words-and-marks"
    lower: bool = False
    min_count: int = 1
    vocabulary_limit: int | None = None

    def __post_init__(self) -> None:
        if self.level not in ("char", "byte", "word"):
            raise ConfigError(f"level is {self.level!r}; it can be char, byte or word")
        words.check_rule(self.tokens)
        if self.min_count < 1:
            raise ConfigError(f"min_count is {self.min_count}; it is 1 or more")
        if self.vocabulary_limit is not None and self.vocabulary_limit < 3:
            raise ConfigError(f"vocabulary_limit is {self.vocabulary_limit}; it is 3 symbols or more, or none")
        if self.lower and self.level != "word":
            raise ConfigError(f"lower is for words; {self.level}s stay as they are")

    @property
    def rule(self) -> str | None:
        """How words are cut, where there are words."""
        return self.tokens if self.level == "word" else None


class Scanner(Protocol):
    """Numbers the tokens of a text."""

    def feed(self, text: str, *, counting: bool) -> NDArray[Any]:
        """Numbers [T] of the tokens of a stretch that ends where a token does."""
        ...

    def counts(self) -> NDArray[np.int64]:
        """Occurrences by number in what was fed with `counting`."""
        ...

    def words(self, numbers: Iterable[int]) -> list[str]:
        """What these numbers stand for."""
        ...


class CharacterScanner:
    """Characters of an alphabet that is known are numbered from 1 on; at level byte, bytes from 0 on."""

    def __init__(self, encoding: Encoding, alphabet: str) -> None:
        self._bytes = encoding.level == "byte"
        self._alphabet = alphabet
        size = 256 if self._bytes else len(alphabet) + 1
        self.dtype = vocabulary.narrowest(size)
        self._counts = np.zeros(size, np.int64)
        self._table = np.zeros(0x110000, self.dtype)
        if not self._bytes:
            self._table[vocabulary.code_points(alphabet)] = np.arange(1, size)

    def feed(self, text: str, *, counting: bool) -> NDArray[Any]:
        if self._bytes:
            numbers = np.frombuffer(text.encode(), np.uint8)
        else:
            numbers = self._table[vocabulary.code_points(text)]
        if counting:
            self._counts += np.bincount(numbers, minlength=len(self._counts))
        return numbers

    def counts(self) -> NDArray[np.int64]:
        return self._counts

    def words(self, numbers: Iterable[int]) -> list[str]:
        return [self._alphabet[number - 1] for number in numbers]


class SmallWordScanner:
    """Words by Python's regular expressions and a dict: for texts too small to be worth a compiler."""

    dtype = np.dtype(np.uint32)

    def __init__(self, encoding: Encoding) -> None:
        self._rule, self._lower = encoding.tokens, encoding.lower
        self._numbers: dict[str, int] = {"": UNKNOWN, "\n": LINE_END}
        self._counts = np.zeros(2, np.int64)

    def feed(self, text: str, *, counting: bool) -> NDArray[np.uint32]:
        found = words.split(text.lower() if self._lower else text, self._rule)
        table = self._numbers
        numbers = np.array([table.setdefault(one, len(table)) for one in found], np.uint32)
        if counting:
            counts = np.bincount(numbers, minlength=len(table))
            counts[: len(self._counts)] += self._counts
            self._counts = counts
        return numbers

    def counts(self) -> NDArray[np.int64]:
        return np.r_[self._counts, np.zeros(len(self._numbers) - len(self._counts), np.int64)]

    def words(self, numbers: Iterable[int]) -> list[str]:
        known = list(self._numbers)
        return [known[number] for number in numbers]


def scanner(encoding: Encoding, alphabet: str, *, large: bool) -> tuple[Scanner, np.dtype[Any]]:
    """What numbers such a text, and the type of its numbers."""
    if encoding.level != "word":
        characters = CharacterScanner(encoding, alphabet)
        return characters, characters.dtype
    if not large:
        return SmallWordScanner(encoding), SmallWordScanner.dtype
    from aprendiz.text.word_scan import WordScanner

    return WordScanner(encoding.tokens, lower=encoding.lower), np.dtype(np.uint32)


@dataclass(frozen=True)
class Extent:
    """How much each part holds."""

    tokens: tuple[int, ...]
    characters: tuple[int, ...]


def number(
    blocks: Iterable[str],
    boundaries: Sequence[int],
    encoding: Encoding,
    scan: Scanner,
    sink: Callable[[NDArray[Any]], object],
) -> Extent:
    """Numbers the tokens of a text, in order, into `sink`; those of the training part are counted."""
    tokens, characters = [0] * len(reading.PARTS), [0] * len(reading.PARTS)
    for part, text in reading.parts(blocks, boundaries, encoding.rule):
        if text:
            numbers = scan.feed(text, counting=part == 0)
            tokens[part] += len(numbers)
            characters[part] += len(text)
            sink(numbers)
    return Extent(tuple(tokens), tuple(characters))


def choose(name: str, encoding: Encoding, scan: Scanner) -> tuple[Vocabulary, NDArray[Any] | None]:
    """The vocabulary of what was counted, and the id of every number; None where numbers are ids already.

    Raises DataError where `min_count` leaves nothing.
    """
    if encoding.level == "byte":
        return vocabulary.ByteVocabulary(scan.counts()), None
    literal = _literal(encoding, scan)
    counts = scan.counts()
    special = 2 if encoding.level == "word" else 1
    room = len(counts) if encoding.vocabulary_limit is None else encoding.vocabulary_limit - special
    kept = special + np.flatnonzero(counts[special:] >= encoding.min_count)  # numbers
    symbols = dict(zip(kept.tolist(), scan.words(kept.tolist()), strict=True))
    order = sorted(symbols.keys() - literal.keys(), key=lambda one: (-counts[one], symbols[one]))[:room]
    if encoding.level == "char":
        order.sort()
    if not order:
        what = "character" if encoding.level == "char" else "word"
        if encoding.min_count == 1:
            raise DataError(f"the training part of {name} has no {what}: use a longer text")
        raise DataError(
            f"no {what} occurs {encoding.min_count} times in the training part of {name}; use a longer text, or "
            "a lower min_count"
        )
    table = np.zeros(len(counts), vocabulary.narrowest(special + len(order)))
    if encoding.level == "word":
        table[LINE_END] = LINE_END
    table[order] = np.arange(special, special + len(order))
    for one, meant in literal.items():
        table[one] = meant
    new = np.bincount(table, weights=counts, minlength=special + len(order)).astype(np.int64)
    chosen = [symbols[one] for one in order]
    if encoding.level == "char":
        same = len(table) == len(order) + 1
        return vocabulary.CharacterVocabulary(chosen, new), None if same else table
    return vocabulary.WordVocabulary(chosen, new, tokens=encoding.tokens, lower=encoding.lower), table


def _literal(encoding: Encoding, scan: Scanner) -> dict[int, int]:
    """Number to id of symbols with a meaning of their own, where a text may hold them literally."""
    if encoding.level == "char":
        meanings = {vocabulary.UNKNOWN_CHARACTER: UNKNOWN}
    elif encoding.tokens == "whitespace":
        meanings = {vocabulary.UNKNOWN_WORD: UNKNOWN, vocabulary.LINE_END_WORD: LINE_END}
    else:
        meanings = {}
    numbers = {int(scan.feed(symbol, counting=False)[0]): meant for symbol, meant in meanings.items()}
    return {number: meant for number, meant in numbers.items() if number}  # 0: a character that is not in the text


def known(given: Vocabulary, encoding: Encoding, scan: Scanner) -> NDArray[Any] | None:
    """The id in a given vocabulary of every number."""
    if encoding.level == "byte":
        return None
    special = 2 if encoding.level == "word" else 1
    ids = {symbol: one for one, symbol in enumerate(given.symbols)}
    numbers = range(special, len(scan.counts()))
    table = np.zeros(len(scan.counts()), vocabulary.narrowest(len(given)))
    if special == 2:
        table[LINE_END] = LINE_END
    table[special:] = [ids.get(symbol, UNKNOWN) for symbol in scan.words(numbers)]
    return table


def hash_ids(kept: Vocabulary, extent: Extent) -> hashlib.blake2b:
    """A hash of everything but the ids, which are to be hashed next."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((kept.level, extent.tokens, extent.characters, len(kept))).encode())
    for symbol in kept.symbols:
        digest.update(symbol.encode("utf-8", "surrogatepass") + b"\0")
    return digest
