"""Scores of several runs on several tasks: aggregates, stratified bootstrap intervals, probability of improvement.

Paper: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (https://arxiv.org/abs/2108.13264), sections 4.1 (stratified bootstrap), 4.3
(interquartile mean, optimality gap, probability of improvement). Reference code: google-research/rliable.

Scores come as one row a task, `[[...], [...]]`: the runs' scores on that task. Rows may differ in length, which the
paper's matrix of runs and tasks cannot; the interquartile mean then weighs tasks with more runs more, as it pools all
scores. Everything is a pure function of its arguments; a seed decides the resampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
"""Of every interval; Agarwal et al. 2021 use 2,000 for curves and 50,000 for tables."""

Scores = Sequence[ArrayLike]
"""One row a task, of one score a run."""
Rows = list[NDArray[np.float64]]
"""Scores of the same tasks, each [..., runs]: the leading axes are resamples."""


def checked(scores: Scores) -> Rows:
    """The rows as arrays [runs of that task]. Raises ValueError where there is no task, no run of one, or no number."""
    rows = [np.asarray(row, np.float64) for row in scores]
    if not rows or any(row.ndim != 1 or row.size == 0 for row in rows):
        raise ValueError("scores must be one row a task, each of at least one number")
    if not all(np.isfinite(row).all() for row in rows):
        raise ValueError("scores must be finite numbers, got NaN or infinity among them")
    return rows


def mean(rows: Rows) -> NDArray[np.float64]:
    """Mean over tasks of the mean over runs. [...]"""
    return np.mean([row.mean(-1) for row in rows], axis=0)


def median(rows: Rows) -> NDArray[np.float64]:
    """Median over tasks of the mean over runs; of one task, this is its mean. [...]"""
    return np.median([row.mean(-1) for row in rows], axis=0)


def interquartile_mean(rows: Rows) -> NDArray[np.float64]:
    """Mean of all scores, of all runs and tasks together, without the lowest and the highest quarter. [...]

    The number dropped at each end is rounded down.
    """
    pooled = np.sort(np.concatenate(rows, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(-1)


def optimality_gap(rows: Rows, target: float = 1.0) -> NDArray[np.float64]:
    """How far the scores fall short of `target` (of human-normalised ones 1), scores above it counted as it. [...]"""
    return target - np.mean(np.minimum(np.concatenate(rows, axis=-1), target), axis=-1)


def resampled(rows: Rows, resamples: int, generator: np.random.Generator) -> Rows:
    """Runs drawn with replacement, of each task for itself: each [runs] becomes [resamples, runs]."""
    return [row[generator.integers(row.size, size=(resamples, row.size))] for row in rows]


def interval(
    scores: Scores,
    aggregate: Callable[[Rows], NDArray[np.float64]] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval (low, high) of an aggregate by the stratified bootstrap: runs are drawn, tasks are not.

    One run a task gives an interval of zero width: it says nothing of other seeds. Raises ValueError as `checked` does.
    """
    rows = checked(scores)
    estimates = aggregate(resampled(rows, resamples, np.random.default_rng(seed)))
    return _percentiles(estimates, confidence)


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """How likely a run of X scores higher than a run of Y on the same task, averaged over tasks.

    Agarwal et al. 2021, section 4.3: per task the share of all pairs of runs in which X's is higher, ties counted half
    (Mann and Whitney's U by the number of pairs). x, y: the same tasks in the same order. Raises ValueError otherwise.
    """
    return float(_improvement(*_paired(x, y)))


def improvement_interval(
    x: Scores, y: Scores, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `probability_of_improvement`, the runs of X and of Y drawn independently."""
    rows_x, rows_y = _paired(x, y)
    generator = np.random.default_rng(seed)
    estimates = _improvement(resampled(rows_x, resamples, generator), resampled(rows_y, resamples, generator))
    return _percentiles(estimates, confidence)


def _paired(x: Scores, y: Scores) -> tuple[Rows, Rows]:
    rows_x, rows_y = checked(x), checked(y)
    if len(rows_x) != len(rows_y):
        raise ValueError(f"scores of {len(rows_x)} and of {len(rows_y)} tasks cannot be compared: give the same tasks")
    return rows_x, rows_y


def _improvement(rows_x: Rows, rows_y: Rows) -> NDArray[np.float64]:
    shares = []
    for x, y in zip(rows_x, rows_y, strict=True):
        pairs = x[..., :, None] - y[..., None, :]  # [..., runs of X, runs of Y]
        shares.append(((pairs > 0) + 0.5 * (pairs == 0)).mean((-2, -1)))
    return np.mean(shares, axis=0)


def _percentiles(estimates: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    low, high = np.quantile(estimates, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)
