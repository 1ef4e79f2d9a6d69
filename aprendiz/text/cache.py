"""Ids on the disk: written whole or not at all, mapped into memory, found again by what they were made from.

A folder holds `ids.bin`, `vocabulary.json` and `text.json`, which says how much there is of what. Entries of the cache
lie in `texts/` under the cache's folder; a run may keep one of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.checkpoint import sync, write_json
from aprendiz.data.download import cache_folder
from aprendiz.errors import DataError, StorageError
from aprendiz.text import vocabulary
from aprendiz.text.core import Vocabulary
from aprendiz.text.encode import Extent

FORMAT_VERSION = 1
IDS, VOCABULARY, DESCRIPTION = "ids.bin", "vocabulary.json", "text.json"
CHECKED_BYTES = 64 << 20
"""Ids up to this size are compared with their checksum whenever they are opened; larger ones with their size alone."""
_ABANDONED_SECONDS = 3600.0
_ADVICE = "make room, or set APRENDIZ_DATA to a folder elsewhere"


@dataclass(frozen=True)
class Entry:
    """Ids, their vocabulary, and how they are divided."""

    vocabulary: Vocabulary
    ids: NDArray[Any]
    """[T] of all parts, one after the other."""
    extent: Extent
    fingerprint: str
    """Hash of vocabulary, division and ids."""


def texts_folder() -> Path:
    """Where the ids of large texts are kept."""
    return cache_folder() / "texts"


def find(key: str) -> Entry | None:
    """What was kept under a key; None where there is nothing, or something that was damaged since."""
    folder = texts_folder() / key
    if not folder.is_dir():
        return None
    try:
        entry = read(folder)
    except DataError:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # when it was last used
    return entry


def make(key: str, write: Callable[[Path], None]) -> Entry:
    """Has `write` fill a new folder, and gives it its name when it is complete. Whoever was faster wins.

    Raises StorageError where the disk is full or refuses; what `write` raises is passed on. Nothing half-written stays.
    """
    folder = texts_folder() / key
    make_folder(folder, write, _ADVICE)
    return read(folder)


def make_folder(folder: Path, write: Callable[[Path], None], advice: str = "make room") -> None:
    """The same for any folder."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
        try:
            write(temporary)
            _publish(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}; {advice}") from error


def write(folder: Path, kept: Vocabulary, extent: Extent, dtype: np.dtype[Any], fingerprint: str) -> None:
    """Describes the ids that stand in `folder` already, and flushes everything to the disk."""
    vocabulary.save(folder / VOCABULARY, kept)
    write_json(
        folder / DESCRIPTION,
        {
            "format_version": FORMAT_VERSION,
            "dtype": dtype.name,
            "tokens": list(extent.tokens),
            "characters": list(extent.characters),
            "fingerprint": fingerprint,
            "ids_checksum": _checksum(folder / IDS) if (folder / IDS).stat().st_size <= CHECKED_BYTES else "",
            "vocabulary_checksum": _checksum(folder / VOCABULARY),
        },
    )
    sync(folder / IDS)
    sync(folder)


def read(folder: Path) -> Entry:
    """Maps what `write` completed. Raises DataError where it is missing, damaged or from a newer aprendiz."""
    try:
        about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if about["format_version"] > FORMAT_VERSION:
            raise DataError(f"the text in {folder} was written by a newer aprendiz; upgrade this one")
        dtype, extent = np.dtype(about["dtype"]), Extent(tuple(about["tokens"]), tuple(about["characters"]))
        size = (folder / IDS).stat().st_size
        whole = size == sum(extent.tokens) * dtype.itemsize
        whole = whole and _checksum(folder / VOCABULARY) == about["vocabulary_checksum"]
        whole = whole and (size > CHECKED_BYTES or _checksum(folder / IDS) == about["ids_checksum"])
        if not whole:
            raise DataError(f"the text in {folder} is damaged: files were changed after they were written")
        kept = vocabulary.read(folder / VOCABULARY)
        ids = np.memmap(folder / IDS, dtype, mode="r") if size else np.zeros(0, dtype)
        return Entry(kept, ids, extent, about["fingerprint"])
    except OSError as error:
        raise DataError(f"the text in {folder} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the text in {folder} is damaged: {type(error).__name__} {error}") from error


def remember(identity: str, facts: dict[str, Any]) -> None:
    """Notes what a text is like that can be recognised by `identity`; a note that cannot be written is not missed."""
    with contextlib.suppress(OSError, StorageError):
        texts_folder().mkdir(parents=True, exist_ok=True)
        write_json(_note(identity), {"identity": identity, **facts})


def recall(identity: str) -> dict[str, Any] | None:
    """What was noted about a text, if anything."""
    try:
        facts = json.loads(_note(identity).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("identity") == identity else None


@contextmanager
def rewriting(path: Path, source: np.dtype[Any], target: np.dtype[Any]) -> Iterator[Iterator[tuple[NDArray[Any], Any]]]:
    """Goes through a file of numbers; each chunk comes with a function that writes its ids in its place.

    Ids are no wider than the numbers were, so that writing never overtakes reading; the file is shortened at the end.
    """
    assert target.itemsize <= source.itemsize
    with path.open("r+b", buffering=0) as file:
        written = 0

        def put(ids: NDArray[Any]) -> None:
            nonlocal written
            data = np.ascontiguousarray(ids, target).data
            file.seek(written)
            remaining = memoryview(data).cast("B")
            while remaining:
                remaining = remaining[file.write(remaining) :]
            written += len(data) * target.itemsize

        def chunks() -> Iterator[tuple[NDArray[Any], Any]]:
            place = 0
            while True:
                file.seek(place)
                data = file.read((1 << 22) // source.itemsize * source.itemsize)
                if not data:
                    break
                place += len(data)
                yield np.frombuffer(data, source), put

        yield chunks()
        file.truncate(written)


def release(ids: NDArray[Any], start: int = 0, stop: int | None = None) -> None:
    """Lets the system take back the memory of mapped ids[start:stop] that were read; they come back from the file when
    used again.

    A process that goes through a text of gigabytes calls it now and then, so that what it has read is not counted as
    its own. Does nothing for ids in memory, nor for those that may be written to.
    """
    mapped: Any = ids
    while mapped is not None and not isinstance(mapped, mmap.mmap):
        mapped = getattr(mapped, "base", None)
    if mapped is None or not hasattr(mapped, "madvise") or ids.flags.writeable:
        return
    place = ids.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    end = len(ids) if stop is None else min(stop, len(ids))
    low = -(-(place + start * ids.itemsize) // mmap.PAGESIZE) * mmap.PAGESIZE
    high = (place + end * ids.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
    if low < high:
        mapped.madvise(mmap.MADV_DONTNEED, low, high - low)


def _publish(temporary: Path, folder: Path) -> None:
    os.chmod(temporary, 0o777 & ~_umask())
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)  # another process made the same meanwhile
    sync(folder.parent)


def _sweep(folder: Path) -> None:
    """Deletes what killed processes left half-written; what is being written now stays."""
    for path in folder.glob(".part-*"):
        with contextlib.suppress(OSError):
            newest = max(one.stat().st_mtime for one in (path, *path.iterdir()))
            if time.time() - newest > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _note(identity: str) -> Path:
    return texts_folder() / f"{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}.json"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
