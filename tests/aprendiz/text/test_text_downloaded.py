"""Texts that are fetched: by their checksums, once, and one clear line without a network."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import socket
import zipfile
from pathlib import Path

import pytest

from aprendiz.data.download import RemoteFile
from aprendiz.errors import DataError
from aprendiz.text import downloaded, load

CONTENT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 40


def zipped(path: Path, name: str = "text8", more: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, CONTENT)
        if more:
            archive.writestr("second", b"x")
    return path


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small files that pass for the published ones, and an empty cache."""
    folder = tmp_path / "mirror"
    for name, published in (("tiny-shakespeare", downloaded._TINY_SHAKESPEARE), ("text8", downloaded._TEXT8)):
        (folder / name).mkdir(parents=True)
        path = folder / name / published.served.name
        if name == "text8":
            zipped(path)
        else:
            path.write_bytes(CONTENT)
        data = path.read_bytes()
        served = RemoteFile(name=path.name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        digest = hashlib.sha256(CONTENT).hexdigest()
        small = dataclasses.replace(published, served=served, content_bytes=len(CONTENT), content_sha256=digest)
        monkeypatch.setattr(downloaded, "_TEXT8" if name == "text8" else "_TINY_SHAKESPEARE", small)
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("APRENDIZ_MIRROR", folder.as_uri())
    return folder


@pytest.mark.parametrize("name", ["tiny-shakespeare", "text8"])
def test_a_text_is_fetched_once(name: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(name)
    monkeypatch.setenv("APRENDIZ_MIRROR", "http://127.0.0.1:9")
    again = load(name)
    assert first.spec.name == name and again.fingerprint == first.fingerprint
    assert first.vocabulary.decode(first.train.ids).encode() == CONTENT[: len(first.train)]
    assert len(list((tmp_path / "cache" / name).iterdir())) == 1


@pytest.mark.parametrize("name", ["text8", "text8.gz", "text8.zip"])
def test_a_file_that_was_packed_otherwise_is_taken_for_what_it_is(
    name: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache" / "text8" / name
    path.parent.mkdir(parents=True)
    if name.endswith(".zip"):
        zipped(path, "other-name.txt")
    else:
        path.write_bytes(gzip.compress(CONTENT, 1) if name.endswith(".gz") else CONTENT)
    monkeypatch.setenv("APRENDIZ_MIRROR", "http://127.0.0.1:9")
    assert load("text8").train.characters > 1_000


@pytest.mark.parametrize("damage", ["truncated", "changed", "two files", "no archive"])
def test_a_damaged_file_in_the_cache_is_fetched_again(damage: str, mirror: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "text8" / "text8.zip"
    path.parent.mkdir(parents=True)
    data = zipped(path).read_bytes()
    if damage == "two files":
        zipped(path, more=True)
    else:
        changed = data[:60] + b"xyz" + data[63:]
        path.write_bytes({"truncated": data[:-9], "changed": changed, "no archive": CONTENT[:-1]}[damage])
    assert load("text8").train.characters > 1_000
    assert path.read_bytes() == (mirror / "text8" / "text8.zip").read_bytes()


def test_a_file_that_lies_elsewhere_is_named_by_its_path(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(CONTENT)
    data = load("tiny-shakespeare", path=str(tmp_path / "mine.txt"))
    assert data.spec.name == "tiny-shakespeare" and data.options["path"] == str(tmp_path / "mine.txt")
    (tmp_path / "mine.txt").write_bytes(CONTENT + b"x")
    with pytest.raises(DataError, match="is not tiny-shakespeare as it was published.*use --data file:"):
        load("tiny-shakespeare", path=str(tmp_path / "mine.txt"))
    with pytest.raises(DataError, match="there is no file"):
        load("text8", path=str(tmp_path / "missing"))


@pytest.mark.parametrize("name", ["tiny-shakespeare", "text8"])
def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path))
    monkeypatch.setenv("APRENDIZ_MIRROR", address)
    with pytest.raises(DataError) as caught:
        load(name)
    text = str(caught.value)
    assert "\n" not in text and "Connection refused" in text and str(tmp_path / name) in text
    assert "https://" in text and "--path" in text and "--data pydoc" in text


def test_what_is_published_is_asked_for_over_https() -> None:
    for published in (downloaded._TINY_SHAKESPEARE, downloaded._TEXT8):
        assert len(published.mirrors) >= 2
        assert all(address.startswith("https://") for address in published.mirrors)
        assert len(published.served.sha256) == len(published.content_sha256) == 64


@pytest.mark.skipif("APRENDIZ_TEST_DATA" not in os.environ, reason="needs the data")
def test_tiny_shakespeare_is_the_published_one_and_split_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(os.environ["APRENDIZ_TEST_DATA"]) / "text" / "tinyshakespeare.txt"
    if not path.exists():
        pytest.skip("tiny Shakespeare is not among the data")
    data = load("tiny-shakespeare", path=str(path))
    assert [len(data.train), len(data.validation), len(data.test)] == [892_315, 111_539, 111_540]
    assert data.spec.vocabulary_size == 66 and not (data.test.ids == 0).any()  # 65 and UNKNOWN
    assert data.vocabulary.decode(data.train.ids[:14]) == "First Citizen:"
