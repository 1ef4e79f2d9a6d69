"""Long stretches of a text, epoch after epoch, for learners that go through it in compiled code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aprendiz.loop import Outcome, Source, Work
from aprendiz.text.cache import release
from aprendiz.text.core import LINE_END, UNKNOWN

if TYPE_CHECKING:
    from aprendiz.text.core import Tokens

_BLOCK = 1 << 20
"""Tokens that are looked at together."""


class TokenChunk(NamedTuple):
    """A stretch of the training text: what one update learns from."""

    ids: NDArray[Any]
    """[T] the whole training part, so that windows can look beyond the stretch."""
    start: int
    stop: int
    epoch: int


class TokenChunks(Source):
    """Epoch after epoch of a text, stretch after stretch; a unit is a token."""

    def __init__(self, tokens: Tokens, chunk_tokens: int) -> None:
        self.ids, self.chunk_tokens = tokens.ids, chunk_tokens
        self.epoch = 0
        self.position = 0

    def next(self, limit: int | None = None) -> Work:
        """The next stretch, which ends with the epoch."""
        if self.position >= len(self.ids):
            self.epoch, self.position = self.epoch + 1, 0
        stop = min(self.position + self.chunk_tokens, len(self.ids))
        if limit is not None:
            stop = min(stop, self.position + limit)
        chunk = TokenChunk(self.ids, self.position, stop, self.epoch)
        self.position = stop
        return Work(chunk, chunk.stop - chunk.start, True)

    def feedback(self, batch: TokenChunk, outcome: Outcome) -> None:
        """Lets the system take back the pages of a mapped text that have been read."""
        release(batch.ids, batch.start, batch.stop)

    def metrics(self) -> dict[str, float]:
        """How many times it has gone through the text."""
        return {"train/epoch": self.epoch + self.position / len(self.ids)}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


def has_neighbours(ids: NDArray[Any]) -> bool:
    """Whether any line has two words, those that are unknown left out: else there is nothing to learn from."""
    before = LINE_END  # what the last line of a block ends with
    for start in range(0, len(ids), _BLOCK):
        block = np.asarray(ids[start : start + _BLOCK])
        block = np.concatenate([np.array([before], block.dtype), block[block != UNKNOWN]])
        words = block != LINE_END
        if (words[1:] & words[:-1]).any():
            return True
        before = int(block[-1])
    return False
