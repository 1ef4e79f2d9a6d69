"""`aprendiz.testing.check_env` finds the mistakes that it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import envs
from aprendiz.testing import check_env
from envs.core import Step

MAP = "S..G/.#.P/...."


class Broken:
    """A correct environment, one of whose answers is spoilt."""

    def __init__(self, num_envs: int, spoil: Callable[[Step], None], state: Callable[[dict], dict] = dict) -> None:
        self._env = envs.make("gridworld", num_envs, map=MAP, time_limit_steps=12)
        self._spoil, self._state = spoil, state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def recv(self) -> Step:
        step = self._env.recv()
        self._spoil(step)
        return step

    def step(self, actions: np.ndarray) -> Step:
        self._env.send(actions)
        return self.recv()

    def state_dict(self) -> dict:
        return self._state(self._env.state_dict())


def lose_final_observation(step: Step) -> None:
    step.final_observation = step.final_observation.astype(np.int32)


def call_truncation_termination(step: Step) -> None:
    step.terminated |= step.truncated


def clip_rewards(step: Step) -> None:
    np.clip(step.reward, -0.01, 0.01, out=step.reward)


def report_the_next_game_s_length(step: Step) -> None:
    step.length[step.ended] = 0


def mark_a_lost_life_at_the_end(step: Step) -> None:
    step.life_lost |= step.ended


def force_an_action(step: Step) -> None:
    step.forced_action[:] = 1


def show_another_final_observation(step: Step) -> None:
    step.final_observation[~step.ended] = 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose_final_observation, "dtype int32"),
        (call_truncation_termination, "both terminated and truncated"),
        (clip_rewards, "not the sum of the rewards"),
        (report_the_next_game_s_length, "number of steps of the whole game"),
        (mark_a_lost_life_at_the_end, "life_lost"),
        (force_an_action, "forced"),
        (show_another_final_observation, "differs from observation where no game ended"),
    ],
)
def test_a_spoilt_step_is_found(spoil: Callable[[Step], None], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_env(lambda num_envs: Broken(num_envs, spoil), steps=80)


def test_the_unspoilt_one_passes() -> None:
    check_env(lambda num_envs: Broken(num_envs, lambda step: None), steps=80)


def test_a_state_that_forgets_the_random_generators_is_found() -> None:
    def forget(state: dict) -> dict:
        return state | {"random": [np.random.default_rng(0).bit_generator.state for _ in state["random"]]}

    with pytest.raises(AssertionError, match="restored environment plays differently"):
        check_env(lambda num_envs: Broken(num_envs, lambda step: None, forget), steps=80)


def test_an_array_that_is_written_to_later_is_found() -> None:
    kept: dict[str, np.ndarray] = {}

    def reuse(step: Step) -> None:
        array = kept.setdefault("observation", step.observation)
        array[:] = step.observation
        if not step.ended.any():
            step.final_observation = array
        step.observation = array

    with pytest.raises(AssertionError, match="written to later"):
        check_env(lambda num_envs: Broken(num_envs, reuse), steps=80)


def test_games_that_ignore_the_seed_are_found() -> None:
    drift = iter(range(10**9))

    def wander(step: Step) -> None:
        step.reward += np.float32(next(drift) % 7 * 1e-6)

    with pytest.raises(AssertionError, match="play differently|same games again"):
        check_env(lambda num_envs: Broken(num_envs, wander), steps=80)
