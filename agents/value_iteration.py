"""Dynamic programming on a known transition table: the exact answers that tabular learners are checked against.

Value iteration: Bellman 1957; Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section
4.4, equation 4.10. Stopping rule: Puterman, "Markov Decision Processes", 1994, section 6.3. Policy evaluation as a
linear system: Sutton and Barto, equation 4.4.

What a table's end means here, as everywhere in this repository: a terminated outcome contributes its reward and no
bootstrap; the time limit is a truncation, which says nothing of the state it cuts off, so that the values are those of
the game without a limit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from aprendiz.errors import ConfigError, EnvError

if TYPE_CHECKING:
    from envs.core import TransitionTable


def _check_discount(discount: float) -> None:
    if not 0.0 <= discount < 1.0:
        raise ConfigError(f"discount must be at least 0 and below 1, got {discount}; try 0.99")


def action_values(table: TransitionTable, values: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """One Bellman backup: q[s, a] = sum_k p_k (r_k + discount * (1 - terminated_k) * values[next_k]).

    values: [S] float64. Returns [S, A] float64. Sutton and Barto 2018, equation 4.6.
    """
    bootstrap = np.where(table.terminated, 0.0, values[table.next_state])  # [S, A, K]
    return (table.probability * (table.reward + discount * bootstrap)).sum(axis=2)


def greedy_policy(q: NDArray[np.float64]) -> NDArray[np.int64]:
    """The action of highest value in every state, the first of equals. q: [S, A]. Returns [S] int64."""
    return q.argmax(axis=1)


def value_iteration(
    table: TransitionTable, discount: float, tolerance: float = 1e-8
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Optimal values of a known game: v <- max_a q(v) until no value is further than `tolerance` from the optimum.

    The sweep is a contraction by `discount`, so values that moved by at most d in the last sweep are within
    d * discount / (1 - discount) of the optimum (Puterman 1994, section 6.3), wherever they came from; a tolerance
    finer than float64 resolves stops where rounding does. Once in 1,000 sweeps the values become those of the present
    greedy policy, solved exactly, as in policy iteration (section 6.4): near a discount of 1 sweeps alone take
    millions.

    Returns values [S] and q [S, A], both float64, in units of discounted reward. Raises ConfigError for a discount
    outside [0, 1) or a tolerance that is not positive, and EnvError where values grow without bound.
    """
    _check_discount(discount)
    if not tolerance > 0.0:
        raise ConfigError(f"tolerance must be above 0, got {tolerance}; try 1e-8")
    values = np.zeros(table.next_state.shape[0], dtype=np.float64)
    sweep = 0
    while True:
        sweep += 1
        if sweep % 1_000 == 0:
            values = policy_value(table, greedy_policy(action_values(table, values, discount)), discount)
        q = action_values(table, values, discount)  # [S, A]
        improved = q.max(axis=1)  # [S]
        change = float(np.abs(improved - values).max())
        if not math.isfinite(change):
            raise EnvError("the values of the transition table grow without bound, or are no numbers")
        values = improved
        resolution = 8 * np.finfo(np.float64).eps * float(np.abs(values).max())
        if change * discount <= max(tolerance * (1.0 - discount), resolution):
            return values, q


def policy_value(table: TransitionTable, policy: NDArray[np.int64], discount: float) -> NDArray[np.float64]:
    """Values of a deterministic policy, exactly: solves v = r_policy + discount * P_policy v.

    policy: [S] action taken in each state; for the policy of a learner, `greedy_policy(q)`. Returns [S] float64. The
    system is sparse, and has one solution for every policy, also for one that never ends the game. Raises ConfigError
    for a discount outside [0, 1), or a policy that is not one action a state. Sutton and Barto 2018, equation 4.4.
    """
    _check_discount(discount)
    states, actions, outcomes = table.next_state.shape
    policy = np.asarray(policy)
    if policy.shape != (states,) or not np.issubdtype(policy.dtype, np.integer):
        raise ConfigError(
            f"policy must be one action for each of {states} states, got {policy.dtype} of shape {policy.shape}; "
            "use greedy_policy(q) for the policy of action values"
        )
    if policy.min() < 0 or policy.max() >= actions:
        raise ConfigError(f"policy must choose actions 0 to {actions - 1}, got {policy.min()} to {policy.max()}")
    rows = np.arange(states)
    probability = table.probability[rows, policy]  # [S, K]
    expected_reward = (probability * table.reward[rows, policy]).sum(axis=1)  # [S]
    continues = np.where(table.terminated[rows, policy], 0.0, probability)  # [S, K]
    transitions = sparse.csc_array(
        (continues.ravel(), (np.repeat(rows, outcomes), table.next_state[rows, policy].ravel())), shape=(states, states)
    )
    system = sparse.eye_array(states, format="csc") - discount * transitions
    return np.atleast_1d(linalg.spsolve(sparse.csc_array(system), expected_reward))


def policy_evaluation(
    table: TransitionTable, policy: NDArray[np.float64], discount: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of any policy, exactly: solves v = r_policy + discount * P_policy v, as `policy_value`.

    policy: [S, A] probabilities of the actions in each state. Returns values [S] and q [S, A], float64. Raises
    ConfigError for a discount outside [0, 1), or rows that are no distributions. Sutton and Barto 2018, equation 4.4.
    """
    _check_discount(discount)
    states, actions, _ = table.next_state.shape
    policy = np.asarray(policy, dtype=np.float64)
    if policy.shape != (states, actions) or (policy < 0.0).any() or not np.allclose(policy.sum(axis=1), 1.0):
        raise ConfigError(
            f"policy must be a distribution over {actions} actions for each of {states} states, got {policy.shape}"
        )
    expected_reward = (policy * (table.probability * table.reward).sum(axis=2)).sum(axis=1)  # [S]
    continues = policy[:, :, None] * np.where(table.terminated, 0.0, table.probability)  # [S, A, K]
    rows = np.broadcast_to(np.arange(states)[:, None, None], continues.shape)
    shape = (states, states)
    transitions = sparse.csc_array((continues.ravel(), (rows.ravel(), table.next_state.ravel())), shape=shape)
    system = sparse.eye_array(states, format="csc") - discount * transitions
    values = np.atleast_1d(linalg.spsolve(sparse.csc_array(system), expected_reward))
    return values, action_values(table, values, discount)


def start_value(table: TransitionTable, values: NDArray[np.float64]) -> float:
    """Expected value of a new game: the values [S] averaged over the table's start distribution."""
    return float(table.initial @ values)
