"""Worked by hand, and against rliable where it is installed."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from aprendiz.report import scores


def test_the_interquartile_mean_pools_runs_and_tasks_and_drops_a_quarter_at_each_end() -> None:
    # All together 1 1 2 3 4 5 6 100: two go at each end, 2 3 4 5 stay.
    assert scores.interquartile_mean(scores.checked([[1, 100, 2, 3], [1, 4, 5, 6]])) == pytest.approx(3.5)


def test_the_number_dropped_is_rounded_down() -> None:
    assert scores.interquartile_mean(scores.checked([[0, 1, 5]])) == pytest.approx(2.0)
    assert scores.interquartile_mean(scores.checked([[0, 1, 2, 3, 100]])) == pytest.approx(2.0)


def test_mean_and_median_are_of_the_tasks_own_means() -> None:
    rows = scores.checked([[0, 2], [10, 20], [4, 4]])  # means 1, 15 and 4
    assert scores.mean(rows) == pytest.approx(20 / 3)
    assert scores.median(rows) == pytest.approx(4.0)


def test_a_task_with_more_runs_counts_no_more_in_the_mean() -> None:
    assert scores.mean(scores.checked([[0], [1, 1, 1]])) == pytest.approx(0.5)


def test_the_optimality_gap_counts_no_score_above_the_target() -> None:
    # Short of 1 by 1, 0.5, 0 and 0.
    assert scores.optimality_gap(scores.checked([[0.0, 0.5], [1.0, 7.0]])) == pytest.approx(0.375)


def test_a_tie_is_half_an_improvement() -> None:
    # Pairs 1-1 tie, 1-2 lost, 3-1 won, 3-2 won.
    assert scores.probability_of_improvement([[1, 3]], [[1, 2]]) == pytest.approx(2.5 / 4)
    assert scores.probability_of_improvement([[1, 2]], [[1, 2]]) == pytest.approx(0.5)


def test_improvements_are_averaged_over_tasks() -> None:
    # 1 on the first task, 0 on the second, a quarter of the pairs on the third.
    x, y = [[5, 6], [0, 0], [1, 9]], [[1, 2], [3, 4], [5, 10]]
    assert scores.probability_of_improvement(x, y) == pytest.approx((1 + 0 + 0.25) / 3)


def test_runs_are_resampled_within_their_task_and_tasks_are_not() -> None:
    rows = scores.resampled(scores.checked([[1, 2, 3], [10, 20]]), 500, np.random.default_rng(0))
    assert [row.shape for row in rows] == [(500, 3), (500, 2)]
    assert set(np.unique(rows[0])) == {1, 2, 3} and set(np.unique(rows[1])) == {10, 20}


def test_the_interval_of_a_mean_of_two_runs_is_that_of_all_four_resamples() -> None:
    # 0 0, 0 1, 1 0 and 1 1: a quarter of the means is 0 and a quarter is 1, so 2.5% and 97.5% are the ends.
    assert scores.interval([[0.0, 1.0]], scores.mean) == (0.0, 1.0)
    low, high = scores.interval([[0.0, 1.0]], scores.mean, confidence=0.4, resamples=20_000)
    assert (low, high) == (0.5, 0.5)


def test_the_interval_agrees_with_the_theory_of_the_mean() -> None:
    sample = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = scores.interval([sample], scores.mean)
    half = 1.96 * sample.std() / math.sqrt(400)
    assert (low, high) == (pytest.approx(sample.mean() - half, abs=0.03), pytest.approx(sample.mean() + half, abs=0.03))


def test_runs_of_both_learners_are_resampled_independently() -> None:
    # Were the same draws used for both, X would be above Y in every resample.
    x, y = [[0.0, 10.0]], [[-1.0, 9.0]]
    assert scores.probability_of_improvement(x, y) == pytest.approx(0.75)
    assert scores.improvement_interval(x, y) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    sample = [[1.0, 4.0, 2.0, 8.0, 5.0]]
    assert scores.interval(sample, seed=3) == scores.interval(sample, seed=3) != scores.interval(sample, seed=4)


@pytest.mark.parametrize("wrong", [[], [[]], [[1.0], []], [[float("nan")]], [[[1.0]]]])
def test_scores_that_are_none_are_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match="scores must be"):
        scores.checked(wrong)


def test_learners_on_different_numbers_of_tasks_do_not_compare() -> None:
    with pytest.raises(ValueError, match="2 and of 1 tasks"):
        scores.probability_of_improvement([[1], [2]], [[1]])


def test_aggregates_and_improvements_are_those_of_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    generator = np.random.default_rng(7)
    x, y = generator.normal(1.0, 1.0, (5, 7)), generator.normal(0.7, 1.0, (4, 7))  # runs, tasks
    y[0, 0] = x[0, 0]
    rows = scores.checked(list(x.T))
    assert scores.interquartile_mean(rows) == pytest.approx(metrics.aggregate_iqm(x))
    assert scores.mean(rows) == pytest.approx(metrics.aggregate_mean(x))
    assert scores.median(rows) == pytest.approx(metrics.aggregate_median(x))
    assert scores.optimality_gap(rows) == pytest.approx(metrics.aggregate_optimality_gap(x))
    ours = scores.probability_of_improvement(list(x.T), list(y.T))
    assert ours == pytest.approx(metrics.probability_of_improvement(x, y))


def test_intervals_are_those_of_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    try:
        library = importlib.import_module("rliable.library")
    except Exception as error:  # what it builds on breaks with some versions of pandas
        pytest.skip(f"rliable.library does not import here: {error}")
    x = np.random.default_rng(3).normal(1.0, 1.0, (5, 6))
    _, theirs = library.get_interval_estimates(
        {"x": x}, lambda one: np.array([metrics.aggregate_iqm(one)]), reps=4000, random_state=np.random.RandomState(0)
    )
    low, high = scores.interval(list(x.T), resamples=20_000)
    spread = theirs["x"][1, 0] - theirs["x"][0, 0]
    assert low == pytest.approx(theirs["x"][0, 0], abs=0.05 * spread)
    assert high == pytest.approx(theirs["x"][1, 0], abs=0.05 * spread)
