"""Picture files: which there are, what their headers say, and one of them as pixels of a given size."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg")
"""In capitals too. A picture of another of FORMATS under one of these names is read as well."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 89_478_485
"""A quarter of a gigabyte in colour, Pillow's own limit: more is taken for a decompression bomb."""
SMALLEST_SIDE = 4
"""Pixels: smaller pictures are hardly meant to be learned from."""
_GREY = {"1", "L", "LA", "La", "I", "F"}
_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_ORIENTATION = 0x0112


class UnreadableError(Exception):
    """A file that is not the picture that it should be; the message is the reason."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of a picture tell."""

    width: int
    """As it is looked at: turned upright."""
    height: int
    grey: bool
    bytes: int
    modified_ns: int
    oddity: str = ""
    """Why its owner may want to look at it, though it can be used."""


def list_pictures(root: Path) -> tuple[list[str], list[str]]:
    """Names of all pictures under `root`, sorted, relative and with slashes; and the folders that could not be listed.

    Links are followed, though not in circles; what begins with a dot, and `__MACOSX`, is passed over.
    """
    found: list[str] = []
    closed: list[str] = []
    seen: set[tuple[int, int]] = set()

    def denied(error: OSError) -> None:
        closed.append(f"{os.path.relpath(error.filename or root, root)} ({error.strerror})")

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=denied):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(one for one in subfolders if not one.startswith(".") and one != "__MACOSX")
        relative = Path(folder).relative_to(root)
        found += [
            (relative / file).as_posix()
            for file in files
            if not file.startswith(".") and file.lower().endswith(SUFFIXES)
        ]
    return sorted(found), closed


def read_header(path: Path) -> Header:
    """What a picture's header says; nothing is decoded. Raises UnreadableError."""
    with _opened(path) as picture:
        status = path.stat()
        width, height = picture.size
        if picture.format != "PNG" or "exif" in picture.info:  # elsewhere asking would decode the picture
            with contextlib.suppress(Exception):  # a damaged note about the camera
                if picture.getexif().get(_ORIENTATION, 1) >= 5:
                    width, height = height, width
        grey = picture.mode in _GREY or picture.mode.startswith("I;16")
        oddities = [f"{width}x{height}, enlarged"] if min(width, height) < SMALLEST_SIDE else []
        oddities += ["CMYK, its colours come out roughly"] if picture.mode == "CMYK" else []
        return Header(width, height, grey, status.st_size, status.st_mtime_ns, "; ".join(oddities))


def decode(path: Path, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: turned upright, on white where it is transparent, resized (antialiased) until it just covers
    the size, and cut to its centre. Raises UnreadableError."""
    with _opened(path) as picture:
        enough = 2 * max(height, width)
        picture.draft(None, (enough, enough))  # a large JPEG is decoded at a half, a quarter or an eighth
        picture.load()
        upright = picture
        with contextlib.suppress(Exception):  # a damaged note about the camera
            upright = ImageOps.exif_transpose(picture)
        plain = _plain(upright, "L" if channels == 1 else "RGB")
        if plain.size != (width, height):
            plain = ImageOps.fit(plain, (width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(plain)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _plain(picture: Image.Image, mode: str) -> Image.Image:
    """8 bits a channel, opaque, L or RGB."""
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut everything above 255
        pixels = np.clip(np.rint(np.asarray(picture) / 257.0), 0, 255).astype(np.uint8)
        return Image.fromarray(pixels).convert(mode)
    if picture.mode in _ALPHA or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert(mode)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UnreadableError(f"{width} x {height} pixels are too many")
            yield picture
    except (UnreadableError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError("too many pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableError("empty" if _size(path) == 0 else "no picture") from error
    except FileNotFoundError as error:
        raise UnreadableError("is gone") from error
    except Exception as error:  # Pillow raises whatever the damage leads to
        text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError("truncated" if "truncated" in text.lower() else text) from error


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return -1


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keeps Pillow from warning about what is reported here anyway; not for threads that go on in the background."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        yield
