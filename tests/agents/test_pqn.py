"""PQN: lambda-returns by hand and against two other ways to compute them, rollouts, their order, saving, learning."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import envs
from agents.core import Purpose
from agents.play import game_seeds, play_games
from agents.pqn import PQN, PRESETS, PQNConfig, lambda_returns
from agents.rollout_source import Rollout, RolloutSource, TargetBatch
from aprendiz.backbones import MLP
from aprendiz.device import CapturedStep
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.testing import check_agent
from aprendiz.testing.common import difference, through_a_checkpoint
from tests.agents.test_acting import FIRE, LIFE_LOST, OVER, TIME_LIMIT, Event, ScriptedEnv
from tests.cuda_graphs import pretend

VECTOR = Box(-1.0, 1.0, (4,), np.float32)
IMAGE = Box(0, 255, (4, 84, 84), np.uint8)


class Small(MLP):
    """Two layers of 64."""

    def __init__(self, observation_space: Any, *, trunk: bool = False, layer_norm: str = "none") -> None:
        super().__init__(observation_space, hidden=(64, 64), trunk=trunk, layer_norm=layer_norm)


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers)[:, None]


# Lambda-returns


def test_lambda_returns_by_hand() -> None:
    returns = lambda_returns(column(1, 2, 3), column(0.5, 0.5, 0.5), column(1, 1, 1), column(10, 20, 40), 0.5)
    # 3 + 0.5 * 40 = 23;  2 + 0.5 * (20 + 23) / 2 = 12.75;  1 + 0.5 * (10 + 12.75) / 2 = 6.6875
    assert returns[:, 0].tolist() == [6.6875, 12.75, 23.0]


def test_nothing_follows_the_end_of_a_game() -> None:
    returns = lambda_returns(column(1, 2), column(0.0, 0.5), column(0, 1), column(99, 20), 0.5)
    assert returns[:, 0].tolist() == [1.0, 12.0]


def test_at_a_time_limit_the_value_stands_for_the_rest() -> None:
    returns = lambda_returns(column(1, 2), column(0.5, 0.5), column(0, 1), column(10, 20), 0.5)
    assert returns[:, 0].tolist() == [6.0, 12.0]  # 1 + 0.5 * 10, whatever the next game earns


def test_without_lambda_each_step_bootstraps_and_with_all_of_it_only_the_last() -> None:
    given = (column(1, 2), column(0.5, 0.5), column(1, 1), column(10, 20))
    assert lambda_returns(*given, 0.0)[:, 0].tolist() == [6.0, 12.0]
    assert lambda_returns(*given, 1.0)[:, 0].tolist() == [7.0, 12.0]


def weighted_n_step_returns(
    reward: np.ndarray, discount: np.ndarray, trace: np.ndarray, next_value: np.ndarray, decay: float
) -> np.ndarray:
    """The forward view: (1 - lambda) sum_n lambda^(n-1) G^(n), the last n-step return with the rest of the weight."""
    steps, lanes = reward.shape
    returns = np.zeros((steps, lanes))
    for lane in range(lanes):
        for start in range(steps):
            last = start
            while last < steps - 1 and trace[last, lane] and discount[last, lane]:
                last += 1
            weight_left = 1.0
            for stop in range(start, last + 1):
                total, factor = 0.0, 1.0
                for step in range(start, stop + 1):
                    total += factor * reward[step, lane]
                    factor *= discount[step, lane]
                total += factor * next_value[stop, lane]
                weight = weight_left if stop == last else (1.0 - decay) * decay ** (stop - start)
                weight_left -= weight
                returns[start, lane] += weight * total
    return returns


@pytest.mark.parametrize("decay", [0.0, 0.65, 1.0])
def test_lambda_returns_equal_weighted_n_step_returns(decay: float) -> None:
    random = np.random.default_rng(0)
    reward, next_value = random.standard_normal((2, 30, 5))
    over, cut, life_lost = random.random((3, 30, 5)) < 0.15
    discount, trace = np.where(over | life_lost, 0.0, 0.9), np.where(over | cut, 0.0, 1.0)
    expected = weighted_n_step_returns(reward, discount, trace, next_value, decay)
    np.testing.assert_allclose(lambda_returns(reward, discount, trace, next_value, decay), expected, atol=1e-5)


# Rollouts


class Counting:
    """Values an observation (lane, game, step) at 100 lane + 10 game + step, acts by turns, notes what it is asked."""

    def __init__(self, env: ScriptedEnv) -> None:
        self.env, self.turn = env, 0
        self.rollouts: list[Rollout] = []

    def exploration(self, env_steps: int) -> float:
        return 0.5

    def act_and_value(self, observations: np.ndarray, env_steps: int, generator: Any) -> Any:
        self.turn += 1
        return np.full(len(observations), (self.turn - 1) % 5), self.state_values(observations)

    def state_values(self, observations: np.ndarray) -> np.ndarray:
        return (observations @ np.array([100.0, 10.0, 1.0])).astype(np.float32)

    def returns(self, rollout: Rollout) -> np.ndarray:
        copy = {field.name: getattr(rollout, field.name).copy() for field in dataclasses.fields(Rollout)}
        self.rollouts.append(Rollout(**copy))
        return np.arange(rollout.reward.size, dtype=np.float32).reshape(rollout.reward.shape)

    def update(self, batch: TargetBatch) -> Outcome:
        self.env.events.append(("update", batch.env_steps, len(batch.action)))
        return Outcome({})


def make_source(env: ScriptedEnv, **changes: Any) -> tuple[Counting, RolloutSource]:
    agent = Counting(env)
    settings = {"seed": 0, "rollout_steps": 4, "epochs": 2, "minibatches": 2, "discount": 0.9, **changes}
    return agent, RolloutSource(agent, env, **settings)


def go(agent: Counting, source: RolloutSource, env_steps: int, limit: int | None = None) -> list[Any]:
    """Until so many environment steps and a safe point."""
    done, units = [], 0
    while True:
        work = source.next(None if limit is None else limit - units)
        if work.batch is not None:
            source.feedback(work.batch, agent.update(work.batch))
        done.append(work)
        units += work.units
        if work.safe_point and units >= env_steps:
            return done


def test_a_rollout_knows_what_follows_each_step() -> None:
    env = ScriptedEnv(2, {0: {2: Event(5.0, OVER)}, 1: {3: Event(-2.0, TIME_LIMIT)}})
    agent, source = make_source(env)
    go(agent, source, 8)
    rollout = agent.rollouts[0]
    assert rollout.reward.tolist() == [[0, 0], [5, 0], [0, -2], [0, 0]]
    assert rollout.discount.tolist() == np.float32([[0.9, 0.9], [0, 0.9], [0.9, 0.9], [0.9, 0.9]]).tolist()
    assert rollout.trace.tolist() == [[1, 1], [0, 1], [1, 0], [1, 1]]
    # Lane 0: step 1, (over), then step 1 of game 1; lane 1: the time limit's last observation is step 3 of game 0.
    assert rollout.next_value[[0, 2, 3], 0].tolist() == [1, 11, 12]
    assert rollout.next_value[:, 1].tolist() == [101, 102, 103, 111]


def test_a_lost_life_ends_the_value_and_what_the_protocol_presses_is_stored() -> None:
    env = ScriptedEnv(1, {0: {2: Event(1.0, LIFE_LOST)}})
    agent, source = make_source(env, minibatches=1)
    go(agent, source, 4)
    rollout = agent.rollouts[0]
    assert rollout.discount[:, 0].tolist() == np.float32([0.9, 0.0, 0.9, 0.9]).tolist()
    assert rollout.action[:, 0].tolist() == [0, 1, FIRE, 3]
    agent, source = make_source(ScriptedEnv(1, {0: {2: Event(1.0, LIFE_LOST)}}), life_loss_ends_value=False)
    go(agent, source, 4)
    assert agent.rollouts[0].discount.min() == np.float32(0.9)


def test_learned_rewards_are_clipped_and_scaled_and_scores_are_not() -> None:
    env = ScriptedEnv(1, {0: {1: Event(7.0), 3: Event(-3.0, OVER)}})
    agent, source = make_source(env, clip_rewards=True, reward_scale=0.5)
    go(agent, source, 4)
    assert agent.rollouts[0].reward[:, 0].tolist() == [0.5, 0, -0.5, 0]
    assert source.metrics()["rollout/score_mean"] == 4.0


@pytest.mark.parametrize("overlap", [False, True])
def test_every_epoch_deals_out_every_step_once_with_its_own_target(overlap: bool) -> None:
    env = ScriptedEnv(3)
    agent, source = make_source(env, epochs=3, overlap=overlap)
    done = go(agent, source, 3 * 4 * 3)
    batches = [work.batch for work in done if work.batch is not None]
    for epoch in range(3):
        pair = batches[2 * epoch : 2 * epoch + 2]
        targets = torch.cat([batch.target for batch in pair]).numpy().astype(int)
        assert sorted(targets.tolist()) == list(range(12))
        shown = torch.cat([batch.observation for batch in pair]).numpy()
        assert np.array_equal(shown, agent.rollouts[0].observation.reshape(12, 3)[targets])
    orders = [batch.target.tolist() for batch in batches[:6:2]]
    assert orders[0] != orders[1] != orders[2]


def test_rollouts_are_learned_from_before_the_next_is_played() -> None:
    env = ScriptedEnv(2)
    agent, source = make_source(env)
    go(agent, source, 16)
    assert env.events == [
        *("send", "recv") * 4,
        *[("update", 8, 4)] * 4,
        *("send", "recv") * 4,
        *[("update", 16, 4)] * 4,
    ]


def test_overlapped_updates_run_while_the_games_are_stepping() -> None:
    env = ScriptedEnv(2)
    agent, source = make_source(env, overlap=True)
    go(agent, source, 16)
    assert env.events == [*("send", "recv") * 4, *("send", ("update", 8, 4), "recv") * 4]


@pytest.mark.parametrize("overlap", [False, True])
def test_safe_points_are_between_rollouts_and_at_the_end_of_the_budget(overlap: bool) -> None:
    env = ScriptedEnv(2)
    agent, source = make_source(env, overlap=overlap)
    done = go(agent, source, 22, limit=22)
    units = np.cumsum([work.units for work in done])
    assert [int(at) for at, work in zip(units, done, strict=True) if work.safe_point] == [8, 16, 22]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("env_steps", [8, 14])
def test_a_run_goes_on_exactly(env_steps: int, overlap: bool) -> None:
    class Restorable(ScriptedEnv):
        def state_dict(self) -> dict[str, Any]:
            return {"game": self.game.copy(), "length": self.length.copy(), "time": self.time}

        def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
            self.game, self.length = np.array(state["game"]), np.array(state["length"])
            self.time = state["time"]
            return self.observe()

    script = {0: {3: Event(1.0, TIME_LIMIT), 7: Event(1.0, OVER)}}
    whole_agent, whole = make_source(Restorable(2, script), overlap=overlap)
    go(whole_agent, whole, env_steps, limit=env_steps)
    saved = through_a_checkpoint(whole.state_dict())
    turn = whole_agent.turn
    agent, source = make_source(Restorable(2, script), overlap=overlap, seed=9)
    source.load_state_dict(saved)
    agent.turn = turn
    first, second = go(whole_agent, whole, 24), go(agent, source, 24)
    assert not difference(whole.state_dict(), source.state_dict())
    for one, other in zip(first, second, strict=True):
        assert one.units == other.units and (one.batch is None) == (other.batch is None)
        if one.batch is not None:
            assert not difference(vars_of(one.batch), vars_of(other.batch))


def vars_of(batch: TargetBatch) -> dict[str, Any]:
    return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}


def test_games_that_cannot_be_restored_are_cut_off_and_still_have_a_value() -> None:
    agent, source = make_source(ScriptedEnv(1, restorable=False))
    go(agent, source, 2, limit=2)
    saved = through_a_checkpoint(source.state_dict())
    agent, source = make_source(ScriptedEnv(1, restorable=False))
    source.load_state_dict(saved)
    go(agent, source, 2)
    rollout = agent.rollouts[0]
    assert rollout.trace[:, 0].tolist() == [1, 0, 1, 1]
    assert rollout.next_value[:, 0].tolist() == [1, 2, 1001, 1002]  # then game 100 began
    assert rollout.discount.min() == np.float32(0.9)


# The agent


def make_agent(space: Any = VECTOR, *, device: str = "cpu", **changes: Any) -> PQN:
    kind = "image" if space is IMAGE else "vector"
    config = dataclasses.replace(PRESETS[kind]["default"], **changes)
    return PQN(PQN.resolve(config, 10_000), space, Discrete(3), seed=0, device=device)


def make_batch(size: int = 16, env_steps: int = 0) -> TargetBatch:
    random = np.random.default_rng(0)
    return TargetBatch(
        torch.from_numpy(random.standard_normal((size, 4), dtype=np.float32)),
        torch.from_numpy(random.integers(0, 3, size)),
        torch.from_numpy(random.standard_normal(size, dtype=np.float32)),
        env_steps,
    )


def test_the_loss_is_half_the_mean_squared_error() -> None:
    agent, batch = make_agent(), make_batch()
    q_values = agent.inspect(batch.observation.numpy())["q_values"]
    expected = np.mean([0.5 * (q_values[i, a] - batch.target[i]) ** 2 for i, a in enumerate(batch.action)])
    assert float(agent.update(batch).metrics["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_actions_and_values_come_from_one_pass_and_agree() -> None:
    agent = make_agent(exploration_start=0.0, exploration_end=0.0)
    observations = make_batch().observation.numpy()
    actions, values = agent.act_and_value(observations, 0, np.random.default_rng(0))
    q_values = agent.inspect(observations)["q_values"]
    assert np.array_equal(actions, q_values.argmax(axis=1)) and np.array_equal(values, q_values.max(axis=1))
    assert np.array_equal(agent.state_values(observations), values)


def test_the_learning_rate_falls_by_environment_steps() -> None:
    agent = make_agent(learning_rate=1e-3, learning_rate_end=0.0)
    agent.update(make_batch(env_steps=7_500))
    assert agent.optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-4)


def test_the_warm_up_of_a_captured_update_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    ours, eager = make_agent(), make_agent()
    batch = make_batch()
    inputs = {"observation": batch.observation, "action": batch.action, "target": batch.target}
    CapturedStep(ours._gradient_step, inputs, ours._tensors)
    eager._gradient_step(inputs)
    for name, tensor in ours.network.state_dict().items():
        torch.testing.assert_close(tensor, eager.network.state_dict()[name])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_updates_equal_eager_ones() -> None:
    captured, eager = (make_agent(device="cuda", learning_rate_end=1e-5) for _ in range(2))
    eager._captured = eager._gradient_step  # type: ignore[assignment]
    for number in range(8):  # past the first steps of RAdam, which it holds back
        batch = make_batch(env_steps=1_000 * number)
        batch = TargetBatch(batch.observation.cuda(), batch.action.cuda(), batch.target.cuda(), batch.env_steps)
        ours, theirs = captured.update(batch).metrics, eager.update(batch).metrics
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
    for name, tensor in captured.network.state_dict().items():
        torch.testing.assert_close(tensor, eager.network.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_every_layer_but_the_last_is_normalised() -> None:
    norms = [name for name, part in make_agent(IMAGE).network.named_modules() if isinstance(part, torch.nn.LayerNorm)]
    assert len(norms) == 4


def test_the_residual_network_may_read_too() -> None:
    agent = make_agent(IMAGE, backbone="impala-cnn", backbone_width=2)
    assert agent.inspect(np.zeros((2, 4, 84, 84), np.uint8))["q_values"].shape == (2, 3)


def test_the_paper_s_numbers() -> None:
    paper = PRESETS["image"]["paper"]
    assert (paper.num_envs, paper.rollout_steps, paper.epochs, paper.minibatches) == (128, 32, 2, 32)
    assert (paper.trace_decay, paper.learning_rate, paper.max_gradient_norm) == (0.65, 2.5e-4, 10.0)
    assert (paper.discount, paper.exploration_end, paper.overlap) == (0.99, 0.001, False)
    assert PQN.resolve(paper, 50_000_000).exploration_env_steps == 5_000_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"minibatches": 3}, "minibatches 3 does not divide the 1024 steps"),
        ({"rollout_steps": 0}, "rollout_steps must be at least 1"),
        ({"trace_decay": 1.5}, "trace_decay must lie between 0 and 1"),
        ({"reward_scale": 0.0}, "reward_scale must be above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PQNConfig(**changes)


def test_an_overlapped_run_keeps_the_contract() -> None:
    config = dataclasses.replace(
        PRESETS["vector"]["default"], backbone=f"{__name__}:Small", rollout_steps=4, overlap=True
    )
    check_agent(PQN, lambda num_envs: envs.make("cartpole", num_envs), config=config, env_steps=160)


def test_it_keeps_the_contract_on_images_whose_games_cannot_be_restored() -> None:
    config = dataclasses.replace(PRESETS["image"]["default"], num_envs=2, rollout_steps=4, minibatches=2)
    check_agent(PQN, lambda num_envs: envs.make("pong", num_envs), config=config, env_steps=8)


def test_pqn_learns_cartpole_better_than_chance() -> None:
    make_env = lambda games: envs.make("cartpole", games)  # noqa: E731
    spec = make_env(1).spec
    config = PQN.resolve(PQN.presets(spec)["default"], 50_000)
    agent = PQN(config, spec.observation_space, spec.action_space, seed=0)
    source = agent.make_source(make_env(config.num_envs), seed=0)
    while source.env_steps < 8_000:
        work = source.next()
        if work.batch is not None:
            agent.update(work.batch)
    scores = play_games(agent, make_env, game_seeds(0, 20, Purpose.EVALUATION), explore=0.0).scores
    assert scores.mean() > 100  # uniformly random play: 22
