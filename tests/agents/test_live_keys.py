"""The keyboard as a controller."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from agents.live_keys import Controller


def controller(name: str) -> Controller:
    env = envs.make(name, 1)
    env.close()
    return Controller(env.spec)


@pytest.mark.parametrize(
    ("name", "keys", "action"),
    [
        ("breakout", ["ArrowRight"], "right"),
        ("breakout", ["a"], "left"),
        ("breakout", [" "], "fire"),
        ("breakout", [], "noop"),
        ("breakout", ["ArrowLeft", "ArrowRight"], "noop"),
        ("breakout", ["ArrowUp"], "noop"),
        ("seaquest", ["ArrowUp", "ArrowRight", " "], "up-right fire"),
        ("seaquest", ["ArrowUp", "ArrowRight"], "up-right"),
        ("space-invaders", ["ArrowUp", "ArrowRight"], "right"),
        ("frozen-lake", ["ArrowUp"], "up"),
        ("frozen-lake", ["3"], "right"),
        ("taxi", ["ArrowUp"], "north"),
        ("taxi", [" "], "pick up"),
        ("taxi", ["Enter"], "drop off"),
        ("mountain-car", [], "none"),
        ("acrobot", ["ArrowLeft"], "torque -1"),
        ("acrobot", [], "torque 0"),
    ],
)
def test_held_keys_are_the_action_that_a_player_expects(name, keys, action):
    if name in ("breakout", "seaquest", "space-invaders"):
        pytest.importorskip("ale_py")
    found = controller(name)
    assert found.names[found.action(keys)] == action


@pytest.mark.parametrize(("name", "keys"), [("cartpole", []), ("frozen-lake", ["q"]), ("cartpole", ["9"])])
def test_where_every_action_does_something_the_game_waits_for_a_key(name, keys):
    assert controller(name).action(keys) is None


def test_continuous_actions_are_pushed_to_their_bounds():
    found = controller("pendulum")
    assert found.action(["ArrowLeft"]) == pytest.approx(np.array([-2.0]))
    assert found.action(["ArrowRight"]) == pytest.approx(np.array([2.0]))
    assert found.action([]) == pytest.approx(np.array([0.0]))


def test_the_help_names_the_keys_of_every_action():
    assert controller("cartpole").help() == [("← or 1", "left"), ("→ or 2", "right")]
    assert ("space or 2", "fire") in controller("breakout").help()
