"""Which words meet in word2vec: subsampling, windows and negative samples, drawn in compiled code.

Papers: Mikolov et al., "Distributed representations of words and phrases and their compositionality", NIPS 2013,
sections 2.2 and 2.3; the window's width is drawn as in Mikolov et al., ICLR workshop 2013, section 3.2.

What is drawn for a token depends on the seed, the epoch and the token's position alone, by a counter-based generator
(SplitMix64: Steele, Lea and Flood, OOPSLA 2014): r = mix(key + golden * (place + 1)), where place = epoch * tokens +
position. Its high 32 bits decide whether the token is kept; s = mix(r) opens the centre's own sequence s, s + golden,
s + 2 golden, ...: the first, mixed, gives the width of the window, each further one a negative (low half: column of
the alias table; high half: the column's word or its alias). So neither chunks nor threads nor the device change what
is drawn, and windows reach across the borders of chunks.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import int64, njit, uint32, uint64
from numpy.typing import NDArray

REACH = 4096
"""Tokens that a window looks beyond the edge of its stretch for kept ones: more than that dropped in a row end it."""
LINE_END = 1
"""Ids up to this one are no words. The same as in aprendiz.text.core."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@njit(cache=True, inline="always")
def mix(bits):
    """SplitMix64's finaliser: a bijection of 64 bits that leaves none of them where it was."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@njit(cache=True, inline="always")
def _below(bits, count):
    """An integer in [0, count) from 32 random bits."""
    return int64((bits * np.uint64(count)) >> _HALF)


@njit(cache=True, inline="always")
def _draw(key, place):
    return mix(key + np.uint64(place + 1) * _GOLDEN)


@njit(cache=True, inline="always")
def _kept(word, bits, keep):
    """keep[word] is the probability of keeping it, times 2^32, less one; 0 for what is no word."""
    return word > LINE_END and (bits >> _HALF) <= keep[word]


@njit(cache=True, nogil=True)
def kept_tokens(ids, start, stop, offset, key, keep, width, words, draws, positions):
    """Writes what subsampling leaves of ids [start, stop), with `width` kept tokens of the same line on either side.

    words, draws, positions: room for stop - start + 2 * width + 1 or more. offset: epoch * tokens. A line's end
    stays, as the border that it is. Returns (count, first, end): those of [start, stop) are first..end.
    """
    low = start
    found = 0
    while low > 0 and start - low < REACH and found < width and ids[low - 1] != LINE_END:
        low -= 1
        if _kept(ids[low], _draw(key, offset + low), keep):
            found += 1
    count = 0
    first = 0
    for position in range(low, stop):
        if position == start:
            first = count
        word = int64(ids[position])
        bits = _draw(key, offset + position)
        if word == LINE_END or _kept(word, bits, keep):
            words[count] = word
            draws[count] = bits
            positions[count] = position
            count += 1
    end = count
    found = 0
    position = stop
    while position < len(ids) and position - stop < REACH and found < width and ids[position] != LINE_END:
        word = int64(ids[position])
        bits = _draw(key, offset + position)
        if _kept(word, bits, keep):
            words[count] = word
            draws[count] = bits
            positions[count] = position
            count += 1
            found += 1
        position += 1
    return count, first, end


@njit(cache=True, nogil=True)
def draw_examples(
    ids, start, stop, offset, key, keep, window, dynamic, negatives, own, thresholds, aliases, words, draws,
    positions, places, centres, sizes, contexts, noise,
):  # fmt: skip
    """Writes the examples whose centre lies in ids [start, stop); returns their number.

    window: words on either side at most; dynamic: whether the width is drawn from 1..window. negatives: how many to
    draw; own: whether each context word is an example of its own, with negatives of its own. thresholds, aliases:
    alias table of the words from id LINE_END + 1. words, draws, positions: room as `kept_tokens` wants it. Out:
    places [n] of the centres, offset included; centres [n]; sizes [n] of the windows; contexts [n, 2 * window]; noise
    [n, negatives].
    """
    count, first, end = kept_tokens(ids, start, stop, offset, key, keep, window, words, draws, positions)
    n = 0
    for centre in range(first, end):
        if words[centre] == LINE_END:
            continue
        state = mix(draws[centre])
        width = 1 + _below(mix(state) >> _HALF, window) if dynamic else window
        size = 0
        row = n
        for step in (-1, 1):
            other = centre + step
            for _ in range(width):
                if other < 0 or other >= count or words[other] == LINE_END:
                    break
                contexts[row, size] = words[other]
                if own:
                    centres[row] = words[centre]
                    places[row] = offset + positions[centre]
                    sizes[row] = 1
                    row += 1
                else:
                    size += 1
                other += step
        if not own and size:
            centres[row] = words[centre]
            places[row] = offset + positions[centre]
            sizes[row] = size
            row += 1
        for example in range(n, row):
            for negative in range(negatives):
                state += _GOLDEN
                bits = mix(state)
                column = _below(bits & _LOW, len(aliases))
                drawn = column if uint32(bits >> _HALF) < thresholds[column] else int64(aliases[column])
                noise[example, negative] = drawn + LINE_END + 1
        n = row
    return n


@njit(cache=True)
def fill_alias_table(weights, thresholds, aliases):
    """Alias table of weights [N] that add up to N (changed): column i stands for i below thresholds[i] / 2^32, else for
    aliases[i]. Walker, Electronics Letters 10, 1974; Vose, IEEE Transactions on Software Engineering 17, 1991."""
    count = len(weights)
    small = np.empty(count, dtype=np.int64)
    large = np.empty(count, dtype=np.int64)
    smalls = 0
    larges = 0
    for i in range(count):
        aliases[i] = i
        thresholds[i] = _LOW
        if weights[i] < 1.0:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls > 0 and larges > 0:
        smalls -= 1
        poor, rich = small[smalls], large[larges - 1]
        thresholds[poor] = uint64(min(max(weights[poor], 0.0) * 4294967296.0, 4294967295.0))
        aliases[poor] = rich
        weights[rich] -= 1.0 - weights[poor]
        if weights[rich] < 1.0:
            larges -= 1
            small[smalls] = rich
            smalls += 1


def alias_table(weights: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """(thresholds [N], aliases [N]) for drawing i with probability weights[i] / sum."""
    weights = np.asarray(weights, dtype=np.float64)
    thresholds, aliases = np.empty(len(weights), dtype=np.uint32), np.empty(len(weights), dtype=np.int32)
    fill_alias_table(weights * (len(weights) / weights.sum()), thresholds, aliases)
    return thresholds, aliases


def keep_probabilities(counts: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """With which probability a token of each word [V] is kept: min(1, sqrt(t / f) + t / f), f = its share of all words.

    The formula of word2vec's program (Mikolov et al. 2013b, equation 5, give 1 - sqrt(t / f) for dropping it). A
    threshold of 0 keeps all. Ids up to LINE_END are no words: they count for nothing, and get 0.
    """
    counts = np.asarray(counts, dtype=np.float64).copy()
    counts[: LINE_END + 1] = 0.0
    share = np.maximum(counts, 1e-12) / max(counts.sum(), 1.0)
    keep = np.minimum(1.0, np.sqrt(threshold / share) + threshold / share) if threshold else np.ones(len(counts))
    return np.where(counts > 0, keep, 0.0)


def negative_probabilities(counts: NDArray[Any], exponent: float) -> NDArray[np.float64]:
    """The noise distribution over the words from id LINE_END + 1 on: counts^exponent, normalised (2013b, section
    2.2)."""
    weights = np.asarray(counts[LINE_END + 1 :], dtype=np.float64) ** exponent
    return weights / weights.sum()


class Examples(NamedTuple):
    """N examples; views of a thread's own buffers, overwritten by that thread's next ones."""

    places: NDArray[np.int64]
    """[N] epoch * tokens + position of the centre."""
    centres: NDArray[np.int32]
    """[N]"""
    sizes: NDArray[np.int32]
    """[N] context words."""
    contexts: NDArray[np.int32]
    """[N, C]; what is beyond the size means nothing."""
    noise: NDArray[np.int32]
    """[N, negatives]"""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How examples are drawn."""

    counts: NDArray[np.int64]
    """[V] of the training part; those of ids up to LINE_END are ignored."""
    seed: int
    subsampling: float
    """Threshold t; 0 keeps every word."""
    window: int
    dynamic: bool = True
    negatives: int = 0
    own: bool = False
    """Whether every pair of words is an example of its own."""
    exponent: float = 0.75
    _buffers: threading.local = field(default_factory=threading.local, repr=False, compare=False)
    _key: np.uint64 = field(init=False, repr=False, compare=False)
    _keep: NDArray[np.uint32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keep = keep_probabilities(self.counts, self.subsampling)
        object.__setattr__(self, "_key", np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])
        object.__setattr__(self, "_keep", np.maximum(keep * 2.0**32 - 1.0, 0.0).astype(np.uint32))

    @cached_property
    def _table(self) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
        """The alias table of the negatives; vectors that are only looked at need none."""
        return alias_table(negative_probabilities(self.counts, self.exponent) if self.negatives else np.ones(1))

    def examples(self, ids: NDArray[Any], start: int, stop: int, epoch: int) -> Examples:
        """Those whose centre is one of ids[start:stop], in their order. Windows look beyond, within the line."""
        words, draws, positions, *out = self._arrays(stop - start)
        count = draw_examples(
            ids, start, stop, epoch * len(ids), self._key, self._keep, self.window, self.dynamic, self.negatives,
            self.own, *self._table, words, draws, positions, *out,
        )  # fmt: skip
        return Examples(*(array[:count] for array in out))

    def _arrays(self, tokens: int) -> tuple[NDArray[Any], ...]:
        if getattr(self._buffers, "tokens", -1) < tokens:
            room, rows = tokens + 2 * self.window + 1, tokens * (2 * self.window if self.own else 1)
            self._buffers.tokens = tokens
            self._buffers.arrays = (
                np.empty(room, np.int32),
                np.empty(room, np.uint64),
                np.empty(room, np.int64),
                np.empty(rows, np.int64),
                np.empty(rows, np.int32),
                np.empty(rows, np.int32),
                np.zeros((rows, 1 if self.own else 2 * self.window), np.int32),
                np.zeros((rows, self.negatives), np.int32),
            )
        arrays: tuple[NDArray[Any], ...] = self._buffers.arrays
        return arrays
