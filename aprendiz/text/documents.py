"""Batches of labelled texts, shuffled, those of like length together: an interrupted run goes on with the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from aprendiz.loop import Source, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aprendiz.text.core import Documents

_BATCHES_SORTED_TOGETHER = 50
"""Documents of so many batches are sorted by length, so that a batch holds little padding and epochs still differ."""


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """Whole texts, side by side."""

    tokens: Tensor
    """int64 [T, B]; 0 behind the end of a shorter text."""
    lengths: Tensor
    """int64 [B]"""
    labels: Tensor
    """int64 [B]"""
    count: int
    """Tokens without padding."""


def padded(texts: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Tokens int64 [T, B] of texts, 0 behind each one's end, and their lengths int64 [B]."""
    lengths = np.array([len(text) for text in texts], np.int64)
    tokens = np.zeros((max(lengths.max(), 1), len(texts)), np.int64)
    for column, text in enumerate(texts):
        tokens[: len(text), column] = text
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


class DocumentSource(Source):
    """Epoch after epoch of `documents`, each in an order of its own; a unit is a token (padding does not count).

    The batches of epoch e are decided by (seed, e), so that the place among them is all that is saved. A batch has
    `batch_size` documents, or fewer where they are longer than `batch_tokens` together; no document is cut or left out,
    but those without any token, which there is nothing to learn from.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        batch_size: int,
        batch_tokens: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Raises ConfigError for a size below 1, and where there are no documents."""
        if batch_size < 1 or batch_tokens < 1:
            raise ConfigError(f"batch_size and batch_tokens must be at least 1, got {batch_size} and {batch_tokens}")
        self.documents, self.seed, self.device = documents, seed, torch.device(device)
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.lengths = np.diff(documents.offsets)
        self.readable = np.flatnonzero(self.lengths > 0)
        if len(self.readable) == 0:
            raise ConfigError("there are no documents to learn from")
        self.epoch, self.position = 0, 0
        """Which pass this is, and which of its batches comes next."""
        self._batches: tuple[int, list[NDArray[np.int64]]] | None = None

    def next(self, limit: int | None = None) -> Work:
        """The next batch. The last one of a budget is whole, and counts for no more than `limit` leaves."""
        if self.position >= len(self._of_epoch()):
            self.epoch, self.position = self.epoch + 1, 0
        chosen = self._of_epoch()[self.position]
        self.position += 1
        documents = self.documents
        tokens, lengths = padded([documents.ids[documents.offsets[i] : documents.offsets[i + 1]] for i in chosen])
        labels = torch.from_numpy(np.asarray(documents.labels[chosen], np.int64))
        count = int(self.lengths[chosen].sum())
        batch = DocumentBatch(tokens.to(self.device), lengths.to(self.device), labels.to(self.device), count)
        return Work(batch, count if limit is None else min(count, limit), True)

    def metrics(self) -> dict[str, float]:
        """How many times it has gone through the documents."""
        return {"train/epoch": self.epoch + self.position / len(self._of_epoch())}

    def state_dict(self) -> dict[str, Any]:
        """The place in the data."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _of_epoch(self) -> list[NDArray[np.int64]]:
        """The batches of this epoch, as numbers of documents."""
        if self._batches is None or self._batches[0] != self.epoch:
            generator = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch]))
            order = generator.permutation(self.readable)
            together = self.batch_size * _BATCHES_SORTED_TOGETHER
            batches: list[NDArray[np.int64]] = []
            for start in range(0, len(order), together):
                part = order[start : start + together]
                batches += self._cut(part[np.argsort(self.lengths[part], kind="stable")])
            self._batches = (self.epoch, [batches[i] for i in generator.permutation(len(batches))])
        return self._batches[1]

    def _cut(self, ordered: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Batches of documents that come in the order of their length."""
        batches, start = [], 0
        for stop in range(1, len(ordered) + 1):
            if stop < len(ordered):
                size = stop + 1 - start
                if size <= self.batch_size and size * self.lengths[ordered[stop]] <= self.batch_tokens:
                    continue
            batches.append(ordered[start:stop])
            start = stop
        return batches
