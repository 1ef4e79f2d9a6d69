"""Files that are fetched once: the cache's folder, mirrors, checksums, and writing that a kill cannot spoil."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.errors import DataError

TIMEOUT_SECONDS = 20.0
"""For connecting, and for each wait for more bytes."""
_CHUNK = 1 << 16
_ABANDONED_SECONDS = 3600.0
"""A half-written file that nobody has touched for so long belongs to a process that was killed."""
_PART = ".part"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that mirrors offer under the same name."""

    name: str
    size_bytes: int
    """As it is served."""
    sha256: str
    """Of the file as it is served."""


def cache_folder() -> Path:
    """`APRENDIZ_DATA`, else `aprendiz` in the user's cache folder as the system has it."""
    chosen = os.environ.get("APRENDIZ_DATA")
    if chosen:
        return Path(chosen).expanduser()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise DataError("there is no home folder to keep data in: set APRENDIZ_DATA to a folder") from error
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData" / "Local") / "aprendiz" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "aprendiz"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else home / ".cache") / "aprendiz"


def mirrors(name: str, published: Sequence[str]) -> list[str]:
    """Where the files of data set `name` are looked for: under `APRENDIZ_MIRROR`/name alone where that is set, a folder
    or an address with the same layout as the cache; else the `published` addresses in their order."""
    own = os.environ.get("APRENDIZ_MIRROR")
    return [f"{own.rstrip('/')}/{name}"] if own else list(published)


def fetch(
    file: RemoteFile,
    folder: Path,
    addresses: Sequence[str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    progress: bool = True,
) -> Path:
    """Fetches a file into `folder` from the first of `addresses` (folders) that serves it whole; returns its path.

    It is written under a temporary name, checked, flushed to the disk and renamed: under its own name there is only
    ever a whole file. Raises DataError that tells what each mirror answered; a disk that refuses is no mirror's fault.
    """
    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to ({error.strerror}): set APRENDIZ_DATA to a folder elsewhere"
        ) from error
    answers = []
    for address in addresses:
        url = f"{address.rstrip('/')}/{file.name}"
        try:
            _fetch_from(url, file, target, timeout_seconds, progress)
        except _Refused as error:
            answers.append(f"{url}: {error}")
        else:
            return target
    raise DataError("; ".join(answers) or "no mirror is known")


class _Refused(Exception):  # noqa: N818 (the next mirror is asked)
    """What a mirror gave instead of the file."""


def _fetch_from(url: str, file: RemoteFile, target: Path, timeout_seconds: float, progress: bool) -> None:
    with _opened(url, timeout_seconds) as response:
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) != file.size_bytes:
            raise _Refused(f"has {int(announced):,} bytes instead of {file.size_bytes:,}")
        line = _ProgressLine(f"fetching {url}", file.size_bytes, enabled=progress)
        with _temporary(target) as (stream, keep), line:
            digest, received = hashlib.sha256(), 0
            while chunk := _read(response):
                received += len(chunk)
                if received > file.size_bytes:
                    raise _Refused(f"sends more than the {file.size_bytes:,} bytes that it should have")
                digest.update(chunk)
                stream.write(chunk)
                line.show(received)
            if received < file.size_bytes:
                raise _Refused(f"stopped after {received:,} of {file.size_bytes:,} bytes")
            if digest.hexdigest() != file.sha256:
                raise _Refused(f"is another file: sha256 {digest.hexdigest()}, expected {file.sha256}")
            keep()


@contextlib.contextmanager
def _opened(url: str, timeout_seconds: float) -> Iterator[Any]:
    request = urllib.request.Request(url, headers={"User-Agent": "aprendiz", "Accept-Encoding": "identity"})
    try:
        response = urllib.request.urlopen(request, timeout=timeout_seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Refused(_reason(error)) from error
    with response:
        yield response


def _read(response: Any) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Refused(f"broke off: {_reason(error)}") from error


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A file beside `target` that takes its name when `keep` is called, and is deleted otherwise."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_PART, dir=target.parent)
    kept = False

    with os.fdopen(descriptor, "wb") as stream:

        def keep() -> None:
            nonlocal kept
            stream.flush()
            os.fsync(stream.fileno())
            kept = True

        try:
            yield stream, keep
        except BaseException:
            stream.close()
            os.unlink(name)
            raise
    if kept:
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
        _sync_folder(target.parent)
    else:
        os.unlink(name)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut; Windows has nothing like it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Deletes what killed processes left half-written; what another process is writing now stays."""
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answers {error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "does not answer in time"
    return getattr(inner, "strerror", None) or " ".join(str(inner).split()) or type(inner).__name__


class _ProgressLine:
    """On a terminal a line that counts, elsewhere one line for a file of more than a megabyte."""

    def __init__(self, text: str, total: int, *, enabled: bool) -> None:
        self.text, self.total = text, total
        self.live = enabled and sys.stderr.isatty()
        self.once = enabled and not self.live and total > 1_000_000
        self._next = 0.0

    def __enter__(self) -> _ProgressLine:
        if self.once:
            print(f"{self.text} ({self.total / 1e6:.1f} MB)", file=sys.stderr, flush=True)
        return self

    def show(self, done: int) -> None:
        """`done` bytes have come."""
        if self.live and (time.perf_counter() >= self._next or done == self.total):
            self._next = time.perf_counter() + 0.1
            print(f"\r{self.text} {done / 1e6:.1f} of {self.total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self.live:
            print(file=sys.stderr)
