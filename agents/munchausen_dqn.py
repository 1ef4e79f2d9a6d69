"""Munchausen DQN.

Paper: Vieillard, Pietquin and Geist, "Munchausen Reinforcement Learning", NeurIPS 2020.

    pi = softmax(Q_target / tau)
    y  = r + alpha [tau log pi(a|s)]_{l0}^0 + discount * sum_a' pi(a'|s') (Q_target(s', a') - tau log pi(a'|s'))
    (section 2; the clipping: section 4)

The equations are `soft_policy`, `munchausen_bonus` and `soft_entropy` in agents/value_targets.py, and `--munchausen` of
every agent of the line; with quantiles this is the paper's M-IQN.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper

__all__ = ["PRESETS", "MunchausenDQN", "MunchausenDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class MunchausenDQNConfig(ValueConfig):
    """Hyperparameters of Munchausen DQN: those of DQN but for the target. `paper`: Vieillard et al. (2020)."""

    munchausen: bool = True
    """Add the logarithm of the policy to the reward, bootstrap softly (Vieillard et al. 2020)."""


PRESETS = with_paper(
    derived(MunchausenDQNConfig, DQN_PRESETS),
    # The authors' m_dqn.py and atari.gin, on Dopamine.
    image={
        "optimizer": "adam",
        "learning_rate": 5e-5,
        "optimizer_epsilon": 0.01 / 32,
        "target_period_env_steps": 8_000,
        "warmup_env_steps": 20_000,
        "exploration_end": 0.01,
        "exploration_env_steps": 250_000,
        "life_loss_ends_value": False,
    },
    vector={"optimizer": "adam", "learning_rate": 5e-5, "optimizer_epsilon": 0.01 / 32},
)


class MunchausenDQN(ValueAgent):
    """Munchausen DQN."""

    Config = MunchausenDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
