"""Putting a data set together: arrays and labels to a `Dataset`, patches, scaling, fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.data.core import Dataset, Images, ImageSpec
from aprendiz.data.images import ArrayImages, as_indices, rescaled
from aprendiz.data.scaling import Scaling
from aprendiz.data.splits import hold_out, split
from aprendiz.errors import DataError


def from_arrays(
    name: str,
    images: Any,
    labels: Any = None,
    *,
    classes: Sequence[str] = (),
    test_images: Any = None,
    test_labels: Any = None,
    validation: int | None = None,
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """A data set of arrays in memory, split by `split_seed`.

    `images` uint8 [N, C, H, W] or [N, H, W], `labels` integers [N] that index `classes`. Without test images 80% are
    trained on, 10% validate and 10% test; with them `validation` (by default a sixth) of `images` is held out, and the
    rest is trained on. Raises DataError where shapes and labels do not fit.
    """
    array = _images(name, images)
    if len(array) == 0:
        raise DataError(f"{name} has no images")
    spec = ImageSpec(
        name=name,
        channels=array.shape[1],
        height=array.shape[2],
        width=array.shape[3],
        classes=tuple(classes),
    )
    known = _labels(spec, labels, len(array))
    whole = ArrayImages(spec, array, known)
    if test_images is None:
        train, validate, test = split(len(array), known, split_seed)
        held_out = _part(whole, test)
    else:
        size = round(len(array) / 6) if validation is None else validation
        train, validate = hold_out(len(array), known, size, split_seed)
        test_array = _images(name, test_images)
        held_out = ArrayImages(spec, test_array, _labels(spec, test_labels, len(test_array)))
    parts = (_part(whole, train), _part(whole, validate), held_out)
    return Dataset(spec, *parts, Scaling(), dict(options or {}))


def finish(
    dataset: Dataset,
    *,
    scaling: str = "unit",
    scaling_per: str = "channel",
    patch: int | None = None,
    patches: int | None = None,
    patches_per_image: int = 4,
    patch_min_deviation: float = 0.1,
) -> Dataset:
    """What every data set goes through: patches, scaling fitted on the training images, fingerprint, options."""
    if patch is not None:
        from aprendiz.data.patches import cut_patches

        seed = dataset.options.get("split_seed", 0)
        dataset = cut_patches(
            dataset, patch, count=patches, per_image=patches_per_image, min_deviation=patch_min_deviation, seed=seed
        )
    fitted = Scaling(scaling, scaling_per).fit(dataset.train)
    spec = replace(dataset.spec, unit_interval=fitted.unit_interval)
    train, validation, test = (
        rescaled(part, spec, fitted) for part in (dataset.train, dataset.validation, dataset.test)
    )
    common = {
        "scaling": scaling,
        "scaling_per": scaling_per,
        "patch": patch,
        "patches": patches,
        "patches_per_image": patches_per_image,
        "patch_min_deviation": patch_min_deviation,
    }
    return Dataset(
        spec,
        train,
        validation,
        test,
        fitted,
        {**dataset.options, **common},
        dataset.fingerprint or fingerprint(train, validation, test),
        dataset.skipped,
    )


def fingerprint(*parts: Images) -> str:
    """32 hexadecimal digits of the shapes, pixels and labels of images in memory; of others only sizes and labels."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(repr((len(part), part.spec.shape, part.spec.classes)).encode())
        if isinstance(part, ArrayImages):
            digest.update(part.array.numpy().data)
        if part.labels is not None:
            digest.update(part.labels.numpy().data)
    return digest.hexdigest()


def _part(images: ArrayImages, indices: Any) -> ArrayImages:
    chosen = as_indices(indices, len(images))
    return ArrayImages(images.spec, images.array[chosen], None if images.labels is None else images.labels[chosen])


def _images(name: str, images: Any) -> Tensor:
    """uint8 [N, C, H, W]"""
    writable = isinstance(images, np.ndarray) and images.flags.writeable and images.flags.c_contiguous
    array = torch.as_tensor(images if writable or isinstance(images, Tensor) else np.array(images))
    array = array[:, None] if array.ndim == 3 else array
    if array.dtype != torch.uint8 or array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"images of {name} are {array.dtype} {tuple(array.shape)}; they must be uint8 (N, H, W), (N, 1, H, W) or "
            "(N, 3, H, W)"
        )
    return array


def _labels(spec: ImageSpec, labels: Any, count: int) -> Tensor | None:
    if labels is None:
        return None
    known = torch.as_tensor(np.asarray(labels).astype(np.int64))
    if len(known) != count:
        raise DataError(f"{spec.name} has {count} images and {len(known)} labels")
    if len(known) and (int(known.min()) < 0 or int(known.max()) >= len(spec.classes)):
        raise DataError(
            f"labels of {spec.name} run from {int(known.min())} to {int(known.max())}, and it names "
            f"{len(spec.classes)} classes"
        )
    return known
