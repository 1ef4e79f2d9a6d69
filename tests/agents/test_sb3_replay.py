"""The library's replay memory as arrays on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from agents import sb3_replay
from agents.sb3_replay import RowStore
from aprendiz.errors import CheckpointError
from aprendiz.replay_store import is_whole

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def new_buffer(rows: int = 10) -> ReplayBuffer:
    return ReplayBuffer(rows * 2, Box(0, 255, (3, 4, 4), np.uint8), Discrete(5), device="cpu", n_envs=2)


def add(store: RowStore, count: int) -> None:
    """Rows whose numbers tell which they are."""
    for _ in range(count):
        generator = np.random.default_rng(store.rows)
        seen, following = generator.integers(0, 256, (2, 2, 3, 4, 4), np.uint8)
        done = generator.random(2) < 0.3
        infos = [{"TimeLimit.truncated": bool(one and generator.random() < 0.5)} for one in done]
        store.buffer.add(seen, following, generator.integers(0, 5, 2), generator.normal(size=2), done, infos)
        store.rows += 1


def assert_same(left: ReplayBuffer, right: ReplayBuffer) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert (left.pos, left.full) == (right.pos, right.full)


@pytest.mark.parametrize("rows", [3, 10, 27])
def test_what_is_saved_comes_back(tmp_path: Path, rows: int) -> None:
    store, other = RowStore(new_buffer()), RowStore(new_buffer())
    add(store, rows)
    other.load(tmp_path, store.save(tmp_path))
    assert_same(store.buffer, other.buffer)


def test_many_small_segments_are_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3_replay, "SEGMENT_BYTES", 500)
    store, other = RowStore(new_buffer()), RowStore(new_buffer())
    add(store, 14)
    manifest = store.save(tmp_path)
    other.load(tmp_path, manifest)
    assert len(manifest["segments"]) > 3
    assert_same(store.buffer, other.buffer)


def test_a_second_save_writes_only_what_is_new(tmp_path: Path) -> None:
    store, other = RowStore(new_buffer()), RowStore(new_buffer())
    add(store, 4)
    first = store.save(tmp_path)
    add(store, 3)
    second = store.save(tmp_path)
    assert second["segments"][0] == first["segments"][0] and second["segments"][1]["start"] == 4
    other.load(tmp_path, second)
    assert_same(store.buffer, other.buffer)


def test_a_loaded_store_goes_on_saving(tmp_path: Path) -> None:
    store, other, third = (RowStore(new_buffer()) for _ in range(3))
    add(store, 12)
    other.load(tmp_path, store.save(tmp_path))
    add(other, 5)
    third.load(tmp_path, other.save(tmp_path))
    assert_same(other.buffer, third.buffer)


def test_the_checkpoint_before_stays_whole(tmp_path: Path) -> None:
    store = RowStore(new_buffer())
    manifests = []
    for _ in range(3):
        add(store, 10)
        manifests.append(store.save(tmp_path))
        store.prune(tmp_path)
    assert [is_whole(tmp_path, manifest) for manifest in manifests] == [False, True, True]


def test_games_that_break_off_are_cut(tmp_path: Path) -> None:
    store = RowStore(NStepReplayBuffer(20, Box(0, 1, (1,), np.float32), Discrete(2), "cpu", n_steps=3, gamma=1.0))
    for step in range(6):
        now, following = np.array([[step]], np.float32), np.array([[step + 1]], np.float32)
        store.buffer.add(now, following, np.array([0]), np.array([1.0]), np.array([False]), [{}])
        store.rows += 1
        if step == 3:
            store.cut()
    found = store.buffer._get_samples(np.array([2]))
    assert found.rewards.tolist() == [[2.0]]  # steps 2 and 3, not 4
    assert found.next_observations.tolist() == [[4.0]] and found.dones.tolist() == [[0.0]]


def test_a_cut_is_saved_though_its_row_was(tmp_path: Path) -> None:
    store, other = RowStore(new_buffer()), RowStore(new_buffer())
    add(store, 4)
    store.save(tmp_path)
    store.cut()
    add(store, 1)
    other.load(tmp_path, store.save(tmp_path))
    assert_same(store.buffer, other.buffer)


def test_a_damaged_segment_is_told(tmp_path: Path) -> None:
    store = RowStore(new_buffer())
    add(store, 4)
    manifest = store.save(tmp_path)
    path = tmp_path / manifest["segments"][0]["file"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        RowStore(new_buffer()).load(tmp_path, manifest)
