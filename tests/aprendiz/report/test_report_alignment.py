from __future__ import annotations

import itertools

import numpy as np
import pytest

from aprendiz.report import alignment


def curve(x: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(x, float), np.array(y, float)


def test_curves_on_the_same_places_are_taken_as_they_are() -> None:
    x, values = alignment.align([curve([1, 2, 5], [1, 2, 3]), curve([1, 2, 5], [3, 2, 1])], 100)
    assert x.tolist() == [1, 2, 5] and values.tolist() == [[1, 2, 3], [3, 2, 1]]


def test_a_curve_runs_straight_between_its_points() -> None:
    x, values = alignment.align([curve([0, 10], [0, 100]), curve([0, 4, 10], [0, 0, 60])], 11)
    at_7 = int(np.flatnonzero(x == 7)[0])
    assert values[:, at_7] == pytest.approx([70, 30])


def test_no_curve_goes_beyond_its_own_ends() -> None:
    x, values = alignment.align([curve([0, 10], [1, 1]), curve([4, 6], [5, 5])], 11)
    outside = (x < 4) | (x > 6)
    assert np.isnan(values[1, outside]).all() and np.isfinite(values[1, ~outside]).all()
    assert np.isfinite(values[0]).all()


def test_where_a_run_has_ended_the_others_go_on_and_are_counted() -> None:
    made = alignment.band([curve([0, 10], [2, 2]), curve([0, 5], [4, 4])], 11)
    assert made.runs[made.x == 5] == 2 and made.centre[made.x == 5] == 3
    assert made.runs[made.x == 6] == 1 and made.centre[made.x == 6] == 2


def test_a_single_run_has_no_spread() -> None:
    made = alignment.band([curve([0, 1, 2], [3, 4, 5])], 50)
    assert made.low.tolist() == made.high.tolist() == made.centre.tolist() == [3, 4, 5]


def test_the_interval_of_three_runs_is_that_of_all_27_resamples() -> None:
    values = np.array([[0.0, 5.0], [1.0, 5.0], [5.0, 5.0]])
    low, high = alignment.interval(values)
    means = sorted(np.mean(one) for one in itertools.product([0.0, 1.0, 5.0], repeat=3))
    # 2.5% of 27 is less than one of them: the ends.
    assert (low[0], high[0]) == (means[0], pytest.approx(means[-1])) == (0.0, 5.0)
    assert (low[1], high[1]) == (pytest.approx(5.0), pytest.approx(5.0))


def test_the_interval_of_many_runs_is_that_of_the_theory_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(0.0, 3.0, (200, 1))
    low, high = alignment.interval(values)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (high[0] - low[0]) / 2 == pytest.approx(half, rel=0.1)


def test_the_interquartile_mean_leaves_the_one_run_that_failed_out() -> None:
    curves = [curve([0, 1], [y, y]) for y in (10, 11, 12, 13, -1000)]
    assert alignment.band(curves, 10, "iqm").centre.tolist() == [11, 11]
    assert alignment.band(curves, 10, "mean").centre[0] < -100


def test_values_that_are_not_finite_are_no_points() -> None:
    made = alignment.band([curve([0, 1, 2], [1, np.nan, 3]), curve([0, 1, 2], [1, 2, 3])], 10)
    assert made.centre[made.x == 1] == pytest.approx(2.0)


def test_nothing_to_align_is_an_empty_band() -> None:
    assert len(alignment.band([curve([], []), curve([1], [np.nan])], 10).x) == 0
