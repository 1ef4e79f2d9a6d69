"""What the tabular agents share: configuration, acting, saving, and the compiled pieces that their chunks are built of.

Each algorithm's own file has its update rule and its loop over a chunk, which reads like the box in Sutton and Barto,
"Reinforcement Learning: An Introduction", 2nd edition 2018, because choosing an action, asking the transition table
what happens, and keeping the book of finished games are functions here. Everything compiled draws no random numbers of
its own: they come in as columns of uniform numbers, a row a step.

Step sizes decay with the visits of each state and action, as Even-Dar and Mansour, "Learning Rates for Q-learning",
JMLR 5, 2003, analyse: with a constant one the table keeps jittering around the answer in a stochastic game.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import gymnasium
import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.core import Agent
from agents.step_source import StepSource, Transitions
from agents.table_source import LARGEST_CHUNK, TableChunk, TableSource
from aprendiz.config import check_schedule, check_unchanged
from aprendiz.errors import CheckpointError, ConfigError
from aprendiz.loop import Outcome

if TYPE_CHECKING:
    from envs.core import Env, EnvSpec


SHAPES = ("linear", "harmonic")
"""Of exploration over environment steps."""


@dataclass(frozen=True, kw_only=True)
class TabularConfig:
    """Hyperparameters that all tabular agents have. Defaults without another source are our own measurements."""

    discount: float = 0.99
    """Discount of the next state's value, per environment step (ours: usual for games of some 100 steps)."""
    step_size: float | None = None
    """Constant step size; None: 1 / visits(s, a)^step_size_exponent, which converges also where chance plays along."""
    step_size_exponent: float = 0.65
    """Step size = 1 / visits(s, a)^exponent, above 0.5 and at most 1 (Even-Dar and Mansour 2003; our sweep); of no
    effect with a constant `step_size`."""
    initial_visits: int = 0
    """Visits that every state and action is credited with before the first: how firmly `initial_value` is believed,
    since step sizes start at 1 / (1 + initial_visits)^step_size_exponent (ours); of no effect with a constant
    `step_size`."""
    exploration_start: float = 1.0
    """Probability of a uniformly random action at the first environment step (ours)."""
    exploration_end: float = 0.1
    """Probability of a uniformly random action after `exploration_env_steps` (Sutton and Barto 2018, example 6.6)."""
    exploration_env_steps: int | None = None
    """Environment steps after which it has come down to its end; None: a part of the budget, fixed when the run
    starts."""
    exploration_shape: Literal["linear", "harmonic"] = "linear"
    """`linear`: a straight line, then constant. `harmonic`: start / (1 + c * steps), which never stops falling towards
    zero while its sum has no bound (Singh et al. 2000, appendix B, with a state's own visits in place of steps)."""
    initial_value: float = 0.0
    """Value of every state and action before it is first visited, in discounted reward (ours)."""
    chunk_env_steps: int | None = None
    """Environment steps of one compiled update; changes how often a run reports, never what it learns. None: a 200th
    of the budget, at most 10,000."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise ConfigError(f"discount must be at least 0 and at most 1, got {self.discount}; try 0.99")
        if self.step_size is not None and not 0.0 < self.step_size <= 1.0:
            raise ConfigError(f"step_size must be above 0 and at most 1, or None, got {self.step_size}")
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
        if self.exploration_shape not in SHAPES:
            raise ConfigError(f"exploration_shape must be {' or '.join(SHAPES)}, got {self.exploration_shape!r}")
        if self.exploration_shape != "linear" and not 0.0 < self.exploration_end <= self.exploration_start:
            raise ConfigError(
                f"exploration_end must be above 0 and at most exploration_start, {self.exploration_start}, where the "
                f"shape is {self.exploration_shape}, got {self.exploration_end}; try 0.001, or a linear shape"
            )
        if not np.isfinite(self.initial_value):
            raise ConfigError(f"initial_value must be a finite number, got {self.initial_value}")
        if self.initial_visits < 0:
            raise ConfigError(f"initial_visits must be 0 or more, got {self.initial_visits}")
        if self.chunk_env_steps is not None and self.chunk_env_steps < 1:
            raise ConfigError(f"chunk_env_steps must be at least 1, got {self.chunk_env_steps}; try 10000")

    def check_new(self, preset: Any = None) -> None:
        """Raises ConfigError where something that was asked for, beyond the preset, does nothing. Of new runs only."""
        if self.step_size is not None:
            check_unchanged(self, preset, "with a constant step_size", "step_size_exponent", "initial_visits")
        check_schedule(self, preset, "exploration")


# The compiled pieces


class Rules(NamedTuple):
    """A `TransitionTable` as compiled code takes it: the same arrays [S, A, K] and [S]."""

    next_state: NDArray[np.int64]
    probability: NDArray[np.float64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    initial: NDArray[np.float64]
    time_limit: int
    """-1 for none."""


class Game(NamedTuple):
    """The game in progress and the book of those that ended, written to by `advance`."""

    place: NDArray[np.int64]
    """[4]: state, steps so far, action already chosen in the state (-1: none), number of games that ended."""
    score: NDArray[np.float64]
    """[1]: undiscounted reward so far."""
    finished_scores: NDArray[np.float64]
    finished_lengths: NDArray[np.int64]


STATE, ELAPSED, ACTION, GAMES = range(4)
"""Entries of `Game.place`."""


class Schedule(NamedTuple):
    """Exploration over environment steps."""

    start: float
    end: float
    env_steps: int
    shape: int
    """Index in SHAPES."""


class StepSize(NamedTuple):
    """How much of an error is learned."""

    constant: float
    """0 for none: then by visits."""
    exponent: float


@njit(cache=True)
def exploration_at(env_steps: int, schedule: Schedule) -> float:
    """Probability of a random action, in absolute environment steps: `start` at 0 and `end` at schedule.env_steps.

    Linear, then constant; or harmonic, start / (1 + c * env_steps), which goes on falling.
    """
    start, end = schedule.start, schedule.end
    if schedule.env_steps == 0:
        return end
    share = env_steps / schedule.env_steps
    if schedule.shape == 0:
        return end if share >= 1.0 else start + (end - start) * share
    return start / (1.0 + (start / end - 1.0) * share)


@njit(cache=True)
def step_divisor(visits: int, step_size: StepSize) -> float:
    """One over the step size at so many visits, this one included: visits^exponent (Even-Dar and Mansour 2003)."""
    if step_size.constant > 0.0:
        return 1.0 / step_size.constant
    return visits**step_size.exponent


@njit(cache=True)
def greedy_action(values, uniform) -> int:
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
def epsilon_greedy_action(values, epsilon, coin, choice) -> int:
    """A uniformly random action where coin < epsilon, else a greedy one of values [A]; coin, choice in [0, 1)."""
    if coin < epsilon:
        return int(choice * len(values))
    return greedy_action(values, choice)


@njit(cache=True)
def draw(probability, uniform) -> int:
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
def take(rules: Rules, state: int, action: int, uniform: float):
    """Next state, reward and whether the game terminated, drawn by a uniform number in [0, 1)."""
    outcome = draw(rules.probability[state, action], uniform)
    at = (state, action, outcome)
    return rules.next_state[at], rules.reward[at], rules.terminated[at]


@njit(cache=True)
def advance(game: Game, rules: Rules, next_state, reward, terminated, uniform) -> bool:
    """The game moves on to next_state, or where it ended to a new game's first state; returns whether it ended."""
    game.place[ELAPSED] += 1
    game.score[0] += reward
    ended = terminated or game.place[ELAPSED] == rules.time_limit
    if ended:
        games = game.place[GAMES]
        game.finished_scores[games] = game.score[0]
        game.finished_lengths[games] = game.place[ELAPSED]
        game.place[GAMES] += 1
        game.place[STATE] = draw(rules.initial, uniform)
        game.place[ELAPSED] = 0
        game.score[0] = 0.0
    else:
        game.place[STATE] = next_state
    return ended


class TabularAgent(Agent):
    """A learner of action values in a table. Subclasses have a `Config`, `name`, and the two kinds of learning."""

    Config: ClassVar[type] = TabularConfig
    devices = ("cpu",)
    name: ClassVar[str]
    """As it is registered."""
    exploration_fraction: ClassVar[float] = 0.5
    """Part of the budget over which exploration falls, where `exploration_env_steps` is not given."""
    tables: ClassVar[int] = 1
    """Number of tables of values."""
    on_policy: ClassVar[bool] = False
    """Whether an update needs the next action, chosen before it."""
    extra_uniforms: ClassVar[int] = 0
    """Uniform numbers a step beside those that play the game."""

    def _play(self, game: Game, rules: Rules, chunk: TableChunk) -> tuple[float, float]:
        """Plays and learns one step for each row of chunk.uniforms; mean absolute error and mean value before."""
        raise NotImplementedError

    def _learn(self, transitions: Transitions) -> tuple[float, float]:
        """Learns from transitions in their order (contiguous int64 and float64 arrays); the same two means."""
        raise NotImplementedError

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        """Configurations for an environment; the same for all. Raises ConfigError where a table does not fit."""
        for kind, space in (("observations", spec.observation_space), ("actions", spec.action_space)):
            if not isinstance(space, gymnasium.spaces.Discrete):
                found = {"image": "images", "vector": "vectors"}.get(spec.observation_kind, "others")
                has = found if kind == "observations" else f"{type(space).__name__} actions"
                hint = "use --agent dqn" if kind == "observations" else "choose an environment with numbered actions"
                raise ConfigError(f"{cls.name} needs discrete {kind}; {spec.name} has {has}; {hint}")
        return {"default": cls.Config()}

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        """The config with what depends on the budget made absolute: the steps over which exploration falls, and those
        of an update."""
        falls, chunk = config.exploration_env_steps, config.chunk_env_steps
        falls = int(cls.exploration_fraction * budget_env_steps) if falls is None else falls
        chunk = min(LARGEST_CHUNK, max(budget_env_steps // 200, 1)) if chunk is None else chunk
        return dataclasses.replace(config, exploration_env_steps=falls, chunk_env_steps=chunk)

    def __init__(
        self,
        config: Any,
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
        for kind, space in (("observations", observation_space), ("actions", action_space)):
            if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
                raise ConfigError(f"{self.name} needs discrete {kind} counted from 0, got {space}; use --agent dqn")
        if config.exploration_env_steps is None:
            raise ConfigError(
                f"exploration_env_steps is not set; give it, or call {type(self).__name__}.resolve(config, "
                "budget_env_steps) first"
            )
        assert isinstance(observation_space, gymnasium.spaces.Discrete)
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.config = config
        shape = (int(observation_space.n), int(action_space.n))
        if self.tables > 1:
            shape = (self.tables, *shape)  # type: ignore[assignment]
        self.table: NDArray[np.float64] = np.full(shape, config.initial_value, dtype=np.float64)  # [(2,) S, A]
        self.visits: NDArray[np.int64] = np.full(shape, config.initial_visits, dtype=np.int64)  # [(2,) S, A]
        self.schedule = Schedule(
            float(config.exploration_start),
            float(config.exploration_end),
            int(config.exploration_env_steps),
            SHAPES.index(config.exploration_shape),
        )
        self.step_size = StepSize(float(config.step_size or 0.0), float(config.step_size_exponent))

    @property
    def q(self) -> NDArray[np.float64]:
        """Values [S, A] that it acts on; of several tables the mean, a copy."""
        return self.table if self.tables == 1 else self.table.mean(axis=0)

    def make_source(self, env: Env, *, seed: int) -> TableSource | StepSource:
        """Compiled chunks where the environment exposes its transition table, single steps elsewhere."""
        if env.table() is not None:
            return TableSource(self, env, seed=seed, extra_uniforms=self.extra_uniforms)
        return StepSource(
            self,
            env,
            discount=self.config.discount,
            seed=seed,
            on_policy=self.on_policy,
            extra_uniforms=self.extra_uniforms,
        )

    def exploration(self, env_steps: int) -> float:
        """Probability of a random action after so many environment steps, by the config's schedule."""
        return float(exploration_at(env_steps, self.schedule))

    def act(self, observations: NDArray[np.int64], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Epsilon-greedy actions [N] int64 for observations [N], with one coin for each environment.

        explore: probability of a uniformly random action. Equal values are told apart at random, unless explore is 0:
        then the first is taken and the generator is left alone.
        """
        values = self._values(observations)  # [N, A]
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
        return {"q_values": self._values(observations).astype(np.float32)}

    def _values(self, observations: NDArray[np.int64]) -> NDArray[np.float64]:
        states = np.asarray(observations, dtype=np.int64)
        return self.table[states] if self.tables == 1 else self.table[:, states].mean(axis=0)

    def update(self, batch: TableChunk | Transitions) -> Outcome:
        """Plays and learns a chunk, writing back into it where the game stands; or learns from T transitions in order.

        Metrics, means over the T steps: `td_error` absolute temporal-difference error, `q_mean` value of the state
        and action before its update, both in discounted reward.
        """
        error, value = self._play_chunk(batch) if isinstance(batch, TableChunk) else self._learn(batch.contiguous())
        return Outcome(metrics={"td_error": error, "q_mean": value}, per_sample={})

    def _play_chunk(self, chunk: TableChunk) -> tuple[float, float]:
        table, steps = chunk.table, len(chunk.uniforms)
        assert table.next_state.shape[:2] == self.table.shape[-2:], f"{table.next_state.shape} for {self.table.shape}"
        time_limit = -1 if table.time_limit is None else int(table.time_limit)
        rules = Rules(table.next_state, table.probability, table.reward, table.terminated, table.initial, time_limit)
        place = np.array([chunk.state, chunk.elapsed, chunk.action, 0], dtype=np.int64)
        game = Game(place, np.array([chunk.score]), np.empty(steps, np.float64), np.empty(steps, np.int64))
        error, value = self._play(game, rules, chunk)
        chunk.state, chunk.elapsed, chunk.action, games = place.tolist()
        chunk.score = float(game.score[0])
        chunk.finished_scores, chunk.finished_lengths = game.finished_scores[:games], game.finished_lengths[:games]
        return error, value

    def state_dict(self) -> dict[str, Any]:
        """`q` and `visits`, [S, A] or, of two tables, [2, S, A]; float64 and int64, copied."""
        return {"q": self.table.copy(), "visits": self.visits.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError where the table has another number of states or actions."""
        if tuple(state["q"].shape) != self.table.shape:
            raise CheckpointError(
                f"the checkpoint's table has {tuple(state['q'].shape)} states and actions, this environment "
                f"{self.table.shape}; resume with the environment and options of the run"
            )
        self.table[...] = np.asarray(state["q"])
        self.visits[...] = np.asarray(state["visits"])
