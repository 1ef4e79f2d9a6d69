"""A moment of a game on the live page: what there is to show, taken only when somebody wants to see it."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.live_pictures import finite

if TYPE_CHECKING:
    from agents.core import Player
    from agents.play import Explorer
    from envs.core import Env


class Shown:
    """A moment to be shown; picture and thought are taken when they are wanted, and then kept."""

    def __init__(
        self,
        env: Env,
        player: Player,
        observation: NDArray[Any],
        score: float,
        step: int,
        game: int,
        action: Any,
        why: str,
        ended: str = "",
    ) -> None:
        self.env, self.player = env, player
        self.batch, self.observation = observation, observation[0].copy()
        self.score, self.step, self.game, self.action, self.why, self.ended = score, step, game, action, why, ended
        self.lives = None if env.lives is None else int(env.lives[0])
        self._thought: dict[str, NDArray[np.float32]] | None = None
        self._picture: NDArray[np.uint8] | None = None

    def thought(self) -> dict[str, NDArray[np.float32]]:
        if self._thought is None:
            self._thought = self.player.inspect(self.batch)
        return self._thought

    def picture(self) -> NDArray[np.uint8]:
        if self._picture is None:
            self._picture = self.env.render().copy()
        return self._picture

    def at_end(self, final: NDArray[Any], score: float, step: int, action: Any, why: str, ended: str) -> Shown:
        """The end of the game: the last picture and what was thought then stay."""
        shown = Shown(self.env, self.player, final, score, step, self.game, action, why, ended)
        shown._thought, shown._picture, shown.lives = self.thought(), self._picture, self.lives
        if ended == "game over" and self.lives == 1:
            shown.lives = 0
        return shown

    @property
    def has_picture(self) -> bool:
        """Whether the picture was taken."""
        return self._picture is not None

    def words(self) -> dict[str, Any]:
        continuous = not isinstance(self.action, (int, np.integer))
        action: Any = [finite(one) for one in np.ravel(self.action)] if continuous else int(self.action)
        return {
            "game": self.game,
            "step": self.step,
            "score": finite(self.score),
            "lives": self.lives,
            "action": action,
            "why": self.why,
            "ended": self.ended,
        }


class Rate:
    """Decisions a second over about the last second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=200)

    def count(self) -> None:
        self._times.append(time.monotonic())

    def a_second(self) -> float | None:
        now = time.monotonic()
        while self._times and now - self._times[0] > 2.0:
            self._times.popleft()
        if len(self._times) < 2:
            return None
        return round((len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9), 1)


def drawn(explorer: Explorer, forced: NDArray[np.int64], continuous: bool) -> tuple[Any, str]:
    """The action that is no matter of the agent's choice, and why; None and `greedy` where it may choose."""
    if continuous:
        exploring, actions = explorer.next_continuous()
        return (actions[0], "random") if exploring[0] else (None, "greedy")
    random_action = int(explorer.next()[0])
    if forced[0] >= 0:
        return int(forced[0]), "forced"
    return (random_action, "random") if random_action >= 0 else (None, "greedy")
