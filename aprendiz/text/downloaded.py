"""Texts that are fetched once, with their checksums: tiny Shakespeare and text8."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from aprendiz.data.download import RemoteFile, cache_folder, fetch, mirrors
from aprendiz.errors import DataError
from aprendiz.text.core import RawText
from aprendiz.text.files import CHUNK_BYTES, decoded, located

_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)
"""What reading a damaged file may raise."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """A text as it was published."""

    name: str
    served: RemoteFile
    mirrors: tuple[str, ...]
    other_names: tuple[str, ...]
    """What the file is called elsewhere, packed or unpacked."""
    content_bytes: int
    content_sha256: str
    """Of the text itself, however it is packed."""


_TINY_SHAKESPEARE = _Published(
    name="tiny-shakespeare",
    served=RemoteFile(
        name="input.txt",
        size_bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    mirrors=(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare",
        "https://raw.githubusercontent.com/karpathy/ng-video-lecture/master",
    ),
    other_names=("tinyshakespeare.txt", "tiny-shakespeare.txt"),
    content_bytes=1_115_394,
    content_sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
_TEXT8 = _Published(
    name="text8",
    served=RemoteFile(
        name="text8.zip",
        size_bytes=31_344_016,
        sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    ),
    mirrors=("https://mattmahoney.net/dc", "https://data.deepai.org"),
    other_names=("text8",),
    content_bytes=100_000_000,
    content_sha256="6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
)


def tiny_shakespeare(*, path: str | None = None) -> RawText:
    """Karpathy 2015, char-rnn: 40,000 lines of Shakespeare's plays, 1,115,394 characters.

    `path` names the file where it lies already. Raises DataError where it is another file, or cannot be fetched.
    """
    return _load(_TINY_SHAKESPEARE, path)


def text8(*, path: str | None = None) -> RawText:
    """Mahoney 2011, "About the test data": 100,000,000 characters of English Wikipedia (March 2006), reduced to a to z
    and single spaces.

    `path` names text8.zip, or the file that is in it, where it lies already. Raises as `tiny_shakespeare`.
    """
    return _load(_TEXT8, path)


def _load(published: _Published, path: str | None) -> RawText:
    if path is not None:
        found = located(path)
        if not found.is_file():
            raise DataError(f"there is no file {found}")
        if not _is_whole(found, published):
            raise DataError(
                f"{found} is not {published.name} as it was published ({published.content_bytes:,} bytes, sha256 "
                f"{published.content_sha256}); use --data file:{path} for another text"
            )
    else:
        found = _in_cache(published) or _fetched(published)
    return RawText(
        name=published.name,
        pieces=lambda: decoded(lambda: _unpacked(found), "utf-8", str(found)),
        identity=f"{published.name} {published.content_sha256}",  # checked above
        options={"path": None if path is None else str(found)},
    )


def _in_cache(published: _Published) -> Path | None:
    folder = cache_folder() / published.name
    names = (published.served.name, *published.other_names)
    for name in (one for each in names for one in (each, f"{each}.gz")):
        if (folder / name).is_file() and _is_whole(folder / name, published):
            return folder / name
    return None


def _fetched(published: _Published) -> Path:
    folder = cache_folder() / published.name
    try:
        return fetch(published.served, folder, mirrors(published.name, published.mirrors))
    except DataError as error:
        raise DataError(
            f"{published.name} could not be fetched ({error}); fetch {published.mirrors[0]}/{published.served.name} by "
            f"hand and put it into {folder} (or name it with --path), or use --data pydoc, which needs no download"
        ) from error


def _is_whole(path: Path, published: _Published) -> bool:
    """Whether a file holds the published text; one that was packed anew does."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size == published.served.size_bytes:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == published.served.sha256:
                    return True
        with _unpacked(path) as stream:
            size = 0
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if size > published.content_bytes:
                    return False
    except _BROKEN:
        return False
    return digest.hexdigest() == published.content_sha256


def _unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file; of a zip archive those of the one file in it."""
    with path.open("rb") as file:
        begin = file.read(4)
    if begin[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if begin != b"PK\x03\x04":
        return path.open("rb")
    return cast("IO[bytes]", _Zipped(path))


class _Zipped:
    """The one file of an archive, which is closed together with it."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        names = self._archive.namelist()
        if len(names) != 1:
            self._archive.close()
            raise zipfile.BadZipFile(f"it holds {len(names)} files")
        self._file = self._archive.open(names[0])

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def __enter__(self) -> _Zipped:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._archive.close()
