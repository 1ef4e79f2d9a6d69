"""DQN with returns over several steps.

Sources: Sutton, "Learning to Predict by the Methods of Temporal Differences", Machine Learning 3:9, 1988; with DQN as
in Hessel et al., "Rainbow", AAAI 2018, section "Multi-step learning".

    R = sum_{k=0}^{m-1} gamma^k r_{t+k},   m = n, or fewer where the game ends before
    y = R + gamma^m * max_a Q_target(s_{t+m}, a)

without correction for actions that the present policy would not have taken. Sums and discounts are the memory's:
aprendiz/replay.py; `--n-step` of every agent of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_vector_default

__all__ = ["PRESETS", "NStepDQN", "NStepDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class NStepDQNConfig(ValueConfig):
    """Hyperparameters of n-step DQN: those of DQN but for the returns."""

    n_step: int = 3
    """Rewards summed before the value is bootstrapped, in environment steps (Hessel et al. 2018, table 1)."""


# On vectors as many as DQN's own preset sums.
PRESETS = with_vector_default(derived(NStepDQNConfig, DQN_PRESETS), n_step=DQN_PRESETS["vector"]["default"].n_step)


class NStepDQN(ValueAgent):
    """DQN with returns over several steps."""

    Config = NStepDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
