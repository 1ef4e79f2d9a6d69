"""Agents of Stable-Baselines3 behind our commands: what all of them share.

The algorithms are the library's own, unchanged: its networks, losses, replay memory and rollouts. What is ours is
everything around them. `learn()`, which would keep control until the end, is not called; the sources of
agents/sb3_sources.py call its two halves, `collect_rollouts` and `train`, in the same order and in small pieces, so
that our loop logs, evaluates, saves and stops. Checkpoints hold tensors and arrays, never the library's pickles.
Evaluation is ours: whole games, unclipped.

The library draws from the global random state of Python, NumPy and torch. That is the one exception to our rule of
named generators, and it is hidden: see agents/sb3_random.py.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import nn

from agents.core import Agent, Purpose, check_actions_fit, derived_seed, epsilon_greedy, warmup_steps
from agents.sb3_random import LibraryRandom
from agents.sb3_sources import ReplaySource, RolloutSource
from agents.sb3_vec_env import SpacesVecEnv
from aprendiz.config import check_above_zero, check_at_least, check_share, check_unchanged
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import load_optimizer_state
from envs.core import Env, EnvSpec

SMALLEST_PICTURE = 36
"""Height and width from which the library's convolutions (Mnih et al. 2015) fit."""


@dataclass(frozen=True, kw_only=True)
class SB3Config:
    """What all agents of Stable-Baselines3 have. Defaults are those of the library's constructors unless a line says
    otherwise. Steps are decisions of the agent (four frames on Atari), summed over the environments."""

    num_envs: int = 1
    """Games played at once."""
    discount: float = 0.99
    """Factor of future rewards, per environment step (`gamma`)."""
    learning_rate: float = 3e-4
    """Step size of the optimiser."""
    hidden_layers: int = 2
    """Dense layers between what reads the observation and the outputs; 0 where convolutions read it (`net_arch`)."""
    hidden_units: int = 64
    """Units of each of them."""
    clip_rewards: bool = False
    """Learn from rewards clipped to [-1, 1], as our agents do (the library's AtariWrapper takes their sign: the same
    where they are whole numbers); scores are never clipped."""
    life_loss_ends_value: bool = True
    """Value nothing beyond a lost life while learning, as our DQN does; the game and its score go on."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "num_envs", "hidden_units")
        check_at_least(self, 0, "hidden_layers")
        check_share(self, "discount")
        check_above_zero(self, "learning_rate")

    def check_new(self, preset: Any = None) -> None:
        """Raises ConfigError where something that was asked for, beyond the preset, does nothing. Of new runs only."""
        if not self.hidden_layers:
            check_unchanged(self, preset, "where hidden_layers is 0", "hidden_units")


class SB3Agent(Agent):
    """Base of the adapters. A subclass names its `Config` and presets, and says how its model is built."""

    devices = ("cpu", "cuda")
    replay_on_gpu = False
    name: ClassVar[str]
    """Its registered name."""
    preset_table: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Kind of observation, or `continuous` for that kind of action, to configs by name."""
    counters: ClassVar[tuple[str, ...]] = ("num_timesteps", "_n_updates", "_episode_num")
    """Plain numbers of the library's that a checkpoint needs."""

    def __init__(
        self,
        config: Any,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.check_installed()
        kind = "discrete" if isinstance(action_space, Discrete) else "continuous"
        if kind not in self.action_kinds or not isinstance(action_space, (Discrete, Box)):
            raise ConfigError(f"{self.name} takes {' or '.join(self.action_kinds)} actions, not {action_space}")
        self.config, self.device = config, torch.device(device)
        self.actions = int(action_space.n) if isinstance(action_space, Discrete) else 0
        self.observation_space = observation_space
        # The library draws its random actions from the space itself: from a copy, so that nobody else's is moved.
        own_actions = copy.deepcopy(action_space)
        own_actions.seed(derived_seed(seed, Purpose.ACTING))
        self.random = LibraryRandom(derived_seed(seed, Purpose.NETWORK), self.device)
        with self.random.in_place():
            self.model: Any = self.build(SpacesVecEnv(config.num_envs, observation_space, own_actions))
        self.model.set_logger(Logger(folder=None, output_formats=[]))

    # ---------------------------------------------------------------- for subclasses

    @classmethod
    def check_installed(cls) -> None:
        """Raises ConfigError where a package is missing."""

    def build(self, env: SpacesVecEnv) -> Any:
        """The library's model; called while the library's random state is in place."""
        raise NotImplementedError

    def learn(self) -> None:
        """One call of the library's `train`; its random state is in place."""
        raise NotImplementedError

    # ---------------------------------------------------------------- what it is

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        cls.check_installed()
        check_actions_fit(cls, cls.name, spec)
        named = dict(cls.preset_table["continuous" if spec.continuous else spec.observation_kind])
        if spec.observation_kind == "image" and not reads_pictures(spec.observation_space):
            named = {name: dataclasses.replace(one, hidden_layers=2) for name, one in named.items()}
        return named

    def policy_options(self) -> dict[str, Any]:
        """What is common in the library's `policy_kwargs`."""
        return {"net_arch": [self.config.hidden_units] * self.config.hidden_layers}

    @property
    def policy_name(self) -> str:
        return "CnnPolicy" if reads_pictures(self.observation_space) else "MlpPolicy"

    # ---------------------------------------------------------------- acting

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[Any]:
        """What the library calls deterministic: the greatest value, the likeliest action, the mean."""
        count, space = len(observations), self.model.action_space

        def greedy() -> NDArray[Any]:
            return self.model.policy.predict(observations, deterministic=True)[0]

        if self.actions:
            return epsilon_greedy(greedy, count, self.actions, explore, generator)
        coins = generator.random(count) < explore
        chosen = generator.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)
        if not coins.all():
            chosen[~coins] = greedy()[~coins]
        return chosen

    @torch.no_grad()
    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        policy = self.model.policy
        policy.set_training_mode(False)
        thought = self.look_into(policy.obs_to_tensor(observations)[0])
        return {name: tensor.float().cpu().numpy() for name, tensor in thought.items()}

    def differentiable_values(self, observations: torch.Tensor) -> torch.Tensor:
        thought = self.look_into(observations)
        return thought["q_values"] if "q_values" in thought else thought["value"][:, None]

    def look_into(self, observations: Any) -> dict[str, torch.Tensor]:
        """`inspect` on the library's tensors."""
        raise NotImplementedError

    # ---------------------------------------------------------------- learning

    def update(self, batch: Any) -> Outcome:
        """One call of the library's `train`, on what its own memory holds, and what it logged of it."""
        with self.random.in_place():
            self.learn()
        logger = self.model.logger
        logged = {name: value for name, value in logger.name_to_value.items() if name.startswith("train/")}
        logger.dump(self.model.num_timesteps)
        found = {name.removeprefix("train/"): float(value) for name, value in logged.items()}
        found.pop("n_updates", None)
        if "explained_variance" in found:  # of returns that are all alike the library says NaN
            found["explained_variance"] = float(np.nan_to_num(found["explained_variance"]))
        return Outcome(found)

    # ---------------------------------------------------------------- saving

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.model.policy}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The library's optimisers by name."""
        return {"policy": self.model.policy.optimizer}

    def variables(self) -> dict[str, torch.Tensor]:
        """Tensors that are learned outside the policy's modules."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.model.policy.state_dict(),
            "optimizers": {name: one.state_dict()["state"] for name, one in self.optimizers().items()},
            "variables": {name: tensor.detach() for name, tensor in self.variables().items()},
            "counters": {name: getattr(self.model, name) for name in self.counters},
            "random": self.random.state_dict(),
            "action_space": self.model.action_space.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.policy.load_state_dict(state["policy"])
        for name, optimizer in self.optimizers().items():
            load_optimizer_state(optimizer, state["optimizers"][name])
        with torch.no_grad():
            for name, tensor in self.variables().items():
                tensor.copy_(state["variables"][name])
        for name in self.counters:
            setattr(self.model, name, state["counters"][name])
        self.random.load_state_dict(state["random"])
        self.model.action_space.np_random.bit_generator.state = state["action_space"]


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(SB3Config):
    """What agents with a replay memory have besides."""

    batch_size: int = 32
    """Transitions an update."""
    replay_capacity: int = 1_000_000
    """Transitions remembered (`buffer_size`), each with both of its observations; fewer where the machine lacks the
    memory, which is announced."""
    train_period_env_steps: int = 4
    """Environment steps between trainings; a multiple of num_envs (`train_freq`, which counts steps of all games as
    one)."""
    gradient_steps: int = 1
    """Updates at each of them."""
    warmup_env_steps: int | None = 100
    """Environment steps before the first update, of random actions (`learning_starts`). None: a fiftieth of the budget,
    at most 80,000, as our DQN has."""
    n_step: int = 1
    """Rewards summed before the value is bootstrapped, in environment steps (`n_steps`)."""
    target_rate: float = 1.0
    """Share of the network that the target network takes over at each of its updates (`tau`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "batch_size", "replay_capacity", "train_period_env_steps", "gradient_steps", "n_step")
        check_at_least(self, 0, "warmup_env_steps")
        check_share(self, "target_rate")
        check_above_zero(self, "target_rate")  # at 0 the target network would never move
        if self.train_period_env_steps % self.num_envs:
            raise ConfigError(
                f"train_period_env_steps {self.train_period_env_steps} is no multiple of num_envs {self.num_envs}; "
                "Stable-Baselines3 trains after whole steps of all games"
            )
        if self.replay_capacity < self.num_envs * (self.n_step + 1):
            raise ConfigError(f"replay_capacity {self.replay_capacity} is too small for {self.num_envs} environments")


class ReplayAgent(SB3Agent):
    """Base of those that learn from a replay memory."""

    stores_forced_actions = True

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        return dataclasses.replace(config, warmup_env_steps=warmup_steps(config.warmup_env_steps, budget_env_steps))

    @classmethod
    def replay_bytes(cls, config: Any, spec: EnvSpec, num_envs: int, transitions: int) -> int:
        space = spec.observation_space
        one = int(np.prod(space.shape or ())) * np.dtype(space.dtype).itemsize
        actions = int(np.prod(spec.action_space.shape or ())) * np.dtype(spec.action_space.dtype).itemsize
        return transitions * (2 * one + actions + 3 * 4)

    def replay_options(self) -> dict[str, Any]:
        """What is common in the constructors of those algorithms."""
        config = self.config
        assert config.warmup_env_steps is not None, "resolve() comes first"
        return {
            "learning_rate": config.learning_rate,
            # The memory itself comes with the games (make_source): an agent that only plays needs none.
            "buffer_size": config.num_envs,
            "learning_starts": config.warmup_env_steps,
            "batch_size": config.batch_size,
            "tau": config.target_rate,
            "gamma": config.discount,
            "n_steps": config.n_step,
            "gradient_steps": config.gradient_steps,
            "train_freq": config.train_period_env_steps // config.num_envs,
            "device": self.device,
        }

    def make_source(self, env: Env, *, seed: int) -> ReplaySource:
        return ReplaySource(self, env, seed=seed)

    def learn(self) -> None:
        self.model.train(gradient_steps=1, batch_size=self.config.batch_size)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(SB3Config):
    """What agents without a replay memory have besides."""

    rollout_steps: int = 2048
    """Steps of each environment between trainings (`n_steps`)."""
    trace: float = 0.95
    """Lambda of generalised advantage estimation (`gae_lambda`; Schulman et al. 2016)."""
    entropy_coefficient: float = 0.0
    """Weight of the policy's entropy in the loss (`ent_coef`)."""
    value_coefficient: float = 0.5
    """Weight of the value's error in the loss (`vf_coef`)."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm, all together."""
    learning_rate_falls: bool = False
    """The learning rate falls linearly to zero at the end of the schedule (`lin_` in RL Baselines3 Zoo)."""
    schedule_env_steps: int | None = None
    """Environment steps over which it falls. None: the budget."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "rollout_steps", "schedule_env_steps")
        check_at_least(self, 0, "entropy_coefficient", "value_coefficient")
        check_share(self, "trace")
        check_above_zero(self, "max_gradient_norm")
        if self.rollout_steps * self.num_envs < 2:
            raise ConfigError("rollout_steps times num_envs must be at least 2")

    @property
    def something_falls(self) -> bool:
        """Whether anything follows the schedule."""
        return self.learning_rate_falls

    def check_new(self, preset: Any = None) -> None:
        super().check_new(preset)
        if not self.something_falls and self.schedule_env_steps is not None:
            check_unchanged(self, preset, "where nothing falls", "schedule_env_steps")


def falling(start: float, falls: bool) -> Any:
    """The library's schedule: from `start` linearly to 0 with the remaining progress, or `start` for ever."""
    return (lambda progress: start * max(progress, 0.0)) if falls else start


class RolloutAgent(SB3Agent):
    """Base of those that learn from what they have just done."""

    action_kinds = ("discrete", "continuous")
    stores_forced_actions = False

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        if config.schedule_env_steps is not None:
            return config
        return dataclasses.replace(config, schedule_env_steps=max(budget_env_steps, 1))

    def rollout_options(self) -> dict[str, Any]:
        """What is common in the constructors of those algorithms."""
        config = self.config
        return {
            "learning_rate": falling(config.learning_rate, config.learning_rate_falls),
            "n_steps": config.rollout_steps,
            "gamma": config.discount,
            "gae_lambda": config.trace,
            "ent_coef": config.entropy_coefficient,
            "vf_coef": config.value_coefficient,
            "max_grad_norm": config.max_gradient_norm,
            "rollout_buffer_class": RolloutSource.buffer_class,
            "device": self.device,
        }

    def make_source(self, env: Env, *, seed: int) -> RolloutSource:
        return RolloutSource(self, env, seed=seed)

    def learn(self) -> None:
        assert self.config.schedule_env_steps is not None, "resolve() comes first"
        self.model._update_current_progress_remaining(self.model.num_timesteps, self.config.schedule_env_steps)
        self.model.train()

    def look_into(self, observations: Any) -> dict[str, torch.Tensor]:
        """`value` [N], and `probabilities` [N, A] of numbered actions or `mean` [N, ...] and `deviation` [N, ...] of
        continuous ones."""
        policy = self.model.policy
        thought = {"value": policy.predict_values(observations)[:, 0]}
        distribution = policy.get_distribution(observations).distribution
        if self.actions:
            return thought | {"probabilities": distribution.probs}
        return thought | {"mean": distribution.mean, "deviation": distribution.stddev}


def reads_pictures(space: Space) -> bool:
    """Whether the library's convolutions read observations of this space."""
    shape = space.shape or ()
    return len(shape) == 3 and space.dtype == np.uint8 and min(shape[1:]) >= SMALLEST_PICTURE
