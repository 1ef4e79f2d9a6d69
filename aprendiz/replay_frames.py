"""Compiled gathering of frames: stacks in the memory order that convolutions on a CPU want, pixel by pixel with the
stack's frames side by side ("channels last")."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from aprendiz.intrinsics import BLOCK, interleave, prefetch_once

AHEAD = 8 * BLOCK
"""How many bytes of each frame are asked for before they are needed. What is drawn lies anywhere in gigabytes, and the
processor's own prefetching sees no pattern from one frame to the next."""


def gather_stacks(frames: NDArray[np.uint8], rows: NDArray[np.int64], before: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Stacks [B, P, S] of frames [R, P] (P pixels).

    rows: int64 [B, S], where the frames of each stack are, newest last.
    before: bool [B, S], where a frame lies before its game's first one and is zero.
    """
    stacks = np.empty((len(rows), frames.shape[1], rows.shape[1]), np.uint8)
    _gather_any(frames, rows, before, stacks)
    return stacks


@njit(cache=True, nogil=True)
def _gather_any(frames, rows, before, stacks) -> None:
    for sample in range(rows.shape[0]):
        for index in range(stacks.shape[2]):
            if before[sample, index]:
                stacks[sample, :, index] = 0
            else:
                stacks[sample, :, index] = frames[rows[sample, index]]


def gather_pairs(
    frames: NDArray[np.uint8],
    lane: NDArray[np.int64],
    position: NDArray[np.int64],
    steps: NDArray[np.int64],
    age: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Stacks of four at `position`, and `steps` later: [2, B, P, 4], of frames [N * slots, P]."""
    size = 8 * len(lane) * frames.shape[1]
    # From the beginning of a cache line on: a register that is stored across two lines takes twice as long.
    room = np.empty(size + BLOCK, np.uint8)
    begin = -room.ctypes.data % BLOCK
    pairs = room[begin : begin + size].reshape(2, len(lane), -1, 4)
    _gather_pairs(frames.reshape(-1), lane, position, steps, age, pairs)
    return pairs


@njit(cache=True, nogil=True)
def _gather_pairs(frames, lane, position, steps, age, pairs) -> None:
    first, second = pairs[0], pairs[1]
    samples, pixels, _ = first.shape
    slots = age.shape[1]
    begins = np.empty((samples + 1, 8), np.int64)  # where the frames of both stacks begin
    for sample in range(samples):
        for index in range(4):
            at = position[sample] + index - 3
            begins[sample, index] = (lane[sample] * slots + at % slots) * pixels
            begins[sample, index + 4] = (lane[sample] * slots + (at + steps[sample]) % slots) * pixels
    begins[samples] = begins[samples - 1]
    if pixels >= AHEAD:
        _interleave_all(frames, begins, steps, first, second)
    else:
        for sample in range(samples):
            for index in range(4):
                begin, begin_next = begins[sample, index], begins[sample, index + 4]
                first[sample, :, index] = frames[begin : begin + pixels]
                second[sample, :, index] = frames[begin_next : begin_next + pixels]
    for sample in range(samples):  # frames before a game's first one, few
        at = position[sample]
        for index in range(3 - age[lane[sample], at % slots]):
            first[sample, :, index] = 0
        for index in range(3 - age[lane[sample], (at + steps[sample]) % slots]):
            second[sample, :, index] = 0


@njit(cache=True, nogil=True)
def _interleave_all(frames, begins, steps, first, second) -> None:
    """All stacks, of frames that are not tiny."""
    samples, pixels, _ = first.shape
    to, to_next = first.reshape(-1), second.reshape(-1)
    whole = pixels - pixels % BLOCK
    for index in range(8):
        for offset in range(0, AHEAD, BLOCK):
            prefetch_once(frames, begins[0, index] + offset)
    for sample in range(samples):
        a, b, c, d = begins[sample, 0], begins[sample, 1], begins[sample, 2], begins[sample, 3]
        e, f, g, h = begins[sample, 4], begins[sample, 5], begins[sample, 6], begins[sample, 7]
        out = 4 * pixels * sample
        for offset in range(0, whole, BLOCK):
            asked, ahead = sample, offset + AHEAD
            if ahead >= whole:
                asked, ahead = sample + 1, ahead - whole
            prefetch_once(frames, begins[asked, 0] + ahead)
            prefetch_once(frames, begins[asked, 1] + ahead)
            prefetch_once(frames, begins[asked, 2] + ahead)
            prefetch_once(frames, begins[asked, 3] + ahead)
            prefetch_once(frames, begins[asked, 7] + ahead)
            if steps[sample] != 1:  # otherwise the stacks share three frames
                prefetch_once(frames, begins[asked, 4] + ahead)
                prefetch_once(frames, begins[asked, 5] + ahead)
                prefetch_once(frames, begins[asked, 6] + ahead)
            interleave(frames, a + offset, b + offset, c + offset, d + offset, to, out + 4 * offset)
            interleave(frames, e + offset, f + offset, g + offset, h + offset, to_next, out + 4 * offset)
        offset = pixels - BLOCK  # the rest, and some of it again
        interleave(frames, a + offset, b + offset, c + offset, d + offset, to, out + 4 * offset)
        interleave(frames, e + offset, f + offset, g + offset, h + offset, to_next, out + 4 * offset)
