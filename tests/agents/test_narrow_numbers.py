"""The DQN line in bfloat16: the network computes in it, the layers whose answers are values do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from agents.pqn import PQN, PQNConfig
from agents.value_based import ValueAgent
from aprendiz.device import autocast
from tests.agents.value_agents import ACTIONS, IMAGE, LINE, VECTOR, make_agent, make_batch

SPACES = pytest.mark.parametrize("space", [VECTOR, IMAGE], ids=["vector", "image"])


@pytest.mark.parametrize("name", LINE)
def test_narrow_numbers_are_close_to_wide_ones(name: str) -> None:
    exact, mixed = (make_agent(name, IMAGE, precision=precision) for precision in ("fp32", "bf16"))
    observations = make_batch(exact, IMAGE, size=2).observation.numpy()
    q_exact, q_mixed = (agent.inspect(observations)["q_values"] for agent in (exact, mixed))
    np.testing.assert_allclose(q_mixed, q_exact, atol=0.05 * np.abs(q_exact).max() + 5e-3)


LEVEL, BETTER = 9.0, 0.01
"""A value, and what the best action has beyond it: in bfloat16 the sum is the value."""


def with_values(agent: ValueAgent) -> ValueAgent:
    """The agent with action 1 worth a little more than the others, everywhere. (Of agents whose answers are logits the
    biases are no values.)"""
    with torch.no_grad():
        for layer in agent.online.value_layers():
            for parameter in layer.parameters():
                parameter.zero_()
        dueling = agent.config.dueling
        of_actions = (agent.online.advantage.out if agent.online.streams else agent.online.head).bias
        of_actions.view(ACTIONS, -1)[:] = 0.0 if dueling else LEVEL
        of_actions.view(ACTIONS, -1)[1] += BETTER
        if dueling:
            agent.online.value.out.bias[:] = LEVEL
    agent._copy_to_target()
    return agent


@SPACES
@pytest.mark.parametrize("name", [name for name in LINE if name not in ("c51", "rainbow")])
def test_actions_that_hardly_differ_are_told_apart_in_narrow_numbers(name: str, space: Any) -> None:
    assert torch.tensor(LEVEL, dtype=torch.bfloat16) + BETTER == LEVEL
    exact, mixed = (with_values(make_agent(name, space, precision=precision)) for precision in ("fp32", "bf16"))
    batch = make_batch(mixed, space, size=4)
    q_values = mixed.inspect(batch.observation.numpy())["q_values"]
    np.testing.assert_array_equal(q_values.argmax(axis=1), 1)
    np.testing.assert_allclose(q_values[:, 1] - q_values[:, 0], BETTER, rtol=1e-3)
    shown = {"observation": batch.observation, "next_observation": batch.next_observation, "action": batch.action}
    shown |= {"reward": batch.reward, "discount": batch.discount}
    found = []
    for agent in (exact, mixed):
        drawn = {} if agent._generator is None else agent._draw(4, np.random.default_rng(0))
        with torch.no_grad(), autocast(agent.device, agent.precision):
            found.append(agent._what_follows(shown | drawn))
    for one, other in zip(*found, strict=True):  # rewards with their bonus, and what follows
        torch.testing.assert_close(other, one, rtol=0.0, atol=1e-4)


def network_of(name: str, space: Any) -> Any:
    """The network that learns, as it is in a run in bfloat16."""
    if name != "pqn":
        return make_agent(name, space, precision="bf16").online
    config = PQNConfig(backbone="nature-cnn" if space is IMAGE else "mlp")
    return PQN(config, space, Discrete(ACTIONS), seed=0, precision="bf16").network


@SPACES
@pytest.mark.parametrize("name", [*LINE, "pqn"])
def test_the_last_layers_lose_nothing_of_what_they_are_given(name: str, space: Any) -> None:
    network, taken = network_of(name, space), []
    for layer in network.value_layers():
        layer.register_forward_hook(lambda layer, inputs, output: taken.append((layer, inputs, output)))
    observation = make_batch(make_agent(name if name != "pqn" else "dqn", space), space, size=4).observation
    noise = torch.randn(4, network.noise_size) if network.noise_size else None
    taus = torch.rand(4, 3) if getattr(network, "embedding", None) is not None else None
    with torch.no_grad(), autocast(torch.device("cpu"), "bf16"):
        answer = network(observation, noise, taus)
    assert answer.dtype == torch.float32 and taken
    for layer, (given, *more), output in taken:
        assert given.abs().max() > 0.0
        torch.testing.assert_close(output, layer.forward(given, *more), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", [name for name in LINE if name != "btr"])
def test_the_narrow_copy_begins_with_the_last_layers_as_they_are(name: str) -> None:
    agent = make_agent(name, IMAGE, precision="bf16")
    assert agent._narrow_target is not None
    for narrow, wide in zip(agent._narrow_target.value_layers(), agent.target.value_layers(), strict=True):
        for one, other in zip(narrow.parameters(), wide.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", LINE)
def test_a_run_that_is_resumed_before_the_first_copy_judges_as_one_that_was_not(name: str) -> None:
    kept, resumed = (make_agent(name, VECTOR, precision="bf16") for _ in range(2))
    resumed.load_state_dict(kept.state_dict())
    batch = make_batch(kept, VECTOR, size=8)
    for agent in (kept, resumed):
        agent.update(batch)
    for one, other in zip(kept.online.parameters(), resumed.online.parameters(), strict=True):
        assert torch.equal(one, other)
