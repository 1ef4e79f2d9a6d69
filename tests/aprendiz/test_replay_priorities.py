"""Prioritised replay: how often what is drawn, with what weight, what can be drawn at all, and exact saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aprendiz.errors import CheckpointError, ConfigError
from aprendiz.replay import Replay
from aprendiz.replay_kernels import is_whole as transition_is_whole
from aprendiz.replay_priorities import SMALLEST_PRIORITY, importance_weights
from aprendiz.replay_store import is_whole


class Games:
    """N games of vectors that end at random; observations count the steps, so that each tells where it is from."""

    def __init__(self, num_envs: int, seed: int = 0, ends: float = 0.1) -> None:
        self.generator, self.num_envs, self.ends, self.step = np.random.default_rng(seed), num_envs, ends, 0

    def observation(self) -> np.ndarray:
        return np.stack([np.full(1, 1000.0 * lane + self.step, np.float32) for lane in range(self.num_envs)])

    def play(self, replay: Replay, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            ended = self.generator.random(self.num_envs) < self.ends
            action = self.generator.integers(0, 4, self.num_envs)
            final = self.observation()
            replay.add(action, action.astype(np.float32), ended, ended, final, final)


def make(capacity: int = 200, num_envs: int = 2, *, n_step: int = 1, exponent: float = 1.0, seed: int = 0) -> Replay:
    replay = Replay(capacity, num_envs, (1,), np.float32, n_step=n_step, priority_exponent=exponent)
    replay.start(Games(num_envs, seed).observation())
    return replay


def filled(steps: int, **options: int) -> tuple[Replay, Games]:
    replay = make(**options)  # type: ignore[arg-type]
    games = Games(replay.num_envs)
    games.play(replay, steps)
    return replay, games


def drawable(replay: Replay) -> set[tuple[int, int]]:
    """Lane and position of all that can be drawn."""
    assert replay.priorities is not None
    lane, slot = np.divmod(np.flatnonzero(replay.priorities.tree.leaves), replay.slots)
    position = replay.head[lane] - 1 - (replay.head[lane] - 1 - slot) % replay.slots
    return set(zip(lane.tolist(), position.tolist(), strict=True))


def whole(replay: Replay) -> set[tuple[int, int]]:
    """What a uniform draw would accept."""
    oldest = replay.oldest()
    pairs = [(lane, at) for lane in range(replay.num_envs) for at in range(oldest[lane], replay.head[lane])]
    options = replay.head, oldest, replay.flags, replay.age, replay.frame_stack, replay.n_step, replay.slots
    return {(lane, at) for lane, at in pairs if transition_is_whole(lane, at, *options)}


# The draw


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_transitions_are_drawn_in_proportion_to_the_power_of_their_priorities(exponent: float) -> None:
    replay, _ = filled(30, exponent=exponent)  # type: ignore[arg-type]
    pairs = np.array(sorted(drawable(replay)))
    priorities = np.random.default_rng(1).uniform(0.1, 5.0, len(pairs))
    replay.update_priorities(pairs, priorities)
    generator, counts = np.random.default_rng(2), dict.fromkeys(map(tuple, pairs.tolist()), 0)
    for _ in range(400):
        batch = replay.sample(100, generator)
        assert batch.indices is not None
        for pair in batch.indices.tolist():
            counts[tuple(pair)] += 1
    expected = (priorities + SMALLEST_PRIORITY) ** exponent
    expected = 40_000 * expected / expected.sum()
    np.testing.assert_allclose([counts[tuple(pair)] for pair in pairs.tolist()], expected, rtol=0.25)


def test_weights_by_hand() -> None:
    # N P = 4 * (1, 2, 5) / 8 = 0.5, 1, 2.5; to the power of -0.5; the greatest of the batch is that of 0.5
    values = np.array([1.0, 2.0, 5.0])
    by_hand = np.array([0.5, 1.0, 2.5]) ** -0.5 / 0.5**-0.5
    np.testing.assert_allclose(importance_weights(values, 0.5), by_hand, rtol=1e-6)
    assert importance_weights(values, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_weights_of_a_batch_follow_the_formula() -> None:
    replay, _ = filled(40, exponent=0.6)  # type: ignore[arg-type]
    pairs = np.array(sorted(drawable(replay)))
    priorities = np.random.default_rng(1).uniform(0.0, 5.0, len(pairs))
    replay.update_priorities(pairs, priorities)
    batch = replay.sample(32, np.random.default_rng(0), importance_exponent=0.7)
    assert batch.indices is not None and batch.weights is not None
    total, weights = sum((p + SMALLEST_PRIORITY) ** 0.6 for p in priorities), []
    for pair in batch.indices.tolist():
        probability = (priorities[pairs.tolist().index(pair)] + SMALLEST_PRIORITY) ** 0.6 / total
        weights.append((len(pairs) * probability) ** -0.7)
    np.testing.assert_allclose(batch.weights.numpy(), np.array(weights) / max(weights), rtol=1e-4)
    assert float(batch.weights.max()) == 1.0


@pytest.mark.parametrize(("highest", "given"), [(7.0, 7.0), (0.5, 1.0)])
def test_new_transitions_have_the_highest_priority_so_far(highest: float, given: float) -> None:
    replay, games = filled(20, num_envs=1)
    replay.update_priorities(np.array(sorted(drawable(replay))), np.full(len(drawable(replay)), 0.25))
    replay.update_priorities(np.array([[0, 3]]), np.array([highest]))
    replay.update_priorities(np.array([[0, 3]]), np.array([0.25]))
    before = drawable(replay)
    games.play(replay, 3)
    assert replay.priorities is not None
    new = [replay.priorities.tree.leaves[at % replay.slots] for _, at in drawable(replay) - before]
    assert len(new) == 3
    assert new == pytest.approx([given] * 3, rel=1e-5)


def test_errors_have_no_sign() -> None:
    replay, _ = filled(20, num_envs=1)
    replay.update_priorities(np.array([[0, 3]]), np.array([-2.0]))
    assert replay.priorities is not None
    assert replay.priorities.tree.leaves[3] == pytest.approx(2.0, rel=1e-5)


def test_a_batch_is_what_its_indices_say() -> None:
    ours, _ = filled(150, capacity=100, n_step=3)
    batch = ours.sample(64, np.random.default_rng(0))
    assert batch.indices is not None
    lane, position = batch.indices.T
    reward, discount, *_ = ours._window(lane, position)
    np.testing.assert_array_equal(batch.reward.numpy(), reward)
    np.testing.assert_array_equal(batch.discount.numpy(), discount)
    np.testing.assert_array_equal(batch.action.numpy(), ours.action[lane, position % ours.slots])


def test_an_empty_memory_says_so() -> None:
    with pytest.raises(ConfigError, match="no whole transition"):
        make().sample(1, np.random.default_rng(0))


def test_a_uniform_draw_has_no_weights_and_takes_no_priorities() -> None:
    replay = Replay(50, 1, (1,), np.float32)
    replay.start(np.zeros((1, 1), np.float32))
    Games(1).play(replay, 10)
    batch = replay.sample(4, np.random.default_rng(0))
    assert batch.weights is None and batch.indices is not None
    replay.update_priorities(batch.indices, np.ones(4))
    assert "priorities" not in replay.state_dict()


# What can be drawn


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("steps", [1, 5, 40, 49, 50, 51, 52, 53, 120])
def test_what_can_be_drawn_is_whole_and_nothing_whole_is_missing_for_long(steps: int, n_step: int) -> None:
    replay, _ = filled(steps, capacity=100, n_step=n_step)
    ours, accepted = drawable(replay), whole(replay)
    assert ours <= accepted
    late = [(lane, at) for lane, at in accepted - ours if at < replay.head[lane] - n_step]
    assert late == []  # a window that closed early because its game ended waits with the others


def test_stacks_that_reach_into_what_is_overwritten_are_not_drawn() -> None:
    replay = Replay(60, 2, (4, 6, 6), np.uint8, frame_stack=4, priority_exponent=0.5)
    observation = np.zeros((2, 4, 6, 6), np.uint8)
    replay.start(observation)
    no = np.zeros(2, bool)
    for _ in range(200):
        replay.add(np.zeros(2, np.int64), np.zeros(2, np.float32), no, no, observation, observation)
        assert drawable(replay) <= whole(replay)
    assert len(drawable(replay)) >= 60


def test_games_cut_off_by_a_restart_stay_whole() -> None:
    replay, games = filled(30, n_step=3)
    replay.cut(games.observation())
    assert drawable(replay) <= whole(replay)
    games.play(replay, 10)
    assert drawable(replay) <= whole(replay)


def test_what_was_overwritten_since_is_not_updated() -> None:
    replay, games = filled(20, capacity=100)
    batch = replay.sample(8, np.random.default_rng(0))
    assert batch.indices is not None and replay.priorities is not None
    games.play(replay, 100)  # twice round
    before = replay.priorities.tree.leaves.copy()
    replay.update_priorities(batch.indices, np.full(8, 99.0))
    np.testing.assert_array_equal(replay.priorities.tree.leaves, before)
    assert replay.priorities.highest < 99


def test_what_is_not_finite_leaves_the_tree_alone() -> None:
    replay, _ = filled(20)
    pairs = np.array(sorted(drawable(replay)))[:3]
    replay.update_priorities(pairs, np.array([np.nan, np.inf, 2.0]))
    assert replay.priorities is not None
    assert np.isfinite(replay.priorities.tree.total) and np.isfinite(replay.priorities.highest)
    assert replay.priorities.tree.leaves[pairs[2, 0] * replay.slots + pairs[2, 1]] == pytest.approx(2.0, rel=1e-5)


# Saving


def trained(replay: Replay, games: Games, rounds: int, generator: np.random.Generator) -> None:
    for _ in range(rounds):
        games.play(replay, 3)
        batch = replay.sample(8, generator, importance_exponent=0.5)
        assert batch.indices is not None
        replay.update_priorities(batch.indices, generator.random(8) * 3)


def test_a_resumed_memory_draws_as_if_nothing_had_happened(tmp_path: Path) -> None:
    replay, games = filled(60, capacity=100, n_step=3)
    generator = np.random.default_rng(5)
    trained(replay, games, 20, generator)
    manifest, state = replay.save(tmp_path), replay.state_dict()
    resumed = make(100, n_step=3, seed=9)
    resumed.load(tmp_path, manifest)
    resumed.load_state_dict(state)
    assert resumed.priorities is not None and replay.priorities is not None
    assert resumed.priorities.tree.nodes.tobytes() == replay.priorities.tree.nodes.tobytes()
    assert resumed.priorities.highest == replay.priorities.highest
    again, their_games = np.random.default_rng(6), Games(2, seed=7)
    trained(replay, their_games, 10, np.random.default_rng(6))
    trained(resumed, Games(2, seed=7), 10, again)
    assert resumed.priorities.tree.nodes.tobytes() == replay.priorities.tree.nodes.tobytes()


def test_a_kill_after_the_next_save_leaves_the_older_checkpoint_whole(tmp_path: Path) -> None:
    replay, games = filled(60)
    generator = np.random.default_rng(0)
    first, state = replay.save(tmp_path), replay.state_dict()
    assert replay.priorities is not None
    leaves = replay.priorities.tree.leaves.copy()
    replay.prune(tmp_path)
    trained(replay, games, 5, generator)
    second = replay.save(tmp_path)
    replay.prune(tmp_path)
    assert first["priorities"] != second["priorities"]
    assert is_whole(tmp_path, first) and is_whole(tmp_path, second)
    resumed = make()
    resumed.load(tmp_path, first)
    resumed.load_state_dict(state)
    assert resumed.priorities is not None
    np.testing.assert_array_equal(resumed.priorities.tree.leaves, leaves)
    trained(replay, games, 5, generator)
    replay.save(tmp_path)
    replay.prune(tmp_path)
    assert not is_whole(tmp_path, first)
    assert len(list(tmp_path.glob("priorities*"))) == 2


def test_two_saves_at_one_point_are_one_file(tmp_path: Path) -> None:
    replay, games = filled(60)
    older = replay.save(tmp_path)
    trained(replay, games, 5, np.random.default_rng(0))
    replay.save(tmp_path)
    assert replay.save(tmp_path) == replay.save(tmp_path)
    replay.prune(tmp_path)
    assert is_whole(tmp_path, older)  # it is still the checkpoint to fall back on


def test_lost_or_damaged_priorities_are_named(tmp_path: Path) -> None:
    replay, _ = filled(60)
    manifest = replay.save(tmp_path)
    file = tmp_path / manifest["priorities"]["file"]
    file.write_bytes(b"no zstandard at all")
    assert not is_whole(tmp_path, manifest)
    with pytest.raises(CheckpointError, match="priorities.* is damaged"):
        make().load(tmp_path, manifest)
    file.unlink()
    with pytest.raises(CheckpointError, match="priorities.* is missing"):
        make().load(tmp_path, manifest)
    with pytest.raises(CheckpointError, match="without priorities"):
        make().load(tmp_path, {"segments": manifest["segments"]})
