"""Presets of the DQN line: each agent is what its name says, `paper` has its paper's numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import envs
from agents import AGENTS
from agents.btr import BTRConfig
from agents.drqn import PRESETS as DRQN_PRESETS
from agents.rainbow import RainbowConfig
from tests.agents.value_agents import LINE, VECTOR

NATURE = {"optimizer": "rmsprop", "learning_rate": 2.5e-4, "optimizer_epsilon": 0.1 / 32, "batch_size": 32}
TUNED_DOUBLE = {"double": True, "target_period_env_steps": 30_000, "exploration_end": 0.01, "optimizer": "rmsprop"}
ADAM = {"optimizer": "adam", "optimizer_epsilon": 0.01 / 32, "exploration_end": 0.01}
PAPERS: dict[str, dict[str, Any]] = {
    "dqn": NATURE
    | {
        "discount": 0.99,
        "replay_capacity": 1_000_000,
        "target_period_env_steps": 10_000,
        "warmup_env_steps": 50_000,
        "exploration_end": 0.1,
        "exploration_env_steps": 1_000_000,
        "life_loss_ends_value": True,
    },
    "double-dqn": TUNED_DOUBLE | {"learning_rate": 2.5e-4},
    "dueling-dqn": TUNED_DOUBLE
    | {"learning_rate": 6.25e-5, "max_gradient_norm": 10.0, "trunk_gradient_scale": pytest.approx(0.5**0.5, abs=1e-4)},
    "prioritized-dqn": TUNED_DOUBLE
    | {"learning_rate": 2.5e-4 / 4, "priority_exponent": 0.6, "importance_start": 0.4, "importance_end": 1.0},
    "n-step-dqn": NATURE | {"n_step": 3},
    "noisy-dqn": NATURE | {"noisy_sigma": 0.5, "exploration_start": 0.0, "exploration_end": 0.0},
    "c51": ADAM | {"learning_rate": 2.5e-4, "atoms": 51, "value_min": -10.0, "value_max": 10.0},
    "qr-dqn": ADAM | {"learning_rate": 5e-5, "quantiles": 200, "huber_threshold": 1.0},
    "iqn": ADAM
    | {"learning_rate": 5e-5, "quantiles": 64, "target_quantiles": 64, "policy_quantiles": 32, "cosines": 64},
    "munchausen-dqn": ADAM
    | {
        "learning_rate": 5e-5,
        "loss": "huber",
        "life_loss_ends_value": False,
        "munchausen_scale": 0.9,
        "munchausen_temperature": 0.03,
        "munchausen_lowest": -1.0,
        "target_period_env_steps": 8_000,
        "warmup_env_steps": 20_000,
        "exploration_env_steps": 250_000,
    },
    "rainbow": {
        "optimizer": "adam",
        "learning_rate": 6.25e-5,
        "optimizer_epsilon": 1.5e-4,
        "warmup_env_steps": 20_000,
        "target_period_env_steps": 8_000,
        "exploration_end": 0.0,
        "noisy_sigma": 0.5,
        "priority_exponent": 0.5,
        "importance_start": 0.4,
        "importance_end": 1.0,
        "n_step": 3,
        "atoms": 51,
        "value_min": -10.0,
        "value_max": 10.0,
    },
    "btr": {
        "backbone": "impala-cnn",
        "backbone_width": 2,
        "spectral_norm": True,
        "max_pool": 6,
        "num_envs": 64,
        "discount": 0.997,
        "n_step": 3,
        "priority_exponent": 0.2,
        "importance_start": 0.2,
        "importance_end": 0.2,
        "learning_rate": 1e-4,
        "optimizer_epsilon": 0.005 / 256,
        "batch_size": 256,
        "replay_capacity": 2**20,
        "train_period_env_steps": 64,
        "target_period_env_steps": 500 * 64,
        "quantiles": 8,
        "cosines": 64,
        "munchausen_scale": 0.9,
        "munchausen_temperature": 0.03,
        "max_gradient_norm": 10.0,
        "life_loss_ends_value": False,
    },
    "drqn": {
        "optimizer": "adadelta",
        "learning_rate": 0.1,
        "max_gradient_norm": 10.0,
        "units": 512,
        "unroll_steps": 10,
        "burn_in": 0,
        "train_period_env_steps": 4,
        "target_period_env_steps": 10_000,
    },
}
"""On images, in the units of agents/value_config.py: decisions of the agent."""


@pytest.mark.parametrize("name", PAPERS)
def test_paper_has_the_numbers_of_the_paper(name: str) -> None:
    table = DRQN_PRESETS if name == "drqn" else AGENTS.get(name).preset_table
    config = table["image"]["paper"]
    assert {field: getattr(config, field) for field in PAPERS[name]} == PAPERS[name]


def test_each_agent_is_what_its_name_says() -> None:
    flags = ("double", "dueling", "prioritized", "noisy", "munchausen")
    found = {name: {flag for flag in flags if getattr(AGENTS.get(name).Config(), flag)} for name in LINE}
    assert found == {
        "dqn": set(),
        "double-dqn": {"double"},
        "dueling-dqn": {"double", "dueling"},
        "prioritized-dqn": {"double", "prioritized"},
        "n-step-dqn": set(),
        "noisy-dqn": {"noisy"},
        "c51": set(),
        "qr-dqn": set(),
        "iqn": set(),
        "munchausen-dqn": {"munchausen"},
        "rainbow": {"double", "dueling", "prioritized", "noisy"},
        "btr": {"dueling", "prioritized", "noisy", "munchausen"},
    }
    assert AGENTS.get("n-step-dqn").Config().n_step == RainbowConfig().n_step == BTRConfig().n_step == 3


@pytest.mark.parametrize("name", LINE)
@pytest.mark.parametrize("kind", ["image", "vector", "discrete"])
def test_presets_keep_what_makes_the_agent(name: str, kind: str) -> None:
    agent = AGENTS.get(name)
    plain = agent.Config()
    for preset in agent.preset_table[kind].values():
        for flag in ("double", "dueling", "prioritized", "noisy", "munchausen"):
            assert getattr(preset, flag) == getattr(plain, flag)
        assert preset.noisy is False or name == "btr" or preset.exploration_start == 0.0


@pytest.mark.parametrize("name", LINE)
def test_every_preset_makes_an_agent_that_acts(name: str) -> None:
    agent_class = AGENTS.get(name)
    seen = {
        "vector": (VECTOR, np.zeros((4, 4), np.float32)),
        "discrete": (Discrete(5), np.arange(4)),
        "image": (Box(0, 255, (4, 84, 84), np.uint8), np.zeros((4, 4, 84, 84), np.uint8)),
    }
    for kind, (space, observations) in seen.items():
        for config in agent_class.preset_table[kind].values():
            agent = agent_class(agent_class.resolve(config, 1000), space, Discrete(2), seed=0)
            assert agent.act(observations, 0.0, np.random.default_rng(0)).shape == (4,)


def test_pictures_of_a_quick_task_get_returns_over_three_steps() -> None:
    quick, atari = envs.make("minigrid-empty-5x5", 1).spec, envs.make("breakout", 1).spec
    for name in LINE:
        agent = AGENTS.get(name)
        assert agent.presets(quick)["default"].n_step == 3
        assert agent.presets(atari)["default"].n_step == agent.preset_table["image"]["default"].n_step
    dqn, theirs = AGENTS.get("dqn").presets(quick)["default"], AGENTS.get("sb3-dqn").presets(quick)["like-dqn"]
    assert dqn.n_step == theirs.n_step and AGENTS.get("sb3-dqn").presets(atari)["like-dqn"].n_step == 1
    btr, drqn = AGENTS.get("btr"), AGENTS.get("drqn")
    assert (btr.presets(quick)["default"].batch_size, btr.presets(atari)["default"].batch_size) == (32, 256)
    learned, atari_s = drqn.presets(quick)["default"], drqn.presets(atari)["default"]
    assert (learned.double, learned.n_step) == (True, 3) and (atari_s.double, atari_s.n_step) == (False, 1)
    pqn = AGENTS.get("pqn")
    assert (pqn.presets(quick)["default"].num_envs, pqn.presets(atari)["default"].num_envs) == (8, 32)


@pytest.mark.parametrize("task", ["breakout", "minigrid-empty-random-6x6"])
def test_the_library_s_agent_with_our_settings_has_our_settings(task: str) -> None:
    spec = envs.make(task, 1).spec
    dqn, theirs = AGENTS.get("dqn"), AGENTS.get("sb3-dqn")
    ours = dqn.resolve(dqn.presets(spec)["default"], 80_000)
    like = theirs.resolve(theirs.presets(spec)["like-dqn"], 80_000)
    same = ("num_envs", "n_step", "discount", "learning_rate", "batch_size", "replay_capacity", "warmup_env_steps")
    same += ("target_period_env_steps", "max_gradient_norm", "clip_rewards", "life_loss_ends_value")
    same += ("exploration_start", "exploration_end", "exploration_env_steps")
    assert [getattr(like, name) for name in same] == [getattr(ours, name) for name in same]
    assert like.gradient_steps / like.train_period_env_steps == 1 / ours.train_period_env_steps
    assert (like.hidden_layers, like.target_rate, ours.backbone) == (0, 1.0, "nature-cnn")
    assert (ours.optimizer, ours.optimizer_epsilon, ours.learning_rate_end) == ("adam", 1e-8, None)  # the library's
    assert (ours.loss, ours.reward_scale, ours.double, ours.layer_norm) == ("huber", 1.0, False, "none")


@pytest.mark.parametrize("name", [*LINE, "drqn", "pqn"])
def test_rewards_are_scaled_and_not_clipped_where_the_environment_knows_how(name: str) -> None:
    agent, unknown = AGENTS.get(name), envs.make("minigrid-empty-5x5", 1).spec
    known = dataclasses.replace(unknown, reward_scale=0.01)
    assert all(config.clip_rewards and config.reward_scale == 1.0 for config in agent.presets(unknown).values())
    assert all(not config.clip_rewards and config.reward_scale == 0.01 for config in agent.presets(known).values())
