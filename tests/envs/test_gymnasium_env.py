"""The adapter plays exactly what Gymnasium plays, in a batch, and can stop and go on in the middle of games."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from aprendiz.errors import ConfigError, EnvError
from aprendiz.testing import check_env
from envs.gymnasium_env import GymnasiumEnv

CONTROL = ["cartpole", "acrobot", "mountain-car"]
TABULAR = ["frozen-lake", "frozen-lake-8x8", "taxi", "cliff-walking"]


class Camera(gymnasium.Env):
    """Ends after three steps, terminated and truncated at once; shows how many steps were made as a red square."""

    observation_space = gymnasium.spaces.Box(0, 255, (6, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2, start=5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.made = 0
        return self._picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert action in (5, 6)
        self.made += 1
        return self._picture(), float(action), self.made == 3, self.made == 3, {}

    def _picture(self) -> np.ndarray:
        picture = np.zeros((6, 8, 3), np.uint8)
        picture[:2, :3, 0] = 10 + self.made
        return picture


@pytest.fixture
def camera() -> Iterator[str]:
    gymnasium.register("AprendizCamera-v0", lambda **_: Camera(), max_episode_steps=50)
    yield "gym:AprendizCamera-v0"
    del gymnasium.registry["AprendizCamera-v0"]


@pytest.mark.parametrize("name", [*CONTROL, *TABULAR, "gym:Blackjack-v1"])
def test_conforms(name: str) -> None:
    check_env(lambda num_envs: envs.make(name, num_envs), steps=250)


@pytest.mark.parametrize(("name", "gymnasium_id"), [("cartpole", "CartPole-v1"), ("mountain-car", "MountainCar-v0")])
def test_a_lane_is_gymnasium_s_own_game_with_its_true_last_observation(name: str, gymnasium_id: str) -> None:
    env, raw = envs.make(name, 2), gymnasium.make(gymnasium_id)
    observation = env.reset([3, 11])
    expected, _ = raw.reset(seed=11)
    actions = np.random.default_rng(0).integers(0, env.spec.num_actions, (450, 2))
    ends = 0
    for action in actions:
        assert np.array_equal(observation[1], expected)
        step = env.step(action)
        expected, reward, terminated, truncated, _ = raw.step(int(action[1]))
        assert step.reward[1] == np.float32(reward)
        assert (step.terminated[1], step.truncated[1]) == (terminated, truncated)
        assert np.array_equal(step.final_observation[1], expected)
        if terminated or truncated:
            ends += 1
            expected, _ = raw.reset()
        observation = step.observation
    assert ends >= 2


def test_the_time_limit_is_a_truncation_and_a_fallen_pole_a_termination() -> None:
    env = envs.make("mountain-car", 1)
    env.reset(0)
    steps = [env.step(np.array([1])) for _ in range(200)]
    assert steps[-1].truncated[0] and not steps[-1].terminated[0]
    assert steps[-1].length[0] == 200 and steps[-1].score[0] == -200.0
    env = envs.make("cartpole", 1)
    env.reset(0)
    ended = next(step for step in (env.step(np.array([0])) for _ in range(50)) if step.ended[0])
    assert ended.terminated[0] and not ended.truncated[0]


def test_images_become_channels_first_and_terminated_wins_over_truncated(camera: str) -> None:
    env = envs.make(camera, 2)
    observation = env.reset(0)
    assert env.spec.observation_kind == "image" and observation.shape == (2, 3, 6, 8)
    assert observation[0, 0, 0, 0] == 10 and observation[0, 1].max() == 0
    steps = [env.step(np.array([0, 1])) for _ in range(3)]
    assert steps[-1].terminated.all() and not steps[-1].truncated.any()
    assert steps[-1].final_observation[0, 0, 0, 0] == 13 and steps[-1].observation[0, 0, 0, 0] == 10
    assert steps[-1].score.tolist() == [15.0, 18.0]  # actions count from 0 here and from 5 there
    assert not env.spec.restorable
    check_env(lambda num_envs: envs.make(camera, num_envs), steps=20)


def _numbers(env: Any, observation: np.ndarray, steps: int) -> list[Any]:
    generator = np.random.default_rng(99)
    result = [observation.tolist()]
    for _ in range(steps):
        step = env.step(generator.integers(0, env.spec.num_actions, env.num_envs))
        ended = step.ended
        result += [step.observation.tolist(), step.final_observation.tolist(), step.reward.tolist()]
        result += [step.terminated.tolist(), step.truncated.tolist(), step.score[ended].tolist()]
    return result


def _through_json(state: Any) -> Any:
    """The state as a file would give it back: arrays beside JSON text."""
    if isinstance(state, dict):
        return {key: _through_json(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_through_json(value) for value in state]
    return state.copy() if isinstance(state, np.ndarray) else json.loads(json.dumps(state))


@pytest.mark.parametrize("name", [*CONTROL, *TABULAR, "gym:Blackjack-v1"])
def test_saved_games_continue_exactly_in_a_new_environment(name: str) -> None:
    env = envs.make(name, 2)
    _numbers(env, env.reset(4), 200)
    state = _through_json(env.state_dict())
    uninterrupted = _numbers(env, state["observation"], 300)
    fresh = envs.make(name, 2)
    assert _numbers(fresh, fresh.load_state_dict(state), 300) == uninterrupted
    assert _numbers(env, env.load_state_dict(state), 300) == uninterrupted


def test_a_restored_game_still_draws_its_picture() -> None:
    env, shown = envs.make("cartpole", 1), envs.make("cartpole", 1, render=True)
    env.reset(0)
    shown.reset(1)
    before = shown.render()
    shown.load_state_dict(env.state_dict())
    picture = shown.render()
    assert picture.shape == before.shape == (400, 600, 3) and picture.dtype == np.uint8
    with pytest.raises(EnvError, match="render=True"):
        env.render()


def test_a_state_with_another_number_of_games_is_refused() -> None:
    env = envs.make("cartpole", 2)
    env.reset(0)
    with pytest.raises(EnvError, match="num_envs=2"):
        envs.make("cartpole", 3).load_state_dict(env.state_dict())


@pytest.mark.parametrize("name", [*TABULAR, "gridworld", "slippery-gridworld", "blackjack-cards"])
def test_the_table_holds_every_transition_that_happens(name: str) -> None:
    env = envs.make(name, 2)
    table = env.table()
    assert table is not None
    assert np.allclose(table.probability.sum(2), 1.0) and table.initial.sum() == pytest.approx(1.0)
    assert not table.probability[np.isnan(table.reward)].any()
    generator = np.random.default_rng(1)
    state = env.reset(1)
    assert (table.initial[state] > 0).all()
    for _ in range(500):
        action = generator.integers(0, env.spec.num_actions, 2)
        step = env.step(action)
        for lane in range(2):
            at = state[lane], action[lane]
            matching = (
                (table.next_state[at] == step.final_observation[lane])
                & np.isclose(table.reward[at], step.reward[lane])
                & (table.terminated[at] == step.terminated[lane])
            )
            assert table.probability[at][matching].sum() > 0
            if step.ended[lane]:
                assert table.initial[step.observation[lane]] > 0
        state = step.observation


def test_slippery_ice_has_three_outcomes_and_its_own_limit() -> None:
    table = envs.make("frozen-lake", 1).table()
    assert table is not None and table.time_limit == 100
    assert sorted(table.next_state[0, 2].tolist()) == [0, 1, 4]  # right of the start: up stays, right, down
    assert table.probability[0, 2].tolist() == pytest.approx([1 / 3] * 3)
    assert table.terminated[14, 2].sum() == 1 and table.reward[14, 2].sum() == 1.0  # beside the goal
    large = envs.make("frozen-lake", 1, map_name="8x8", is_slippery=False).table()
    assert large is not None and large.next_state.shape == (64, 4, 1) and large.time_limit == 200


def test_there_is_no_table_where_it_would_not_tell_the_whole_story() -> None:
    assert envs.make("cartpole", 1).table() is None
    assert envs.make("taxi", 1, fickle_passenger=True).table() is None


class Coin(gymnasium.Env):
    """Somebody else's: tells its probabilities as toy text does, and cannot be restored."""

    observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(1)

    def __init__(self) -> None:
        self.P = {state: {0: [(0.25, 0, 1.0, False), (0.75, 1, 0.0, True)]} for state in range(2)}
        self.initial_state_distrib = np.array([1.0, 0.0])

    def reset(self, **_: Any) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 1, 0.0, True, False, {}


def coin(wrap: Any = None) -> GymnasiumEnv:
    limited = lambda: gymnasium.wrappers.TimeLimit(gymnasium.wrappers.OrderEnforcing(Coin()), 9)  # noqa: E731
    return GymnasiumEnv("coin", "coin", 1, False, 0, 100, {}, make=limited, wrap=wrap)


def test_an_environment_of_somebody_else_may_tell_its_probabilities() -> None:
    env = coin()
    table = env.table()
    assert table is not None and not env.spec.restorable
    assert table.probability.tolist() == [[[0.25, 0.75]]] * 2 and table.initial.tolist() == [1.0, 0.0]
    assert table.time_limit == env.spec.protocol["time_limit_steps"] == 9
    assert table.terminated.tolist() == [[[False, True]]] * 2 and table.reward[0].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("row", [(0.5, 0, 1.0, False), (0.25, 0, float("nan"), False), (-0.25, 0, 1.0, False)])
def test_a_table_that_is_none_of_probabilities_is_told(row: tuple[Any, ...]) -> None:
    env = coin()
    env._raw[0].P[0][0][0] = row  # type: ignore[attr-defined]
    with pytest.raises(EnvError, match="coin: rewards in `P` must be finite, probabilities of an action add up to 1"):
        env.table()


@pytest.mark.parametrize("changes", [{"action_space": gymnasium.spaces.Discrete(1, start=1)}, {"P": [[]]}])
def test_a_table_of_another_shape_is_none(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    env = coin()
    for name, value in changes.items():
        monkeypatch.setattr(env.first, name, value)
    assert env.table() is None


def test_what_an_id_is_registered_with_is_told_in_words_that_last() -> None:
    def maker() -> gymnasium.Env:
        return Coin()

    gymnasium.register("OfFunctions-v0", entry_point=lambda maker: maker(), kwargs={"maker": maker})
    told = GymnasiumEnv("coin", "OfFunctions-v0", 1, False, 0, 100, {}).spec.protocol["registered"]["maker"]
    assert told.endswith("words_that_last.<locals>.maker") and "0x" not in told


def test_a_wrapper_may_change_what_a_table_says() -> None:
    assert coin(lambda env: gymnasium.wrappers.TransformReward(env, lambda reward: 2 * reward)).table() is None


def test_blackjack_s_three_numbers_become_one() -> None:
    env = envs.make("gym:Blackjack-v1", 1)
    assert env.spec.observation_kind == "discrete" and env.spec.observation_space.n == 32 * 11 * 2  # type: ignore[attr-defined]
    raw = gymnasium.make("Blackjack-v1")
    (total, dealer, ace), _ = raw.reset(seed=6)
    assert env.reset([6]).tolist() == [(total * 11 + dealer) * 2 + ace]


def test_what_is_solved_is_gymnasium_s_threshold_for_the_unchanged_task() -> None:
    assert envs.make("cartpole", 1).spec.solved_score == 475.0
    assert envs.make("cartpole", 1, time_limit_steps=50).spec.solved_score is None
    assert envs.make("frozen-lake", 1, is_slippery=False).spec.solved_score is None
    assert envs.make("mountain-car", 1).spec.protocol["time_limit_steps"] == 200


def test_a_variant_of_an_atari_game_says_what_it_is() -> None:
    pytest.importorskip("ale_py")
    protocol = envs.make("gym:ALE/Breakout-v5", 1).spec.protocol
    assert protocol["id"] == "ALE/Breakout-v5"
    assert protocol["registered"]["repeat_action_probability"] == 0.25 and protocol["registered"]["frameskip"] == 4


def test_an_unknown_id_and_a_missing_package_are_told_in_one_line() -> None:
    with pytest.raises(EnvError, match="Nowhere"):
        envs.make("gym:Nowhere-v0", 1)
    if importlib.util.find_spec("Box2D") is None:
        with pytest.raises(EnvError, match=r"gymnasium\[box2d\]") as caught:
            envs.make("lunar-lander", 1)
        assert "\n" not in str(caught.value)


def test_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="4x4 and 8x8"):
        envs.make("frozen-lake", 1, map_name="5x5")
    with pytest.raises(ConfigError, match="time_limit_steps"):
        envs.make("cartpole", 1, time_limit_steps=-1)
    env = envs.make("cartpole", 1)
    env.reset(0)
    with pytest.raises(EnvError, match="0 to 1"):
        env.step(np.array([2]))
