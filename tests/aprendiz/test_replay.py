"""The replay memory against whole games kept in plain lists, with every transition written out step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from aprendiz.errors import ConfigError
from aprendiz.replay import Batch, Replay

GAMMA = 0.9


@dataclass
class Game:
    """One game of one lane; `observations` are whole (stacked) and one longer than the rest once something was done."""

    first_position: int
    observations: list[np.ndarray]
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    worthless: list[bool] = field(default_factory=list)
    """Where nothing of value follows: game over, life lost."""
    ended: bool = False


class Player:
    """Plays games of random frames in N lanes into a replay memory, and keeps every one of them whole."""

    def __init__(self, seed: int, lanes: int, kind: str, stack: int, end: float = 0.12) -> None:
        self.generator = np.random.default_rng(seed)
        self.lanes, self.kind, self.stack, self.end = lanes, kind, stack, end
        self.games: list[list[Game]] = [[] for _ in range(lanes)]

    @property
    def shape(self) -> tuple[int, ...]:
        return {"image": (self.stack, 3, 2), "vector": (5,), "discrete": ()}[self.kind]

    @property
    def dtype(self) -> Any:
        return {"image": np.uint8, "vector": np.float32, "discrete": np.int64}[self.kind]

    def memory(self, capacity: int, n_step: int = 1, priority_exponent: float | None = None) -> Replay:
        stack = self.stack if self.kind == "image" else 1
        options = {"frame_stack": stack, "discount": GAMMA, "n_step": n_step, "priority_exponent": priority_exponent}
        return Replay(capacity, self.lanes, self.shape, self.dtype, **options)

    def first_observation(self) -> np.ndarray:
        observation = self._random()
        if self.kind == "image":
            observation[:-1] = 0  # as environments pad: nothing was seen before the game began
        return observation

    def next_observation(self, observation: np.ndarray) -> np.ndarray:
        new = self._random()
        if self.kind == "image":
            new[:-1] = observation[1:]
        return new

    def _random(self) -> np.ndarray:
        if self.kind == "vector":
            return self.generator.standard_normal(self.shape).astype(np.float32)
        # Above zero, so that a frame is never taken for padding.
        return np.array(self.generator.integers(1, 250, self.shape), self.dtype)

    def start(self, replay: Replay) -> None:
        for games in self.games:
            games.append(Game(0, [self.first_observation()]))
        replay.start(self.current())

    def current(self) -> np.ndarray:
        return np.stack([games[-1].observations[-1] for games in self.games])

    def play(self, replay: Replay, steps: int) -> None:
        for _ in range(steps):
            action = self.generator.integers(0, 6, self.lanes)
            reward = self.generator.standard_normal(self.lanes).astype(np.float32)
            terminated = self.generator.random(self.lanes) < self.end / 2
            truncated = (self.generator.random(self.lanes) < self.end / 2) & ~terminated
            life_lost = (self.generator.random(self.lanes) < 0.1) & ~terminated & ~truncated
            observation, final = [], []
            for lane, games in enumerate(self.games):
                game = games[-1]
                game.actions.append(int(action[lane]))
                game.rewards.append(float(reward[lane]))
                game.worthless.append(bool(terminated[lane] or life_lost[lane]))
                game.observations.append(self.next_observation(game.observations[-1]))
                final.append(game.observations[-1])
                if terminated[lane] or truncated[lane]:
                    self.new_game(lane)
                observation.append(games[-1].observations[-1])
            replay.add(
                action, reward, terminated | life_lost, terminated | truncated, np.stack(observation), np.stack(final)
            )

    def new_game(self, lane: int) -> None:
        last = self.games[lane][-1]
        last.ended = True
        first_position = last.first_position + len(last.observations)
        self.games[lane].append(Game(first_position, [self.first_observation()]))


@dataclass
class Transition:
    observation: np.ndarray
    action: int
    reward: float
    discount: float
    next_observation: np.ndarray


def whole_transitions(player: Player, replay: Replay, n_step: int) -> dict[tuple[int, int], Transition]:
    """Everything that may be sampled, by lane and position: its stack and its window lie inside the memory."""
    result = {}
    for lane, games in enumerate(player.games):
        newest = games[-1].first_position + len(games[-1].observations) - 1
        oldest = newest - replay.slots + 1
        for game in games:
            for t in range(len(game.actions)):
                stack = player.stack if player.kind == "image" else 1
                first_frame = game.first_position + max(0, t - stack + 1)
                reward, discount, steps, complete = 0.0, 1.0, 0, False
                while t + steps < len(game.actions) and not complete:
                    reward += discount * game.rewards[t + steps]
                    discount *= GAMMA
                    if game.worthless[t + steps]:
                        discount, complete = 0.0, True
                    steps += 1
                    complete |= steps == n_step or (game.ended and t + steps == len(game.actions))
                if complete and first_frame >= oldest:
                    result[lane, game.first_position + t] = Transition(
                        game.observations[t], game.actions[t], reward, discount, game.observations[t + steps]
                    )
    return result


def keys(batch: Batch) -> list[tuple[int, int]]:
    assert batch.indices is not None
    return [(int(lane), int(position)) for lane, position in batch.indices]


def assert_equals_games(replay: Replay, player: Player, n_step: int, seed: int = 0) -> None:
    """What can be sampled is exactly what is whole, and equals it. By priority a window that closed early, since its
    game ended, comes a few steps later, and the first steps of a game go as soon as a stack of theirs would."""
    expected = whole_transitions(player, replay, n_step)
    batch = replay.sample(40 * len(expected), np.random.default_rng(seed))
    missing = set(expected) - set(keys(batch))
    assert set(keys(batch)) <= set(expected)
    assert not missing or replay.priorities is not None
    for lane, position in missing:
        first = replay.head[lane] - replay.slots + replay.frame_stack
        assert not first <= position < replay.head[lane] - n_step
    rows = [expected[key] for key in keys(batch)]
    np.testing.assert_array_equal(batch.observation.numpy(), np.stack([row.observation for row in rows]))
    np.testing.assert_array_equal(batch.action.numpy(), [row.action for row in rows])
    np.testing.assert_allclose(batch.reward.numpy(), [row.reward for row in rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.discount.numpy(), [row.discount for row in rows], rtol=1e-6)
    np.testing.assert_array_equal(batch.next_observation.numpy(), np.stack([row.next_observation for row in rows]))


@pytest.fixture(params=["kernels", "tensors"])
def where(request: pytest.FixtureRequest) -> str:
    """How stacks are gathered: by compiled loops, as where they lie in the processor's memory, or by PyTorch's
    operations, as on a GPU."""
    return str(request.param)


def gathered(replay: Replay, where: str) -> Replay:
    if where == "tensors":
        replay._pixels = None
    return replay


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("priority_exponent", [None, 0.5])
@pytest.mark.parametrize(("kind", "stack"), [("image", 4), ("image", 3), ("image", 1), ("vector", 1), ("discrete", 1)])
def test_samples_equal_the_games_written_out(
    kind: str, stack: int, priority_exponent: float | None, n_step: int, where: str
) -> None:
    player = Player(seed=3, lanes=3, kind=kind, stack=stack)
    replay = gathered(player.memory(90, n_step, priority_exponent), where)
    player.start(replay)
    for _ in range(12):  # some 30 slots a lane, filled five times over
        player.play(replay, 13)
        assert_equals_games(replay, player, n_step)


def test_nothing_of_a_finished_game_is_lost() -> None:
    player = Player(seed=1, lanes=2, kind="image", stack=4)
    replay = player.memory(capacity=2000, n_step=3)
    player.start(replay)
    player.play(replay, 300)
    sampled = set(keys(replay.sample(40_000, np.random.default_rng(0))))
    finished = {
        (lane, game.first_position + t)
        for lane, games in enumerate(player.games)
        for game in games
        if game.ended
        for t in range(len(game.actions))
    }
    assert len(finished) > 400 and finished <= sampled


def small_memory(n_step: int = 1, stack: int = 1) -> Replay:
    shape = (stack, 1, 1) if stack > 1 else (1,)
    return Replay(20, 1, shape, np.uint8, frame_stack=stack, discount=0.5, n_step=n_step)


def add(replay: Replay, frame: int, *, action: int = 0, over: bool = False, end: bool = False, new: int = 0) -> None:
    """One step to `frame`; where the game ended the next one begins with `new`."""

    def observation(newest: int) -> np.ndarray:
        shape = (1, *replay.observation_shape)
        result = np.full(shape, 255, np.uint8)  # only the newest frame of a stack is to be read
        result.reshape(1, -1)[:, -1] = newest
        return result

    ended = over or end
    replay.add(
        np.array([action]),
        np.array([float(frame)], np.float32),
        np.array([over]),
        np.array([ended]),
        observation(new if ended else frame),
        observation(frame),
    )


def first(replay: Replay, frame: int) -> None:
    observation = np.zeros((1, *replay.observation_shape), np.uint8)
    observation.reshape(1, -1)[:, -1] = frame
    replay.start(observation)


def at(replay: Replay, position: int) -> dict[str, Any]:
    """What is sampled at a position of the only lane."""
    batch = replay.sample(500, np.random.default_rng(0))
    row = keys(batch).index((0, position))
    return {
        "observation": batch.observation[row].flatten().tolist(),
        "reward": batch.reward[row].item(),
        "discount": batch.discount[row].item(),
        "next": batch.next_observation[row].flatten().tolist(),
    }


def test_a_time_limit_bootstraps_from_the_true_last_observation() -> None:
    replay = small_memory(stack=2)
    first(replay, 1)
    add(replay, 2)
    add(replay, 3, end=True, new=7)
    assert at(replay, 1) == {"observation": [1, 2], "reward": 3.0, "discount": 0.5, "next": [2, 3]}


def test_a_stack_holds_nothing_of_the_game_before(where: str) -> None:
    replay = gathered(small_memory(stack=4), where)
    first(replay, 1)
    add(replay, 2)
    add(replay, 3, over=True, new=7)
    add(replay, 8)
    add(replay, 9)
    assert at(replay, 3) == {"observation": [0, 0, 0, 7], "reward": 8.0, "discount": 0.5, "next": [0, 0, 7, 8]}
    assert at(replay, 4) == {"observation": [0, 0, 7, 8], "reward": 9.0, "discount": 0.5, "next": [0, 7, 8, 9]}


def test_a_window_ends_with_its_game() -> None:
    replay = small_memory(n_step=3)
    first(replay, 1)
    add(replay, 2)
    add(replay, 4, end=True, new=7)
    # r + gamma r' and gamma^2, though three steps were asked for
    assert at(replay, 0) == {"observation": [1], "reward": 2.0 + 0.5 * 4.0, "discount": 0.25, "next": [4]}
    assert at(replay, 1) == {"observation": [2], "reward": 4.0, "discount": 0.5, "next": [4]}


def test_a_window_that_is_not_complete_waits() -> None:
    replay = small_memory(n_step=3)
    first(replay, 1)
    for frame in (2, 3, 4, 5):
        add(replay, frame)
    assert set(keys(replay.sample(200, np.random.default_rng(0)))) == {(0, 0), (0, 1)}


def test_nothing_of_value_follows_a_lost_life() -> None:
    replay = small_memory(n_step=3)
    first(replay, 1)
    replay.add(
        np.array([0]),
        np.array([2.0], np.float32),
        np.array([True]),
        np.array([False]),  # the game goes on
        np.array([[2]], np.uint8),
        np.array([[2]], np.uint8),
    )
    add(replay, 3)
    assert at(replay, 0) == {"observation": [1], "reward": 2.0, "discount": 0.0, "next": [2]}


def test_a_game_may_be_longer_than_its_age_can_count() -> None:
    player = Player(seed=1, lanes=1, kind="image", stack=4, end=0.0)
    replay = player.memory(capacity=700)
    player.start(replay)
    player.play(replay, 600)
    assert_equals_games(replay, player, 1)


@pytest.mark.parametrize("n_step", [1, 3])
def test_every_whole_transition_is_equally_likely(n_step: int) -> None:
    player = Player(seed=5, lanes=3, kind="discrete", stack=1, end=0.3)
    replay = player.memory(capacity=60, n_step=n_step)
    player.start(replay)
    player.play(replay, 100)
    expected = whole_transitions(player, replay, n_step)
    draws = 400 * len(expected)
    sampled = keys(replay.sample(draws, np.random.default_rng(0)))
    counts = np.array([sampled.count(key) for key in expected])
    assert counts.sum() == draws
    chi_square = float(((counts - 400) ** 2 / 400).sum())
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_an_empty_memory_says_so() -> None:
    replay = small_memory()
    first(replay, 1)
    with pytest.raises(ConfigError, match="no whole transition"):
        replay.sample(1, np.random.default_rng(0))


def test_what_is_stored_comes_back_in_its_own_type() -> None:
    for kind in ("image", "vector", "discrete"):
        player = Player(seed=0, lanes=2, kind=kind, stack=1)
        replay = player.memory(capacity=50)
        player.start(replay)
        player.play(replay, 20)
        batch = replay.sample(7, np.random.default_rng(0))
        assert batch.observation.shape == batch.next_observation.shape == (7, *player.shape)
        assert batch.observation.numpy().dtype == batch.next_observation.numpy().dtype == player.dtype
        assert batch.action.numpy().dtype == np.int64
        assert batch.reward.numpy().dtype == batch.discount.numpy().dtype == np.float32


def test_rewards_are_stored_unchanged() -> None:
    replay = small_memory()
    first(replay, 1)
    replay.add(
        np.array([3]),
        np.array([-123.456], np.float32),
        np.array([True]),
        np.array([True]),
        np.array([[5]], np.uint8),
        np.array([[4]], np.uint8),
    )
    batch = replay.sample(1, np.random.default_rng(0))
    assert batch.reward.item() == np.float32(-123.456) and batch.action.item() == 3


def test_the_same_generator_samples_the_same() -> None:
    player = Player(seed=0, lanes=2, kind="vector", stack=1)
    replay = player.memory(capacity=50)
    player.start(replay)
    player.play(replay, 60)
    first_batch, second_batch = (replay.sample(32, np.random.default_rng(9)) for _ in range(2))
    assert keys(first_batch) == keys(second_batch)


def test_a_batch_does_not_change_when_the_memory_does() -> None:
    player = Player(seed=0, lanes=1, kind="image", stack=4)
    replay = player.memory(capacity=30)
    player.start(replay)
    player.play(replay, 30)
    batch = replay.sample(32, np.random.default_rng(0))
    before = batch.observation.clone(), batch.next_observation.clone()
    player.play(replay, 60)
    assert (batch.observation == before[0]).all() and (batch.next_observation == before[1]).all()


@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_a_million_atari_transitions_fit_into_7_2_gigabytes(lanes: int) -> None:
    needed = Replay.bytes_needed(1_000_000, lanes, (4, 84, 84), np.uint8, 4, n_step=3)
    assert 1_000_000 * 84 * 84 < needed <= 7.2e9


def test_bytes_needed_is_what_the_arrays_take() -> None:
    replay = Replay(1000, 4, (4, 10, 10), np.uint8, frame_stack=4, n_step=3)
    taken = replay.frames.nbytes + sum(
        array.nbytes for array in (replay.action, replay.reward, replay.flags, replay.age)
    )
    assert taken == Replay.bytes_needed(1000, 4, (4, 10, 10), np.uint8, 4, n_step=3)


def test_the_capacity_is_held_where_games_are_long() -> None:
    player = Player(seed=2, lanes=4, kind="discrete", stack=1, end=0.01)
    replay = player.memory(capacity=2000)
    player.start(replay)
    player.play(replay, 1500)
    assert len(whole_transitions(player, replay, 1)) >= 2000


def test_a_memory_smaller_than_the_lanes_is_refused() -> None:
    with pytest.raises(ConfigError, match="capacity 3 .* 4"):
        Replay(3, 4, (2,), np.float32)


@pytest.mark.parametrize("n_step", [1, 3])
def test_games_that_were_cut_end_with_what_was_seen_last(n_step: int, where: str) -> None:
    player = Player(seed=4, lanes=3, kind="image", stack=4)
    replay = gathered(player.memory(capacity=300, n_step=n_step), where)
    player.start(replay)
    for steps in (1, 25, 40):
        player.play(replay, steps)
        cut_and_restart(player, replay)
        player.play(replay, 2)
        assert_equals_games(replay, player, n_step)


def test_cutting_twice_replaces_games_in_which_nothing_was_done() -> None:
    player = Player(seed=4, lanes=2, kind="image", stack=4)
    replay = player.memory(capacity=300, n_step=3)
    player.start(replay)
    player.play(replay, 30)
    cut_and_restart(player, replay)
    cut_and_restart(player, replay)
    player.play(replay, 5)
    assert_equals_games(replay, player, 3)


def cut_and_restart(player: Player, replay: Replay) -> None:
    """The environments were restarted: every game in progress stops where it is, as if by a time limit."""
    for lane, games in enumerate(player.games):
        if games[-1].actions:
            player.new_game(lane)
        else:
            games[-1].observations = [player.first_observation()]
    replay.cut(player.current())
