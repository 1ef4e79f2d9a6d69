"""Double and Munchausen targets: by hand, and against the formulas written out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.value_targets import (
    double_q_value,
    expected_under,
    munchausen_bonus,
    of_action,
    soft_entropy,
    soft_policy,
)
from tests.agents.value_agents import make_agent, make_batch


def test_double_by_hand() -> None:
    online = torch.tensor([[1.0, 2.0, 0.0], [5.0, 4.0, 3.0]])
    target = torch.tensor([[9.0, 0.5, 7.0], [-1.0, 8.0, 8.0]])
    assert double_q_value(online, target).tolist() == [0.5, -1.0]  # the maximum would be 9 and 8


def test_double_equals_a_loop() -> None:
    generator = np.random.default_rng(0)
    online, target = generator.normal(size=(50, 6)), generator.normal(size=(50, 6))
    expected = [target[b][int(np.argmax(online[b]))] for b in range(50)]
    np.testing.assert_allclose(double_q_value(torch.from_numpy(online), torch.from_numpy(target)).numpy(), expected)


def test_a_network_that_agrees_with_itself_makes_double_the_maximum() -> None:
    values = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(double_q_value(values, values), values.max(dim=1).values)


def test_entries_of_one_action() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)
    action = torch.tensor([2, 0])
    assert of_action(values, action).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert of_action(values[:, :, 1], action).tolist() == [9, 13]


def test_the_soft_policy_by_hand() -> None:
    policy, scaled = soft_policy(torch.tensor([[0.0, math.log(3.0)]]), temperature=1.0)
    assert policy[0].tolist() == pytest.approx([0.25, 0.75])
    assert scaled[0].tolist() == pytest.approx([math.log(0.25), math.log(0.75)])


def test_the_entropy_by_hand() -> None:
    # -0.25 ln 0.25 - 0.75 ln 0.75 = 0.346574 + 0.215762
    assert soft_entropy(*soft_policy(torch.tensor([[0.0, math.log(3.0)]]), 1.0)).tolist() == pytest.approx([0.562335])


def test_the_munchausen_target_by_hand() -> None:
    # Values 0, ln 3 and next to nothing in every state, temperature 1: the policy is 1/4, 3/4, 0.
    agent = make_agent("munchausen-dqn", munchausen_temperature=1.0)
    batch = make_batch(agent, size=3)
    with torch.no_grad():
        for network in (agent.online, agent.target):
            network.head.weight.zero_()
            network.head.bias.copy_(torch.tensor([0.0, math.log(3.0), -1e4]))
    batch.action, batch.discount = torch.tensor([1, 0, 2]), torch.tensor([0.5, 0.5, 0.0])
    batch.reward = torch.ones(3)
    names = ("observation", "action", "reward", "discount", "next_observation")
    reward, following = agent._what_follows({name: getattr(batch, name) for name in names})
    # Of the reward: 1 + 0.9 ln(3/4) = 0.741086; 1 + 0.9 * -1, since ln(1/4) is below; the same. Of what follows:
    # 3/4 ln 3 + the entropy 0.562335 = ln 4 = 1.386294, half of it or nothing.
    expected = [0.741086 + 0.693147, 0.1 + 0.693147, 0.1]
    assert (reward + batch.discount * following).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_small_temperature_stays_exact() -> None:
    _, scaled = soft_policy(torch.tensor([[10.0, 9.0, -500.0]]), temperature=0.03)
    assert scaled[0].tolist() == pytest.approx([0.0, -1.0, -510.0], abs=1e-4)
    assert torch.isfinite(scaled).all()


@pytest.mark.parametrize("temperature", [0.03, 0.5])
def test_the_munchausen_target_equals_a_loop(temperature: float) -> None:
    generator = np.random.default_rng(0)
    size, actions, alpha, lowest = 40, 5, 0.9, -1.0
    q_now, q_next = generator.normal(size=(size, actions)), generator.normal(size=(size, actions))
    action, reward = generator.integers(0, actions, size), generator.normal(size=size)
    discount = np.where(generator.random(size) < 0.3, 0.0, 0.9)
    expected = []
    for b in range(size):  # Vieillard et al. (2020), section 3, with numpy's float64

        def log_policy(q: np.ndarray) -> np.ndarray:
            z = q / temperature - (q / temperature).max()
            return z - np.log(np.exp(z).sum())

        bonus = alpha * min(max(temperature * log_policy(q_now[b])[action[b]], lowest), 0.0)
        policy = np.exp(log_policy(q_next[b]))
        soft = sum(policy[a] * (q_next[b][a] - temperature * log_policy(q_next[b])[a]) for a in range(actions))
        expected.append(reward[b] + bonus + discount[b] * soft)
    now, following = torch.from_numpy(q_now), torch.from_numpy(q_next)
    _, scaled_now = soft_policy(now, temperature)
    policy, scaled = soft_policy(following, temperature)
    target = torch.from_numpy(reward) + munchausen_bonus(scaled_now, torch.from_numpy(action), alpha, lowest)
    target += torch.from_numpy(discount) * (expected_under(policy, following) + soft_entropy(policy, scaled))
    np.testing.assert_allclose(target.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_bonus_is_never_a_reward_and_never_below_its_bound() -> None:
    scaled = torch.tensor([[0.0, -0.5, -80.0]]).expand(3, 3)
    assert munchausen_bonus(scaled, torch.tensor([0, 1, 2]), 0.5, -1.0).tolist() == [0.0, -0.25, -0.5]


def test_a_mixture_of_distributions_by_hand() -> None:
    policy = torch.tensor([[0.25, 0.75]])
    values = torch.tensor([[[0.0, 4.0], [8.0, 0.0]]])
    assert expected_under(policy, values).tolist() == [[6.0, 1.0]]
