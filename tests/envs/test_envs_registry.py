"""Names, options and the lines that users read when they mistype."""

from __future__ import annotations

import subprocess
import sys

import pytest

import envs
from aprendiz.errors import ConfigError, EnvError, UnknownNameError
from envs.core import Env, EnvSpec, lane_seeds


def test_listing_names_and_options_imports_no_heavy_package() -> None:
    code = (
        "import sys, envs; envs.ENVS.describe_all(); envs.options('breakout'); envs.options('cartpole');"
        "envs.options('gridworld'); print([m for m in ('torch', 'gymnasium', 'ale_py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_name_has_one_line_and_a_file() -> None:
    descriptions = envs.ENVS.describe_all()
    assert {"breakout", "space-invaders", "cartpole", "frozen-lake", "gridworld"} <= {one.name for one in descriptions}
    for one in descriptions:
        assert one.summary and "\n" not in one.summary
        assert one.file.startswith("envs/")


@pytest.mark.parametrize("name", ["frozen-lake", "frozen_lake", "Frozen_Lake"])
def test_hyphens_underscores_and_capitals_are_the_same(name: str) -> None:
    assert envs.make(name, 1).spec.name == "frozen-lake"


def test_an_unknown_name_lists_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="breakout"):
        envs.make("brakeout", 1)


def test_options_are_known_without_building_the_environment() -> None:
    assert envs.options("breakout") == {"sticky": 0.0, "num_threads": 0, "time_limit_steps": 27_000}
    assert envs.options("frozen-lake") == {"map_name": "4x4", "is_slippery": True, "time_limit_steps": 0}
    assert envs.options("gym:CartPole-v1") == {"time_limit_steps": 0, "sutton_barto_reward": False}


@pytest.mark.parametrize("name", ["breakout", "gridworld", "gym:CartPole-v1"])
def test_a_mistyped_option_is_named_with_those_that_exist(name: str) -> None:
    with pytest.raises(ConfigError, match="no option 'tyme_limit_steps'; it has: .*time_limit_steps"):
        envs.make(name, 1, tyme_limit_steps=3)


def test_a_third_party_factory_is_named_by_its_module() -> None:
    env = envs.make("envs.gridworld:gridworld", 2, map="S.G")
    assert isinstance(env, Env) and env.num_envs == 2


def test_something_that_is_no_factory_is_refused() -> None:
    with pytest.raises(EnvError, match="callable"):
        envs.make("envs.gridworld:RUSSELL_AND_NORVIG", 1)


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, True])
def test_num_envs_is_a_whole_number_above_zero(num_envs: object) -> None:
    for name in ("gridworld", "cartpole", "breakout"):
        with pytest.raises(ConfigError, match="num_envs"):
            envs.make(name, num_envs)  # type: ignore[arg-type]


def test_a_lane_s_seed_does_not_depend_on_the_number_of_lanes() -> None:
    assert lane_seeds(5, 3) == lane_seeds(5, 8)[:3]
    assert len(set(lane_seeds(5, 8) + lane_seeds(6, 8))) == 16
    assert lane_seeds([4, 4], 2) == [4, 4]


@pytest.mark.parametrize("seed", [-1, [1], [1, 2, 3], [1, -2], [1, 2**31]])
def test_seeds_that_do_not_fit_are_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed"):
        lane_seeds(seed, 2)  # type: ignore[arg-type]


def test_a_spec_tells_how_many_actions_there_are() -> None:
    spec: EnvSpec = envs.make("taxi", 1).spec
    assert spec.num_actions == 6
