"""Batches of a data set, shuffled, augmented and scaled: a run that was interrupted goes on with the very same ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.data.augment import Augment
from aprendiz.data.core import ImageBatch, Images
from aprendiz.data.images import ArrayImages
from aprendiz.data.prefetch import Prefetcher
from aprendiz.device import available_memory
from aprendiz.errors import ConfigError
from aprendiz.loop import Source, Work

_DEVICE_SHARE = 0.5
"""Of a GPU's free memory, so much may hold the images."""


class DataSource(Source):
    """Epoch after epoch of `images`, each in an order of its own; a unit is an image.

    Everything random is decided by the seed and the place in the data: the order of epoch e by (seed, e), how a batch
    is augmented by (seed, e, position of its first image). So what comes next depends on nothing but that place, which
    is all that is saved, and neither on time nor on threads.

    Images in memory live beside the learner where a GPU has room. Others are read by a background thread, `prefetch`
    batches ahead.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        drop_last: bool = True,
        shuffle: bool = True,
        prefetch: int = 4,
    ) -> None:
        """`drop_last` leaves out what remains of an epoch when it fills no batch; where there are fewer images than
        `batch_size`, all of them are a batch (a single image twice: some layers cannot learn from one). Raises
        ConfigError for a batch size below 1."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if len(images) == 0:
            raise ConfigError(f"{images.spec.name} has no images to learn from")
        self.images, self.seed, self.device = images, seed, torch.device(device)
        self.batch_size = min(batch_size, max(2, len(images)) if drop_last else max(1, len(images)))
        self.augment = augment if augment is not None and augment.active else None
        self.drop_last, self.shuffle, self.prefetch = drop_last, shuffle, max(1, prefetch)
        self.epoch = 0
        """Which pass over the images this is, from 0."""
        self.position = 0
        """How many images of it have been handed out."""
        self._order: tuple[int, Tensor] | None = None
        self._prefetcher: Prefetcher[tuple[Tensor, Tensor]] | None = None
        self._array = self._resident()
        self._labels = None if images.labels is None else images.labels.to(self.device)
        self._length = max(len(images), self.batch_size)  # a single image counts twice where a batch must have two
        self._per_epoch = self._length // self.batch_size * self.batch_size if drop_last else self._length

    def next(self, limit: int | None = None) -> Work:
        """The next batch: `limit` images at most, on the learner's device."""
        if self.position >= self._per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
        whole = min(self.batch_size, self._per_epoch - self.position)
        count = whole if limit is None else min(whole, limit)
        if count < 1 or (count == 1 and whole > 1 and self.drop_last):
            # One image that the budget leaves over is not learned from: batch normalisation cannot.
            return Work(None, max(count, 0), True)
        if self._array is not None:
            indices = self._indices(self.epoch, self.position, count)
            pixels = self._array.index_select(0, indices)
            labels = None if self._labels is None else self._labels.index_select(0, indices.to(self.device))
        else:
            pixels, labels = self._read(count, whole)
        batch = ImageBatch(self._scaled(pixels), labels)
        self.position += count
        return Work(batch, count, True)

    def metrics(self) -> dict[str, float]:
        """How many times it has gone through the images."""
        return {"train/epoch": self.epoch + self.position / self._per_epoch}

    def state_dict(self) -> dict[str, Any]:
        """The place in the data."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.close()
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def close(self) -> None:
        """Ends the background thread; the next `next()` starts another one."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def _resident(self) -> Tensor | None:
        """The images as one tensor, on the device where they fit."""
        if not isinstance(self.images, ArrayImages):
            return None
        array = self.images.array
        if self.device.type == "cuda" and array.nbytes >= _DEVICE_SHARE * available_memory(self.device):
            return array
        return array.to(self.device)

    def _home(self) -> torch.device:
        return self.device if self._array is None else self._array.device

    def _indices(self, epoch: int, position: int, count: int) -> Tensor:
        """int64 [count], where the images are."""
        if self._order is None or self._order[0] != epoch:
            order = order_of_epoch(self.seed, len(self.images), self._length, self.shuffle, epoch)
            self._order = (epoch, order.to(self._home()))
        return self._order[1][position : position + count]

    def _scaled(self, pixels: Tensor) -> Tensor:
        """float32 [B, C, H, W] on the learner's device, of uint8."""
        if pixels.device.type != self.device.type:  # "cuda" and "cuda:0" are the same place and not equal
            pixels = pixels.pin_memory() if self.device.type == "cuda" else pixels
            pixels = pixels.to(self.device, non_blocking=True)
        if self.augment is None:
            return self.images.scaling.to_model(pixels)
        place = np.random.SeedSequence([self.seed, self.epoch, self.position])
        generator = torch.Generator().manual_seed(int(place.generate_state(1, np.uint64)[0] >> 1))
        return self.images.scaling.from_unit(self.augment.apply(pixels.to(torch.float32).div_(255.0), generator))

    def _read(self, count: int, whole: int) -> tuple[Tensor, Tensor | None]:
        """Pixels uint8 [count, C, H, W] and labels of the next batch; it has `whole` images where nothing cuts it."""
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self._plan(), self.prefetch)
        indices, pixels = self._prefetcher.get()
        if count < whole:  # the next batch starts elsewhere than the thread believes
            self.close()
        indices, pixels = indices[:count], pixels[:count]
        return pixels, None if self._labels is None else self._labels.index_select(0, indices.to(self.device))

    def _plan(self) -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
        """What reads each batch from here on. It must not hold on to this source, or its thread would never end."""
        order = functools.partial(order_of_epoch, self.seed, len(self.images), self._length, self.shuffle)
        return _batches(self.images, order, self.epoch, self.position, self.batch_size, self._per_epoch)


def order_of_epoch(seed: int, count: int, length: int, shuffle: bool, epoch: int) -> Tensor:
    """int64 [length]: the order in which `count` images come in an epoch, again from the first where they are fewer."""
    if not shuffle:
        return torch.arange(length) % count
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    return torch.from_numpy(generator.permutation(length) % count)


def _batches(
    images: Images, order: Callable[[int], Tensor], epoch: int, position: int, batch_size: int, per_epoch: int
) -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
    def read(indices: Tensor) -> tuple[Tensor, Tensor]:
        return indices, images.pixels(indices)

    while True:
        indices = order(epoch)
        while position < per_epoch:
            end = min(position + batch_size, per_epoch)
            yield functools.partial(read, indices[position:end])
            position = end
        epoch, position = epoch + 1, 0
