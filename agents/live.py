"""A game on the live page: the agent plays in a thread of its own, viewers look on, change its pace, or take over.

Until somebody interferes the games are those that agents.evaluate plays with the same seed and share of random
actions. While nobody looks on the game stands still. An agent that is still being trained is replaced by its newest
checkpoint when the next game begins.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.core import Purpose
from agents.live_controls import Controls
from agents.live_keys import Controller
from agents.live_moment import Rate, Shown, drawn
from agents.live_pictures import (
    Thoughts,
    encode,
    encode_exactly,
    finite,
    frames_side_by_side,
    saliency_bytes,
    table_words,
)
from agents.picture import Painter, action_names
from agents.play import Explorer, game_seeds
from agents.saliency import SPACING, can_gradient, gradient, perturbation
from agents.saved import SavedAgent, load_saved, make_env_of
from agents.video import decisions_per_second, has_display
from aprendiz.errors import AprendizError, CheckpointError
from aprendiz.live.streams import Content
from aprendiz.live.view import View
from aprendiz.session import chosen_checkpoint

if TYPE_CHECKING:
    from aprendiz.run import Run
    from envs.core import Env

PICTURES_A_SECOND = 60.0
"""Moments published at most; the agent may decide more often."""
PERTURBATION_SHARE = 0.3
"""Part of the time that perturbation saliency may take while the game runs."""
HISTORY = 400
"""Values that a new viewer is told of."""
FINISHED = 20
"""Scores of finished games that are shown."""
SEEDS = 1_000
"""Different games; then they begin again."""
LOOK_SECONDS = 1.0
"""Between two looks for the first checkpoint."""


@dataclass(frozen=True, kw_only=True)
class GameOptions:
    """What a game on the page starts with."""

    seed: int = 1000
    """Which games."""
    explore: float = 0.01
    """Probability of a random action, until a viewer changes it."""
    checkpoint: str | None = None
    """`last`, `best` or a step. None: best where there is one, else last."""
    pace: float | None = None
    """Decisions a second at speed 1. None: as the game is played."""
    max_steps: int | None = None
    """Steps after which a game is left off."""
    device: str = "auto"


class GameView(View):
    """One run's agent at play."""

    kind = "game"
    channels = ("moment", "controls", "table", "notice")

    def __init__(self, run: Run, options: GameOptions) -> None:
        super().__init__(f"{run.task}   {run.learner}   seed {run.seed}")
        self.run, self.options = run, options
        self.history: deque[tuple[int, float | None, int]] = deque(maxlen=HISTORY)
        """(decision, value, game) of the last published moments."""
        self._finished: deque[float | None] = deque(maxlen=FINISHED)
        self._overlay: NDArray[np.float32] | None = None
        self.decisions = 0
        """Taken so far, in all games."""
        self._env: Env | None = None
        self._saved: SavedAgent | None = None
        self._ready: queue.Queue[BaseException | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    # ---------------------------------------------------------------- for the server

    def start(self) -> None:
        """Load the agent and begin to play. Raises AprendizError where there is none to load, but for a run that is
        being trained: its first checkpoint is waited for."""
        if not has_display():
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        self._thread = threading.Thread(target=self._work, name=f"play {self.run.name}", daemon=True)
        self._thread.start()
        failure = self._ready.get()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        self._stopped.set()
        if hasattr(self, "controls"):
            self.controls.end()
        if self._thread is not None:
            self._thread.join()

    def describe(self) -> dict[str, Any]:
        spec = self.spec
        states = int(spec.observation_space.n) if spec.observation_kind == "discrete" else None  # type: ignore[attr-defined]
        return super().describe() | {
            "run": self.run.name,
            "actions": action_names(spec),
            "continuous": spec.continuous,
            "bounds": _bounds(spec) if spec.continuous else None,
            "observation": spec.observation_kind,
            "states": states,
            "saliency_on": "frames" if spec.protocol.get("view") == "partial" else "game",
            "numbers": list(self._number_names),
            "pace": self.controls.pace,
            "keys": self.controller.help(),
            "history": list(self.history),
        }

    def viewers_changed(self, count: int) -> None:
        self.controls.viewers_changed(count)

    def viewer_left(self, viewer: int) -> None:
        self.controls.viewer_left(viewer)

    def control(self, viewer: int, request: Mapping[str, Any]) -> None:
        self.controls.request(viewer, request)

    # ---------------------------------------------------------------- playing

    def _work(self) -> None:
        try:
            self._prepare()
        except BaseException as error:
            self._close()
            self._ready.put(error)
            return
        if self._stopped.is_set():  # before there were controls to say so
            self.controls.end()
        self._ready.put(None)
        try:
            if self._wait_for_agent():
                self._play()
        except AprendizError as error:
            self._notice(f"the game has ended: {error}")
        except Exception as error:
            traceback.print_exc()
            self._notice(f"the game has ended: {type(error).__name__}: {error}")
        finally:
            self._close()

    def _prepare(self) -> None:
        """Everything that a user could have got wrong, and the environment: some can be used in one thread only."""
        self._env = make_env_of(self.run)(1, render=True)
        self.spec = self._env.spec
        self.controller = Controller(self.spec)
        self.thoughts = Thoughts(self.spec)
        self._number_names = Painter(self.spec).number_names
        self.controls = Controls(
            pace=self.options.pace or decisions_per_second(self.spec),
            explore=self.options.explore,
            overlays=("off",),
            needs_key=lambda keys: self.controller.action(keys) is None,
            changed=self._publish_controls,
        )
        if self.run.steps() or not self.run.is_training():
            self._saved = load_saved(self.run, self._which(), self.options.device)
        self._publish_controls()

    def _which(self) -> str | int:
        return chosen_checkpoint(self.run, self.options.checkpoint)

    def _wait_for_agent(self) -> bool:
        """Whether there is one; waits for the first checkpoint of a run that is being trained."""
        while self._saved is None:
            if self.controls.ended:
                return False
            if self.run.steps():
                with contextlib.suppress(CheckpointError):
                    self._saved = load_saved(self.run, self._which(), self.options.device)
                    break
            training = self.run.is_training()
            state = "waiting for the first checkpoint" if training else "training ended before the first checkpoint"
            self._notice(f"{state}; the game begins with it")
            time.sleep(LOOK_SECONDS)
        return True

    def _renew_agent(self) -> None:
        """Take up a newer checkpoint, where there is one; one that was deleted meanwhile waits for the next game."""
        assert self._saved is not None
        which = self._which()
        newest = self.run.best_step() if which == "best" else max(self.run.steps(), default=None)
        if isinstance(which, int) or newest in (None, self._saved.step):
            return
        with contextlib.suppress(AprendizError):
            self._saved = load_saved(self.run, which, self.options.device)

    def _play(self) -> None:
        assert self._env is not None
        seeds = game_seeds(self.options.seed, SEEDS, Purpose.EVALUATION)
        known_step, number = -1, 0
        self._next_publish, self._next_overlay = 0.0, 0.0
        self._rate = Rate()
        while not self.controls.ended:
            self._renew_agent()
            assert self._saved is not None
            if self._saved.step != known_step:
                known_step = self._saved.step
                self._take_up(self._saved, self._env.reset([seeds[0]])[0])
            self._game(seeds[number % SEEDS], number)
            number += 1

    def _take_up(self, saved: SavedAgent, observation: NDArray[Any]) -> None:
        """What depends on the agent: overlays, table, the notice of which one it is."""
        overlays = ["off"]
        thought = saved.agent.inspect(observation[None])
        if self.spec.observation_kind == "image" and ("q_values" in thought or "value" in thought):
            overlays += ["gradient"] if can_gradient(saved.agent, observation) else []
            overlays += ["perturbation"]
        self.controls.offer(tuple(overlays))
        which = f"checkpoint {saved.which}" if isinstance(saved.which, str) else "checkpoint"
        self._notice(f"{which}, {saved.step:,} steps of training")
        table = table_words(saved)
        if table is not None:
            self.streams["table"].publish(lambda: ({"table": table}, []))

    def _game(self, seed: int, number: int) -> None:
        """One game, to its end or until it is left off."""
        env, spec, controls = self._env, self.spec, self.controls
        assert env is not None and self._saved is not None
        explorer = Explorer([seed], 0.0, spec.action_space if spec.continuous else spec.num_actions)
        player = self._saved.agent.player(1)
        observation, forced = env.reset([seed]), env.forced_action
        score, step_number, due = 0.0, 0, time.monotonic()
        pressed: Any = None
        while step_number != self.options.max_steps:
            explorer.explore = controls.explore
            action, why = drawn(explorer, forced, spec.continuous)
            greedy = player.act(observation, np.array([0]))[0]
            if why == "greedy":
                action = greedy
            shown = Shown(env, player, observation, score, step_number, number, action, why)
            if controls.driver is not None and pressed is not None and why != "forced":
                shown.action, shown.why = pressed, "by hand"  # what comes next is not known yet
            self._publish(shown)
            due = controls.due(due)
            while (answer := controls.wait(due)) == "redraw":
                self._publish(shown, anyway=True)
            if answer != "go":
                return
            keys = controls.keys()
            pressed = None if keys is None or why == "forced" else self.controller.action(keys)
            if pressed is not None:
                action, why = pressed, "by hand"
            step = env.step(np.asarray(action)[None])
            step_number += 1
            self.decisions += 1
            self._rate.count()
            score += float(step.reward[0])
            observation, forced = step.observation, step.forced_action
            if step.ended[0]:
                ended = "game over" if step.terminated[0] else "time limit"
                self._finished.append(finite(step.score[0]))
                if not shown.has_picture:  # and the environment shows the next game already
                    return
                shown = shown.at_end(step.final_observation, float(step.score[0]), step_number, action, why, ended)
                self._publish(shown, anyway=True)
                second = time.monotonic() + (1.0 if controls.speed is not None else 0.0)
                while controls.wait(second, at_end=True) == "redraw":
                    self._publish(shown, anyway=True)
                return

    # ---------------------------------------------------------------- publishing

    def _publish(self, shown: Shown, *, anyway: bool = False) -> None:
        """Publish a moment, where somebody looks on and the last one is long enough ago.

        What it thinks is only asked for then: an agent that decides often is not slowed down by what nobody sees.
        """
        now = time.monotonic()
        anyway = anyway or self.controls.paused
        unseen = not self.controls.watched and self.streams["moment"].newest is not None
        if not anyway and (unseen or now < self._next_publish):
            return
        # Late moments do not make the next ones rarer; a burst of two at most.
        self._next_publish = max(self._next_publish, now - 1.0 / PICTURES_A_SECOND) + 1.0 / PICTURES_A_SECOND
        words = shown.words() | self.thoughts.describe(shown.thought())
        words |= {"decision": self.decisions, "rate": self._rate.a_second(), "finished": list(self._finished)}
        if self.history and (self.history[-1][0], self.history[-1][2]) == (self.decisions, shown.game):
            self.history.pop()  # the same moment, drawn anew
        self.history.append((self.decisions, words["value"], shown.game))
        picture, observation = shown.picture(), shown.observation
        saliency = self._saliency(shown, now)
        kind, stack = self.spec.observation_kind, self.spec.frame_stack
        if kind == "image":
            assert self._saved is not None
            stack = stack if len(observation) % stack == 0 else 1
            words["frames"] = self._saved.agent.frames_read(stack)

        def make() -> Content:
            blobs = [encode(picture)]
            if kind == "image":
                blobs.append(encode_exactly(frames_side_by_side(observation, stack, words["frames"])))
            elif kind == "vector":
                words["numbers"] = [finite(value) for value in np.ravel(observation)]
            else:
                words["state"] = int(observation)
            if saliency is not None:
                blobs.append(saliency_bytes(saliency))
            return words | {"saliency": saliency is not None}, blobs

        self.streams["moment"].publish(make)

    def _saliency(self, shown: Shown, now: float) -> NDArray[np.float32] | None:
        overlay = self.controls.overlay
        assert self._saved is not None
        if overlay == "off" or shown.ended:
            return None
        if overlay == "gradient":
            return gradient(self._saved.agent, shown.observation)
        if self.controls.paused or now >= self._next_overlay:
            spacing = SPACING if self.controls.paused else 2 * SPACING  # who looks closely stops the game
            self._overlay = perturbation(shown.player.imagine, shown.observation, spacing)
            took = time.monotonic() - now
            self._next_overlay = now + took / PERTURBATION_SHARE
        return self._overlay  # in between the last one stands

    def _publish_controls(self) -> None:
        # As they are when they are sent: of two threads that publish them, the later one may have looked first.
        self.streams["controls"].publish(lambda: ({"controls": self.controls.state()}, []))

    def _notice(self, text: str) -> None:
        self.streams["notice"].publish(lambda: ({"notice": text}, []))

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


def _bounds(spec: Any) -> list[list[float | None]]:
    box = spec.action_space
    return [[finite(one) for one in np.ravel(bound)] for bound in (box.low, box.high)]
