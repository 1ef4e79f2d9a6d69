"""Contiguous streams of a text: what is read, in which order, where it begins anew, and going on exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aprendiz.errors import ConfigError
from aprendiz.text.core import Tokens
from aprendiz.text.streams import StreamBatch, StreamSource


def numbers(count: int) -> Tokens:
    """A text whose tokens say where they stand."""
    return Tokens(np.arange(count, dtype=np.uint16), count)


def batches(source: StreamSource, count: int) -> list[StreamBatch]:
    return [source.next().batch for _ in range(count)]  # type: ignore[misc]


def test_every_stretch_is_contiguous_and_continues_the_one_before_it() -> None:
    source = StreamSource(numbers(1000), streams=4, length=7, seed=3)
    last = None
    for batch in batches(source, 200):
        assert (batch.tokens.diff(dim=1) == 1).all()
        if last is not None:
            continues = batch.tokens[:, 0] == last[:, -1]
            assert torch.equal(continues, ~batch.starts), "a stream goes on where it was, unless it says that it starts"
        last = batch.tokens


def test_the_first_batch_starts_everywhere() -> None:
    source = StreamSource(numbers(1000), streams=4, length=7, seed=3)
    assert source.next().batch.starts.all()  # type: ignore[union-attr]
    assert not source.next().batch.starts.all()  # type: ignore[union-attr]


def test_a_stream_that_comes_to_the_end_says_that_it_starts_again_near_the_beginning() -> None:
    source = StreamSource(numbers(100), streams=1, length=9, seed=1)
    found = batches(source, 60)
    wraps = [batch for batch in found[1:] if batch.tokens[0, 0] < 9]
    assert len(wraps) >= 4 and all(batch.starts[0] for batch in wraps)
    assert len({int(batch.tokens[0, 0]) for batch in wraps}) > 1, "stretches are cut elsewhere each time"


def test_all_of_the_text_is_read_once_while_each_stream_reads_its_share() -> None:
    source = StreamSource(numbers(4 * 70 + 1), streams=4, length=7, seed=5)
    source.positions = [70 * stream for stream in range(4)]
    predicted = torch.cat([batch.tokens[:, 1:].flatten() for batch in batches(source, 10)])
    assert sorted(predicted.tolist()) == list(range(1, 281))


def test_no_token_is_never_predicted() -> None:
    source = StreamSource(numbers(100), streams=1, length=9, seed=1)
    seen = {int(token) for batch in batches(source, 600) for token in batch.tokens[0, 1:]}
    assert seen >= set(range(10, 100)) and len(seen) >= 98


def test_a_source_goes_on_exactly() -> None:
    source = StreamSource(numbers(300), streams=3, length=8, seed=2)
    batches(source, 30)
    saved = source.state_dict()
    expected = batches(source, 40)
    fresh = StreamSource(numbers(300), streams=3, length=8, seed=2)
    fresh.load_state_dict(saved)
    for ours, theirs in zip(batches(fresh, 40), expected, strict=True):
        assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.starts, theirs.starts)
    assert fresh.metrics() == source.metrics()


def test_the_seed_decides_where_streams_begin() -> None:
    first = [StreamSource(numbers(300), streams=3, length=8, seed=seed).positions for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]


def test_units_are_tokens_that_are_predicted_and_a_budget_is_never_passed() -> None:
    source = StreamSource(numbers(300), streams=3, length=8, seed=2)
    assert source.next(1000).units == 24
    work = source.next(14)
    assert work.units == 12 and work.batch.tokens.shape == (3, 5)  # type: ignore[union-attr]
    assert source.next(2).batch is None
    assert source.metrics() == {"train/epoch": 36 / 300}


def test_a_text_shorter_than_a_stretch_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="has 8 tokens, and a stretch takes 9"):
        StreamSource(numbers(8), streams=3, length=8, seed=2)
    assert StreamSource(numbers(9), streams=3, length=8, seed=2).next().units == 24


def test_a_state_of_other_streams_is_refused() -> None:
    state = StreamSource(numbers(300), streams=4, length=8, seed=2).state_dict()
    with pytest.raises(ValueError, match="4 streams"):
        StreamSource(numbers(300), streams=3, length=8, seed=2).load_state_dict(state)
