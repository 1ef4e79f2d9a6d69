"""The sum tree against an array that is added up, and what rounding must not do."""

from __future__ import annotations

import numpy as np
import pytest

from aprendiz.sum_tree import BRANCHES, SumTree, set_leaf


def naive_find(values: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
    """For each prefix the first leaf whose running sum is above it."""
    return np.searchsorted(np.cumsum(values), prefixes, side="right")


def test_a_million_random_operations_equal_a_naive_array() -> None:
    generator, size, count = np.random.default_rng(0), 3000, 500
    tree, values = SumTree(size), np.zeros(size)
    for _ in range(1000):
        leaves = generator.integers(0, size, count)
        # whole numbers, so that sums are exact in whatever order they are made; a third of them 0
        new = np.maximum(generator.integers(-50, 100, count), 0).astype(np.float64)
        tree.set(leaves[:400], new[:400])
        for leaf, value in zip(leaves[400:], new[400:], strict=True):  # as what is new comes, and what is old goes
            set_leaf(tree.nodes, tree.offsets, leaf, value)
        values[leaves] = new
        prefixes = generator.random(count) * values.sum()
        assert tree.total == values.sum()
        np.testing.assert_array_equal(tree.find(prefixes), naive_find(values, prefixes))
    np.testing.assert_array_equal(tree.leaves, values)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 513, 4097])
def test_every_size_finds_every_leaf(size: int) -> None:
    tree = SumTree(size)
    tree.fill(np.ones(size))
    np.testing.assert_array_equal(tree.find(np.arange(size) + 0.5), np.arange(size))
    assert tree.total == size


def test_an_index_that_comes_twice_keeps_its_last_value() -> None:
    tree = SumTree(10)
    tree.set(np.array([3, 3, 4]), np.array([5.0, 2.0, 1.0]))
    assert tree.leaves[3] == 2.0 and tree.total == 3.0


def test_sums_do_not_drift() -> None:
    generator = np.random.default_rng(1)
    tree = SumTree(100)
    for _ in range(300):  # huge values come and go; adding differences would leave their rounding behind
        tree.set(generator.integers(0, 100, 50), 10.0 ** generator.uniform(-8, 12, 50))
    tree.set(np.arange(100), np.full(100, 1e-8))
    assert tree.total == pytest.approx(1e-6, rel=1e-12)


def test_a_leaf_of_value_zero_is_never_found() -> None:
    generator = np.random.default_rng(2)
    tree, values = SumTree(1000), np.where(generator.random(1000) < 0.9, 0.0, generator.random(1000))
    tree.fill(values)
    shares = np.concatenate([generator.random(5000), [0.0, 1.0 - 1e-16, 1.0]]) * tree.total
    assert (values[tree.find(shares)] > 0).all()


def test_leaves_alone_decide_about_the_tree() -> None:
    generator = np.random.default_rng(3)
    tree, again = SumTree(777), SumTree(777)
    for _ in range(50):
        tree.set(generator.integers(0, 777, 40), generator.random(40))
    again.fill(tree.leaves.copy())
    assert tree.nodes.tobytes() == again.nodes.tobytes()


def test_the_children_of_a_node_share_a_cache_line() -> None:
    assert SumTree(100_000).nodes.ctypes.data % 64 == 0 and BRANCHES * 8 == 64
    assert all(offset % BRANCHES == 0 for offset in SumTree(100_000).offsets)


def test_a_tree_needs_a_leaf() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        SumTree(0)
