"""What Stable-Baselines3 makes of our games: time limits, pictures, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import envs
from agents import AGENTS
from agents.core import Purpose
from agents.play import game_seeds, play_games
from agents.sb3_dqn import SB3DQN, SB3DQNConfig
from agents.sb3_ppo import SB3PPO, SB3PPOConfig
from tests.agents.test_sb3 import make, source_of, train


def test_a_time_limit_is_no_end_to_the_replay_memory() -> None:
    agent = make("sb3-dqn", n_step=1, replay_capacity=400)
    train(agent, source_of("sb3-dqn", agent, time_limit_steps=5), 100)
    memory = agent.model.replay_buffer
    limits = memory.timeouts[: memory.pos]
    assert limits.sum() >= 10 and (memory.dones[: memory.pos][limits == 1] == 1).all()
    everything = memory._get_samples(np.arange(memory.pos))
    assert float(everything.dones.sum()) < float(memory.dones[: memory.pos].sum())  # what is learned knows no end there


def test_a_time_limit_leaves_the_value_in_a_rollout() -> None:
    agent = make("sb3-ppo")
    source = source_of("sb3-ppo", agent, time_limit_steps=5)
    for _ in range(12):
        source.next()
    rewards = source.rollout.rewards[:12]  # CartPole pays 1 a step
    beyond = rewards != 1.0
    assert beyond.sum() >= 2 and (np.flatnonzero(beyond.any(axis=1)) % 5 == 4).all()
    assert (np.abs(rewards[beyond] - 1.0) < 5.0).all()


@pytest.mark.parametrize(("side", "layers"), [(84, 0), (9, 2)])
@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_pictures_are_divided_by_255_once(side: int, layers: int, name: str) -> None:
    space = Box(0, 255, (4, side, side), np.uint8)
    agent: Any
    if name == "dqn":
        config = SB3DQNConfig(hidden_layers=layers, exploration_env_steps=10, replay_capacity=50)
        agent = SB3DQN(SB3DQN.resolve(config, 100), space, Discrete(3), seed=1)
        extractor = agent.model.policy.q_net.features_extractor
    else:
        agent = SB3PPO(SB3PPOConfig(hidden_layers=layers, schedule_env_steps=100), space, Discrete(3), seed=1)
        extractor = agent.model.policy.features_extractor
    seen: list[torch.Tensor] = []
    extractor.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    agent.act(np.full((1, 4, side, side), 255, np.uint8), 0.0, np.random.default_rng(0))
    assert seen and all(torch.equal(one, torch.ones_like(one)) for one in seen)


@pytest.mark.parametrize("name", ["sb3-dqn", "sb3-ppo", "sb3-a2c"])
def test_it_learns(name: str) -> None:
    cls = AGENTS.get(name)
    spec = envs.make("cartpole", 1).spec
    config = cls.resolve(cls.presets(spec)["default"], 12_000)
    agent = cls(config, spec.observation_space, spec.action_space, seed=1)
    seeds = game_seeds(1, 10, Purpose.SELECTION)
    before = play_games(agent, lambda count: envs.make("cartpole", count), seeds, explore=0.0).scores.mean()
    train(agent, agent.make_source(envs.make("cartpole", config.num_envs), seed=1), 12_000)
    after = play_games(agent, lambda count: envs.make("cartpole", count), seeds, explore=0.0).scores.mean()
    assert after > before + 50.0
