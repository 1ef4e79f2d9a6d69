"""PPO of Stable-Baselines3, as an adapter (Raffin et al. 2021, JMLR 22:268; algorithm: Schulman et al. 2017,
arXiv:1707.06347).

Presets: `default` has the numbers of RL Baselines3 Zoo (hyperparams/ppo.yml) for Atari and CartPole, and those of the
library's constructor for continuous actions; `sb3` those of the constructor everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stable_baselines3 import PPO

from agents.sb3 import RolloutAgent, RolloutConfig, falling
from agents.sb3_vec_env import SpacesVecEnv
from aprendiz.config import check_above_zero, check_at_least
from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SB3PPOConfig(RolloutConfig):
    """Hyperparameters of Stable-Baselines3's PPO. Defaults are those of its constructor unless a line says otherwise.
    Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    batch_size: int = 64
    """Steps of a minibatch."""
    epochs: int = 10
    """Passes over each rollout (`n_epochs`)."""
    clip_range: float = 0.2
    """The probability of an action changes by this factor at most (epsilon of Schulman et al. 2017, equation 7)."""
    clip_range_falls: bool = False
    """It falls linearly to zero at the end of the schedule (`lin_` in RL Baselines3 Zoo)."""
    normalize_advantage: bool = True
    """Advantages of a minibatch have mean 0 and deviation 1."""
    target_kl: float | None = None
    """Stop the epochs where the policy has moved further than this. None: never."""

    @property
    def something_falls(self) -> bool:
        return self.learning_rate_falls or self.clip_range_falls

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "epochs")
        check_at_least(self, 2, "batch_size")
        check_above_zero(self, "clip_range", "target_kl")
        if self.batch_size > self.rollout_steps * self.num_envs:
            raise ConfigError(
                f"batch_size {self.batch_size} is more than a rollout holds: {self.rollout_steps} steps of "
                f"{self.num_envs} environments"
            )


_ON_VECTORS = {
    # hyperparams/ppo.yml, CartPole-v1.
    "default": SB3PPOConfig(
        num_envs=8,
        rollout_steps=32,
        batch_size=256,
        trace=0.8,
        discount=0.98,
        epochs=20,
        learning_rate=1e-3,
        learning_rate_falls=True,
        clip_range_falls=True,
    ),
    "sb3": SB3PPOConfig(),
}
PRESETS = {
    "image": {
        # hyperparams/ppo.yml, atari.
        "default": SB3PPOConfig(
            num_envs=8,
            rollout_steps=128,
            epochs=4,
            batch_size=256,
            learning_rate=2.5e-4,
            learning_rate_falls=True,
            clip_range=0.1,
            clip_range_falls=True,
            entropy_coefficient=0.01,
            hidden_layers=0,
            clip_rewards=True,
        ),
        "sb3": SB3PPOConfig(hidden_layers=0, clip_rewards=True),
    },
    "vector": _ON_VECTORS,
    "discrete": _ON_VECTORS,
    "continuous": {
        "default": SB3PPOConfig(),
        "sb3": SB3PPOConfig(),
        # hyperparams/ppo.yml, Pendulum-v1, but for its state-dependent exploration.
        "pendulum": SB3PPOConfig(num_envs=4, rollout_steps=1024, discount=0.9, learning_rate=1e-3),
    },
}


class SB3PPO(RolloutAgent):
    """Stable-Baselines3's PPO."""

    Config = SB3PPOConfig
    name = "sb3-ppo"
    preset_table: ClassVar[Any] = PRESETS

    def build(self, env: SpacesVecEnv) -> Any:
        config = self.config
        return PPO(
            self.policy_name,
            env,
            policy_kwargs=self.policy_options(),
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            clip_range=falling(config.clip_range, config.clip_range_falls),
            normalize_advantage=config.normalize_advantage,
            target_kl=config.target_kl,
            **self.rollout_options(),
        )
