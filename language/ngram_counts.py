"""How often which n-grams occur in a text, in sorted arrays, for any order and any vocabulary.

n-grams of length n are level n of a tree. One is written as a single number,

    key = (index of its first n - 1 tokens in level n - 1) * V + its last token

so that neither the order nor the size of the vocabulary is bounded by the bits of a number, and a level sorted by its
keys is sorted by prefix. Chunks of a text are counted each for itself and merged into the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from aprendiz.errors import ConfigError


@dataclass
class Counts:
    """n-grams of lengths 1 to `order`. Level n of every list is at index n - 1."""

    vocabulary_size: int
    keys: list[NDArray[np.int64]]
    """[K_n] of each level, rising."""
    counts: list[NDArray[np.int64]]
    """[K_n] occurrences."""
    tokens: int = 0
    """Length of the text that was counted."""

    @property
    def order(self) -> int:
        """The longest n-grams that are counted."""
        return len(self.keys)

    def prefixes(self, level: int) -> NDArray[np.int64]:
        """[K_n] index in the level below of the first n - 1 tokens; 0 at level 1."""
        return self.keys[level - 1] // self.vocabulary_size

    def last_tokens(self, level: int) -> NDArray[np.int64]:
        """[K_n] the last token of each n-gram."""
        return self.keys[level - 1] % self.vocabulary_size

    def starts(self, level: int) -> NDArray[np.int64]:
        """[K_(n-1) + 1] where the n-grams that begin with each n-gram of the level below begin; they end where those of
        the next one do."""
        contexts = len(self.keys[level - 2]) if level > 1 else 1
        return np.searchsorted(self.prefixes(level), np.arange(contexts + 1)).astype(np.int64)

    def suffixes(self) -> list[NDArray[np.int64]]:
        """[K_n] of each level: index in the level below of the last n - 1 tokens; 0 at level 1."""
        found = [np.zeros(len(self.keys[0]), np.int64)]
        for level in range(2, self.order + 1):
            below = self.starts(level - 1), self.last_tokens(level - 1)
            found.append(_suffixes(found[-1][self.prefixes(level)], self.last_tokens(level), *below))
        return found

    def up_to(self, order: int) -> Counts:
        """The same without n-grams longer than `order`."""
        return Counts(self.vocabulary_size, self.keys[:order], self.counts[:order], self.tokens)


def nothing(order: int, vocabulary_size: int) -> Counts:
    """Counts of an empty text."""
    empty = [np.zeros(0, np.int64) for _ in range(2 * order)]
    return Counts(vocabulary_size, empty[:order], empty[order:])


def count(ids: NDArray[Any], seen: int, order: int, vocabulary_size: int) -> Counts:
    """Counts of the n-grams that end in ids[seen:], of a chunk ids [T] whose first `seen` tokens were counted before.

    With `seen` = order - 1 (or all of the text so far, where that is less), chunk after chunk counts every n-gram
    once. Those that end in the first `seen` tokens are listed with count 0. Raises ConfigError for ids outside the
    vocabulary.
    """
    tokens = np.asarray(ids, np.int64)  # [T]
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= vocabulary_size):
        raise ConfigError(f"token {tokens.max()} is none of a vocabulary of {vocabulary_size}")
    result = nothing(order, vocabulary_size)
    result.tokens = len(tokens) - seen
    place = np.zeros(len(tokens) + 1, np.int64)  # where the (n - 1)-gram that ends before each token stands
    below = 1
    for level in range(1, order + 1):
        if len(tokens) < level:
            break
        keys, inverse = _group(place[:-1], tokens[level - 1 :], below, vocabulary_size)  # of ends level - 1, level, ...
        fresh = inverse[max(seen - (level - 1), 0) :]
        result.keys[level - 1] = keys
        result.counts[level - 1] = np.bincount(fresh, minlength=len(keys)).astype(np.int64)
        place, below = inverse, len(keys)
    return result


def merge(left: Counts, right: Counts) -> Counts:
    """The sums of both, of equal order and vocabulary."""
    result = nothing(left.order, left.vocabulary_size)
    result.tokens = left.tokens + right.tokens
    size = left.vocabulary_size
    moved = [np.zeros(1, np.int64), np.zeros(1, np.int64)]  # where each entry of the level below went
    for level in range(left.order):
        keys = [
            where[one.keys[level] // size] * size + one.keys[level] % size
            for one, where in zip((left, right), moved, strict=True)
        ]
        merged = _merge(keys[0], left.counts[level], keys[1], right.counts[level])
        result.keys[level], result.counts[level], moved = merged[0], merged[1], [merged[2], merged[3]]
    return result


@njit(cache=True, nogil=True)
def _merge(left_keys, left_counts, right_keys, right_counts):
    """Keys and counts of the union of two sorted lists, and where the entries of each went."""
    size = len(left_keys) + len(right_keys)
    keys, counts = np.empty(size, np.int64), np.empty(size, np.int64)
    to_left, to_right = np.empty(len(left_keys), np.int64), np.empty(len(right_keys), np.int64)
    i = j = at = 0
    while i < len(left_keys) or j < len(right_keys):
        take_left = i < len(left_keys) and (j == len(right_keys) or left_keys[i] <= right_keys[j])
        take_right = j < len(right_keys) and (i == len(left_keys) or right_keys[j] <= left_keys[i])
        total = 0
        if take_left:
            keys[at], total = left_keys[i], total + left_counts[i]
            to_left[i] = at
            i += 1
        if take_right:
            keys[at], total = right_keys[j], total + right_counts[j]
            to_right[j] = at
            j += 1
        counts[at] = total
        at += 1
    return keys[:at].copy(), counts[:at].copy(), to_left, to_right


@njit(cache=True, nogil=True)
def _group(places, tokens, contexts, vocabulary_size):
    """The different keys places * V + tokens, rising, and which of them each of the [N] has. Sorted by counting,
    twice."""
    size = len(tokens)
    by_token, order = np.empty(size, np.int64), np.empty(size, np.int64)
    starts = np.zeros(vocabulary_size + 1, np.int64)
    for i in range(size):
        starts[tokens[i] + 1] += 1
    for i in range(vocabulary_size):
        starts[i + 1] += starts[i]
    for i in range(size):
        by_token[starts[tokens[i]]] = i
        starts[tokens[i]] += 1
    starts = np.zeros(contexts + 1, np.int64)
    for i in range(size):
        starts[places[i] + 1] += 1
    for i in range(contexts):
        starts[i + 1] += starts[i]
    for j in range(size):
        i = by_token[j]
        order[starts[places[i]]] = i
        starts[places[i]] += 1
    keys, inverse = np.empty(size, np.int64), np.empty(size, np.int64)
    last, found = np.int64(-1), -1
    for j in range(size):
        i = order[j]
        key = places[i] * vocabulary_size + tokens[i]
        if key != last:
            found += 1
            keys[found] = last = key
        inverse[i] = found
    return keys[: found + 1].copy(), inverse


@njit(cache=True, nogil=True)
def _suffixes(contexts, tokens, starts, tokens_below):
    """int64 [N]: where each token stands among those of its context; all are there."""
    result = np.empty(len(tokens), np.int64)
    for i in range(len(tokens)):
        low, high = starts[contexts[i]], starts[contexts[i] + 1]
        while low < high:
            middle = (low + high) // 2
            if tokens_below[middle] < tokens[i]:
                low = middle + 1
            else:
                high = middle
        result[i] = low
    return result
