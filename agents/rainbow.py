"""Rainbow: six improvements of DQN together.

Paper: Hessel et al., "Rainbow: Combining Improvements in Deep Reinforcement Learning", AAAI 2018; numbers: table 1.

Double, prioritised replay, dueling, 3-step returns, a categorical distribution (C51) and noisy networks. Each is a
flag: `--no-dueling`, `--n-step 1`, ... give the paper's ablations; with `--no-noisy` go `--exploration-start 1` and
`--exploration-end 0.01`. Priorities are the Kullback-Leibler loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.c51 import UNSCALED, CategoricalValue, check_atoms
from agents.dqn import PRESETS as DQN_PRESETS
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper, with_vector_default

__all__ = ["PRESETS", "Rainbow", "RainbowConfig"]


@dataclass(frozen=True, kw_only=True)
class RainbowConfig(ValueConfig):
    """Hyperparameters of Rainbow, from table 1 of Hessel et al. 2018 where a line says so."""

    double: bool = True
    """Choose the next action by the online network (van Hasselt et al. 2016)."""
    dueling: bool = True
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    noisy: bool = True
    """Noise in the dense layers that learns its own size explores (Fortunato et al. 2018)."""
    prioritized: bool = True
    """Draw transitions by how wrong they were (Schaul et al. 2016)."""
    n_step: int = 3
    """Rewards summed before the value is bootstrapped, in environment steps (table 1)."""
    priority_exponent: float = 0.5
    """alpha of prioritised replay (table 1)."""
    exploration_start: float = 0.0
    """Probability of a random action at first (0 in table 1: noise explores)."""
    exploration_end: float = 0.0
    """Probability of a random action once the schedule has ended (0 in table 1)."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together (Wang et al. 2016, whose network it is)."""
    atoms: int = 51
    """Values of the return that have a probability (table 1)."""
    value_min: float = -10.0
    """The least of them, in units of learned (clipped) reward (table 1)."""
    value_max: float = 10.0
    """The greatest of them (table 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_atoms(self)


PAPER = {"optimizer": "adam", "learning_rate": 6.25e-5, "optimizer_epsilon": 1.5e-4}
PRESETS = with_vector_default(
    with_paper(
        derived(RainbowConfig, DQN_PRESETS),
        # Table 1: 80,000 frames before learning starts, 32,000 between copies of the target network.
        image={**PAPER, "warmup_env_steps": 20_000, "target_period_env_steps": 8_000, "exploration_env_steps": None},
        vector={**PAPER, **UNSCALED},
    ),
    n_step=DQN_PRESETS["vector"]["default"].n_step,
)
PRESETS["image"]["default"] = RainbowConfig(
    learning_rate=6.25e-5, optimizer_epsilon=1.5e-4, target_period_env_steps=8_000
)


class Rainbow(ValueAgent):
    """Rainbow."""

    Config = RainbowConfig
    kind = CategoricalValue
    preset_table = PRESETS
