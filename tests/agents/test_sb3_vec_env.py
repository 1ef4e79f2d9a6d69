"""What Stable-Baselines3 is told of our games."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from agents.sb3_vec_env import GameVecEnv, SpacesVecEnv
from envs.core import Env, EnvSpec, Step


class Scripted(Env):
    """Three games whose next step is written down; lane 2 must press 3 after a lost life."""

    def __init__(self) -> None:
        self.num_envs = 3
        self.spec = EnvSpec(
            name="scripted",
            observation_kind="vector",
            observation_space=Box(-np.inf, np.inf, (1,), np.float32),
            action_space=Discrete(4),
            default_env_steps=100,
        )
        self.forced = np.full(3, -1, np.int64)
        self.pressed: list[list[int]] = []
        self.flags: dict[str, list[bool]] = {}
        self.reward = [5.0, -3.0, 0.0]

    @property
    def forced_action(self) -> np.ndarray:
        return self.forced

    def reset(self, seed: Any) -> np.ndarray:
        return np.full((3, 1), seed, np.float32)

    def send(self, actions: np.ndarray) -> None:
        self.pressed.append(actions.tolist())

    def recv(self) -> Step:
        def flag(name: str) -> np.ndarray:
            return np.array(self.flags.get(name, [False] * 3))

        final = np.array([[10.0], [11.0], [12.0]], np.float32)
        return Step(
            observation=np.array([[0.0], [1.0], [2.0]], np.float32),
            reward=np.array(self.reward, np.float32),
            terminated=flag("terminated"),
            truncated=flag("truncated"),
            final_observation=final,
            life_lost=flag("life_lost"),
            forced_action=self.forced,
            score=np.array([100.0, 200.0, 300.0]),
            length=np.array([7, 8, 9]),
        )


def wrapped(games: Scripted, **changes: Any) -> GameVecEnv:
    options = {"clip_rewards": False, "life_loss_ends_value": True, "stores_forced_actions": True} | changes
    return GameVecEnv(games, games.spec.action_space, seed=4, **options)


def played(games: Scripted, **changes: Any) -> tuple[Any, Any, Any, Any]:
    return wrapped(games, **changes).step(np.array([0, 1, 2]))  # type: ignore[return-value]


def test_the_first_games_are_those_of_the_seed() -> None:
    assert wrapped(Scripted()).reset().tolist() == [[4.0]] * 3


def test_an_ended_game_hands_over_its_last_observation() -> None:
    games = Scripted()
    games.flags = {"terminated": [False, True, False]}
    observation, _, dones, infos = played(games)
    assert observation[1].tolist() == [1.0] and infos[1]["terminal_observation"].tolist() == [11.0]
    assert dones.tolist() == [False, True, False] and infos[0] == infos[2] == {}


def test_a_time_limit_is_told_apart_from_an_end() -> None:
    games = Scripted()
    games.flags = {"terminated": [True, False, False], "truncated": [False, True, False]}
    _, _, dones, infos = played(games)
    assert dones.tolist() == [True, True, False]
    assert [info.get("TimeLimit.truncated") for info in infos] == [False, True, None]


def test_a_lost_life_is_done_and_the_game_goes_on() -> None:
    games = Scripted()
    games.flags = {"life_lost": [False, False, True]}
    _, _, dones, infos = played(games)
    assert dones.tolist() == [False, False, True] and infos[2] == {}


def test_a_lost_life_is_nothing_where_asked() -> None:
    games = Scripted()
    games.flags = {"life_lost": [False, False, True]}
    assert not played(games, life_loss_ends_value=False)[2].any()


def test_rewards_are_clipped_where_asked() -> None:
    assert played(Scripted(), clip_rewards=True)[1].tolist() == [1.0, -1.0, 0.0]
    assert played(Scripted())[1].tolist() == [5.0, -3.0, 0.0]


def test_scores_are_those_of_whole_games() -> None:
    games = Scripted()
    games.flags = {"terminated": [False, True, False], "life_lost": [False, False, True]}
    env = wrapped(games, clip_rewards=True)
    env.step(np.array([0, 1, 2]))
    assert env.recent.metrics() == {"rollout/games": 1, "rollout/score_mean": 200.0, "rollout/length_mean": 8.0}


def test_a_forced_action_is_pressed_and_remembered_where_asked() -> None:
    games, actions = Scripted(), np.array([0, 1, 2])
    games.forced = np.array([-1, -1, 3])
    wrapped(games).step(actions)
    assert games.pressed == [[0, 1, 3]] and actions.tolist() == [0, 1, 3]


def test_a_forced_action_is_pressed_and_not_remembered_otherwise() -> None:
    games, actions = Scripted(), np.array([0, 1, 2])
    games.forced = np.array([-1, -1, 3])
    wrapped(games, stores_forced_actions=False).step(actions)
    assert games.pressed == [[0, 1, 3]] and actions.tolist() == [0, 1, 2]


def test_without_games_nothing_can_be_played() -> None:
    env = SpacesVecEnv(2, Box(0, 1, (1,), np.float32), Discrete(2))
    with pytest.raises(NotImplementedError):
        env.reset()
