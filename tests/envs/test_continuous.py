"""Continuous actions: environments, games, pictures, and agents that cannot take them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs
from agents import AGENTS
from agents.core import Agent, Purpose, check_actions_fit
from agents.picture import Painter, action_names
from agents.play import Explorer, game_seeds, play_games
from agents.train import default_agent, run_command
from agents.video import moments, record_video
from aprendiz.errors import ConfigError, EnvError
from aprendiz.testing import check_env


class Pusher(Agent):
    """Pushes with what it sees, far beyond the bounds."""

    action_kinds = ("continuous",)

    def act(self, observations, explore, generator):
        return (100.0 * observations[:, :1]).astype(np.float32)

    def inspect(self, observations):
        return {}


def pendulum(num_envs: int, *, render: bool = False) -> envs.Env:
    return envs.make("pendulum", num_envs, render=render, time_limit_steps=30)


@pytest.mark.parametrize("name", ["pendulum", "mountain-car-continuous", "gym:Pendulum-v1"])
def test_conforms(name):
    check_env(lambda num_envs: envs.make(name, num_envs, time_limit_steps=25), steps=60)


def test_a_step_is_gymnasium_s_own_and_actions_are_moved_onto_the_bounds():
    env, raw = envs.make("pendulum", 2), gymnasium.make("Pendulum-v1")
    env.reset([3, 4])
    raw.reset(seed=4)
    for value in (0.5, 7.0, -9.0):
        step = env.step(np.array([[0.0], [value]], np.float32))
        seen, reward, *_ = raw.step(np.clip(np.array([value], np.float32), -2, 2))
        np.testing.assert_allclose(step.observation[1], seen, rtol=1e-6)
        assert step.reward[1] == np.float32(reward)
    assert env.spec.continuous and env.spec.action_space.dtype == np.float32
    with pytest.raises(EnvError, match="no numbered actions"):
        _ = env.spec.num_actions


@pytest.mark.parametrize(
    ("actions", "said"),
    [(np.zeros(2, np.float32), "of shape"), (np.full((2, 1), np.nan, np.float32), "finite")],
)
def test_actions_of_another_shape_or_that_are_no_numbers_are_refused(actions, said):
    env = envs.make("pendulum", 2)
    env.reset(0)
    with pytest.raises(EnvError, match=said):
        env.step(actions)


def test_an_unbounded_or_discrete_mixture_is_refused_in_one_line():
    class Strange(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(2)
        action_space = gymnasium.spaces.MultiBinary(3)

    gymnasium.register("AprendizStrange-v0", lambda **_: Strange())
    try:
        with pytest.raises(EnvError, match="supported: Discrete, and a bounded Box") as caught:
            envs.make("gym:AprendizStrange-v0", 1)
    finally:
        del gymnasium.registry["AprendizStrange-v0"]
    assert "\n" not in str(caught.value)


def test_games_are_played_and_depend_on_their_seed_alone():
    seeds = game_seeds(0, 5, Purpose.EVALUATION)
    together = play_games(Pusher.__new__(Pusher), pendulum, seeds, explore=0.5)
    apart = play_games(Pusher.__new__(Pusher), pendulum, seeds[::-1], explore=0.5, lanes=2)
    assert together.scores.tolist() == apart.scores[::-1].tolist()
    assert set(together.lengths.tolist()) == {30} and len(set(together.scores.tolist())) == 5


def test_random_actions_fill_the_box_as_often_as_asked():
    box = gymnasium.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32))
    explorer = Explorer(range(50), 0.3, box)
    drawn = [explorer.next_continuous() for _ in range(200)]
    exploring = np.stack([coins for coins, _ in drawn])
    actions = np.stack([actions for _, actions in drawn])
    assert exploring.mean() == pytest.approx(0.3, abs=0.02) and not actions[~exploring].any()
    np.testing.assert_allclose(actions[exploring].mean(axis=0), [0.0, 2.0], atol=0.1)
    assert actions.dtype == np.float32 and actions[exploring][:, 1].max() > 3.8


def test_what_is_watched_is_what_is_played_and_drawn(tmp_path):
    env = pendulum(1, render=True)
    seeds = game_seeds(3, 1, Purpose.EVALUATION)
    agent = Pusher.__new__(Pusher)
    watched = list(moments(agent, env, seeds, explore=0.2))
    score = play_games(agent, pendulum, seeds, explore=0.2).scores[0]
    assert watched[-1].score == score and watched[-1].ended == "time limit"
    assert {moment.why for moment in watched} == {"greedy", "random"}
    assert action_names(env.spec) == ["torque"]
    picture = Painter(env.spec).paint(watched[0])
    assert picture.shape[0] % 2 == 0 and picture.dtype == np.uint8
    env.close()
    assert record_video(agent, pendulum, tmp_path / "out.mp4", max_steps=3).stat().st_size > 1000


@pytest.mark.parametrize("name", ["dqn", "q-learning", "sarsa"])
def test_agents_that_need_numbered_actions_say_so_in_one_line(name):
    with pytest.raises(ConfigError, match=f"{name} cannot take the continuous actions of pendulum") as caught:
        run_command(["pendulum", "--agent", name])
    assert "\n" not in str(caught.value)


def test_an_agent_of_continuous_actions_refuses_numbered_ones():
    with pytest.raises(ConfigError, match="cannot take the discrete actions of cartpole"):
        check_actions_fit(Pusher, "pusher", envs.make("cartpole", 1).spec)
    assert AGENTS.get("dqn").action_kinds == ("discrete",)


def test_continuous_actions_choose_another_default_agent():
    assert default_agent(pendulum(1).spec) == "sb3-sac"
    assert default_agent(envs.make("cartpole", 1).spec) == "dqn"
