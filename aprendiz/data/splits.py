"""Which images are learned from, which choose and which judge: drawn by a seed of their own, not the run's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from aprendiz.errors import ConfigError

Indices = NDArray[np.int64]
_HELD_OUT = 0.1


def split(count: int, labels: ArrayLike | Tensor | None, seed: int) -> tuple[Indices, Indices, Indices]:
    """Sorted indices of training (80%), validation and test images (10% each, one at least) among `count`.

    Where there are labels, each class gives its share to within one image, and the only image of a class is trained on.
    Of two images one is trained on and the other is both validation and test; a single one is all three.
    """
    if count < 3:
        held_out = np.arange(count)[-1:]
        return np.arange(1), held_out, held_out
    size = max(1, round(_HELD_OUT * count))
    rest, test = hold_out(count, labels, size, seed, part=1)
    inner_labels = None if labels is None else np.asarray(labels)[rest]
    train, validation = hold_out(len(rest), inner_labels, size, seed, part=2)
    return rest[train], rest[validation], test


def hold_out(
    count: int, labels: ArrayLike | Tensor | None, size: int, seed: int, *, part: int = 0
) -> tuple[Indices, Indices]:
    """Sorted indices of `count - size` images and of `size` others, balanced over the labels; `part` makes draws of one
    seed differ. Raises ConfigError unless 0 < size < count."""
    if not 0 < size < count:
        raise ConfigError(f"{size} of {count} images cannot be held out: between 1 and {count - 1} can")
    generator = np.random.default_rng(np.random.SeedSequence([seed, part]))
    order = generator.permutation(count)
    if labels is not None:
        classes = np.asarray(labels)[order]
        by_class = np.argsort(classes, kind="stable")
        order, classes = order[by_class], classes[by_class]
        first = np.r_[True, classes[1:] != classes[:-1]]  # one of each class stays, where that leaves enough
        if count - first.sum() >= size:
            order = np.r_[order[first], order[~first]]
            start = int(first.sum())
        else:
            start = 0
    else:
        start = 0
    # Evenly spaced among images that lie class by class: every class gives its share to within one image.
    picked = start + ((np.arange(size) + generator.random()) * (count - start) / size).astype(np.int64)
    held_out = np.zeros(count, np.bool_)
    held_out[order[picked]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def labelled_subset(labels: ArrayLike | Tensor, count: int, seed: int) -> Indices:
    """Sorted indices of `count` images with equally many of each class (to within one), drawn by `seed`.

    A class that has too few gives all it has, and the others make up for it. Raises ConfigError where `count` is below
    the number of classes or above the number of images.
    """
    labels = np.asarray(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    if not len(classes) <= count <= len(labels):
        raise ConfigError(
            f"{count} labelled images cannot be chosen: between {len(classes)} (one a class) and {len(labels)} can"
        )
    generator = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    quota = np.zeros(len(classes), np.int64)
    while (missing := count - quota.sum()) > 0:
        room = np.flatnonzero(quota < sizes)
        if missing < len(room):
            room = generator.permutation(room)[:missing]
        quota[room] = np.minimum(quota[room] + max(1, missing // len(room)), sizes[room])
    chosen = [generator.permutation(np.flatnonzero(labels == one))[:n] for one, n in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(chosen))
