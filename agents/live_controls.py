"""What viewers of a game have set: pause, speed, exploration, overlay, and who plays."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from aprendiz.live.view import RefusedError

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the game's own pace; None is as fast as it goes."""
OVERLAYS = ("off", "gradient", "perturbation")


class Controls:
    """One game's settings, the same for all its viewers. `request` is called by the server, `wait` by who plays."""

    def __init__(
        self,
        *,
        pace: float,
        explore: float,
        overlays: tuple[str, ...] = OVERLAYS,
        needs_key: Callable[[frozenset[str]], bool] = lambda keys: False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """pace: decisions a second at speed 1. needs_key: whether, with these keys held, a game that is played by hand
        must wait for others. `changed` is called after every request."""
        self.pace, self.explore = pace, explore
        self.overlays = overlays
        self.speed: float | None = 1.0
        self.paused = False
        self.overlay = "off"
        self.driver: int | None = None
        """The viewer who plays; None: the agent does."""
        self._needs_key, self._changed = needs_key, changed
        self._held: frozenset[str] = frozenset()
        self._tapped: frozenset[str] = frozenset()
        self._steps = self._viewers = 0
        self._redraw = self._restart = self._ended = False
        self._condition = threading.Condition()

    def state(self) -> dict[str, Any]:
        """JSON-able, for the page."""
        return {
            "paused": self.paused,
            "speed": self.speed,
            "explore": self.explore,
            "overlay": self.overlay,
            "overlays": list(self.overlays),
            "driver": self.driver,
        }

    # ---------------------------------------------------------------- for the server

    def request(self, viewer: int, request: Mapping[str, Any]) -> None:
        """Do what a viewer asks for. Raises RefusedError."""
        with self._condition:
            self._apply(viewer, str(request.get("do")), request.get("value"))
            self._condition.notify_all()
        self._changed()

    def _apply(self, viewer: int, what: str, value: Any) -> None:
        if what == "pause":
            self.paused, self._steps = bool(value), 0
            self._redraw = self._redraw or self.paused  # a fast game has gone further than what is shown
        elif what == "step":
            self.paused = True
            self._steps = min(self._steps + 1, 10)
        elif what == "restart":
            self._restart = True
        elif what == "speed":
            if value is not None and value not in SPEEDS:
                raise RefusedError(
                    f"speed is one of {', '.join(f'{speed:g}' for speed in SPEEDS)}, or as fast as it goes"
                )
            self.speed = None if value is None else float(value)
        elif what == "explore":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
                raise RefusedError("epsilon is a probability from 0 to 1")
            self.explore = float(value)
        elif what == "overlay":
            if value not in self.overlays:
                raise RefusedError(f"this agent has the overlays {', '.join(self.overlays)}")
            self.overlay, self._redraw = str(value), True
        elif what == "drive":
            self._drive(viewer, bool(value))
        elif what == "keys":
            if viewer != self.driver:
                raise RefusedError("take over first")
            keys = value if isinstance(value, list) else []
            self._held = frozenset(key for key in keys if isinstance(key, str))
            self._tapped |= self._held
        else:
            raise RefusedError("there is no such button")

    def _drive(self, viewer: int, on: bool) -> None:
        if self.driver not in (None, viewer):
            raise RefusedError("somebody else is playing")
        self.driver = viewer if on else None
        self._held = self._tapped = frozenset()

    def viewer_left(self, viewer: int) -> None:
        """Who played and closed the page has handed back."""
        if viewer == self.driver:
            self.request(viewer, {"do": "drive", "value": False})

    def viewers_changed(self, count: int) -> None:
        with self._condition:
            self._viewers = count
            self._condition.notify_all()

    def end(self) -> None:
        """Whoever waits is told to end."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    # ---------------------------------------------------------------- for who plays

    def offer(self, overlays: tuple[str, ...]) -> None:
        """Which overlays there are from now on; one that is gone is off."""
        with self._condition:
            self.overlays = overlays
            if self.overlay not in overlays:
                self.overlay = "off"
        self._changed()

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def watched(self) -> bool:
        """Whether anybody looks on."""
        return self._viewers > 0

    def due(self, last: float) -> float:
        """When the next decision is due after one that was due at `last`, on the clock time.monotonic()."""
        if self.speed is None:
            return -math.inf
        now, step = time.monotonic(), 1.0 / (self.pace * self.speed)
        return max(last, now - step) + step  # what was missed is not caught up on

    def wait(self, due: float, *, at_end: bool = False) -> str:
        """Wait for the next decision: until `due`, while paused, while nobody looks, for a key. Returns `go`, `redraw`,
        `restart` or `end`. A game that is over (`at_end`) waits for no key."""
        with self._condition:
            while True:
                timeout: float | None = None
                if self._ended:
                    return "end"
                if self._restart:
                    self._restart = False
                    return "restart"
                if self._redraw:
                    self._redraw = False
                    return "redraw"
                if self._viewers and self.paused and self._steps:
                    self._steps -= 1
                    return "go"
                if self._viewers and not self.paused:
                    by_hand = self.driver is not None and not at_end
                    if not (by_hand and self._needs_key(self._held | self._tapped)):
                        timeout = due - time.monotonic()
                        if timeout <= 0.0:
                            return "go"
                self._condition.wait(timeout)

    def keys(self) -> frozenset[str] | None:
        """Keys held, or pressed since the last call; None where the agent plays."""
        with self._condition:
            if self.driver is None:
                return None
            keys, self._tapped = self._held | self._tapped, frozenset()
            return keys
