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
    a, b = (torch.from_numpy(as_features(features)).float() for features in (real, fake))
    if a.shape[1] != b.shape[1]:
        raise ConfigError(f"features of {a.shape[1]} and of {b.shape[1]} numbers cannot be compared: use one extractor")
    if k < 1 or min(len(a), len(b)) <= k:
        raise ConfigError(f"k = {k} neighbours want k of 1 or more and more than k images, got {len(a)} and {len(b)}")
    return PrecisionRecall(_inside(b, a, radii(a, k)), _inside(a, b, radii(b, k)))


def radii(features: Tensor, k: int) -> Tensor:
    """Distance [N] from each of features [N, D] to its k-th nearest neighbour other than itself; 0 among copies."""
    return torch.cat([_distances(rows, features).kthvalue(k + 1).values for rows in features.split(CHUNK)])


def _inside(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """Share of points [M, D] that lie in at least one ball around centres [N, D] with radius [N]."""
    count = sum(int((_distances(rows, centres) <= radius).any(1).sum()) for rows in points.split(CHUNK))
    return count / len(points)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [A, B], by differences: by products, the distance between copies would not be 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
