"""Scores, summarised: every expected number here can be worked out by hand."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from aprendiz.statistics import bootstrap_interval, human_normalized, iqm, summarize


def test_iqm_drops_a_quarter_at_each_end():
    # Eight scores: the lowest two and the highest two go, and (3 + 4 + 5 + 6) / 4 stays, whatever the outliers.
    assert iqm([1, 2, 3, 4, 5, 6, 7, 1000]) == 4.5
    assert iqm([1000, 6, 2, 4, 3, 5, 1, 7]) == 4.5


def test_iqm_rounds_the_dropped_quarter_down():
    assert iqm([1, 2, 9]) == 4.0  # a quarter of three is less than one: nothing goes
    assert iqm([0, 1, 2, 3, 104]) == 2.0  # one at each end goes


def test_interval_of_two_scores_is_their_range():
    # The mean of two resampled scores is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4: 2.5% lies at 0, and 97.5% at 1.
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    # The central 40% (30% to 70%) lies inside the middle half.
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)


def test_interval_of_the_mean_has_the_width_that_theory_gives():
    # 100 zeros and 100 ones: standard error sqrt(1/4 / 200) = 0.03536, times 1.96 on each side of 1/2.
    low, high = bootstrap_interval([0.0] * 100 + [1.0] * 100, resamples=20_000)
    assert low == pytest.approx(0.5 - 1.96 * 0.03536, abs=0.006)
    assert high == pytest.approx(0.5 + 1.96 * 0.03536, abs=0.006)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.normal(3.0, 2.0, size=50), confidence=0.9, resamples=500, seed=seed)
        covered += low <= 3.0 <= high
    assert 165 <= covered <= 195  # 180 expected, standard deviation 4.2


def test_interval_takes_other_statistics():
    scores = [1, 2, 3, 4, 5, 6, 7, 1000]
    # The highest of 8 scores is missed by a resample with probability (7/8)^8 = 34%, both highest with (6/8)^8 = 10%.
    assert bootstrap_interval(scores, np.max, confidence=0.6) == (7.0, 1000.0)
    assert bootstrap_interval(scores, iqm)[1] < bootstrap_interval(scores, np.mean)[1]


def test_interval_depends_on_the_seed_alone():
    scores = np.arange(10.0)
    np.random.seed(1)
    first = bootstrap_interval(scores, seed=3)
    np.random.seed(2)
    assert bootstrap_interval(scores, seed=3) == first
    assert bootstrap_interval(scores, seed=4) != first


@pytest.mark.parametrize("scores", [[21.0], [7.0] * 30, [0.0] * 5])
def test_one_score_and_equal_scores_give_an_interval_of_no_width(scores):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarize(scores)
    assert summary["mean_interval"] == summary["iqm_interval"] == [scores[0], scores[0]]
    assert summary["standard_deviation"] == 0.0


def test_summary_by_hand():
    summary = summarize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary["n"] == 8
    assert summary["mean"] == 5.0  # 40 / 8
    assert summary["median"] == 4.5
    assert summary["iqm"] == 4.5  # (4 + 4 + 5 + 5) / 4
    assert summary["standard_deviation"] == pytest.approx((32 / 7) ** 0.5)  # squares 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16
    assert (summary["min"], summary["max"]) == (2.0, 9.0)
    low, high = summary["mean_interval"]
    assert 2.0 < low < 5.0 < high < 9.0
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0]], [1.0, float("nan")], [float("inf")]])
def test_scores_that_mean_nothing_are_refused(scores):
    with pytest.raises(ValueError, match="scores must be"):
        summarize(scores)


@pytest.mark.parametrize("options", [{"confidence": 0.0}, {"confidence": 1.0}, {"confidence": 95}, {"resamples": 0}])
def test_interval_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="must be"):
        bootstrap_interval([1.0, 2.0], **options)


def test_human_normalized():
    # Breakout: random 1.7, human 30.5 (Wang et al. 2016); 401.2 is (401.2 - 1.7) / 28.8 = 13.87 times the human.
    assert human_normalized(1.7, random=1.7, human=30.5) == 0.0
    assert human_normalized(30.5, random=1.7, human=30.5) == 1.0
    assert human_normalized(401.2, random=1.7, human=30.5) == pytest.approx(13.8715, abs=1e-4)
    # Pong's random score is negative.
    assert human_normalized(0.0, random=-20.0, human=20.0) == 0.5
    with pytest.raises(ValueError, match="equal to the random score"):
        human_normalized(1.0, random=2.0, human=2.0)
