"""Dueling DQN.

Paper: Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning", ICML 2016.

    Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')                                     (equation 9)

Two streams above the convolutions, each with a dense layer of its own. The equation is `dueling_values` in
agents/value_network.py, and `--dueling` of every agent of the line. As in the paper the target is that of Double DQN.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper

__all__ = ["PRESETS", "DuelingDQN", "DuelingDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class DuelingDQNConfig(ValueConfig):
    """Hyperparameters of Dueling DQN: those of DQN but for the network, the double target and clipped gradients."""

    dueling: bool = True
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    double: bool = True
    """Choose the next action by the online network (Wang et al. 2016, section 4.2, uses Double DQN)."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together (Wang et al. 2016, section 4.2)."""
    trunk_gradient_scale: float = 0.7071
    """Factor of what the two streams send back into the layers below, 1/sqrt(2) (Wang et al. 2016, section 4.2)."""


PRESETS = with_paper(
    derived(DuelingDQNConfig, DQN_PRESETS),
    # Section 4.2: as van Hasselt et al. (2016), with a slightly lower learning rate, of which the paper prints a number
    # only where priorities are added: 6.25e-5.
    image={"target_period_env_steps": 30_000, "exploration_end": 0.01, "learning_rate": 6.25e-5},
)


class DuelingDQN(ValueAgent):
    """Dueling DQN."""

    Config = DuelingDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
