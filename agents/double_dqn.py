"""Double DQN.

Paper: van Hasselt, Guez and Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016.

    y = r + discount * Q_target(s', argmax_a Q_online(s', a))                       (section "Double DQN")

The maximum over noisy estimates is too high on average; here one network chooses the action and the other judges it.
The equation is `double_q_value` in agents/value_targets.py, and `--double` of every agent of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.dqn import PRESETS as DQN_PRESETS
from agents.dqn import ExpectedValue
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig, derived, with_paper

__all__ = ["PRESETS", "DoubleDQN", "DoubleDQNConfig"]


@dataclass(frozen=True, kw_only=True)
class DoubleDQNConfig(ValueConfig):
    """Hyperparameters of Double DQN: those of DQN but for the target. `paper` is the tuned variant of its appendix."""

    double: bool = True
    """Choose the next action by the online network, value it by the target network (van Hasselt et al. 2016)."""


PRESETS = with_paper(
    derived(DoubleDQNConfig, DQN_PRESETS),
    # "Tuned": the target network is copied three times less often, and less is random.
    image={"target_period_env_steps": 30_000, "exploration_end": 0.01},
)


class DoubleDQN(ValueAgent):
    """Double DQN."""

    Config = DoubleDQNConfig
    kind = ExpectedValue
    preset_table = PRESETS
