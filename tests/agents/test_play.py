"""Whole games: each a function of its seed, none preferred for being short, forced actions obeyed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import envs
from agents.core import Agent, Purpose
from agents.play import Explorer, Games, game_seeds, play_games
from aprendiz.errors import ConfigError
from envs.core import Env, Step

FIRE = 1


class Always(Agent):
    """Takes one action; notes how many observations it is asked about."""

    def __init__(self, action: int) -> None:
        self.action, self.asked = action, []

    def act(self, observations, explore, generator):
        assert explore == 0.0, "random actions come from each game's own seed"
        self.asked.append(len(observations))
        return np.full(len(observations), self.action)


class Countdown(Env):
    """Lane i's first game lasts seeds[i] steps, and all games after it one step; each step is worth 10.

    Action 2 loses a life, after which the protocol presses FIRE. Notes every action of lane 0.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.spec = SimpleNamespace(num_actions=3, continuous=False)
        self.pressed: list[int] = []
        self.closed = False

    def reset(self, seed):
        self.left = np.array(seed)
        self.length = np.zeros(self.num_envs, np.int64)
        return self.left.copy()

    def send(self, actions):
        self.actions = actions
        self.pressed.append(int(actions[0]))

    def recv(self) -> Step:
        self.left -= 1
        self.length += 1
        ended, length = self.left == 0, self.length.copy()
        self.left[ended], self.length[ended] = 1, 0
        lost = (self.actions == 2) & ~ended
        return Step(
            self.left.copy(), np.full(self.num_envs, 10.0, np.float32), ended, np.zeros_like(ended), self.left.copy(),
            lost, np.where(lost, FIRE, -1), 10.0 * length, length,
        )  # fmt: skip

    def close(self):
        self.closed = True


def cartpole(num_envs: int) -> Env:
    return envs.make("cartpole", num_envs)


def test_one_game_a_seed_and_short_games_count_no_more_than_long_ones():
    seeds = [3, 1, 9, 2, 5]
    games = play_games(Always(0), Countdown, seeds, explore=0.0, lanes=5)
    assert games.lengths.tolist() == seeds and games.scores.tolist() == [30, 10, 90, 20, 50]
    assert games.seeds == seeds


def test_finished_games_are_not_acted_for():
    agent = Always(0)
    play_games(agent, Countdown, [3, 1, 2], explore=0.0)
    assert agent.asked == [3, 2, 1]


def test_forced_actions_are_pressed_without_asking():
    made: list[Countdown] = []
    agent = Always(2)
    play_games(agent, lambda n: made.append(Countdown(n)) or made[-1], [5], explore=0.0)
    assert made[0].pressed == [2, FIRE, 2, FIRE, 2] and len(agent.asked) == 3
    assert made[0].closed


def test_a_game_depends_on_its_own_seed_alone():
    seeds = game_seeds(0, 9, Purpose.EVALUATION)
    together = play_games(Always(0), cartpole, seeds, explore=0.7)
    apart = play_games(Always(0), cartpole, seeds[::-1], explore=0.7, lanes=2)
    assert together.scores.tolist() == apart.scores[::-1].tolist()
    assert len(set(together.scores.tolist())) > 2


@pytest.mark.parametrize(("explore", "expected"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_the_share_of_random_actions_is_explore_and_all_actions_come_up(explore, expected):
    explorer = Explorer(range(50), explore, 3)
    actions = np.array([explorer.next() for _ in range(300)])
    assert (actions >= 0).mean() == pytest.approx(expected, abs=0.02)
    if explore:
        np.testing.assert_allclose(np.bincount(actions[actions >= 0]) / (actions >= 0).sum(), 1 / 3, atol=0.03)


def test_seeds_are_distinct_and_a_longer_list_begins_with_the_shorter():
    seeds = game_seeds(1000, 500, Purpose.EVALUATION)
    assert len(set(seeds)) == 500 and all(0 <= seed < 2**31 for seed in seeds)
    assert game_seeds(1000, 30, Purpose.EVALUATION) == seeds[:30] != game_seeds(1001, 30, Purpose.EVALUATION)


def test_games_that_choose_a_checkpoint_are_never_games_that_are_reported():
    selection = {seed for run in range(20) for seed in game_seeds(run, 200, Purpose.SELECTION)}
    evaluation = {seed for run in range(20) for seed in game_seeds(run, 200, Purpose.EVALUATION)}
    assert all(seed % 2 == 0 for seed in selection) and all(seed % 2 == 1 for seed in evaluation)


def test_progress_counts_games():
    told: list[tuple[int, int]] = []
    games = play_games(Always(0), Countdown, [2, 1], explore=0.0, on_progress=lambda *both: told.append(both))
    assert told == [(1, 2), (2, 2)] and isinstance(games, Games)


def test_wrong_numbers_are_named():
    with pytest.raises(ConfigError, match="explore is 2.0"):
        play_games(Always(0), Countdown, [1], explore=2.0)
    with pytest.raises(ConfigError, match="seed -1 is negative"):
        game_seeds(-1, 3, Purpose.EVALUATION)
    with pytest.raises(ValueError, match="no seeds"):
        play_games(Always(0), Countdown, [], explore=0.0)
