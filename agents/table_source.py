"""Experience for tabular learners: long chunks of play on an environment's own transition table.

Where an environment exposes its transition probabilities (`Env.table()`), a tabular learner can play and learn in
compiled code, thousands of steps in one update. The source hands out the game's state and the random numbers of the
next steps; the learner plays them and writes back where the game now stands. All randomness comes from one seeded
NumPy generator, drawn step by step in order, so that the size of the chunks changes nothing, and a resumed run
continues number for number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.core import Purpose, derived_seed
from agents.recent_games import RecentGames
from aprendiz.errors import CheckpointError, EnvError
from aprendiz.loop import Outcome, Source, Work
from envs import WITH_TABLE

if TYPE_CHECKING:
    from envs.core import Env, TransitionTable

LARGEST_CHUNK = 10_000
"""Environment steps of one update where nothing else is said, and the most that is chosen by itself."""
UNIFORMS_PER_STEP = 4
"""Columns of `TableChunk.uniforms`: explore or not, which action, which outcome, where the next game starts."""


@dataclass(kw_only=True)
class TableChunk:
    """The next T steps to be played on a transition table, and, after the learner's update, what came of them."""

    table: TransitionTable
    """The game's rules."""
    uniforms: NDArray[np.float64]
    """[T, 4 or more] in [0, 1): explore or not, which action, which outcome, where the next game starts, and what the
    learner wants beside."""
    env_steps: int
    """Environment steps played before this chunk; the exploration schedule counts from it."""
    state: int
    """State to act in next. Written back by the learner."""
    elapsed: int
    """Steps of the game in progress so far. Written back by the learner."""
    score: float
    """Undiscounted reward of the game in progress so far. Written back by the learner."""
    action: int = -1
    """Action already chosen in `state`; -1 for none. Written back by learners that choose before they learn."""
    finished_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Scores of the games that ended in this chunk, in order. Written by the learner."""
    finished_lengths: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Their lengths in steps. Written by the learner."""


class TabularLearner(Protocol):
    """What the source needs of a learner whose `update` takes a TableChunk and writes its results back."""

    config: Any
    """Has `chunk_env_steps`."""

    def exploration(self, env_steps: int) -> float: ...


def sample_index(probabilities: NDArray[np.float64], uniform: float) -> int:
    """Index drawn from a distribution [n] by a uniform number in [0, 1): never one of zero probability."""
    cumulative = np.cumsum(probabilities)
    index = int(np.searchsorted(cumulative, uniform, side="right"))
    return min(index, int(np.flatnonzero(probabilities)[-1]))


class TableSource(Source):
    """Source of TableChunks; a unit of its work is one environment step.

    Plays one game at a time, whatever the environment's number of lanes. Every point between `feedback` and the
    following `next` is safe to save at; `Work.safe_point` is always true.
    """

    def __init__(
        self,
        learner: TabularLearner,
        env: Env,
        *,
        seed: int,
        chunk_env_steps: int | None = None,
        extra_uniforms: int = 0,
    ) -> None:
        """seed: the run's own. chunk_env_steps: None takes the learner's. extra_uniforms: columns of random numbers
        that the learner wants beside those that play the game. Raises EnvError without a table."""
        table = env.table()
        if table is None:
            raise EnvError(
                f"{env.spec.name} does not expose its transition probabilities; environments that do: "
                f"{', '.join(WITH_TABLE)}"
            )
        self.learner = learner
        self.table: TransitionTable = table
        self.chunk_env_steps: int = chunk_env_steps or learner.config.chunk_env_steps or LARGEST_CHUNK
        self.uniforms_per_step = UNIFORMS_PER_STEP + extra_uniforms
        self.generator = np.random.default_rng(derived_seed(seed, Purpose.ACTING))
        self.state = sample_index(table.initial, float(self.generator.random()))
        self.elapsed = 0
        self.score = 0.0
        self.action = -1
        self.env_steps = 0
        self.recent_games = RecentGames()
        self._pending: TableChunk | None = None

    def next(self, limit: int | None = None) -> Work:
        """The next chunk, of at most `limit` environment steps (None: no limit). `feedback` must follow its update."""
        assert self._pending is None, "next() called before feedback() on the last chunk"
        assert limit is None or limit > 0, f"no steps left to play: limit {limit}"
        steps = self.chunk_env_steps if limit is None else min(self.chunk_env_steps, limit)
        self._pending = TableChunk(
            table=self.table,
            uniforms=self.generator.random((steps, self.uniforms_per_step)),
            env_steps=self.env_steps,
            state=self.state,
            elapsed=self.elapsed,
            score=self.score,
            action=self.action,
        )
        return Work(batch=self._pending, units=steps, safe_point=True)

    def feedback(self, batch: TableChunk, outcome: Outcome) -> None:
        """Takes over what the learner wrote into the chunk: where the game stands, and the games that ended."""
        assert batch is self._pending, "feedback() for another chunk than the last"
        self._pending = None
        self.state, self.elapsed, self.score = batch.state, batch.elapsed, batch.score
        self.action = batch.action
        self.env_steps += len(batch.uniforms)
        self.recent_games.add(batch.finished_scores, batch.finished_lengths)

    def metrics(self) -> dict[str, float]:
        """`rollout/...`: exploration now, games ended, and the mean score and length of the last 100 games."""
        return {"rollout/exploration": self.learner.exploration(self.env_steps), **self.recent_games.metrics()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the coming chunks depend on, JSON-able: the game in progress and the generator, exactly."""
        assert self._pending is None, "state_dict() between next() and feedback()"
        return {
            "generator": self.generator.bit_generator.state,
            "state": self.state,
            "elapsed": self.elapsed,
            "score": self.score,
            "action": self.action,
            "env_steps": self.env_steps,
            "recent_games": self.recent_games.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken. Raises CheckpointError where the table has no such state."""
        if not 0 <= state["state"] < len(self.table.initial):
            raise CheckpointError(
                f"the checkpoint stands in state {state['state']}, and this environment has {len(self.table.initial)} "
                "states; resume with the environment and options of the run"
            )
        self.generator.bit_generator.state = state["generator"]
        self.state = int(state["state"])
        self.elapsed = int(state["elapsed"])
        self.score = float(state["score"])
        self.action = int(state.get("action", -1))
        self.env_steps = int(state["env_steps"])
        self.recent_games.load_state_dict(state["recent_games"])
        self._pending = None
