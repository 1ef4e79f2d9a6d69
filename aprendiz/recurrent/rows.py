"""Rows of a batch on several cores at once, each with its rows from the first step to the last.

A step of a small recurrent layer takes a fraction of a millisecond: threads that meet after every matrix product spend
much of it waiting for each other. Rows never need one another, so that threads need to meet only at the end.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

FEWEST = 16
"""Rows below which a part is not worth a thread: PyTorch's product of few rows takes as long as one of more."""

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
"""By number of threads: a caller with another number must not take away the threads of one that computes."""


def _forget() -> None:
    """A forked process has none of the threads."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _pool(count: int) -> ThreadPoolExecutor:
    """`count` threads in which PyTorch computes with one thread each."""
    with _lock:
        if count not in _pools:
            everyone = threading.Barrier(count + 1)

            def begin() -> None:
                torch.get_num_threads()  # a thread takes over the caller's number when it is first asked for it
                torch.set_num_threads(1)  # of this thread, and of threads that begin later
                everyone.wait()

            _pools[count] = ThreadPoolExecutor(count, "rows")
            for _ in range(count):
                _pools[count].submit(begin)
            everyone.wait()
            torch.set_num_threads(count)
        return _pools[count]


def in_parts(work: Callable[[int, int], None], rows: int, fewest: int = FEWEST) -> None:
    """Calls work(start, stop) for parts that together are all rows, one for each of PyTorch's threads, and of at least
    `fewest` rows where there are more than one.

    What `work` writes must be of its own rows. Nothing in it is recorded for gradients. What it raises is raised here
    once all parts have ended.
    """
    threads = torch.get_num_threads()
    parts = min(threads, rows // fewest)
    if parts <= 1:
        with torch.no_grad():
            work(0, rows)
        return
    inference = torch.is_inference_mode_enabled()  # like no_grad, it holds for one thread only

    def quietly(start: int, stop: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            work(start, stop)

    pool = _pool(threads)
    cuts = [rows * part // parts for part in range(parts + 1)]
    futures = [pool.submit(quietly, *cut) for cut in itertools.pairwise(cuts)]
    wait(futures)
    for future in futures:
        future.result()
