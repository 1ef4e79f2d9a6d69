"""Experience step by step, in the order in which it happens, for tabular learners in environments without a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    next_action: NDArray[np.int64] | None = None
    """[T] action chosen in the next state, for on-policy learners; whatever where the game terminated."""
    explore: float = 0.0
    """Probability of a random action with which these were chosen."""
    lane: NDArray[np.int64] | None = None
    """[T] environment of each."""
    ended: NDArray[np.bool_] | None = None
    """[T] whether the game ended with it, terminated or cut off: what follows in the lane is another game."""
    restarted: bool = False
    """Whether all games are other ones than those of the transitions before: what was in progress could not be restored
    when the run was continued."""
    uniforms: NDArray[np.float64] | None = None
    """[T, k] random numbers in [0, 1), for learners that want some."""

    def contiguous(self) -> Transitions:
        """The same with arrays as compiled code takes them: contiguous int64 and float64."""
        integers = ("observation", "action", "next_observation")
        changes: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name), np.int64) for name in integers}
        for name in ("reward", "discount"):
            changes[name] = np.ascontiguousarray(getattr(self, name), np.float64)
        return replace(self, **changes)


class StepSource(Source):
    """Acts in N environments and hands out each step's N transitions at once; a unit is one environment step.

    Every point between two calls of `next` is safe to save at. Resuming is exact where the environment can restore its
    games; elsewhere it continues with new games.
    """

    def __init__(
        self,
        agent: Agent,
        env: Env,
        *,
        discount: float,
        seed: int,
        on_policy: bool = False,
        extra_uniforms: int = 0,
    ) -> None:
        """discount: of the next state's value where the game goes on. seed: the run's own. on_policy: choose the next
        action before the update, and tell it. extra_uniforms: random numbers a transition that the learner wants."""
        self.agent, self.env, self.discount = agent, env, discount
        self.on_policy, self.extra_uniforms = on_policy, extra_uniforms
        self.generator = np.random.default_rng(derived_seed(seed, Purpose.ACTING))
        self.observation = env.reset(derived_seed(seed, Purpose.ENVIRONMENT))
        self.actions: NDArray[np.int64] | None = None
        """[N] chosen for `observation` already; None: not yet."""
        self.env_steps = 0
        self.restarted = False
        """Whether other games have begun since the last step."""
        self.recent_games = RecentGames()

    def next(self, limit: int | None = None) -> Work:
        """One step of all N environments, also where fewer than N units are left."""
        before, explore = self.observation, self.agent.exploration(self.env_steps)
        actions = self._choose(before, explore) if self.actions is None else self.actions
        step = self.env.step(actions)
        ended = step.ended
        self.recent_games.add(step.score[ended], step.length[ended])
        self.observation = step.observation
        self.env_steps += self.env.num_envs
        next_action = uniforms = None
        if self.on_policy:
            next_explore = self.agent.exploration(self.env_steps)
            self.actions = self._choose(step.observation, next_explore)
            next_action = self.actions.copy()
            cut = np.flatnonzero(step.truncated)
            if len(cut):  # what would have been done, had the limit not been
                next_action[cut] = self.agent.act(step.final_observation[cut], next_explore, self.generator)
        if self.extra_uniforms:
            uniforms = self.generator.random((self.env.num_envs, self.extra_uniforms))
        batch = Transitions(
            observation=before,
            action=actions,
            reward=step.reward,
            next_observation=step.final_observation,
            discount=np.where(step.no_bootstrap(life_loss_ends_value=True), 0.0, self.discount),
            next_action=next_action,
            explore=explore,
            lane=np.arange(self.env.num_envs),
            ended=ended,
            restarted=self.restarted,
            uniforms=uniforms,
        )
        self.restarted = False
        return Work(batch=batch, units=self.env.num_envs, safe_point=True)

    def _choose(self, observation: NDArray[np.int64], explore: float) -> NDArray[np.int64]:
        """Actions [N]: the agent's, but for those that the protocol forces now."""
        forced = self.env.forced_action
        return np.where(forced >= 0, forced, self.agent.act(observation, explore, self.generator))

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
            "actions": None if self.actions is None else self.actions.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state["generator"]
        self.observation = self.env.load_state_dict(state["env"])
        actions = state.get("actions")
        # Where the games cannot be restored others have begun, in which nothing has been chosen.
        self.restarted = not self.env.spec.restorable
        self.actions = None if actions is None or self.restarted else np.array(actions, np.int64)
        self.env_steps = int(state["env_steps"])
        self.recent_games.load_state_dict(state["recent_games"])
