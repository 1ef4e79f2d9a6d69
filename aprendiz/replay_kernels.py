"""Compiled gathering of frame stacks, in the memory order that convolutions on a CPU want."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def gather_stacks(frames: NDArray[np.uint8], rows: NDArray[np.int64], before: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Stacks [B, P, S] of frames [R, P] (P pixels): pixel by pixel, the stack's frames side by side ("channels last").

    rows: int64 [B, S], where the frames of each stack are, newest last.
    before: bool [B, S], where a frame lies before its game's first one and is zero.
    """
    stacks = np.empty((len(rows), frames.shape[1], rows.shape[1]), np.uint8)
    if rows.shape[1] == 4:
        _gather_four(frames, rows, before, stacks.view(np.uint32).reshape(len(rows), -1))
    else:
        _gather_any(frames, rows, before, stacks)
    return stacks


@njit(cache=True, nogil=True)
def _gather_four(frames, rows, before, stacks) -> None:
    """Four pixels of one place make one 32-bit word, so that the loop over places becomes vector instructions."""
    zero = np.zeros(frames.shape[1], np.uint8)
    for sample in range(rows.shape[0]):
        a = zero if before[sample, 0] else frames[rows[sample, 0]]
        b = zero if before[sample, 1] else frames[rows[sample, 1]]
        c = zero if before[sample, 2] else frames[rows[sample, 2]]
        d = zero if before[sample, 3] else frames[rows[sample, 3]]
        words = stacks[sample]
        for pixel in range(words.shape[0]):
            words[pixel] = (
                np.uint32(a[pixel])
                | (np.uint32(b[pixel]) << np.uint32(8))
                | (np.uint32(c[pixel]) << np.uint32(16))
                | (np.uint32(d[pixel]) << np.uint32(24))
            )


@njit(cache=True, nogil=True)
def _gather_any(frames, rows, before, stacks) -> None:
    for sample in range(rows.shape[0]):
        for index in range(stacks.shape[2]):
            if before[sample, index]:
                stacks[sample, :, index] = 0
            else:
                stacks[sample, :, index] = frames[rows[sample, index]]
