"""Watkins' Q(lambda): an error teaches not only the last action but those that led to it.

Paper: Watkins, "Learning from Delayed Rewards", PhD thesis, Cambridge 1989, chapter 12; Sutton and Barto,
"Reinforcement Learning: An Introduction", 1st edition 1998, section 7.6, figure 7.14 (2nd edition 2018, section
12.10). Replacing traces: Singh and Sutton, "Reinforcement Learning with Replacing Eligibility Traces", Machine
Learning 22, 1996.

    error = r + discount * max_b q(s', b) - q(s, a)
    e(s, a) <- 1,   then for all x, b:   q(x, b) <- q(x, b) + step_size(x, b) * error * e(x, b)
    e <- discount * lambda * e   while the next action is greedy, else e <- 0

What follows an exploratory action says nothing about the greedy policy: traces are cut there, and where a game ends. An
action that was drawn at random and is a best one nevertheless is greedy.

A trace that is k steps old is worth (discount * lambda)^k, so that the recent pairs in their order are all there is to
keep; each keeps the step size of its last visit. Traces below `trace_cutoff` are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.step_source import Transitions
from agents.table_source import TableChunk
from agents.tabular import (
    STATE,
    Game,
    Rules,
    TabularAgent,
    TabularConfig,
    advance,
    epsilon_greedy_action,
    exploration_at,
    step_divisor,
    take,
)
from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class QLambdaConfig(TabularConfig):
    """Hyperparameters of Watkins' Q(lambda). Defaults without another source are our own measurements."""

    trace_decay: float = 0.8
    """lambda: 0 is Q-learning, 1 learns from whole stretches of greedy play (ours; Watkins leaves it open)."""
    trace_cutoff: float = 1e-3
    """Eligibility below which a trace is dropped (ours: it would move a value by a thousandth of what it does
    first)."""

    def __post_init__(self) -> None:
        TabularConfig.__post_init__(self)
        if not 0.0 <= self.trace_decay <= 1.0:
            raise ConfigError(f"trace_decay must be at least 0 and at most 1, got {self.trace_decay}; try 0.8")
        if not 0.0 < self.trace_cutoff < 1.0:
            raise ConfigError(f"trace_cutoff must be above 0 and below 1, got {self.trace_cutoff}; try 0.001")
        if self.discount * self.trace_decay >= 1.0:
            raise ConfigError(
                f"trace_decay must be below 1 where discount is 1, or traces never fade, got {self.trace_decay}"
            )


def trace_length(config: QLambdaConfig) -> int:
    """Steps for which a trace is above its cutoff: the smallest k with (discount * lambda)^k below it, at least 1."""
    decay = config.discount * config.trace_decay
    return 1 if decay <= config.trace_cutoff else math.ceil(math.log(config.trace_cutoff) / math.log(decay))


class Traces(NamedTuple):
    """The last L pairs of N environments, in rings; the newest is at index held - 1, modulo L."""

    pair: NDArray[np.int64]
    """[N, L] state * A + action."""
    step_size: NDArray[np.float64]
    """[N, L] of the pair's last visit; 0 where the pair was visited again later."""
    held: NDArray[np.int64]
    """[N] pairs since the traces were last cut."""
    decay: float
    """discount * lambda."""


@njit(cache=True)
def q_lambda_step(q, visits, traces, lane, state, action, reward, discount, next_state, step_size) -> float:
    """One update of q [S, A], visits [S, A] and a lane's traces in place; returns the error before it.

    discount is 0 where the game terminated. Cuts the traces first where the action is not a best one of its state; the
    caller cuts them where the game ended (traces.held[lane] = 0). Sutton and Barto 1998, figure 7.14.
    """
    length = traces.pair.shape[1]
    pairs, step_sizes = traces.pair[lane], traces.step_size[lane]
    target = reward
    if discount != 0.0:
        target += discount * q[next_state].max()
    error = target - q[state, action]
    count = traces.held[lane] if q[state, action] == q[state].max() else 0
    newest = state * q.shape[1] + action
    for age in range(min(count, length)):  # replacing: an older trace of the same pair counts no more
        if pairs[(count - 1 - age) % length] == newest:
            step_sizes[(count - 1 - age) % length] = 0.0
    visits[state, action] += 1
    pairs[count % length] = newest
    step_sizes[count % length] = 1.0 / step_divisor(visits[state, action], step_size)
    count += 1
    eligibility = error
    for age in range(min(count, length)):
        at = (count - 1 - age) % length
        q[pairs[at] // q.shape[1], pairs[at] % q.shape[1]] += step_sizes[at] * eligibility
        eligibility *= traces.decay
    traces.held[lane] = count
    return error


@njit(cache=True)
def play_chunk(q, visits, traces, game, rules, uniforms, env_steps, discount, step_size, schedule):
    """Plays and learns one epsilon-greedy step for each row of uniforms [T, 4]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(uniforms)):
        state = game.place[STATE]
        epsilon = exploration_at(env_steps + step, schedule)
        action = epsilon_greedy_action(q[state], epsilon, uniforms[step, 0], uniforms[step, 1])
        next_state, reward, terminated = take(rules, state, action, uniforms[step, 2])
        value += q[state, action]
        following = 0.0 if terminated else discount
        error = q_lambda_step(q, visits, traces, 0, state, action, reward, following, next_state, step_size)
        absolute_error += abs(error)
        if advance(game, rules, next_state, reward, terminated, uniforms[step, 3]):
            traces.held[0] = 0
    return absolute_error / len(uniforms), value / len(uniforms)


@njit(cache=True)
def learn_transitions(q, visits, traces, lanes, states, actions, rewards, next_states, discounts, ended, step_size):
    """Learns from T transitions in their order; all arrays [T]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(states)):
        state, action = states[step], actions[step]
        value += q[state, action]
        error = q_lambda_step(
            q, visits, traces, lanes[step], state, action, rewards[step], discounts[step], next_states[step], step_size
        )
        absolute_error += abs(error)
        if ended[step]:
            traces.held[lanes[step]] = 0
    return absolute_error / len(states), value / len(states)


class QLambda(TabularAgent):
    """Agent and learner. q [S, A] float64, visits [S, A] int64 and the traces are the whole of what it knows."""

    Config = QLambdaConfig
    name = "q-lambda"

    def __init__(self, config: QLambdaConfig, *spaces: Any, seed: int, device: Any = "cpu", precision: str = "fp32"):
        """As TabularAgent."""
        super().__init__(config, *spaces, seed=seed, device=device, precision=precision)
        self.traces = self._empty_traces(1)

    def _empty_traces(self, lanes: int) -> Traces:
        shape = (lanes, trace_length(self.config))
        decay = float(self.config.discount * self.config.trace_decay)
        return Traces(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(lanes, np.int64), decay)

    def _play(self, game: Game, rules: Rules, chunk: TableChunk) -> tuple[float, float]:
        return play_chunk(
            self.table, self.visits, self.traces, game, rules, chunk.uniforms, chunk.env_steps, self.config.discount,
            self.step_size, self.schedule,
        )  # fmt: skip

    def _learn(self, transitions: Transitions) -> tuple[float, float]:
        batch = transitions
        assert batch.lane is not None and batch.ended is not None, (
            "Q(lambda) must know which transitions belong together"
        )
        lanes = int(batch.lane.max()) + 1
        if lanes > len(self.traces.held):
            wider = self._empty_traces(lanes)
            for ours, theirs in zip(wider[:3], self.traces[:3], strict=True):
                ours[: len(theirs)] = theirs
            self.traces = wider
        if batch.restarted:
            self.traces.held[:] = 0
        return learn_transitions(
            self.table, self.visits, self.traces, batch.lane, batch.observation, batch.action, batch.reward,
            batch.next_observation, batch.discount, batch.ended, self.step_size,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The table, its visits, and the traces of the games in progress."""
        traces = {name: getattr(self.traces, name).copy() for name in ("pair", "step_size", "held")}
        return {**super().state_dict(), "traces": traces}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        saved = {name: np.array(value) for name, value in state["traces"].items()}
        self.traces = Traces(saved["pair"], saved["step_size"], saved["held"], self.traces.decay)
