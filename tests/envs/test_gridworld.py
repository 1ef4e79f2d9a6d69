"""The gridworld against the textbook's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import envs
from aprendiz.errors import ConfigError
from aprendiz.testing import check_env
from envs.gridworld import DOWN, LEFT, RIGHT, UP


def test_conforms() -> None:
    check_env(lambda num_envs: envs.make("gridworld", num_envs))


def test_the_table_gives_the_utilities_printed_in_the_book() -> None:
    table = envs.make("gridworld", 1).table()
    assert table is not None
    value = np.zeros(12)
    for _ in range(200):
        following = np.where(table.terminated, 0.0, value[table.next_state])  # [S, A, K]
        value = (table.probability * (table.reward + following)).sum(2).max(1)
    # Russell and Norvig, figure "The utilities of the states in the 4x3 world with gamma = 1".
    book = {0: 0.812, 1: 0.868, 2: 0.918, 4: 0.762, 6: 0.660, 8: 0.705, 9: 0.655, 10: 0.611, 11: 0.388}
    # The third edition prints 0.655 and 0.611 rounded from 0.6553 and 0.6114.
    for state, utility in book.items():
        assert value[state] == pytest.approx(utility, abs=6e-4)


def test_moves_without_slipping() -> None:
    env = envs.make("gridworld", 1, map="S#P/..G", slip=0.0, step_reward=0.0)
    assert env.reset(0).tolist() == [0]
    squares = [int(env.step(np.array([action])).observation[0]) for action in (UP, LEFT, RIGHT, DOWN, DOWN, RIGHT)]
    assert squares == [0, 0, 0, 3, 3, 4]  # the edge and the wall hold
    step = env.step(np.array([RIGHT]))
    assert step.terminated[0] and not step.truncated[0]
    assert step.reward[0] == 1.0 and step.score[0] == 1.0 and step.length[0] == 7
    assert step.final_observation[0] == 5 and step.observation[0] == 0


def test_a_slip_goes_to_the_sides_as_often_as_the_table_says() -> None:
    env = envs.make("gridworld", 1, map="...../..S../....G", slip=0.4)
    counts = {2: 0, 6: 0, 8: 0}
    for seed in range(3000):
        env.reset(seed)
        counts[int(env.step(np.array([UP])).final_observation[0])] += 1
    assert counts[2] / 3000 == pytest.approx(0.6, abs=0.04)
    assert counts[6] / 3000 == pytest.approx(0.2, abs=0.04)


def test_the_time_limit_truncates_and_an_end_at_the_limit_terminates() -> None:
    env = envs.make("gridworld", 1, map="S.G", slip=0.0, time_limit_steps=2)
    env.reset(0)
    env.step(np.array([LEFT]))
    step = env.step(np.array([RIGHT]))
    assert step.truncated[0] and not step.terminated[0] and step.final_observation[0] == 1
    env.step(np.array([RIGHT]))
    step = env.step(np.array([RIGHT]))
    assert step.terminated[0] and not step.truncated[0]


def test_the_state_survives_json() -> None:
    env = envs.make("gridworld", 2)
    env.reset(1)
    env.step(np.array([UP, RIGHT]))
    other = envs.make("gridworld", 2)
    other.load_state_dict(json.loads(json.dumps(env.state_dict())))
    for _ in range(200):
        left, right = env.step(np.array([UP, RIGHT])), other.step(np.array([UP, RIGHT]))
        assert np.array_equal(left.observation, right.observation) and np.array_equal(left.reward, right.reward)


def test_a_map_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("S..\n.#.\n..G\n")
    assert envs.make("gridworld", 1, map=str(path)).spec.protocol["map"] == "S../.#./..G"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("S..", "no end"),
        ("GGG", "nowhere to start"),
        ("S./G", "lengths"),
        ("S?G", "neither"),
        ("/no/file.txt", "neither"),
    ],
)
def test_a_map_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        envs.make("gridworld", 1, map=text)


@pytest.mark.parametrize(
    ("option", "value"),
    [("step_reward", math.nan), ("step_reward", -math.inf), ("slip", math.nan), ("time_limit_steps", math.nan)],
)
def test_numbers_that_are_none_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {value}"):
        envs.make("gridworld", 1, **{option: value})


def test_the_picture_shows_where_the_walker_is() -> None:
    env = envs.make("gridworld", 1, map="S.G", slip=0.0)
    env.reset(0)
    first = env.render()
    env.step(np.array([RIGHT]))
    second = env.render()
    assert first.shape == (48, 144, 3) and first.dtype == np.uint8
    assert first[24, 24].tolist() == second[24, 72].tolist() == [40, 90, 200]


def test_the_slippery_one_has_four_rooms_whose_doors_are_the_only_ways() -> None:
    env = envs.make("slippery-gridworld", 1)
    table = env.table()
    assert table is not None and table.next_state.shape == (121, 4, 3)
    assert table.probability[24, UP].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    reached, fresh = {0}, {0}
    while fresh:
        fresh = {int(one) for state in fresh for one in table.next_state[state].ravel()} - reached
        reached |= fresh
    assert len(reached) == 121 - env.spec.protocol["map"].count("#")
    doors = (2 * 11 + 5, 9 * 11 + 5, 5 * 11 + 1, 6 * 11 + 8)
    without, fresh = {0}, {0}
    while fresh:
        fresh = {int(one) for state in fresh for one in table.next_state[state].ravel()} - without - set(doors)
        without |= fresh
    assert len(without) == 25  # a room of five by five
