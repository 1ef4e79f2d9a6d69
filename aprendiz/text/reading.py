"""A raw text as it is read: cleaned, cut into blocks and parts, counted and hashed; never held whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from aprendiz.errors import ConfigError, DataError
from aprendiz.text import words
from aprendiz.text.core import RawText
from aprendiz.text.vocabulary import code_points

BLOCK = 1 << 20
"""Characters that are worked on at once."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Scan:
    """What reading a text once tells about it."""

    content: str
    """Hash of all its characters."""
    characters: int
    alphabet: str
    """Every character that occurs, sorted."""


def blocks(raw: RawText) -> Iterator[str]:
    """The text in blocks of BLOCK characters, the last one shorter; line ends are `"\\n"` whatever they were.

    Raises DataError for a text that holds NUL characters, or what no encoding has.
    """
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    waiting: list[str] = []
    length = position = 0
    for piece in _with_end(raw.pieces()):
        clean = newlines.decode(piece or "", final=piece is None)
        if "\0" in clean:
            place = position + clean.index("\0")
            raise DataError(f"{raw.name} holds NUL characters (the first is character {place:,}): that is no text")
        position += len(clean)
        waiting.append(clean)
        length += len(clean)
        if length >= BLOCK or piece is None:
            joined = "".join(waiting)
            whole = len(joined) if piece is None else len(joined) // BLOCK * BLOCK
            for start in range(0, whole, BLOCK):
                yield joined[start : min(start + BLOCK, whole)]
            waiting = [joined[whole:]]
            length = len(waiting[0])


def scan(raw: RawText, keep_characters: int = 0) -> tuple[Scan, list[str] | None]:
    """Reads a text once; also returns its blocks, where it has at most `keep_characters`.

    Raises DataError for a text that is empty or none.
    """
    digest = hashlib.blake2b(digest_size=16)
    seen = np.zeros(0x110000, np.bool_)
    characters = 0
    kept: list[str] | None = []
    for block in blocks(raw):
        update(digest, block, raw.name)
        seen[code_points(block)] = True
        characters += len(block)
        if kept is not None:
            kept.append(block)
            if characters > keep_characters:
                kept = None
    if not characters:
        raise DataError(f"the text {raw.name} is empty")
    alphabet = "".join(map(chr, np.flatnonzero(seen).tolist()))
    return Scan(digest.hexdigest(), characters, alphabet), kept


def update(digest: hashlib.blake2b, block: str, name: str) -> None:
    """Hashes a block."""
    try:
        digest.update(block.encode())
    except UnicodeEncodeError as error:
        point = ord(block[error.start])
        raise DataError(f"{name} holds half a character (U+{point:04X}), which no text can") from error


def cuts(name: str, characters: int, held_out: float, validation: float) -> tuple[int, int]:
    """Where the validation and the test part begin, in characters of the whole text.

    The training part is the first floor((1 - held_out - validation) n) characters and the test part what follows the
    first floor((1 - held_out) n), as nanoGPT cuts. Raises ConfigError for shares that leave nothing to train on, and
    DataError for a text too short to be cut.
    """
    for option, share in (("held_out", held_out), ("validation", validation)):
        if not 0 <= share < 1:
            raise ConfigError(f"{option} is {share}; it is a share of the text, from 0 to below 1")
    tail, middle = Fraction(str(held_out)), Fraction(str(validation))
    if tail + middle >= 1:
        raise ConfigError(f"held_out {held_out} and validation {validation} leave nothing to train on")
    first, second = int((1 - tail - middle) * characters), int((1 - tail) * characters)
    if first == 0 or (middle and second == first) or (tail and second == characters):
        raise DataError(
            f"{name} has {characters} characters: too few to hold out {held_out} and validate on {validation}"
        )
    return first, second


def parts(source: Iterable[str], boundaries: Sequence[int], rule: str | None) -> Iterator[tuple[int, str]]:
    """(part, stretch of text) in order; parts end at `boundaries`, in characters.

    With a `rule` for words no stretch ends within a word: a boundary moves to the next end of a word, and what is left
    of a block waits for the next one. Without, stretches end anywhere.
    """
    buffer, position, part = "", 0, 0
    for block in _with_end(source):
        buffer += block or ""
        last = block is None
        ahead = words.LONGEST_WORD if rule else 0
        while part < len(boundaries) and (last or boundaries[part] + ahead <= position + len(buffer)):
            end = max(0, boundaries[part] - position)
            if rule:
                end = words.part_end(buffer, end)
            yield part, buffer[:end]
            buffer, position, part = buffer[end:], position + end, part + 1
        end = len(buffer) if last or not rule else words.safe_end(buffer, rule)
        if part < len(boundaries):
            end = max(0, min(end, boundaries[part] - position))
            if rule and end < len(buffer):
                end = words.safe_end(buffer[:end], rule)
        yield part, buffer[:end]
        buffer, position = buffer[end:], position + end


def _with_end(pieces: Iterable[str]) -> Iterator[str | None]:
    yield from pieces
    yield None
