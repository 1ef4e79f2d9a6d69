from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from word2vec_texts import text_of

from language.word2vec_draws import Draws, Examples, alias_table, keep_probabilities, negative_probabilities


def draws(counts: Any, **options: Any) -> Draws:
    return Draws(counts=np.asarray(counts, np.int64), **({"seed": 3, "subsampling": 0.0, "window": 2} | options))


def copied(examples: Examples) -> Examples:
    return Examples(*(array.copy() for array in examples))


def windows(examples: Examples) -> list[tuple[int, list[int]]]:
    return [
        (int(centre), row[:size].tolist())
        for centre, row, size in zip(examples.centres, examples.contexts, examples.sizes, strict=True)
    ]


def test_frequent_words_are_kept_as_often_as_the_formula_says() -> None:
    keep = keep_probabilities(np.array([50, 7, 900, 100]), threshold=0.01)
    assert keep[2] == pytest.approx(np.sqrt(0.01 / 0.9) + 0.01 / 0.9)  # of words alone: 900 of 1,000
    assert keep[3] == pytest.approx(np.sqrt(0.1) + 0.1)
    assert keep_probabilities(np.array([0, 0, 999, 1]), threshold=0.01)[3] == 1.0


def test_what_is_kept_has_that_frequency() -> None:
    ids = np.tile(np.array([2, 2, 2, 2, 2, 2, 2, 2, 2, 3], np.uint16), 4000)
    made = draws([0, 0, 36000, 4000], subsampling=0.01, window=1).examples(ids, 0, len(ids), 0)
    expected = np.sqrt(0.01 / 0.9) + 0.01 / 0.9
    assert (made.centres == 2).sum() / 36000 == pytest.approx(expected, abs=0.005)  # 3 standard deviations are 0.005


def test_windows_are_drawn_after_subsampling() -> None:
    """Word 2 is dropped nearly always, so that 3 and 4 stand side by side."""
    ids = np.array([3, *[2] * 30, 4], np.uint16)
    made = draws([0, 0, 10**9, 1, 1], subsampling=1e-9, window=1).examples(ids, 0, len(ids), 0)
    assert windows(made) == [(3, [4]), (4, [3])]


def test_unknown_words_do_not_stand_between_two_words() -> None:
    ids = np.array([3, 0, 0, 4], np.uint16)
    assert windows(draws([9, 0, 1, 1, 1], window=1).examples(ids, 0, 4, 0)) == [(3, [4]), (4, [3])]


def test_a_line_of_any_length_is_one_text() -> None:
    """Other programs begin anew after 1,000 or 10,000 words of a line; here only its ends are ends."""
    ids = np.full(25_000, 2, np.uint16)
    made = draws([0, 0, 25_000], window=1, dynamic=False).examples(ids, 0, len(ids), 0)
    assert (made.sizes[1:-1] == 2).all() and made.sizes[[0, -1]].tolist() == [1, 1]


def test_windows_end_with_the_line() -> None:
    ids = np.array([2, 3, 1, 4, 5, 1], np.uint16)
    made = draws([0, 2, 1, 1, 1, 1], window=4, dynamic=False).examples(ids, 0, 6, 0)
    assert windows(made) == [(2, [3]), (3, [2]), (4, [5]), (5, [4])]


def test_a_window_takes_the_nearest_words_of_either_side() -> None:
    ids = np.arange(2, 9, dtype=np.uint16)
    made = dict(windows(draws([0, 0, *[1] * 7], window=2, dynamic=False).examples(ids, 0, 7, 0)))
    assert made[5] == [4, 3, 6, 7]
    assert made[2] == [3, 4]


def test_widths_are_drawn_evenly_from_one_to_the_window() -> None:
    ids = np.full(20_000, 2, np.uint16)
    sizes = draws([0, 0, 20_000], window=5).examples(ids, 0, len(ids), 0).sizes[5:-5]
    assert np.bincount(sizes, minlength=11)[2::2] / len(sizes) == pytest.approx([0.2] * 5, abs=0.012)


@pytest.mark.parametrize("own", [False, True])
def test_chunks_change_nothing_that_is_drawn(own: bool) -> None:
    generator = np.random.default_rng(0)
    data = text_of(generator.choice([0, 1, *range(2, 40)], size=3000))
    made = draws(data.vocabulary.counts, subsampling=0.01, window=4, negatives=3, own=own)
    whole = copied(made.examples(data.train.ids, 0, 3000, 2))
    assert whole.places.min() >= 2 * 3000, "places go on from epoch to epoch"
    edges = [0, 1, 2, 700, 701, 1500, 3000]
    parts = [copied(made.examples(data.train.ids, a, b, 2)) for a, b in itertools.pairwise(edges)]
    assert len(whole.centres) > 500
    assert windows(whole) == [window for part in parts for window in windows(part)]
    for name in ("places", "noise"):
        assert (getattr(whole, name) == np.concatenate([getattr(part, name) for part in parts])).all()


def test_epochs_and_seeds_draw_differently() -> None:
    ids = np.full(200, 2, np.uint16)
    first, second, other = (
        copied(draws([0, 0, 200], seed=seed, window=5).examples(ids, 0, 200, epoch)).sizes
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
    )
    assert (first != second).any() and (first != other).any()


def test_an_alias_table_is_the_distribution_that_it_was_made_from() -> None:
    weights = np.array([5.0, 0.1, 0.0, 3.0, 1.9])
    thresholds, aliases = alias_table(weights)
    share = (thresholds.astype(np.float64) + (thresholds == 2**32 - 1)) / 2**32
    found = np.bincount(np.arange(5), share, 5) + np.bincount(aliases, 1 - share, 5)
    assert found / 5 == pytest.approx(weights / 10, abs=1e-8)


def test_negatives_follow_the_counts_to_the_power_of_three_quarters() -> None:
    counts = np.array([10**6, 10**6, 8100, 16, 256])
    assert negative_probabilities(counts, 0.75) == pytest.approx(np.array([853.8, 8, 64]) / 925.8, abs=1e-4)
    ids = np.full(20_000, 2, np.uint16)
    noise = draws(counts, negatives=5).examples(ids, 0, len(ids), 0).noise
    assert noise.min() == 2, "what is no word is no negative"
    shares = np.bincount(noise.reshape(-1), minlength=5)[2:] / noise.size
    assert shares == pytest.approx(np.array([853.8, 8, 64]) / 925.8, abs=0.004)


def test_a_window_shares_its_negatives_unless_each_pair_has_its_own() -> None:
    ids = np.arange(2, 9, dtype=np.uint16)
    shared = draws([0, 0, *[1] * 7], negatives=2, dynamic=False).examples(ids, 0, 7, 0)
    assert len(shared.centres) == 7 and shared.sizes.max() == 4
    own = draws([0, 0, *[1] * 7], negatives=2, dynamic=False, own=True).examples(ids, 0, 7, 0)
    assert len(own.centres) == shared.sizes.sum() and set(own.sizes) == {1}
    of_one_centre = own.noise[own.centres == 5]
    assert len({tuple(row) for row in of_one_centre}) > 1
