from __future__ import annotations

import itertools

import numpy as np
import pytest

from aprendiz.errors import DataError
from language.huffman import huffman_tree


def test_the_tree_of_a_worked_example() -> None:
    """Counts 5, 2, 1, 1: lengths 1, 2, 3, 3."""
    tree = huffman_tree(np.array([5, 2, 1, 1]))
    assert tree.lengths.tolist() == [1, 2, 3, 3]
    assert tree.inner_nodes == 3
    assert tree.nodes.tolist() == [[2, -1, -1], [2, 1, -1], [2, 1, 0], [2, 1, 0]]
    assert [tree.code(word) for word in range(4)] == ["1", "00", "010", "011"]


def test_no_code_begins_another_and_together_they_leave_nothing_out() -> None:
    tree = huffman_tree(np.random.default_rng(0).integers(1, 1000, size=300))
    codes = sorted(tree.code(word) for word in range(300))
    assert not any(b.startswith(a) for a, b in itertools.pairwise(codes))
    assert sum(2.0 ** -len(code) for code in codes) == 1.0


def test_its_mean_length_is_within_a_bit_of_the_entropy() -> None:
    counts = np.random.default_rng(1).integers(1, 10_000, size=500)
    p = counts / counts.sum()
    mean, entropy = float(p @ huffman_tree(counts).lengths), float(-(p * np.log2(p)).sum())
    assert entropy <= mean < entropy + 1


def test_the_way_to_a_word_says_which_inner_nodes_its_code_turns_at() -> None:
    tree = huffman_tree(np.array([0, 0, 7, 5, 3, 3, 1]))
    children: dict[tuple[int, int], set[int | str]] = {}
    for word in range(2, 7):
        steps = tree.lengths[word]
        for step in range(steps):
            turn = (int(tree.nodes[word, step]), int(tree.bits[word, step]))
            children.setdefault(turn, set()).add(
                int(tree.nodes[word, step + 1]) if step + 1 < steps else f"word {word}"
            )
    assert len(children) == 2 * tree.inner_nodes == 8
    assert all(len(child) == 1 for child in children.values())


def test_words_that_never_occur_are_left_out() -> None:
    tree = huffman_tree(np.array([0, 3, 0, 4]))
    assert tree.lengths.tolist() == [0, 1, 0, 1]
    assert (tree.nodes[[0, 2]] == -1).all()


def test_one_word_makes_no_tree() -> None:
    with pytest.raises(DataError, match="at least 2 words, got 1"):
        huffman_tree(np.array([0, 3]))
