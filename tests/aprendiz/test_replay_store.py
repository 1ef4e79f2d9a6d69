"""A replay memory on disk: it comes back whole, only what is new is written, and damage is noticed."""

from __future__ import annotations

import builtins
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from aprendiz import replay_store
from aprendiz.errors import CheckpointError, StorageError
from aprendiz.replay import Replay

LANES = 2
FRAMES = {"image": ((4, 6, 5), np.uint8), "vector": ((3,), np.float32), "discrete": ((), np.int64)}


def make_memory(kind: str = "image", *, capacity: int = 100, n_step: int = 1) -> Replay:
    shape, dtype = FRAMES[kind]
    return Replay(capacity, LANES, shape, dtype, frame_stack=4 if kind == "image" else 1, n_step=n_step)


def random_observation(replay: Replay, generator: np.random.Generator) -> np.ndarray:
    dtype = torch.empty(0, dtype=replay.frames.dtype).numpy().dtype
    return (generator.random((LANES, *replay.observation_shape)) * 200).astype(dtype)


def play(replay: Replay, steps: int, seed: int = 0) -> None:
    """Random steps; the first call begins the games."""
    generator = np.random.default_rng([seed, int(replay.head.sum())])
    if not replay.head.any():
        replay.start(random_observation(replay, generator))
    for _ in range(steps):
        over = generator.random(LANES) < 0.1
        replay.add(
            generator.integers(0, 4, LANES),
            generator.standard_normal(LANES).astype(np.float32),
            over & (generator.random(LANES) < 0.5),
            over,
            random_observation(replay, generator),
            random_observation(replay, generator),
        )


def reopened(replay: Replay, folder: Path, manifest: dict[str, Any], state: dict[str, Any]) -> Replay:
    other = Replay(
        replay.capacity,
        replay.num_envs,
        replay.observation_shape,
        torch.empty(0, dtype=replay.frames.dtype).numpy().dtype,
        frame_stack=replay.frame_stack,
        n_step=replay.n_step,
    )
    other.load(folder, manifest)
    other.load_state_dict(state)
    return other


def assert_same_content(left: Replay, right: Replay) -> None:
    """Draws of some twenty times as many transitions as there are."""
    batches = [replay.sample(4000, np.random.default_rng(1)) for replay in (left, right)]
    for name in ("observation", "action", "reward", "discount", "next_observation"):
        assert torch.equal(getattr(batches[0], name), getattr(batches[1], name)), name
    np.testing.assert_array_equal(batches[0].indices, batches[1].indices)


def segments(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("steps", [3, 30, 500])
def test_everything_comes_back(tmp_path: Path, kind: str, steps: int) -> None:
    replay = make_memory(kind, n_step=3)
    play(replay, steps)
    other = reopened(replay, tmp_path, replay.save(tmp_path), replay.state_dict())
    assert_same_content(replay, other)


def test_games_in_progress_go_on_after_loading(tmp_path: Path) -> None:
    replay = make_memory(n_step=3)
    play(replay, 45)
    other = reopened(replay, tmp_path, replay.save(tmp_path), replay.state_dict())
    for memory in (replay, other):
        play(memory, 20)
    assert_same_content(replay, other)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    replay, other = make_memory(), make_memory()
    for memory in (replay, other):
        play(memory, 70)
    replay.save(tmp_path)
    assert_same_content(replay, other)


def test_a_save_writes_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = make_memory(capacity=400)
    play(replay, 50)
    replay.save(tmp_path)
    before = segments(tmp_path)
    play(replay, 10)
    written = record_writes(monkeypatch)
    manifest = replay.save(tmp_path)
    new = {name for name in segments(tmp_path) if name not in before}
    assert {name: time for name, time in segments(tmp_path).items() if name in before} == before
    assert len(new) == LANES and sum(written) < 1.5 * LANES * 10 * (30 + 8)  # frames of 30 bytes
    assert_same_content(replay, reopened(replay, tmp_path, manifest, replay.state_dict()))


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots' bytes handed to each segment."""
    written: list[int] = []
    original = replay_store.SegmentStore._write

    def write(self: Any, path: Path, replay: Replay, lane: int, positions: np.ndarray) -> None:
        written.append(len(positions) * (replay.frames[0].nbytes + 8))
        original(self, path, replay, lane, positions)

    monkeypatch.setattr(replay_store.SegmentStore, "_write", write)
    return written


@pytest.mark.parametrize("between", [5, 30, 47, 200])
def test_a_ring_that_wrapped_between_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: int) -> None:
    monkeypatch.setattr(replay_store, "SEGMENT_BYTES", 10 * (30 + 8))  # ten slots a file
    replay = make_memory(n_step=3)
    play(replay, 20)
    for _ in range(8):
        replay.save(tmp_path)
        replay.prune(tmp_path)
        play(replay, between)
    manifest = replay.save(tmp_path)
    replay.prune(tmp_path)
    assert_same_content(replay, reopened(replay, tmp_path, manifest, replay.state_dict()))
    assert len(list(tmp_path.iterdir())) < 2 * LANES * (replay.slots // 10 + 10)  # what was overwritten is gone


def test_saving_goes_on_after_loading(tmp_path: Path) -> None:
    replay = make_memory()
    for _ in range(4):
        play(replay, 30)
        replay = reopened(replay, tmp_path, replay.save(tmp_path), replay.state_dict())
    uninterrupted = make_memory()
    for _ in range(4):
        play(uninterrupted, 30)
    assert_same_content(replay, uninterrupted)


def test_a_cut_made_after_loading_is_saved_too(tmp_path: Path) -> None:
    replay = make_memory(n_step=3)
    play(replay, 40)
    replay = reopened(replay, tmp_path, replay.save(tmp_path), replay.state_dict())
    replay.cut(random_observation(replay, np.random.default_rng(5)))
    play(replay, 10)
    other = reopened(replay, tmp_path, replay.save(tmp_path), replay.state_dict())
    assert_same_content(replay, other)


def test_the_checkpoint_before_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_store, "SEGMENT_BYTES", 10 * (30 + 8))
    replay = make_memory()
    play(replay, 60)
    manifest, state, expected = replay.save(tmp_path), replay.state_dict(), make_memory()
    play(expected, 60)
    play(replay, 200)  # all that the first manifest lists is overwritten
    replay.save(tmp_path)
    replay.prune(tmp_path)
    replay.save(tmp_path)  # once more at the same point, as when a run is stopped just after it was evaluated
    replay.prune(tmp_path)
    assert_same_content(expected, reopened(replay, tmp_path, manifest, state))


def test_what_no_manifest_needs_is_deleted(tmp_path: Path) -> None:
    replay = make_memory()
    play(replay, 60)
    first = {segment["file"] for segment in replay.save(tmp_path)["segments"]}
    for _ in range(2):
        play(replay, 200)
        replay.save(tmp_path)
        replay.prune(tmp_path)
    assert not first & set(segments(tmp_path))


def test_leftovers_of_a_save_that_was_cut_off_are_ignored_and_go(tmp_path: Path) -> None:
    replay = make_memory()
    play(replay, 30)
    manifest, state = replay.save(tmp_path), replay.state_dict()
    listed = set(segments(tmp_path))
    play(replay, 30)
    replay.save(tmp_path)  # and killed before its manifest was written
    (tmp_path / "lane0000-000000000099-000000000199.tmp").write_bytes(b"half a segm")
    other, expected = reopened(replay, tmp_path, manifest, state), make_memory()
    play(expected, 30)
    assert_same_content(expected, other)
    other.save(tmp_path)
    other.prune(tmp_path)
    assert set(segments(tmp_path)) == listed


def test_going_back_to_an_older_checkpoint_leaves_the_newer_one_whole(tmp_path: Path) -> None:
    replay = make_memory()
    play(replay, 30)
    older = replay.save(tmp_path), replay.state_dict()
    play(replay, 30)
    newer = replay.save(tmp_path), replay.state_dict()
    reopened(replay, tmp_path, *older)  # and killed before it saved anything
    assert_same_content(replay, reopened(replay, tmp_path, *newer))


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def replace_by_text(path: Path) -> None:
    path.write_text("this is no segment")


@pytest.mark.parametrize("damage", [remove, cut_short, empty, change_a_byte, replace_by_text])
def test_damage_is_named_in_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    replay = make_memory(capacity=1000)
    play(replay, 200)
    manifest = replay.save(tmp_path)
    damaged = tmp_path / manifest["segments"][-1]["file"]
    damage(damaged)
    with pytest.raises(CheckpointError) as error:
        reopened(replay, tmp_path, manifest, replay.state_dict())
    message = str(error.value)
    assert str(damaged) in message and "\n" not in message
    assert ("missing" if damage is remove else "damaged") in message


def disk_full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["open", "fsync", "mkdir"])
def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "replay"
    replay = make_memory()
    if place != "mkdir":
        play(replay, 30)
        manifest, state = replay.save(folder), replay.state_dict()
        listed = segments(folder)
    play(replay, 30)
    with monkeypatch.context() as patch:
        if place == "open":
            patch.setattr(builtins, "open", disk_full)
        elif place == "fsync":
            patch.setattr(os, "fsync", disk_full)
        else:
            patch.setattr(Path, "mkdir", disk_full)
        with pytest.raises(StorageError, match="No space left on device.*--no-save-replay") as error:
            replay.save(folder)
    assert "\n" not in str(error.value)
    if place != "mkdir":
        expected = make_memory()
        play(expected, 30)
        assert_same_content(expected, reopened(replay, folder, manifest, state))
        assert segments(folder) == listed


def test_a_save_that_failed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_store, "SEGMENT_BYTES", 10 * (30 + 8))
    replay = make_memory()
    play(replay, 33)
    replay.save(tmp_path)
    play(replay, 28)
    calls, real = [0], os.fsync

    def full_after_three(handle: int) -> None:
        calls[0] += 1
        disk_full() if calls[0] > 6 else real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_three)
        with pytest.raises(StorageError):
            replay.save(tmp_path)
    play(replay, 5)
    manifest = replay.save(tmp_path)
    replay.prune(tmp_path)
    assert_same_content(replay, reopened(replay, tmp_path, manifest, replay.state_dict()))


@pytest.mark.slow
def test_saving_two_gigabytes_takes_no_memory_to_speak_of(tmp_path: Path) -> None:
    replay = Replay(280_000, 4, (4, 84, 84), np.uint8, frame_stack=4)
    first_frame = torch.randint(0, 255, (84, 84), dtype=torch.uint8)
    for row in range(len(replay.frames)):
        replay.frames[row] = first_frame
        replay.frames[row, row % 84] = row % 251
    replay.head[:] = replay.slots - 1
    assert replay.frames.nbytes > 1.9e9
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    replay.save(tmp_path)
    done.set()
    watcher.join()
    assert peak[0] - before < 300e6
