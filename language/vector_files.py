"""Vectors of words in the text and binary formats of word2vec's program, which gensim and others read and write.

    text      "V D\\n", then V lines of a word and D decimal numbers, with single spaces between them
    binary    "V D\\n", then V times: a word, a space, D float32 (little-endian), and mostly a line's end

Words are UTF-8. Spaces end a word in both formats, so that one with spaces is written with underscores, as phrases are
in the papers' data. The text format is also read without its first line (GloVe's), and where words have spaces. Files
that end in .gz are compressed.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
import zlib
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import DataError, StorageError
from aprendiz.text.files import located
from language.word_tasks import WordTable

Format = Literal["text", "binary"]
SUFFIXES = (".bin", ".txt", ".vec", ".gz")
"""What files of vectors are mostly called."""
_LONGEST_WORD = 64 * 1024
"""Bytes without a space after which a binary file is no such file."""
_SPACE = re.compile(r"[\s\0]+")


def write(path: str | Path, table: WordTable, file_format: Format | None = None) -> int:
    """Writes vectors; None: binary where the name ends in .bin or .bin.gz, else text. The file is there whole, or not
    at all. Returns how many words were written under another name, having spaces. Raises StorageError."""
    path = Path(path)
    if file_format is None:
        file_format = "binary" if path.name.removesuffix(".gz").endswith(".bin") else "text"
    words, renamed = _writable(table.words)
    vectors = np.ascontiguousarray(table.vectors, dtype="<f4")
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with gzip.open(temporary, "wb") if path.suffix == ".gz" else temporary.open("wb") as file:
            file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
            for word, vector in zip(words, vectors, strict=True):
                name = word.encode("utf-8", "replace")
                if file_format == "binary":
                    file.write(name + b" " + vector.tobytes() + b"\n")
                else:
                    file.write(name + b" " + " ".join(map(_shortest, vector)).encode() + b"\n")
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        raise
    return renamed


def read(path: str | Path, file_format: Format | None = None) -> WordTable:
    """Reads vectors; None: finds out which format it is. Of words that occur twice the first counts; bytes that are not
    UTF-8 become U+FFFD. Raises DataError for a file that is missing, truncated, or no such file."""
    path = Path(path)
    try:
        with _opened(path) as file:
            first = file.readline(_LONGEST_WORD)
            header = first.split()
            if len(header) == 2 and all(number.isdigit() for number in header):
                count, dimensions = int(header[0]), int(header[1])
                if count < 1 or dimensions < 1:
                    raise DataError(f"{path} says that it holds {count} vectors of {dimensions} numbers")
                kind = file_format or _guess(file, dimensions)
                _require_size(path, count, dimensions, kind)
                if kind == "binary":
                    return _read_binary(file, path, count, dimensions)
                return _read_text(file, path, count, dimensions)
            if file_format == "binary" or len(header) < 3:
                _refuse(path, first)
            return _read_headless(file, path, first)
    except EOFError as error:  # gzip's
        raise DataError(f"{path} is truncated: it ends in the middle of what was compressed") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def named(text: str) -> Path | None:
    """The file that `text` means; None where it is to be a run. Raises DataError for what is called like a file and is
    not there."""
    path = located(text)
    if path.is_file():
        return path
    if path.suffix in SUFFIXES and not path.exists():
        raise DataError(f"there is no file {text}")
    return None


def _writable(words: tuple[str, ...]) -> tuple[list[str], int]:
    """Words without spaces, all different, and how many were changed."""
    odd = [place for place, word in enumerate(words) if _SPACE.search(word) or not word]
    if not odd:
        return list(words), 0
    taken, result = set(words), list(words)
    for place in odd:
        name = _SPACE.sub("_", words[place]) or "_"
        while name in taken:
            name += "_"
        taken.add(name)
        result[place] = name
    return result, len(odd)


def _shortest(number: np.float32) -> str:
    """The shortest decimal that reads as the same float32."""
    return str(number)


def _opened(path: Path) -> IO[bytes]:
    file: Any = path.open("rb")
    magic = file.peek(2)[:2]
    if magic != b"\x1f\x8b":
        return file
    file.close()
    return gzip.open(path, "rb")  # type: ignore[return-value]


def _refuse(path: Path, first: bytes) -> NoReturn:
    if not first:
        raise DataError(f"{path} is empty")
    pickled = "; it looks like a pickle: save it with gensim's save_word2vec_format" if first[:1] == b"\x80" else ""
    raise DataError(
        f"{path} holds no word vectors: its first line should be two numbers, words and dimensions{pickled}"
    )


def _guess(file: IO[bytes], dimensions: int) -> Format:
    """Text where the next line is a word and `dimensions` numbers; leaves the file where it is."""
    place = file.tell()
    line = file.readline(_LONGEST_WORD + 64 * dimensions)
    file.seek(place)
    numbers = line.rstrip(b"\r\n ").rsplit(b" ", dimensions)[1:]
    try:
        text = len(numbers) == dimensions and bool(np.array(numbers, dtype="S").astype(np.float64).size)
    except ValueError:
        text = False
    cut = not line.endswith(b"\n") and b"\0" not in line and line.isascii() and len(line) > 0
    return "text" if text or cut else "binary"


def _require_size(path: Path, count: int, dimensions: int, kind: Format) -> None:
    """Before memory is asked for: whether so many vectors can be in the file at all. Compressed ones are not known."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    least = count * (dimensions * (4 if kind == "binary" else 2) + 1)
    if not compressed and path.stat().st_size < least:
        raise DataError(
            f"{path} is truncated: {count:,} vectors of {dimensions} numbers take at least {least:,} bytes, it has "
            f"{path.stat().st_size:,}"
        )


def _room(path: Path, count: int, dimensions: int) -> NDArray[np.float32]:
    try:
        return np.empty((count, dimensions), dtype=np.float32)
    except (MemoryError, ValueError) as error:  # more than there is, or than can be counted
        raise DataError(
            f"{path} says that it holds {count:,} vectors of {dimensions:,} numbers, which memory cannot hold"
        ) from error


def _read_binary(file: IO[bytes], path: Path, count: int, dimensions: int) -> WordTable:
    words: dict[str, int] = {}
    vectors = _room(path, count, dimensions)
    size = 4 * dimensions
    buffer, at, ended = b"", 0, False

    def more() -> None:
        nonlocal buffer, at, ended
        piece = file.read(max(1 << 20, size))
        buffer, at, ended = buffer[at:] + piece, 0, not piece

    for number in range(1, count + 1):
        while (end := buffer.find(b" ", at)) < 0 or len(buffer) - end - 1 < size:
            if end < 0 and len(buffer) - at > _LONGEST_WORD:
                raise DataError(
                    f"{path}: word {number:,} of {count:,} never ends; it is no binary file of word vectors"
                )
            more()
            if ended:
                raise DataError(f"{path} is truncated: it ends in word {number:,} of {count:,}")
        word = buffer[at:end].lstrip(b"\n").decode("utf-8", "replace")
        at = end + 1 + size
        if word not in words:
            vectors[len(words)] = np.frombuffer(buffer, dtype="<f4", count=dimensions, offset=end + 1)
            words[word] = number
    if (buffer[at:] + file.read(_LONGEST_WORD)).strip(b"\r\n"):
        raise DataError(f"{path} goes on after its {count:,} vectors: it is damaged, or no binary file of word vectors")
    return WordTable(tuple(words), vectors[: len(words)].copy() if len(words) < count else vectors)


def _read_text(file: IO[bytes], path: Path, count: int, dimensions: int) -> WordTable:
    words: dict[str, int] = {}
    vectors = _room(path, count, dimensions)
    number = 0
    for line in file:
        if not line.strip():
            continue
        number += 1
        if number > count:
            raise DataError(f"{path} has more lines than the {count:,} of its first line: it is damaged")
        word, vector = _parsed(line, path, number + 1, dimensions)
        if word not in words:
            vectors[len(words)] = vector
            words[word] = number
    if number < count:
        raise DataError(f"{path} is truncated: it has {number:,} of its {count:,} words")
    return WordTable(tuple(words), vectors[: len(words)].copy() if len(words) < count else vectors)


def _read_headless(file: IO[bytes], path: Path, first: bytes) -> WordTable:
    """Without a first line there is nothing to tell a word's spaces from the others: it has none."""
    dimensions = len(first.split()) - 1
    words: dict[str, int] = {}
    vectors: list[NDArray[np.float32]] = []
    for number, line in enumerate(itertools.chain((first,), file), 1):
        if not line.strip():
            continue
        try:
            word, vector = _parsed(line, path, number, dimensions)
        except DataError:
            if number > 1:
                raise
            _refuse(path, first)
        if words.setdefault(word, number) == number:
            vectors.append(vector)
    return WordTable(tuple(words), np.stack(vectors))


def _parsed(line: bytes, path: Path, number: int, dimensions: int) -> tuple[str, NDArray[np.float32]]:
    word, *numbers = line.rstrip(b"\r\n ").rsplit(b" ", dimensions)
    try:
        vector = np.array(numbers, dtype="S").astype(np.float32) if len(numbers) == dimensions else None
    except ValueError:
        vector = None
    if vector is None or not word:
        if not line.endswith(b"\n"):
            raise DataError(f"{path} is truncated: it ends in line {number:,}")
        raise DataError(f"{path}, line {number:,}: a word and {dimensions} numbers expected")
    return word.decode("utf-8", "replace"), vector
