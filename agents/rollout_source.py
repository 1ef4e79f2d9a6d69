"""Rollouts as a source of batches: play T steps in N games, turn them into targets, learn from them, forget them.

    V_t         max_a Q(s_t, a), as the network saw it when it acted
    what follows of a step, [T, N]: the value V_{t+1}; where a time limit cut the game off, that of its last observation
    discount    gamma, or 0 where the game was over or a life was lost
    trace       1, or 0 where the sequence breaks though the value is still bootstrapped (a time limit, games that were
                restarted)

Every rollout is shuffled anew for each epoch and dealt out in minibatches of equal size. The order of events never
depends on timing, and nothing is kept of a rollout once it has been learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core import Purpose, derived_seed
from agents.recent_games import RecentGames
from aprendiz.loop import Outcome, Source, Work
from envs.core import Env, Step


class RolloutAgent(Protocol):
    """What the source needs of an agent."""

    def exploration(self, env_steps: int) -> float: ...

    def act_and_value(
        self, observations: NDArray[Any], env_steps: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Actions int64 [N] while it learns, and values max_a Q float32 [N] of what it was shown."""
        ...

    def state_values(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """max_a Q, float32 [N]."""
        ...

    def returns(self, rollout: Rollout) -> NDArray[np.float32]:
        """Targets float32 [T, N]."""
        ...


@dataclass(slots=True, kw_only=True)
class Rollout:
    """T steps of N games, in the order in which they were played; every array is [T, N, ...]."""

    observation: NDArray[Any]
    """[T, N, ...] what was acted on."""
    action: NDArray[np.int64]
    """[T, N] action taken: the agent's own, or one that the protocol pressed."""
    reward: NDArray[np.float32]
    """[T, N], as the learner is to see it."""
    discount: NDArray[np.float32]
    """[T, N] factor of what follows: 0 where the game was over or a life was lost, else gamma."""
    trace: NDArray[np.float32]
    """[T, N] 0 where the sequence breaks though what follows has a value, else 1."""
    next_value: NDArray[np.float32]
    """[T, N] value of what follows; whatever where the discount is 0."""


@dataclass(slots=True)
class TargetBatch:
    """B steps with their targets, on the learner's device."""

    observation: Tensor
    """[B, ...], in the environment's dtype."""
    action: Tensor
    """int64 [B]"""
    target: Tensor
    """float32 [B]"""
    env_steps: int
    """Environment steps taken when the batch was made."""


class RolloutSource(Source):
    """Plays N games in stretches of T steps, and hands out minibatches of each.

    Args:
        rollout_steps: T, steps of each game.
        epochs: how often each step is learned from.
        minibatches: parts of an epoch; they divide T * N.
        clip_rewards: learn from rewards clipped to [-1, 1]; scores are never clipped.
        reward_scale: factor of what is learned from.
        life_loss_ends_value: a lost life has a discount of zero while the game, and its score, go on.
        overlap: learn from a rollout while the next one is being played, a few minibatches at each step, instead of
            between the two. Where the environment steps in threads of its own both happen at once; the numbers are
            the same where it does not. A checkpoint then holds a whole rollout.
    """

    def __init__(
        self,
        agent: RolloutAgent,
        env: Env,
        *,
        seed: int,
        rollout_steps: int,
        epochs: int,
        minibatches: int,
        discount: float,
        device: torch.device | str = "cpu",
        clip_rewards: bool = False,
        reward_scale: float = 1.0,
        life_loss_ends_value: bool = True,
        overlap: bool = False,
    ) -> None:
        self.agent, self.env, self.device = agent, env, torch.device(device)
        self.rollout_steps, self.epochs, self.minibatches = rollout_steps, epochs, minibatches
        self.discount, self.clip_rewards, self.reward_scale = discount, clip_rewards, reward_scale
        self.life_loss_ends_value, self.overlap = life_loss_ends_value, overlap
        self.acting_generator = np.random.default_rng(derived_seed(seed, Purpose.ACTING))
        self.shuffling_generator = np.random.default_rng(derived_seed(seed, Purpose.REPLAY))
        self.env_steps = 0
        self.recent = RecentGames()
        self.observation = env.reset(derived_seed(seed, Purpose.ENVIRONMENT))
        shape = (rollout_steps, env.num_envs)
        self._observations = np.empty((*shape, *self.observation.shape[1:]), self.observation.dtype)
        self._actions = np.zeros(shape, np.int64)
        self._rewards, self._discounts, self._traces = (np.zeros(shape, np.float32) for _ in range(3))
        self._values, self._cut_values = (np.zeros(shape, np.float32) for _ in range(2))
        """V_t, and what follows where the sequence breaks."""
        self._filled = 0
        self._sent: NDArray[np.int64] | None = None
        self._due = 0
        self._learned: dict[str, Tensor] = {}
        """The rollout that is being learned from: observation, action, target, [T * N, ...]."""
        self._order = np.empty((0, shape[0] * shape[1] // minibatches), np.int64)
        """[minibatches to come, B] which of its steps."""
        self._env_steps_of_rollout = 0

    # ---------------------------------------------------------------- events

    def next(self, limit: int | None = None) -> Work:
        """One step of all games, or one minibatch. Safe to save at: between two rollouts, and at the budget's end."""
        if self.overlap:
            return self._next_overlapped(limit)
        if len(self._order):
            batch = self._minibatch()
            return Work(batch, units=0, safe_point=not len(self._order))
        self._send()
        done = self._receive()
        return Work(None, units=self.env.num_envs, safe_point=not done and self._is_last(limit))

    def _next_overlapped(self, limit: int | None) -> Work:
        if self._sent is None:
            self._send()
            total = self.epochs * self.minibatches
            step, steps = self._filled, self.rollout_steps
            self._due = min(total * (step + 1) // steps - total * step // steps, len(self._order))
        if self._due:
            self._due -= 1
            return Work(self._minibatch(), units=0, safe_point=False)
        done = self._receive()
        return Work(None, units=self.env.num_envs, safe_point=done or self._is_last(limit))

    def _is_last(self, limit: int | None) -> bool:
        return limit is not None and limit <= self.env.num_envs

    def _send(self) -> None:
        actions, values = self.agent.act_and_value(self.observation, self.env_steps, self.acting_generator)
        self._values[self._filled] = values
        forced = self.env.forced_action
        self._sent = np.where(forced >= 0, forced, actions)
        self.env.send(self._sent)

    def _receive(self) -> bool:
        """Whether the rollout is complete."""
        step, at = self.env.recv(), self._filled
        assert self._sent is not None
        self._observations[at], self._actions[at] = self.observation, self._sent
        self._rewards[at] = step.learned_reward(self.clip_rewards) * self.reward_scale
        self._discounts[at] = np.where(step.no_bootstrap(self.life_loss_ends_value), 0.0, self.discount)
        self._traces[at] = ~step.ended
        self._value_cut_games(at, step)
        self.observation, self._sent = step.observation, None
        self._filled += 1
        self.env_steps += self.env.num_envs
        if step.ended.any():
            self.recent.add(step.score[step.ended], step.length[step.ended])
        if self._filled < self.rollout_steps:
            return False
        self._finish()
        return True

    def _value_cut_games(self, at: int, step: Step) -> None:
        """What would have followed where a time limit ended the game: the value of its true last observation."""
        cut = np.flatnonzero(step.truncated)
        if len(cut):
            self._cut_values[at, cut] = self.agent.state_values(step.final_observation[cut])

    def _finish(self) -> None:
        """Turns the rollout into targets, and shuffles it for each epoch."""
        following = np.concatenate([self._values[1:], self.agent.state_values(self.observation)[None]])  # [T, N]
        rollout = Rollout(
            observation=self._observations,
            action=self._actions,
            reward=self._rewards,
            discount=self._discounts,
            trace=self._traces,
            next_value=np.where(self._traces > 0.0, following, self._cut_values),
        )
        target = self.agent.returns(rollout)
        arrays = {"observation": self._observations, "action": self._actions, "target": target}
        # A copy where the next rollout is written over this one while it is learned from.
        self._learned = {
            name: torch.from_numpy(array.copy() if self.overlap else array).flatten(0, 1).to(self.device)
            for name, array in arrays.items()
        }
        steps = target.size
        orders = [self.shuffling_generator.permutation(steps) for _ in range(self.epochs)]
        self._order = np.stack(orders).reshape(self.epochs * self.minibatches, -1)  # [E * M, B]
        self._env_steps_of_rollout = self.env_steps
        self._filled = 0

    def _minibatch(self) -> TargetBatch:
        rows = torch.from_numpy(self._order[0]).to(self.device)
        self._order = self._order[1:]
        found = {name: tensor.index_select(0, rows) for name, tensor in self._learned.items()}
        return TargetBatch(**found, env_steps=self._env_steps_of_rollout)

    def feedback(self, batch: TargetBatch, outcome: Outcome) -> None:
        """Nothing is drawn by how wrong it was."""

    def metrics(self) -> dict[str, float]:
        """`rollout/...`: means over the last 100 whole games, and the exploration now."""
        return {"rollout/exploration": self.agent.exploration(self.env_steps)} | self.recent.metrics()

    # ---------------------------------------------------------------- saving

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {
            "observations": self._observations,
            "actions": self._actions,
            "rewards": self._rewards,
            "discounts": self._discounts,
            "traces": self._traces,
            "values": self._values,
            "cut_values": self._cut_values,
        }

    def state_dict(self) -> dict[str, Any]:
        assert self._sent is None, "saved while the games are stepping"
        pending = {name: tensor.cpu().numpy() for name, tensor in self._learned.items()} if len(self._order) else {}
        return {
            "env_steps": self.env_steps,
            "recent": self.recent.state_dict(),
            "acting_generator": self.acting_generator.bit_generator.state,
            "shuffling_generator": self.shuffling_generator.bit_generator.state,
            "env": self.env.state_dict(),
            "observation": self.observation.copy(),
            "rollout": {name: column[: self._filled].copy() for name, column in self._columns().items()},
            "pending": pending,
            "order": self._order.copy(),
            "env_steps_of_rollout": self._env_steps_of_rollout,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After the learner's own: games that cannot be restored are cut off, and their last observation is valued."""
        self.env_steps = state["env_steps"]
        self.recent.load_state_dict(state["recent"])
        self.acting_generator.bit_generator.state = state["acting_generator"]
        self.shuffling_generator.bit_generator.state = state["shuffling_generator"]
        for name, column in self._columns().items():
            saved = np.asarray(state["rollout"][name])
            self._filled = len(saved)
            column[: self._filled] = saved
        self._learned = {
            name: torch.from_numpy(np.array(array)).to(self.device) for name, array in state["pending"].items()
        }
        self._order = np.array(state["order"], np.int64)
        self._env_steps_of_rollout = state["env_steps_of_rollout"]
        self.observation = self.env.load_state_dict(state["env"])
        self._sent, self._due = None, 0
        if self._filled and not self.env.spec.restorable:
            last = self._filled - 1
            lanes = np.flatnonzero(self._traces[last])
            if len(lanes):
                self._cut_values[last, lanes] = self.agent.state_values(np.asarray(state["observation"])[lanes])
            self._traces[last] = 0.0
