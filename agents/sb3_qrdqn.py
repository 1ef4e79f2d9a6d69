"""QR-DQN of sb3-contrib, as an adapter (Raffin et al. 2021, JMLR 22:268; algorithm: Dabney et al. 2018, AAAI).

sb3-contrib is an optional package: `pip install sb3-contrib`, or the extra `contrib`. Presets: `default` has the
numbers of RL Baselines3 Zoo (hyperparams/qrdqn.yml), `sb3` those of the library's constructor.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from agents.sb3_dqn import EpsilonGreedyAgent, SB3DQNConfig, zoo_cartpole
from agents.sb3_vec_env import SpacesVecEnv
from aprendiz.config import check_at_least
from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SB3QRDQNConfig(SB3DQNConfig):
    """Hyperparameters of sb3-contrib's QR-DQN. Defaults are those of its constructor unless a line says otherwise.
    Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    learning_rate: float = 5e-5
    """Step size of Adam, whose epsilon is 0.01 / batch_size (Dabney et al. 2018, appendix)."""
    quantiles: int = 200
    """Quantiles of each action's return (`n_quantiles`; Dabney et al. 2018)."""
    exploration_end: float = 0.01
    """Probability of a random action once the schedule has ended."""
    exploration_share: float = 0.005
    """Part of the budget over which it falls linearly (`exploration_fraction`)."""
    max_gradient_norm: float | None = None
    """Gradients are scaled down to this norm, all together. None: they are left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "quantiles")


_ON_VECTORS = {"default": zoo_cartpole(SB3QRDQNConfig(), quantiles=10), "sb3": SB3QRDQNConfig()}
PRESETS = {
    "image": {
        # hyperparams/qrdqn.yml, atari; its warm-up of 50,000 belongs to a budget of ten million steps.
        "default": SB3QRDQNConfig(warmup_env_steps=None, exploration_share=0.025, hidden_layers=0, clip_rewards=True),
        "sb3": SB3QRDQNConfig(hidden_layers=0, clip_rewards=True),
    },
    "vector": _ON_VECTORS,
    "discrete": _ON_VECTORS,
}


class SB3QRDQN(EpsilonGreedyAgent):
    """sb3-contrib's QR-DQN."""

    Config = SB3QRDQNConfig
    name = "sb3-qrdqn"
    preset_table: ClassVar[Any] = PRESETS

    @classmethod
    def check_installed(cls) -> None:
        if importlib.util.find_spec("sb3_contrib") is None:
            raise ConfigError(f"{cls.name} comes with sb3-contrib, which is not installed; pip install sb3-contrib")

    def build(self, env: SpacesVecEnv) -> Any:
        contrib: Any = importlib.import_module("sb3_contrib")
        return contrib.QRDQN(
            self.policy_name,
            env,
            policy_kwargs=self.policy_options() | {"n_quantiles": self.config.quantiles},
            max_grad_norm=self.config.max_gradient_norm,
            **self.epsilon_options(),
        )

    def look_into(self, observations: Any) -> dict[str, torch.Tensor]:
        """`q_values` [N, A], and `distribution` [N, A, Z, 2]: quantiles and their probabilities."""
        quantiles = self.model.policy.quantile_net(observations).transpose(1, 2)  # [N, A, Z]
        probabilities = torch.full_like(quantiles, 1 / quantiles.shape[2])
        return {"q_values": quantiles.mean(dim=2), "distribution": torch.stack([quantiles, probabilities], dim=3)}
