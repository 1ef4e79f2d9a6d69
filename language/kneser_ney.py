"""Smoothing of n-gram counts: maximum likelihood, add-k, and interpolated Kneser-Ney.

Paper: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech and
Language 13:359, 1999 (equations 12, 20 and 26); Kneser and Ney, "Improved backing-off for m-gram language modeling",
ICASSP 1995.

Every one of them has the form, for a context h of n - 1 tokens that was seen,

    p_n(w | h) = reduced(h w) + left(h) * p_below(w)          left(h) = 1 - sum over w of reduced(h w)

and differs in `reduced`, and in what is below: p_(n-1)(w | h without its first token), or the uniform distribution.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from language.ngram_counts import Counts

Smoothing = Literal["modified-kneser-ney", "kneser-ney", "add-k", "maximum-likelihood"]
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none that makes sense, as in a level with few n-grams (Heafield et al.
2013, the `--discount_fallback` of their program)."""


class Level(NamedTuple):
    """Weights of the n-grams of one length."""

    reduced: NDArray[np.float64]
    """[K_n] the part of an n-gram's probability that is its own."""
    left: NDArray[np.float64]
    """[K_(n-1)] by context: what is left for the distribution below."""


def continuation_counts(counts: Counts) -> list[NDArray[np.int64]]:
    """[K_n] of levels 1 to order - 1: in how many different (n + 1)-grams each n-gram is the end, N1+(* w_1 ... w_n)
    (Chen and Goodman 1999, equation 20)."""
    suffixes = counts.suffixes()
    return [
        np.bincount(suffixes[level], minlength=len(counts.keys[level - 1])).astype(np.int64)
        for level in range(1, counts.order)
    ]


def discounts(counts: NDArray[np.int64], *, modified: bool) -> NDArray[np.float64]:
    """[4] what is taken off n-grams that were counted 0, 1, 2, and 3 or more times.

    With n_c n-grams counted c times and Y = n_1 / (n_1 + 2 n_2): Y for all (Ney, Essen and Kneser 1994), or,
    `modified`, 1 - 2 Y n_2 / n_1, 2 - 3 Y n_3 / n_2 and 3 - 4 Y n_4 / n_3 (Chen and Goodman 1999, equation 26).
    FALLBACK stands in for one that is not above 0, or cannot be computed.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(np.float64)  # n[c] for c = 0 ... 4
    result = np.array([0.0, *FALLBACK])
    if n[1] == 0:
        return result
    y = n[1] / (n[1] + 2.0 * n[2])
    if not modified:
        return np.array([0.0, y, y, y])
    for c in (1, 2, 3):
        value = c - (c + 1) * y * n[c + 1] / n[c] if n[c] else 0.0
        if 0.0 < value <= c:
            result[c] = value
    return result


def kneser_ney(counts: NDArray[np.int64], prefixes: NDArray[np.int64], contexts: int, *, modified: bool) -> Level:
    """Weights of a level whose n-grams were counted `counts` [K_n] times, after contexts `prefixes` [K_n].

    reduced(h w) = (c(h w) - D(c(h w))) / c(h),  left(h) = sum over w of D(c(h w)) / c(h)
    """
    discount = discounts(counts, modified=modified)[np.minimum(counts, 3)]  # [K_n]
    totals = np.bincount(prefixes, weights=counts, minlength=contexts)  # [K_(n-1)]
    taken = np.bincount(prefixes, weights=discount, minlength=contexts)
    seen = np.maximum(totals, 1.0)
    return Level((counts - discount) / seen[prefixes], np.where(totals > 0, taken / seen, 1.0))


def maximum_likelihood(counts: NDArray[np.int64], prefixes: NDArray[np.int64], contexts: int) -> Level:
    """reduced(h w) = c(h w) / c(h), and nothing is left; all is, where nothing followed h."""
    totals = np.bincount(prefixes, weights=counts, minlength=contexts)
    return Level(counts / np.maximum(totals, 1.0)[prefixes], np.where(totals > 0, 0.0, 1.0))


def add_k(
    counts: NDArray[np.int64], prefixes: NDArray[np.int64], contexts: int, k: float, vocabulary_size: int
) -> Level:
    """(c(h w) + k) / (c(h) + k V) (Chen and Goodman 1999, equation 4): the share k V / (c(h) + k V) is uniform."""
    totals = (np.bincount(prefixes, weights=counts, minlength=contexts) + k * vocabulary_size).astype(np.float64)
    return Level(counts / totals[prefixes], k * vocabulary_size / totals)


def levels(counts: Counts, smoothing: Smoothing, k: float) -> tuple[list[Level], list[Level]]:
    """Weights of each level where it is below a longer one, and where it is the longest.

    Kneser-Ney counts occurrences in the longest only, and different left neighbours below it. The weights of the
    highest level there is "below a longer one" are those of the longest: no one asks.
    """
    contexts = [1, *(len(keys) for keys in counts.keys)]
    prefixes = [counts.prefixes(level) for level in range(1, counts.order + 1)]

    def smooth(level: int, numbers: NDArray[np.int64]) -> Level:
        if smoothing == "maximum-likelihood":
            return maximum_likelihood(numbers, prefixes[level], contexts[level])
        if smoothing == "add-k":
            return add_k(numbers, prefixes[level], contexts[level], k, counts.vocabulary_size)
        return kneser_ney(numbers, prefixes[level], contexts[level], modified=smoothing == "modified-kneser-ney")

    longest = [smooth(level, numbers) for level, numbers in enumerate(counts.counts)]
    if smoothing in ("maximum-likelihood", "add-k"):
        return longest, longest
    below = [smooth(level, numbers) for level, numbers in enumerate(continuation_counts(counts))]
    return [*below, longest[-1]], longest
