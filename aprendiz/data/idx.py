"""The IDX format of MNIST's files, plain or gzipped (described at the end of LeCun's MNIST page)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import DataError

_UINT8 = 0x08
_NAMES = {1: "labels", 3: "images"}


def unpacked(path: Path) -> bytes:
    """The bytes of a file, decompressed where it is gzipped (whatever its name says). Raises DataError."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged ({_reason(error)}); delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({_reason(error)})") from error


def parse(data: bytes, dimensions: int, path: Path) -> NDArray[np.uint8]:
    """uint8 [N] (dimensions 1) or [N, H, W] (3) of the bytes of an IDX file; `path` is for the message.

    Raises DataError for another magic number, another number of dimensions, and bytes that are missing or too many.
    """
    what = _NAMES[dimensions]
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise DataError(f"{path} is truncated: {len(data)} bytes, and the header alone takes {header}")
    zero, kind, found = int.from_bytes(data[:2], "big"), data[2], data[3]
    if zero != 0 or kind != _UINT8 or found != dimensions:
        raise DataError(
            f"{path} is no IDX file of {what}: its magic number is {int.from_bytes(data[:4], 'big'):#010x}, and "
            f"{what} have {(_UINT8 << 8) + dimensions:#010x}"
        )
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    size = int(np.prod(shape, dtype=object))
    if len(data) - header != size:
        problem = "truncated" if len(data) - header < size else "too long"
        raise DataError(f"{path} is {problem}: {len(data) - header:,} bytes of {what}, and its header says {size:,}")
    if size == 0:
        raise DataError(f"{path} holds no {what}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """`parse` of the file at `path`. Raises DataError."""
    return parse(unpacked(path), dimensions, path)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
