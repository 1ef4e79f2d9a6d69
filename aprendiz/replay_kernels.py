"""Compiled parts of sampling: which transitions are whole, sums over windows, and stacks of frames in the memory order
that convolutions on a CPU want."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ACTED, NO_BOOTSTRAP, SEQUENCE_END = 1, 2, 4
"""Flags of a slot: a transition starts here; its discount is zero; the next slot is its game's last observation."""


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
        _stack(a, b, c, d, stacks[sample])


@njit(cache=True, nogil=True)
def _gather_any(frames, rows, before, stacks) -> None:
    for sample in range(rows.shape[0]):
        for index in range(stacks.shape[2]):
            if before[sample, index]:
                stacks[sample, :, index] = 0
            else:
                stacks[sample, :, index] = frames[rows[sample, index]]


@njit(cache=True, nogil=True)
def locate(flat, ends, head, oldest, flags, age, frame_stack, n_step, lane, position) -> int:
    """Slots `flat` int64 [K] of all that are in use, one lane after the other, as `lane` and `position` [K]: those
    whose transition is whole, in their order. Returns how many those are."""
    slots = flags.shape[1]
    found = 0
    for value in flat:
        at_lane = np.searchsorted(ends, value, side="right")
        at = head[at_lane] - (ends[at_lane] - value)
        if is_whole(at_lane, at, head, oldest, flags, age, frame_stack, n_step, slots):
            lane[found], position[found] = at_lane, at
            found += 1
    return found


@njit(cache=True, nogil=True)
def is_whole(lane, position, head, oldest, flags, age, frame_stack, n_step, slots) -> bool:
    """Whether a transition starts there whose stack and window of steps are still, and already, there."""
    slot = position % slots
    if not flags[lane, slot] & ACTED or position - min(age[lane, slot], frame_stack - 1) < oldest[lane]:
        return False
    for step in range(1, n_step):
        if flags[lane, (position + step - 1) % slots] & (SEQUENCE_END | NO_BOOTSTRAP):
            return True  # complete: it ends with its game
        if position + step >= head[lane]:
            return False
    return True


@njit(cache=True, nogil=True)
def sum_windows(lane, position, rewards, flags, actions, gamma, n_step, reward, discount, steps, action) -> None:
    """Sum of discounted rewards, discount of what follows, steps actually summed and the action taken, each [B]."""
    slots = flags.shape[1]
    for i in range(lane.shape[0]):
        total, factor, count = 0.0, 1.0, 0
        for step in range(n_step):
            slot = (position[i] + step) % slots
            total += factor * rewards[lane[i], slot]
            factor *= gamma
            count += 1
            if flags[lane[i], slot] & NO_BOOTSTRAP:
                factor = 0.0
                break
            if flags[lane[i], slot] & SEQUENCE_END:
                break
        reward[i], discount[i], steps[i] = total, factor, count
        action[i] = actions[lane[i], position[i] % slots]


def gather_pairs(
    frames: NDArray[np.uint8],
    lane: NDArray[np.int64],
    position: NDArray[np.int64],
    steps: NDArray[np.int64],
    age: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stacks of four [B, P, 4] at `position` and `steps` later, channels last, of frames [N * slots, P]."""
    first, second = (np.empty((len(lane), frames.shape[1]), np.uint32) for _ in range(2))
    _gather_pairs(frames, lane, position, steps, age, first, second)
    return first.view(np.uint8).reshape(*first.shape, 4), second.view(np.uint8).reshape(*second.shape, 4)


@njit(cache=True, nogil=True)
def _gather_pairs(frames, lane, position, steps, age, first, second) -> None:
    slots = age.shape[1]
    zero = np.zeros(frames.shape[1], np.uint8)
    for sample in range(lane.shape[0]):
        at_lane = lane[sample]
        row, at = at_lane * slots, position[sample]
        old = age[at_lane, at % slots]
        a = zero if old < 3 else frames[row + (at - 3) % slots]
        b = zero if old < 2 else frames[row + (at - 2) % slots]
        c = zero if old < 1 else frames[row + (at - 1) % slots]
        d = frames[row + at % slots]
        words = first[sample]
        if steps[sample] == 1 and age[at_lane, (at + 1) % slots] > 0:
            # The next stack is this one moved on by a frame: each is read once.
            e = frames[row + (at + 1) % slots]
            following = second[sample]
            for pixel in range(words.shape[0]):
                shared = (
                    np.uint32(b[pixel]) | (np.uint32(c[pixel]) << np.uint32(8)) | (np.uint32(d[pixel]) << np.uint32(16))
                )
                words[pixel] = np.uint32(a[pixel]) | (shared << np.uint32(8))
                following[pixel] = shared | (np.uint32(e[pixel]) << np.uint32(24))
            continue
        _stack(a, b, c, d, words)
        at += steps[sample]
        old = age[at_lane, at % slots]
        a = zero if old < 3 else frames[row + (at - 3) % slots]
        b = zero if old < 2 else frames[row + (at - 2) % slots]
        c = zero if old < 1 else frames[row + (at - 1) % slots]
        _stack(a, b, c, frames[row + at % slots], second[sample])


@njit(cache=True, nogil=True)
def _stack(a, b, c, d, words) -> None:
    for pixel in range(words.shape[0]):
        words[pixel] = (
            np.uint32(a[pixel])
            | (np.uint32(b[pixel]) << np.uint32(8))
            | (np.uint32(c[pixel]) << np.uint32(16))
            | (np.uint32(d[pixel]) << np.uint32(24))
        )
