"""A compiled scanner that cuts text into words and numbers them, for texts of many megabytes.

It follows `aprendiz.text.words.split` to the letter. Different words are numbered as they first occur, from 2 on, and
kept as code points in one array with an open-addressing hash table over it: some 60 bytes a word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from aprendiz.text import words
from aprendiz.text.core import LINE_END
from aprendiz.text.vocabulary import code_points

FIRST = 2
"""The number of the first word; 0 is kept for UNKNOWN, and 1 is LINE_END."""
_SPACE, _NEWLINE, _WORD, _MARK, _APOSTROPHE = range(5)
_LONGEST = words.LONGEST_WORD


class WordScanner:
    """Numbers the words of a text that is fed to it in stretches which end where a word does."""

    def __init__(self, rule: str, *, lower: bool) -> None:
        self._classes, self._lower = character_classes(rule), lower
        self._table = np.full(1 << 16, -1, np.int32)
        self._hashes = np.zeros(1 << 15, np.uint64)
        self._offsets = np.zeros((1 << 15) + 1, np.int64)
        self._arena = np.zeros(1 << 18, np.uint32)
        self._counts = np.zeros(FIRST + (1 << 15), np.int64)
        self._found = 0

    def feed(self, text: str, *, counting: bool) -> NDArray[np.uint32]:
        """Numbers [T] of the tokens of a stretch; with `counting` they are counted, too."""
        points = code_points(text.lower() if self._lower else text)
        out = np.empty(len(points), np.uint32)
        place = written = 0
        while True:
            place, written, self._found = _scan(
                points,
                place,
                self._classes,
                self._table,
                self._hashes,
                self._offsets,
                self._arena,
                self._counts,
                self._found,
                counting,
                out,
                written,
            )
            if place == len(points):
                return out[:written].copy()
            self._grow()

    def counts(self) -> NDArray[np.int64]:
        """Counted occurrences by number."""
        return self._counts[: FIRST + self._found].copy()

    def words(self, numbers: Iterable[int]) -> list[str]:
        """The words that have these numbers."""
        starts = self._offsets
        return [
            self._arena[starts[number - FIRST] : starts[number - FIRST + 1]].astype("<u4").tobytes().decode("utf-32-le")
            for number in numbers
        ]

    def _grow(self) -> None:
        """Room for twice as many words, and for one more of the longest."""
        if self._found == len(self._hashes):
            self._hashes = _longer(self._hashes, 2 * len(self._hashes))
            self._offsets = _longer(self._offsets, len(self._hashes) + 1)
            self._counts = _longer(self._counts, len(self._hashes) + FIRST)
            self._table = np.full(2 * len(self._table), -1, np.int32)
            _rehash(self._table, self._hashes, self._found)
        if self._offsets[self._found] + _LONGEST > len(self._arena):
            self._arena = _longer(self._arena, len(self._arena) * 3 // 2)


@functools.cache
def character_classes(rule: str) -> NDArray[np.uint8]:
    """The class of every code point [0x110000]."""
    classes = np.full(0x110000, _WORD if rule == "whitespace" else _MARK, np.uint8)
    everything = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    if rule != "whitespace":
        for run in re.finditer(f"[{words.word_characters()}]+", everything):
            classes[run.start() : run.end()] = _WORD
        classes[[ord(one) for one in words.APOSTROPHES]] = _APOSTROPHE
    for run in re.finditer(r"\s+", everything):
        classes[run.start() : run.end()] = _SPACE
    classes[ord("\n")] = _NEWLINE
    return classes


def _longer(array: NDArray, size: int) -> NDArray:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown


@njit(cache=True, nogil=True)
def _scan(points, place, classes, table, hashes, offsets, arena, counts, found, counting, out, written):
    """Goes on from `place` until the end, or until a new word finds no room: then it returns before that word."""
    length, mask = len(points), np.int64(len(table) - 1)
    while place < length:
        kind = classes[points[place]]
        if kind == _SPACE:
            place += 1
            continue
        if kind == _NEWLINE:
            out[written] = LINE_END
            written += 1
            counts[LINE_END] += counting
            place += 1
            continue
        end = place + 1
        code = (np.uint64(0xCBF29CE484222325) ^ np.uint64(points[place])) * np.uint64(0x100000001B3)
        if kind == _WORD:
            while end < length and end - place < _LONGEST:
                kind = classes[points[end]]
                inside = kind == _WORD or (
                    kind == _APOSTROPHE and end + 1 < length and classes[points[end + 1]] == _WORD
                )
                if not inside:
                    break
                code = (code ^ np.uint64(points[end])) * np.uint64(0x100000001B3)
                end += 1
        code ^= code >> np.uint64(29)
        slot = np.int64(code & np.uint64(mask))
        while True:
            number = table[slot]
            if number < 0:
                break
            if hashes[number] == code and offsets[number + 1] - offsets[number] == end - place:
                start, same = offsets[number], True
                for index in range(end - place):
                    if arena[start + index] != points[place + index]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + 1) & mask
        if number < 0:
            start = offsets[found]
            if found == len(hashes) or start + _LONGEST > len(arena):
                return place, written, found
            number = np.int32(found)
            arena[start : start + end - place] = points[place:end]
            offsets[found + 1] = start + end - place
            hashes[found] = code
            table[slot] = number
            found += 1
        counts[FIRST + number] += counting
        out[written] = FIRST + number
        written += 1
        place = end
    return place, written, found


@njit(cache=True, nogil=True)
def _rehash(table, hashes, found) -> None:
    mask = np.int64(len(table) - 1)
    for number in range(found):
        slot = np.int64(hashes[number] & np.uint64(mask))
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = number
