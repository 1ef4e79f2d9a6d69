"""QR-DQN: quantiles of the return.

Paper: Dabney, Rowland, Bellemare and Munos, "Distributional Reinforcement Learning with Quantile Regression", AAAI
2018, algorithm 1.

    Z(s, a) takes the values theta_i(s, a), i = 1..N, with probability 1/N each, tau_i = (i - 1/2) / N
    u_ij    = r + discount * theta_j(s', a*) - theta_i(s, a)
    loss    = sum_i mean_j |tau_i - 1{u_ij < 0}| Huber_kappa(u_ij) / kappa           (equations 9 and 10;
              / kappa is equation 3 of Dabney et al. 2018b, the same for kappa = 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.dqn import PRESETS as DQN_PRESETS
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper, with_vector, with_vector_default
from agents.value_kind import ValueKind, ValueLoss
from aprendiz.config import check_above_zero, check_at_least

__all__ = ["PRESETS", "QRDQN", "QRDQNConfig", "QuantileValue", "midpoints", "quantile_huber_loss"]


@dataclass(frozen=True, kw_only=True)
class QRDQNConfig(ValueConfig):
    """Hyperparameters of QR-DQN: those of DQN but for the distribution. `paper`: Dabney et al. 2018, section 5."""

    quantiles: int = 200
    """Quantiles of the return (Dabney et al. 2018, section 5)."""
    huber_threshold: float = 1.0
    """kappa: errors from here on count linearly (Dabney et al. 2018, QR-DQN-1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "quantiles")
        check_above_zero(self, "huber_threshold")


PAPER = {"optimizer": "adam", "learning_rate": 5e-5, "optimizer_epsilon": 0.01 / 32, "exploration_end": 0.01}
PRESETS = with_paper(
    with_vector_default(
        with_vector(derived(QRDQNConfig, DQN_PRESETS), quantiles=50),
        # Small tasks are learned as well with fewer quantiles, in a fraction of the time.
        quantiles=25,
    ),
    image=PAPER,
    vector={**PAPER, "quantiles": 200},
)
# Ours, for an hour on a laptop: few large updates, many games, short targets.
PRESETS["image"]["fast"] = QRDQNConfig(
    layer_norm="last",
    quantiles=32,
    n_step=3,
    num_envs=64,
    batch_size=256,
    train_period_env_steps=64,
    learning_rate=1e-3,
    learning_rate_end=0.0,
    optimizer_epsilon=0.005 / 256,
    target_period_env_steps=2_000,
    exploration_end=0.01,
    exploration_env_steps=150_000,
    warmup_env_steps=20_000,
)


def midpoints(quantiles: int, device: torch.device | str = "cpu") -> Tensor:
    """tau_i = (i - 1/2) / N, float32 [N]: the middle of each share (Dabney et al. 2018, lemma 2)."""
    return (torch.arange(quantiles, device=device, dtype=torch.float32) + 0.5) / quantiles


def quantile_huber_loss(quantiles: Tensor, target: Tensor, taus: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Loss [B], and the mean absolute TD error [B], of quantiles [B, N] at taus [N] or [B, N] against targets [B, N'].

    Dabney et al. (2018), equations 9 and 10: summed over the quantiles, averaged over the targets. As Dabney et al.
    (2018b), equation 3, the Huber loss is divided by its threshold, so that small thresholds approach quantile
    regression.
    """
    error = target[:, None, :] - quantiles[:, :, None]  # [B, N, N']
    size = error.abs()
    huber = torch.where(size <= threshold, 0.5 * error**2, threshold * (size - 0.5 * threshold)) / threshold
    asymmetry = (taus[..., None] - (error.detach() < 0).float()).abs()  # [N, N'] or [B, N, N']
    return (asymmetry * huber).mean(dim=2).sum(dim=1), size.detach().mean(dim=(1, 2))


class QuantileValue(ValueKind):
    """Z quantiles of equal probability; the outputs are their values."""

    def __init__(self, config: Any, device: torch.device) -> None:
        super().__init__(config, device)
        self.outputs = config.quantiles
        self.midpoints = midpoints(config.quantiles, device)

    def distribution(self, outputs: Tensor) -> Tensor:
        return outputs if outputs.ndim == 3 else outputs[..., None]

    def q_values(self, distribution: Tensor) -> Tensor:
        return distribution.mean(dim=-1)

    def loss(
        self, chosen: Tensor, reward: Tensor, discount: Tensor, following: Tensor, taus: Tensor | None
    ) -> ValueLoss:
        """Quantile Huber loss [B]; the mean absolute TD error is the priority."""
        target = reward[:, None] + discount[:, None] * following  # [B, Z']
        chosen = chosen if chosen.ndim == 2 else chosen[:, None]
        at = self.midpoints if taus is None else taus
        per_sample, error = quantile_huber_loss(chosen, target, at, self.config.huber_threshold)
        return ValueLoss(per_sample, target.mean(), error if self.config.prioritized else None)

    def picture(self, distribution: Tensor) -> Tensor:
        return torch.stack([distribution, torch.full_like(distribution, 1.0 / distribution.shape[-1])], dim=-1)


class QRDQN(ValueAgent):
    """Quantile-regression DQN."""

    Config = QRDQNConfig
    kind = QuantileValue
    preset_table = PRESETS
