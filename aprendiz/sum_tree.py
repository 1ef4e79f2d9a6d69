"""A sum tree: draw an index with a probability proportional to its value, change values, both in a logarithm of steps.

Schaul et al. (2016), appendix B.2.1. Each node has eight children that share one line of the processor's cache, and
holds their sum, added up anew whenever a child changes: what is in the tree depends on its leaves alone, not on the way
they got there, so that saving the leaves saves the tree.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from aprendiz.intrinsics import prefetch

BRANCHES = 8
"""Children of a node: eight float64 are 64 bytes, a cache line."""
_LINE_BYTES = 64


class SumTree:
    """Values >= 0 of `capacity` leaves, all 0 at first.

    Indices are int64 [B], values float64 [B]; where an index comes twice in one call its last value counts.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a sum tree needs at least one leaf, got {capacity}")
        sizes = [-(-capacity // BRANCHES) * BRANCHES]
        while sizes[-1] > BRANCHES:
            sizes.append(-(-(sizes[-1] // BRANCHES) // BRANCHES) * BRANCHES)
        self.capacity = capacity
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        """[L + 1]: where each level begins in `nodes`, leaves first; the last level has at most eight nodes."""
        self.nodes = _aligned_zeros(int(self.offsets[-1]))

    @property
    def leaves(self) -> NDArray[np.float64]:
        """float64 [capacity], to be read; `set` and `fill` change them."""
        return self.nodes[: self.capacity]

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self.nodes[self.offsets[-2] :].sum())

    def set(self, indices: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Replaces the values of some leaves."""
        set_leaves(self.nodes, self.offsets, indices, values)

    def fill(self, values: NDArray[np.float64]) -> None:
        """Replaces the values of all leaves, float64 [capacity]."""
        self.nodes[: self.capacity] = values
        _add_up(self.nodes, self.offsets)

    def find(self, prefixes: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each prefix in [0, total) the leaf in whose share of the running sum it lies, int64 [B].

        Never a leaf of value 0, whatever rounding does. The total must be above 0.
        """
        found = np.empty(len(prefixes), np.int64)
        find_leaves(self.nodes, self.offsets, prefixes.copy(), found)
        return found


def _aligned_zeros(size: int) -> NDArray[np.float64]:
    """float64 [size] that begins with a cache line."""
    raw = np.zeros(8 * size + _LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % _LINE_BYTES
    return raw[start : start + 8 * size].view(np.float64)


@njit(cache=True, nogil=True)
def set_leaf(nodes, offsets, index, value) -> None:
    """One leaf, and the sums above it."""
    nodes[index] = value
    for level in range(offsets.shape[0] - 2):
        index //= BRANCHES
        nodes[offsets[level + 1] + index] = _sum_below(nodes, offsets[level] + index * BRANCHES)


@njit(cache=True, nogil=True)
def set_leaves(nodes, offsets, indices, values) -> None:
    """Level by level, so that waiting for the memory of one leaf is waiting for that of all."""
    touched = np.empty_like(indices)
    for i in range(indices.shape[0]):
        prefetch(nodes, indices[i])
    for i in range(indices.shape[0]):
        nodes[indices[i]] = values[i]
        touched[i] = indices[i] // BRANCHES
    for level in range(offsets.shape[0] - 2):
        for i in range(indices.shape[0]):
            nodes[offsets[level + 1] + touched[i]] = _sum_below(nodes, offsets[level] + touched[i] * BRANCHES)
            touched[i] //= BRANCHES


@njit(cache=True, nogil=True)
def _sum_below(nodes, first) -> float:
    total = 0.0
    for child in range(first, first + BRANCHES):
        total += nodes[child]
    return total


@njit(cache=True, nogil=True)
def _add_up(nodes, offsets) -> None:
    for level in range(offsets.shape[0] - 2):
        for index in range((offsets[level + 1] - offsets[level]) // BRANCHES):
            nodes[offsets[level + 1] + index] = _sum_below(nodes, offsets[level] + index * BRANCHES)


@njit(cache=True, nogil=True)
def find_leaves(nodes, offsets, prefixes, found) -> None:
    """Level by level for all prefixes, which become what is left of them: their searches wait for memory together."""
    found[:] = 0
    for level in range(offsets.shape[0] - 2, -1, -1):
        for i in range(prefixes.shape[0]):
            left, begin = prefixes[i], offsets[level] + found[i] * BRANCHES
            chosen = begin
            for child in range(begin, begin + BRANCHES):
                value = nodes[child]
                if value > 0.0:
                    chosen = child  # where rounding leads past the end it is the last one that has a share
                    if left < value:
                        break
                    left -= value
            prefixes[i], found[i] = left, chosen - offsets[level]
            if level > 0:
                prefetch(nodes, offsets[level - 1] + found[i] * BRANCHES)
