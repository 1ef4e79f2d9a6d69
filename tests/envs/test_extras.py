"""MuJoCo and ViZDoom: the contract where they are installed, one clear line where they are not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import envs
from aprendiz.errors import EnvError
from aprendiz.testing import check_env

MUJOCO = ("halfcheetah", "hopper", "ant", "inverted-pendulum")
HAS_MUJOCO = importlib.util.find_spec("mujoco") is not None
HAS_VIZDOOM = importlib.util.find_spec("vizdoom") is not None
needs_mujoco = pytest.mark.skipif(not HAS_MUJOCO, reason='pip install "gymnasium[mujoco]"')
needs_vizdoom = pytest.mark.skipif(not HAS_VIZDOOM, reason="pip install vizdoom")


@needs_mujoco
@pytest.mark.parametrize("name", MUJOCO)
def test_mujoco_conforms_and_its_games_are_restored(name):
    assert envs.make(name, 1).spec.restorable
    check_env(lambda num_envs: envs.make(name, num_envs, time_limit_steps=25), num_envs=2, steps=60)


@needs_mujoco
def test_mujoco_truncates_at_its_limit_and_falls_terminate():
    env = envs.make("halfcheetah", 1, time_limit_steps=5)
    env.reset(0)
    step = [env.step(np.ones((1, 6), np.float32)) for _ in range(5)][-1]
    assert step.truncated[0] and not step.terminated[0]
    env = envs.make("hopper", 1)
    env.reset(0)
    ended = next(step for step in (env.step(np.ones((1, 3), np.float32)) for _ in range(300)) if step.ended[0])
    assert ended.terminated[0] and not ended.truncated[0]


@needs_vizdoom
def test_vizdoom_conforms():
    check_env(lambda num_envs: envs.make("vizdoom-basic", num_envs, time_limit_steps=12), num_envs=2, steps=30)


@needs_vizdoom
def test_vizdoom_shows_the_game_at_its_limit_and_pads_with_black():
    env = envs.make("vizdoom-basic", 1, time_limit_steps=6)
    first = env.reset(0)
    assert first.shape == (1, 4, 84, 84) and not first[0, :3].any() and first[0, 3].std() > 5
    step = [env.step(np.array([1])) for _ in range(6)][-1]
    assert step.truncated[0] and not step.terminated[0]
    assert (step.final_observation[0].std(axis=(1, 2)) > 5).all()
    assert not np.array_equal(step.final_observation[0, 3], step.final_observation[0, 2])
    assert not step.observation[0, :3].any() and step.observation[0, 3].std() > 5  # nothing of the game before
    assert env.spec.protocol["action_set"] == ["none", "move left", "move right", "attack"]
    assert env.spec.reward_scale == 0.01
    env.close()


@needs_vizdoom
def test_vizdoom_writes_nothing_where_the_program_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = envs.make("vizdoom-basic", 1)
    env.reset(0)
    env.step(np.array([1]))
    settings = Path(env.first._folder.name)
    env.close()
    assert list(tmp_path.iterdir()) == [] and not settings.exists()


@needs_mujoco
def test_mujoco_tells_its_warnings_and_writes_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = envs.make("inverted-pendulum", 1)
    env.reset(0)
    env.first.data.qvel[:] = np.nan
    env.step(np.zeros((1, 1), np.float32))
    assert list(tmp_path.iterdir()) == []
    assert "MuJoCo: " in capfd.readouterr().err


@needs_mujoco
def test_whoever_takes_mujoco_s_warnings_already_goes_on_taking_them():
    import mujoco

    before, told = mujoco.get_mju_user_warning(), []
    mujoco.set_mju_user_warning(told.append)
    try:
        env = envs.make("inverted-pendulum", 1)
        env.reset(0)
        env.first.data.qvel[:] = np.nan
        env.step(np.zeros((1, 1), np.float32))
    finally:
        mujoco.set_mju_user_warning(before)
    assert len(told) > 0


@pytest.mark.parametrize(("name", "package"), [("vizdoom-basic", "vizdoom"), ("minigrid-empty-8x8", "minigrid")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvError, match=f'pip install "{package}"') as caught:
        envs.make(name, 1)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_without_mujoco_its_environments_name_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(EnvError, match=r'pip install "gymnasium\[mujoco\]"') as caught:
        envs.make("halfcheetah", 1)
    assert "\n" not in str(caught.value)
