"""DQN of Stable-Baselines3, as an adapter (Raffin et al. 2021, JMLR 22:268; algorithm: Mnih et al. 2015).

Presets: `default` has the numbers of RL Baselines3 Zoo (hyperparams/dqn.yml), `sb3` those of the library's constructor,
`like-dqn` for images those of our own `dqn`, so that the two are compared at equal settings; what ours does on vectors
(rewards scaled, a learning rate that falls) the library's DQN has no numbers for.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from stable_baselines3 import DQN

from agents.core import linear_exploration
from agents.sb3 import ReplayAgent, ReplayConfig
from agents.sb3_vec_env import SpacesVecEnv
from agents.value_config import for_quick_tasks, is_quick
from aprendiz.config import check_above_zero, check_at_least, check_schedule, check_share

if TYPE_CHECKING:
    from envs.core import EnvSpec


@dataclass(frozen=True, kw_only=True)
class SB3DQNConfig(ReplayConfig):
    """Hyperparameters of Stable-Baselines3's DQN. Defaults are those of its constructor unless a line says otherwise.
    Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    learning_rate: float = 1e-4
    """Step size of Adam."""
    target_period_env_steps: int = 10_000
    """Environment steps between updates of the target network, rounded down to whole steps of all games."""
    exploration_start: float = 1.0
    """Probability of a random action at first."""
    exploration_end: float = 0.05
    """Probability of a random action once the schedule has ended."""
    exploration_share: float = 0.1
    """Part of the budget over which it falls linearly (`exploration_fraction`)."""
    exploration_env_steps: int | None = None
    """Environment steps over which it falls linearly. None: that part of the budget."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together. None: they are left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "target_period_env_steps")
        check_at_least(self, 0, "exploration_env_steps")
        check_share(self, "exploration_start", "exploration_end", "exploration_share")
        check_above_zero(self, "max_gradient_norm")

    def check_new(self, preset: Any = None) -> None:
        super().check_new(preset)
        check_schedule(self, preset, "exploration", share="exploration_share")


def zoo_cartpole(config: Any, **changes: Any) -> Any:
    """hyperparams/dqn.yml and qrdqn.yml, CartPole-v1, with `config`'s class."""
    return dataclasses.replace(
        config,
        learning_rate=2.3e-3,
        batch_size=64,
        replay_capacity=100_000,
        warmup_env_steps=None,  # 1,000 of the Zoo's 50,000
        target_period_env_steps=10,
        train_period_env_steps=256,
        gradient_steps=128,
        exploration_share=0.16,
        exploration_end=0.04,
        hidden_units=256,
        **changes,
    )


_CONSTRUCTOR = SB3DQNConfig()
_ON_VECTORS = {
    "default": zoo_cartpole(_CONSTRUCTOR),
    "sb3": _CONSTRUCTOR,
}
PRESETS = {
    "image": {
        # hyperparams/dqn.yml, atari; its warm-up of 100,000 belongs to a budget of ten million steps.
        "default": SB3DQNConfig(
            replay_capacity=100_000,
            warmup_env_steps=None,
            target_period_env_steps=1_000,
            exploration_end=0.01,
            hidden_layers=0,
            clip_rewards=True,
        ),
        "sb3": SB3DQNConfig(hidden_layers=0, clip_rewards=True),
        # agents/dqn.py, image, default: one update for every 4 steps of 8 games.
        "like-dqn": SB3DQNConfig(
            num_envs=8,
            warmup_env_steps=None,
            train_period_env_steps=8,
            gradient_steps=2,
            target_period_env_steps=1_000,
            exploration_end=0.01,
            max_gradient_norm=None,
            hidden_layers=0,
            clip_rewards=True,
        ),
    },
    "vector": _ON_VECTORS,
    "discrete": _ON_VECTORS,
}


class EpsilonGreedyAgent(ReplayAgent):
    """What DQN and QR-DQN of the library share."""

    counters = (*ReplayAgent.counters, "_n_calls", "exploration_rate")

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        given = config.exploration_env_steps
        steps = int(config.exploration_share * budget_env_steps) if given is None else given
        return dataclasses.replace(super().resolve(config, budget_env_steps), exploration_env_steps=steps)

    def schedule_env_steps(self) -> int:
        """Environment steps that the library takes for the whole training: exploration ends with them."""
        return max(self.config.exploration_env_steps, 1)

    def exploration(self, env_steps: int) -> float:
        return linear_exploration(self.config, env_steps)

    def epsilon_options(self) -> dict[str, Any]:
        """What is common in the two constructors."""
        config = self.config
        return self.replay_options() | {
            "target_update_interval": config.target_period_env_steps,
            "exploration_fraction": 1.0,
            "exploration_initial_eps": config.exploration_start,
            "exploration_final_eps": config.exploration_end,
        }


class SB3DQN(EpsilonGreedyAgent):
    """Stable-Baselines3's DQN."""

    Config = SB3DQNConfig
    name = "sb3-dqn"
    preset_table: ClassVar[Any] = PRESETS

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        named = super().presets(spec)
        if is_quick(spec):
            named["like-dqn"] = for_quick_tasks(named["like-dqn"])
        return named

    def build(self, env: SpacesVecEnv) -> Any:
        norm = self.config.max_gradient_norm
        return DQN(
            self.policy_name,
            env,
            policy_kwargs=self.policy_options(),
            max_grad_norm=float("inf") if norm is None else norm,
            **self.epsilon_options(),
        )

    def look_into(self, observations: Any) -> dict[str, torch.Tensor]:
        """`q_values` [N, A]."""
        return {"q_values": self.model.policy.q_net(observations)}
