"""Patches cut from images: small windows at random places, without the blank ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aprendiz.data.core import Dataset, Images
from aprendiz.data.images import ArrayImages
from aprendiz.data.scaling import Scaling
from aprendiz.device import available_memory
from aprendiz.errors import ConfigError, DataError

_CHUNK_IMAGES = 1_024
_TRIES = 30
_MEMORY_SHARE = 0.35
"""Of the free memory, so much may hold patches: they are there twice while they are put together."""


def cut_patches(
    dataset: Dataset, size: int, *, count: int | None, per_image: int, min_deviation: float, seed: int
) -> Dataset:
    """The data set of size x size patches, each part cut from its own images, so that nothing that is judged has been
    learned from. Patches have no labels.

    `count` patches are cut from the training images, or `per_image` times their number where it is None; the other
    parts get their share of it. Positions are drawn by `seed`. A patch is blank, and is drawn again, when the standard
    deviation of its values (of 0..1, all channels together) is below `min_deviation`. Raises ConfigError for values
    that fit no patch, DataError where all patches are blank or too many for the memory.
    """
    spec = dataset.spec
    if not 1 <= size <= min(spec.height, spec.width):
        raise ConfigError(f"patch must be between 1 and {min(spec.height, spec.width)} pixels, got {size}")
    if per_image < 1 or (count is not None and count < 1):
        raise ConfigError(f"at least 1 patch must be cut, got patches {count} and patches_per_image {per_image}")
    if not 0.0 <= min_deviation <= 0.5:
        raise ConfigError(f"patch_min_deviation must be between 0 (keep all) and 0.5, got {min_deviation}")
    total = per_image * len(dataset.train) if count is None else count
    needed = total * spec.channels * size * size
    if needed > _MEMORY_SHARE * available_memory(torch.device("cpu")):
        raise DataError(f"{total:,} patches take {needed / 2**30:.1f} GB, more than there is room for: lower patches")
    cut = replace(spec, height=size, width=size, classes=())
    parts: list[ArrayImages] = []
    for number, images in enumerate((dataset.train, dataset.validation, dataset.test)):
        wanted = max(1, round(total * len(images) / len(dataset.train)))
        array = patches_of(images, size, wanted, min_deviation, seed=[seed, number])
        if len(array) == 0:
            raise DataError(
                f"all patches of {spec.name} are blank: their standard deviation is below {min_deviation}; lower "
                "patch_min_deviation"
            )
        parts.append(ArrayImages(cut, array))
    train, validation, test = parts
    return Dataset(cut, train, validation, test, Scaling(), dataset.options, "", dataset.skipped)


def patches_of(images: Images, size: int, count: int, min_deviation: float, *, seed: list[int]) -> Tensor:
    """uint8 [n, C, size, size]: patches of `images`, as many from each as its share, n <= count.

    Each is drawn again, from any image of its chunk, until it is not blank; when after many tries hardly any is found,
    the next chunk makes up for it, and at the end fewer are given.
    """
    found: list[Tensor] = []
    got = 0
    for start in range(0, len(images), _CHUNK_IMAGES):
        generator = np.random.default_rng(np.random.SeedSequence([*seed, start]))
        stop = min(start + _CHUNK_IMAGES, len(images))
        due = round(count * stop / len(images)) - got
        if due > 0:
            found.append(_cut(images.pixels(slice(start, stop)), size, due, min_deviation, generator))
            got += len(found[-1])
    return torch.cat(found) if found else torch.empty(0, images.spec.channels, size, size, dtype=torch.uint8)


def _cut(pixels: Tensor, size: int, count: int, min_deviation: float, generator: np.random.Generator) -> Tensor:
    """uint8 [n, C, size, size] of uint8 [N, C, H, W]."""
    windows = pixels.unfold(2, size, 1).unfold(3, size, 1)  # a view [N, C, H', W', size, size]
    result = torch.empty(count, pixels.shape[1], size, size, dtype=torch.uint8)
    image = np.resize(generator.permutation(len(pixels)), count)  # in turn, so that each gives its share
    pending = np.arange(count)
    for _ in range(_TRIES):
        place = (
            torch.from_numpy(image),
            torch.from_numpy(generator.integers(0, windows.shape[2], len(pending))),
            torch.from_numpy(generator.integers(0, windows.shape[3], len(pending))),
        )
        drawn = windows[place[0], :, place[1], place[2]]  # [pending, C, size, size]
        good = deviation(drawn) >= min_deviation
        result[torch.from_numpy(pending[good])] = drawn[torch.from_numpy(good)]
        pending = pending[~good]
        if len(pending) == 0:
            break
        image = generator.integers(0, len(pixels), len(pending))
    kept = np.ones(count, np.bool_)
    kept[pending] = False
    return result[torch.from_numpy(kept)]


def deviation(patches: Tensor) -> NDArray[np.float32]:
    """float32 [N]: the standard deviation of the values, in 0..1, of uint8 [N, C, H, W]."""
    return patches.flatten(1).to(torch.float32).div_(255.0).std(dim=1, correction=0).numpy()
