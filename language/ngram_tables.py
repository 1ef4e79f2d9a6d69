"""n-grams laid out for looking up: what the compiled loops walk when a text is scored or continued.

The place of a reader is the state int64 [order]: state[n] is the index, in level n, of the last n tokens read; UNSEEN
where the text that was counted does not have them, SHORT where fewer were read. state[0] is the empty context, 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from language.kneser_ney import Smoothing, levels
from language.ngram_counts import Counts

UNSEEN, SHORT = -1, -2


class Tables(NamedTuple):
    """All levels one behind the other: entry e of a level stands at `first[level - 1] + e`, context h of a level (an
    entry of the level below) at `contexts[level - 1] + h`."""

    tokens: NDArray[np.int32]
    """[sum K_n] the last token of each n-gram, rising among those of one context."""
    first: NDArray[np.int64]
    """[order] where each level begins."""
    children: NDArray[np.int64]
    """[sum (K_(n-1) + 1)] where the n-grams of a context begin in `tokens`; they end where those of the next begin."""
    contexts: NDArray[np.int64]
    """[order] where the contexts of each level begin in `children`, `below_left` and `longest_left`."""
    below_reduced: NDArray[np.float64]
    """[sum K_n] see `language.kneser_ney.Level`, for a level that is below a longer one."""
    below_left: NDArray[np.float64]
    longest_reduced: NDArray[np.float64]
    """The same for a level that is the longest."""
    longest_left: NDArray[np.float64]
    vocabulary_size: int
    uniform: bool
    """Whether the uniform distribution is below every level, instead of the next shorter one."""
    floor: float
    """Weight of the uniform distribution in the end."""

    @property
    def order(self) -> int:
        return len(self.first)


def tables(counts: Counts, smoothing: Smoothing, *, k: float, floor: float) -> Tables:
    """The tables of `counts`; `k` is that of add-k, `floor` that of maximum likelihood."""
    below, longest = levels(counts, smoothing, k)
    sizes = [len(keys) for keys in counts.keys]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    children, contexts, at = [], [], 0
    for level, above in enumerate([1, *sizes[:-1]], start=1):
        children.append(counts.starts(level) + first[level - 1])
        contexts.append(at)
        at += above + 1

    def left(one: list[Any]) -> NDArray[np.float64]:
        return np.concatenate([np.append(level.left, 1.0) for level in one])  # as long as `children`

    return Tables(
        tokens=np.concatenate([counts.last_tokens(level) for level in range(1, counts.order + 1)]).astype(np.int32),
        first=first,
        children=np.concatenate(children).astype(np.int64),
        contexts=np.array(contexts, np.int64),
        below_reduced=np.concatenate([level.reduced for level in below]),
        below_left=left(below),
        longest_reduced=np.concatenate([level.reduced for level in longest]),
        longest_left=left(longest),
        vocabulary_size=counts.vocabulary_size,
        uniform=smoothing == "add-k",
        floor=floor if smoothing == "maximum-likelihood" else 0.0,
    )


def before_any_token(order: int) -> NDArray[np.int64]:
    """The state [order] before a text."""
    state = np.full(order, SHORT, np.int64)
    state[0] = 0
    return state


def scan(table: Tables, ids: NDArray[Any], state: NDArray[np.int64], lowest: int, highest: int) -> NDArray[np.float64]:
    """Probabilities [T, highest - lowest + 1] of tokens ids [T], each given the state and all tokens before it, by
    n-grams of each length from `lowest` to `highest`. Moves `state` behind the last token."""
    out = np.empty((len(ids), highest - lowest + 1))
    _scan(*table, np.ascontiguousarray(ids, np.int64), state, lowest, highest, out)
    return out


def distribution(table: Tables, state: NDArray[np.int64], order: int) -> NDArray[np.float64]:
    """Probabilities [V] of the next token by n-grams of length `order`."""
    out = np.empty(table.vocabulary_size)
    _distribution(*table, state, order, out)
    return out


def step(table: Tables, tokens: NDArray[np.int64], states: NDArray[np.int64], order: int) -> NDArray[np.float64]:
    """Probabilities [B, V] of what follows one more token of each text, by n-grams of length `order`. Moves the states
    int64 [B, order]."""
    out = np.empty((len(tokens), table.vocabulary_size))
    _step(*table, tokens, states, order, out)
    return out


@njit(cache=True, nogil=True)
def _find(tokens, start, end, token):
    """Where `token` stands in tokens[start:end], which rise; -1 where it does not."""
    while start < end:
        middle = (start + end) // 2
        if tokens[middle] < token:
            start = middle + 1
        elif tokens[middle] > token:
            end = middle
        else:
            return middle
    return -1


@njit(cache=True, nogil=True)
def _scan(
    tokens,
    first,
    children,
    contexts,
    below_reduced,
    below_left,
    longest_reduced,
    longest_left,
    vocabulary_size,
    uniform,
    floor,
    ids,
    state,
    lowest,
    highest,
    out,
):
    size = len(state)
    moved = np.empty(size, np.int64)
    moved[0] = 0
    for t in range(len(ids)):
        lower = 1.0 / vocabulary_size  # the probability by n-grams one shorter, below longer ones
        chance = lower
        for n in range(1, size + 1):
            base = 1.0 / vocabulary_size if uniform else lower
            context = state[n - 1]
            if context >= 0:
                h = contexts[n - 1] + context
                found = _find(tokens, children[h], children[h + 1], ids[t])
                chance = longest_left[h] * base
                lower = below_left[h] * base
                if found >= 0:
                    chance += longest_reduced[found]
                    lower += below_reduced[found]
            else:
                found = -1
                if context == -1 and uniform:
                    lower = base
                chance = lower
            if lowest <= n <= highest:
                out[t, n - lowest] = (1.0 - floor) * chance + floor / vocabulary_size
            if n < size:
                moved[n] = -2 if context == -2 else (found - first[n - 1] if found >= 0 else -1)
        state[:] = moved


@njit(cache=True, nogil=True)
def _distribution(
    tokens,
    first,
    children,
    contexts,
    below_reduced,
    below_left,
    longest_reduced,
    longest_left,
    vocabulary_size,
    uniform,
    floor,
    state,
    order,
    out,
):
    even = 1.0 / vocabulary_size
    out[:] = even
    for n in range(1, order + 1):
        context = state[n - 1]
        if context == -2:  # nothing longer has been read
            break
        if context == -1:
            if uniform:
                out[:] = even
            continue
        h = contexts[n - 1] + context
        # The longest of what was read is the longest that is asked for: only level `order` counts occurrences.
        last = n == order
        left = longest_left[h] if last else below_left[h]
        if uniform:
            out[:] = left * even
        else:
            out[:] *= left
        for e in range(children[h], children[h + 1]):
            out[tokens[e]] += longest_reduced[e] if last else below_reduced[e]
    out[:] = (1.0 - floor) * out + floor * even


@njit(cache=True, nogil=True)
def _step(
    tokens,
    first,
    children,
    contexts,
    below_reduced,
    below_left,
    longest_reduced,
    longest_left,
    vocabulary_size,
    uniform,
    floor,
    ids,
    states,
    order,
    out,
):
    chance = np.empty((1, 1))
    for b in range(len(ids)):
        _scan(
            tokens,
            first,
            children,
            contexts,
            below_reduced,
            below_left,
            longest_reduced,
            longest_left,
            vocabulary_size,
            uniform,
            floor,
            ids[b : b + 1],
            states[b],
            1,
            1,
            chance,
        )
        _distribution(
            tokens,
            first,
            children,
            contexts,
            below_reduced,
            below_left,
            longest_reduced,
            longest_left,
            vocabulary_size,
            uniform,
            floor,
            states[b],
            order,
            out[b],
        )
