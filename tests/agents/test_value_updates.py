"""One update of the DQN line against loops: weights, targets, noise and fractions where they belong."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz.device import CapturedStep
from tests.agents.value_agents import ACTIONS, IMAGE, LINE, VECTOR, apart, make_agent, make_batch, parameters
from tests.cuda_graphs import pretend


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *((name, "huber") for name in ("c51", "qr-dqn", "iqn", "rainbow", "btr")),
        *((name, loss) for name in ("dqn", "prioritized-dqn", "munchausen-dqn") for loss in ("huber", "mse")),
    ],
)
def test_importance_weights_count_in_every_loss(name: str, loss: str) -> None:
    losses = []
    for which in (slice(0, 4), slice(4, 8), slice(0, 8)):
        agent = make_agent(name, prioritized=True, loss=loss)
        batch = make_batch(agent)
        assert batch.weights is not None
        batch.weights = torch.zeros(8)
        batch.weights[which] = 2.0
        losses.append(float(agent.update(batch).metrics["loss"]))
    assert losses[0] != losses[1]
    assert losses[0] + losses[1] == pytest.approx(losses[2], rel=1e-4)


def test_weights_scale_the_gradient() -> None:
    moved = []
    for weight in (0.25, 1.0):
        agent = make_agent("prioritized-dqn", optimizer="rmsprop", optimizer_epsilon=1e6)
        before, batch = parameters(agent), make_batch(agent)
        batch.weights = torch.full((8,), weight)
        agent.update(batch)
        moved.append(parameters(agent)["head.bias"] - before["head.bias"])
    np.testing.assert_allclose(4 * moved[0], moved[1], rtol=1e-2)


def test_td_errors_are_the_new_priorities() -> None:
    agent = make_agent("prioritized-dqn")
    apart(agent)
    batch = make_batch(agent)
    with torch.no_grad():
        q_values = agent.online(batch.observation).gather(1, batch.action[:, None]).squeeze(1)
        chosen = agent.online(batch.next_observation).argmax(dim=1, keepdim=True)
        following = agent.target(batch.next_observation).gather(1, chosen).squeeze(1)
    expected = (batch.reward + batch.discount * following - q_values).abs()
    torch.testing.assert_close(agent.update(batch).per_sample["td_error"], expected)


@pytest.mark.parametrize("name", LINE)
def test_errors_are_given_back_where_they_are_wanted_and_nowhere_else(name: str) -> None:
    agent = make_agent(name)
    per_sample = agent.update(make_batch(agent)).per_sample
    assert set(per_sample) == ({"td_error"} if agent.config.prioritized else set())
    for error in per_sample.values():
        assert error.shape == (8,) and not error.requires_grad and (error >= 0).all()


@pytest.mark.parametrize("name", LINE)
def test_targets_are_constants(name: str) -> None:
    agent = make_agent(name)
    before = copy.deepcopy(agent.target.state_dict())
    for seed in range(3):
        agent.update(make_batch(agent, seed=seed))
    assert all(torch.equal(before[key], tensor) for key, tensor in agent.target.state_dict().items())
    assert all(parameter.grad is None for parameter in agent.target.parameters())


@pytest.mark.parametrize("name", ["double-dqn", "iqn", "rainbow", "btr"])
def test_a_network_that_judged_in_narrow_numbers_learns_in_all_its_weights(name: str) -> None:
    agent = make_agent(name, precision="bf16", double=name != "btr")
    before = parameters(agent)
    agent.update(make_batch(agent))
    assert [key for key, after in parameters(agent).items() if (before[key] == after).all()] == []


@pytest.mark.parametrize("name", ["dqn", "c51", "qr-dqn"])
@pytest.mark.parametrize("how", ["greedy", "double", "munchausen"])
def test_what_follows_equals_a_loop(name: str, how: str) -> None:
    soft = {"munchausen": True, "munchausen_temperature": 0.3} if how == "munchausen" else {}
    agent = make_agent(name, double=how == "double", **soft)
    apart(agent)
    batch = make_batch(agent)
    tensors = {field: getattr(batch, field) for field in ("observation", "action", "reward", "next_observation")}
    with torch.no_grad():
        reward, following = agent._what_follows(tensors | {"discount": batch.discount})
        outputs = agent.target(batch.next_observation)
        distribution = agent.value.distribution(outputs)
        q_target = agent.value.q_values(distribution).numpy().astype(np.float64)
        q_online = agent.value.q_values(agent.value.distribution(agent.online(batch.next_observation))).numpy()
        q_now = agent.value.q_values(agent.value.distribution(agent.target(batch.observation))).numpy()
    if how == "double":
        assert (q_online.argmax(axis=1) != q_target.argmax(axis=1)).any()  # else it would be as greedy
    for b in range(8):
        if how == "munchausen":
            log_policy = q_target[b] - q_target[b].max()
            log_policy = log_policy - 0.3 * np.log(np.exp(log_policy / 0.3).sum())
            policy = np.exp(log_policy / 0.3)
            log_now = q_now[b] - q_now[b].max()
            log_now = log_now - 0.3 * np.log(np.exp(log_now / 0.3).sum())
            expected = sum(policy[a] * distribution[b, a].numpy() for a in range(ACTIONS))
            entropy = -(policy * log_policy).sum()
            bonus = 0.9 * min(max(log_now[int(batch.action[b])], -1.0), 0.0)
            expected_reward = float(batch.reward[b]) + bonus + float(batch.discount[b]) * entropy
        else:
            best = int((q_online if how == "double" else q_target)[b].argmax())
            expected, expected_reward = distribution[b, best].numpy(), float(batch.reward[b])
        np.testing.assert_allclose(following[b].numpy(), expected, rtol=1e-4, atol=1e-5)
        assert float(reward[b]) == pytest.approx(expected_reward, rel=1e-4, abs=1e-5)


def test_each_network_has_noise_of_its_own() -> None:
    agent = make_agent("noisy-dqn", double=True, prioritized=True, noisy_sigma=3.0)
    apart(agent)
    batch = make_batch(agent)
    assert agent._generator is not None
    learning, judging, choosing = agent._draw(8, copy.deepcopy(agent._generator))["noise"]
    with torch.no_grad():
        now = agent.online(batch.observation, learning)
        chooser = agent.online(batch.next_observation, choosing)
        judge = agent.target(batch.next_observation, judging)
    expected = []
    for b in range(8):
        following = judge[b, int(chooser[b].argmax())]
        expected.append(abs(float(batch.reward[b] + batch.discount[b] * following - now[b, int(batch.action[b])])))
    torch.testing.assert_close(agent.update(batch).per_sample["td_error"], torch.tensor(expected))


def test_a_soft_policy_is_noisy_as_its_network_is() -> None:
    agent = make_agent("noisy-dqn", munchausen=True, munchausen_temperature=0.3, noisy_sigma=3.0)
    apart(agent)
    batch = make_batch(agent)
    assert agent._generator is not None
    noise = agent._draw(8, agent._generator)["noise"]
    fields = ("observation", "action", "reward", "discount", "next_observation")
    with torch.no_grad():
        reward, following = agent._what_follows({name: getattr(batch, name) for name in fields} | {"noise": noise})
        now = agent.target(batch.observation, noise[1]).numpy().astype(np.float64)
        then = agent.target(batch.next_observation, noise[1]).numpy().astype(np.float64)
    for b in range(8):
        policy = np.exp((then[b] - then[b].max()) / 0.3)
        policy /= policy.sum()
        assert float(following[b]) == pytest.approx((policy * then[b]).sum(), rel=1e-4)
        log_now = now[b] - now[b].max() - 0.3 * np.log(np.exp((now[b] - now[b].max()) / 0.3).sum())
        bonus = 0.9 * max(log_now[int(batch.action[b])], -1.0)
        entropy = -0.3 * sum(share * np.log(share) for share in policy if share > 1e-30)
        expected = float(batch.reward[b]) + bonus + float(batch.discount[b]) * entropy
        assert float(reward[b]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_an_update_of_implicit_quantiles_equals_a_loop(double: bool) -> None:
    # As many of each, so that the wrong fractions would have the right shape.
    agent = make_agent("iqn", double=double, quantiles=4, target_quantiles=4, policy_quantiles=4)
    apart(agent)
    batch = make_batch(agent)
    assert agent._generator is not None
    drawn = agent._draw(8, copy.deepcopy(agent._generator))
    with torch.no_grad():
        now = agent.online(batch.observation, None, drawn["taus"])  # [B, A, N]
        then = agent.target(batch.next_observation, None, drawn["next_taus"])  # [B, A, N']
        of_online, of_target = (
            network(batch.next_observation, None, drawn["policy_taus"]) for network in (agent.online, agent.target)
        )
    assert (of_online.mean(dim=2).argmax(dim=1) != of_target.mean(dim=2).argmax(dim=1)).any()
    chooser = of_online if double else of_target
    losses = []
    for b in range(8):
        best, taken = int(chooser[b].mean(dim=1).argmax()), int(batch.action[b])
        total = 0.0
        for tau, quantile in zip(drawn["taus"][b].tolist(), now[b, taken].tolist(), strict=True):
            for following in then[b, best].tolist():
                error = float(batch.reward[b]) + float(batch.discount[b]) * following - quantile
                huber = 0.5 * error**2 if abs(error) <= 1.0 else abs(error) - 0.5
                total += abs(tau - (error < 0.0)) * huber / 4
        losses.append(total)
    assert float(agent.update(batch).metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "optimizer", "space"),
    [*((name, "adam", VECTOR) for name in LINE), ("dqn", "rmsprop", VECTOR), ("btr", "adam", IMAGE)],
)
def test_the_warm_up_of_a_captured_update_changes_nothing(
    name: str, optimizer: str, space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    ours, eager = (make_agent(name, space, optimizer=optimizer) for _ in range(2))
    batch = make_batch(ours, space)
    inputs = {field: getattr(batch, field) for field in ("observation", "action", "reward", "discount")}
    inputs["next_observation"] = batch.next_observation
    if batch.weights is not None:
        inputs["weights"] = batch.weights
    if ours._generator is not None:
        inputs |= ours._draw(8, ours._generator)
    CapturedStep(ours._gradient_step, inputs, ours._tensors)
    eager._gradient_step(inputs)
    for network in ("online", "target"):
        expected = eager.modules()[network].state_dict()
        for key, tensor in ours.modules()[network].state_dict().items():
            torch.testing.assert_close(tensor, expected[key])
    expected = eager.optimizer.state_dict()["state"]
    for number, moments in ours.optimizer.state_dict()["state"].items():
        for key, tensor in moments.items():
            torch.testing.assert_close(tensor, expected[number][key])


def test_an_update_of_munchausen_quantiles_equals_a_loop() -> None:
    # Beyond the Rainbow's loss: the policy from some quantiles, what follows from others.
    agent = make_agent(
        "iqn", munchausen=True, munchausen_temperature=0.3, quantiles=4, target_quantiles=4, policy_quantiles=4
    )
    apart(agent)
    batch = make_batch(agent)
    assert agent._generator is not None
    drawn = agent._draw(8, copy.deepcopy(agent._generator))
    with torch.no_grad():
        now = agent.online(batch.observation, None, drawn["taus"])  # [B, A, N]
        then = agent.target(batch.next_observation, None, drawn["next_taus"])  # [B, A, N']
        judged_now = agent.target(batch.observation, None, drawn["policy_taus"]).mean(dim=2).numpy()
        judged_then = agent.target(batch.next_observation, None, drawn["policy_taus"]).mean(dim=2).numpy()
    losses = []
    for b in range(8):
        taken, discount = int(batch.action[b]), float(batch.discount[b])
        weights = np.exp((judged_then[b] - judged_then[b].max()) / 0.3)
        policy = weights / weights.sum()
        log_now = judged_now[b] - judged_now[b].max()
        log_now = log_now - 0.3 * np.log(np.exp(log_now / 0.3).sum())
        reward = float(batch.reward[b]) + 0.9 * max(log_now[taken], -1.0)
        reward -= discount * 0.3 * sum(share * np.log(share) for share in policy if share > 1e-30)
        total = 0.0
        for tau, quantile in zip(drawn["taus"][b].tolist(), now[b, taken].tolist(), strict=True):
            for z in range(4):
                following = sum(policy[a] * float(then[b, a, z]) for a in range(ACTIONS))
                error = reward + discount * following - quantile
                huber = 0.5 * error**2 if abs(error) <= 1.0 else abs(error) - 0.5
                total += abs(tau - (error < 0.0)) * huber / 4
        losses.append(total)
    assert float(agent.update(batch).metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("name", LINE)
def test_a_copy_into_the_target_network_leaves_its_tensors_where_they_are(name: str) -> None:
    agent = make_agent(name, IMAGE, backbone="impala-cnn", spectral_norm=True)
    apart(agent)
    before = {key: tensor.data_ptr() for key, tensor in agent.target.state_dict().items()}
    agent._copy_to_target()  # a captured update goes on reading from there
    assert {key: tensor.data_ptr() for key, tensor in agent.target.state_dict().items()} == before
    for key, tensor in agent.online.state_dict().items():
        assert torch.equal(agent.target.state_dict()[key], tensor)
