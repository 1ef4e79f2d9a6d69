"""Statistics of scores: robust means, bootstrap intervals and human-normalised scores.

Paper: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (https://arxiv.org/abs/2108.13264), section 4: report intervals, and the
interquartile mean beside mean and median. Reference code: google-research/rliable.

Everything here is a pure function of its arguments; the resampling takes a seed and touches no global random state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"scores must be one row of at least one number, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite numbers, got NaN or infinity among them")
    return values


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the scores without the lowest and the highest quarter.

    Agarwal et al. 2021, section 4.3: less sensitive to outliers than the mean, more efficient than the median. The
    number of scores dropped at each end is rounded down, so that up to three scores give their plain mean.

    scores: [n] numbers, n >= 1. Raises ValueError when scores is empty, not one row, or not finite.
    """
    return float(stats.trim_mean(_checked(scores), 0.25))


def _trimmed_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap confidence interval (low, high) of a statistic of the scores.

    Agarwal et al. 2021, section 4.1, for one task (one stratum): resample the n scores with replacement, and take the
    central `confidence` of the statistic's distribution over the resamples. One score, or scores that are all equal,
    give an interval of zero width: the scores themselves then say nothing of their spread.

    scores: [n] numbers, n >= 1. statistic: called as statistic(array [resamples, n], axis=1) -> [resamples], as
    NumPy's functions are (np.mean, np.median); `iqm` itself is also accepted. confidence: in (0, 1). The same seed
    gives the same interval. Raises ValueError for scores as in `iqm`, and for a confidence or number of resamples out
    of range.
    """
    values = _checked(scores)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    vectorized = _trimmed_mean if statistic is iqm else statistic
    indices = np.random.default_rng(seed).integers(values.size, size=(resamples, values.size))
    estimates = vectorized(values[indices], axis=1)  # [resamples]
    low, high = np.quantile(estimates, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def summarize(scores: Sequence[float] | ArrayLike) -> dict[str, Any]:
    """The numbers that an evaluation reports, JSON-able.

    scores: [n] scores of whole games (or one number a seed), n >= 1. Returns `n`, `mean`, `median`, `iqm`,
    `standard_deviation` (of the sample: divided by n - 1; 0.0 for one score), `min`, `max`, and the 95% percentile
    bootstrap intervals `mean_interval` and `iqm_interval`, each [low, high]. Raises ValueError for scores as in `iqm`.
    Agarwal et al. 2021, section 4.
    """
    values = _checked(scores)
    return {
        "n": int(values.size),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "iqm": iqm(values),
        "standard_deviation": float(values.std(ddof=1)) if values.size > 1 else 0.0,
        "min": float(values.min()),
        "max": float(values.max()),
        "mean_interval": list(bootstrap_interval(values)),
        "iqm_interval": list(bootstrap_interval(values, iqm)),
    }


def human_normalized(score: float, random: float, human: float) -> float:
    """Human-normalised score: 0 plays like a uniformly random agent, 1 like the human reference player.

    (score - random) / (human - random), as in Mnih et al. 2015 (Nature 518, table 2 of the extended data) and Agarwal
    et al. 2021, section 2. A fraction, not per cent. Raises ValueError when human equals random.
    """
    if human == random:
        raise ValueError(f"a human score equal to the random score ({random}) leaves nothing to normalise by")
    return float((score - random) / (human - random))
