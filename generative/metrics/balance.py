"""Do the samples show every class, in equal parts, and clearly?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aprendiz.errors import ConfigError

CONFIDENT = 0.9
"""Probability of the likeliest class from which an image counts as clearly one of them."""


class Balance(NamedTuple):
    """What a classifier makes of samples, each counted for its likeliest class."""

    shares: tuple[float, ...]
    """Share of each class; they sum to 1."""
    deviation: float
    """Largest distance of a share from 1 / classes, as a fraction of that: 0 for equal parts, 0.3 for +-30%, 1 where a
    class is missing, classes - 1 where there is but one."""
    entropy: float
    """Of the shares, in nats; log(classes) for equal parts, 0 where there is but one class."""
    confident: float
    """Share of samples of which the classifier is at least 90% sure."""


def class_balance(logits: Tensor) -> Balance:
    """Balance of samples with logits [N, classes]. Raises ConfigError without samples, and where one is NaN."""
    if logits.ndim != 2 or not len(logits) or logits.shape[1] < 2:
        raise ConfigError(f"logits must be [samples, two classes or more], got shape {list(logits.shape)}")
    if logits.isnan().any():
        raise ConfigError("some logits are not a number")
    logits = logits.double()
    classes = logits.shape[1]
    shares = torch.bincount(logits.argmax(1), minlength=classes).double() / len(logits)
    return Balance(
        shares=tuple(shares.tolist()),
        deviation=float((shares * classes - 1).abs().max()),
        entropy=float(torch.special.entr(shares).sum()),
        confident=float((logits.softmax(1).amax(1) >= CONFIDENT).double().mean()),
    )
