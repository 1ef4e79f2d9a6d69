"""Options of an environment decide what it shows and which actions it takes: they come before preset and agent."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from agents.train import parse_task
from aprendiz.errors import ConfigError
from envs.gymnasium_env import GymnasiumEnv


def mountain_car(
    name: str, num_envs: int, *, render: bool = False, continuous: bool = False, limit: int = 999, slope: float = 1.0
) -> GymnasiumEnv:
    kind = "MountainCarContinuous-v0" if continuous else "MountainCar-v0"
    if slope != 1.0:
        raise ConfigError(f"slope is {slope}")
    return GymnasiumEnv(name, kind, num_envs, render, limit, 1_000, {})


TASK = f"{__name__}:mountain_car"


def parsed(*words: str) -> tuple[str, Any, Any, dict[str, Any]]:
    return parse_task(list(words))


@pytest.mark.parametrize(
    ("words", "agent"),
    [
        ((), "dqn"),
        (("--no-continuous",), "dqn"),
        (("--continuous",), "sb3-sac"),
        (("--continuous", "--agent", "sb3-ppo"), "sb3-ppo"),
        (("--continuous", "--limit", "50"), "sb3-sac"),
    ],
)
def test_flags_choose_the_agent(words: tuple[str, ...], agent: str) -> None:
    _, options, _, given = parsed(TASK, *words)
    assert options.agent == agent and given["continuous"] == ("--continuous" in words)


def test_an_agent_that_cannot_take_the_actions_is_refused() -> None:
    with pytest.raises(ConfigError, match="dqn cannot take the continuous actions"):
        parsed(TASK, "--continuous", "--agent", "dqn")


@pytest.mark.parametrize("words", [("--slope", "0.5"), ("--slope=0.5",), ("--slope", "-1.5", "--limit", "7")])
def test_numbers_reach_the_environment_that_is_asked(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"slope is (0\.5|-1\.5)"):
        parsed(TASK, *words)


def test_two_spellings_of_a_flag_are_one_flag() -> None:
    with pytest.raises(ConfigError, match="--tile-pixels is given as 4 and as 8: give it once"):
        parsed("minigrid-empty-5x5", "--tile-pixels", "4", "--tile_pixels=8")


def test_a_number_that_is_none_is_left_to_the_parser() -> None:
    with pytest.raises(ConfigError, match="--limit takes a whole number, not 'many'"):
        parsed(TASK, "--limit", "many")


@pytest.mark.parametrize("agent", ["dqn", "sb3-dqn", "sb3-ppo", "sb3-a2c"])
def test_pictures_made_too_small_for_convolutions_are_read_by_dense_layers(agent: str) -> None:
    *_, small, options = parsed("minigrid-empty-5x5", "--agent", agent, "--tile-pixels", "4")
    *_, large, _ = parsed("minigrid-empty-5x5", "--agent", agent)
    assert options["tile_pixels"] == 4
    if agent == "dqn":
        assert (small.backbone, large.backbone) == ("mlp", "nature-cnn")
    else:
        assert small.hidden_layers > 0 == large.hidden_layers


def test_the_options_of_a_registered_id_are_told() -> None:
    env = GymnasiumEnv("ice", "FrozenLake8x8-v1", 1, False, 0, 1_000, {"is_slippery": False})
    assert gymnasium.spec("FrozenLake8x8-v1").kwargs == {"map_name": "8x8"}
    assert env.spec.protocol["options"] == {"is_slippery": False}
    assert env.spec.protocol["registered"] == {"map_name": "8x8"}
