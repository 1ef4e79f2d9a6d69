"""Images in memory, and the views that every kind of `Images` can be seen through."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.data.core import Images, ImageSpec
from aprendiz.data.scaling import Scaling
from aprendiz.errors import DataError


def as_indices(indices: Any, count: int) -> Tensor:
    """int64 [B] on the CPU of a slice, an array, a tensor or a sequence of indices of `count` images."""
    if isinstance(indices, slice):
        return torch.arange(*indices.indices(count))
    return torch.as_tensor(indices, dtype=torch.int64, device="cpu")


class ArrayImages:
    """Images held in memory."""

    def __init__(
        self, spec: ImageSpec, array: Tensor | np.ndarray, labels: Any = None, scaling: Scaling | None = None
    ) -> None:
        """`array` uint8 [N, C, H, W], `labels` int64 [N] or None. Raises DataError where they do not fit `spec`."""
        self.array = torch.as_tensor(array).contiguous()
        """uint8 [N, C, H, W] on the CPU."""
        self.labels = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        self.spec, self.scaling = spec, scaling or Scaling()
        if self.array.dtype != torch.uint8 or tuple(self.array.shape[1:]) != spec.shape:
            raise DataError(
                f"images of {spec.name} are {self.array.dtype} {tuple(self.array.shape)}; uint8 (N, "
                f"{spec.channels}, {spec.height}, {spec.width}) is what they must be"
            )
        if self.labels is not None and self.labels.shape != (len(self.array),):
            raise DataError(f"{spec.name} has {len(self.array)} images and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.array)

    def pixels(self, indices: Any) -> Tensor:
        """uint8 [B, C, H, W] of the images at `indices`."""
        return self.array[indices] if isinstance(indices, slice) else self.array[as_indices(indices, len(self))]

    def scaled(self, indices: Any) -> Tensor:
        """float32 [B, C, H, W] as models see them."""
        return self.scaling.to_model(self.pixels(indices))


class ScaledImages:
    """Images of any kind, seen through another scaling."""

    def __init__(self, images: Images, spec: ImageSpec, scaling: Scaling) -> None:
        self.images, self.spec, self.scaling = images, spec, scaling
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: Any) -> Tensor:
        """uint8 [B, C, H, W] of the images at `indices`."""
        return self.images.pixels(indices)

    def scaled(self, indices: Any) -> Tensor:
        """float32 [B, C, H, W] as models see them."""
        return self.scaling.to_model(self.pixels(indices))


def rescaled(images: Images, spec: ImageSpec, scaling: Scaling) -> Images:
    """The same images as `scaling` makes models see them; nothing is copied."""
    if isinstance(images, ArrayImages):
        return ArrayImages(spec, images.array, images.labels, scaling)
    return ScaledImages(images.images if isinstance(images, ScaledImages) else images, spec, scaling)


class Subset:
    """Some of the images, in the order of `indices`; nothing is copied."""

    def __init__(self, images: Images, indices: Any) -> None:
        self.images = images
        self.indices = as_indices(indices, len(images))
        """int64 [n]"""
        self.spec, self.scaling = images.spec, images.scaling
        self.labels = None if images.labels is None else images.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, indices: Any) -> Tensor:
        """uint8 [B, C, H, W] of the images at `indices`."""
        return self.images.pixels(self.indices[as_indices(indices, len(self))])

    def scaled(self, indices: Any) -> Tensor:
        """float32 [B, C, H, W] as models see them."""
        return self.images.scaled(self.indices[as_indices(indices, len(self))])


def subset(images: Images, indices: Any) -> Images:
    """Some of the images: a copy of them where they are in memory, so that they stay as fast, else a view."""
    if isinstance(images, ArrayImages):
        chosen = as_indices(indices, len(images))
        labels = None if images.labels is None else images.labels[chosen]
        return ArrayImages(images.spec, images.array[chosen], labels, images.scaling)
    return Subset(images, indices)
