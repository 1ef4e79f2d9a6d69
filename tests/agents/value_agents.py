"""Small agents of the DQN line, and batches for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from agents import AGENTS
from aprendiz.backbones import MLP
from aprendiz.replay import Batch

LINE = [
    "dqn",
    "double-dqn",
    "dueling-dqn",
    "prioritized-dqn",
    "n-step-dqn",
    "noisy-dqn",
    "c51",
    "qr-dqn",
    "iqn",
    "munchausen-dqn",
    "rainbow",
    "btr",
]
DISTRIBUTIONAL = ["c51", "qr-dqn", "iqn", "rainbow", "btr"]
VECTOR = Box(-1.0, 1.0, (4,), np.float32)
IMAGE = Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = 3
CPU = torch.device("cpu")
SMALL = f"{__name__}:Small"


class Small(MLP):
    """Two layers of 64."""

    def __init__(self, observation_space: Any, *, trunk: bool = False, layer_norm: str = "none") -> None:
        super().__init__(observation_space, hidden=(64, 64), trunk=trunk, layer_norm=layer_norm)


def make_agent(
    name: str, space: Any = VECTOR, *, seed: int = 0, precision: str = "fp32", actions: int = ACTIONS, **changes: Any
) -> Any:
    agent = AGENTS.get(name)
    kind = "image" if space is IMAGE else "vector"
    small = {"batch_size": 8, "num_envs": 2} | ({} if space is IMAGE else {"backbone": SMALL})
    config = dataclasses.replace(agent.preset_table[kind]["default"], **{**small, **changes})
    return agent(agent.resolve(config, 1000), space, Discrete(actions), seed=seed, precision=precision)


def make_batch(agent: Any, space: Any = VECTOR, *, seed: int = 0, size: int = 8, env_steps: int = 0) -> Batch:
    generator = np.random.default_rng(seed)
    batch = Batch.random(space.shape, space.dtype, ACTIONS, size, CPU, generator)
    batch.reward = torch.from_numpy(generator.standard_normal(size, dtype=np.float32))
    batch.discount = torch.from_numpy(np.where(generator.random(size) < 0.3, 0.0, 0.9).astype(np.float32))
    batch.env_steps = env_steps
    if agent.config.prioritized:
        batch.weights = torch.from_numpy(generator.random(size).astype(np.float32))
    return batch


def parameters(agent: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in agent.online.state_dict().items()}


def apart(agent: Any, scale: float = 0.5) -> None:
    """Makes the target network another one than the online network."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
