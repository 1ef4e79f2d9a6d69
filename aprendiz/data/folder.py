"""The user's own pictures: a folder of PNGs and JPEGs, whose subfolders are labels."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset, ImageSpec
from aprendiz.data.images import as_indices
from aprendiz.data.pictures import (
    SMALLEST_SIDE,
    Header,
    UnreadableError,
    decode,
    list_pictures,
    quiet_pillow,
    read_header,
)
from aprendiz.data.scaling import Scaling
from aprendiz.data.splits import split
from aprendiz.device import available_memory
from aprendiz.errors import ConfigError, DataError

COLOURS = ("auto", "grey", "rgb")
DEFAULT_SIZE = 32
LARGEST_COMMON_SIZE = 64
MEMORY_SHARE = 0.35
"""Of the free memory, so much may hold the pictures: they are there twice while they are split."""
_NAMED = 20
_ANNOUNCED_FILES = 2_000
_AT_LEAST_FILES = 8
"""Fewer are decoded where they are asked for."""


def folder(
    path: str | None = None,
    *,
    size: int | None = None,
    colour: str = "auto",
    memory_mb: int | None = None,
    stream: bool | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Pictures under `path`; 80% are trained on, 10% validate and 10% test, by label.

    `size` is the side of the square that they are resized to (by default the size that all of them have, where that is
    at most 64, else 32); `colour` is `auto` (colour where any of them may have it), `grey` or `rgb`. They are held in
    memory where they take at most `memory_mb` (by default a share of what is free), else read again each epoch;
    `stream` decides it. Files that cannot be read are left out with one warning. Raises ConfigError, and DataError
    where there is no picture.
    """
    if not path:
        raise ConfigError("which folder? --data folder:PATH")
    if size is not None and not 1 <= size <= 4096:
        raise ConfigError(f"size must be between 1 and 4096 pixels, got {size}")
    if colour not in COLOURS:
        raise ConfigError(f"colour is {colour!r}: use {', '.join(COLOURS)}")
    if memory_mb is not None and memory_mb < 0:
        raise ConfigError(f"memory_mb must be at least 0, got {memory_mb}")
    root = Path(path).expanduser().resolve()
    pictures, skipped = _scan(root)
    channels = 3 if colour == "rgb" or (colour == "auto" and not all(one.header.grey for one in pictures)) else 1
    height, width = (size, size) if size is not None else _common_size([one.header for one in pictures])
    spec = ImageSpec(
        name=root.name or "folder", channels=channels, height=height, width=width, classes=_classes(pictures)
    )
    if stream is None:
        free = MEMORY_SHARE * available_memory(torch.device("cpu")) if memory_mb is None else memory_mb * 2**20
        stream = len(pictures) * spec.pixels > free
    options: dict[str, Any] = {
        "path": str(root),
        "size": size if height != width else height,
        "colour": "rgb" if channels == 3 else "grey",
        "memory_mb": memory_mb,
        "stream": stream,
        "split_seed": split_seed,
    }
    build = _streamed if stream else _held
    return build(root, spec, pictures, skipped, split_seed, options)


@dataclass(frozen=True)
class _Picture:
    name: str
    """Relative to the folder."""
    header: Header

    @property
    def label(self) -> str:
        """The subfolder; a dot for the folder itself."""
        return self.name.rpartition("/")[0] or "."


def _scan(root: Path) -> tuple[list[_Picture], list[str]]:
    """Every picture with a header that can be read, and what had to be left out, with the reason."""
    if not root.exists():
        raise DataError(f"there is no folder {root}; --data folder:PATH takes one with PNG or JPEG pictures")
    if not root.is_dir():
        raise DataError(f"{root} is no folder; --data folder:PATH takes one with PNG or JPEG pictures")
    names, skipped = list_pictures(root)
    if not names:
        try:
            empty = next(root.iterdir(), None) is None
        except OSError as error:
            raise DataError(f"the folder {root} cannot be listed ({error.strerror})") from error
        what = "is empty" if empty else "holds no picture whose name ends in .png, .jpg or .jpeg"
        raise DataError(f"the folder {root} {what}; --data digits needs no pictures")
    if len(names) >= _ANNOUNCED_FILES:
        print(f"looking at {len(names):,} pictures in {root}", file=sys.stderr, flush=True)
    pictures = []
    Image.init()  # here, and not in several threads at once
    with quiet_pillow(), ThreadPoolExecutor(_threads()) as pool:
        headers = pool.map(functools.partial(_tried, read_header), [root / name for name in names], chunksize=64)
        for name, header in zip(names, headers, strict=True):
            if isinstance(header, str):
                skipped.append(f"{name} ({header})")
            else:
                pictures.append(_Picture(name, header))
    if not pictures:
        raise DataError(f"none of the {len(names)} pictures in {root} can be read: {_names(skipped)}")
    return pictures, skipped


def _held(
    root: Path, spec: ImageSpec, pictures: list[_Picture], skipped: list[str], split_seed: int, options: dict[str, Any]
) -> Dataset:
    """All of it decoded, once."""
    pixels = np.empty((len(pictures), *spec.shape), np.uint8)
    size = spec.channels, spec.height, spec.width
    kept: list[_Picture] = []
    with quiet_pillow(), ThreadPoolExecutor(_threads()) as pool:
        # In pieces, so that what is decoded does not wait in memory to be copied.
        for start in range(0, len(pictures), 1024):
            piece = pictures[start : start + 1024]
            decoded = pool.map(lambda one: _tried(decode, root / one.name, *size), piece)
            for one, array in zip(piece, decoded, strict=True):
                if isinstance(array, str):
                    skipped.append(f"{one.name} ({array})")
                else:
                    pixels[len(kept)] = array
                    kept.append(one)
    if not kept:
        raise DataError(f"none of the {len(pictures)} pictures in {root} can be read: {_names(skipped)}")
    _report(root, kept, skipped)
    spec = ImageSpec(
        name=spec.name, channels=spec.channels, height=spec.height, width=spec.width, classes=_classes(kept)
    )
    dataset = from_arrays(
        spec.name,
        pixels[: len(kept)],
        _labels(kept, spec.classes),
        classes=spec.classes,
        split_seed=split_seed,
        options=options,
    )
    return _with(dataset, skipped=skipped)


def _streamed(
    root: Path, spec: ImageSpec, pictures: list[_Picture], skipped: list[str], split_seed: int, options: dict[str, Any]
) -> Dataset:
    """Decoded whenever they are asked for."""
    _report(root, pictures, skipped)
    labels = _labels(pictures, spec.classes)
    digest = hashlib.blake2b(repr((spec.shape, spec.classes)).encode(), digest_size=16)
    for one in pictures:
        digest.update(os.fsencode(one.name) + f"|{one.header.bytes}|{one.header.modified_ns}\n".encode())
    shared = _Decoding(root)
    train, validation, test = (
        StreamedImages(
            spec, [pictures[i].name for i in part], None if labels is None else torch.from_numpy(labels[part]), shared
        )
        for part in split(len(pictures), labels, split_seed)
    )
    dataset = Dataset(spec, train, validation, test, Scaling(), options)
    return _with(dataset, skipped=skipped, fingerprint=digest.hexdigest())


class StreamedImages:
    """Pictures that are decoded whenever they are asked for, by several threads.

    One that cannot be read any more is named once, and the next one of its label that can be read stands in for it.
    """

    def __init__(
        self,
        spec: ImageSpec,
        names: Sequence[str],
        labels: Tensor | None,
        decoding: _Decoding,
        scaling: Scaling | None = None,
    ) -> None:
        """`names` of files relative to the folder; `labels` int64 [N] or None."""
        self.spec, self.names, self.labels, self.scaling = spec, list(names), labels, scaling or Scaling()
        self._decoding = decoding

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, indices: Any) -> Tensor:
        """uint8 [B, C, H, W] of the images at `indices`. Raises DataError where no file can be read any more."""
        wanted = as_indices(indices, len(self)).tolist()
        result = np.empty((len(wanted), *self.spec.shape), np.uint8)
        for row, array in enumerate(self._decoding.map(self._pixels_of, wanted)):
            result[row] = array
        return torch.from_numpy(result)

    def scaled(self, indices: Any) -> Tensor:
        """float32 [B, C, H, W] as models see them."""
        return self.scaling.to_model(self.pixels(indices))

    def _pixels_of(self, index: int) -> np.ndarray:
        for candidate in self._candidates(index):
            array = self._decoding.tried(self.names[candidate], self.spec)
            if array is not None:
                return array
        raise DataError(f"none of the {len(self)} pictures in {self._decoding.root} can be read any more")

    def _candidates(self, index: int) -> Any:
        """The image itself, then those that can stand in for it: of its label first, in their order."""
        yield index
        following = np.roll(np.arange(len(self)), -index - 1)[:-1] if len(self) > 1 else np.arange(0)
        if self.labels is None:
            yield from following.tolist()
        else:
            same = (self.labels[following] == self.labels[index]).numpy()
            yield from following[same].tolist()
            yield from following[~same].tolist()


class _Decoding:
    """What the parts of a streamed folder share: threads, and the list of files that turned out to be unreadable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._unreadable: set[str] = set()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[int], np.ndarray], indices: list[int]) -> Any:
        """Results in the order of `indices`."""
        if len(indices) < _AT_LEAST_FILES or _threads() == 1:
            return map(function, indices)
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(_threads(), thread_name_prefix="aprendiz-decode")
        return self._pool.map(function, indices)

    def tried(self, name: str, spec: ImageSpec) -> np.ndarray | None:
        """Pixels uint8 [C, H, W], or None for a file that cannot be read, which is named the first time."""
        array = _tried(decode, self.root / name, *spec.shape)
        if not isinstance(array, str):
            return array
        with self._lock:
            if name not in self._unreadable:
                self._unreadable.add(name)
                count = len(self._unreadable)
                if count <= _NAMED:
                    more = "; more are not named" if count == _NAMED else ""
                    print(
                        f"warning: {name} ({array}) could not be read, another picture takes its place{more}",
                        file=sys.stderr,
                        flush=True,
                    )
        return None


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or as text why there is none."""
    try:
        return function(*arguments)
    except UnreadableError as error:
        return str(error)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores)


def _common_size(headers: list[Header]) -> tuple[int, int]:
    """Height and width: what all have where that is small, else the default."""
    sizes = {(one.height, one.width) for one in headers}
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        if min(height, width) >= SMALLEST_SIDE and max(height, width) <= LARGEST_COMMON_SIZE:
            return height, width
    return DEFAULT_SIZE, DEFAULT_SIZE


def _classes(pictures: list[_Picture]) -> tuple[str, ...]:
    """Names of the labels; a single one tells nothing and counts as none."""
    names = sorted({one.label for one in pictures})
    return tuple(names) if len(names) > 1 else ()


def _labels(pictures: list[_Picture], classes: tuple[str, ...]) -> np.ndarray | None:
    """int64 [N]"""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[one.label] for one in pictures], np.int64) if classes else None


def _report(root: Path, kept: list[_Picture], skipped: list[str]) -> None:
    """One warning about files that were left out or look odd, one about pictures that are too few."""
    odd = [f"{one.name} ({one.header.oddity})" for one in kept if one.header.oddity]
    where = f"of {len(kept) + len(skipped)} files in {root}"
    parts = [f"{len(skipped)} {where} could not be read and are left out: {_names(skipped)}"] if skipped else []
    parts += [f"{len(odd)} {'' if skipped else f'{where} '}can be used, but look odd: {_names(odd)}"] if odd else []
    if parts:
        print(f"warning: {'; '.join(parts)}", file=sys.stderr, flush=True)
    if len(kept) < 3:
        shown = (
            "it is trained on, and validates and tests too"
            if len(kept) == 1
            else "one is trained on, the other one validates and tests"
        )
        print(
            f"warning: {root} has {len(kept)} picture{'s' * (len(kept) > 1)}: {shown}, so that scores mean nothing",
            file=sys.stderr,
            flush=True,
        )


def _names(skipped: list[str]) -> str:
    more = f", and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    text = ", ".join(skipped[:_NAMED]) + more
    return text.encode(errors="backslashreplace").decode()  # names that are no valid UTF-8


def _with(dataset: Dataset, *, skipped: list[str], fingerprint: str = "") -> Dataset:
    return Dataset(
        dataset.spec,
        dataset.train,
        dataset.validation,
        dataset.test,
        dataset.scaling,
        dataset.options,
        fingerprint or dataset.fingerprint,
        tuple(skipped),
    )
