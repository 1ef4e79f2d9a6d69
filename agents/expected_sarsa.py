"""Expected Sarsa: the mean over the actions that might come next, instead of the one that does.

Paper: Van Seijen, Van Hasselt, Whiteson and Wiering, "A Theoretical and Empirical Analysis of Expected Sarsa", ADPRL
2009, equation 5 and algorithm 1; Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018,
section 6.6, equation 6.9.

    q(s, a) <- q(s, a) + step_size * (r + discount * sum_b pi(b | s') q(s', b) - q(s, a))

pi is the epsilon-greedy policy that it follows, so that the sum is (1 - epsilon) * max + epsilon * mean. The mean takes
away the noise of the next action; nothing else distinguishes it from Sarsa, and like Sarsa it becomes optimal where
exploration falls to zero but never stops (GLIE), as the harmonic schedule here does. With epsilon 0 it is Q-learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class ExpectedSarsaConfig(TabularConfig):
    """Hyperparameters of expected Sarsa. Defaults without another source are our own measurements."""

    exploration_start: float = 0.005
    """Probability of a uniformly random action at the first environment step. Small from the start: what is learned
    while exploring much has to be unlearned, and it is `initial_value` that makes everything be tried (ours; along a
    cliff it must be below 0.007 before the shortest path pays)."""
    exploration_end: float = 0.0005
    """Probability of a uniformly random action after `exploration_env_steps` (ours)."""
    exploration_shape: Literal["linear", "harmonic"] = "harmonic"
    """`harmonic`: start / (1 + c * steps), which never stops falling towards zero while its sum grows without end, as
    convergence to the optimum needs (Singh et al. 2000, appendix B, with a state's own visits in place of steps).
    `linear`: a straight line, then constant."""
    initial_value: float = 1.0
    """Value of every state and action before it is first visited, in discounted reward. As high as games can be worth,
    or higher, so that what was not tried looks best (Sutton and Barto 2018, section 2.6; most games here pay at most
    1)."""
    initial_visits: int = 10
    """Visits that every state and action is credited with before the first: how firmly `initial_value` is believed,
    since step sizes start at 1 / (1 + initial_visits)^step_size_exponent (ours: one unlucky first try proves
    nothing)."""


@njit(cache=True)
def expected_sarsa_step(q, visits, state, action, reward, discount, next_state, epsilon, step_size) -> float:
    """One update of q [S, A] and visits [S, A] in place; returns the temporal-difference error before it.

    discount is 0 where the game terminated; epsilon: probability of a uniformly random action. Van Seijen et al. 2009,
    equation 5; Sutton and Barto 2018, equation 6.9.
    """
    target = reward
    if discount != 0.0:
        following = q[next_state]
        target += discount * ((1.0 - epsilon) * following.max() + epsilon * following.sum() / len(following))
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
        error = expected_sarsa_step(q, visits, state, action, reward, following, next_state, epsilon, step_size)
        absolute_error += abs(error)
        advance(game, rules, next_state, reward, terminated, uniforms[step, 3])
    return absolute_error / len(uniforms), value / len(uniforms)


@njit(cache=True)
def learn_transitions(q, visits, states, actions, rewards, next_states, discounts, epsilon, step_size):
    """Learns from T transitions in their order; all arrays [T]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(states)):
        state, action = states[step], actions[step]
        value += q[state, action]
        error = expected_sarsa_step(
            q, visits, state, action, rewards[step], discounts[step], next_states[step], epsilon, step_size
        )
        absolute_error += abs(error)
    return absolute_error / len(states), value / len(states)


class ExpectedSarsa(TabularAgent):
    """Agent and learner. q [S, A] float64 and visits [S, A] int64 are the whole of what it knows."""

    Config = ExpectedSarsaConfig
    name = "expected-sarsa"
    exploration_fraction = 1.0

    def _play(self, game: Game, rules: Rules, chunk: TableChunk) -> tuple[float, float]:
        return play_chunk(
            self.table, self.visits, game, rules, chunk.uniforms, chunk.env_steps, self.config.discount,
            self.step_size, self.schedule,
        )  # fmt: skip

    def _learn(self, transitions: Transitions) -> tuple[float, float]:
        batch = transitions
        return learn_transitions(
            self.table, self.visits, batch.observation, batch.action, batch.reward, batch.next_observation,
            batch.discount, batch.explore, self.step_size,
        )  # fmt: skip
