"""Blackjack's table against Gymnasium's cards, and against what the book says of good play."""

from __future__ import annotations

from collections import Counter

import gymnasium
import numpy as np
import pytest

import envs
from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
from aprendiz.testing import check_env
from envs.blackjack import HIT, NATURAL, STICK, add_card, blackjack_table, dealer_outcomes, state_number


def test_conforms() -> None:
    check_env(lambda num_envs: envs.make("blackjack-cards", num_envs), steps=100)


def test_aces_count_eleven_where_they_can() -> None:
    assert add_card(10, False, 1) == (21, True)
    assert add_card(11, False, 1) == (12, False)
    assert add_card(16, True, 10) == (16, False)
    assert add_card(11, True, 1) == (12, True)
    assert add_card(15, False, 10) == (25, False)


def test_probabilities_are_probabilities() -> None:
    table = blackjack_table()
    np.testing.assert_allclose(table.probability.sum(axis=2), 1.0)
    assert table.initial.sum() == pytest.approx(1.0)
    for shown in range(1, 11):
        assert sum(dealer_outcomes(shown).values()) == pytest.approx(1.0)
    assert dealer_outcomes(1)[NATURAL] == pytest.approx(4 / 13) and dealer_outcomes(10)[NATURAL] == pytest.approx(
        1 / 13
    )


def state_of(env: gymnasium.Env) -> int:
    player, dealer = env.unwrapped.player, env.unwrapped.dealer[0]  # type: ignore[attr-defined]
    ace = 1 in player and sum(player) + 10 <= 21
    total = sum(player) + 10 * ace
    return state_number(NATURAL if total == 21 and len(player) == 2 else (total, ace), dealer)


def test_the_table_says_what_gymnasium_s_cards_do() -> None:
    table, env = blackjack_table(), gymnasium.make("Blackjack-v1", sab=True)
    generator = np.random.default_rng(0)
    starts: Counter[int] = Counter()
    rewards: dict[tuple[int, int], list[float]] = {}
    for game in range(6000):
        env.reset(seed=game)
        state, over = state_of(env), False
        starts[state] += 1
        while not over:
            action = int(generator.integers(2))
            _, reward, over, _, _ = env.step(action)
            at = state, action
            if over:
                same = table.terminated[at] & (table.reward[at] == reward)
            else:
                state = state_of(env)
                same = ~table.terminated[at] & (table.next_state[at] == state)
            assert table.probability[at][same].sum() > 0
            rewards.setdefault(at, []).append(float(reward) if over else 0.0)
    for state, count in starts.most_common(20):
        assert count / 6000 == pytest.approx(table.initial[state], abs=4.5 * np.sqrt(table.initial[state] / 6000))
    expected = (table.probability * table.reward).sum(axis=2)
    for at, seen in rewards.items():
        if len(seen) > 100:
            assert np.mean(seen) == pytest.approx(expected[at], abs=4.5 / np.sqrt(len(seen)))


def test_a_natural_beats_a_drawn_twenty_one() -> None:
    table = blackjack_table()
    expected = (table.probability * table.reward).sum(axis=2)
    assert expected[state_number(NATURAL, 9), STICK] == 1.0
    assert expected[state_number(NATURAL, 10), STICK] == pytest.approx(12 / 13)
    assert expected[state_number((21, True), 10), STICK] < 12 / 13


def test_good_play_is_that_of_the_book() -> None:
    # Sutton and Barto, figure 5.2: without an ace stick from 17, against 4 to 6 from 12, against 2 and 3 from 13.
    table = blackjack_table()
    values, q = value_iteration(table, 1.0 - 1e-9)
    policy = greedy_policy(q)
    for dealer in range(1, 11):
        lowest = 12 if dealer in (4, 5, 6) else 13 if dealer in (2, 3) else 17
        assert [policy[state_number((total, False), dealer)] for total in range(lowest, 22)] == [STICK] * (22 - lowest)
        assert policy[state_number((lowest - 1, False), dealer)] == HIT
    assert start_value(table, values) == pytest.approx(-0.043, abs=5e-4)
    stick_on_20 = np.array([STICK if state // 10 in (16, 17, 26, 27, 28) else HIT for state in range(290)])
    assert start_value(table, policy_value(table, stick_on_20, 1.0 - 1e-9)) < -0.3


def test_the_picture_changes_with_the_hand() -> None:
    env = envs.make("blackjack-cards", 1)
    env.reset(0)
    first = env.render()
    env.step(np.array([HIT]))
    assert first.shape == (240, 360, 3) and (first != env.render()).any()
