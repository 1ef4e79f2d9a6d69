"""IQN: implicit quantile networks.

Paper: Dabney, Ostrovski, Silver and Munos, "Implicit Quantile Networks for Distributional Reinforcement Learning", ICML
2018 ("2018b" here).

    Z_tau(s, a) = f(psi(s) * phi(tau))_a,  phi(tau) = relu(W [cos(pi i tau)] + b)    (equation 4)
    u_ij  = r + discount * Z_{tau'_j}(s', a*) - Z_{tau_i}(s, a),  tau, tau' ~ U(0, 1)
    loss  = sum_i mean_j |tau_i - 1{u_ij < 0}| Huber_kappa(u_ij) / kappa             (equation 3)
    a*    = argmax_a of the mean of Z_tau(s', a) over K draws of tau                  (equation 2)

The embedding is `QuantileEmbedding` in agents/value_network.py, the loss that of agents/qr_dqn.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from agents.dqn import PRESETS as DQN_PRESETS
from agents.qr_dqn import QuantileValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper, with_vector, with_vector_default
from agents.value_kind import ValueKind
from aprendiz.config import check_above_zero, check_at_least

__all__ = ["IQN", "PRESETS", "IQNConfig", "ImplicitQuantileValue"]


@dataclass(frozen=True, kw_only=True)
class IQNConfig(ValueConfig):
    """Hyperparameters of IQN: those of DQN but for the distribution. `paper`: Dabney et al. 2018b, section 4."""

    quantiles: int = 64
    """Quantiles drawn of what is learned (N of Dabney et al. 2018b, section 4)."""
    target_quantiles: int = 64
    """Quantiles drawn of what follows (N' of Dabney et al. 2018b, section 4)."""
    policy_quantiles: int = 32
    """Quantiles averaged to choose an action (K of Dabney et al. 2018b, section 4)."""
    cosines: int = 64
    """Cosines that describe a quantile (n of Dabney et al. 2018b, section 4)."""
    huber_threshold: float = 1.0
    """kappa: errors from here on count linearly (Dabney et al. 2018b, section 4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_quantiles(self)


def check_quantiles(config: Any) -> None:
    """Raises ConfigError where numbers of quantiles, cosines or the threshold make no sense."""
    check_at_least(config, 1, "quantiles", "target_quantiles", "policy_quantiles", "cosines")
    check_above_zero(config, "huber_threshold")


class ImplicitQuantileValue(QuantileValue):
    """Quantiles at fractions that are drawn anew for each update."""

    def __init__(self, config: Any, device: torch.device) -> None:
        ValueKind.__init__(self, config, device)
        self.cosines = config.cosines
        self.taus = (config.quantiles, config.target_quantiles, config.policy_quantiles)


PAPER = {"optimizer": "adam", "learning_rate": 5e-5, "optimizer_epsilon": 0.01 / 32, "exploration_end": 0.01}
PRESETS = with_vector_default(
    with_vector(
        with_paper(derived(IQNConfig, DQN_PRESETS), image=PAPER, vector=PAPER),
        # Small tasks are learned as well with Rainbow-IQN's fewer quantiles, in a fraction of the time.
        quantiles=8,
        target_quantiles=8,
        policy_quantiles=16,
    ),
    # Every transition passes through the network once a quantile.
    batch_size=64,
)
# On a laptop's clock 64 quantiles would take most of the time; eight learn as well (Toromanoff et al. 2019, and BTR).
PRESETS["image"]["fast"] = replace(PRESETS["image"]["fast"], quantiles=8, target_quantiles=8, policy_quantiles=16)


class IQN(ValueAgent):
    """Implicit quantile network."""

    Config = IQNConfig
    kind = ImplicitQuantileValue
    preset_table = PRESETS
