"""Adapters of Stable-Baselines3: they are what the library is, driven in pieces."""

from __future__ import annotations

import copy
import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

import envs
from agents import AGENTS
from agents.core import check_actions_fit
from agents.sb3_dqn import SB3DQN, SB3DQNConfig
from agents.sb3_ppo import SB3PPO, SB3PPOConfig
from agents.sb3_sac import SB3SACConfig
from aprendiz.errors import ConfigError
from aprendiz.testing.common import difference

OF_VALUES = {
    "num_envs": 2,
    "n_step": 3,
    "replay_capacity": 100,
    "batch_size": 8,
    "warmup_env_steps": 20,
    "train_period_env_steps": 4,
    "gradient_steps": 2,
    "target_period_env_steps": 10,
    "exploration_env_steps": 100,
    "hidden_units": 16,
}
SMALL: dict[str, tuple[str, Any]] = {
    "sb3-dqn": ("cartpole", OF_VALUES),
    "sb3-qrdqn": ("cartpole", {**OF_VALUES, "n_step": 1, "quantiles": 5}),
    "sb3-ppo": (
        "cartpole",
        {
            "num_envs": 2,
            "rollout_steps": 16,
            "batch_size": 16,
            "epochs": 2,
            "learning_rate_falls": True,
            "clip_range_falls": True,
            "schedule_env_steps": 160,
            "hidden_units": 16,
        },
    ),
    "sb3-a2c": ("cartpole", {"num_envs": 2, "rollout_steps": 8, "schedule_env_steps": 160, "hidden_units": 16}),
    "sb3-sac": (
        "pendulum",
        {"num_envs": 1, "replay_capacity": 100, "batch_size": 8, "warmup_env_steps": 20, "hidden_units": 16},
    ),
}
STEPS = {"sb3-dqn": 160, "sb3-qrdqn": 160, "sb3-ppo": 160, "sb3-a2c": 160, "sb3-sac": 60}


def make(name: str, **changes: Any) -> Any:
    task, options = SMALL[name]
    cls = AGENTS.get(name)
    spec = envs.make(task, 1).spec
    config = cls.resolve(cls.Config(**(options | changes)), 1_000)
    return cls(config, spec.observation_space, spec.action_space, seed=5)


def source_of(name: str, agent: Any, **options: Any) -> Any:
    return agent.make_source(envs.make(SMALL[name][0], agent.config.num_envs, **options), seed=5)


def train(agent: Any, source: Any, env_steps: int) -> int:
    """Returns the number of updates."""
    updates = units = 0
    while True:
        work = source.next()
        units += work.units
        if work.batch is not None:
            agent.update(work.batch)
            updates += 1
        if work.safe_point and units >= env_steps:
            return updates


@pytest.mark.parametrize("name", list(SMALL))
def test_small_pieces_are_what_learn_does(name: str) -> None:
    """The library's own `learn`, on the same games and from the same random state."""
    ours, theirs = make(name), make(name)
    train(ours, source_of(name, ours, **limit(name)), STEPS[name])
    source = source_of(name, theirs, **limit(name))
    model, config = theirs.model, theirs.config
    with theirs.random.in_place():
        if hasattr(source, "rollout"):
            model.rollout_buffer = RolloutBuffer(
                config.rollout_steps,
                model.observation_space,
                model.action_space,
                gamma=config.discount,
                gae_lambda=config.trace,
                n_envs=config.num_envs,
            )
            model.learn(160, log_interval=None)
        else:
            period = config.train_period_env_steps // config.num_envs
            model.train_freq = TrainFreq(period, TrainFrequencyUnit.STEP)
            if hasattr(model, "exploration_schedule"):
                model.exploration_schedule.end_fraction = config.exploration_env_steps / STEPS[name]
            model.learn(STEPS[name], log_interval=None)
    assert model._n_updates == ours.model._n_updates > 0
    assert not difference(ours.model.policy.state_dict(), model.policy.state_dict())


def limit(name: str) -> dict[str, Any]:
    """Games so short that some are cut off by the time limit."""
    return {"time_limit_steps": 15}


def test_exploration_falls_as_the_library_says() -> None:
    agent = make("sb3-dqn")
    source = source_of("sb3-dqn", agent)
    for env_steps in (2, 40, 100, 120):
        while agent.model.num_timesteps < env_steps:
            source.next()
        assert agent.model.exploration_rate == pytest.approx(agent.exploration(env_steps), abs=1e-9)


def test_updates_come_as_often_as_the_config_says() -> None:
    agent = make("sb3-dqn")
    assert train(agent, source_of("sb3-dqn", agent), 100) == 2 * (100 - 20) // 4


def test_the_memory_comes_with_the_games() -> None:
    agent = make("sb3-dqn", replay_capacity=1000)
    assert agent.model.replay_buffer.buffer_size == 1
    source_of("sb3-dqn", agent)
    assert agent.model.replay_buffer.buffer_size == 500


def test_values_nobody_needs_are_left_out() -> None:
    agent = make("sb3-ppo")
    source, calls = source_of("sb3-ppo", agent), []
    agent.model.policy.value_net.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(16):
        source.next()
    assert len(calls) == 17  # one a step, and one of what follows the last


def test_inspecting_in_the_middle_of_a_rollout_gives_true_values() -> None:
    agent = make("sb3-ppo")
    source, observation = source_of("sb3-ppo", agent), np.ones((3, 4), np.float32)
    before = agent.inspect(observation)["value"]
    for _ in range(3):
        source.next()
    np.testing.assert_array_equal(agent.inspect(observation)["value"], before)
    assert (before != 0).all()


def test_a_memory_that_was_not_kept_is_filled_anew() -> None:
    agent = make("sb3-dqn")
    source = source_of("sb3-dqn", agent)
    train(agent, source, 60)
    other = make("sb3-dqn")
    fresh = source_of("sb3-dqn", other)
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    fresh.load_state_dict(copy.deepcopy(source.state_dict()))
    assert train(other, fresh, 20) == 0 and train(other, fresh, 8) > 0


def test_a_rollout_of_games_that_are_lost_is_dropped() -> None:
    agent = make("sb3-ppo")
    source = source_of("sb3-ppo", agent)
    for _ in range(5):
        source.next()
    other = make("sb3-ppo")
    resumed = source_of("sb3-ppo", other)
    resumed.env.spec = dataclasses.replace(resumed.env.spec, restorable=False)
    resumed.load_state_dict(copy.deepcopy(source.state_dict()))
    assert resumed.rollout.pos == 0 and other.model._last_episode_starts.all()


def test_the_actions_of_others_are_not_drawn_from() -> None:
    space = Discrete(2)
    space.seed(3)
    before = space.np_random.bit_generator.state
    spec = envs.make("cartpole", 1).spec
    agent = SB3DQN(SB3DQN.resolve(SB3DQNConfig(), 100), spec.observation_space, space, seed=1)
    agent.model.action_space.sample()
    assert space.np_random.bit_generator.state == before


def test_no_gradient_norm_leaves_gradients_alone() -> None:
    assert make("sb3-dqn", max_gradient_norm=None).model.max_grad_norm == float("inf")


def test_pictures_are_read_by_convolutions_and_small_ones_by_dense_layers() -> None:
    for side, kind in ((84, "NatureCNN"), (9, "FlattenExtractor")):
        config = SB3PPOConfig(hidden_layers=0 if side == 84 else 2, schedule_env_steps=100, rollout_steps=64)
        agent = SB3PPO(config, Box(0, 255, (4, side, side), np.uint8), Discrete(3), seed=1)
        assert type(agent.model.policy.features_extractor).__name__ == kind


def test_greedy_continuous_actions_are_the_mean() -> None:
    agent = make("sb3-sac")
    observation = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    chosen = agent.act(observation, 0.0, np.random.default_rng(1))
    np.testing.assert_allclose(chosen, agent.inspect(observation)["mean"], rtol=1e-6)
    assert chosen.dtype == np.float32 and np.abs(chosen).max() <= 2.0


def test_a_fixed_entropy_coefficient_has_no_optimiser() -> None:
    agent = make("sb3-sac", entropy_coefficient=0.2)
    assert set(agent.optimizers()) == {"actor", "critic"} and agent.variables() == {}


def test_the_replay_memory_is_counted_with_both_observations() -> None:
    spec = envs.make("pong", 1).spec
    assert SB3DQN.replay_bytes(SB3DQNConfig(), spec, 1, 1_000_000) == pytest.approx(56.5e9, rel=0.01)


@pytest.mark.parametrize(
    ("make_config", "said"),
    [
        (lambda: SB3DQNConfig(num_envs=8), "no multiple of num_envs"),
        (lambda: SB3DQNConfig(discount=1.5), "discount must lie between 0 and 1"),
        (lambda: SB3DQNConfig(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: SB3DQNConfig(gradient_steps=0), "gradient_steps must be at least 1"),
        (lambda: SB3DQNConfig(replay_capacity=1), "replay_capacity 1 is too small"),
        (lambda: SB3PPOConfig(rollout_steps=8), "batch_size 64 is more than a rollout holds"),
        (lambda: SB3PPOConfig(batch_size=1), "batch_size must be at least 2"),
        (lambda: SB3SACConfig(entropy_coefficient=-1.0), "entropy_coefficient must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make_config: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SB3DQNConfig(hidden_layers=0, hidden_units=512), "hidden_units 512 does nothing"),
        (SB3PPOConfig(schedule_env_steps=9), "schedule_env_steps 9 does nothing where nothing falls"),
        (SB3DQNConfig(exploration_end=1.0, exploration_env_steps=9), "exploration is 1 throughout"),
        (SB3DQNConfig(exploration_share=0.5, exploration_env_steps=9), "nothing beside exploration_env_steps"),
        (SB3DQNConfig(exploration_end=1.0, exploration_share=0.5), "exploration is 1 throughout"),
    ],
)
def test_what_would_do_nothing_is_refused(config: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.check_new()


@pytest.mark.parametrize("name", [name for name in AGENTS.names() if name.startswith("sb3-")])
def test_networks_without_dense_layers_can_be_asked_for_from_every_preset(name: str) -> None:
    for named in AGENTS.get(name).preset_table.values():
        for preset in named.values():
            dataclasses.replace(preset, hidden_layers=0).check_new(preset)


def test_a_schedule_of_the_clip_range_alone_is_one() -> None:
    SB3PPOConfig(clip_range_falls=True, schedule_env_steps=9).check_new()


def test_actions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="sb3-sac cannot take the discrete actions of cartpole"):
        check_actions_fit(AGENTS.get("sb3-sac"), "sb3-sac", envs.make("cartpole", 1).spec)


def test_another_number_of_games_is_refused() -> None:
    with pytest.raises(ConfigError, match="made for 2 environments, not for 3"):
        make("sb3-dqn").make_source(envs.make("cartpole", 3), seed=1)


def test_without_sb3_contrib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(ConfigError, match="pip install sb3-contrib"):
        AGENTS.get("sb3-qrdqn").presets(envs.make("cartpole", 1).spec)


def test_quantiles_are_shown_with_their_probabilities() -> None:
    cls = AGENTS.get("sb3-qrdqn")
    spec = envs.make("cartpole", 1).spec
    config = cls.resolve(cls.Config(quantiles=5), 100)
    agent = cls(config, spec.observation_space, spec.action_space, seed=1)
    thought = agent.inspect(np.ones((3, 4), np.float32))
    assert thought["distribution"].shape == (3, 2, 5, 2)
    np.testing.assert_allclose(thought["distribution"][..., 0].mean(axis=2), thought["q_values"], rtol=1e-5)


def test_a_loaded_agent_thinks_alike() -> None:
    for name in SMALL:
        first, second = make(name), make(name)
        train(first, source_of(name, first), 30)
        with torch.no_grad():
            for weight in second.model.policy.parameters():
                weight.add_(1.0)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert not difference(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(("name", "remembered"), [("sb3-dqn", {1}), ("sb3-ppo", {0, 1})])
def test_what_is_remembered_of_forced_actions(name: str, remembered: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(name)
    source = source_of(name, agent)
    monkeypatch.setattr(type(source.env), "forced_action", property(lambda env: np.ones(env.num_envs, np.int64)))
    for _ in range(12):
        source.next()
    memory = source.rollout if name == "sb3-ppo" else agent.model.replay_buffer
    assert set(memory.actions[:12].flatten().tolist()) == remembered
