"""What an agent is configured with is what its own source plays, stores and hands out: not the source's defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agents.training
from agents import AGENTS
from agents.drqn import DRQN, SequenceBatch
from agents.pqn import PQN, PRESETS
from agents.rollout_source import Rollout, TargetBatch
from agents.train import run_command
from aprendiz.loop import Outcome
from aprendiz.replay_priorities import SMALLEST_PRIORITY
from tests.agents.test_acting import LIFE_LOST, OVER, TIME_LIMIT, Event, ScriptedEnv, stored
from tests.agents.test_drqn import SMALL as SMALL_DRQN
from tests.agents.test_pqn import Small, weighted_n_step_returns
from tests.agents.value_agents import LINE, make_agent

# Lane 0: 5 in step 2, -3 and the end in step 4, 1 and the time limit in step 7. Lane 1: 0.5 and a lost life in step 3,
# 0.25 in step 5, the end in step 6.
SCRIPT = {
    0: {2: Event(5.0), 4: Event(-3.0, OVER), 7: Event(1.0, TIME_LIMIT)},
    1: {3: Event(0.5, LIFE_LOST), 5: Event(0.25), 6: Event(4.0, OVER)},
}
# Rewards clipped, then halved; gamma is 0.8.
LEARNED = {"clip_rewards": True, "reward_scale": 0.5, "discount": 0.8}
REWARDS = ([0.0, 0.5, 0.0, -0.5, 0.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.25, 0.0, 0.125, 0.5, 0.0, 0.0])


def scripted() -> ScriptedEnv:
    return ScriptedEnv(2, SCRIPT)


def of_the_line(name: str, env: ScriptedEnv, **changes: Any) -> Any:
    return make_agent(name, env.spec.observation_space, actions=6, num_envs=2, **changes)


def play(source: Any, env_steps: int) -> list[Any]:
    """The batches handed out meanwhile; the agent learns from each."""
    batches = []
    while source.env_steps < env_steps:
        work = source.next()
        if work.batch is not None:
            source.feedback(work.batch, source.agent.update(work.batch))
            batches.append(work.batch)
    return batches


def leaves_of(memory: Any, pairs: np.ndarray) -> np.ndarray:
    """What the sum tree holds of transitions by lane and position [B, 2]."""
    return memory.priorities.tree.leaves[pairs[:, 0] * memory.slots + pairs[:, 1] % memory.slots]


def assert_explored_apart(actions: np.ndarray, greedy: int) -> None:
    """400 games with one observation, of which 60% threw a coin for one of six actions."""
    assert np.mean(actions != greedy) == pytest.approx(0.6 * 5 / 6, abs=0.08)
    assert set(actions.tolist()) == set(range(6))


# Deep Q-networks and all that derive from them


@pytest.mark.parametrize("name", LINE)
@pytest.mark.parametrize("life_loss_ends_value", [True, False])
def test_returns_of_the_line_are_those_of_its_config(name: str, life_loss_ends_value: bool) -> None:
    env = scripted()
    changes = LEARNED | {"n_step": 2, "warmup_env_steps": 1_000, "life_loss_ends_value": life_loss_ends_value}
    source = of_the_line(name, env, **changes).make_source(env, seed=0)
    play(source, 40)
    content = {observation: transition[1:] for observation, transition in stored(source).items()}
    beyond = 0.0 if life_loss_ends_value else 0.64
    assert content[0, 0, 0] == (0.4, 0.64, [0, 0, 2])  # 0 + 0.8 * 0.5
    assert content[0, 0, 1] == (0.5, 0.64, [0, 0, 3])
    assert content[0, 0, 2][:2] == (-0.4, 0.0)
    assert content[0, 1, 2] == (0.5, 0.8, [0, 1, 3])  # the time limit cuts the window, and the value goes on
    assert content[1, 0, 1][:2] == (0.2, beyond)
    assert content[1, 0, 2][:2] == (0.25, beyond)
    assert content[1, 0, 3][:2] == (0.1, 0.64)
    assert source.metrics()["rollout/score_mean"] == np.mean([2.0, 1.0, 4.75])


@pytest.mark.parametrize("name", LINE)
def test_updates_of_the_line_are_due_when_its_config_says(name: str) -> None:
    env = scripted()
    agent = of_the_line(name, env, batch_size=5, warmup_env_steps=12, train_period_env_steps=6)
    source = agent.make_source(env, seed=0)
    assert source.warmup_env_steps >= 12
    batches = play(source, 60)
    first = -(-(source.warmup_env_steps + 1) // 6) * 6
    assert [batch.env_steps for batch in batches] == list(range(first, 60, 6))
    assert all(len(batch.action) == 5 for batch in batches)


@pytest.mark.parametrize("name", ["prioritized-dqn", "rainbow", "btr"])
def test_priorities_of_the_line_are_those_of_its_config(name: str) -> None:
    env = scripted()
    settings = {"priority_exponent": 0.25, "importance_start": 1.0, "importance_end": 1.0, "n_step": 1}
    source = of_the_line(name, env, warmup_env_steps=1_000, **settings).make_source(env, seed=0)
    play(source, 40)
    memory = source.replay
    pairs = memory.sample(500, np.random.default_rng(0)).indices
    errors = np.where(pairs[:, 0] == 0, 16.0, 1.0)
    memory.update_priorities(pairs, errors)
    np.testing.assert_allclose(leaves_of(memory, pairs), (errors + SMALLEST_PRIORITY) ** 0.25)  # 2 and 1
    source.batch_size = 64
    batch = source._sample()
    assert batch.weights.numpy() == pytest.approx(np.where(batch.indices[:, 0] == 0, 0.5, 1.0), rel=1e-3)


def test_errors_of_an_update_become_priorities() -> None:
    env = scripted()
    agent = of_the_line("prioritized-dqn", env, warmup_env_steps=12, batch_size=4, n_step=1, priority_exponent=1.0)
    source = agent.make_source(env, seed=0)
    while (batch := source.next().batch) is None:
        pass
    outcome = agent.update(batch)
    source.feedback(batch, outcome)
    expected = outcome.per_sample["td_error"].numpy() + SMALLEST_PRIORITY
    np.testing.assert_allclose(leaves_of(source.replay, batch.indices), expected, rtol=1e-5)


# The recurrent one


def recurrent(env: ScriptedEnv, **changes: Any) -> DRQN:
    config = dataclasses.replace(DRQN.presets(env.spec)["default"], **{**SMALL_DRQN, "num_envs": 2, **changes})
    return DRQN(DRQN.resolve(config, 1_000), env.spec.observation_space, env.spec.action_space, seed=0)


@pytest.mark.parametrize("life_loss_ends_value", [True, False])
def test_sequences_are_those_of_the_config(life_loss_ends_value: bool) -> None:
    env = scripted()
    changes = LEARNED | {"unroll_steps": 3, "burn_in": 2, "batch_size": 5, "warmup_env_steps": 20}
    agent = recurrent(env, **changes, train_period_env_steps=4, life_loss_ends_value=life_loss_ends_value)
    source = agent.make_source(env, seed=0)
    batches = play(source, 60)
    assert [batch.env_steps for batch in batches] == list(range(24, 60, 4))
    seen: dict[tuple[float, ...], tuple[float, float]] = {}
    for batch in batches:
        assert isinstance(batch, SequenceBatch)
        assert batch.action.shape == (3, 5) and batch.observation.shape == (2 + 3 + 1, 5, 3)
        for step, row in zip(*np.nonzero(batch.mask.numpy()), strict=True):
            key = tuple(batch.observation[2 + step, row].tolist())
            seen[key] = (round(float(batch.reward[step, row]), 6), round(float(batch.discount[step, row]), 6))
    expected = {
        (0, 0, 1): (0.5, 0.8),
        (0, 0, 3): (-0.5, 0.0),
        (0, 1, 2): (0.5, 0.8),  # the time limit
        (1, 0, 2): (0.25, 0.0 if life_loss_ends_value else 0.8),
        (1, 0, 4): (0.125, 0.8),
        (1, 0, 5): (0.5, 0.0),
    }
    found = {key: seen[key] for key in expected if key in seen}
    assert len(found) >= 5 and found == {key: expected[key] for key in found}


def test_a_recurrent_agent_explores_by_a_coin_of_each_game() -> None:
    env = ScriptedEnv(400)
    agent = recurrent(env, num_envs=400, exploration_start=0.6, exploration_end=0.6)
    observations = np.repeat(env.observe()[:1], 400, axis=0)
    actions, _ = agent.act_with_state(observations, agent.start_state(400), 0, np.random.default_rng(0))
    greedy = int(np.bincount(actions).argmax())
    assert_explored_apart(actions, greedy)


# PQN


def rollouts(env: ScriptedEnv, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, list[Any]]:
    """A source, and a list that takes each rollout with the targets that were made of it."""
    settings = {
        "num_envs": 2,
        "rollout_steps": 8,
        "epochs": 1,
        "minibatches": 2,
        "backbone": f"{Small.__module__}:Small",
    }
    config = dataclasses.replace(PRESETS["vector"]["default"], **{**settings, **changes})
    agent = PQN(PQN.resolve(config, 1_000), env.spec.observation_space, env.spec.action_space, seed=0)
    made: list[Any] = []
    returns = agent.returns

    def recorded(rollout: Rollout) -> Any:
        copy = {field.name: getattr(rollout, field.name).copy() for field in dataclasses.fields(Rollout)}
        made.append((Rollout(**copy), returns(rollout)))
        return made[-1][1]

    def noted(batch: TargetBatch) -> Outcome:
        env.events.append(("update", len(batch.action)))
        return Outcome({})

    monkeypatch.setattr(agent, "returns", recorded)
    monkeypatch.setattr(agent, "update", noted)
    return agent.make_source(env, seed=0), made


@pytest.mark.parametrize("life_loss_ends_value", [True, False])
@pytest.mark.parametrize("trace_decay", [0.0, 0.3, 1.0])
def test_rollouts_and_their_targets_are_those_of_the_config(
    trace_decay: float, life_loss_ends_value: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = scripted()
    changes = LEARNED | {"trace_decay": trace_decay, "life_loss_ends_value": life_loss_ends_value}
    source, made = rollouts(env, monkeypatch, **changes)
    play(source, 16)
    rollout, targets = made[0]
    assert rollout.reward.T.tolist() == [list(lane) for lane in REWARDS]
    discount, trace = np.full((2, 8), 0.8), np.ones((2, 8))
    discount[0, 3] = discount[1, 5] = 0.0  # over
    if life_loss_ends_value:
        discount[1, 2] = 0.0
    trace[0, 3] = trace[0, 6] = trace[1, 5] = 0.0  # the next step is of another game
    np.testing.assert_allclose(rollout.discount.T, discount)
    np.testing.assert_array_equal(rollout.trace.T, trace)
    given = (rollout.reward, rollout.discount, rollout.trace, rollout.next_value)
    np.testing.assert_allclose(targets, weighted_n_step_returns(*given, trace_decay), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overlap", [False, True])
def test_rollouts_are_dealt_out_as_the_config_says(overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    env = scripted()
    source, _ = rollouts(env, monkeypatch, rollout_steps=4, epochs=3, minibatches=4, overlap=overlap)
    play(source, 16)
    updates = [("update", 2)]
    between = [*("send", "recv") * 4, *updates * 12, *("send", "recv") * 4]
    beside = [*("send", "recv") * 4, *(["send", *updates * 3, "recv"] * 4)]
    assert env.events == (beside if overlap else between)


def test_pqn_explores_by_a_coin_of_each_game() -> None:
    env = ScriptedEnv(400)
    config = dataclasses.replace(PRESETS["vector"]["default"], num_envs=400, exploration_start=0.6, exploration_end=0.6)
    agent = PQN(PQN.resolve(config, 1_000), env.spec.observation_space, env.spec.action_space, seed=0)
    observations = np.repeat(env.observe()[:1], 400, axis=0)
    actions, _ = agent.act_and_value(observations, 0, np.random.default_rng(0))
    greedy = int(agent.inspect(observations)["q_values"][0].argmax())
    assert_explored_apart(actions, greedy)


# Stable-Baselines3


@pytest.mark.parametrize("name", ["sb3-dqn", "sb3-qrdqn", "sb3-ppo", "sb3-a2c"])
@pytest.mark.parametrize(("clip", "ends"), [(True, True), (False, False)])
def test_the_library_learns_from_what_the_config_says(name: str, clip: bool, ends: bool) -> None:
    if name == "sb3-qrdqn":
        pytest.importorskip("sb3_contrib")
    env = scripted()
    agent_class = AGENTS.get(name)
    rollout = name in ("sb3-ppo", "sb3-a2c")
    steps: dict[str, Any] = {"rollout_steps": 64} if rollout else {"replay_capacity": 64, "warmup_env_steps": 1_000}
    config = dataclasses.replace(
        agent_class.presets(env.spec)["sb3"],
        num_envs=2,
        hidden_units=8,
        clip_rewards=clip,
        life_loss_ends_value=ends,
        **steps,
        **({"batch_size": 16} if hasattr(agent_class.Config, "batch_size") else {}),
    )
    agent = agent_class(agent_class.resolve(config, 1_000), env.spec.observation_space, env.spec.action_space, seed=0)
    source = agent.make_source(env, seed=0)
    for _ in range(8):
        source.next()
    memory = source.model.rollout_buffer if rollout else source.model.replay_buffer
    plain = np.array([[0, 5, 0, -3, 0, 0, 1, 0], [0, 0, 0.5, 0, 0.25, 4, 0, 0]], np.float32)
    # A rollout's reward at a time limit has the value of what followed added.
    compared = [step for step in range(8) if step != 6]
    expected = np.clip(plain, -1, 1) if clip else plain
    np.testing.assert_allclose(memory.rewards[:8].T[:, compared], expected[:, compared])
    lost = memory.episode_starts[3, 1] if rollout else memory.dones[2, 1]
    assert bool(lost) == ends


# Games that select the best checkpoint


def test_games_on_the_way_have_a_hundredth_of_random_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explored = []
    play_games = agents.training.play_games

    def recorded(*arguments: Any, explore: float, **more: Any) -> Any:
        explored.append(explore)
        return play_games(*arguments, explore=explore, **more)

    monkeypatch.setattr(agents.training, "play_games", recorded)
    monkeypatch.chdir(tmp_path)
    words = ["cartpole", "--steps", "64", "--evaluations", "2", "--evaluation-games", "2", "--no-video"]
    assert run_command([*words, "--device", "cpu", "--wandb", "disabled"]) == 0
    assert explored and set(explored) == {0.01}
