"""Batches of contiguous streams of a text, for learners that carry a state from one batch to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from aprendiz.loop import Source, Work
from aprendiz.text.core import Tokens


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """The next stretch of each stream."""

    tokens: Tensor
    """int64 [B, T + 1]: the last token of a stretch is the first of the next one, predicted here and read there."""
    starts: Tensor
    """bool [B], on the CPU: which streams begin anew here, so that the state carried so far is not theirs."""


class StreamSource(Source):
    """`streams` readers of one text, each `length` tokens further in every batch; a unit is a token that is predicted.

    They begin at equal distances from each other, the first at a place drawn by the seed, so that all of the text is
    read once while each of them reads its share. A stream that has no whole stretch left before the text's end goes
    back to its beginning, and says so: nothing of what was read before the end is before the beginning. There it
    starts at a place below `length`, drawn by the seed and the number of times that this stream has gone back, so
    that stretches are cut elsewhere each time, and that no end is left out always. What comes next depends on
    positions and these numbers alone, and they are what is saved.
    """

    def __init__(
        self, tokens: Tokens, *, streams: int, length: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Raises ConfigError for fewer than one stream or token, and for a text that is shorter than one stretch."""
        if streams < 1 or length < 1:
            raise ConfigError(f"streams and their length must be at least 1, got {streams} and {length}")
        if len(tokens) < length + 1:
            raise ConfigError(
                f"the training part has {len(tokens)} tokens, and a stretch takes {length + 1}: use a longer text, or "
                "shorter stretches (--length)"
            )
        self.tokens, self.streams, self.length, self.seed = tokens, streams, length, seed
        self.device = torch.device(device)
        first = int(np.random.default_rng(np.random.SeedSequence([seed, 0])).integers(len(tokens)))
        self.positions = [(first + stream * len(tokens) // streams) % len(tokens) for stream in range(streams)]
        """Where each stream reads on."""
        self.laps = [0] * streams
        """How many times each has gone back to the beginning."""
        self.begun = [False] * streams
        self.predicted = 0

    def next(self, limit: int | None = None) -> Work:
        """The next batch; shorter stretches where `limit` tokens are all that may be predicted. What is left below one
        token for each stream passes without a batch."""
        length = self.length if limit is None else min(self.length, limit // self.streams)
        if length < 1:
            return Work(None, max(limit or 0, 0), True)
        ids, rows, starts = self.tokens.ids, [], []
        for stream in range(self.streams):
            # What is left must hold a whole stretch, however short this one is: a budget changes nothing but its end.
            back = self.positions[stream] + self.length + 1 > len(ids)
            if back:
                self.laps[stream] += 1
                self.positions[stream] = self._beginning(stream)
            starts.append(back or not self.begun[stream])
            self.begun[stream] = True
            place = self.positions[stream]
            rows.append(np.asarray(ids[place : place + length + 1], np.int64))
            self.positions[stream] = place + length
        tokens = torch.from_numpy(np.stack(rows))
        if self.device.type == "cuda":
            tokens = tokens.pin_memory()
        batch = StreamBatch(tokens.to(self.device, non_blocking=True), torch.tensor(starts))
        self.predicted += self.streams * length
        return Work(batch, self.streams * length, True)

    def _beginning(self, stream: int) -> int:
        highest = min(self.length, len(self.tokens) - self.length)
        place = np.random.SeedSequence([self.seed, 1, stream, self.laps[stream]])
        return int(np.random.default_rng(place).integers(highest))

    def metrics(self) -> dict[str, float]:
        """How many times the text has been gone through."""
        return {"train/epoch": self.predicted / len(self.tokens)}

    def state_dict(self) -> dict[str, Any]:
        """Where the streams are."""
        return {
            "positions": list(self.positions),
            "laps": list(self.laps),
            "begun": list(self.begun),
            "predicted": self.predicted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError where it is that of another number of streams."""
        if len(state["positions"]) != self.streams:
            raise ValueError(f"a place for {len(state['positions'])} streams, and there are {self.streams}")
        self.positions, self.laps = [int(p) for p in state["positions"]], [int(lap) for lap in state["laps"]]
        self.begun, self.predicted = [bool(b) for b in state["begun"]], int(state["predicted"])
