"""Where agents of Stable-Baselines3 learn: the library's own collecting, one step at a time.

`learn()` of the library is this loop: collect some steps, then train. The sources make it in pieces, in the same order
and with the same random numbers, so that after every piece our loop can log, save or stop. A run ends when its budget
is spent, after the training that is due by then; a rollout that is not full yet is kept for the run that goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from agents.core import Purpose, derived_seed
from agents.sb3_replay import RowStore
from agents.sb3_vec_env import GameVecEnv
from aprendiz.errors import ConfigError
from aprendiz.loop import Source, Work
from aprendiz.replay_store import is_whole
from envs.core import Env

if TYPE_CHECKING:
    from agents.sb3 import SB3Agent

ONE_STEP = TrainFreq(1, TrainFrequencyUnit.STEP)


@dataclass(frozen=True)
class Training:
    """What stands for a batch: the library takes its batches from its own memory."""


class SB3Source(Source):
    """Games for a model of the library. Subclasses collect."""

    def __init__(self, agent: Any, env: Env, *, seed: int) -> None:
        """Raises ConfigError where the number of games is not the one that the agent was made for."""
        self.agent: SB3Agent = agent
        self.env, self.model, config = env, agent.model, agent.config
        if env.num_envs != config.num_envs:
            raise ConfigError(f"{agent.name} was made for {config.num_envs} environments, not for {env.num_envs}")
        self.games = GameVecEnv(
            env,
            self.model.action_space,
            seed=derived_seed(seed, Purpose.ENVIRONMENT),
            clip_rewards=config.clip_rewards,
            life_loss_ends_value=config.life_loss_ends_value,
            stores_forced_actions=agent.stores_forced_actions,
        )
        self.model.set_env(self.games)
        with agent.random.in_place():
            # The first reset, empty statistics, and a callback that does nothing.
            _, self.callback = self.model._setup_learn(1, reset_num_timesteps=False)
        self.due = 0
        """Trainings to be handed out before the next step."""

    def next(self, limit: int | None = None) -> Work:
        if self.due:
            self.due -= 1
            return Work(Training(), units=0, safe_point=self.due == 0)
        with self.agent.random.in_place():
            self.collect()
        return Work(None, units=self.env.num_envs, safe_point=self.due == 0)

    def collect(self) -> None:
        """One step of all games by the library's `collect_rollouts`; sets `due`."""
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        """`rollout/...`: means over the last 100 whole games, unclipped, and the exploration now."""
        exploration = self.agent.exploration(self.model.num_timesteps)
        return {"rollout/exploration": exploration, **self.games.recent.metrics()}

    def state_dict(self) -> dict[str, Any]:
        assert not self.due, "saved before the training that is due"
        return {"env": self.env.state_dict(), "recent": self.games.recent.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.due = 0
        self.model._last_obs = self.env.load_state_dict(state["env"])
        self.games.recent.load_state_dict(state["recent"])


class ReplaySource(SB3Source):
    """One step into the replay memory, and trainings when they are due."""

    bulky = True

    def __init__(self, agent: Any, env: Env, *, seed: int) -> None:
        super().__init__(agent, env, seed=seed)
        config, model = agent.config, agent.model
        model.replay_buffer = model.replay_buffer_class(
            config.replay_capacity,
            model.observation_space,
            model.action_space,
            device=model.device,
            n_envs=env.num_envs,
            optimize_memory_usage=False,
            **model.replay_buffer_kwargs,
        )
        # The library's schedules count what is left of this; ours end at a number of steps.
        model._total_timesteps = agent.schedule_env_steps()
        self.store = RowStore(model.replay_buffer)
        self.learn_from_env_steps = config.warmup_env_steps
        self._rows_since_training = 0
        self._loaded = False

    def collect(self) -> None:
        model, config = self.model, self.agent.config
        model.collect_rollouts(
            self.games,
            callback=self.callback,
            train_freq=ONE_STEP,
            replay_buffer=model.replay_buffer,
            learning_starts=model.learning_starts,
            log_interval=None,
        )
        self.store.rows += 1
        self._rows_since_training += 1
        if self._rows_since_training * self.env.num_envs == config.train_period_env_steps:
            self._rows_since_training = 0
            if model.num_timesteps > self.learn_from_env_steps:
                self.due = config.gradient_steps

    def metrics(self) -> dict[str, float]:
        buffer = self.model.replay_buffer
        return super().metrics() | {"rollout/replay_fill": buffer.size() / buffer.buffer_size}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "rows_since_training": self._rows_since_training,
            "learn_from_env_steps": self.learn_from_env_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After `load_bulk`; without it the memory is filled anew, for as long as the warm-up, before learning."""
        super().load_state_dict(state)
        self._rows_since_training = state["rows_since_training"]
        self.learn_from_env_steps = state["learn_from_env_steps"]
        if not self._loaded:
            self.learn_from_env_steps = self.model.num_timesteps + self.agent.config.warmup_env_steps
        elif not self.env.spec.restorable:
            self.store.cut()

    def save_bulk(self, folder: Path) -> dict[str, Any]:
        return self.store.save(folder)

    def has_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        return is_whole(folder, manifest)

    def load_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.store.load(folder, manifest)
        self._loaded = True

    def prune_bulk(self, folder: Path) -> None:
        self.store.prune(folder)


class SteppedRollout(RolloutBuffer):
    """The library's rollout, which is filled by many short collections instead of one long one.

    A collection starts by emptying it, which is left out until it is full, and ends by valuing it, which is left out
    while it is not."""

    has_new_row = False

    def reset(self) -> None:
        self.has_new_row = False
        if self.full or not hasattr(self, "observations"):
            super().reset()

    def start(self) -> None:
        """Empty it, whatever is in it."""
        self.full = True
        self.reset()

    def add(self, *row: Any, **named: Any) -> None:
        super().add(*row, **named)
        self.has_new_row = True

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        if self.full:
            super().compute_returns_and_advantage(last_values, dones)


class RolloutSource(SB3Source):
    """One step into the rollout, and a training when it is full."""

    buffer_class: ClassVar[type[SteppedRollout]] = SteppedRollout
    arrays: ClassVar[tuple[str, ...]] = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")
    """What a rollout that is not full yet consists of."""

    def __init__(self, agent: Any, env: Env, *, seed: int) -> None:
        super().__init__(agent, env, seed=seed)
        self.rollout: SteppedRollout = agent.model.rollout_buffer

    def collect(self) -> None:
        with self._unused_values_left_out():
            self.model.collect_rollouts(self.games, self.callback, self.rollout, n_rollout_steps=1)
        self.due = int(self.rollout.full)

    @contextlib.contextmanager
    def _unused_values_left_out(self) -> Iterator[None]:
        """A collection ends by valuing what it sees last: of use when the rollout is full, a wasted pass through the
        network when it is not."""
        policy, rollout = self.model.policy, self.rollout
        value = policy.predict_values

        def predict_values(observations: torch.Tensor) -> torch.Tensor:
            if rollout.has_new_row and not rollout.full:
                return torch.zeros(len(observations), 1)
            return value(observations)

        policy.predict_values = predict_values
        try:
            yield
        finally:
            del policy.predict_values

    def state_dict(self) -> dict[str, Any]:
        rollout = self.rollout
        filled = 0 if rollout.full else rollout.pos  # a full one has been learned from
        return super().state_dict() | {
            "rollout": {name: getattr(rollout, name)[:filled] for name in self.arrays} if filled else None,
            "episode_starts": np.asarray(self.model._last_episode_starts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Where games cannot be restored, what was collected of them is dropped with them."""
        super().load_state_dict(state)
        rollout = self.rollout
        rollout.start()
        self.model._last_episode_starts = np.ones(self.env.num_envs, np.bool_)
        if not self.env.spec.restorable:
            return
        self.model._last_episode_starts = np.asarray(state["episode_starts"])
        if state["rollout"] is not None:
            for name in self.arrays:
                saved = state["rollout"][name]
                getattr(rollout, name)[: len(saved)] = saved
            rollout.pos = len(state["rollout"]["rewards"])
