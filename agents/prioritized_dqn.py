"""DQN with prioritised experience replay.

Paper: Schaul, Quan, Antonoglou and Silver, "Prioritized Experience Replay", ICLR 2016, the proportional variant.

    P(i) = p_i^alpha / sum_k p_k^alpha,   p_i = |TD error| + epsilon                (equation 1, section 3.3)
    w_i  = (N P(i))^-beta / max_j w_j                                               (section 3.4)
    loss = mean over the batch of w_i * Huber(Q(s, a) - y)

The memory is in aprendiz/replay_priorities.py, its sum tree in aprendiz/sum_tree.py; `--prioritized` of every agent of
the line. As in the paper the target is that of Double DQN.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper

__all__ = ["PRESETS", "PrioritizedDQN", "PrioritizedDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class PrioritizedDQNConfig(ValueConfig):
    """Hyperparameters of prioritised replay: those of Double DQN but for the draw. `paper`: its learning rate is a
    quarter of DQN's, since steps on what is wrong are larger (Schaul et al. 2016, section 4)."""

    prioritized: bool = True
    """Draw transitions by how wrong they were (Schaul et al. 2016)."""
    double: bool = True
    """Choose the next action by the online network (Schaul et al. 2016, section 4, on the tuned Double DQN)."""


PRESETS = with_paper(
    derived(PrioritizedDQNConfig, DQN_PRESETS),
    image={"target_period_env_steps": 30_000, "exploration_end": 0.01, "learning_rate": 6.25e-5},
    vector={"learning_rate": 6.25e-5},
)


class PrioritizedDQN(ValueAgent):
    """DQN with prioritised experience replay."""

    Config = PrioritizedDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
