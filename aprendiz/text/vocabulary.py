"""Vocabularies of characters, bytes and words: symbols, ids, and JSON for a run's folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import DataError
from aprendiz.text import words
from aprendiz.text.core import LINE_END, UNKNOWN, Level, Vocabulary

FORMAT_VERSION = 1
UNKNOWN_CHARACTER, UNKNOWN_WORD, LINE_END_WORD = "\ufffd", "<unk>", "</s>"
"""How UNKNOWN and LINE_END are written; where a text holds them literally, it means the same."""


class CharacterVocabulary:
    """UNKNOWN, then Unicode characters by their code points."""

    level: Level = "char"

    def __init__(self, characters: Sequence[str], counts: Sequence[int] | NDArray[np.int64]) -> None:
        """`characters` without UNKNOWN, sorted; `counts` [V] with that of UNKNOWN first."""
        self.symbols: tuple[str, ...] = (UNKNOWN_CHARACTER, *characters)
        self.counts = _counts(counts, self.symbols)
        self._points = np.array([ord(one) for one in characters], np.uint32)
        if len(self._points) > 1 and not (np.diff(self._points.astype(np.int64)) > 0).all():
            raise DataError("the characters of a vocabulary must be different and sorted by code point")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids [T], one for each character."""
        points = code_points(text)
        if not len(self._points):
            return np.zeros(len(points), np.int32)
        place = np.minimum(np.searchsorted(self._points, points), len(self._points) - 1)
        return np.where(self._points[place] == points, place + 1, UNKNOWN).astype(np.int32)

    def decode(self, ids: Any) -> str:
        """The characters of ids [T]; UNKNOWN becomes U+FFFD."""
        return "".join(self.symbols[one] for one in _checked(ids, len(self)))

    def id_of(self, symbol: str) -> int | None:
        """The id of a character, None where it is not known."""
        found = self.encode(symbol) if len(symbol) == 1 else np.zeros(1, np.int32)
        return int(found[0]) or None

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes this vocabulary from."""
        return {
            "format_version": FORMAT_VERSION,
            "level": self.level,
            "characters": "".join(self.symbols[1:]),
            "counts": self.counts.tolist(),
        }


class ByteVocabulary:
    """The 256 bytes; a text is read and written as UTF-8."""

    level: Level = "byte"

    def __init__(self, counts: Sequence[int] | NDArray[np.int64]) -> None:
        """`counts` [256]"""
        self.symbols: tuple[str, ...] = tuple(chr(one) for one in range(256))
        self.counts = _counts(counts, self.symbols)

    def __len__(self) -> int:
        return 256

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids [T], one for each byte of the text in UTF-8."""
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int32)

    def decode(self, ids: Any) -> str:
        """The text of ids [T]; what is not UTF-8 becomes U+FFFD."""
        return bytes(_checked(ids, 256)).decode("utf-8", "replace")

    def id_of(self, symbol: str) -> int | None:
        """The byte itself, where `symbol` is one, written as it is in Latin-1."""
        return ord(symbol) if len(symbol) == 1 and ord(symbol) < 256 else None

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes this vocabulary from."""
        return {"format_version": FORMAT_VERSION, "level": self.level, "counts": self.counts.tolist()}


class WordVocabulary:
    """UNKNOWN, LINE_END, then words by falling frequency; ties by code point."""

    level: Level = "word"

    def __init__(
        self,
        chosen: Sequence[str],
        counts: Sequence[int] | NDArray[np.int64],
        *,
        tokens: str = "words-and-marks",
        lower: bool = False,
    ) -> None:
        """`chosen` without UNKNOWN and LINE_END, `counts` [V] with theirs first. `tokens` and `lower` say how a text is
        cut into words, here as in the training text."""
        words.check_rule(tokens)
        self.symbols: tuple[str, ...] = (UNKNOWN_WORD, LINE_END_WORD, *chosen)
        self.counts = _counts(counts, self.symbols)
        self.tokens, self.lower = tokens, lower

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(ids) != len(self.symbols):
            raise DataError("a word stands in the vocabulary twice")
        return ids

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids [T] of words, marks and line ends."""
        found = words.split(text.lower() if self.lower else text, self.tokens)
        ids = self._ids
        return np.array([LINE_END if one == "\n" else ids.get(one, UNKNOWN) for one in found], np.int32)

    def decode(self, ids: Any) -> str:
        """A text of ids [T], with spaces between words."""
        symbols = self.symbols
        return words.join(("\n" if one == LINE_END else symbols[one] for one in _checked(ids, len(self))), self.tokens)

    def id_of(self, symbol: str) -> int | None:
        """The id of a word as it is written here, or in lower case where all words are; None where it is not known."""
        return self._ids.get(symbol.lower() if self.lower and symbol not in self._ids else symbol)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes this vocabulary from."""
        return {
            "format_version": FORMAT_VERSION,
            "level": self.level,
            "tokens": self.tokens,
            "lower": self.lower,
            "words": list(self.symbols[2:]),
            "counts": self.counts.tolist(),
        }


def to_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """Any of our vocabularies as JSON."""
    assert isinstance(vocabulary, (CharacterVocabulary, ByteVocabulary, WordVocabulary))
    return vocabulary.to_json()


def from_json(data: Mapping[str, Any]) -> CharacterVocabulary | ByteVocabulary | WordVocabulary:
    """The vocabulary that `to_json` was called on. Raises DataError for anything else."""
    try:
        if data["format_version"] > FORMAT_VERSION:
            raise DataError("the vocabulary was written by a newer aprendiz; upgrade this one")
        level = data["level"]
        if level == "char":
            return CharacterVocabulary(data["characters"], data["counts"])
        if level == "byte":
            return ByteVocabulary(data["counts"])
        if level == "word":
            return WordVocabulary(data["words"], data["counts"], tokens=data["tokens"], lower=data["lower"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"that is no vocabulary of ours: {type(error).__name__} {error}") from error
    raise DataError(f"that is no vocabulary of ours: its level is {level!r}")


def save(path: Path, vocabulary: Vocabulary) -> None:
    """Writes a vocabulary, so that the file holds the old or the new one whole. Raises StorageError."""
    from aprendiz.checkpoint import write_json

    write_json(path, to_json(vocabulary))


def read(path: Path) -> CharacterVocabulary | ByteVocabulary | WordVocabulary:
    """The vocabulary in a file. Raises DataError where there is none."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"the vocabulary {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"the vocabulary {path} is damaged: {error}") from error


def code_points(text: str) -> NDArray[np.uint32]:
    """Code points [T] of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def narrowest(size: int) -> np.dtype[Any]:
    """The narrowest unsigned type for ids of so many symbols."""
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)


def _counts(counts: Sequence[int] | NDArray[np.int64], symbols: tuple[str, ...]) -> NDArray[np.int64]:
    array = np.asarray(counts, np.int64)
    if array.shape != (len(symbols),):
        raise DataError(f"a vocabulary of {len(symbols)} symbols has {array.size} counts")
    return array


def _checked(ids: Any, size: int) -> list[int]:
    """As a list; raises DataError for an id that there is not."""
    found = np.asarray(ids)
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise DataError(f"ids run from {found.min()} to {found.max()}; the vocabulary has {size}")
    return found.reshape(-1).tolist()
