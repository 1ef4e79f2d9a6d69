"""DRQN: a deep Q-network with a recurrent layer, for games that do not show everything at once.

Paper: Hausknecht and Stone, "Deep Recurrent Q-Learning for Partially Observable MDPs", AAAI Fall Symposium 2015
(arXiv:1507.06527).

    h_t      = LSTM(h_{t-1}, encoder(o_t)),  Q(o_1..o_t, a) = head(h_t)
    y_t      = r_t + discount_t * max_a Q_target(o_1..o_{t+1}, a)      both networks read the sequence from its start
               (--n-step sums more rewards before that, as far as the sequence has them)
    loss     = mean over the steps of B sequences of Huber(Q(o_1..o_t, a_t) - y_t)

Sequences start anywhere in a game with a state of zero, or after a burn-in, and never go over into another one
(near to the "bootstrapped random updates" of section "Stable recurrent updates", which draw a game first; here every
transition is as likely to begin one). While it plays the state goes on from step to step and is set to zero where a
game begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core import (
    Agent,
    Player,
    Purpose,
    derived_seed,
    epsilon_greedy,
    follow_learning_rate,
    linear_exploration,
    warmup_steps,
)
from agents.recurrent_network import RecurrentQNetwork, newest_space
from agents.sequence_source import RecurrentPlayer, SequenceSource
from agents.value_config import for_quick_tasks, is_quick, with_rewards_of
from agents.value_network import wants_dense_layers
from aprendiz.config import (
    check_above_zero,
    check_at_least,
    check_choices,
    check_counts,
    check_schedule,
    check_share,
    check_unchanged,
)
from aprendiz.device import learning_leaves_cores, replay_storage
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, crossed
from aprendiz.optim import adadelta, adam, load_optimizer_state, schedulable
from aprendiz.recurrent.network import State
from aprendiz.replay import Replay
from aprendiz.replay_sequences import LONGEST_BURN_IN, SequenceBatch
from aprendiz.seeds import global_seed
from envs.core import Env, EnvSpec

__all__ = ["DRQN", "PRESETS", "DRQNConfig", "masked_mean", "sequence_targets"]


@dataclass(frozen=True, kw_only=True)
class DRQNConfig:
    """Hyperparameters of DRQN. Unless a line says otherwise the defaults are those of agents/dqn.py for Atari. Steps
    are decisions of the agent (four frames on Atari), summed over the environments."""

    backbone: str = "nature-cnn"
    """Network that reads an observation, by its registered name; its last dense layer is left out, as in the paper."""
    backbone_width: int = 1
    """Factor of the channels of impala-cnn; other networks have none."""
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """Kind of recurrent layer (LSTM in the paper)."""
    units: int = 512
    """Width of the recurrent layer, which stands in the place of the last dense one, as in the paper."""
    frames: int | None = None
    """Newest frames of a stack that are read at a time (1 in the paper). None: everything that is shown."""
    num_envs: int = 8
    """Games played at once."""
    discount: float = 0.99
    """Factor of future rewards, per environment step."""
    double: bool = False
    """Choose the next action by the online network, value it by the target network (van Hasselt et al. 2016)."""
    n_step: int = 1
    """Rewards summed before the bootstrap, as far as the sequence has them (1 in the paper; 5 in Kapturowski et al.
    2019)."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """Adam, or ADADELTA with a decay of 0.95 as in the paper (appendix)."""
    learning_rate: float = 1e-4
    """Step size of the optimiser."""
    learning_rate_end: float | None = None
    """Step size at the end of a linear schedule. None: it stays as it is."""
    learning_rate_env_steps: int | None = None
    """Environment steps over which the learning rate falls to that. None: the budget."""
    optimizer_epsilon: float = 1e-8
    """Added to the optimiser's denominator (PyTorch's default)."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together (10 in the paper's appendix). None: they are left alone."""
    loss: Literal["huber", "mse"] = "huber"
    """Huber, which is the clipped error of Mnih et al. 2015, or the squared error."""
    batch_size: int = 16
    """Sequences an update (ours: with 10 steps each they cost as much as DQN's batches do at its pace)."""
    unroll_steps: int = 10
    """Steps of a sequence that are learned from (10 in the paper)."""
    burn_in: int = 0
    """Steps before them that only lead to a state, where the game has them (0 in the paper; 40 in Kapturowski et al.
    2019)."""
    replay_capacity: int = 1_000_000
    """Transitions remembered; fewer where the machine lacks the memory, which is announced."""
    train_period_env_steps: int = 16
    """Environment steps for each update (4 in the paper)."""
    target_period_env_steps: int = 1_000
    """Environment steps between copies of the network into the target network."""
    warmup_env_steps: int | None = None
    """Environment steps before the first update. None: a fiftieth of the budget, at most 80,000."""
    exploration_start: float = 1.0
    """Probability of a random action at first."""
    exploration_end: float = 0.01
    """Probability of a random action once the schedule has ended."""
    exploration_env_steps: int | None = None
    """Environment steps over which it falls linearly. None: a tenth of the budget."""
    clip_rewards: bool = True
    """Learn from rewards clipped to [-1, 1] (Mnih et al. 2015); scores are never clipped."""
    reward_scale: float = 1.0
    """Factor of the rewards that are learned from (1 in the paper)."""
    life_loss_ends_value: bool = True
    """Value nothing beyond a lost life while learning; the game, its score and what is remembered go on."""

    def __post_init__(self) -> None:
        check_choices(self)
        counts = ("units", "num_envs", "batch_size", "unroll_steps", "replay_capacity", "train_period_env_steps")
        check_at_least(self, 1, *counts, "n_step", "target_period_env_steps", "backbone_width", "frames")
        if not 0 <= self.burn_in <= LONGEST_BURN_IN:
            raise ConfigError(f"burn_in must lie between 0 and {LONGEST_BURN_IN}, got {self.burn_in}")
        check_at_least(
            self, 0, "warmup_env_steps", "exploration_env_steps", "learning_rate_env_steps", "learning_rate_end"
        )
        check_share(self, "discount", "exploration_start", "exploration_end")
        check_above_zero(self, "learning_rate", "optimizer_epsilon", "max_gradient_norm", "reward_scale")
        if self.replay_capacity < self.num_envs:
            raise ConfigError(
                f"replay_capacity {self.replay_capacity} is smaller than the number of environments ({self.num_envs})"
            )

    def check_new(self, preset: Any = None) -> None:
        """Raises ConfigError where something that was asked for, beyond the preset, does nothing. Of new runs only."""
        check_counts(self, preset, "learning_rate_end", "learning_rate_env_steps")
        check_schedule(self, preset, "exploration")
        if self.n_step > self.unroll_steps:
            check_unchanged(self, preset, f"beyond unroll_steps, {self.unroll_steps}", "n_step")


_VECTOR = DRQNConfig(
    backbone="mlp",
    units=128,
    num_envs=4,
    learning_rate=1e-3,
    learning_rate_end=1e-5,
    batch_size=16,
    replay_capacity=50_000,
    train_period_env_steps=4,
    target_period_env_steps=200,
    exploration_end=0.04,
    clip_rewards=False,
    reward_scale=0.1,
)
PRESETS = {
    "image": {
        "default": DRQNConfig(),
        # Larger batches less often, as DQN's `fast`.
        "fast": DRQNConfig(
            num_envs=32,
            batch_size=32,
            train_period_env_steps=64,
            learning_rate=2.5e-4,
            target_period_env_steps=8_000,
        ),
        # Section 4 and the appendix; "all other settings" are those of Mnih et al. (2015).
        "paper": DRQNConfig(
            optimizer="adadelta",
            learning_rate=0.1,
            optimizer_epsilon=1e-6,
            batch_size=32,
            train_period_env_steps=4,
            target_period_env_steps=10_000,
            warmup_env_steps=50_000,
            exploration_end=0.1,
            exploration_env_steps=1_000_000,
        ),
    },
    "vector": {
        "default": _VECTOR,
        "fast": dataclasses.replace(_VECTOR, num_envs=16, batch_size=32, train_period_env_steps=16),
        # The paper knows images only: its optimiser, batch and layer.
        "paper": dataclasses.replace(
            _VECTOR,
            units=512,
            optimizer="adadelta",
            learning_rate=0.1,
            learning_rate_end=None,
            reward_scale=1.0,
            optimizer_epsilon=1e-6,
            batch_size=32,
            exploration_end=0.1,
        ),
    },
}
PRESETS["discrete"] = PRESETS["vector"]


def sequence_targets(
    reward: Tensor, discount: Tensor, mask: Tensor, q_target: Tensor, q_online: Tensor | None = None, n_step: int = 1
) -> Tensor:
    """y_t = r_t + discount_t * max_a Q_target(o_1..o_{t+1}, a): reward, discount, mask [L, B] to [L, B].

    q_target is [L + 1, B, A], of o_1 to o_{L+1}, each read after those before it: what follows step t stands at t + 1
    (Hausknecht and Stone 2015, section "Stable recurrent updates"). With q_online, alike, its best action is judged
    (double). `n_step` rewards are summed before the bootstrap, fewer where the sequence ends sooner (where the mask
    goes over to 0, or after L steps), and none beyond a discount of 0.
    """
    following = q_target[1:]  # [L, B, A]
    if q_online is None:
        value = following.max(dim=2).values
    else:
        value = following.gather(2, q_online[1:].argmax(dim=2, keepdim=True)).squeeze(2)
    targets = reward + discount * value
    for _ in range(n_step - 1):  # from returns over k steps to those over k + 1
        goes_on = torch.where(mask[1:] > 0.0, targets[1:], value[:-1])
        targets = reward + discount * torch.cat([goes_on, value[-1:]])
    return targets


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [L, B] where mask [L, B] is 1; padding counts neither above nor below the line."""
    return (values * mask).sum() / mask.sum()


class DRQN(Agent):
    """Deep recurrent Q-network."""

    Config = DRQNConfig

    def __init__(
        self,
        config: DRQNConfig,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if not isinstance(action_space, Discrete):
            raise ConfigError(f"DRQN chooses among Discrete actions, not {action_space}")
        self.config, self.device, self.precision = config, torch.device(device), precision
        self.actions = int(action_space.n)
        space = newest_space(observation_space, config.frames)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            online, target = (self._network(space) for _ in range(2))
        self.online, self.target = online.to(self.device), target.to(self.device)
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)
        parameters = list(self.online.parameters())
        if config.optimizer == "adam":
            self.optimizer = adam(parameters, config.learning_rate, config.optimizer_epsilon, self.device)
        else:
            self.optimizer = adadelta(parameters, config.learning_rate, 0.95, config.optimizer_epsilon, self.device)
        if config.learning_rate_end is not None:
            schedulable(self.optimizer, self.device)
        self._env_steps = 0

    def _network(self, observation_space: Space) -> RecurrentQNetwork:
        config = self.config
        options = {} if config.backbone_width == 1 else {"width": config.backbone_width}
        return RecurrentQNetwork(
            config.backbone, observation_space, self.actions, cell=config.cell, units=config.units, options=options
        )

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, DRQNConfig]:
        named = with_rewards_of(spec, dict(PRESETS[spec.observation_kind]))
        changes: dict[str, Any] = {}
        if is_quick(spec):  # over one step, with one network for both, the policy is lost again and again (ours)
            named["default"] = for_quick_tasks(dataclasses.replace(named["default"], double=True))
        if spec.frame_stack > 1:  # one frame at a time, as in the paper
            changes["frames"] = 1
        if wants_dense_layers(spec):
            changes["backbone"] = "mlp"
        return {name: dataclasses.replace(config, **changes) for name, config in named.items()}

    @classmethod
    def resolve(cls, config: DRQNConfig, budget_env_steps: int) -> DRQNConfig:
        exploration = config.exploration_env_steps
        if config.learning_rate_end is not None and config.learning_rate_env_steps is None:
            config = dataclasses.replace(config, learning_rate_env_steps=budget_env_steps)
        return dataclasses.replace(
            config,
            warmup_env_steps=warmup_steps(config.warmup_env_steps, budget_env_steps),
            exploration_env_steps=budget_env_steps // 10 if exploration is None else exploration,
        )

    # ---------------------------------------------------------------- acting

    def make_source(self, env: Env, *, seed: int) -> SequenceSource:
        config, spec = self.config, env.spec
        if config.frames is not None and spec.frame_stack == 1:
            raise ConfigError(f"frames {config.frames}: {spec.name} shows no stack of frames; leave --frames out")
        space = spec.observation_space
        shape, dtype = space.shape or (), space.dtype
        capacity = config.replay_capacity
        needed = Replay.bytes_needed(capacity, env.num_envs, shape, dtype, spec.frame_stack)
        replay = Replay(
            capacity,
            env.num_envs,
            shape,
            dtype,
            frame_stack=spec.frame_stack,
            discount=config.discount,
            device=self.device,
            storage=replay_storage(self.device, needed),
        )
        assert config.warmup_env_steps is not None, "resolve() comes first"
        return SequenceSource(
            self,
            env,
            replay,
            seed=seed,
            batch_size=config.batch_size,
            warmup_env_steps=max(config.warmup_env_steps, env.num_envs),
            train_period_env_steps=config.train_period_env_steps,
            clip_rewards=config.clip_rewards,
            reward_scale=config.reward_scale,
            life_loss_ends_value=config.life_loss_ends_value,
            overlap=learning_leaves_cores(self.device),
            unroll_steps=config.unroll_steps,
            burn_in=config.burn_in,
            frames=config.frames,
        )

    def exploration(self, env_steps: int) -> float:
        return linear_exploration(self.config, env_steps)

    def start_state(self, count: int) -> State:
        """The state of `count` games before their first observation: zero."""
        return self.online.recurrent.start(count)

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions int64 [N] for the first observations of N games; `player` plays on."""

        def greedy() -> NDArray[np.int64]:
            return self.step(observations, self.start_state(len(observations)))[0].argmax(axis=1)

        return epsilon_greedy(greedy, len(observations), self.actions, explore, generator)

    def act_with_state(
        self, observations: NDArray[Any], state: State, env_steps: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], State]:
        """Actions int64 [N] while it learns, and the state after these observations: also random actions are taken by
        somebody who has seen them."""
        q_values, state = self.step(observations, state)
        explore = self.exploration(env_steps)
        actions = epsilon_greedy(lambda: q_values.argmax(axis=1), len(observations), self.actions, explore, generator)
        return actions, state

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """`q_values` [N, A] of the first observations of games; `player` knows what came before."""
        return {"q_values": self.step(observations, self.start_state(len(observations)))[0]}

    def frames_read(self, stack: int) -> int:
        return min(stack, self.config.frames or stack)

    def player(self, count: int) -> Player:
        return RecurrentPlayer(self, count)

    @torch.no_grad()
    def step(self, observations: NDArray[Any], state: State) -> tuple[NDArray[np.float32], State]:
        """Values float32 [N, A] of observations [N, ...] after what the state has seen, and the state after them."""
        if self.config.frames is not None:
            observations = observations[:, -self.config.frames :]
        shown = torch.from_numpy(observations).to(self.device).unsqueeze(0)  # [1, N, ...]
        q_values, state = self.online(shown, state)
        return q_values[0].float().cpu().numpy(), state

    # ---------------------------------------------------------------- learning

    def update(self, batch: SequenceBatch) -> Outcome:
        """One step on B sequences."""
        config, length = self.config, len(batch.action)
        before, observation = batch.observation[: -length - 1], batch.observation[-length - 1 :]  # [W or L + 1, B, ...]
        with torch.no_grad():
            q_target, _ = self.target(observation, self._state(self.target, before, batch))
            of_online = self._state(self.online, before, batch)
        q_values, _ = self.online(observation if config.double else observation[:-1], of_online)
        with torch.no_grad():
            chooser = q_values.detach() if config.double else None
            target = sequence_targets(  # [L, B]
                batch.reward, batch.discount, batch.mask, q_target, chooser, config.n_step
            )
        chosen = q_values[:length].gather(2, batch.action.unsqueeze(2)).squeeze(2)  # [L, B]
        measure = F.huber_loss if config.loss == "huber" else F.mse_loss
        loss = masked_mean(measure(chosen, target, reduction="none"), batch.mask)
        follow_learning_rate(self.optimizer, config, batch.env_steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.online.parameters(), config.max_gradient_norm)
        self.optimizer.step()
        if crossed(self._env_steps, batch.env_steps, config.target_period_env_steps):
            self.target.load_state_dict(self.online.state_dict())
        self._env_steps = batch.env_steps
        q_mean = masked_mean(q_values.detach()[:length].mean(dim=2), batch.mask)
        return Outcome({"loss": loss.detach(), "q_mean": q_mean, "target_mean": masked_mean(target, batch.mask)})

    def _state(self, network: RecurrentQNetwork, before: Tensor, batch: SequenceBatch) -> State:
        """Where a sequence's first step finds the network: after its burn-in, or at zero."""
        if not len(before):
            return network.recurrent.start(batch.action.shape[1])
        return network.state_after(before, batch.burn_in)

    # ---------------------------------------------------------------- saving

    def modules(self) -> dict[str, nn.Module]:
        return {"online": self.online, "target": self.target}

    def state_dict(self) -> dict[str, Any]:
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "env_steps": self._env_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._env_steps = state["env_steps"]
