"""Tabular Q-learning.

Paper: Watkins and Dayan, "Q-learning", Machine Learning 8, 1992 (equation 1 and the convergence theorem); Sutton and
Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section 6.5, equation 6.8.

    q(s, a) <- q(s, a) + step_size * (r + discount * max_b q(s', b) - q(s, a)),   step_size = 1 / visits(s, a)^exponent

The max is left out where the game terminated. A time limit is no property of the state that it cuts off: the max stays.
It learns about the greedy policy whatever it does itself, so that exploration need not end.
"""

from __future__ import annotations

from dataclasses import dataclass

from numba import njit

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


@dataclass(frozen=True, kw_only=True)
class QLearningConfig(TabularConfig):
    """Hyperparameters of tabular Q-learning. Defaults without another source are our own measurements."""


@njit(cache=True)
def q_learning_step(q, visits, state, action, reward, discount, next_state, step_size) -> float:
    """One update of q [S, A] and visits [S, A] in place; returns the temporal-difference error before it.

    discount is 0 where the game terminated. Watkins and Dayan 1992, equation 1; Sutton and Barto 2018, equation 6.8;
    polynomial step size of Even-Dar and Mansour 2003.
    """
    target = reward
    if discount != 0.0:
        target += discount * q[next_state].max()
    error = target - q[state, action]
    visits[state, action] += 1
    q[state, action] += error / step_divisor(visits[state, action], step_size)
    return error


@njit(cache=True)
def play_chunk(q, visits, game, rules, uniforms, env_steps, discount, step_size, schedule):
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
        error = q_learning_step(q, visits, state, action, reward, following, next_state, step_size)
        absolute_error += abs(error)
        advance(game, rules, next_state, reward, terminated, uniforms[step, 3])
    return absolute_error / len(uniforms), value / len(uniforms)


@njit(cache=True)
def learn_transitions(q, visits, states, actions, rewards, next_states, discounts, step_size):
    """Learns from T transitions in their order; all arrays [T]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(states)):
        state, action = states[step], actions[step]
        value += q[state, action]
        error = q_learning_step(
            q, visits, state, action, rewards[step], discounts[step], next_states[step], step_size
        )  # fmt: skip
        absolute_error += abs(error)
    return absolute_error / len(states), value / len(states)


class QLearning(TabularAgent):
    """Agent and learner. q [S, A] float64 and visits [S, A] int64 are the whole of what it knows."""

    Config = QLearningConfig
    name = "q-learning"

    def _play(self, game: Game, rules: Rules, chunk: TableChunk) -> tuple[float, float]:
        return play_chunk(
            self.table, self.visits, game, rules, chunk.uniforms, chunk.env_steps, self.config.discount,
            self.step_size, self.schedule,
        )  # fmt: skip

    def _learn(self, transitions: Transitions) -> tuple[float, float]:
        batch = transitions
        return learn_transitions(
            self.table, self.visits, batch.observation, batch.action, batch.reward, batch.next_observation,
            batch.discount, self.step_size,
        )  # fmt: skip
