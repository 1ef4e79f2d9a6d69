"""Frechet distance between the Gaussians of two sets of features: FID.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NIPS, eq. 6;
the distance is Dowson and Landau's (1982, Journal of Multivariate Analysis 12:450).

    d^2 = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

It depends on what extracts the features and on how many images there are (fewer give a larger one), so both are named
wherever a number is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aprendiz.errors import ConfigError

Array = NDArray[np.float64]


def fid(features_a: Any, features_b: Any) -> float:
    """Squared Frechet distance between the Gaussians fitted to features [N_a, D] and [N_b, D]; 0 or more.

    Tensors or arrays, of any float type; all arithmetic is float64. Covariances divide by N - 1, as the published code
    does. Raises ConfigError where the numbers of features differ, where one has fewer than two rows, or where a feature
    is not finite.
    """
    a, b = as_features(features_a), as_features(features_b)
    if a.shape[1] != b.shape[1]:
        raise ConfigError(f"features of {a.shape[1]} and of {b.shape[1]} numbers cannot be compared: use one extractor")
    return frechet_distance(*moments(a), *moments(b))


def moments(features: Array) -> tuple[Array, Array]:
    """Mean [D] and covariance [D, D], unbiased, of features [N, D]."""
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Squared Frechet distance between N(mean_a, cov_a) and N(mean_b, cov_b): means [D], covariances [D, D].

    tr((C_a C_b)^(1/2)) is the sum of the singular values of C_a^(1/2) C_b^(1/2). The roots are those of symmetric
    matrices, whose eigenvalues are real and, but for rounding, not negative: units that are always off, fewer images
    than features and equal sets need no special care, where the root of C_a C_b itself turns complex or fails.
    """
    mean_a, mean_b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    cov_a, cov_b = np.atleast_2d(np.asarray(cov_a, np.float64)), np.atleast_2d(np.asarray(cov_b, np.float64))
    cross = np.linalg.svd(symmetric_root(cov_a) @ symmetric_root(cov_b), compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(0.0, float(distance))


def symmetric_root(matrix: Array) -> Array:
    """The root [D, D] of a symmetric matrix without negative eigenvalues; those that rounding made are taken as 0."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T


def as_features(features: Any) -> Array:
    """Features as float64 [N, D], N of two or more. Raises ConfigError for anything else, and for infinity and NaN."""
    if hasattr(features, "detach"):
        features = features.detach().cpu().numpy()
    array = np.asarray(features, np.float64)
    if array.ndim != 2 or len(array) < 2 or not array.shape[1]:
        raise ConfigError(f"features must be a table of two images or more, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array).all(1)).sum())
        raise ConfigError(f"{count:,} of {len(array):,} images have features that are infinite or not a number")
    return array
