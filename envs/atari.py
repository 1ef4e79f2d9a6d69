"""Atari 2600 games, stepped by the Arcade Learning Environment's own C++ threads.

The observation is that of Mnih et al. 2015: the last 4 grey frames of 84x84, 4 screens apart, each the maximum of two
consecutive screens. A lost life never resets the game: it is reported, and the game is played to its end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aprendiz.errors import ConfigError, EnvError
from envs.atari_scores import SCORES, SOURCE
from envs.core import Env, EnvSpec, Step, check_actions, check_lanes, check_num_envs, lane_seeds

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

FRAMES_PER_STEP = 4
FRAME_STACK = 4
NO_OP_LIMIT = 31


def atari(
    name: str,
    num_envs: int,
    *,
    render: bool = False,
    sticky: float = 0.0,
    num_threads: int = 0,
    time_limit_steps: int = 27_000,
) -> AtariEnv:
    """N games of one cartridge; `name` as in `space-invaders`.

    `sticky` is the probability that the console repeats the previous action, drawn on each frame (Machado et al. 2018
    use 0.25). `num_threads` 0 takes all cores, at most N. The default time limit is 108,000 frames, half an hour.
    Raises EnvError where ale-py or the game is missing, or the game needs two players; ConfigError for option values.
    """
    return AtariEnv(name, num_envs, render, sticky, num_threads, time_limit_steps)


class AtariEnv(Env):
    """Games in progress cannot be saved: `load_state_dict` starts new ones, the same ones from the same state."""

    def __init__(
        self, name: str, num_envs: int, render: bool, sticky: float, num_threads: int, time_limit_steps: int
    ) -> None:
        self.num_envs = check_num_envs(num_envs)
        if not 0.0 <= sticky < 1.0:
            raise ConfigError(f"sticky is {sticky}; it is a probability: 0.0 (never) up to below 1.0, usually 0.25")
        if num_threads < 0:
            raise ConfigError(f"num_threads is {num_threads}; give 1 or more, or 0 for all cores")
        if time_limit_steps < 1:
            raise ConfigError(f"time_limit_steps is {time_limit_steps}; it must be at least 1 (27,000 is half an hour)")
        rom = _rom(name)
        self._threads = num_threads or min(num_envs, _cores())
        self._rom, self._sticky, self._frame_limit = rom, sticky, time_limit_steps * FRAMES_PER_STEP
        self._vector = self._make(grayscale=True, stack_num=FRAME_STACK, img_height=84, img_width=84)
        self._interface = self._vector.ale
        actions = [action.name for action in self._interface.get_action_set()]
        self._num_actions = len(actions)
        self._fire = actions.index("FIRE") if "FIRE" in actions else -1
        self._colour: AtariVectorEnv | None = None
        if render:
            height, width = _screen_size(rom)
            self._colour = self._make(grayscale=False, stack_num=1, img_height=height, img_width=width)
        random_score, human_score = SCORES.get(name, (None, None))
        self.spec = EnvSpec(
            name=name,
            observation_kind="image",
            observation_space=self._vector.single_observation_space,
            action_space=self._vector.single_action_space,
            frame_stack=FRAME_STACK,
            protocol={
                "suite": "Arcade Learning Environment",
                "frames_per_step": FRAMES_PER_STEP,
                "max_pooled_frames": 2,
                "frame_stack_padding": "zeros",
                # ALE draws a number below the limit, and FIRE on reset counts as one of them.
                "no_op_frames_max": NO_OP_LIMIT - 1,
                "sticky_actions": sticky,
                "fire_on_reset": self._fire >= 0,
                "fire_after_lost_life": self._fire >= 0,
                "lost_life": "zero discount while learning; the game goes on",
                "rewards": "unclipped in scores",
                "score": "whole games",
                "time_limit_steps": time_limit_steps,
                "action_set": actions,
            },
            default_env_steps=10_000_000,
            random_score=random_score,
            human_score=human_score,
            score_source=SOURCE if name in SCORES else "",
            overlapped=True,
            restorable=False,
        )
        self._strengths = [1.0] * num_envs
        self._no_action = np.full(num_envs, -1, np.int64)
        self._score = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int64)
        self._lives = np.zeros(num_envs, np.int32)
        self._steps = self._restores = 0
        self._seeds: list[int] = []
        self._in_flight = False

    def _make(self, **picture: Any) -> AtariVectorEnv:
        from ale_py.vector_env import AtariVectorEnv
        from gymnasium.vector import AutoresetMode

        return AtariVectorEnv(
            self._rom,
            self.num_envs,
            num_threads=self._threads,
            max_num_frames_per_episode=self._frame_limit,
            repeat_action_probability=self._sticky,
            autoreset_mode=AutoresetMode.SAME_STEP,
            frameskip=FRAMES_PER_STEP,
            maxpool=True,
            noop_max=NO_OP_LIMIT,
            use_fire_reset=True,
            # A "life" option of the library would end or reset the game; clipped rewards would hide the score.
            episodic_life=False,
            life_loss_info=False,
            reward_clipping=False,
            **picture,
        )

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        """New games; uint8 [N, 4, 84, 84], whose three older frames are zeros."""
        self._seeds = lane_seeds(seed, self.num_envs)
        self._steps = self._restores = 0
        return self._start(self._seeds)

    def _start(self, seeds: list[int]) -> np.ndarray:
        if self._in_flight:
            raise RuntimeError("a step is in flight: recv() before reset() or load_state_dict()")
        observation, info = self._vector.reset(seed=np.array(seeds))
        if self._colour is not None:
            self._picture, self._colour_info = self._colour.reset(seed=np.array(seeds))
        self._info = info
        self._lives = info["lives"]
        self._score[:] = 0
        self._length[:] = 0
        self._forced = self._no_action
        return observation

    @property
    def forced_action(self) -> np.ndarray:
        return self._forced.copy()

    @property
    def lives(self) -> np.ndarray:
        return self._lives.copy()

    def send(self, actions: np.ndarray) -> None:
        """Start a step and return at once, while the games play in their threads."""
        if self._in_flight or not self._seeds:
            raise RuntimeError(
                "recv() before the next send()" if self._in_flight else "reset() before the first send()"
            )
        # An action that does not exist would leave recv() waiting for ever.
        chosen = check_actions(actions, self.num_envs, self._num_actions, self.spec.name)
        self._interface.send(chosen, self._strengths)  # type: ignore[arg-type]  # lists are what it converts fastest
        if self._colour is not None:
            self._colour.ale.send(chosen, self._strengths)  # type: ignore[arg-type]
        self._in_flight = True

    def recv(self) -> Step:
        """Wait for the games.

        ALE stops looking at the screen once a game ends, so that the newest frame of `final_observation` can be up to
        four screens old.
        """
        if not self._in_flight:
            raise RuntimeError("send() before recv()")
        observation, reward, terminated, truncated, info = self._interface.recv()
        if self._colour is not None:
            self._picture, *self._colour_result, self._colour_info = self._colour.ale.recv()
        self._in_flight = False
        self._info = info
        self._steps += self.num_envs
        self._score += reward
        self._length += 1
        score, length = self._score.copy(), self._length.copy()
        lives = info["lives"]
        life_lost = lives < self._lives
        self._lives = lives
        final_observation = observation
        if "final_obs" in info:
            ended = terminated | truncated
            # The rows of games that go on are uninitialised in final_obs, and lives are those of the next game.
            final_observation = observation.copy()
            final_observation[ended] = info["final_obs"][ended]
            life_lost &= ~ended
            self._score[ended] = 0
            self._length[ended] = 0
        if self._fire >= 0 and life_lost.any():
            forced = np.where(life_lost, self._fire, -1)
        else:
            forced = self._no_action.copy()
        self._forced = forced
        return Step(
            observation,
            reward.astype(np.float32),
            terminated,
            truncated,
            final_observation,
            life_lost,
            forced,
            score,
            length,
        )

    def render(self, lane: int = 0) -> np.ndarray:
        """The screen in the console's own colours and size (210x160, or up to 250x160 for a few games)."""
        if self._colour is None:
            raise EnvError(f"{self.spec.name} was made without pictures; make it with render=True")
        return self._picture[lane, 0]

    def state_dict(self) -> dict[str, Any]:
        """Seeds and counters; the games themselves are not in it."""
        return {"seeds": list(self._seeds), "steps": self._steps, "restores": self._restores}

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        """Start new games from seeds derived from the saved seeds, the number of restores and the steps played."""
        check_lanes(state, "seeds", self)
        self._seeds = [int(seed) for seed in state["seeds"]]
        self._steps, self._restores = int(state["steps"]), int(state["restores"]) + 1
        derived = [np.random.SeedSequence([seed, self._restores, self._steps]) for seed in self._seeds]
        return self._start([int(sequence.generate_state(1)[0]) >> 1 for sequence in derived])

    def close(self) -> None:
        self._interface = self._vector = self._colour = None  # type: ignore[assignment]


def _rom(name: str) -> str:
    rom = name.replace("-", "_")
    try:
        import ale_py
        from ale_py import roms
    except ImportError as error:
        raise EnvError(f"{name} is an Atari game and ale-py is missing ({error}); pip install ale-py") from error
    if rom not in roms.get_all_rom_ids():
        raise EnvError(f"ale-py {ale_py.__version__} has no game {name!r}; --list shows those that it has")
    # Loading such a cartridge would end the whole process.
    path = roms.get_rom_path(rom)
    if path is None or ale_py.ALEInterface.isSupportedROM(path) is None:
        raise EnvError(f"{name} needs two players, and ALE plays games of one; choose another game (--list)")
    return rom


def _screen_size(rom: str) -> tuple[int, int]:
    import ale_py
    from ale_py import roms

    console = ale_py.ALEInterface()
    console.setLoggerMode(ale_py.LoggerMode.Error)
    path = roms.get_rom_path(rom)
    assert path is not None
    console.loadROM(path)
    height, width = console.getScreenDims()
    return height, width


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
