"""DRQN: targets by hand, sequences with padding and burn-in against single ones, memory while it plays, learning."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete

import envs
from agents.core import Purpose
from agents.dqn import DQN
from agents.drqn import DRQN, PRESETS, DRQNConfig, masked_mean, sequence_targets
from agents.play import game_seeds, play_games
from aprendiz.backbones import MLP
from aprendiz.errors import ConfigError
from aprendiz.replay_sequences import SequenceBatch
from aprendiz.testing import check_agent
from envs.core import EnvSpec
from tests.agents.memory_game import MemoryGame

ACTIONS = 2
IMAGE = Box(0, 255, (4, 84, 84), np.uint8)
VECTOR = Box(-1.0, 1.0, (2,), np.float32)
SMALL = {
    "units": 16,
    "num_envs": 8,
    "batch_size": 16,
    "unroll_steps": 6,
    "replay_capacity": 4_000,
    "train_period_env_steps": 16,
    "target_period_env_steps": 100,
    "warmup_env_steps": 100,
    "exploration_env_steps": 500,
    "learning_rate": 3e-3,
    "learning_rate_end": None,
    "reward_scale": 1.0,
}


class Small(MLP):
    """Two layers of 32."""

    def __init__(self, observation_space: Any, *, trunk: bool = False, layer_norm: str = "none") -> None:
        super().__init__(observation_space, hidden=(32, 32), trunk=trunk, layer_norm=layer_norm)


def make_agent(**changes: Any) -> DRQN:
    config = dataclasses.replace(PRESETS["vector"]["default"], backbone=f"{__name__}:Small", **{**SMALL, **changes})
    return DRQN(DRQN.resolve(config, 2_000), VECTOR, Discrete(ACTIONS), seed=0)


def make_batch(length: int, steps: list[int], *, burn_in: int = 0, back: list[int] | None = None) -> SequenceBatch:
    """Noise; `steps` of each sequence are no padding, and `back` of its burn-in."""
    random, count = np.random.default_rng(0), len(steps)
    mask = (np.arange(length)[:, None] < np.array(steps)).astype(np.float32)
    observation = random.standard_normal((burn_in + length + 1, count, 2), dtype=np.float32)
    time = np.arange(-burn_in, length + 1)[:, None]
    observation[(time < -np.array(back or [0] * count)) | (time > np.array(steps))] = 0.0
    discount = np.where(random.random((length, count)) < 0.2, 0.0, 0.9) * mask
    return SequenceBatch(
        observation=torch.from_numpy(observation),
        action=torch.from_numpy(random.integers(0, ACTIONS, (length, count)) * mask.astype(np.int64)),
        reward=torch.from_numpy(random.standard_normal((length, count)).astype(np.float32) * mask),
        discount=torch.from_numpy(discount.astype(np.float32)),
        mask=torch.from_numpy(mask),
        burn_in=np.array(back or [0] * count),
    )


# Targets


def test_targets_by_hand() -> None:
    q_target = torch.tensor([[[9.0, 9.0]], [[1.0, 3.0]], [[5.0, 4.0]]])  # [L + 1, B, A]
    reward, discount = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.0]])
    assert sequence_targets(reward, discount, torch.ones(2, 1), q_target).tolist() == [[2.5], [2.0]]


def test_double_targets_by_hand() -> None:
    q_target = torch.tensor([[[9.0, 9.0]], [[1.0, 3.0]]])
    q_online = torch.tensor([[[0.0, 9.0]], [[2.0, 1.0]]])
    one, half = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    assert sequence_targets(one, half, one, q_target, q_online).tolist() == [[1.5]]


def test_targets_over_two_steps_by_hand() -> None:
    """Three sequences of three steps: a whole one, one whose game is cut off after its second step, one whose game
    ends with its second step."""
    best = torch.tensor([[0.0] * 3, [8.0] * 3, [16.0] * 3, [32.0] * 3])  # [L + 1, B]
    q_target = torch.stack([best, best - 1.0], dim=2)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    discount = 0.5 * mask
    discount[1, 2] = 0.0
    reward = torch.tensor([1.0, 2.0, 4.0])[:, None] * mask
    found = sequence_targets(reward, discount, mask, q_target, n_step=2) * mask
    assert found[:, 0].tolist() == [1.0 + 0.5 * 2.0 + 0.25 * 16.0, 2.0 + 0.5 * 4.0 + 0.25 * 32.0, 4.0 + 0.5 * 32.0]
    assert found[:, 1].tolist() == [1.0 + 0.5 * 2.0 + 0.25 * 16.0, 2.0 + 0.5 * 16.0, 0.0]
    assert found[:, 2].tolist() == [1.0 + 0.5 * 2.0, 2.0, 0.0]


def test_padding_counts_neither_above_nor_below_the_line() -> None:
    assert float(masked_mean(torch.tensor([[1.0, 3.0], [99.0, 5.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))) == 3.0


def read_alone(network: Any, observations: torch.Tensor) -> np.ndarray:
    """Values [T, A] of one sequence [T, ...], step by step from a state of zero."""
    state, values = network.recurrent.start(1), []
    for observation in observations:
        q_values, state = network(observation[None, None], state)
        values.append(q_values[0, 0].detach().numpy())
    return np.stack(values)


@pytest.mark.parametrize("n_step", [1, 3, 9])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("burn_in", [0, 3])
def test_the_loss_equals_a_loop_over_single_sequences(burn_in: int, double: bool, n_step: int) -> None:
    agent = make_agent(burn_in=burn_in, double=double, n_step=n_step)
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for weight in agent.target.parameters():
            weight += 0.1 * torch.randn_like(weight)
    steps = [5, 2, 5, 1]
    back = [0, 1, 3, 2] if burn_in else [0, 0, 0, 0]
    batch = make_batch(5, steps, burn_in=burn_in, back=back)
    errors = []
    for b, (count, before) in enumerate(zip(steps, back, strict=True)):
        seen = batch.observation[burn_in - before : burn_in + count + 1, b]
        q_online, q_target = read_alone(agent.online, seen)[before:], read_alone(agent.target, seen)[before:]
        for t in range(count):
            target, weight = 0.0, 1.0
            last = min(t + n_step, count)
            for k in range(t, last):
                target += weight * float(batch.reward[k, b])
                weight *= float(batch.discount[k, b])
            chooser = q_online[last] if double else q_target[last]
            target += weight * q_target[last][chooser.argmax()]
            error = q_online[t][batch.action[t, b]] - target
            errors.append(F.huber_loss(torch.tensor(error), torch.tensor(0.0)).item())
    assert float(agent.update(batch).metrics["loss"]) == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_burn_in_is_not_learned_from() -> None:
    agent = make_agent(burn_in=2)
    batch = make_batch(3, [3, 3], burn_in=2, back=[2, 2])
    before = batch.observation[:2].requires_grad_()
    batch.observation = torch.cat([before, batch.observation[2:].detach()])
    agent.update(batch)
    assert before.grad is None or not before.grad.any()


def test_the_target_network_follows_by_environment_steps() -> None:
    agent = make_agent(target_period_env_steps=100)
    batch = make_batch(3, [3, 3])
    for env_steps, same in ((60, False), (99, False), (101, True), (160, False)):
        batch.env_steps = env_steps
        agent.update(batch)
        pairs = zip(agent.online.parameters(), agent.target.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs) == same, env_steps


# Memory


def test_a_player_remembers_within_a_game_and_forgets_with_it() -> None:
    agent = make_agent()
    observations = np.random.default_rng(0).standard_normal((4, 2, 2)).astype(np.float32)  # [T, N, 2]
    player, everyone = agent.player(2), np.arange(2)
    for shown in observations[:2]:
        player.act(shown, everyone)
    player.begin(np.array([True, False]))  # in lane 0
    for shown in observations[2:]:
        player.act(shown, everyone)
    thought = player.inspect(observations[3])["q_values"]
    for lane, first in ((0, 2), (1, 0)):
        expected = read_alone(agent.online, torch.from_numpy(observations[first:, lane]))[-1]
        np.testing.assert_allclose(thought[lane], expected, rtol=1e-4, atol=1e-5)


def test_what_is_not_asked_for_is_seen_all_the_same() -> None:
    agent = make_agent()
    observations = np.random.default_rng(0).standard_normal((2, 3, 2)).astype(np.float32)
    player = agent.player(3)
    assert player.act(observations[0], np.array([], np.int64)).shape == (0,)  # all random, or forced
    chosen = player.act(observations[1], np.array([2, 0]))
    for action, lane in zip(chosen, (2, 0), strict=True):
        assert action == read_alone(agent.online, torch.from_numpy(observations[:, lane]))[-1].argmax()


def test_in_training_the_state_goes_on_and_begins_anew_with_each_game() -> None:
    env = MemoryGame(3, delay=2)
    agent = make_agent(num_envs=3)
    source = agent.make_source(env, seed=0)
    seen: list[list[np.ndarray]] = [[], [], []]
    time = 0
    while time < 7:
        for lane in range(3):
            if env.time[lane] == 0:
                seen[lane] = []
            seen[lane].append(source.observation[lane].copy())
        source.next()
        time += 1
        for lane in range(3):
            state = agent.start_state(1)
            if env.time[lane] > 0:  # else the game has ended, and nothing is remembered of it
                _, state = agent.online(torch.from_numpy(np.stack(seen[lane]))[:, None], state)
            np.testing.assert_allclose(source.state[0][:, lane], state[0][:, 0].detach(), atol=1e-5)


def test_a_game_does_not_depend_on_those_beside_it() -> None:
    agent, seeds = make_agent(), game_seeds(0, 6, Purpose.EVALUATION)
    together = play_games(agent, MemoryGame, seeds, explore=0.2).scores
    alone = [play_games(agent, MemoryGame, [seed], explore=0.2).scores[0] for seed in seeds]
    assert together.tolist() == alone


def test_the_learning_rate_falls_with_environment_steps() -> None:
    agent = make_agent(learning_rate=1e-3, learning_rate_end=0.0)
    rates = []
    for at in (0, 500, 2_000, 9_000):
        agent.update(dataclasses.replace(make_batch(4, [4, 4]), env_steps=at))
        rates.append(float(agent.optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([1e-3, 7.5e-4, 0.0, 0.0])


@pytest.mark.parametrize("burn_in", [0, 3])
def test_it_keeps_the_contract(burn_in: int) -> None:
    config = dataclasses.replace(
        PRESETS["vector"]["default"], backbone=f"{__name__}:Small", **{**SMALL, "burn_in": burn_in}
    )
    config = dataclasses.replace(config, warmup_env_steps=None, exploration_env_steps=None, batch_size=4)
    check_agent(DRQN, MemoryGame, config=config, env_steps=160)


def test_it_keeps_the_contract_on_images_whose_games_cannot_be_restored() -> None:
    config = dataclasses.replace(
        PRESETS["image"]["default"], frames=1, units=16, num_envs=2, batch_size=2, unroll_steps=4, replay_capacity=400
    )
    check_agent(DRQN, lambda num_envs: envs.make("pong", num_envs), config=config, env_steps=40)


# Frames


def image_spec(stack: int) -> EnvSpec:
    return EnvSpec(
        name="stacked",
        observation_kind="image",
        observation_space=IMAGE,
        action_space=Discrete(3),
        frame_stack=stack,
        default_env_steps=100,
    )


def test_one_frame_at_a_time_where_frames_are_stacked() -> None:
    assert {config.frames for config in DRQN.presets(image_spec(4)).values()} == {1}
    assert {config.frames for config in DRQN.presets(image_spec(1)).values()} == {None}
    config = DRQN.resolve(dataclasses.replace(DRQN.presets(image_spec(4))["default"], units=8), 100)
    agent = DRQN(config, IMAGE, Discrete(3), seed=0)
    assert agent.online.encoder.conv1.in_channels == 1  # type: ignore[union-attr]
    shown = np.random.default_rng(0).integers(0, 255, (2, 4, 84, 84), dtype=np.uint8)
    before = agent.inspect(shown)["q_values"]
    shown[:, :3] = 0  # older frames
    assert np.array_equal(agent.inspect(shown)["q_values"], before)
    shown[:, 3] = 0
    assert not np.array_equal(agent.inspect(shown)["q_values"], before)


def test_the_residual_network_reads_frames_too_and_may_be_twice_as_wide() -> None:
    config = dataclasses.replace(
        DRQN.presets(image_spec(4))["default"], backbone="impala-cnn", backbone_width=2, units=8
    )
    agent = DRQN(DRQN.resolve(config, 100), IMAGE, Discrete(3), seed=0)
    assert agent.online.encoder.features == 64 * 11 * 11
    assert agent.inspect(np.zeros((2, 4, 84, 84), np.uint8))["q_values"].shape == (2, 3)


def test_frames_are_asked_for_only_where_they_are_stacked() -> None:
    config = DRQN.resolve(dataclasses.replace(PRESETS["vector"]["default"], frames=1), 100)
    with pytest.raises(ConfigError, match="frames 1 asks for the newest frames of a stack"):
        DRQN(config, VECTOR, Discrete(2), seed=0)
    many = DRQN.resolve(dataclasses.replace(PRESETS["image"]["default"], frames=9, units=8), 100)
    with pytest.raises(ConfigError, match="frames 9 asks for more than the 4 that are stacked"):
        DRQN(many, IMAGE, Discrete(2), seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"burn_in": 300}, "burn_in must lie between 0 and 250"),
        ({"unroll_steps": 0}, "unroll_steps must be at least 1"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"backbone_width": 0}, "backbone_width must be at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DRQNConfig(**changes)


# Learning


def train(agent: Any, env_steps: int) -> float:
    """Mean score of 32 games after so many steps."""
    source = agent.make_source(MemoryGame(agent.config.num_envs), seed=0)
    while source.env_steps < env_steps:
        work = source.next()
        if work.batch is not None:
            agent.update(work.batch)
    return float(play_games(agent, MemoryGame, game_seeds(0, 32, Purpose.EVALUATION), explore=0.0).scores.mean())


def test_drqn_learns_what_only_a_memory_can() -> None:
    assert train(make_agent(), 1_200) == 1.0  # every game won


def test_a_network_without_a_memory_does_not() -> None:
    spec = MemoryGame(1).spec
    shared = {name: value for name, value in SMALL.items() if name not in ("units", "unroll_steps")}
    config = dataclasses.replace(DQN.presets(spec)["default"], backbone=f"{__name__}:Small", **shared)
    assert abs(train(DQN(DQN.resolve(config, 2_000), VECTOR, Discrete(2), seed=0), 1_200)) < 0.6  # chance: 0


def test_what_would_be_thought_of_other_pictures_is_asked_as_a_gpu_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our own kernels: PyTorch's layers, and cuDNN, take a state of the right size and in one piece."""
    monkeypatch.setattr("aprendiz.recurrent.network._fusible", lambda tensor: False)
    states: list[torch.Tensor] = []
    forward = torch.nn.LSTM.forward

    def watched(self: torch.nn.LSTM, features: torch.Tensor, state: Any) -> Any:
        states.extend(state)
        return forward(self, features, state)

    monkeypatch.setattr(torch.nn.LSTM, "forward", watched)
    player, random = make_agent().player(1), np.random.default_rng(0)
    shown = random.standard_normal((3, 1, 2), dtype=np.float32)
    for one in shown:
        player.act(one, np.array([0]))
    imagined = player.imagine(np.repeat(shown[-1], 4, axis=0))["q_values"]
    assert imagined == pytest.approx(np.repeat(player.inspect(shown[-1])["q_values"], 4, axis=0), abs=1e-6)
    assert [tuple(state.shape) for state in states[-2:]] == [(1, 4, 16)] * 2
    assert all(state.is_contiguous() for state in states)
