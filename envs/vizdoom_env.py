"""ViZDoom (Kempka et al. 2016): first-person scenarios of the game Doom, as grey 84 x 84 pictures."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import ConfigError
from envs.gymnasium_env import GymnasiumEnv
from envs.gymnasium_packages import import_package

SCENARIOS = {
    "vizdoom-basic": "basic",
    "vizdoom-deadly-corridor": "deadly_corridor",
    "vizdoom-defend-the-center": "defend_the_center",
    "vizdoom-defend-the-line": "defend_the_line",
    "vizdoom-health-gathering": "health_gathering",
    "vizdoom-health-gathering-supreme": "health_gathering_supreme",
    "vizdoom-my-way-home": "my_way_home",
    "vizdoom-predict-position": "predict_position",
    "vizdoom-take-cover": "take_cover",
}
OF_HUNDREDS = ("basic", "deadly_corridor", "health_gathering", "health_gathering_supreme", "take_cover")
"""Scenarios with rewards of about a hundred; the others' are about 1."""
FRAME_STACK = 4
SIDE = 84
_DEFAULT_ENV_STEPS = 500_000


def vizdoom(
    name: str, num_envs: int, *, render: bool = False, frame_skip: int = 4, time_limit_steps: int = 0
) -> GymnasiumEnv:
    """A scenario of ViZDoom. Actions: none, or one of the scenario's buttons.

    An observation is the last four grey pictures, [4, 84, 84], black before the game's first. frame_skip: the game's
    frames (35 a second) a step. time_limit_steps: 0 takes the scenario's own limit; it truncates, and the game's last
    picture is a true one. Rewards are the scenario's own, unscaled. Raises EnvError where ViZDoom is not installed.
    """
    package = import_package("vizdoom", name)
    if frame_skip < 1:
        raise ConfigError(f"frame_skip is {frame_skip}; give 1 or more, such as 4")
    if time_limit_steps < 0:
        raise ConfigError(f"time_limit_steps is {time_limit_steps}; give 1 or more, or 0 for the scenario's own")
    scenario = SCENARIOS[name]
    first = Scenario(package, scenario, frame_skip, time_limit_steps)
    buttons = ["none", *(button.name.lower().replace("_", " ") for button in first.buttons)]
    made = [first]

    def make() -> gymnasium.Env:
        return made.pop() if made else Scenario(package, scenario, frame_skip, time_limit_steps)

    return GymnasiumEnv(
        name,
        f"ViZDoom {scenario}",
        num_envs,
        render,
        0,
        _DEFAULT_ENV_STEPS,
        {},
        make=make,
        frame_stack=FRAME_STACK,
        reward_scale=0.01 if scenario in OF_HUNDREDS else 1.0,
        protocol={
            "suite": "ViZDoom",
            "version": package.__version__,
            "id": scenario,
            "frame_skip": frame_skip,
            "time_limit_steps": first.time_limit_steps,
            "action_set": buttons,
        },
    )


class Scenario(gymnasium.Env):
    """One game, in a process of its own that ViZDoom starts.

    ViZDoom shows no picture of a game that its clock has ended. The clock is turned off therefore, and steps are
    counted here. It leaves settings and a folder wherever it is started: it is started in a folder of its own, which
    goes with it.
    """

    def __init__(self, package: Any, scenario: str, frame_skip: int, time_limit_steps: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vizdoom-", ignore_cleanup_errors=True)
        self._game = package.DoomGame()
        self._game.load_config(str(Path(package.scenarios_path) / f"{scenario}.cfg"))
        self._game.set_window_visible(False)
        self._game.set_screen_resolution(package.ScreenResolution.RES_160X120)
        self._game.set_screen_format(package.ScreenFormat.RGB24)
        self._game.set_mode(package.Mode.PLAYER)
        limit = self._game.get_episode_timeout()
        self.time_limit_steps: int | None = time_limit_steps or (-(-limit // frame_skip) if limit else None)
        self._game.set_episode_timeout(0)
        available = self._game.get_available_buttons()
        self.buttons = [button for button in available if not package.is_delta_button(button)]
        self._presses = [[0] * len(available), *([int(one == each) for each in available] for one in self.buttons)]
        self._frame_skip = frame_skip
        self.action_space = gymnasium.spaces.Discrete(len(self._presses))
        self.observation_space = gymnasium.spaces.Box(0, 255, (FRAME_STACK, SIDE, SIDE), np.uint8)
        self._colour: NDArray[np.uint8] = np.zeros((120, 160, 3), np.uint8)
        self._stack = np.zeros((FRAME_STACK, SIDE, SIDE), np.uint8)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._game.set_seed(int(self.np_random.integers(2**31)))
        if self._game.is_running():
            self._game.new_episode()
        else:
            with contextlib.chdir(self._folder.name):  # for the moment in which its process is started
                self._game.init()
        self._steps = 0
        self._stack = np.zeros_like(self._stack)
        return self._look(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self._game.make_action(self._presses[action], self._frame_skip)
        self._steps += 1
        terminated = self._game.is_episode_finished()
        truncated = not terminated and self._steps == self.time_limit_steps
        return self._look(), float(reward), terminated, truncated, {}

    def _look(self) -> NDArray[np.uint8]:
        """The stack with the newest picture last; the one before again where the game is over and shows none."""
        from PIL import Image

        state = self._game.get_state()
        if state is not None:
            self._colour = np.array(state.screen_buffer)
        grey = Image.fromarray(self._colour).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        self._stack = np.concatenate([self._stack[1:], np.asarray(grey)[None]])
        return self._stack

    def render(self) -> Any:
        """uint8 [120, 160, 3]: the picture that the newest grey one was made of."""
        return self._colour

    def close(self) -> None:
        self._game.close()
        self._folder.cleanup()
