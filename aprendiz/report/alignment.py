"""Curves of several runs on one axis: the same places for all, their centre there, and an interval over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Centre = Literal["mean", "iqm"]
EXACT_RUNS = 4
"""Up to so many runs the bootstrap is not drawn but written out: all n^n resamples."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Band:
    """Several curves as one."""

    x: NDArray[np.float64]
    """[P] places, rising."""
    centre: NDArray[np.float64]
    """[P] mean or interquartile mean of the runs that are there."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """[P] 95% interval over those runs; of one run the centre itself."""
    runs: NDArray[np.int64]
    """[P] how many runs are there: a run counts from its first point to its last, and nowhere else."""


def align(curves: Sequence[tuple[NDArray, NDArray]], points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places [P] and values [runs, P] of curves (x rising [n], y [n]); NaN where a run has not begun or has ended.

    Where all curves lie on the same places, few enough, these are taken as they are. Elsewhere `points` equal steps
    from the lowest place to the highest, and each curve straight between its own points; never beyond its own ends.
    """
    cleaned = []
    for x, y in curves:
        known = np.isfinite(x) & np.isfinite(y)
        cleaned.append((np.asarray(x, np.float64)[known], np.asarray(y, np.float64)[known]))
    cleaned = [(x, y) for x, y in cleaned if len(x)]
    if not cleaned:
        return np.zeros(0), np.zeros((0, 0))
    first = cleaned[0][0]
    if len(first) <= points and all(np.array_equal(x, first) for x, _ in cleaned):
        return first, np.stack([y for _, y in cleaned])
    low, high = min(x[0] for x, _ in cleaned), max(x[-1] for x, _ in cleaned)
    # The ends of every curve are places too, else the tail of a shorter one is lost.
    ends = [end for x, _ in cleaned for end in (x[0], x[-1])] if len(cleaned) <= points // 8 else []
    grid = np.unique(np.concatenate([np.linspace(low, high, points), ends]))
    return grid, np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in cleaned])


def band(curves: Sequence[tuple[NDArray, NDArray]], points: int, centre: Centre = "mean", seed: int = 0) -> Band:
    """Curves (x rising [n], y [n]) as one, with the 95% percentile bootstrap interval over runs (Agarwal et al. 2021,
    section 4.1, at every place for itself)."""
    grid, values = align(curves, points)
    middle, low, high = (np.full(len(grid), np.nan) for _ in range(3))
    there = np.isfinite(values)  # [runs, P]
    count = there.sum(0)
    # Few sets of runs occur: everybody at first, then the longer ones.
    patterns, which = np.unique(there, axis=1, return_inverse=True) if len(grid) else (there, np.zeros(0, int))
    for index, pattern in enumerate(patterns.T):
        columns = np.flatnonzero(which.reshape(-1) == index)
        chosen = values[np.ix_(pattern, columns)]  # [n, places]
        if len(chosen):
            middle[columns] = _centre(chosen, centre)
            low[columns], high[columns] = interval(chosen, centre, seed)
    return Band(grid, middle, low, high, count)


def interval(values: NDArray[np.float64], centre: Centre = "mean", seed: int = 0) -> tuple[NDArray, NDArray]:
    """95% percentile bootstrap interval over the rows of `values` [runs, P]: (low [P], high [P])."""
    runs = len(values)
    if runs == 1:
        return values[0], values[0]
    if runs <= EXACT_RUNS:
        chosen = np.stack(np.meshgrid(*[np.arange(runs)] * runs), axis=-1).reshape(-1, runs)
    else:
        chosen = np.random.default_rng(seed).integers(runs, size=(RESAMPLES, runs))
    if centre == "mean":
        weights = np.stack([(chosen == run).mean(1) for run in range(runs)], axis=1)  # [resamples, runs]
        estimates = weights @ values
    else:
        estimates = np.stack([_centre(column[chosen].T, centre) for column in values.T], axis=1)
    # Of all n^n resamples the quantile is one of them: between them there is nothing that could come out.
    low, high = np.quantile(estimates, [0.025, 0.975], axis=0, method="inverted_cdf")
    return low, high


def _centre(values: NDArray[np.float64], centre: Centre) -> NDArray[np.float64]:
    """Over the first axis. [runs, P] -> [P]"""
    if centre == "mean":
        return values.mean(0)
    ordered, cut = np.sort(values, axis=0), len(values) // 4
    return ordered[cut : len(values) - cut].mean(0)
