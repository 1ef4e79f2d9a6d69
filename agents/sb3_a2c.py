"""A2C of Stable-Baselines3, as an adapter (Raffin et al. 2021, JMLR 22:268; algorithm: Mnih et al. 2016,
arXiv:1602.01783, synchronous).

Presets: `default` has the numbers of RL Baselines3 Zoo (hyperparams/a2c.yml) for Atari and CartPole, and those of the
library's constructor for continuous actions; `sb3` those of the constructor everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from stable_baselines3 import A2C
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from agents.sb3 import RolloutAgent, RolloutConfig
from agents.sb3_vec_env import SpacesVecEnv
from aprendiz.config import check_above_zero, check_choices


@dataclass(frozen=True, kw_only=True)
class SB3A2CConfig(RolloutConfig):
    """Hyperparameters of Stable-Baselines3's A2C. Defaults are those of its constructor unless a line says otherwise.
    Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    learning_rate: float = 7e-4
    """Step size of the optimiser."""
    rollout_steps: int = 5
    """Steps of each environment between trainings (`n_steps`)."""
    trace: float = 1.0
    """Lambda of generalised advantage estimation; 1: returns to the end of the rollout (Mnih et al. 2016)."""
    optimizer: Literal["rmsprop", "rmsprop-tf", "adam"] = "rmsprop"
    """RMSProp; `rmsprop-tf` adds epsilon under the root, as TensorFlow does."""
    optimizer_epsilon: float = 1e-5
    """Added to the optimiser's denominator (`rms_prop_eps`)."""
    normalize_advantage: bool = False
    """Advantages of a rollout have mean 0 and deviation 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_above_zero(self, "optimizer_epsilon")


# hyperparams/a2c.yml, CartPole-v1.
_ON_VECTORS = {"default": SB3A2CConfig(num_envs=8), "sb3": SB3A2CConfig()}
PRESETS = {
    "image": {
        # hyperparams/a2c.yml, atari.
        "default": SB3A2CConfig(
            num_envs=16,
            entropy_coefficient=0.01,
            value_coefficient=0.25,
            optimizer="rmsprop-tf",
            hidden_layers=0,
            clip_rewards=True,
        ),
        "sb3": SB3A2CConfig(hidden_layers=0, clip_rewards=True),
    },
    "vector": _ON_VECTORS,
    "discrete": _ON_VECTORS,
    "continuous": {"default": SB3A2CConfig(num_envs=8), "sb3": SB3A2CConfig()},
}
_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"rmsprop-tf": RMSpropTFLike, "adam": torch.optim.Adam}


class SB3A2C(RolloutAgent):
    """Stable-Baselines3's A2C."""

    Config = SB3A2CConfig
    name = "sb3-a2c"
    preset_table: ClassVar[Any] = PRESETS

    def build(self, env: SpacesVecEnv) -> Any:
        config, options = self.config, self.policy_options()
        if config.optimizer != "rmsprop":
            options["optimizer_class"] = _OPTIMIZERS[config.optimizer]
            options["optimizer_kwargs"] = {"eps": config.optimizer_epsilon}
        return A2C(
            self.policy_name,
            env,
            policy_kwargs=options,
            use_rms_prop=config.optimizer == "rmsprop",
            rms_prop_eps=config.optimizer_epsilon,
            normalize_advantage=config.normalize_advantage,
            **self.rollout_options(),
        )
