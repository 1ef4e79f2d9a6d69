"""The DQN line over time: schedules in environment steps, priorities while playing, saving, captured updates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

import envs
from agents import AGENTS
from aprendiz import checkpoint
from tests.agents.value_agents import ACTIONS, IMAGE, LINE, VECTOR, make_agent, make_batch, parameters


def test_the_learning_rate_falls_with_environment_steps() -> None:
    agent = make_agent("dqn", learning_rate=1e-3, learning_rate_end=0.0, learning_rate_env_steps=100)
    rates = []
    for at in (0, 25, 100, 500):
        agent.update(make_batch(agent, env_steps=at))
        rates.append(float(agent.optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([1e-3, 7.5e-4, 0.0, 0.0])


def test_schedules_become_numbers_of_steps_once() -> None:
    agent_class = AGENTS.get("prioritized-dqn")
    config = dataclasses.replace(agent_class.preset_table["vector"]["default"], learning_rate_end=0.0)
    resolved = agent_class.resolve(config, 10_000)
    assert (resolved.importance_env_steps, resolved.learning_rate_env_steps) == (10_000, 10_000)
    assert agent_class.resolve(resolved, 99) == resolved
    agent = agent_class(resolved, VECTOR, Discrete(2), seed=0)
    assert [agent.importance_exponent(at) for at in (0, 5_000, 10_000, 10**9)] == pytest.approx([0.4, 0.7, 1.0, 1.0])


def test_gradients_are_scaled_down_together() -> None:
    agent = make_agent("dqn", max_gradient_norm=1e-3)
    batch = make_batch(agent)
    batch.reward *= 100
    agent.update(batch)
    norm = torch.cat([p.grad.flatten() for p in agent.online.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("name", "space"), [*((name, VECTOR) for name in LINE), ("btr", IMAGE)])
def test_a_saved_agent_goes_on_exactly(tmp_path: Path, name: str, space: Any) -> None:
    agent = make_agent(name, space, target_period_env_steps=10)
    for number in range(3):
        agent.update(make_batch(agent, space, seed=number, env_steps=4 * number))
    checkpoint.save(tmp_path / "saved", agent.state_dict())
    resumed = make_agent(name, space, seed=99, target_period_env_steps=10)
    resumed.load_state_dict(checkpoint.load(tmp_path / "saved"))
    for number in range(3, 6):
        for one in (agent, resumed):
            one.update(make_batch(agent, space, seed=number, env_steps=4 * number))
        ours, theirs = parameters(agent), parameters(resumed)
        assert all((ours[key] == theirs[key]).all() for key in ours)


def test_a_run_of_the_first_version_of_dqn_is_still_read() -> None:
    agent = make_agent("dqn")
    assert set(agent.state_dict()) == {"online", "target", "optimizer", "env_steps"}
    assert {"head.weight", "head.bias"} < set(agent.state_dict()["online"])


def play(source: Any, agent: Any, until: int) -> list[float]:
    losses = []
    while source.env_steps < until:
        work = source.next()
        if work.batch is not None:
            outcome = agent.update(work.batch)
            source.feedback(work.batch, outcome)
            losses.append(float(outcome.metrics["loss"]))
    return losses


def test_priorities_go_round_through_acting_and_learning() -> None:
    agent = make_agent("rainbow", actions=2, warmup_env_steps=20, replay_capacity=100)
    source = agent.make_source(envs.make("cartpole", 2), seed=0)
    play(source, agent, 60)
    assert source.replay.priorities is not None
    leaves = source.replay.priorities.tree.leaves
    assert len(np.unique(leaves[leaves > 0])) > 10
    source.env.close()


def test_importance_weights_follow_their_schedule_while_playing() -> None:
    agent = make_agent(
        "prioritized-dqn",
        actions=2,
        warmup_env_steps=20,
        replay_capacity=200,
        train_period_env_steps=2,
        importance_start=0.0,
        importance_env_steps=100,
    )
    source = agent.make_source(envs.make("cartpole", 2), seed=0)
    priorities, smallest = source.replay.priorities, {}
    assert priorities is not None
    while source.env_steps < 140:
        work = source.next()
        if work.batch is None:
            continue
        lane, position = work.batch.indices.T
        shares = priorities.tree.leaves[lane * source.replay.slots + position % source.replay.slots]
        exponent = min(work.batch.env_steps / 100, 1.0)
        expected = shares**-exponent / (shares**-exponent).max()
        np.testing.assert_allclose(work.batch.weights.numpy(), expected, rtol=1e-5)
        smallest[work.batch.env_steps] = expected.min()
        # Priorities that stay far apart, so that the exponent is seen.
        source.replay.update_priorities(work.batch.indices, np.arange(1.0, 1.0 + len(lane)))
    assert smallest[140 - 2] < 0.5 and 100 in smallest
    source.env.close()


def test_a_prioritised_run_goes_on_exactly(tmp_path: Path) -> None:
    def fresh(seed: int) -> tuple[Any, Any]:
        periods = {"warmup_env_steps": 20, "train_period_env_steps": 2}
        agent = make_agent("rainbow", actions=2, seed=seed, replay_capacity=100, **periods)
        return agent, agent.make_source(envs.make("cartpole", 2), seed=seed)

    agent, source = fresh(0)
    play(source, agent, 150)
    manifest = source.save_bulk(tmp_path / "replay")
    checkpoint.save(tmp_path / "saved", {"learner": agent.state_dict(), "source": source.state_dict()})
    expected = play(source, agent, 220)
    resumed, their_source = fresh(5)
    saved = checkpoint.load(tmp_path / "saved")
    resumed.load_state_dict(saved["learner"])
    their_source.load_bulk(tmp_path / "replay", manifest)
    their_source.load_state_dict(saved["source"])
    assert play(their_source, resumed, 220) == expected and len(expected) > 20
    ours, theirs = source.replay.priorities, their_source.replay.priorities
    assert ours is not None and theirs is not None
    assert ours.tree.nodes.tobytes() == theirs.tree.nodes.tobytes()
    for one in (source, their_source):
        one.env.close()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize(("name", "space"), [*((name, VECTOR) for name in LINE), ("btr", IMAGE)])
def test_captured_updates_of_the_line_equal_eager_ones(name: str, space: Any) -> None:
    agent_class = AGENTS.get(name)
    preset = agent_class.preset_table["image" if space is IMAGE else "vector"]["default"]
    # The target network is copied twice on the way: what was captured goes on reading from there.
    config = dataclasses.replace(preset, batch_size=8, learning_rate_end=1e-5, target_period_env_steps=20)
    captured, eager = (
        agent_class(agent_class.resolve(config, 100), space, Discrete(ACTIONS), seed=0, device="cuda") for _ in range(2)
    )
    eager._captured = eager._gradient_step
    for number in range(5):
        batch = make_batch(eager, space, seed=number, env_steps=10 * number)
        for field in ("observation", "action", "reward", "discount", "next_observation", "weights"):
            value = getattr(batch, field)
            setattr(batch, field, None if value is None else value.cuda())
        ours, theirs = captured.update(batch), eager.update(batch)
        for key, value in {**ours.metrics, **ours.per_sample}.items():
            torch.testing.assert_close(value, {**theirs.metrics, **theirs.per_sample}[key], rtol=1e-3, atol=1e-4)
