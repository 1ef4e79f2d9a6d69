"""`aprendiz.testing.check_env` finds the mistakes that it is there to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

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


class Stacked(Broken):
    """The same, shown as a stack of four pictures of 2x2, of which `show` makes something else."""

    def __init__(self, num_envs: int, show: Callable[[np.ndarray, bool], np.ndarray], channels: int = 4) -> None:
        super().__init__(num_envs, lambda step: None)
        self._show = show
        space = Box(0, 255, (channels, 2, 2), np.uint8)
        self.spec = dataclasses.replace(
            self._env.spec, observation_kind="image", observation_space=space, frame_stack=4, restorable=False
        )

    def _pictures(self, numbers: np.ndarray) -> np.ndarray:
        return np.repeat(1 + numbers.astype(np.uint8), 4).reshape(len(numbers), 2, 2)

    def _stacks(self) -> np.ndarray:
        channels = self.spec.observation_space.shape[0]
        zeros = [np.zeros((2, 2), np.uint8)] * channels
        return np.stack([self._show(np.stack((zeros + lane)[-channels:]), len(lane) == 1) for lane in self._seen])

    def _begin(self, numbers: np.ndarray) -> np.ndarray:
        self._seen = [[picture] for picture in self._pictures(numbers)]
        return self._stacks()

    def reset(self, seed: int | list[int]) -> np.ndarray:
        return self._begin(self._env.reset(seed))

    def load_state_dict(self, state: dict) -> np.ndarray:
        return self._begin(self._env.load_state_dict(state))

    def recv(self) -> Step:
        step = self._env.recv()
        for lane, picture in zip(self._seen, self._pictures(step.final_observation), strict=True):
            lane.append(picture)
        step.final_observation = self._stacks()
        for lane, picture in enumerate(self._pictures(step.observation)):
            if step.ended[lane]:
                self._seen[lane] = [picture]
        step.observation = self._stacks()
        return step


def test_stacks_as_they_should_be_pass() -> None:
    check_env(lambda num_envs: Stacked(num_envs, lambda stack, first: stack), steps=80)


def repeat_the_first(stack: np.ndarray, first: bool) -> np.ndarray:
    return np.repeat(stack[-1:], len(stack), axis=0) if first else stack


def newest_first(stack: np.ndarray, first: bool) -> np.ndarray:
    return stack[::-1].copy()


def every_second(stack: np.ndarray, first: bool) -> np.ndarray:
    return stack[[0, 0, 1, 3]]


@pytest.mark.parametrize(
    ("show", "channels", "said"),
    [
        (repeat_the_first, 4, "before the first one of a game are not zero"),
        (newest_first, 4, "not zero"),
        (every_second, 4, "without its oldest frame and with a new one"),
        (lambda stack, first: stack, 12, "12 channels are not so many grey frames"),
    ],
)
def test_stacks_that_a_replay_memory_cannot_put_together_are_found(show: Any, channels: int, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_env(lambda num_envs: Stacked(num_envs, show, channels), steps=80)
