"""The DQN line together: each learns a small task, flags combine, noise explores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from agents import AGENTS
from agents.btr import BTRConfig
from agents.c51 import C51Config
from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import DQNConfig
from agents.drqn import PRESETS as DRQN_PRESETS
from agents.drqn import DRQNConfig
from agents.iqn import IQN, IQNConfig
from agents.noisy_dqn import NoisyDQNConfig
from agents.pqn import PQNConfig
from agents.qr_dqn import PRESETS as QR_DQN_PRESETS
from agents.qr_dqn import QRDQNConfig
from agents.rainbow import PRESETS as RAINBOW_PRESETS
from agents.rainbow import RainbowConfig
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig
from aprendiz.config import from_json, to_json
from aprendiz.errors import ConfigError
from aprendiz.impala import spectral_layers
from aprendiz.replay import Batch
from tests.agents.value_agents import (
    ACTIONS,
    DISTRIBUTIONAL,
    IMAGE,
    LINE,
    SMALL,
    VECTOR,
    make_agent,
    make_batch,
    parameters,
)

# Learning


def corridor() -> Batch:
    """Four rooms in a row, all that can happen in them: action 1 goes on, out of the last room for a reward of 1;
    action 0 stays. The value of going on is 0.8 to the power of the rooms that are left."""
    room = torch.arange(4).repeat_interleave(2)
    action = torch.tensor([0, 1] * 4)
    last = (room == 3) & (action == 1)
    following = torch.where(last, room, room + action)
    one_hot = torch.eye(4)
    return Batch(
        observation=one_hot[room],
        action=action,
        reward=last.float(),
        discount=torch.where(last, 0.0, 0.8),
        next_observation=one_hot[following],
        indices=np.zeros((8, 2), np.int64),
    )


@pytest.mark.parametrize("name", LINE)
def test_every_agent_learns_a_corridor(name: str) -> None:
    agent_class = AGENTS.get(name)
    config = dataclasses.replace(
        agent_class.preset_table["vector"]["default"],
        backbone=SMALL,
        learning_rate=3e-3,
        target_period_env_steps=10,
        **({"value_min": -2.0, "value_max": 2.0, "atoms": 41} if hasattr(agent_class.Config, "atoms") else {}),
    )
    agent: ValueAgent = agent_class(agent_class.resolve(config, 1000), VECTOR, Discrete(2), seed=0)
    batch = corridor()
    batch.weights = torch.ones(8) if config.prioritized else None
    rooms = np.eye(4, dtype=np.float32)
    for step in range(300):
        batch.env_steps = step
        agent.update(batch)
    q_values = agent.inspect(rooms)["q_values"]
    np.testing.assert_array_equal(q_values.argmax(axis=1), 1)
    if not config.munchausen:  # whose values count the entropy of the policy, too
        np.testing.assert_allclose(q_values[:, 1], 0.8 ** np.arange(3, -1, -1), atol=0.12)


# Flags


@pytest.mark.parametrize("name", ["dqn", "c51", "qr-dqn", "iqn"])
@pytest.mark.parametrize("target", ["greedy", "double", "munchausen"])
def test_improvements_combine(name: str, target: str) -> None:
    agent = make_agent(
        name,
        double=target == "double",
        munchausen=target == "munchausen",
        dueling=True,
        noisy=True,
        prioritized=True,
        n_step=3,
        layer_norm="last",
        max_gradient_norm=10.0,
    )
    before = parameters(agent)
    outcome = agent.update(make_batch(agent))
    assert np.isfinite(float(outcome.metrics["loss"])) and "td_error" in outcome.per_sample
    assert all((before[key] != after).any() for key, after in parameters(agent).items())


@pytest.mark.parametrize("config", [DQNConfig, C51Config, QRDQNConfig, IQNConfig, BTRConfig, RainbowConfig])
def test_a_soft_policy_has_no_double(config: type[ValueConfig]) -> None:
    with pytest.raises(ConfigError, match="--no-double or --no-munchausen"):
        config(munchausen=True, double=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone_width": 0},
        {"max_pool": -1},
        {"priority_exponent": 1.5},
        {"importance_start": -0.1},
        {"importance_env_steps": -1},
        {"noisy_sigma": 0.0},
        {"munchausen_temperature": 0.0},
        {"munchausen_scale": 2.0},
        {"munchausen_lowest": 1.0},
        {"max_gradient_norm": 0.0},
        {"learning_rate_end": -1.0},
        {"reward_scale": 0.0},
        {"learning_rate_env_steps": -1},
        {"exploration_off_env_steps": -1},
        {"trunk_gradient_scale": 1.5},
    ],
)
def test_a_wrong_value_of_a_flag_is_named(wrong: dict[str, Any]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError) as error:
        ValueConfig(**wrong)
    assert name in str(error.value) and str(value) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (DQNConfig, {"munchausen_scale": 0.5}, "munchausen_scale 0.5 does nothing without munchausen"),
        (DQNConfig, {"noisy_sigma": 0.1}, "noisy_sigma 0.1 does nothing without noisy"),
        (QRDQNConfig, {"priority_exponent": 0.5}, "priority_exponent 0.5 does nothing without prioritized"),
        (RainbowConfig, {"prioritized": False, "importance_env_steps": 9}, "importance_env_steps 9 does nothing"),
        (DQNConfig, {"learning_rate_env_steps": 9}, "learning_rate_env_steps 9 does nothing without learning_rate_end"),
        (PQNConfig, {"learning_rate_end": None, "learning_rate_env_steps": 9}, "nothing without learning_rate_end"),
        (DRQNConfig, {"learning_rate_env_steps": 9}, "nothing without learning_rate_end"),
        (PQNConfig, {"exploration_end": 1.0, "exploration_env_steps": 9}, "exploration is 1 throughout"),
        (DRQNConfig, {"exploration_end": 1.0, "exploration_env_steps": 9}, "exploration is 1 throughout"),
        (PQNConfig, {"exploration_fraction": 0.5, "exploration_env_steps": 9}, "nothing beside exploration_env_steps"),
        (PQNConfig, {"exploration_end": 1.0, "exploration_fraction": 0.5}, "exploration is 1 throughout"),
        (RainbowConfig, {"exploration_off_env_steps": 9}, "exploration_off_env_steps 9 does nothing where exploration"),
        (DRQNConfig, {"n_step": 11}, "n_step 11 does nothing beyond unroll_steps, 10"),
        (
            BTRConfig,
            {"importance_env_steps": 9},
            "importance_env_steps 9 does nothing where importance is 0.2 throughout",
        ),
        (DQNConfig, {"trunk_gradient_scale": 0.5}, "trunk_gradient_scale 0.5 does nothing without dueling"),
        (C51Config, {"loss": "mse"}, "loss mse does nothing since distributions have losses of their own"),
        (BTRConfig, {"loss": "mse"}, "loss mse does nothing since distributions have losses of their own"),
        (
            RainbowConfig,
            {"exploration_env_steps": 9},
            "exploration_env_steps 9 does nothing where exploration is 0 throughout; leave it out",
        ),
        (DQNConfig, {"loss": "l1"}, "loss must be one of 'huber', 'mse', got 'l1'"),
        (DQNConfig, {"optimizer": "sgd"}, "optimizer must be one of 'adam', 'rmsprop', got 'sgd'"),
        (PQNConfig, {"layer_norm": "some"}, "layer_norm must be one of 'none', 'last', 'all', got 'some'"),
        (DRQNConfig, {"cell": "tlu"}, "cell must be one of 'lstm', 'gru', 'rnn', got 'tlu'"),
        (RainbowConfig, {"noisy": False}, "nothing explores; give --no-noisy together with --exploration-start 1"),
        (NoisyDQNConfig, {"noisy": False}, "nothing explores; give --no-noisy together with --exploration-start 1"),
        (BTRConfig, {"noisy": False}, "give --no-noisy together with --exploration-off-env-steps None"),
    ],
)
def test_what_would_do_nothing_is_refused(kind: type, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**wrong).check_new()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("preset", "asked"),
    [
        (DQN_PRESETS["image"]["paper"], {"exploration_start": 0.1}),
        (DRQN_PRESETS["image"]["paper"], {"exploration_start": 0.1}),
        (QR_DQN_PRESETS["image"]["fast"], {"noisy": True, "exploration_start": 0.0, "exploration_end": 0.0}),
        (RAINBOW_PRESETS["vector"]["paper"], {"prioritized": False}),
        (DRQN_PRESETS["vector"]["default"], {"unroll_steps": 2}),
    ],
)
def test_what_nobody_asked_for_may_do_nothing(preset: Any, asked: dict[str, Any]) -> None:
    dataclasses.replace(preset, **asked).check_new(preset)


def test_what_did_nothing_in_an_older_run_is_read_as_it_is() -> None:
    for config in (RainbowConfig(noisy=False), DQNConfig(munchausen_scale=0.5)):
        assert from_json(type(config), to_json(config)) == config


def test_a_schedule_that_ends_at_zero_ends_somewhere() -> None:
    DQNConfig(learning_rate_end=0.0, learning_rate_env_steps=9).check_new()


@pytest.mark.parametrize("part", ["double", "dueling", "noisy", "prioritized", "munchausen"])
@pytest.mark.parametrize("name", LINE)
def test_every_part_of_every_preset_can_be_left_out(name: str, part: str) -> None:
    exploring: dict[str, Any] = {}
    if part == "noisy":
        exploring = {"exploration_start": 1.0, "exploration_end": 0.01, "exploration_off_env_steps": None}
    for presets in AGENTS.get(name).preset_table.values():
        for config in presets.values():
            config.check_new()
            dataclasses.replace(config, **{part: False}, **exploring).check_new()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("name", LINE)
def test_the_residual_network_may_read_for_every_agent(name: str, width: int) -> None:
    agent = make_agent(name, IMAGE, backbone="impala-cnn", backbone_width=width)
    assert agent.online.backbone.stacks[0].conv.out_channels == 16 * width
    assert agent.inspect(np.zeros((1, 4, 84, 84), np.uint8))["q_values"].shape == (1, ACTIONS)


def test_what_a_backbone_cannot_do_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match="nature-cnn has no width; use --backbone-width 1, or another") as error:
        make_agent("dqn", IMAGE, backbone_width=2)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="no spectral_norm and no max_pool; use --no-spectral-norm --max-pool 0, or"):
        make_agent("btr", IMAGE, backbone="nature-cnn", backbone_width=1)


def test_beyond_the_rainbow_is_made_of_its_parts() -> None:
    agent = make_agent("btr", IMAGE, backbone_width=2)
    assert len(spectral_layers(agent.online)) == 12
    assert agent.online.backbone.features == 64 * 6 * 6
    assert agent.online.value is not None and agent.online.noise_size == 2 * (2304 + 512 + 512) + ACTIONS + 1
    before = spectral_layers(agent.online)[0].u.clone()
    outcome = agent.update(make_batch(agent, IMAGE))
    assert np.isfinite(float(outcome.metrics["loss"]))
    assert not torch.equal(before, spectral_layers(agent.online)[0].u)


# Acting and looking


def test_training_explores_by_noise_and_evaluation_does_not() -> None:
    agent = make_agent("noisy-dqn", noisy_sigma=3.0)
    observations = np.ones((64, 4), np.float32)
    training = [agent.act_in_training(observations, 10**6, np.random.default_rng(seed)) for seed in range(4)]
    evaluating = [agent.act(observations, 0.0, np.random.default_rng(seed)) for seed in range(4)]
    assert len({tuple(actions) for actions in training}) == 4
    assert len(set(training[0].tolist())) > 1  # each environment has noise of its own
    assert len({tuple(actions) for actions in evaluating}) == 1 and len(set(evaluating[0].tolist())) == 1
    again = agent.act_in_training(observations, 10**6, np.random.default_rng(0))
    np.testing.assert_array_equal(training[0], again)


def test_noise_is_drawn_whether_it_is_needed_or_not() -> None:
    following = []
    for start in (0.0, 1.0):
        agent, generator = make_agent("noisy-dqn", exploration_start=start, exploration_end=start), None
        generator = np.random.default_rng(0)
        agent.act_in_training(np.ones((2, 4), np.float32), 0, generator)
        following.append(generator.random())
    assert following[0] == following[1]


def test_exploration_ends_where_noise_takes_over() -> None:
    agent = make_agent("btr", exploration_env_steps=100, exploration_off_env_steps=500, exploration_end=0.01)
    assert [agent.exploration(at) for at in (0, 100, 499, 500, 10**9)] == [1.0, 0.01, 0.01, 0.0, 0.0]


@pytest.mark.parametrize("name", DISTRIBUTIONAL)
def test_a_distribution_is_shown_with_its_probabilities(name: str) -> None:
    agent = make_agent(name)
    thought = agent.inspect(np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32))
    values, probabilities = thought["distribution"][..., 0], thought["distribution"][..., 1]
    assert thought["distribution"].dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose((values * probabilities).sum(axis=-1), thought["q_values"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["iqn", "btr", "noisy-dqn"])
def test_updates_draw_anew_each_time(name: str) -> None:
    agent = make_agent(name)
    assert agent._generator is not None
    first, second = (agent._draw(8, agent._generator) for _ in range(2))
    for key in first:
        assert not torch.equal(first[key], second[key])
    if name != "iqn":
        assert first["noise"].shape == (3, agent.noise_size)
    if name != "noisy-dqn":
        shapes = [first[key].shape[1] for key in ("taus", "next_taus", "policy_taus")]
        assert shapes == [agent.config.quantiles, agent.config.target_quantiles, agent.config.policy_quantiles]


def test_fractions_for_choosing_judging_and_learning_are_different_ones() -> None:
    agent = make_agent("iqn", quantiles=4, target_quantiles=4, policy_quantiles=4)
    assert agent._generator is not None
    drawn = agent._draw(8, agent._generator)
    assert not torch.equal(drawn["taus"], drawn["next_taus"])
    assert not torch.equal(drawn["next_taus"], drawn["policy_taus"])
    assert isinstance(agent, IQN)
