"""The user's own texts: a file, a folder of them, or standard input; plain or gzipped, in any encoding, of any size."""

from __future__ import annotations

import codecs
import fnmatch
import gzip
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from aprendiz.errors import ConfigError, DataError, StorageError
from aprendiz.text.core import RawText

CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SETTLED_SECONDS = 2.0
"""A file that was changed more recently may change again without its times telling."""
_SNIFFED_BYTES = 8192
_HELD_BYTES = 16 << 20
"""Standard input up to this size is held in memory, and more of it in a temporary file."""


def file(*, path: str, encoding: str = "utf-8") -> RawText:
    """A text file; gzipped ones are unpacked as they are read. A byte-order mark at its beginning is no part of it.

    `path` names it, `encoding` is one of Python's. Raises DataError for a file that is missing, a folder, or cannot be
    read, and, when it is read, for bytes that are not of this encoding.
    """
    check_encoding(encoding)
    where = located(path)
    if where.is_dir():
        raise DataError(f"{where} is a folder: use folder:{path}")
    if not where.exists():
        raise DataError(f"there is no file {where}")
    if not where.is_file():
        raise DataError(f"{where} is no regular file; pipe it in, and use `--data -`")
    if where.stat().st_size == 0 and not any(read(where, encoding)):  # files that a system makes up have no size
        raise DataError(f"{where} is empty")
    return RawText(
        name=stem(where),
        pieces=lambda: read(where, encoding),
        identity=_identity([where], encoding),
        options={"path": str(where), "encoding": encoding},
    )


def folder(*, path: str, encoding: str = "utf-8", pattern: str = "*") -> RawText:
    """All text files in a folder and its subfolders, in the order of their paths, each on lines of its own.

    `pattern` says which, by their path in the folder (`*.txt`, or several with commas: `*.py,docs/*.md`). Names that
    begin with a dot are passed over. Files that are no text (NUL bytes near their beginning) are left out with one
    warning. Raises DataError where no text is found; files in another encoding are named when they are read.
    """
    check_encoding(encoding)
    root = located(path)
    if root.is_file():
        raise DataError(f"{root} is a file: use file:{path}")
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    matching = find(root, pattern)
    if not matching:
        raise DataError(f"no file in {root} matches {pattern!r}; --pattern names others, such as '*.txt,*.md'")
    kept = [one for one in matching if not _is_binary(one, encoding)]
    left_out = sorted(set(matching) - set(kept))
    if left_out:
        names = ", ".join(one.relative_to(root).as_posix() for one in left_out[:20])
        more = ", ..." if len(left_out) > 20 else ""
        what = f"{len(left_out)} of {len(matching)} files in {root} are no text"
        if not kept:
            raise DataError(f"{what}: {names}{more}")
        print(f"warning: {what} and are left out: {names}{more}", file=sys.stderr)
    return RawText(
        name=root.name or "folder",
        pieces=lambda: _joined(kept, encoding),
        identity=_identity(kept, encoding),
        options={"path": str(root), "encoding": encoding, "pattern": pattern},
    )


def standard_input(*, encoding: str = "utf-8") -> RawText:
    """What is piped in, plain or gzipped; it is read to its end at once, and can be read only once in a process.

    Raises DataError where nothing is piped in, StorageError where a large text finds no room in the cache's folder.
    """
    from aprendiz.text.cache import texts_folder

    check_encoding(encoding)
    stream = sys.stdin
    if stream is None or stream.closed or stream.isatty():
        raise DataError("nothing is piped in; use it as in: cat book.txt | python -m language.train lstm --data -")
    source = cast("IO[bytes]", getattr(stream, "buffer", stream))
    held: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=1 << 62)  # noqa: SIM115 (open as long as the text is)
    try:
        size = 0
        while chunk := source.read(CHUNK_BYTES):
            if size <= _HELD_BYTES < size + len(chunk):
                texts_folder().mkdir(parents=True, exist_ok=True)
                larger = tempfile.TemporaryFile(dir=texts_folder())  # noqa: SIM115
                held.seek(0)
                while some := held.read(CHUNK_BYTES):
                    larger.write(some)
                held.close()
                held = larger
            held.write(chunk)
            size += len(chunk)
        held.flush()
    except OSError as error:
        raise StorageError(
            f"standard input cannot be kept in {texts_folder()}: {error.strerror}; make room, or set APRENDIZ_DATA"
        ) from error

    def again() -> IO[bytes]:
        held.seek(0)
        return cast("IO[bytes]", _Lasting(held))

    return RawText(
        name="standard-input",
        pieces=lambda: decoded(again, encoding, "standard input"),
        options={"encoding": encoding},
    )


def located(path: str) -> Path:
    """The absolute path of what need not be there. Raises DataError where nobody can tell: for a name that is too long,
    in a folder that may not be entered, in the home of a user that there is not."""
    try:
        where = Path(path).expanduser().resolve()
        where.exists()
    except OSError as error:
        raise DataError(f"{path[:80]} cannot be looked for: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path[:80]!r} is no path: {error}") from error
    return where


def check_encoding(encoding: str) -> None:
    """Raises ConfigError for a name that is no encoding of text."""
    try:
        if codecs.lookup(encoding)._is_text_encoding:
            return
    except (LookupError, ValueError):
        pass
    raise ConfigError(f"there is no encoding {encoding!r}; try utf-8, latin-1, cp1252, utf-16, ...")


def read(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The text of a file in pieces. Raises DataError, naming it, where it cannot be read or is not in this encoding."""
    return decoded(lambda: path.open("rb"), encoding, str(path))


def decoded(open_bytes: Callable[[], IO[bytes]], encoding: str, name: str) -> Iterator[str]:
    """The text of a stream of bytes, in pieces: unpacked where it is gzipped, without a byte-order mark."""
    codec = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder("utf-8-sig" if codec == "utf-8" else encoding)()
    done = 0
    try:
        with open_bytes() as source:
            begin = source.read(2)
            source.seek(0)
            stream: IO[bytes] = (
                cast("IO[bytes]", gzip.GzipFile(fileobj=source, mode="rb")) if begin == _GZIP else source
            )
            chunk = stream.read(CHUNK_BYTES)
            if codec.startswith("utf-8") and chunk[:2] in _UTF_16:
                raise DataError(f"{name} is UTF-16, not UTF-8: give --encoding utf-16")
            if codec.startswith("utf-8") and b"\0" in chunk:
                raise DataError(f"{name} holds NUL bytes: that is no text (or another encoding, see --encoding)")
            while True:
                pending = len(decoder.getstate()[0])
                try:
                    yield decoder.decode(chunk, final=not chunk)
                except UnicodeError as error:
                    raise _not_in(error, encoding, name, done - pending) from error
                if not chunk:
                    return
                done += len(chunk)
                chunk = stream.read(CHUNK_BYTES)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{name} is gzipped, and damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from error


def find(root: Path, pattern: str) -> list[Path]:
    """Regular files below `root` whose path matches one of the patterns, by their paths; links are followed, though not
    in circles."""
    patterns = [one.strip() for one in pattern.split(",") if one.strip()]
    if not patterns:
        raise ConfigError("the pattern is empty; '*' takes all files")
    found: list[tuple[tuple[str, ...], Path]] = []
    above: dict[str, frozenset[tuple[int, int]]] = {}

    def refused(error: OSError) -> None:
        raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}") from error

    for here, folders, files in os.walk(root, followlinks=True, onerror=refused):
        facts = os.stat(here)
        known = above.pop(here, frozenset())
        me = (facts.st_dev, facts.st_ino)
        if me in known:  # a link to a folder that holds it
            folders.clear()
            continue
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        above |= {os.path.join(here, one): known | {me} for one in folders}
        for one in files:
            path = Path(here, one)
            relative = path.relative_to(root)
            matches = any(fnmatch.fnmatchcase(relative.as_posix(), p) or fnmatch.fnmatchcase(one, p) for p in patterns)
            if matches and not one.startswith(".") and path.is_file():
                found.append((relative.parts, path))
    return [path for _, path in sorted(found)]


def stem(path: Path) -> str:
    """`holmes` for `holmes.txt.gz`."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem or name


class _Lasting:
    """A stream that stays open when whoever reads it has done."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Any:
        return self._stream

    def __exit__(self, *exception: object) -> None:
        pass


def _joined(paths: list[Path], encoding: str) -> Iterator[str]:
    """Files one after the other; one that ends within a line is given a line's end."""
    for path in paths:
        end = "\n"
        for piece in read(path, encoding):
            if piece:
                end = piece[-1]
                yield piece
        if end not in "\r\n":
            yield "\n"


def _is_binary(path: Path, encoding: str) -> bool:
    """Whether a file holds NUL bytes near its beginning, in an encoding that has none."""
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return False
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            return b"\0" in (gzip.GzipFile(fileobj=raw, mode="rb") if packed else raw).read(_SNIFFED_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return True
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _identity(paths: list[Path], encoding: str) -> str:
    """Names, sizes and times of files; empty where one was changed a moment ago, as it may be changing still."""
    facts = []
    for path in paths:
        try:
            one = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if max(one.st_mtime, one.st_ctime) > time.time() - _SETTLED_SECONDS:
            return ""
        facts.append((str(path), one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino))
    return repr((codecs.lookup(encoding).name, facts))


def _not_in(error: UnicodeError, encoding: str, name: str, before: int) -> DataError:
    """The error of bytes that are not in the encoding."""
    if isinstance(error, UnicodeDecodeError):
        place, byte = before + error.start, error.object[error.start : error.start + 1].hex()
        where = f" (byte 0x{byte} at {place:,})"
    else:
        where = f" ({error})"
    hint = "--encoding latin-1 or cp1252 reads most older texts" if encoding == "utf-8" else "see --encoding"
    return DataError(f"{name} is not {encoding.upper()}{where}; {hint}")
