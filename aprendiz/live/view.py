"""What stands on the page: a part of it with messages of its own, and what viewers can ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aprendiz.live.streams import Stream


class RefusedError(Exception):
    """Something that a viewer asked for and cannot have now; the page says why."""


class View:
    """Base of all views. A subclass has a `kind` that the page knows how to draw, and does its work in a thread of its
    own between `start` and `stop`."""

    kind: ClassVar[str]
    channels: ClassVar[tuple[str, ...]]
    """Names of its streams."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.streams = {name: Stream(name) for name in self.channels}

    def describe(self) -> dict[str, Any]:
        """JSON-able: what a page must know before the first message. Called for each viewer, in the server's thread."""
        return {"title": self.title, "kind": self.kind}

    def start(self) -> None:
        """Begin. Raises AprendizError for what the user can put right."""

    def stop(self) -> None:
        """End, and wait for the end. More than once does no harm."""

    def viewers_changed(self, count: int) -> None:
        """So many look at the page from now on."""

    def viewer_left(self, viewer: int) -> None:
        """That one is gone; what it held is free."""

    def control(self, viewer: int, request: Mapping[str, Any]) -> None:
        """What a viewer asks for. Called in the server's thread, so it must be quick. Raises RefusedError."""
        raise RefusedError(f"{self.kind} takes no requests")

    def files(self) -> Mapping[str, Path]:
        """Files that viewers may fetch, by name."""
        return {}
