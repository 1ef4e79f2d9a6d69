"""What a linear classifier can read off the codes of an encoder (Alain and Bengio 2017, ICLR workshop)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import ConfigError
from generative.metrics.frechet import as_features

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that are tried (scikit-learn's C), strongest first."""
LARGEST = 10_000
"""Training codes that are fitted, at most: drawn by the seed."""


class Probe(NamedTuple):
    """Result of a linear probe."""

    accuracy: float
    """On the test codes."""
    validation_accuracy: float
    """On the validation codes, of the penalty that was chosen by it."""
    strength: float
    """The chosen inverse strength of the penalty."""
    train_codes: int
    """How many codes were fitted."""


def linear_probe(train: tuple[Any, Any], validation: tuple[Any, Any], test: tuple[Any, Any], *, seed: int = 0) -> Probe:
    """Accuracy of logistic regression on codes; each argument is (codes [N, D], labels int [N]).

    Codes are standardised by the mean and deviation of the training codes; the penalty is chosen on the validation
    codes (the stronger one of equals); the test codes are scored once. Raises ConfigError for codes that are not
    finite, and for training codes of one class only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    codes, labels = _pair(train)
    if len(codes) > LARGEST:
        chosen = np.sort(np.random.default_rng(seed).choice(len(codes), LARGEST, replace=False))
        codes, labels = codes[chosen], labels[chosen]
    if len(np.unique(labels)) < 2:
        raise ConfigError("a linear probe wants training codes of two classes or more")
    scaler = StandardScaler().fit(codes)
    codes = scaler.transform(codes)
    held_out, held_out_labels = _pair(validation)
    held_out = scaler.transform(held_out)
    best, best_model = Probe(-1.0, -1.0, 0.0, 0), None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough to the optimum for a probe
            model.fit(codes, labels)
        accuracy = float(model.score(held_out, held_out_labels))
        if accuracy > best.validation_accuracy:
            best, best_model = Probe(math.nan, accuracy, strength, len(codes)), model
    assert best_model is not None
    test_codes, test_labels = _pair(test)
    return best._replace(accuracy=float(best_model.score(scaler.transform(test_codes), test_labels)))


def _pair(pair: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    codes, labels = as_features(pair[0]), np.asarray(pair[1], np.int64)
    if len(codes) != len(labels):
        raise ConfigError(f"{len(codes):,} codes and {len(labels):,} labels do not belong together")
    return codes, labels
