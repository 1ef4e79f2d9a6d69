"""Files, folders and standard input: encodings, marks, archives, and errors of one line."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aprendiz.errors import ConfigError, DataError, UnknownNameError
from aprendiz.text import files, load
from aprendiz.text.core import RawText

TEXT = "Où est l'œuf? Ici.\nNaïve café, 中文 😀\n" * 20


def content(raw: RawText) -> str:
    return "".join(raw.pieces())


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", TEXT.encode()),
        ("utf-8", codecs.BOM_UTF8 + TEXT.encode()),
        ("utf-8-sig", codecs.BOM_UTF8 + TEXT.encode()),
        ("UTF8", TEXT.encode()),
        ("utf-16", TEXT.encode("utf-16")),
        ("utf-16-be", TEXT.encode("utf-16-be")),
        ("utf-8", gzip.compress(codecs.BOM_UTF8 + TEXT.encode(), mtime=0)),
        ("gb18030", TEXT.encode("gb18030")),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_text_is_the_same_in_every_wrapping(
    encoding: str, data: bytes, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
    (tmp_path / "book.txt").write_bytes(data)
    assert content(files.file(path=str(tmp_path / "book.txt"), encoding=encoding)) == TEXT


def test_latin_1_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes("Où est-ce?\r\n".encode("latin-1"))
    assert content(files.file(path=str(tmp_path / "book.txt"), encoding="latin-1")) == "Où est-ce?\r\n"


@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_another_encoding_without_the_flag_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
    (tmp_path / "book.txt").write_bytes("Bonjour, où est-ce? ".encode("latin-1") * 9)
    with pytest.raises(
        DataError, match=r"book.txt is not UTF-8 .byte 0xf9 at 10.; --encoding latin-1 or cp1252"
    ) as caught:
        load(f"file:{tmp_path}/book.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "/book.txt is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (bytes(range(256)) * 20, "NUL bytes: that is no text"),
        ("ein Text".encode("utf-16") * 20, "is UTF-16, not UTF-8: give --encoding utf-16"),
        ("größer".encode()[:3] * 20, "is not UTF-8"),
        ("zum Schluß".encode()[:-1], "is not UTF-8 .byte 0xc3 at 9"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-30], "is gzipped, and damaged"),
        (gzip.compress(TEXT.encode(), mtime=0)[:20] + b"xxxxxxx", "is gzipped, and damaged"),
        (b"short", "too few to hold out"),
    ],
)
def test_a_file_that_is_no_text_is_one_clear_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "book.txt").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load(f"file:{tmp_path}/book.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no files without a size here")
def test_a_file_that_tells_no_size_is_read() -> None:
    assert len(load("file:/proc/cpuinfo").train) > 0


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*missing\.txt"):
        load(f"file:{tmp_path}/missing.txt")
    with pytest.raises(DataError, match="is a folder: use folder:"):
        load(f"file:{tmp_path}")
    (tmp_path / "x").write_text("x")
    with pytest.raises(DataError, match="is a file: use file:"):
        load(f"folder:{tmp_path}/x")
    with pytest.raises(DataError, match="there is no folder"):
        load(f"folder:{tmp_path}/y")
    with pytest.raises(DataError, match="no regular file; pipe it in"):
        load(f"file:{os.devnull}")


@pytest.mark.parametrize("kind", ["file", "folder", "tsv"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x" * 5_000, "^x{80} cannot be looked for: File name too long|there is no f"),
        ("~nobody-here-of-this-name/x", "is no path: .*home directory"),
        ("a\0b", "is no path: .*null byte"),
    ],
    ids=["too long", "nobody's home", "NUL"],
)
def test_what_can_be_no_path_is_one_clear_line(kind: str, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(f"{kind}:{path}")


def test_a_name_that_can_be_no_path_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError):
        load("x" * 5_000)


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "rot13", ""])
def test_an_unknown_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(ConfigError, match="there is no encoding"):
        load(f"file:{tmp_path}/x", encoding=encoding)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything can be read")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load(f"file:{path}")


def test_a_file_gives_its_name_to_the_task(tmp_path: Path) -> None:
    (tmp_path / "holmes.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "README").write_text(TEXT, encoding="utf-8")
    assert load(f"file:{tmp_path}/holmes.txt.gz").spec.name == "holmes"
    assert load(f"file:{tmp_path}/README").spec.name == "README"


def write(folder: Path, contents: dict[str, bytes]) -> None:
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_folder_is_read_in_order_each_file_on_lines_of_its_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.txt": b"b has no end",
            "a.txt": codecs.BOM_UTF8 + b"a begins with a mark\r\n",
            "part/c.md.gz": gzip.compress(b"c\n"),
            "part-two/d": b"d",
            "empty.txt": b"",
            ".hidden": b"x",
            ".git/x": b"x",
        },
    )
    raw = files.folder(path=str(tmp_path))
    assert content(raw) == "a begins with a mark\r\nb has no end\nc\nd\n"
    assert raw.name == tmp_path.name


def test_a_pattern_chooses_files(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"a\n", "b.py": b"b\n", "docs/c.md": b"c\n", "docs/d.txt": b"d\n"})
    assert content(files.folder(path=str(tmp_path), pattern="*.txt")) == "a\nd\n"
    assert content(files.folder(path=str(tmp_path), pattern="docs/*, *.py")) == "b\nc\nd\n"
    with pytest.raises(DataError, match=r"no file in .* matches '\*.html'; --pattern names others"):
        files.folder(path=str(tmp_path), pattern="*.html")
    with pytest.raises(ConfigError, match="the pattern is empty"):
        files.folder(path=str(tmp_path), pattern=" , ")


def test_files_that_are_no_text_are_left_out_of_a_folder_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path, {"a.txt": b"a\n", "photo.png": bytes(100), "bad.gz": b"\x1f\x8b\x08\0\0"})
    assert content(files.folder(path=str(tmp_path))) == "a\n"
    warning = capsys.readouterr().err
    assert warning.startswith("warning: 2 of 3 files in") and "bad.gz, photo.png" in warning
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="2 of 2 files in .* are no text: bad.gz, photo.png"):
        files.folder(path=str(tmp_path))


def test_a_file_of_a_folder_in_another_encoding_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"a\n" * 99, "b.txt": "größer".encode("latin-1")})
    with pytest.raises(DataError, match=r"b\.txt is not UTF-8 .byte 0xf6 at 2"):
        load(f"folder:{tmp_path}")


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own")
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "there", {"b.txt": b"b\n"})
    write(tmp_path / "here", {"a.txt": b"a\n"})
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "round").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert content(files.folder(path=str(tmp_path / "here"))) == "a\nb\n"


class Piped:
    """What `sys.stdin` is when something is piped in."""

    closed = False

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("held", [16 << 20, 100], ids=["in memory", "on the disk"])
def test_standard_input_is_read_like_a_file(
    pack: Any, held: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path))
    monkeypatch.setattr(files, "_HELD_BYTES", held)
    monkeypatch.setattr(files, "CHUNK_BYTES", 64)
    monkeypatch.setattr(sys, "stdin", Piped(pack(codecs.BOM_UTF8 + TEXT.encode())))
    raw = files.standard_input()
    assert content(raw) == TEXT and content(raw) == TEXT
    assert raw.name == "standard-input"


def test_standard_input_in_another_encoding_or_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped("größer".encode("latin-1") * 9))
    with pytest.raises(DataError, match="standard input is not UTF-8"):
        load("-")
    monkeypatch.setattr(sys, "stdin", Piped(b""))
    with pytest.raises(DataError, match="standard-input is empty"):
        load("-")
    terminal = Piped(b"")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(DataError, match="nothing is piped in; use it as in"):
        load("-")


def test_a_real_pipe_is_read() -> None:
    code = "from aprendiz.text import load; print(load('-', encoding='latin-1').train.characters)"
    done = subprocess.run(
        [sys.executable, "-c", code], input="größer\n".encode("latin-1") * 100, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"560"
