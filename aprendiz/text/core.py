"""What a text is to those who learn from it: ids of tokens, which may be larger than memory, in three parts, and a
vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Level = Literal["char", "byte", "word"]
"""What a token is: a Unicode character, a byte of UTF-8, or a word (a line's end being one, too)."""
UNKNOWN = 0
"""The id of everything that the vocabulary lacks, at level char and word; bytes have no unknown."""
LINE_END = 1
"""The id of a line's end at level word. At the other levels it is a character like any other."""


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """What a model must know of a text before it is built."""

    name: str
    """`pydoc`, `tiny-shakespeare`, the stem of a file: the task's name."""
    level: Level
    vocabulary_size: int
    """Symbols, those with a meaning of their own (UNKNOWN, LINE_END) among them."""
    classes: tuple[str, ...] = ()
    """Names of the labels, where texts are labelled."""


class Vocabulary(Protocol):
    """Symbols and their ids. Built from the training part alone."""

    level: Level
    symbols: tuple[str, ...]
    """By id. At level byte the 256 bytes, written as they are in Latin-1."""
    counts: NDArray[np.int64]
    """[V] occurrences in the training part."""

    def __len__(self) -> int: ...

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids [T] of a text; what is not known becomes UNKNOWN."""
        ...

    def decode(self, ids: Any) -> str:
        """The text of ids [T]; bytes that are not UTF-8 become U+FFFD."""
        ...

    def id_of(self, symbol: str) -> int | None:
        """The id of one symbol, None where it is not known."""
        ...


@dataclass(frozen=True)
class Tokens:
    """A stretch of a text: ids that lie in memory or in a mapped file."""

    ids: NDArray[Any]
    """[T] of an unsigned type, the narrowest that holds the vocabulary (uint8, uint16, uint32)."""
    characters: int
    """Unicode characters that they stand for: what nats per character are divided by."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TextData:
    """A text in three parts, in its order: training, validation, and the held-out tail."""

    spec: TextSpec
    vocabulary: Vocabulary
    train: Tokens
    validation: Tokens
    """Chooses hyperparameters and checkpoints; may be empty."""
    test: Tokens
    """The tail of the text; scored once, at the end."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it was made with."""
    fingerprint: str = ""
    """Hash of content and options: a run is resumed with the text that it began with."""


@dataclass(frozen=True)
class Documents:
    """Labelled texts, one after the other."""

    ids: NDArray[Any]
    """[T] of all documents."""
    offsets: NDArray[np.int64]
    """[N + 1]: document i is ids[offsets[i] : offsets[i + 1]]."""
    labels: NDArray[np.int64]
    """[N]"""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class LabelledTexts:
    """Labelled texts, split by a seed, each class in the same proportion."""

    spec: TextSpec
    vocabulary: Vocabulary
    train: Documents
    validation: Documents
    test: Documents
    options: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class RawText:
    """What the factory of a text returns: its characters, as often as they are asked for."""

    name: str
    """The task's name."""
    pieces: Callable[[], Iterable[str]]
    """The text from its beginning, cut anywhere; called more than once, and the same each time."""
    identity: str = ""
    """Changes whenever the content may have changed (a file's size and times), so that a large text need not be read to
    know that it is the one in the cache; empty where only reading it tells."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the factory was given, as a run saves it: paths absolute."""


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """What the factory of labelled texts returns."""

    name: str
    rows: Callable[[], Iterator[tuple[str, str]]]
    """(label, text), one after the other; the same each time."""
    classes: tuple[str, ...] = ()
    """Labels in the order of their numbers; without them the labels that occur, sorted."""
    split_seed: int = 0
    """Decides which rows are learned from, validate and test; not the run's seed."""
    options: Mapping[str, Any] = field(default_factory=dict)
