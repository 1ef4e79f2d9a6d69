"""Large texts: little memory, instant the second time, and nothing half-written, whatever happens."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aprendiz.errors import DataError, StorageError
from aprendiz.text import build, cache, keep, load, reading
from aprendiz.text.core import RawText, TextData, Tokens
from aprendiz.text.encode import Encoding

LINES = "".join(f"line {number % 97} is not like line {number % 89}, or is it?\n" for number in range(2_000))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every text counts as a large one; where they are cached."""
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(reading, "BLOCK", 5_000)
    return tmp_path / "cache" / "texts"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A file that was last changed long ago."""
    return written(tmp_path / "book.txt", LINES)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (1_700_000_000,) * 2)
    return path


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a file's inode cannot be set back: its age does not matter here, where no test is about it."""
    from aprendiz.text import files

    monkeypatch.setattr(files, "_SETTLED_SECONDS", -3_600.0)


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


@pytest.mark.parametrize("level", ["char", "byte", "word"])
@pytest.mark.parametrize("rare", [1, 30])
def test_by_way_of_the_cache_or_in_memory_the_ids_are_the_same(
    level: str, rare: int, small: Path, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = load(f"file:{book}", level=level, min_count=rare)
    monkeypatch.setattr(build, "SMALL_CHARACTERS", 1 << 20)
    held = load(f"file:{written(book.with_name('copy.txt'), LINES)}", level=level, min_count=rare)
    assert isinstance(mapped.train.ids, np.memmap) and not isinstance(held.train.ids, np.memmap)
    assert mapped.fingerprint == held.fingerprint and mapped.vocabulary.symbols == held.vocabulary.symbols
    for one, other in ((mapped.train, held.train), (mapped.validation, held.validation), (mapped.test, held.test)):
        assert np.array_equal(one.ids, other.ids) and one.ids.dtype == other.ids.dtype == np.uint8
        assert one.characters == other.characters


def test_a_vocabulary_of_more_than_255_words_takes_wider_ids(small: Path, tmp_path: Path) -> None:
    words = " ".join(f"w{number}" for number in range(300)) + "\n"
    data = load(f"file:{written(tmp_path / 'x.txt', words * 20)}", level="word")
    assert data.spec.vocabulary_size == 302 and data.train.ids.dtype == np.uint16
    assert data.vocabulary.decode(data.train.ids[:301]) == words


def test_a_wider_vocabulary_than_the_text_s_own_can_be_used_for_a_large_text(small: Path, book: Path) -> None:
    wide = build.text_data(
        RawText(name="wide", pieces=lambda: ["".join(map(chr, range(32, 700))) * 3]),
        Encoding(),
        held_out=0.0,
        validation=0.0,
        options={},
    ).vocabulary
    data = load(f"file:{book}", vocabulary=wide, validation=0.0, held_out=0.0)
    assert data.train.ids.dtype == np.uint16
    assert np.array_equal(data.train.ids, wide.encode(LINES))


def test_the_second_time_the_text_is_not_even_read(small: Path, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(f"file:{book}", level="word")

    def unread(raw: RawText) -> Iterator[str]:
        raise AssertionError("the text is read again")

    monkeypatch.setattr(reading, "blocks", unread)
    again = load(f"file:{book}", level="word")
    assert again.fingerprint == first.fingerprint and len(entries(small)) == 1


def test_the_same_text_elsewhere_is_found_by_its_content(small: Path, book: Path, tmp_path: Path) -> None:
    load(f"file:{book}")
    load(f"file:{written(tmp_path / 'copy.txt', LINES)}")
    assert len(entries(small)) == 1


def test_a_changed_file_is_noticed(small: Path, book: Path) -> None:
    first = load(f"file:{book}")
    written(book, LINES.replace("not", "now"))  # as long as it was, and as old
    assert load(f"file:{book}").fingerprint != first.fingerprint


def test_a_file_changed_a_moment_ago_is_not_known_by_its_times(
    small: Path, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aprendiz.text import files

    monkeypatch.setattr(files, "_SETTLED_SECONDS", 2.0)
    book.write_text(LINES)
    assert files.file(path=str(book)).identity == ""


@pytest.mark.parametrize(
    "options",
    [{"level": "byte"}, {"held_out": 0.2}, {"level": "word"}, {"level": "word", "lower": True}, {"min_count": 3}],
)
def test_other_options_are_another_entry(small: Path, book: Path, options: dict) -> None:
    load(f"file:{book}")
    load(f"file:{book}", **options)
    assert len(entries(small)) == 2


@pytest.mark.parametrize("file", [cache.IDS, cache.VOCABULARY, cache.DESCRIPTION])
@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
def test_a_damaged_entry_is_made_again(small: Path, book: Path, file: str, how: str) -> None:
    first = load(f"file:{book}", level="word")
    expected = first.train.ids.copy()
    [entry] = entries(small)
    data = (entry / file).read_bytes()
    (entry / file).unlink()
    if how != "missing":
        (entry / file).write_bytes(data[:-7] if how == "truncated" else data[:40] + b"999" + data[43:])
    again = load(f"file:{book}", level="word")
    assert np.array_equal(again.train.ids, expected) and again.fingerprint == first.fingerprint


def test_large_ids_that_were_cut_off_are_noticed_by_their_size(
    small: Path, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CHECKED_BYTES", 100)
    expected = load(f"file:{book}").test.ids.copy()
    [entry] = entries(small)
    (entry / cache.IDS).write_bytes((entry / cache.IDS).read_bytes()[:-7])
    assert np.array_equal(load(f"file:{book}").test.ids, expected)


def test_a_process_killed_while_it_writes_leaves_nothing_that_looks_whole(small: Path, book: Path) -> None:
    code = f"""
        import time
        from aprendiz.text import build, encode, load
        build.SMALL_CHARACTERS = 0
        choose = encode.choose
        def slow(*arguments):
            print("halfway", flush=True)
            time.sleep(60)
        encode.choose = slow
        load("file:{book}")
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().strip() == b"halfway"
        process.send_signal(signal.SIGKILL)
        process.wait()
    [part] = entries(small)
    assert part.name.startswith(".part-") and (part / cache.IDS).stat().st_size > 0
    data = load(f"file:{book}")
    assert data.vocabulary.decode(data.train.ids) == LINES[: len(data.train)]
    assert len(entries(small)) == 2
    for path in (part, *part.iterdir()):
        os.utime(path, (time.time() - 7_200,) * 2)
    load(f"file:{book}", level="byte")
    assert part not in entries(small)  # what was abandoned is swept away


def test_two_processes_may_make_the_same_entry_at_once(small: Path, book: Path) -> None:
    code = f"""
        from aprendiz.text import build, encode, load
        import os, time
        build.SMALL_CHARACTERS = 0
        choose = encode.choose
        def together(*arguments):
            open(os.environ["MINE"], "w").close()
            while not os.path.exists(os.environ["OTHER"]):
                time.sleep(0.01)
            return choose(*arguments)
        encode.choose = together
        print(load("file:{book}").fingerprint)
    """
    names = [str(small.parent.parent / name) for name in ("one", "two")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "MINE": mine, "OTHER": other},
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine, other in (names, names[::-1])
    ]
    prints = {process.communicate(timeout=120)[0].strip() for process in both}
    assert prints == {load(f"file:{book}").fingerprint}
    assert [one.returncode for one in both] == [0, 0] and len(entries(small)) == 1


def test_a_full_disk_is_told_and_leaves_nothing(small: Path, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "write", full)
    with pytest.raises(StorageError, match="No space left on device; make room, or set APRENDIZ_DATA") as caught:
        load(f"file:{book}")
    assert "\n" not in str(caught.value) and entries(small) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_a_disk_that_fills_up_while_ids_are_written_is_told(
    small: Path, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build._write

    def onto_a_full_device(folder: Path, *arguments) -> None:
        (folder / cache.IDS).symlink_to("/dev/full")
        made(folder, *arguments)

    monkeypatch.setattr(build, "_write", onto_a_full_device)
    with pytest.raises(StorageError, match="No space left on device"):
        load(f"file:{book}")
    assert entries(small) == []


def test_a_cache_that_cannot_be_written_to_is_named(small: Path, book: Path) -> None:
    small.parent.write_text("a file is in the way")
    with pytest.raises(StorageError, match="cannot write .*set APRENDIZ_DATA"):
        load(f"file:{book}")


def test_small_texts_need_no_cache(small: Path, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SMALL_CHARACTERS", 1 << 20)
    load(f"file:{book}", level="word")
    assert not small.exists()


def test_a_file_that_changes_while_it_is_read_is_told(small: Path) -> None:
    times = iter(range(9))

    def pieces() -> list[str]:
        return [LINES, f"reading number {next(times)}\n"]

    with pytest.raises(DataError, match="live was changed while it was read"):
        build.text_data(RawText(name="live", pieces=pieces), Encoding(), held_out=0.1, validation=0.1, options={})
    assert entries(small) == []


def test_what_a_newer_version_cached_is_left_alone_and_made_again(small: Path, book: Path) -> None:
    first = load(f"file:{book}")
    [entry] = entries(small)
    about = json.loads((entry / cache.DESCRIPTION).read_text())
    (entry / cache.DESCRIPTION).write_text(json.dumps({**about, "format_version": 99}))
    assert load(f"file:{book}").fingerprint == first.fingerprint


def test_mapped_ids_can_be_let_go_and_come_back(small: Path, book: Path) -> None:
    data = load(f"file:{book}")
    before = data.train.ids.copy()
    for start, stop in ((0, None), (100, 50_000), (7, 8), (9, 3), (0, 10**9)):
        cache.release(data.train.ids, start, stop)
        cache.release(before, start, stop)
        assert np.array_equal(data.train.ids, before)


def mapped_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0]) / 1024


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """32 MB of ids in a file."""
    np.full(1 << 24, 2, np.uint16).tofile(tmp_path / "ids")
    return np.memmap(tmp_path / "ids", np.uint16, "r")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured otherwise")
def test_mapped_ids_that_were_let_go_are_not_in_memory(mapped: np.ndarray) -> None:
    ids = np.asarray(mapped)[100:]
    before = mapped_megabytes()
    assert int(ids.sum()) == 2 * len(ids)
    assert mapped_megabytes() - before > 25
    cache.release(ids, 0, len(ids) // 2)
    assert 10 < mapped_megabytes() - before < 22
    cache.release(ids)
    assert mapped_megabytes() - before < 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured otherwise")
def test_ids_that_are_kept_in_a_run_s_folder_do_not_fill_the_memory(
    mapped: np.ndarray, small: Path, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK", 1 << 20)
    data = dataclasses.replace(load(f"file:{book}", level="word"), train=Tokens(mapped, len(mapped)))
    most, release = 0.0, cache.release

    def measured(*arguments) -> None:
        nonlocal most
        most = max(most, mapped_megabytes())
        release(*arguments)

    monkeypatch.setattr(cache, "release", measured)
    before = mapped_megabytes()
    keep(data, tmp_path / "kept")
    assert 0 < most - before < 6 and mapped_megabytes() - before < 5
    assert (tmp_path / "kept" / cache.IDS).stat().st_size >= 1 << 25


MEMORY = """
    import sys
    from aprendiz.text import build, cache, load
    from aprendiz.text import word_scan

    def peak():  # getrusage would count what the process was before it became this one
        return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

    word_scan.WordScanner("words-and-marks", lower=False).feed("a b", counting=True)
    before = peak()
    data = load(sys.argv[1], level=sys.argv[2])
    print(peak() - before, len(data.train))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured otherwise")
@pytest.mark.parametrize("level", ["char", "word"])
def test_one_line_of_40_megabytes_is_read_in_little_memory(level: str, tmp_path: Path) -> None:
    line = LINES.replace("\n", " ").encode()
    with (tmp_path / "line.txt").open("wb") as file:
        for _ in range(40_000_000 // len(line)):
            file.write(line)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), f"file:{tmp_path / 'line.txt'}", level],
        env={**os.environ, "APRENDIZ_DATA": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(tmp_path / "cache")
    used, tokens = map(int, done.stdout.split())
    assert used < 64_000_000 and tokens > 6_000_000


def test_the_longest_word_holds_nothing_up(small: Path) -> None:
    endless = RawText(name="endless", pieces=lambda: ["x" * 10_000] * 30)
    data: TextData = build.text_data(endless, Encoding(level="word"), held_out=0.1, validation=0.0, options={})
    assert len(data.train) + len(data.test) == 300 and data.spec.vocabulary_size == 3
