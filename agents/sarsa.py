"""Sarsa: learning the value of what is really done, exploration included.

Paper: Rummery and Niranjan, "On-line Q-learning using connectionist systems", Cambridge report CUED/F-INFENG/TR 166,
1994 (there "modified connectionist Q-learning"); Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd
edition 2018, section 6.4, equation 6.7 and the box there. Convergence: Singh, Jaakkola, Littman and Szepesvari,
"Convergence Results for Single-Step On-Policy Reinforcement-Learning Algorithms", Machine Learning 38, 2000, theorem 1.

    q(s, a) <- q(s, a) + step_size * (r + discount * q(s', a') - q(s, a)),   step_size = 1 / visits(s, a)^exponent

a' is the action that will be taken in s', chosen before the update. Where a time limit cuts the game off it is the one
that would have been taken; where the game terminated nothing follows.

With exploration that stays, the values are those of a policy that stumbles: next to a cliff it learns to keep away
from the edge. It becomes optimal where exploration falls to zero but never stops ("greedy in the limit with infinite
exploration", GLIE), as the harmonic schedule here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numba import njit

from agents.step_source import Transitions
from agents.table_source import TableChunk
from agents.tabular import (
    ACTION,
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
class SarsaConfig(TabularConfig):
    """Hyperparameters of Sarsa. Defaults without another source are our own measurements."""

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
def sarsa_step(q, visits, state, action, reward, discount, next_state, next_action, step_size) -> float:
    """One update of q [S, A] and visits [S, A] in place; returns the temporal-difference error before it.

    discount is 0 where the game terminated: next_action counts for nothing then. Sutton and Barto 2018, equation 6.7.
    """
    target = reward
    if discount != 0.0:
        target += discount * q[next_state, next_action]
    error = target - q[state, action]
    visits[state, action] += 1
    q[state, action] += error / step_divisor(visits[state, action], step_size)
    return error


@njit(cache=True)
def play_chunk(q, visits, game, rules, uniforms, env_steps, discount, step_size, schedule):
    """Plays and learns one step for each row of uniforms [T, 6]; the last two choose the first action of a game."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(uniforms)):
        epsilon = exploration_at(env_steps + step, schedule)
        state, action = game.place[STATE], game.place[ACTION]
        if action < 0:
            action = epsilon_greedy_action(q[state], epsilon, uniforms[step, 4], uniforms[step, 5])
        next_state, reward, terminated = take(rules, state, action, uniforms[step, 2])
        next_action = epsilon_greedy_action(q[next_state], epsilon, uniforms[step, 0], uniforms[step, 1])
        value += q[state, action]
        following = 0.0 if terminated else discount
        error = sarsa_step(q, visits, state, action, reward, following, next_state, next_action, step_size)
        absolute_error += abs(error)
        ended = advance(game, rules, next_state, reward, terminated, uniforms[step, 3])
        game.place[ACTION] = -1 if ended else next_action
    return absolute_error / len(uniforms), value / len(uniforms)


@njit(cache=True)
def learn_transitions(q, visits, states, actions, rewards, next_states, next_actions, discounts, step_size):
    """Learns from T transitions in their order; all arrays [T]."""
    absolute_error = 0.0
    value = 0.0
    for step in range(len(states)):
        state, action = states[step], actions[step]
        value += q[state, action]
        error = sarsa_step(
            q, visits, state, action, rewards[step], discounts[step], next_states[step], next_actions[step], step_size
        )
        absolute_error += abs(error)
    return absolute_error / len(states), value / len(states)


class Sarsa(TabularAgent):
    """Agent and learner. q [S, A] float64 and visits [S, A] int64 are the whole of what it knows."""

    Config = SarsaConfig
    name = "sarsa"
    exploration_fraction = 1.0
    on_policy = True
    extra_uniforms = 2

    def _play(self, game: Game, rules: Rules, chunk: TableChunk) -> tuple[float, float]:
        return play_chunk(
            self.table, self.visits, game, rules, chunk.uniforms, chunk.env_steps, self.config.discount,
            self.step_size, self.schedule,
        )  # fmt: skip

    def _learn(self, transitions: Transitions) -> tuple[float, float]:
        batch = transitions
        assert batch.next_action is not None, "Sarsa learns from transitions that know the next action"
        return learn_transitions(
            self.table, self.visits, batch.observation, batch.action, batch.reward, batch.next_observation,
            batch.next_action, batch.discount, self.step_size,
        )  # fmt: skip
