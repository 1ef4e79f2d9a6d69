"""Fetching files: whole or not at all, from the first mirror that has them, and one clear line where none has."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aprendiz.data import download, load, mnist
from aprendiz.data.download import RemoteFile, cache_folder, fetch
from aprendiz.errors import DataError
from tests.aprendiz.test_data import FILES, write_mnist

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = RemoteFile(name="data.gz", size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(handle: Handler) -> Iterator[str]:
    """A web server on this machine; its address."""

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # the other side went away
                handle(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: http.server.BaseHTTPRequestHandler, content: bytes, announced: int | None = None) -> None:
    request.send_response(200)
    if announced != -1:
        request.send_header("Content-Length", str(len(content) if announced is None else announced))
    request.end_headers()
    request.wfile.write(content)


def good(request: http.server.BaseHTTPRequestHandler) -> None:
    answer(request, CONTENT)


def missing(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_error(404)


def stalled(request: http.server.BaseHTTPRequestHandler) -> None:
    answer(request, CONTENT[:1000], len(CONTENT))
    request.wfile.flush()
    time.sleep(1.5)


BAD: dict[str, tuple[Handler, str]] = {
    "truncated": (lambda r: answer(r, CONTENT[:-100], len(CONTENT)), r"(broke off|stopped after 299,900 of 300,000)"),
    "truncated and not announced": (lambda r: answer(r, CONTENT[:-100], -1), "stopped after 299,900 of 300,000 bytes"),
    "shorter": (lambda r: answer(r, CONTENT[:-100]), "has 299,900 bytes instead of 300,000"),
    "endless": (lambda r: answer(r, CONTENT * 3, -1), "sends more than the 300,000 bytes"),
    "another file": (lambda r: answer(r, CONTENT[::-1]), "is another file: sha256"),
    "not found": (missing, "answers 404 Not Found"),
    "broken": (lambda r: r.send_error(500), "answers 500"),
    "no answer": (lambda r: None, "Remote end closed connection"),
    "no HTTP": (lambda r: r.wfile.write(b"\x15\x03\x01 junk\r\n"), "data.gz: "),
}


def closed_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def test_a_file_arrives_whole_under_its_name_and_nothing_else_does(tmp_path: Path) -> None:
    with serving(good) as address:
        path = fetch(FILE, tmp_path / "new", [f"{address}/"])
    assert path == tmp_path / "new" / "data.gz" and path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir()] == ["data.gz"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~download._umask()


@pytest.mark.parametrize("what", BAD)
def test_a_mirror_that_serves_something_else_leaves_nothing_behind(tmp_path: Path, what: str) -> None:
    handle, message = BAD[what]
    with serving(handle) as address, pytest.raises(DataError, match=message) as caught:
        fetch(FILE, tmp_path, [address], timeout_seconds=5)
    assert address in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_stalls_is_given_up(tmp_path: Path) -> None:
    with serving(stalled) as address, pytest.raises(DataError, match="broke off: does not answer in time"):
        fetch(FILE, tmp_path, [address], timeout_seconds=0.3)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_asked(tmp_path: Path) -> None:
    with serving(missing) as first, serving(BAD["another file"][0]) as second, serving(good) as third:
        fetch(FILE, tmp_path, [closed_port(), first, second, third])
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_every_mirror_s_answer_is_told(tmp_path: Path) -> None:
    refused = closed_port()
    with serving(missing) as address, pytest.raises(DataError) as caught:
        fetch(FILE, tmp_path, [refused, address, "https://no-such-host.invalid"])
    text = str(caught.value)
    assert f"{refused}/data.gz: Connection refused" in text and "answers 404" in text and "no-such-host.invalid" in text


def test_a_file_that_was_there_stays_until_a_whole_one_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "data.gz").write_bytes(b"old")
    with serving(BAD["truncated"][0]) as address, pytest.raises(DataError):
        fetch(FILE, tmp_path, [address])
    assert (tmp_path / "data.gz").read_bytes() == b"old"


def test_a_process_killed_while_it_writes_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    halfway = threading.Event()

    def slow(request: http.server.BaseHTTPRequestHandler) -> None:
        answer(request, CONTENT[:200_000], len(CONTENT))
        request.wfile.flush()
        halfway.set()
        time.sleep(30)

    code = f"""
        from pathlib import Path
        from aprendiz.data.download import RemoteFile, fetch
        file = RemoteFile(name="data.gz", size_bytes={len(CONTENT)}, sha256="{FILE.sha256}")
        fetch(file, Path({str(tmp_path)!r}), ["ADDRESS"])
    """
    with serving(slow) as address:
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code).replace("ADDRESS", address)])
        try:
            assert halfway.wait(60)
            for _ in range(600):
                parts = list(tmp_path.glob(".data.gz.*.part"))
                if parts and parts[0].stat().st_size:
                    break
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not (tmp_path / "data.gz").exists() and len(list(tmp_path.iterdir())) == 1
    with serving(good) as address:
        fetch(FILE, tmp_path, [address])
        assert (tmp_path / "data.gz").read_bytes() == CONTENT
        [part] = tmp_path.glob(".*.part")
        os.utime(part, (time.time() - 7200, time.time() - 7200))
        fetch(FILE, tmp_path, [address])
    assert [one.name for one in tmp_path.iterdir()] == ["data.gz"]  # what was abandoned is swept away


def test_two_processes_may_fetch_at_once(tmp_path: Path) -> None:
    with serving(good) as address:
        threads = [threading.Thread(target=fetch, args=(FILE, tmp_path, [address])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [one.name for one in tmp_path.iterdir()] == ["data.gz"]


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving(good) as address, pytest.raises(DataError, match="cannot be written to.*set APRENDIZ_DATA"):
        fetch(FILE, tmp_path / "file" / "mnist", [address])


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"APRENDIZ_DATA": "/data"}, "/data"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/aprendiz"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/ana/.cache/aprendiz"),
        ("linux", {}, "/home/ana/.cache/aprendiz"),
        ("darwin", {}, "/home/ana/Library/Caches/aprendiz"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/aprendiz/cache"),
        ("win32", {}, "/home/ana/AppData/Local/aprendiz/cache"),
    ],
)
def test_the_cache_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("APRENDIZ_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: Path("/home/ana")))
    assert cache_folder() == Path(expected)


# MNIST through all of it


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small files that pass for the published ones, and an empty cache."""
    folder = tmp_path / "published" / "mnist"
    write_mnist(folder)
    files = {name: (folder / f"{name}.gz").read_bytes() for name in FILES}
    published = mnist._Published(
        mirrors=("https://no-such-host.invalid/mnist",),
        served={name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()},
        content={name: hashlib.md5(gzip.decompress(data)).hexdigest() for name, data in files.items()},
    )
    monkeypatch.setattr(mnist, "_MNIST", published)
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("APRENDIZ_MIRROR", raising=False)
    return folder


def from_folder(folder: Path, asked: list[str], request: http.server.BaseHTTPRequestHandler) -> None:
    asked.append(request.path)
    answer(request, (folder.parent / request.path.lstrip("/")).read_bytes())


def test_mnist_is_fetched_once(small_mnist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    with serving(functools.partial(from_folder, small_mnist, asked)) as address:
        monkeypatch.setenv("APRENDIZ_MIRROR", address)
        first = load("mnist", validation=20)
        again = load("mnist", validation=20)
    assert asked == [f"/mnist/{name}.gz" for name in FILES]
    assert first.fingerprint == again.fingerprint
    assert sorted(one.name for one in (tmp_path / "cache" / "mnist").iterdir()) == sorted(f"{n}.gz" for n in FILES)


def test_a_damaged_file_in_the_cache_is_fetched_again(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "mnist"
    write_mnist(cache)
    path = cache / f"{FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-50])
    other = bytearray(gzip.decompress((cache / f"{FILES[1]}.gz").read_bytes()))
    other[-1] ^= 1  # one label changed: a valid file, and not MNIST
    (cache / f"{FILES[1]}.gz").write_bytes(gzip.compress(bytes(other)))
    asked: list[str] = []
    with serving(functools.partial(from_folder, small_mnist, asked)) as address:
        monkeypatch.setenv("APRENDIZ_MIRROR", address)
        load("mnist", validation=20)
    assert asked == [f"/mnist/{FILES[0]}.gz", f"/mnist/{FILES[1]}.gz"]


def test_a_file_that_was_unpacked_or_packed_anew_is_taken_for_what_it_is(small_mnist: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "mnist"
    write_mnist(cache, compress=False)
    (cache / f"{FILES[2]}.gz").write_bytes(gzip.compress((cache / FILES[2]).read_bytes(), 1))
    (cache / FILES[2]).unlink()
    assert len(load("mnist", validation=20).train) == 40


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APRENDIZ_MIRROR", closed_port())
    with pytest.raises(DataError) as caught:
        load("mnist")
    text = str(caught.value)
    assert "\n" not in text and "Connection refused" in text
    assert all(f"{name}.gz" in text for name in FILES)
    assert str(tmp_path / "cache" / "mnist") in text and "--folder" in text and "--data digits" in text


def test_what_is_published_is_asked_for_over_https_from_several_places() -> None:
    for published in (mnist._MNIST, mnist._FASHION_MNIST):
        assert len(published.mirrors) >= 2
        assert all(address.startswith("https://") for address in published.mirrors)
        assert all(len(sha256) == 64 for _, sha256 in published.served.values())
