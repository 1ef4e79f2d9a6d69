"""From one writer to many viewers: each gets the newest there is, as fast as it takes it.

Nothing is queued: what a viewer was too slow for it never sees, and neither the writer nor the other viewers wait for
it. What is written is encoded once, when the first viewer wants it, and not at all where nobody does.
"""

from __future__ import annotations

import json
import struct
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

Content = tuple[dict[str, Any], Sequence[bytes]]
"""JSON-able words, and pictures or other bytes that go with them."""


class Message:
    """Something that was published, and its bytes once somebody wanted them."""

    def __init__(self, number: int, make: Callable[[], bytes]) -> None:
        self.number = number
        self._make = make
        self._packed: bytes | None = None

    def packed(self) -> bytes:
        """The bytes; made for the first who asks. Empty where they cannot be made, which is complained of once.

        In the server's own thread: a moment of a game takes half a millisecond, and handing it to another thread and
        back takes as long again from the agent, with which all of them share Python's lock.
        """
        if self._packed is None:
            try:
                self._packed = self._make()
            except Exception:  # a mistake of the view's: its viewers are not gone, and see the next message
                traceback.print_exc()
                self._packed = b""
        return self._packed


class Stream:
    """The newest message of one channel of a view. `publish` may be called in any thread, the rest in the server's."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.view = ""
        """Of which view; set when it is put on a page."""
        self.newest: Message | None = None
        self.on_publish: Callable[[], None] = lambda: None
        """Called in the thread that publishes."""
        self._lock = threading.Lock()
        self._count = 0

    def publish(self, make: Callable[[], Content]) -> None:
        """Replace the newest message. `make` is called later, in some thread, if anybody wants it: it must hold on to
        copies."""
        with self._lock:
            self._count += 1
            self.newest = Message(self._count, lambda: self._pack(make))
        self.on_publish()

    def _pack(self, make: Callable[[], Content]) -> bytes:
        words, blobs = make()
        return pack(words | {"view": self.view, "channel": self.channel}, blobs)


def pack(words: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """One binary message: the length of the JSON in 4 bytes (little endian), the JSON, whose `blobs` gives the length
    of each blob, and the blobs."""
    text = json.dumps(words | {"blobs": [len(blob) for blob in blobs]}, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *blobs])


def unpack(data: bytes) -> Content:
    """What `pack` was given."""
    (length,) = struct.unpack_from("<I", data)
    words = json.loads(data[4 : 4 + length])
    blobs, at = [], 4 + length
    for size in words.pop("blobs"):
        blobs.append(data[at : at + size])
        at += size
    return words, blobs
