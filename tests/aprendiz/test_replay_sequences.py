"""Sequences out of a replay memory, against a plain record of everything that was played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aprendiz.errors import ConfigError
from aprendiz.replay import Replay
from aprendiz.replay_sequences import sample_sequences

GAMMA = 0.9


class Record:
    """Plays random games into a memory, and keeps lists of what happened. An observation is a number of its own; with
    frames it is a stack of such numbers, 2 rows of 1 pixel, zero before the game."""

    def __init__(self, steps: int, *, lanes: int = 2, capacity: int = 1000, stack: int = 1, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        shape: tuple[int, ...] = (1,) if stack == 1 else (stack, 2, 1)
        self.stack = stack
        dtype = np.float32 if stack == 1 else np.uint8
        self.replay = Replay(capacity, lanes, shape, dtype, frame_stack=stack, discount=GAMMA)
        self.games: list[dict[str, Any]] = []
        now = [self._new_game(lane) for lane in range(lanes)]
        self.replay.start(self._shown(now))
        for _ in range(steps):
            action, reward = random.integers(0, 5, lanes), random.standard_normal(lanes).astype(np.float32)
            over, cut, lost = random.random((3, lanes)) < 0.08
            cut &= ~over
            ended = over | cut
            for lane, game in enumerate(now):
                game["action"].append(int(action[lane]))
                game["reward"].append(float(reward[lane]))
                game["discount"].append(0.0 if over[lane] or lost[lane] else GAMMA)
                game["seen"].append(self._next_number())
            final = self._shown(now)
            now = [self._new_game(lane) if ended[lane] else game for lane, game in enumerate(now)]
            self.replay.add(action, reward, over | lost, ended, self._shown(now), final)

    def _next_number(self) -> int:
        # Frames are bytes: numbers come again, but not soon.
        self.number = getattr(self, "number", 0) + 1
        return 1 + self.number % 251

    def _new_game(self, lane: int) -> dict[str, Any]:
        game = {"lane": lane, "action": [], "reward": [], "discount": [], "seen": [self._next_number()]}
        self.games.append(game)
        return game

    def _shown(self, games: list[dict[str, Any]]) -> np.ndarray:
        return np.stack([self.observation(game, len(game["seen"]) - 1) for game in games])

    def observation(self, game: dict[str, Any], at: int, frames: int | None = None) -> np.ndarray:
        if self.stack == 1:
            return np.array([game["seen"][at]], np.float32)
        frames = frames or self.stack
        past = [game["seen"][i] if i >= 0 else 0 for i in range(at - frames + 1, at + 1)]
        return np.array(past, np.uint8)[:, None, None].repeat(2, axis=1)

    def find(self, first: np.ndarray, action: np.ndarray, reward: np.ndarray) -> tuple[dict[str, Any], int]:
        """The game and the step in it of a sequence: rewards are all different."""
        for game in self.games:
            for at, value in enumerate(game["reward"]):
                if np.float32(value) == reward[0]:
                    return game, at
        raise AssertionError("no such step was ever played")


def check(record: Record, length: int, burn_in: int, frames: int | None = None, draws: int = 300) -> Any:
    """Every sequence is what the record says; returns the batch, and the step of its game each began with."""
    batch = sample_sequences(record.replay, draws, length, np.random.default_rng(1), burn_in=burn_in, frames=frames)
    starts = []
    for b in range(draws):
        action, reward = batch.action[:, b].numpy(), batch.reward[:, b].numpy()
        game, at = record.find(batch.observation[burn_in, b].numpy(), action, reward)
        starts.append((game, at))
        steps = min(length, len(game["action"]) - at)
        assert batch.mask[:, b].tolist() == [1.0] * steps + [0.0] * (length - steps)
        for name, array in (("action", action), ("reward", reward), ("discount", batch.discount[:, b].numpy())):
            assert array[:steps].tolist() == np.array(game[name][at : at + steps], array.dtype).tolist(), name
            assert not array[steps:].any(), name
        back = int(batch.burn_in[b])
        assert back <= min(burn_in, at)
        for time in range(-burn_in, length + 1):
            shown = batch.observation[burn_in + time, b].numpy()
            if -back <= time <= steps:
                assert np.array_equal(shown, record.observation(game, at + time, frames)), (at, time)
            else:
                assert not shown.any(), (at, time)
    return batch, starts


def test_sequences_follow_their_game_and_stop_with_it() -> None:
    batch, _ = check(Record(200), length=6, burn_in=0)
    assert 0 < batch.mask.mean() < 1  # both kinds were drawn


def test_sequences_stop_at_the_write_head_of_a_full_memory() -> None:
    record = Record(400, lanes=3, capacity=120)
    check(record, length=8, burn_in=0)


def test_a_burn_in_reaches_back_to_the_start_of_its_game_and_no_further() -> None:
    batch, starts = check(Record(200), length=4, burn_in=5)
    assert batch.burn_in.tolist() == [min(5, at) for _, at in starts]


def test_a_burn_in_reaches_back_to_what_is_remembered_and_no_further() -> None:
    record = Record(400, lanes=1, capacity=60, seed=3)
    batch, starts = check(record, length=4, burn_in=20, draws=500)
    assert (batch.burn_in < np.array([min(20, at) for _, at in starts])).any()


def test_one_frame_at_a_time_is_the_newest() -> None:
    batch, _ = check(Record(150, stack=3, seed=4), length=5, burn_in=3, frames=1)
    assert batch.observation.shape[2:] == (1, 2, 1)


@pytest.mark.parametrize("frames", [2, None])
def test_stacks_hold_nothing_of_the_game_before(frames: int | None) -> None:
    check(Record(150, stack=3, seed=5), length=5, burn_in=3, frames=frames)


def test_stacks_of_a_full_memory_are_whole() -> None:
    check(Record(400, stack=3, lanes=1, capacity=60, seed=6), length=5, burn_in=8)


def test_every_step_is_equally_likely_to_begin_with() -> None:
    record = Record(40, lanes=2)
    _, starts = check(record, length=3, burn_in=0, draws=4000)
    counts: dict[tuple[int, int], int] = {}
    for game, at in starts:
        key = (id(game), at)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 80  # all steps of both lanes
    assert min(counts.values()) > 20 and max(counts.values()) < 90  # 50 in the mean


def test_games_that_were_cut_off_by_a_restart_end_there() -> None:
    record = Record(50, lanes=2)
    record.replay.cut(np.full((2, 1), 999, np.float32))
    batch = sample_sequences(record.replay, 500, 5, np.random.default_rng(0))
    assert not (batch.observation == 999).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length must be at least 1"),
        ({"length": 3, "burn_in": 300}, "burn_in 0 to 250"),
        ({"length": 3, "frames": 2}, "frames must be 1 to 1"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sample_sequences(Record(20).replay, 4, options.pop("length"), np.random.default_rng(0), **options)


def test_an_empty_memory_has_nothing_to_draw() -> None:
    with pytest.raises(ConfigError, match="no whole transition"):
        sample_sequences(Replay(10, 1, (1,), np.float32), 4, 2, np.random.default_rng(0))
