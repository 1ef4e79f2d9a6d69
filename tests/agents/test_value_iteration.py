"""Dynamic programming against games small enough for pencil and paper."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
from aprendiz.errors import ConfigError, EnvError
from envs.core import TransitionTable

STAY, GO = 0, 1


def two_rooms(time_limit: int | None = None) -> TransitionTable:
    """Room 0: stay (reward 1) or go to room 1 (reward 0). Room 1: stay (reward 3), or go: the game ends with reward 10.

    The state written beside the end is room 1, as environments do: whoever bootstraps from it is wrong.
    """
    return TransitionTable(
        next_state=np.array([[[0], [1]], [[1], [1]]]),
        probability=np.ones((2, 2, 1)),
        reward=np.array([[[1.0], [0.0]], [[3.0], [10.0]]]),
        terminated=np.array([[[False], [False]], [[False], [True]]]),
        initial=np.array([0.75, 0.25]),
        time_limit=time_limit,
    )


def test_optimal_values_by_hand():
    # Discount 1/2. Room 1: ending gives 10, staying 3 + v/2: v(1) = max(10, 3 + 5) = 10. Room 0: going gives v(1)/2 =
    # 5, staying 1 + 5/2 = 3.5: v(0) = 5. With a bootstrap from the end, v(1) would be 20.
    values, q = value_iteration(two_rooms(), 0.5, 1e-10)
    np.testing.assert_allclose(values, [5.0, 10.0], atol=1e-9)
    np.testing.assert_allclose(q, [[3.5, 5.0], [8.0, 10.0]], atol=1e-9)
    assert start_value(two_rooms(), values) == pytest.approx(0.75 * 5 + 0.25 * 10)
    assert greedy_policy(q).tolist() == [GO, GO]


def test_a_longer_view_changes_the_policy():
    # Discount 0.9: staying in room 1 for ever is worth 3 / 0.1 = 30 > 10, and room 0 goes there: 0.9 * 30 = 27.
    values, q = value_iteration(two_rooms(), 0.9, 1e-10)
    np.testing.assert_allclose(values, [27.0, 30.0], atol=1e-9)
    assert greedy_policy(q).tolist() == [GO, STAY]


def test_outcomes_are_weighted_by_their_probability_and_padding_counts_nothing():
    table = TransitionTable(
        next_state=np.array([[[0, 0, 0]]]),
        probability=np.array([[[0.25, 0.75, 0.0]]]),
        reward=np.array([[[8.0, 4.0, 1e9]]]),
        terminated=np.array([[[True, False, False]]]),
        initial=np.ones(1),
        time_limit=None,
    )
    # v = 0.25 * 8 + 0.75 * (4 + v / 2) = 5 + 0.375 v, so v = 8.
    values, q = value_iteration(table, 0.5, 1e-12)
    np.testing.assert_allclose(values, [8.0], atol=1e-11)
    np.testing.assert_allclose(policy_value(table, greedy_policy(q), 0.5), [8.0], atol=1e-12)


def test_the_time_limit_is_not_a_terminal_state():
    for discount in (0.5, 0.9):
        unlimited, limited = (value_iteration(two_rooms(limit), discount)[0] for limit in (None, 1))
        np.testing.assert_array_equal(unlimited, limited)


def test_policy_values_by_hand():
    # Discount 1/2: stay, stay: 1 / (1/2) = 2 and 3 / (1/2) = 6. Go, stay: 0 + 6/2 = 3. Stay, end: 2 and 10.
    np.testing.assert_allclose(policy_value(two_rooms(), np.array([STAY, STAY]), 0.5), [2.0, 6.0])
    np.testing.assert_allclose(policy_value(two_rooms(), np.array([GO, STAY]), 0.5), [3.0, 6.0])
    np.testing.assert_allclose(policy_value(two_rooms(), np.array([STAY, GO]), 0.5), [2.0, 10.0])


def random_table(seed: int, states: int = 30, actions: int = 4, outcomes: int = 3) -> TransitionTable:
    generator = np.random.default_rng(seed)
    shape = (states, actions, outcomes)
    return TransitionTable(
        next_state=generator.integers(states, size=shape),
        probability=generator.dirichlet(np.ones(outcomes), size=(states, actions)),
        reward=generator.normal(size=shape),
        terminated=generator.random(shape) < 0.05,
        initial=np.full(states, 1 / states),
        time_limit=None,
    )


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-8])
def test_values_are_within_the_tolerance_of_the_greedy_policys_exact_values(discount, tolerance):
    table = random_table(0)
    values, _ = value_iteration(table, discount, tolerance)
    best, q = value_iteration(table, discount, 1e-11)
    exact = policy_value(table, greedy_policy(q), discount)
    np.testing.assert_allclose(best, exact, atol=1e-9)
    assert np.abs(values - exact).max() <= tolerance


def test_a_tolerance_finer_than_float64_still_ends():
    table = dataclasses.replace(two_rooms(), reward=two_rooms().reward * 1e6)
    values, _ = value_iteration(table, 0.99, 1e-30)
    np.testing.assert_allclose(values, [0.99 * 3e8, 3e8], rtol=1e-9)


def test_a_discount_of_nearly_one_ends_soon_where_a_policy_pays_for_ever():
    # Two states that lead to each other and cost 1 a step: -1 / (1 - discount); sweeps alone take millions.
    ones = np.ones((2, 1, 1))
    table = TransitionTable(
        np.array([[[1]], [[0]]]), ones, -ones, np.zeros((2, 1, 1), np.bool_), np.array([1.0, 0.0]), None
    )
    values, _ = value_iteration(table, 0.999999)
    np.testing.assert_allclose(values, -1e6, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:overflow")
def test_values_without_bound_are_told():
    table = dataclasses.replace(two_rooms(), probability=two_rooms().probability * 3.0)
    with pytest.raises(EnvError, match="without bound"):
        value_iteration(table, 0.99)
    table = dataclasses.replace(two_rooms(), reward=two_rooms().reward * np.nan)
    with pytest.raises(EnvError, match="or are no numbers"):
        value_iteration(table, 0.99)


@pytest.mark.parametrize("discount", [-0.1, 1.0, float("nan")])
def test_discounts_out_of_range_are_refused(discount):
    with pytest.raises(ConfigError, match="discount must be"):
        value_iteration(two_rooms(), discount)
    with pytest.raises(ConfigError, match="discount must be"):
        policy_value(two_rooms(), np.array([0, 0]), discount)


def test_other_arguments_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="tolerance must be above 0"):
        value_iteration(two_rooms(), 0.5, 0.0)
    with pytest.raises(ConfigError, match=r"use greedy_policy\(q\)"):
        policy_value(two_rooms(), np.zeros((2, 2)), 0.5)
    with pytest.raises(ConfigError, match="actions 0 to 1"):
        policy_value(two_rooms(), np.array([0, 2]), 0.5)
