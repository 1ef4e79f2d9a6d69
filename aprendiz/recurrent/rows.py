"""Rows of a batch on several cores at once, each with its rows from the first step to the last.

A step of a small recurrent layer takes a fraction of a millisecond: threads that meet after every matrix product spend
much of it waiting for each other. Rows never need one another, so that threads need to meet only at the end.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

FEWEST = 16
"""Rows below which a part is not worth a thread: a matrix product of few rows takes as long as one of more."""

_lock = threading.Lock()
_workers: ThreadPoolExecutor | None = None
_count = 0


def _forget() -> None:
    """A forked process has none of the threads."""
    global _workers, _count, _lock
    _workers, _count, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _pool(count: int) -> ThreadPoolExecutor:
    """`count` threads in which PyTorch computes with one thread each."""
    global _workers, _count
    with _lock:
        if _workers is None or _count != count:
            if _workers is not None:
                _workers.shutdown(wait=False)
            everyone = threading.Barrier(count + 1)

            def begin() -> None:
                torch.set_num_threads(1)  # of this thread, and of threads that begin later
                everyone.wait()

            _workers, _count = ThreadPoolExecutor(count, "rows"), count
            for _ in range(count):
                _workers.submit(begin)
            everyone.wait()
            torch.set_num_threads(count)
        return _workers


def in_parts(work: Callable[[int, int], None], rows: int) -> None:
    """Calls work(start, stop) for parts that together are all rows, one for each of PyTorch's threads.

    What `work` writes must be of its own rows. Nothing in it is recorded for gradients.
    """
    threads = torch.get_num_threads()
    parts = min(threads, rows // FEWEST)
    if parts <= 1:
        work(0, rows)
        return

    def quietly(start: int, stop: int) -> None:
        with torch.no_grad():
            work(start, stop)

    pool = _pool(threads)
    cuts = [rows * part // parts for part in range(parts + 1)]
    for future in [pool.submit(quietly, *cut) for cut in itertools.pairwise(cuts)]:
        future.result()
