"""Huffman codes of a vocabulary: the tree of hierarchical softmax.

Papers: Huffman, "A method for the construction of minimum-redundancy codes", Proceedings of the IRE 40, 1952; Mikolov
et al., "Efficient estimation of word representations in vector space", ICLR workshop 2013, section 2 (frequent words
get short codes, so that a word costs about log2 of the unigram perplexity).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import DataError


@dataclass(frozen=True)
class HuffmanTree:
    """The way from the root to each word: N words, L steps at most, N - 1 inner nodes (the root being the last)."""

    lengths: NDArray[np.int32]
    """[N] steps to each word; 0 for one that is not in the tree."""
    nodes: NDArray[np.int32]
    """[N, L] inner nodes on the way, the root first; -1 beyond the word's length."""
    bits: NDArray[np.int8]
    """[N, L] turn taken at each of them, 0 or 1; 0 beyond the word's length."""
    inner_nodes: int
    """Inner nodes of the tree."""

    def code(self, word: int) -> str:
        """The word's code, `0110`."""
        return "".join(map(str, self.bits[word, : self.lengths[word]]))


def huffman_tree(counts: NDArray[Any]) -> HuffmanTree:
    """Tree of minimal expected depth for words of such counts [N]; words of count 0 are left out.

    Of nodes with equal counts the one that was there first is taken first, words in the order of their ids, so that
    equal counts give equal trees. Raises DataError for fewer than two words.
    """
    counts = np.asarray(counts, dtype=np.int64)
    words = np.flatnonzero(counts > 0)
    if len(words) < 2:
        raise DataError(
            f"a Huffman tree needs at least 2 words, got {len(words)}; use a longer text or a lower --min-count"
        )
    heap = [(int(counts[word]), place, int(word)) for place, word in enumerate(words)]
    heapq.heapify(heap)
    size = len(counts)
    parent = np.zeros(size + len(words) - 1, dtype=np.int64)  # inner node i is size + i
    turn = np.zeros(size + len(words) - 1, dtype=np.int8)
    for inner in range(len(words) - 1):
        node = size + inner
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        parent[first[2]] = parent[second[2]] = node
        turn[second[2]] = 1
        heapq.heappush(heap, (first[0] + second[0], len(words) + inner, node))
    root = size + len(words) - 2
    depth = np.zeros(len(parent), dtype=np.int32)
    for node in range(root - 1, size - 1, -1):  # a parent comes after its children
        depth[node] = depth[parent[node]] + 1
    depth[words] = depth[parent[words]] + 1
    lengths = np.where(counts > 0, depth[:size], 0).astype(np.int32)
    nodes = np.full((size, int(lengths.max())), -1, dtype=np.int32)
    bits = np.zeros_like(nodes, dtype=np.int8)
    at, below = parent[words], words
    for step in range(nodes.shape[1]):  # from the word up, all words at once
        row = lengths[words] - 1 - step
        open_ = row >= 0
        words, at, below, row = words[open_], at[open_], below[open_], row[open_]
        nodes[words, row] = at - size
        bits[words, row] = turn[below]
        at, below = parent[at], at
    return HuffmanTree(lengths, nodes, bits, root - size + 1)
