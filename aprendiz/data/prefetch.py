"""Work done ahead by a background thread, in order."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

V = TypeVar("V")
_POLL_SECONDS = 0.05
_JOIN_SECONDS = 10.0


class Prefetcher(Generic[V]):
    """Calls the functions of `plan` one after the other in a thread, at most `depth` results ahead of `get`.

    Results come in the plan's order whatever the timing; what a function raises, `get` raises in its place. The thread
    ends with the plan, with an error, with `close`, and with this object: neither may refer to it.
    """

    def __init__(self, plan: Iterator[Callable[[], V]], depth: int) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(max(1, depth))
        stop = threading.Event()
        self._thread = threading.Thread(
            target=_work, args=(plan, self._queue, stop), name="aprendiz-prefetch", daemon=True
        )
        self._finalizer = weakref.finalize(self, _end, self._thread, stop)
        self._thread.start()

    def get(self) -> V:
        """The next result. Raises what its function raised, and StopIteration at the end of the plan."""
        kind, value = self._queue.get()
        if kind == "value":
            return value
        self.close()
        raise value

    def close(self) -> None:
        """Ends the thread, and waits for what it has begun."""
        self._finalizer()


def _work(plan: Iterator[Callable[[], Any]], results: queue.Queue[tuple[str, Any]], stop: threading.Event) -> None:
    last: tuple[str, Any] = ("error", StopIteration())
    try:
        for task in plan:
            if stop.is_set() or not _put(results, ("value", task()), stop):
                return
    except BaseException as error:  # handed to whoever asks next
        last = ("error", error)
    _put(results, last, stop)


def _put(results: queue.Queue[tuple[str, Any]], item: tuple[str, Any], stop: threading.Event) -> bool:
    """Whether there was room before the end came."""
    while not stop.is_set():
        try:
            results.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    if thread is not threading.current_thread():
        thread.join(_JOIN_SECONDS)
