"""NoisyNet-DQN.

Paper: Fortunato et al., "Noisy Networks for Exploration", ICLR 2018.

    y = (mu_w + sigma_w * e_w) x + mu_b + sigma_b * e_b,   e_w = f(e_out) f(e_in)', e_b = f(e_out),
    f(e) = sign(e) sqrt(|e|)                                                        (equations 9 to 11)

in every dense layer above the network that reads the observation, mu and sigma learned: actions are greedy in the noisy
values, and how much is explored is learned. The layer is `NoisyLinear` in agents/value_network.py, and `--noisy` of
every agent of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper

__all__ = ["PRESETS", "NoisyDQN", "NoisyDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class NoisyDQNConfig(ValueConfig):
    """Hyperparameters of NoisyNet-DQN: those of DQN, with noise in place of random actions."""

    noisy: bool = True
    """Noise in the dense layers that learns its own size explores (Fortunato et al. 2018)."""
    exploration_start: float = 0.0
    """Probability of a random action at first (none in Fortunato et al. 2018, section 3.1)."""
    exploration_end: float = 0.0
    """Probability of a random action once the schedule has ended (none in Fortunato et al. 2018, section 3.1)."""


PRESETS = with_paper(derived(NoisyDQNConfig, DQN_PRESETS), image={"exploration_env_steps": None})


class NoisyDQN(ValueAgent):
    """NoisyNet-DQN."""

    Config = NoisyDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
