"""Tabular Q-learning.

Paper: Watkins and Dayan, "Q-learning", Machine Learning 8, 1992 (equation 1 and the convergence theorem); Sutton and
Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section 6.5, equation 6.8. The step size decays
with the visits of each state and action, as Even-Dar and Mansour, "Learning Rates for Q-learning", JMLR 5, 2003,
analyse: with a constant step size the table keeps jittering around the optimum of a stochastic game and does not
converge.

    q(s, a) <- q(s, a) + step_size * (r + discount * max_b q(s', b) - q(s, a)),   step_size = 1 / visits(s, a)^exponent

The max is left out where the game terminated. A time limit is no property of the state that it cuts off: the max stays.

Where the environment exposes its transition table, one compiled update plays and learns a whole chunk of steps;
elsewhere the same rule learns from transitions that somebody else has collected. The kernels draw no random numbers
of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.core import Agent
from agents.step_source import StepSource, Transitions
from agents.table_source import TableChunk, TableSource
from aprendiz.errors import CheckpointError, ConfigError
from aprendiz.loop import Outcome

if TYPE_CHECKING:
    from envs.core import Env, EnvSpec

EXPLORATION_FRACTION = 0.5
"""Part of the budget over which exploration falls, where `exploration_env_steps` is not given."""


@dataclass(frozen=True, kw_only=True)
class QLearningConfig:
    """Hyperparameters of tabular Q-learning. Defaults without another source are our own measurements."""

    discount: float = 0.99
    """Discount of the next state's value, per environment step (ours: usual for games of some 100 steps)."""
    step_size_exponent: float = 0.65
    """Step size = 1 / visits(s, a)^exponent, above 0.5 and at most 1 (Even-Dar and Mansour 2003; our sweep)."""
    exploration_start: float = 1.0
    """Probability of a uniformly random action at the first environment step (ours)."""
    exploration_end: float = 0.1
    """Probability of a uniformly random action once the schedule has ended (Sutton and Barto 2018, example 6.6)."""
    exploration_env_steps: int | None = None
    """Environment steps over which it falls linearly; None: the first half of the budget, fixed when the run starts."""
    initial_value: float = 0.0
    """Value of every state and action before it is first visited, in discounted reward (ours)."""
    chunk_env_steps: int = 10_000
    """Environment steps of one compiled update; changes how often a run reports, never what it learns."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount < 1.0:
            raise ConfigError(f"discount must be at least 0 and below 1, got {self.discount}; try 0.99")
        if not 0.5 < self.step_size_exponent <= 1.0:
            raise ConfigError(
                f"step_size_exponent must be above 0.5 and at most 1, got {self.step_size_exponent}; convergence "
                "needs it; try 0.65"
            )
        for name in ("exploration_start", "exploration_end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be a probability from 0 to 1, got {getattr(self, name)}")
        if self.exploration_env_steps is not None and self.exploration_env_steps < 0:
            raise ConfigError(f"exploration_env_steps must be 0 or more, got {self.exploration_env_steps}")
        if not np.isfinite(self.initial_value):
            raise ConfigError(f"initial_value must be a finite number, got {self.initial_value}")
        if self.chunk_env_steps < 1:
            raise ConfigError(f"chunk_env_steps must be at least 1, got {self.chunk_env_steps}; try 10000")


@njit(cache=True)
def linear_exploration(env_steps: int, start: float, end: float, schedule_env_steps: int) -> float:
    """Linear schedule in absolute environment steps: start at 0, end from schedule_env_steps on."""
    if env_steps >= schedule_env_steps:
        return end
    return start + (end - start) * (env_steps / schedule_env_steps)


@njit(cache=True)
def q_learning_step(q, visits, state, action, reward, discount, next_state, exponent) -> float:
    """One update of q [S, A] and visits [S, A] in place; returns the temporal-difference error before it.

    discount is 0 where the game terminated. Watkins and Dayan 1992, equation 1; Sutton and Barto 2018, equation 6.8;
    polynomial step size of Even-Dar and Mansour 2003.
    """
    target = reward
    if discount != 0.0:
        target += discount * q[next_state].max()
    error = target - q[state, action]
    visits[state, action] += 1
    q[state, action] += error / visits[state, action] ** exponent
    return error


@njit(cache=True)
def _greedy(values, uniform) -> int:
    """Index of the highest of values [A]; among equals, the one that a uniform number in [0, 1) picks."""
    best = values[0]
    ties = 1
    for action in range(1, len(values)):
        if values[action] > best:
            best = values[action]
            ties = 1
        elif values[action] == best:
            ties += 1
    skip = int(uniform * ties)
    for action in range(len(values)):
        if values[action] == best:
            if skip == 0:
                return action
            skip -= 1
    return 0


@njit(cache=True)
def _sample(probability, uniform) -> int:
    """Index drawn from the distribution [K] by a uniform number in [0, 1): never one of zero probability."""
    chosen = 0
    cumulative = 0.0
    for index in range(len(probability)):
        if probability[index] > 0.0:
            chosen = index
            cumulative += probability[index]
            if uniform < cumulative:
                break
    return chosen


@njit(cache=True)
def _play_chunk(
    q, visits, next_states, probabilities, rewards, terminations, initial, time_limit, uniforms, env_steps, state,
    elapsed, score, discount, exponent, exploration_start, exploration_end, exploration_env_steps, finished_scores,
    finished_lengths,
):  # fmt: skip
    """Plays and learns one epsilon-greedy step for each row of uniforms [T, 4]; time_limit is -1 for none."""
    games = 0
    absolute_error = 0.0
    value = 0.0
    for step in range(len(uniforms)):
        epsilon = linear_exploration(env_steps + step, exploration_start, exploration_end, exploration_env_steps)
        if uniforms[step, 0] < epsilon:
            action = int(uniforms[step, 1] * q.shape[1])
        else:
            action = _greedy(q[state], uniforms[step, 1])
        outcome = _sample(probabilities[state, action], uniforms[step, 2])
        next_state = next_states[state, action, outcome]
        reward = rewards[state, action, outcome]
        terminated = terminations[state, action, outcome]
        value += q[state, action]
        error = q_learning_step(q, visits, state, action, reward, 0.0 if terminated else discount, next_state, exponent)
        absolute_error += abs(error)
        elapsed += 1
        score += reward
        if terminated or elapsed == time_limit:
            finished_scores[games] = score
            finished_lengths[games] = elapsed
            games += 1
            state = _sample(initial, uniforms[step, 3])
            elapsed = 0
            score = 0.0
        else:
            state = next_state
    return state, elapsed, score, games, absolute_error / len(uniforms), value / len(uniforms)


@njit(cache=True)
def _learn_transitions(q, visits, states, actions, rewards, next_states, discounts, exponent):
    """Learns from T transitions in their order; all arrays [T]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(states)):
        value += q[states[step], actions[step]]
        absolute_error += abs(
            q_learning_step(
                q, visits, states[step], actions[step], rewards[step], discounts[step], next_states[step], exponent
            )
        )
    return absolute_error / len(states), value / len(states)


class QLearning(Agent):
    """Agent and learner. q [S, A] float64 and visits [S, A] int64 are the whole of what it knows."""

    Config = QLearningConfig
    devices = ("cpu",)

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, QLearningConfig]:
        """Configurations for an environment; the same for all. Raises ConfigError where a table does not fit."""
        for kind, space in (("observations", spec.observation_space), ("actions", spec.action_space)):
            if not isinstance(space, gymnasium.spaces.Discrete):
                found = {"image": "images", "vector": "vectors"}.get(spec.observation_kind, "others")
                has = found if kind == "observations" else f"{type(space).__name__} actions"
                hint = "use --agent dqn" if kind == "observations" else "choose an environment with numbered actions"
                raise ConfigError(f"q-learning needs discrete {kind}; {spec.name} has {has}; {hint}")
        return {"default": QLearningConfig()}

    @classmethod
    def resolve(cls, config: QLearningConfig, budget_env_steps: int) -> QLearningConfig:
        """The config with what depends on the budget made absolute: exploration falls over its first half."""
        if config.exploration_env_steps is not None:
            return config
        return dataclasses.replace(config, exploration_env_steps=int(EXPLORATION_FRACTION * budget_env_steps))

    def __init__(
        self,
        config: QLearningConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        *,
        seed: int,
        device: Any = "cpu",
        precision: str = "fp32",
    ) -> None:
        """seed, device and precision are every agent's: the table starts even, lives on the CPU, and is always float64.

        Raises ConfigError for spaces that are not Discrete from 0, or a config that was not resolved.
        """
        for name, space in (("observations", observation_space), ("actions", action_space)):
            if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
                raise ConfigError(f"q-learning needs discrete {name} counted from 0, got {space}; use --agent dqn")
        if config.exploration_env_steps is None:
            raise ConfigError(
                "exploration_env_steps is not set; give it, or call QLearning.resolve(config, budget_env_steps) first"
            )
        assert isinstance(observation_space, gymnasium.spaces.Discrete)
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.config = config
        shape = (int(observation_space.n), int(action_space.n))
        self.q: NDArray[np.float64] = np.full(shape, config.initial_value, dtype=np.float64)  # [S, A]
        self.visits: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)  # [S, A]

    def make_source(self, env: Env, *, seed: int) -> TableSource | StepSource:
        """Compiled chunks where the environment exposes its transition table, single steps elsewhere."""
        if env.table() is not None:
            return TableSource(self, env, seed=seed)
        return StepSource(self, env, discount=self.config.discount, seed=seed)

    def exploration(self, env_steps: int) -> float:
        """Probability of a random action after so many environment steps: falls linearly, then stays."""
        config = self.config
        assert config.exploration_env_steps is not None
        return float(
            linear_exploration(
                env_steps, config.exploration_start, config.exploration_end, config.exploration_env_steps
            )
        )

    def act(self, observations: NDArray[np.int64], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Epsilon-greedy actions [N] int64 for observations [N], with one coin for each environment.

        explore: probability of a uniformly random action. Equal values are told apart at random, unless explore is 0:
        then the first is taken and the generator is left alone.
        """
        values = self.q[np.asarray(observations, dtype=np.int64)]  # [N, A]
        if explore <= 0.0:
            return values.argmax(axis=1)
        lanes, actions = values.shape
        coins = generator.random(lanes)
        random_actions = generator.integers(actions, size=lanes)
        is_best = values == values.max(axis=1, keepdims=True)
        greedy_actions = np.where(is_best, generator.random((lanes, actions)), -1.0).argmax(axis=1)
        return np.where(coins < explore, random_actions, greedy_actions)

    def inspect(self, observations: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """`q_values` [N, A] of observations [N], in discounted reward."""
        return {"q_values": self.q[np.asarray(observations, dtype=np.int64)].astype(np.float32)}

    def update(self, batch: TableChunk | Transitions) -> Outcome:
        """Plays and learns a chunk, writing back into it where the game stands; or learns from T transitions in order.

        Metrics, means over the T steps: `td_error` absolute temporal-difference error, `q_mean` value of the state
        and action before its update, both in discounted reward.
        """
        if isinstance(batch, TableChunk):
            error, value = self._play(batch)
        else:
            states, actions, next_states = (
                np.ascontiguousarray(array, dtype=np.int64)
                for array in (batch.observation, batch.action, batch.next_observation)
            )
            rewards, discounts = (np.ascontiguousarray(a, dtype=np.float64) for a in (batch.reward, batch.discount))
            error, value = _learn_transitions(
                self.q, self.visits, states, actions, rewards, next_states, discounts, self.config.step_size_exponent
            )
        return Outcome(metrics={"td_error": error, "q_mean": value}, per_sample={})

    def _play(self, chunk: TableChunk) -> tuple[float, float]:
        config, table = self.config, chunk.table
        assert table.next_state.shape[:2] == self.q.shape, f"table {table.next_state.shape} for q {self.q.shape}"
        scores = np.empty(len(chunk.uniforms), dtype=np.float64)
        lengths = np.empty(len(chunk.uniforms), dtype=np.int64)
        time_limit = -1 if table.time_limit is None else table.time_limit
        chunk.state, chunk.elapsed, chunk.score, games, error, value = _play_chunk(
            self.q, self.visits, table.next_state, table.probability, table.reward, table.terminated, table.initial,
            time_limit, chunk.uniforms, chunk.env_steps, chunk.state, chunk.elapsed, chunk.score, config.discount,
            config.step_size_exponent, config.exploration_start, config.exploration_end, config.exploration_env_steps,
            scores, lengths,
        )  # fmt: skip
        chunk.finished_scores, chunk.finished_lengths = scores[:games].copy(), lengths[:games].copy()
        return error, value

    def state_dict(self) -> dict[str, Any]:
        """`q` [S, A] float64 and `visits` [S, A] int64, copied."""
        return {"q": self.q.copy(), "visits": self.visits.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError where the table has another number of states or actions."""
        if tuple(state["q"].shape) != self.q.shape:
            raise CheckpointError(
                f"the checkpoint's table has {tuple(state['q'].shape)} states and actions, this environment "
                f"{self.q.shape}; resume with the environment and options of the run"
            )
        self.q[...] = np.asarray(state["q"])
        self.visits[...] = np.asarray(state["visits"])
