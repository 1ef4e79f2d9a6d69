"""Compiled parts of sampling: which transitions are whole, and sums over windows."""

from __future__ import annotations

import numpy as np
from numba import njit

from aprendiz.intrinsics import prefetch

ACTED, NO_BOOTSTRAP, SEQUENCE_END = 1, 2, 4
"""Flags of a slot: a transition starts here; its discount is zero; the next slot is its game's last observation."""


@njit(cache=True, nogil=True)
def bounds(head, slots, oldest, ends) -> int:
    """Position [N] of the oldest slot in use of each lane, and how many are in use up to the end of each lane [N].
    Returns how many that is in all."""
    total = 0
    for lane in range(head.shape[0]):
        oldest[lane] = max(head[lane] - slots + 1, 0)
        total += head[lane] - oldest[lane]
        ends[lane] = total
    return total


@njit(cache=True, nogil=True)
def locate(flat, ends, head, oldest, flags, age, frame_stack, n_step, drawn) -> int:
    """Slots `flat` int64 [K] of all that are in use, one lane after the other, as lanes and positions `drawn` [2, K]:
    those whose transition is whole, in their order. Returns how many those are."""
    slots, lane, position = flags.shape[1], drawn[0], drawn[1]
    for i in range(flat.shape[0]):
        at_lane = np.searchsorted(ends, flat[i], side="right")
        lane[i], position[i] = at_lane, head[at_lane] - (ends[at_lane] - flat[i])
        prefetch(flags, at_lane * slots + position[i] % slots)
        prefetch(age, at_lane * slots + position[i] % slots)
    found = 0
    for i in range(flat.shape[0]):
        at_lane, at = lane[i], position[i]
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
        prefetch(rewards, lane[i] * slots + position[i] % slots)
        prefetch(actions, lane[i] * slots + position[i] % slots)
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
