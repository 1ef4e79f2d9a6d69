"""C51: a categorical distribution of the return.

Paper: Bellemare, Dabney and Munos, "A Distributional Perspective on Reinforcement Learning", ICML 2017, algorithm 1.

    Z(s, a) takes the values z_i = v_min + i dz with the probabilities p_i(s, a) = softmax(outputs)_i
    target  = the projection onto the atoms of r + discount * Z_target(s', a*)      (equation 7)
    loss    = the cross entropy between that and p(s, a)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.dqn import PRESETS as DQN_PRESETS
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper
from agents.value_kind import ValueKind, ValueLoss
from aprendiz.config import check_at_least
from aprendiz.errors import ConfigError

__all__ = ["C51", "PRESETS", "C51Config", "CategoricalValue", "project"]


@dataclass(frozen=True, kw_only=True)
class C51Config(ValueConfig):
    """Hyperparameters of C51: those of DQN but for the distribution. `paper`: Bellemare et al. 2017, section 5."""

    atoms: int = 51
    """Values of the return that have a probability (Bellemare et al. 2017, section 5)."""
    value_min: float = -10.0
    """The least of them, in units of learned (clipped) reward (Bellemare et al. 2017, section 5)."""
    value_max: float = 10.0
    """The greatest of them (Bellemare et al. 2017, section 5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_atoms(self)


def check_atoms(config: Any) -> None:
    """Raises ConfigError where atoms, value_min and value_max make no support."""
    check_at_least(config, 2, "atoms")
    if not -float("inf") < config.value_min < config.value_max < float("inf"):
        raise ConfigError(f"value_min must be below value_max, got {config.value_min} and {config.value_max}")


PAPER = {"optimizer": "adam", "learning_rate": 2.5e-4, "optimizer_epsilon": 0.01 / 32, "exploration_end": 0.01}
# CleanRL's c51.py: discounted sums of rewards of 1 reach 100, of rewards of -1 (Acrobot, MountainCar) -100. Where a
# tenth of the rewards is learned from, the paper's support has the same room.
UNSCALED = {"atoms": 101, "value_min": -100.0, "value_max": 100.0}
PRESETS = with_paper(derived(C51Config, DQN_PRESETS), image=PAPER, vector={**PAPER, **UNSCALED})


def project(atoms: Tensor, reward: Tensor, discount: Tensor, probabilities: Tensor) -> Tensor:
    """The distribution of r + discount * z, brought back onto the atoms: Bellemare et al. (2017), equation 7.

    atoms [Z], evenly spaced; reward, discount [B]; probabilities [B, Z] of the atoms in the next state; to [B, Z]. What
    lies between two atoms is shared between them by nearness, on an atom it stays whole, outside the support it goes to
    the end.
    """
    low, high = atoms[0], atoms[-1]
    moved = (reward[:, None] + discount[:, None] * atoms).clamp(low, high)  # [B, Z]
    spacing = (high - low) / (len(atoms) - 1)
    # Row j of what is shared: how near the moved atom i is to atom j, 1 on it and 0 from one spacing on.
    nearness = (1.0 - (moved[:, None, :] - atoms[None, :, None]).abs() / spacing).clamp(0.0, 1.0)  # [B, Z, Z]
    return (nearness * probabilities[:, None, :]).sum(dim=2)


class CategoricalValue(ValueKind):
    """Z atoms of fixed value; the outputs are the logits of their probabilities."""

    def __init__(self, config: Any, device: torch.device) -> None:
        super().__init__(config, device)
        self.outputs = config.atoms
        self.atoms = torch.linspace(config.value_min, config.value_max, config.atoms, device=device)

    def distribution(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=-1)

    def q_values(self, distribution: Tensor) -> Tensor:
        return (distribution * self.atoms).sum(dim=-1)

    def loss(
        self, chosen: Tensor, reward: Tensor, discount: Tensor, following: Tensor, taus: Tensor | None
    ) -> ValueLoss:
        """Cross entropy [B]; the Kullback-Leibler divergence is the priority (Hessel et al. 2018)."""
        target = project(self.atoms, reward, discount, following)  # [B, Z]
        cross_entropy = -(target * F.log_softmax(chosen, dim=1)).sum(dim=1)
        divergence = None
        if self.config.prioritized:
            divergence = cross_entropy.detach() + torch.xlogy(target, target).sum(dim=1)
        return ValueLoss(cross_entropy, (target * self.atoms).sum(dim=1).mean(), divergence)

    def picture(self, distribution: Tensor) -> Tensor:
        return torch.stack([self.atoms.expand_as(distribution), distribution], dim=-1)


class C51(ValueAgent):
    """Categorical DQN."""

    Config = C51Config
    kind = CategoricalValue
    preset_table = PRESETS
