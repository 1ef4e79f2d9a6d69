"""Batches of labelled texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aprendiz.errors import ConfigError
from aprendiz.text.core import Documents
from aprendiz.text.documents import DocumentBatch, DocumentSource, padded


def documents(lengths: list[int]) -> Documents:
    """Document i holds the token i + 1, as many times as it is long, and has the label i."""
    ids = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.uint16), lengths)
    return Documents(ids, np.concatenate([[0], np.cumsum(lengths)]), np.arange(len(lengths)))


def source(lengths: list[int], seed: int = 1, **options: int) -> DocumentSource:
    return DocumentSource(documents(lengths), seed=seed, **{"batch_size": 3, "batch_tokens": 1000, **options})


def epoch(reader: DocumentSource) -> list[DocumentBatch]:
    start = reader.epoch
    found = []
    while True:
        before = reader.state_dict()
        batch = reader.next().batch
        if reader.epoch != start and found:
            reader.load_state_dict(before)
            return found
        found.append(batch)


def test_texts_are_padded_behind_their_end() -> None:
    tokens, lengths = padded([np.array([5, 6]), np.array([7])])
    assert tokens.tolist() == [[5, 7], [6, 0]] and lengths.tolist() == [2, 1]


def test_an_epoch_holds_every_document_once_whole_and_with_its_own_label() -> None:
    lengths = [3, 1, 20, 7, 7, 2, 11]
    found = epoch(source(lengths))
    labels = torch.cat([batch.labels for batch in found])
    assert sorted(labels.tolist()) == list(range(7))
    for batch in found:
        for column, label in enumerate(batch.labels.tolist()):
            text = batch.tokens[: batch.lengths[column], column]
            assert text.tolist() == [label + 1] * lengths[label]
        assert batch.count == int(batch.lengths.sum())


def test_a_very_long_document_is_a_batch_of_its_own_and_is_not_cut() -> None:
    found = epoch(source([5, 20_000, 5, 5], batch_tokens=100))
    assert [batch.lengths.tolist() for batch in found if batch.count >= 20_000] == [[20_000]]


def test_epochs_differ_and_the_seed_decides_them() -> None:
    readers = [source([4] * 12, seed) for seed in (1, 1, 2)]
    first = [[batch.labels.tolist() for batch in epoch(reader)] for reader in readers]
    second = [batch.labels.tolist() for batch in epoch(readers[0])]
    assert first[0] == first[1] != first[2]
    assert first[0] != second


def test_a_source_of_documents_goes_on_exactly() -> None:
    reader = source([3, 1, 20, 7, 7, 2, 11])
    for _ in range(4):
        reader.next()
    fresh = source([3, 1, 20, 7, 7, 2, 11])
    fresh.load_state_dict(reader.state_dict())
    for _ in range(6):
        assert torch.equal(fresh.next().batch.tokens, reader.next().batch.tokens)  # type: ignore[union-attr]


def test_documents_without_tokens_are_left_out() -> None:
    assert sorted(label for batch in epoch(source([0, 3, 0, 2])) for label in batch.labels.tolist()) == [1, 3]
    with pytest.raises(ConfigError, match="no documents"):
        source([0, 0])


def test_documents_of_like_length_come_together() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 200, 150)]
    found = epoch(source(lengths, batch_tokens=100_000))
    padding = sum(batch.tokens.numel() for batch in found) / sum(lengths)
    assert padding < 1.05
