"""Acting in an environment as a source of batches: act, learn while the games are stepping, store, repeat.

The order of events never depends on timing: actions are sent, the updates that are due run on what the memory held
before, then the step is received and stored. Where the backend steps its games in threads of its own the two overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.core import Agent, Purpose, derived_seed
from agents.recent_games import RecentGames
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source, Work, crossed
from aprendiz.replay import MOST_ACTIONS, Batch, Replay
from aprendiz.replay_store import is_whole
from envs.core import Env, Step


class ActingSource(Source):
    """Plays N games with an agent, fills a replay memory, and hands out batches when updates are due.

    Args:
        warmup_env_steps: no updates before so many environment steps have been stored.
        train_period_env_steps: one update for every so many environment steps.
        clip_rewards: rewards are stored clipped to [-1, 1] (Mnih et al. 2015); scores are never clipped.
        reward_scale: factor of the rewards that are stored; scores are never scaled.
        overlap: learn while the games are stepping in threads of their own. False steps them first: the same numbers,
            sooner where learning keeps every core busy by itself.
        life_loss_ends_value: a lost life has a discount of zero while the game, and its score, go on.
        importance_exponent: beta of a prioritised replay memory after so many environment steps.
    """

    bulky = True

    def __init__(
        self,
        agent: Agent,
        env: Env,
        replay: Replay,
        *,
        seed: int,
        batch_size: int,
        warmup_env_steps: int,
        train_period_env_steps: int,
        clip_rewards: bool = False,
        reward_scale: float = 1.0,
        life_loss_ends_value: bool = True,
        overlap: bool = True,
        importance_exponent: Callable[[int], float] | None = None,
    ) -> None:
        """Raises ConfigError where an environment has more actions than the memory can tell apart."""
        actions = int(getattr(env.spec.action_space, "n", 0))
        if actions > MOST_ACTIONS:
            raise ConfigError(f"{env.spec.name} has {actions:,} actions; at most {MOST_ACTIONS:,} can be remembered")
        self.agent, self.env, self.replay = agent, env, replay
        self.batch_size, self.warmup_env_steps = batch_size, warmup_env_steps
        self.train_period_env_steps = train_period_env_steps
        self.clip_rewards, self.reward_scale = clip_rewards, reward_scale
        self.life_loss_ends_value = life_loss_ends_value
        self.acting_generator = np.random.default_rng(derived_seed(seed, Purpose.ACTING))
        self.replay_generator = np.random.default_rng(derived_seed(seed, Purpose.REPLAY))
        self.env_steps = 0
        self.learn_from_env_steps = warmup_env_steps
        self.recent = RecentGames()
        self.observation = env.reset(derived_seed(seed, Purpose.ENVIRONMENT))
        replay.start(self.observation)
        self._counted_env_steps = 0
        self._due_updates = 0
        self._sent: np.ndarray | None = None
        self.overlap, self.importance_exponent = overlap, importance_exponent
        self._received: Step | None = None

    def next(self, limit: int | None = None) -> Work:
        if self._sent is None:
            self._send()
        if self._due_updates:
            self._due_updates -= 1
            batch: Any = self._sample()
            batch.env_steps = self.env_steps
            return Work(batch, units=0, safe_point=False)
        self._receive()
        return Work(None, units=self.env.num_envs, safe_point=True)

    def _sample(self) -> Batch:
        if self.importance_exponent is None:
            return self.replay.sample(self.batch_size, self.replay_generator)
        importance_exponent = self.importance_exponent(self.env_steps)
        return self.replay.sample(self.batch_size, self.replay_generator, importance_exponent=importance_exponent)

    def feedback(self, batch: Batch, outcome: Outcome) -> None:
        """The errors of an update become the priorities of what it learned from."""
        error = outcome.per_sample.get("td_error")
        if error is not None and batch.indices is not None:
            self.replay.update_priorities(batch.indices, error.cpu().numpy())

    def _act(self) -> np.ndarray:
        """Actions int64 [N] at the current observation."""
        return self.agent.act_in_training(self.observation, self.env_steps, self.acting_generator)

    def _begin(self, games: np.ndarray) -> None:
        """Where `games` (bool [N]) holds a new game has begun."""

    def _send(self) -> None:
        actions = self._act()
        forced = self.env.forced_action
        actions = np.where(forced >= 0, forced, actions)
        self.env.send(actions)
        self._sent = actions
        if not self.overlap:
            self._received = self.env.recv()
        if self.env_steps > self.learn_from_env_steps:
            self._due_updates = crossed(self._counted_env_steps, self.env_steps, self.train_period_env_steps)
        self._counted_env_steps = self.env_steps

    def _receive(self) -> None:
        step = self._received or self.env.recv()
        self._received = None
        ended = step.ended
        no_bootstrap = step.no_bootstrap(self.life_loss_ends_value)
        reward = np.float32(self.reward_scale) * step.learned_reward(self.clip_rewards)
        assert self._sent is not None
        self.replay.add(self._sent, reward, no_bootstrap, ended, step.observation, step.final_observation)
        self.observation = step.observation
        self._sent = None
        self.env_steps += self.env.num_envs
        if ended.any():
            self._begin(ended)
            self.recent.add(step.score[ended], step.length[ended])

    def metrics(self) -> dict[str, float]:
        """`rollout/...`: means over the last 100 whole games, and the exploration now."""
        return {
            "rollout/exploration": self.agent.exploration(self.env_steps),
            "rollout/replay_fill": min(len(self.replay) / self.replay.capacity, 1.0),
        } | self.recent.metrics()

    def state_dict(self) -> dict[str, Any]:
        assert self._sent is None, "saved while the games are stepping"
        return {
            "env_steps": self.env_steps,
            "counted_env_steps": self._counted_env_steps,
            "learn_from_env_steps": self.learn_from_env_steps,
            "recent": self.recent.state_dict(),
            "acting_generator": self.acting_generator.bit_generator.state,
            "replay_generator": self.replay_generator.bit_generator.state,
            "env": self.env.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After `load_bulk`; without it the memory is filled anew, for as long as the warm-up, before learning."""
        self.env_steps = state["env_steps"]
        self._counted_env_steps = state["counted_env_steps"]
        self.learn_from_env_steps = state["learn_from_env_steps"]
        self.recent.load_state_dict(state["recent"])
        self.acting_generator.bit_generator.state = state["acting_generator"]
        self.replay_generator.bit_generator.state = state["replay_generator"]
        self.observation = self.env.load_state_dict(state["env"])
        self._sent, self._received, self._due_updates = None, None, 0
        if self.replay.loaded:
            self.replay.load_state_dict(state["replay"])
            if not self.env.spec.restorable:
                self.replay.cut(self.observation)
        else:
            self.replay.start(self.observation)
            self.learn_from_env_steps = self.env_steps + self.warmup_env_steps

    def save_bulk(self, folder: Path) -> dict[str, Any]:
        return self.replay.save(folder)

    def has_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        return is_whole(folder, manifest)

    def load_bulk(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.replay.load(folder, manifest)

    def prune_bulk(self, folder: Path) -> None:
        self.replay.prune(folder)
