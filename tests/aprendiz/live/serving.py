"""What tests of the live page share: a small view, and waiting."""

from __future__ import annotations

import time
from typing import Any

from aprendiz.live.view import RefusedError, View


class CounterView(View):
    """Counts; takes any request but `refuse`."""

    kind = "counter"
    channels = ("number",)

    def __init__(self) -> None:
        super().__init__("a counter")
        self.viewers: list[int] = []
        self.left: list[int] = []
        self.requests: list[tuple[int, str]] = []
        self.encoded = 0

    def publish(self, number: int, blob: bytes = b"") -> None:
        def make() -> Any:
            self.encoded += 1
            return {"number": number}, [blob]

        self.streams["number"].publish(make)

    def viewers_changed(self, count: int) -> None:
        self.viewers.append(count)

    def viewer_left(self, viewer: int) -> None:
        self.left.append(viewer)

    def control(self, viewer: int, request: Any) -> None:
        if request["do"] == "refuse":
            raise RefusedError("not now")
        self.requests.append((viewer, request["do"]))


def eventually(condition: Any, seconds: float = 60.0) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(0.01)
