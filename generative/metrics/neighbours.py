"""How many samples look real, and how much of what is real they cover.

Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS, eqs. 1 and 2.
Around each image of a set lies a ball that reaches to its k-th nearest neighbour in that set; together they are the
set's manifold. Precision is the share of samples inside the manifold of the real images, recall the share of real
images inside the manifold of the samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from generative.metrics.frechet import as_features

CHUNK = 1_000
"""Rows whose distances to all others are in memory at once."""
NOTHING = 1e-13
"""Squared distance, in parts of the squared norms, that is rounding of float64."""


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]."""

    precision: float
    recall: float


def precision_recall(real: Any, fake: Any, k: int = 3) -> PrecisionRecall:
    """Precision and recall of samples with features `fake` [M, D] against images with features `real` [N, D].

    Neighbours are exact, a ball's surface belongs to it. The paper takes as many samples as real images, and so should
    the caller: more samples raise recall. Raises ConfigError for features that differ in number or are not finite, and
    where either set has no more than k images.
    """
    a, b = (torch.from_numpy(as_features(features)) for features in (real, fake))
    if a.shape[1] != b.shape[1]:
        raise ConfigError(f"features of {a.shape[1]} and of {b.shape[1]} numbers cannot be compared: use one extractor")
    if k < 1 or min(len(a), len(b)) <= k:
        raise ConfigError(f"k = {k} neighbours want k of 1 or more and more than k images, got {len(a)} and {len(b)}")
    centre = a.mean(0)  # smaller numbers are rounded less
    a, b = a - centre, b - centre
    return PrecisionRecall(_inside(b, a, squared_radii(a, k)), _inside(a, b, squared_radii(b, k)))


def squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance [N] from each of features [N, D] to its k-th nearest neighbour but itself; 0 among copies."""
    nearest = (_squared_distances(rows, features).topk(k + 1, largest=False).values for rows in features.split(CHUNK))
    return torch.cat([distances.amax(1) for distances in nearest])


def _inside(points: Tensor, centres: Tensor, squared: Tensor) -> float:
    """Share of points [M, D] that lie in at least one ball around centres [N, D] with squared radius [N]."""
    count = sum(int((_squared_distances(rows, centres) <= squared).any(1).sum()) for rows in points.split(CHUNK))
    return count / len(points)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """float64 [A, B] of features [A, D] and [B, D]; exactly 0 for copies, which rounding would set apart a little."""
    norms_a, norms_b = a.square().sum(1), b.square().sum(1)
    squared = torch.addmm(norms_b, a, b.T, alpha=-2).add_(norms_a[:, None])
    return squared.masked_fill_(squared <= NOTHING * (norms_a[:, None] + norms_b), 0.0)
