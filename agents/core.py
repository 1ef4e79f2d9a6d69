"""What every agent is: a learner that also acts, and that can be looked into."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aprendiz.loop import Outcome, Source
from aprendiz.seeds import derived_seed

if TYPE_CHECKING:
    from gymnasium import Space

    from envs.core import Env, EnvSpec

__all__ = ["Agent", "Purpose", "derived_seed", "epsilon_greedy"]


class Agent:
    """Base of all agents. A subclass names its frozen `Config`, and defines what raises NotImplementedError here."""

    Config: ClassVar[type]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    """Precisions that it can learn in; the fastest on this machine is chosen when a run is created."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    """Kinds of device that it can live on."""

    config: Any

    def __init__(
        self,
        config: Any,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        """`seed` decides the initial parameters. Raises ConfigError for spaces that it cannot learn in."""
        raise NotImplementedError

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        """Configs by name for this kind of environment, `default` first. Raises ConfigError where none fits."""
        raise NotImplementedError

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        """The config with every fraction of the budget turned into a number of environment steps."""
        return config

    def make_source(self, env: Env, *, seed: int) -> Source:
        """Where its batches come from while it trains in `env`."""
        raise NotImplementedError

    def exploration(self, env_steps: int) -> float:
        """How much to explore after so many environment steps: what `act` takes as `explore`."""
        return 0.0

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions int64 [N] for observations [N, ...]. `explore` is the probability of a uniformly random action (0 is
        greedy), one coin an environment."""
        raise NotImplementedError

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """What it thinks, for watching: `q_values` [N, A], and whatever else it has."""
        raise NotImplementedError

    def update(self, batch: Any) -> Outcome:
        """One step of learning."""
        raise NotImplementedError

    def modules(self) -> dict[str, nn.Module]:
        """Its networks by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError


class Purpose(IntEnum):
    """What a random generator of a run is for; each is derived from the run's one seed."""

    NETWORK = 1
    ENVIRONMENT = 2
    ACTING = 3
    REPLAY = 4
    SELECTION = 5
    """Games that choose the checkpoint called `best`."""
    EVALUATION = 6
    """Games that are reported."""


def epsilon_greedy(
    greedy: Any, count: int, actions: int, explore: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Actions int64 [N]: `greedy()` [N], with probability `explore` replaced by a uniform one, one coin an environment.

    Coins and random actions are always drawn, so that what is consumed does not depend on what is decided; `greedy` is
    not called when nobody needs it.
    """
    coins = generator.random(count) < explore
    random_actions = generator.integers(0, actions, count)
    if coins.all():
        return random_actions
    return np.where(coins, random_actions, greedy())
