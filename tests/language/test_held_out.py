"""Scoring a text: random windows from no memory, and every token once with the state carried."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aprendiz.errors import DataError
from aprendiz.text.core import TextData, TextSpec, Tokens
from language.held_out import carried, per_character, report, validation_metrics, windows


class Counter:
    """Knows how many tokens it has read, and is the surer of the next one's being 0 the more they are."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(level="char", vocabulary_size=3)
        self.firsts: list[int] = []
        self.longest = 0

    def start(self, count: int) -> Tensor:
        return torch.zeros(count)

    def logits(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if float(state[0]) == 0:
            self.firsts += tokens.tolist()
        state = state + 1
        self.longest = max(self.longest, int(state[0]))
        return torch.stack([state.log(), torch.zeros_like(state), torch.zeros_like(state)], dim=1), state

    def surprisals(self, ids: Any) -> Any:
        assert (np.asarray(ids) == 0).all()
        return np.array([surprisal(seen) for seen in range(1, len(ids))])


def surprisal(seen: int) -> float:
    return -math.log(seen / (seen + 2))


ZEROS = np.zeros(1000, np.uint8)


def test_every_window_starts_with_no_memory_and_scores_as_many_tokens_as_asked() -> None:
    model: Any = Counter()
    found = windows(model, ZEROS, torch.Generator(), length=5, count=250)
    assert found["windows_nats_per_token"] == pytest.approx(np.mean([surprisal(n) for n in range(1, 6)]), rel=1e-6)
    assert model.longest == 5 and len(model.firsts) == 250


def test_windows_are_the_generator_s_and_lie_anywhere() -> None:
    ids = np.arange(300) % 3
    drawn = []
    for seed in (1, 1, 2):
        model: Any = Counter()
        drawn.append(windows(model, ids, torch.Generator().manual_seed(seed), length=4, count=250))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0]["windows_standard_error"] > 0


def test_the_first_and_the_last_window_can_be_drawn() -> None:
    model: Any = Counter()
    model.spec.vocabulary_size = 5
    model.logits = lambda tokens, state: (model.firsts.extend(tokens.tolist()), (torch.zeros(len(tokens), 5), state))[1]
    windows(model, np.arange(5), torch.Generator().manual_seed(1), length=2, count=200)
    assert {0, 1, 2} <= set(model.firsts)  # windows of three tokens fit at 0, 1 and 2
    windows(model, np.arange(5), torch.Generator(), length=4, count=3)


def test_a_text_shorter_than_a_window_is_one_window() -> None:
    model: Any = Counter()
    windows(model, ZEROS[:4], torch.Generator(), length=256, count=2)
    assert model.longest == 3


def test_carried_scores_every_token_but_the_first_once() -> None:
    model: Any = Counter()
    expected = np.mean([surprisal(n) for n in range(1, 1000)])
    assert carried(model, ZEROS) == {"nats_per_token": pytest.approx(expected)}


@pytest.mark.parametrize("ids", [ZEROS[:0], ZEROS[:1]])
def test_nothing_to_score_is_a_clear_error(ids: Any) -> None:
    model: Any = Counter()
    for score in (lambda: carried(model, ids), lambda: windows(model, ids, torch.Generator())):
        with pytest.raises(DataError, match="too short"):
            score()


def test_nats_a_character_are_those_of_the_text_over_its_characters() -> None:
    part = Tokens(np.zeros(100, np.uint16), 400)
    found = per_character({"nats_per_token": 2.0, "windows_nats_per_token": 4.0, "other": 1.0}, part, "word")
    assert found["nats_per_character"] == pytest.approx(0.5)
    assert found["bits_per_character"] == pytest.approx(0.5 / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(2.0))
    assert found["windows_nats_per_character"] == pytest.approx(1.0)
    assert "perplexity" not in per_character({"nats_per_token": 2.0}, part, "char")


def data(validation: int) -> TextData:
    parts = [Tokens(np.zeros(n, np.uint8), n) for n in (500, validation, 300)]
    return TextData(TextSpec(name="zeros", level="char", vocabulary_size=3), None, *parts)  # type: ignore[arg-type]


def test_a_report_has_both_protocols_of_the_part_asked_for() -> None:
    model: Any = Counter()
    found = report(model, data(100), "test", torch.Generator())
    assert found["nats_per_token"] == pytest.approx(np.mean([surprisal(n) for n in range(1, 300)]))
    assert found["windows_nats_per_character"] == found["windows_nats_per_token"]
    with pytest.raises(DataError, match="no validation part"):
        report(model, data(0), "validation", torch.Generator())


def test_without_a_validation_part_the_names_say_that_it_was_the_training_part() -> None:
    model: Any = Counter()
    with_one = validation_metrics(model, data(100), torch.Generator(), count=3)
    assert with_one["score"] == -with_one["windows_nats_per_token"]
    without = validation_metrics(model, data(0), torch.Generator(), count=3)
    assert "windows_nats_per_token" not in without
    assert without["score"] == -without["training_windows_nats_per_token"]
