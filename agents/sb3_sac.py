"""SAC of Stable-Baselines3, as an adapter (Raffin et al. 2021, JMLR 22:268; algorithm: Haarnoja et al. 2018,
arXiv:1812.05905). For continuous actions.

Presets: `default` has the numbers of the library's constructor, and the warm-up that RL Baselines3 Zoo
(hyperparams/sac.yml) takes for MuJoCo; `sb3` those of the constructor alone; `pendulum` the Zoo's for Pendulum.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from stable_baselines3 import SAC

from agents.sb3 import ReplayAgent, ReplayConfig
from agents.sb3_vec_env import SpacesVecEnv
from aprendiz.config import check_above_zero


@dataclass(frozen=True, kw_only=True)
class SB3SACConfig(ReplayConfig):
    """Hyperparameters of Stable-Baselines3's SAC. Defaults are those of its constructor unless a line says otherwise.
    Steps are decisions of the agent, summed over the environments."""

    hidden_units: int = 256
    """Units of each dense layer, of the actor and of both critics."""
    batch_size: int = 256
    """Transitions an update."""
    train_period_env_steps: int = 1
    """Environment steps between trainings; a multiple of num_envs (`train_freq`, which counts steps of all games as
    one)."""
    target_rate: float = 0.005
    """Share of the critics that the target critics take over at each update (`tau`)."""
    entropy_coefficient: float | None = None
    """Weight of the policy's entropy. None: learned, from 1 on, for an entropy of minus the number of action
    components (Haarnoja et al. 2018, section 5)."""
    warmup_env_steps: int | None = 100
    """Environment steps before the first update, of random actions (`learning_starts`). None: a hundredth of the
    budget, at most 10,000 (RL Baselines3 Zoo for MuJoCo, of a million steps)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "entropy_coefficient")


PRESETS = {
    "continuous": {
        "default": SB3SACConfig(warmup_env_steps=None),
        "sb3": SB3SACConfig(),
        "pendulum": SB3SACConfig(learning_rate=1e-3),
    }
}


class SB3SAC(ReplayAgent):
    """Stable-Baselines3's SAC."""

    Config = SB3SACConfig
    name = "sb3-sac"
    action_kinds = ("continuous",)
    preset_table: ClassVar[Any] = PRESETS

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        if config.warmup_env_steps is not None:
            return config
        return dataclasses.replace(config, warmup_env_steps=min(10_000, budget_env_steps // 100))

    def build(self, env: SpacesVecEnv) -> Any:
        weight = self.config.entropy_coefficient
        return SAC(
            self.policy_name,
            env,
            policy_kwargs=self.policy_options(),
            ent_coef="auto" if weight is None else weight,
            **self.replay_options(),
        )

    def schedule_env_steps(self) -> int:
        """Nothing follows a schedule; the library divides by it all the same."""
        return 1

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
        return found if model.ent_coef_optimizer is None else found | {"entropy": model.ent_coef_optimizer}

    def variables(self) -> dict[str, torch.Tensor]:
        model = self.model
        return {} if model.log_ent_coef is None else {"log_entropy_coefficient": model.log_ent_coef}

    def look_into(self, observations: Any) -> dict[str, torch.Tensor]:
        """`mean` [N, ...], the action without noise, and `value` [N], the lesser of what both critics give it."""
        policy = self.model.policy
        scaled = policy.actor(observations, deterministic=True)
        value = torch.cat(policy.critic(observations, scaled), dim=1).min(dim=1).values
        low, high = (
            torch.as_tensor(bound, device=scaled.device)
            for bound in (self.model.action_space.low, self.model.action_space.high)
        )
        return {"mean": low + 0.5 * (scaled + 1.0) * (high - low), "value": value}
