"""PQN: parallelised Q-network, without replay and without a target network.

Paper: Gallici et al., "Simplifying Deep Temporal Difference Learning", ICLR 2025 (arXiv:2407.04811), algorithm 1.
Numbers: the authors' `pqn_atari.yaml` and `pqn_cartpole.yaml` (purejaxql).

    G_t  = r_t + discount_t * ((1 - lambda * trace_t) * V_{t+1} + lambda * trace_t * G_{t+1}),   V = max_a Q
    loss = mean over the minibatch of (Q(s, a) - G)^2 / 2

Layer normalisation keeps the updates stable in place of the target network, many games at once make the samples
differ in place of replay. Targets are made once a rollout, of the values that the network gave while it acted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core import Agent, Purpose, derived_seed, epsilon_greedy, follow_learning_rate, linear_exploration
from agents.rollout_source import Rollout, RolloutSource, TargetBatch
from agents.value_config import is_quick, with_rewards_of
from agents.value_network import QNetwork, wants_dense_layers
from agents.value_targets import of_action
from aprendiz.config import (
    check_above_zero,
    check_at_least,
    check_choices,
    check_counts,
    check_schedule,
    check_share,
)
from aprendiz.device import CapturedStep, autocast
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import load_optimizer_state, radam, schedulable
from aprendiz.seeds import global_seed
from envs.core import Env, EnvSpec

__all__ = ["PQN", "PRESETS", "PQNConfig", "lambda_returns"]


@dataclass(frozen=True, kw_only=True)
class PQNConfig:
    """Hyperparameters of PQN. Unless a line says otherwise the defaults are those for Atari, from the authors'
    pqn_atari.yaml. Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    backbone: str = "nature-cnn"
    """Network that reads the observation, by its registered name."""
    backbone_width: int = 1
    """Factor of the channels of impala-cnn; other networks have none."""
    layer_norm: Literal["none", "last", "all"] = "all"
    """Layer normalisation before the network's last activation, or before all (section 4: it is what makes learning
    without a target network stable)."""
    num_envs: int = 32
    """Games played at once (the paper plays 128; two cores gain nothing by more than these)."""
    rollout_steps: int = 32
    """Steps of each game in a rollout (T)."""
    epochs: int = 2
    """How often each step is learned from."""
    minibatches: int = 8
    """Parts of an epoch; they divide num_envs * rollout_steps (32 in the paper: batches of 128, as here)."""
    discount: float = 0.99
    """Factor of future rewards, per environment step."""
    trace_decay: float = 0.65
    """lambda: 0 bootstraps after each step, 1 at the end of the rollout."""
    learning_rate: float = 2.5e-4
    """Step size of RAdam."""
    learning_rate_end: float | None = None
    """Step size at the end of a linear schedule. None: it stays as it is."""
    learning_rate_env_steps: int | None = None
    """Environment steps over which the learning rate falls to that. None: the budget."""
    optimizer_epsilon: float = 1e-8
    """Added to RAdam's denominator (Optax's default)."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together. None: they are left alone."""
    exploration_start: float = 1.0
    """Probability of a random action at first."""
    exploration_end: float = 0.01
    """Probability of a random action once the schedule has ended (0.001 in pqn_atari.yaml)."""
    exploration_env_steps: int | None = None
    """Environment steps over which it falls linearly. None: a part of the budget."""
    exploration_fraction: float = 0.1
    """That part, where exploration_env_steps is not given."""
    clip_rewards: bool = True
    """Learn from rewards clipped to [-1, 1]; scores are never clipped."""
    reward_scale: float = 1.0
    """Factor of the rewards that are learned from (0.1 in pqn_cartpole.yaml)."""
    life_loss_ends_value: bool = True
    """Value nothing beyond a lost life while learning; the game and its score go on (the authors end the game)."""
    overlap: bool = False
    """Learn from a rollout while the next one is being played, where the paper learns between the two: no core and no
    GPU waits, and what is acted on and valued is up to one rollout older."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_at_least(self, 1, "num_envs", "rollout_steps", "epochs", "minibatches", "backbone_width")
        steps = self.num_envs * self.rollout_steps
        if steps % self.minibatches:
            raise ConfigError(
                f"minibatches {self.minibatches} does not divide the {steps} steps of a rollout ({self.num_envs} games "
                f"of {self.rollout_steps} steps)"
            )
        check_at_least(self, 0, "exploration_env_steps", "learning_rate_env_steps", "learning_rate_end")
        check_share(self, "discount", "trace_decay", "exploration_start", "exploration_end", "exploration_fraction")
        check_above_zero(self, "learning_rate", "optimizer_epsilon", "reward_scale", "max_gradient_norm")

    def check_new(self, preset: Any = None) -> None:
        """Raises ConfigError where something that was asked for, beyond the preset, does nothing. Of new runs only."""
        check_counts(self, preset, "learning_rate_end", "learning_rate_env_steps")
        check_schedule(self, preset, "exploration", share="exploration_fraction")

    def backbone_options(self) -> dict[str, Any]:
        """What the backbone is asked for beyond its defaults."""
        width = {} if self.backbone_width == 1 else {"width": self.backbone_width}
        return width if self.layer_norm == "none" else width | {"layer_norm": self.layer_norm}


PRESETS = {
    "image": {
        "default": PQNConfig(),
        # The paper's games and batches, with the games never waiting for the network.
        "fast": PQNConfig(num_envs=128, minibatches=32, overlap=True),
        "paper": PQNConfig(num_envs=128, minibatches=32, exploration_end=0.001),
    },
    "vector": {
        # Ours, for a tenth of the steps that the authors give CartPole: fewer games and shorter rollouts, so that
        # values are renewed more often.
        "default": PQNConfig(
            backbone="mlp",
            num_envs=8,
            rollout_steps=16,
            epochs=4,
            minibatches=4,
            trace_decay=0.9,
            learning_rate=5e-4,
            learning_rate_end=0.0,
            exploration_end=0.04,
            clip_rewards=False,
            reward_scale=0.1,
        ),
        "fast": PQNConfig(
            backbone="mlp",
            num_envs=16,
            rollout_steps=16,
            epochs=4,
            minibatches=4,
            trace_decay=0.9,
            learning_rate=1e-3,
            learning_rate_end=0.0,
            exploration_end=0.04,
            clip_rewards=False,
            reward_scale=0.1,
        ),
        # pqn_cartpole.yaml, made for 500,000 steps.
        "paper": PQNConfig(
            backbone="mlp",
            num_envs=32,
            rollout_steps=64,
            epochs=4,
            minibatches=16,
            trace_decay=0.95,
            learning_rate=1e-4,
            learning_rate_end=0.0,
            exploration_end=0.2,
            exploration_fraction=0.2,
            clip_rewards=False,
            reward_scale=0.1,
        ),
    },
}
PRESETS["discrete"] = PRESETS["vector"]
QUICK: dict[str, Any] = {
    "num_envs": 8,
    "rollout_steps": 16,
    "minibatches": 1,
    "trace_decay": 0.9,
    "learning_rate_end": 0.0,
}
"""For pictures of tasks that are learned within minutes: values renewed more often, as on vectors (ours, by trying)."""


def lambda_returns(
    reward: NDArray[np.floating[Any]],
    discount: NDArray[np.floating[Any]],
    trace: NDArray[np.floating[Any]],
    next_value: NDArray[np.floating[Any]],
    trace_decay: float,
) -> NDArray[np.float32]:
    """Q(lambda) returns G of a rollout: Gallici et al. (2024), algorithm 1; Peng's Q(lambda), without cuts.

        G_t = r_t + discount_t * ((1 - lambda * trace_t) * V_{t+1} + lambda * trace_t * G_{t+1})

    from the last step, after which nothing is known but V, to the first. All are [T, N], and so is the result, float32.
    discount is 0 where nothing of value follows; trace is 0 where what the rollout holds next is not what followed, as
    at a time limit: there the value alone, V of what really followed, stands for the rest. lambda is `trace_decay`.
    """
    returns = np.empty(reward.shape, np.float32)
    following = next_value[-1]
    for step in reversed(range(len(reward))):
        decay = trace_decay * trace[step]  # [N]
        following = reward[step] + discount[step] * ((1.0 - decay) * next_value[step] + decay * following)
        returns[step] = following
    return returns


class PQN(Agent):
    """Parallelised Q-network."""

    Config = PQNConfig
    precisions = ("fp32", "bf16")

    def __init__(
        self,
        config: PQNConfig,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if not isinstance(action_space, Discrete):
            raise ConfigError(f"PQN chooses among Discrete actions, not {action_space}")
        self.config, self.device, self.precision = config, torch.device(device), precision
        self.actions = int(action_space.n)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            options = config.backbone_options()
            network = QNetwork(config.backbone, observation_space, self.actions, options=options)
        self.network = network.to(self.device)
        self.optimizer = radam(self.network.parameters(), config.learning_rate, config.optimizer_epsilon, self.device)
        if config.learning_rate_end is not None:
            schedulable(self.optimizer, self.device)
        self._captured: CapturedStep | None = None

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, PQNConfig]:
        named = with_rewards_of(spec, dict(PRESETS[spec.observation_kind]))
        if is_quick(spec):
            named["default"] = dataclasses.replace(named["default"], **QUICK)
        if wants_dense_layers(spec):
            return {name: dataclasses.replace(config, backbone="mlp") for name, config in named.items()}
        return named

    @classmethod
    def resolve(cls, config: PQNConfig, budget_env_steps: int) -> PQNConfig:
        changes: dict[str, Any] = {}
        if config.exploration_env_steps is None:
            changes["exploration_env_steps"] = int(config.exploration_fraction * budget_env_steps)
        if config.learning_rate_end is not None and config.learning_rate_env_steps is None:
            changes["learning_rate_env_steps"] = budget_env_steps
        return dataclasses.replace(config, **changes)

    # ---------------------------------------------------------------- acting

    def make_source(self, env: Env, *, seed: int) -> RolloutSource:
        config = self.config
        return RolloutSource(
            self,
            env,
            seed=seed,
            rollout_steps=config.rollout_steps,
            epochs=config.epochs,
            minibatches=config.minibatches,
            discount=config.discount,
            device=self.device,
            clip_rewards=config.clip_rewards,
            reward_scale=config.reward_scale,
            life_loss_ends_value=config.life_loss_ends_value,
            overlap=config.overlap,
        )

    def exploration(self, env_steps: int) -> float:
        return linear_exploration(self.config, env_steps)

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions int64 [N] for observations [N, ...]."""

        def greedy() -> NDArray[np.int64]:
            return self._q_values(observations).argmax(axis=1)

        return epsilon_greedy(greedy, len(observations), self.actions, explore, generator)

    def act_and_value(
        self, observations: NDArray[Any], env_steps: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Actions int64 [N] while it learns, as `act_in_training`, and max_a Q float32 [N] out of the same pass."""
        q_values = self._q_values(observations)  # [N, A]
        greedy = q_values.argmax(axis=1)
        explore = self.exploration(env_steps)
        actions = epsilon_greedy(lambda: greedy, len(observations), self.actions, explore, generator)
        return actions, q_values.max(axis=1)

    def state_values(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """max_a Q(s, a), float32 [N]."""
        return self._q_values(observations).max(axis=1)

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """`q_values` [N, A], of rewards as they are learned: clipped, and scaled."""
        return {"q_values": self._q_values(observations)}

    def differentiable_values(self, observations: Tensor) -> Tensor:
        return self.network(observations).float()

    @torch.no_grad()
    def _q_values(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        with autocast(self.device, self.precision):
            return self.network(torch.from_numpy(observations).to(self.device)).float().cpu().numpy()

    # ---------------------------------------------------------------- learning

    def returns(self, rollout: Rollout) -> NDArray[np.float32]:
        """The targets [T, N] of a rollout."""
        return lambda_returns(
            rollout.reward, rollout.discount, rollout.trace, rollout.next_value, self.config.trace_decay
        )

    def update(self, batch: TargetBatch) -> Outcome:
        """One step on a minibatch of a rollout."""
        config = self.config
        follow_learning_rate(self.optimizer, config, batch.env_steps)
        inputs = {"observation": batch.observation, "action": batch.action, "target": batch.target}
        if self.device.type != "cuda":
            return Outcome(self._gradient_step(inputs))
        if self._captured is None:
            self._captured = CapturedStep(self._gradient_step, inputs, self._tensors)
        return Outcome(self._captured(inputs))

    def _gradient_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            q_values = self.network(batch["observation"]).float()  # [B, A]
        chosen = of_action(q_values, batch["action"])  # [B]
        loss = 0.5 * (chosen - batch["target"]).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        return {
            "loss": loss.detach(),
            "q_mean": q_values.detach().mean(),
            "target_mean": batch["target"].mean(),
        }

    # ---------------------------------------------------------------- saving

    def _tensors(self) -> list[Tensor]:
        moments = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        return [*self.network.state_dict().values(), *moments]

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()["state"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._captured = None  # the optimiser's tensors are new ones
