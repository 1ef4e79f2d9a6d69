"""Pictures: grids of images as PNG, in grey or colour, with small images scaled up."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aprendiz.errors import ConfigError, StorageError

TARGET_SIDE = 640
"""Pixels that the longer side of a grid has at least, as far as whole factors allow."""
LARGEST_FACTOR = 16
GAP = 255
"""Grey level of the lines between images."""


def make_grid(images: Tensor, *, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """One picture uint8 [height, width] or [height, width, 3] of images float [N, C, H, W] in [0, 1].

    Row after row, `columns` images each (a square unless told otherwise), with lines of a pixel between them. Each of
    their pixels becomes `scale` by `scale` pixels; unless given, as many as make the picture easy to look at. Values
    outside [0, 1] are cut off, NaN is black.
    """
    array = images.detach().float().cpu().numpy()
    count, channels, height, width = array.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    if scale is None:
        scale = max(1, min(LARGEST_FACTOR, TARGET_SIDE // max(rows * height, columns * width)))
    pixels = np.rint(np.nan_to_num(array).clip(0.0, 1.0) * 255).astype(np.uint8).transpose(0, 2, 3, 1)  # [N, H, W, C]
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide = height * scale + 1, width * scale + 1
    picture = np.full((rows * high + 1, columns * wide + 1, channels), GAP, np.uint8)
    for index, one in enumerate(pixels):
        top, left = 1 + index // columns * high, 1 + index % columns * wide
        picture[top : top + high - 1, left : left + wide - 1] = one
    return picture[..., 0] if channels == 1 else picture


def png(picture: np.ndarray) -> bytes:
    """A picture uint8 [height, width] or [height, width, 3] as a PNG file: the same bytes for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; its folder is made. Raises ConfigError where it cannot be, StorageError where
    the disk is full."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"cannot write {path}: {error.strerror}; make room, or choose another --out") from error
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another --out") from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy. Raises as `write`."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write(path, buffer.getvalue())


def normalised(filters: Tensor, contrast: str) -> Tensor:
    """Filters float [N, C, H, W] of any sign as images in [0, 1], in which 0 is mid-grey.

    `contrast` "each": every filter uses the whole range by itself; "shared": all have one scale, so that weak filters
    stay pale.
    """
    size = filters.detach().abs()
    largest = size.amax(dim=(1, 2, 3), keepdim=True) if contrast == "each" else size.max()
    return 0.5 + 0.5 * filters / largest.clamp(min=1e-12)


def out_kind(path: Path, allowed: Sequence[str]) -> str:
    """What `--out` asks for: "png", "npy" or "folder", by its ending. Raises ConfigError for what is not allowed, or
    cannot be written: before any work is done."""
    ending = path.suffix.lower()
    kind = {".png": "png", ".npy": "npy", "": "folder"}.get(ending, "")
    kind = "folder" if path.is_dir() else kind
    if kind not in allowed:
        names = {"png": "a .png file", "npy": "an .npy file", "folder": "a folder"}
        raise ConfigError(f"--out {path} is not {' or '.join(names[name] for name in allowed)}")
    nearest = path if kind == "folder" else path.parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK) or (path.is_file() and not os.access(path, os.W_OK)):
        raise ConfigError(f"cannot write {path}: {nearest} cannot be written to; choose another --out")
    return kind


def describe(array: Any) -> str:
    """`float32 [1,797, 32]`"""
    return f"{array.dtype} [{', '.join(f'{size:,}' for size in array.shape)}]"
