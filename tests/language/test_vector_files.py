from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aprendiz.errors import DataError, StorageError
from language.vector_files import Format, read, write
from language.word_tasks import WordTable

WORDS = ("the", "naïve", "東京", "don't", "🎲", "3.14", "-")
VECTORS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
FORMATS: list[Format] = ["text", "binary"]


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.txt.gz", "v.bin.gz", "v"])
def test_what_was_written_is_read_bit_for_bit(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name, WordTable(WORDS, VECTORS)) == 0
    words, vectors = read(tmp_path / name)
    assert words == WORDS
    assert (vectors == VECTORS).all()


@pytest.mark.parametrize("file_format", FORMATS)
def test_words_with_spaces_are_written_with_underscores_and_stay_different(tmp_path: Path, file_format: Format) -> None:
    table = WordTable(("New York", "New_York", "a\tb", ""), VECTORS[:4])
    assert write(tmp_path / "v", table, file_format) == 3
    assert read(tmp_path / "v").words == ("New_York_", "New_York", "a_b", "_")


def test_words_with_spaces_in_somebody_else_s_text_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("2 2\nNew York 1 2\nOslo 3 4\n")
    table = read(tmp_path / "v.txt")
    assert table.words == ("New York", "Oslo")
    assert table.vectors.tolist() == [[1, 2], [3, 4]]


def test_a_text_file_without_its_first_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("one 1 2 3\ntwo 3 4 5\n")
    assert read(tmp_path / "v.txt").vectors.tolist() == [[1, 2, 3], [3, 4, 5]]


def test_of_a_word_that_stands_twice_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("3 1\na 1\na 2\nb 3\n")
    words, vectors = read(tmp_path / "v.txt")
    assert words == ("a", "b") and vectors.tolist() == [[1], [3]]


def test_bytes_that_are_no_utf8_do_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"2 1\ncaf\xe9 1\nb 2\n")
    assert read(tmp_path / "v.txt").words == ("caf\ufffd", "b")


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.93, 0.99])
def test_a_truncated_file_is_called_that_in_one_line(tmp_path: Path, file_format: Format, part: float) -> None:
    table = WordTable(tuple(f"word{number}" for number in range(50)), np.random.default_rng(0).normal(size=(50, 8)))
    write(tmp_path / "v", table, file_format)
    whole = (tmp_path / "v").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: max(6, int(part * len(whole)))])
    with pytest.raises(DataError, match="truncated|two numbers") as caught:
        read(tmp_path / "cut")
    assert "\n" not in str(caught.value) and str(tmp_path / "cut") in str(caught.value)


def test_a_truncated_compressed_file_is_called_that(tmp_path: Path) -> None:
    write(tmp_path / "v.bin.gz", WordTable(WORDS, VECTORS))
    whole = (tmp_path / "v.bin.gz").read_bytes()
    (tmp_path / "v.bin.gz").write_bytes(whole[:-30])
    with pytest.raises(DataError, match="truncated"):
        read(tmp_path / "v.bin.gz")


def test_a_damaged_compressed_file_is_called_that(tmp_path: Path) -> None:
    table = WordTable(tuple(f"word{number}" for number in range(500)), np.random.default_rng(0).normal(size=(500, 8)))
    write(tmp_path / "v.bin.gz", table)
    whole = bytearray((tmp_path / "v.bin.gz").read_bytes())
    whole[2000:2400] = b"\xff" * 400
    (tmp_path / "v.bin.gz").write_bytes(whole)
    with pytest.raises(DataError, match="v.bin.gz is damaged") as caught:
        read(tmp_path / "v.bin.gz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", ["9" * 14, "9" * 30])
def test_a_compressed_file_that_promises_too_much_is_no_lack_of_memory(tmp_path: Path, count: str) -> None:
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress(f"{count} 300\na 1 2\n".encode()))
    with pytest.raises(DataError, match="vectors of 300 numbers, which memory cannot hold|truncated"):
        read(tmp_path / "v.txt.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"This is a letter, not a table.\nIt has lines.\n", "first line should be two numbers"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, "first line should be two numbers"),
        (b"GIF89a \0 \x01 \xff", "first line should be two numbers"),
        (b"one 1 2\ntwo 1\n", "line 2: a word and 2 numbers expected"),
        (b"hello\n", "first line should be two numbers"),
        (b"\x80\x04\x95abc", "looks like a pickle"),
        (b"2 2\na 1 2\nb 1 x\n", "line 3: a word and 2 numbers expected"),
        (b"1 2\na 1 2\nb 1 2\n", "more lines than the 1"),
        (b"0 5\n", "0 vectors of 5"),
        (b"99999999 300\na 1 2\n", "truncated: 99,999,999 vectors"),
    ],
)
def test_files_of_another_kind_end_in_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "v.txt")


def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "v.txt")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "none" / "v.txt", WordTable(WORDS, VECTORS))


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    write(tmp_path / "v.txt", WordTable(WORDS, VECTORS))
    with pytest.raises(ValueError, match="zip"):
        write(tmp_path / "v.txt", WordTable(WORDS, VECTORS[:3]))
    assert read(tmp_path / "v.txt").words == WORDS
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"]


@pytest.fixture(scope="module")
def keyed_vectors() -> Any:
    return pytest.importorskip("gensim.models.keyedvectors").KeyedVectors


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_gensim_opens_what_we_write(tmp_path: Path, keyed_vectors: Any, file_format: Format, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    write(path, WordTable(("New York", *WORDS), np.concatenate([VECTORS[:1], VECTORS])), file_format)
    opened = keyed_vectors.load_word2vec_format(str(path), binary=file_format == "binary")
    assert opened.index_to_key == ["New_York", *WORDS]
    assert (opened.vectors[1:] == VECTORS).all()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_we_open_what_gensim_writes(tmp_path: Path, keyed_vectors: Any, file_format: Format, suffix: str) -> None:
    theirs = keyed_vectors(5)
    theirs.add_vectors(list(WORDS), VECTORS)
    path = tmp_path / f"v{suffix}"
    theirs.save_word2vec_format(str(path), binary=file_format == "binary")
    words, vectors = read(path)
    assert words == WORDS
    assert (vectors == VECTORS).all()
