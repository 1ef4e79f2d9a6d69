"""Films of a run's games, for its folder and for W&B: of the best checkpoint when training ends, and before that now
and then, so that who follows a training sees what it has come to."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agents.saved import open_agent
from aprendiz.stop_signals import StopRequested

if TYPE_CHECKING:
    from pathlib import Path

    from agents.core import Agent
    from aprendiz.run import Run
    from envs.core import Env

FIRST_SECONDS = 120.0
"""Of training before the first film on the way: a short training is filmed at its end alone."""
SHARE = 0.02
"""Part of the time that films on the way may take."""
STEPS_ON_THE_WAY = 600
"""Of a game, in a film on the way: 40 seconds at Atari's pace."""
STEPS_AT_THE_END = 2_000


class Films:
    """Films one run in training. A film that fails spoils no training, and is the last one on the way."""

    def __init__(self, run: Run, make_env: Callable[..., Env], *, explore: float) -> None:
        """`explore`: probability of a random action in what is filmed."""
        self.run, self.make_env, self.explore = run, make_env, explore
        self._due = time.monotonic() + FIRST_SECONDS

    def on_the_way(self, agent: Agent, step: int) -> None:
        """Film an agent that has just been evaluated, where it is time for another film. A signal ends the film alone:
        the evaluation is done, and counts."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            path = self._film(lambda: agent, step, STEPS_ON_THE_WAY)
        except StopRequested:
            return
        now = time.monotonic()
        self._due = math.inf if path is None else now + (now - began) / SHARE

    def of_the_best(self) -> None:
        """Film the best checkpoint, or the last one where none is called best."""
        step = self.run.best_step() or self.run.steps()[-1]
        path = self._film(lambda: open_agent(self.run, step, device="cpu"), step, STEPS_AT_THE_END)
        if path is not None:
            print(f"video: {path}")

    def _film(self, open_it: Callable[[], Agent], step: int, max_steps: int) -> Path | None:
        """A game in a file named after the step; None where it cannot be filmed, which is said."""
        from agents.video import record_video

        try:
            path = record_video(
                open_it(),
                self.make_env,
                self.run.videos / f"step-{step:012d}.mp4",
                seed=self.run.seed,
                explore=self.explore,
                max_steps=max_steps,
                title=self.run.task,
            )
        except StopRequested:
            raise
        except Exception as error:  # whatever a third party's environment raises when it draws
            print(f"no video: {type(error).__name__}: {error}", file=sys.stderr)
            return None
        if self.run.tracker is not None:
            self.run.tracker.video("eval/video", path, step)
        return path
