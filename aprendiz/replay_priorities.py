"""Priorities of a replay memory: which transitions can be drawn, and how often.

Schaul et al. (2016), "Prioritized Experience Replay", section 3: the proportional variant.

    P(i) = p_i^alpha / sum_k p_k^alpha                 (equation 1), p_i = |TD error| + epsilon
    w_i  = (N P(i))^-beta / max_j w_j                  (section 3.4), the maximum taken over the batch

A slot has a share in the draw only while it holds a whole transition: it enters at the highest priority so far, at
least 1 (algorithm 1), once n further steps are known, also where its window closed early, at the end of a game; and
leaves before its stack of frames is overwritten. What is drawn needs no second look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from aprendiz.errors import ConfigError
from aprendiz.replay_kernels import ACTED
from aprendiz.sum_tree import SumTree, find_leaves, set_leaf, set_leaves

if TYPE_CHECKING:
    from aprendiz.replay import Replay

SMALLEST_PRIORITY = 1e-6
"""Added to each priority, so that nothing is never drawn again (epsilon in section 3.3 of the paper)."""


class Priorities:
    """A sum tree over the slots of a `Replay`; leaf `lane * slots + position % slots`.

    `exponent` is the paper's alpha: 0 draws uniformly, 1 in proportion to the priorities.
    """

    def __init__(self, replay: Replay, exponent: float) -> None:
        self.exponent = exponent
        self.slots, self.n_step, self.frame_stack = replay.slots, replay.n_step, replay.frame_stack
        self.tree = SumTree(replay.num_envs * replay.slots)
        self.highest = 1.0
        """Highest value (priority to the power of the exponent) that any transition has had, at least 1."""

    def advance(self, before: NDArray[np.int64], head: NDArray[np.int64], flags: NDArray[np.uint8]) -> None:
        """Write heads have moved from `before` [N] to `head` [N]: new transitions enter, old ones leave."""
        _advance(
            self.tree.nodes, self.tree.offsets, before, head, flags, self.slots, self.n_step, self.frame_stack,
            self.highest,
        )  # fmt: skip

    def draw(
        self, batch_size: int, generator: np.random.Generator, head: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Lanes and positions [2, B] and values [B], one from each of B equal shares of the total (appendix B.2.1).

        Raises ConfigError where there are none.
        """
        total = self.tree.total
        if total <= 0.0:
            raise ConfigError("the replay memory holds no whole transition to sample yet")
        drawn = np.empty((2, batch_size), np.int64)
        values = generator.random(batch_size)  # in the place of which `_draw` puts what it found
        _draw(self.tree.nodes, self.tree.offsets, total, head, self.slots, drawn[0], drawn[1], values)
        return drawn, values

    def update(
        self, lane: NDArray[np.int64], position: NDArray[np.int64], priorities: NDArray[Any], head: NDArray[np.int64]
    ) -> None:
        """New priorities float [B] of what was drawn. Those overwritten meanwhile are left out; so are those that are
        not finite, which would make every draw after them meaningless before the training loop notices."""
        values = (np.abs(priorities.astype(np.float64)) + SMALLEST_PRIORITY) ** self.exponent
        if len(values) != len(lane):
            raise ValueError(f"{len(values)} priorities for {len(lane)} transitions")
        self.highest = _update(
            self.tree.nodes, self.tree.offsets, lane, position, values, head, self.slots, self.n_step,
            self.frame_stack, self.highest,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What is small; the values themselves are saved with the memory's content."""
        return {"highest": self.highest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.highest = float(state["highest"])


def importance_weights(values: NDArray[np.float64], importance_exponent: float) -> NDArray[np.float32]:
    """(N P(i))^-beta over its maximum in the batch, for values proportional to P: N and the total cancel out."""
    return ((values / values.min()) ** -importance_exponent).astype(np.float32)


@njit(cache=True, nogil=True)
def _advance(nodes, offsets, before, head, flags, slots, n_step, frame_stack, highest) -> None:
    for lane in range(head.shape[0]):
        for position in range(max(before[lane] - n_step + 1, 0), head[lane] - n_step + 1):
            slot = position % slots
            acted = flags[lane, slot] & ACTED
            set_leaf(nodes, offsets, lane * slots + slot, highest if acted else 0.0)
        for position in range(max(before[lane] - slots + frame_stack, 0), head[lane] - slots + frame_stack):
            set_leaf(nodes, offsets, lane * slots + position % slots, 0.0)


@njit(cache=True, nogil=True)
def _draw(nodes, offsets, total, head, slots, lane, position, values) -> None:
    """`values` [B] are numbers in [0, 1), one for each share, and afterwards the values of what was found there."""
    count = values.shape[0]
    leaves = np.empty(count, np.int64)
    share = total / count
    for i in range(count):
        values[i] = (i + values[i]) * share
    find_leaves(nodes, offsets, values, leaves)
    for i in range(count):
        values[i] = nodes[leaves[i]]
        lane[i] = leaves[i] // slots
        newest = head[lane[i]] - 1
        position[i] = newest - (newest - leaves[i] % slots) % slots


@njit(cache=True, nogil=True)
def _update(nodes, offsets, lane, position, values, head, slots, n_step, frame_stack, highest) -> float:
    """Sets the values [B] of what is still there, where they are finite. Returns the highest so far."""
    leaves = np.empty(values.shape[0], np.int64)
    found = 0
    for i in range(values.shape[0]):
        first, last = head[lane[i]] - slots + frame_stack, head[lane[i]] - n_step
        if first <= position[i] <= last and np.isfinite(values[i]):
            leaves[found], values[found] = lane[i] * slots + position[i] % slots, values[i]
            highest = max(highest, values[i])
            found += 1
    set_leaves(nodes, offsets, leaves[:found], values[:found])
    return highest
