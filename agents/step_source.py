"""Experience step by step, in the order in which it happens, for tabular learners in environments without a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.core import Agent, Purpose, derived_seed
from agents.recent_games import RecentGames
from aprendiz.loop import Outcome, Source, Work

if TYPE_CHECKING:
    from envs.core import Env


@dataclass(kw_only=True)
class Transitions:
    """T transitions in order: one step of N environments (T = N), or a longer record."""

    observation: NDArray[np.int64]
    """[T] state acted in."""
    action: NDArray[np.int64]
    """[T] action taken."""
    reward: NDArray[np.floating]
    """[T] reward received, unclipped."""
    next_observation: NDArray[np.int64]
    """[T] state reached; the true last state where the game ended."""
    discount: NDArray[np.float64]
    """[T] factor of the next state's value: 0 where the game terminated; a time limit alone changes nothing."""


class StepSource(Source):
    """Acts in N environments and hands out each step's N transitions at once; a unit is one environment step.

    Every point between two calls of `next` is safe to save at. Resuming is exact where the environment can restore its
    games; elsewhere it continues with new games.
    """

    def __init__(self, agent: Agent, env: Env, *, discount: float, seed: int) -> None:
        """discount: of the next state's value where the game goes on. seed: the run's own."""
        self.agent, self.env, self.discount = agent, env, discount
        self.generator = np.random.default_rng(derived_seed(seed, Purpose.ACTING))
        self.observation = env.reset(derived_seed(seed, Purpose.ENVIRONMENT))
        self.env_steps = 0
        self.recent_games = RecentGames()

    def next(self, limit: int | None = None) -> Work:
        """One step of all N environments, also where fewer than N units are left."""
        before = self.observation
        actions = self.agent.act(before, self.agent.exploration(self.env_steps), self.generator)
        forced = self.env.forced_action
        actions = np.where(forced >= 0, forced, actions)
        step = self.env.step(actions)
        ended = step.ended
        self.recent_games.add(step.score[ended], step.length[ended])
        self.observation = step.observation
        self.env_steps += self.env.num_envs
        batch = Transitions(
            observation=before,
            action=actions,
            reward=step.reward,
            next_observation=step.final_observation,
            discount=np.where(step.terminated | step.life_lost, 0.0, self.discount),
        )
        return Work(batch=batch, units=self.env.num_envs, safe_point=True)

    def feedback(self, batch: Transitions, outcome: Outcome) -> None:
        """Acting needs nothing back but the learner's new table."""

    def metrics(self) -> dict[str, float]:
        """`rollout/...`: exploration now, games ended, and the mean score and length of the last 100 games."""
        return {"rollout/exploration": self.agent.exploration(self.env_steps), **self.recent_games.metrics()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.bit_generator.state,
            "env": self.env.state_dict(),
            "env_steps": self.env_steps,
            "recent_games": self.recent_games.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state["generator"]
        self.observation = self.env.load_state_dict(state["env"])
        self.env_steps = int(state["env_steps"])
        self.recent_games.load_state_dict(state["recent_games"])
