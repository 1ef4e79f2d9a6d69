"""MiniGrid as pictures: what MiniGrid's own renderer draws, quickly; restored by playing again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import envs
from aprendiz.errors import ConfigError, EnvError
from aprendiz.testing import check_env

minigrid = pytest.importorskip("minigrid")
LEFT, RIGHT, FORWARD = range(3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minigrid-empty-8x8", {"time_limit_steps": 30}),
        ("minigrid-doorkey-5x5", {"view": "partial"}),
        ("minigrid-dynamic-obstacles-6x6", {"actions": "move"}),
        ("minigrid:SimpleCrossingS9N1", {"time_limit_steps": 20}),
    ],
)
def test_conforms(name, options):
    check_env(lambda num_envs: envs.make(name, num_envs, **options), steps=70)


def walk(env: envs.Env, steps: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    for _ in range(steps):
        yield env.step(generator.integers(0, 7, 1)).final_observation[0]


@pytest.mark.parametrize("name", ["minigrid-doorkey-5x5", "minigrid-lava-gap-s5", "minigrid-unlock"])
@pytest.mark.parametrize("view", ["full", "partial"])
def test_the_picture_is_the_one_that_minigrid_draws(name, view):
    env = envs.make(name, 1, view=view)
    env.reset(5)
    compared = 0
    for seen in walk(env, 60):
        raw = env.first
        if seen.tobytes() != env._observation[0].tobytes():
            continue  # a new game has begun
        compared += 1
        drawn = raw.get_frame(highlight=view == "partial", tile_size=8, agent_pov=view == "partial")
        np.testing.assert_array_equal(seen, drawn.transpose(2, 0, 1))
    assert compared >= 40


def test_names_options_and_shapes():
    env = envs.make("minigrid-empty-8x8", 1, tile_pixels=4, actions="move")
    assert env.spec.observation_kind == "image" and env.spec.observation_space.shape == (3, 32, 32)
    assert env.spec.num_actions == 3 and env.spec.protocol["action_set"] == ["left", "right", "forward"]
    assert envs.make("minigrid:Empty-8x8", 1).spec.protocol["id"] == "MiniGrid-Empty-8x8-v0"
    assert envs.make("minigrid:MultiRoom-N4-S5", 1).spec.protocol["id"] == "MiniGrid-MultiRoom-N4-S5-v1"
    assert set(envs.options("minigrid:LockedRoom")) == {"view", "actions", "tile_pixels", "time_limit_steps"}
    assert envs.make("minigrid-empty-5x5", 1, view="partial").spec.observation_space.shape == (3, 56, 56)


def test_there_are_no_more_actions_than_minigrid_has():
    env = envs.make("minigrid-dynamic-obstacles-6x6", 1)
    assert env.spec.num_actions == 3 and env.spec.protocol["action_set"] == ["left", "right", "forward"]


def test_the_shortest_way_is_worth_what_minigrid_pays():
    env = envs.make("minigrid-empty-5x5", 1)
    env.reset(0)
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        step = env.step(np.array([action]))
    assert step.terminated[0] and step.score[0] == pytest.approx(1 - 0.9 * 5 / 100)


def test_the_limit_truncates():
    env = envs.make("minigrid-empty-5x5", 1, time_limit_steps=3)
    env.reset(0)
    step = [env.step(np.array([LEFT])) for _ in range(3)][-1]
    assert step.truncated[0] and not step.terminated[0] and env.spec.protocol["time_limit_steps"] == 3


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("minigrid-empty-8x8", {"view": "side"}, "choose full or partial"),
        ("minigrid-empty-8x8", {"actions": "none"}, "choose all or move"),
        ("minigrid-empty-8x8", {"tile_pixels": 1}, "at least 3"),
        ("minigrid-empty-5x5", {"time_limit_steps": -5}, "0 for MiniGrid's own"),
        ("minigrid:Nowhere", {}, "MiniGrid-Nowhere"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(name, options, said):
    with pytest.raises((ConfigError, EnvError), match=said) as caught:
        envs.make(name, 1, **options)
    assert "\n" not in str(caught.value)
