"""Signals that ask a training to stop."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType


class StopRequested(Exception):  # noqa: N818 (a request, not an error)
    """Raised inside `StopSignals.interrupting` when a signal comes."""


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that the loop stops at a safe point; a second Ctrl-C raises."""

    received: str = ""
    _interrupts: bool = False

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within it a signal raises StopRequested, at once."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def __enter__(self) -> StopSignals:
        self._before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread: whoever runs us there decides when to stop
                break
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        print(f"{self.received}: saving, then stopping; Ctrl-C again stops without saving", file=sys.stderr, flush=True)
        if self._interrupts:
            raise StopRequested

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
