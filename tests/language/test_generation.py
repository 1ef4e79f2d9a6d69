"""Texts out of a model: what is drawn from, and that prompt, weights and seed alone decide."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from language.generation import filtered, generate

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0])


class Chain:
    """A model that says the same whatever it has read, and keeps what that was."""

    def __init__(self, logits: Tensor, level: str = "char") -> None:
        self.spec = SimpleNamespace(level=level, vocabulary_size=len(logits))
        self.scores, self.read = logits, []  # type: ignore[var-annotated]

    def start(self, count: int) -> int:
        return 0

    def logits(self, tokens: Tensor, state: int) -> tuple[Tensor, int]:
        self.read.append((int(tokens[0]), state))
        return self.scores.unsqueeze(0), state + 1


def draw(logits: Tensor = LOGITS, count: int = 200, seed: int = 1, level: str = "char", **options: Any) -> list[int]:
    model: Any = Chain(logits, level)
    return list(generate(model, [1], count, torch.Generator().manual_seed(seed), **options))


def test_temperature_divides_logits() -> None:
    torch.testing.assert_close(filtered(LOGITS, 0.5).softmax(0), (LOGITS * 2).softmax(0))


def test_at_temperature_zero_only_the_greatest_is_left() -> None:
    assert filtered(LOGITS, 0.0).isfinite().tolist() == [False, True, False, False]
    assert filtered(torch.zeros(3), 0.0).isfinite().tolist() == [True, False, False]


def test_top_k_leaves_the_k_greatest_as_they_were() -> None:
    left = filtered(LOGITS, top_k=2)
    assert left.isfinite().tolist() == [False, True, True, False]
    torch.testing.assert_close(left[1] - left[2], torch.tensor(1.0))
    assert filtered(torch.zeros(5), top_k=2).isfinite().sum() == 2
    assert filtered(LOGITS, top_k=99).isfinite().all()


def test_top_p_leaves_the_fewest_that_add_up_to_p() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    assert filtered(logits, top_p=0.5).isfinite().tolist() == [False, True, False]
    assert filtered(logits, top_p=0.51).isfinite().tolist() == [False, True, True]
    assert filtered(logits, top_p=0.81).isfinite().tolist() == [True, True, True]
    assert filtered(logits, top_p=1e-9).isfinite().tolist() == [False, True, False]
    assert torch.equal(filtered(logits, top_p=1.0), filtered(logits))


def test_top_p_counts_what_temperature_and_top_k_have_left() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    assert filtered(logits, 0.1, top_p=0.9).isfinite().tolist() == [False, True, False]
    assert filtered(logits, 1.0, 2, 0.6).isfinite().tolist() == [False, True, False]


def test_rows_are_filtered_each_for_itself() -> None:
    rows = torch.stack([LOGITS, LOGITS.flip(0)])
    assert filtered(rows, top_k=1).isfinite().int().argmax(1).tolist() == [1, 2]


@pytest.mark.parametrize("options", [{"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_what_cannot_be_drawn_from_is_refused_before_anything_is_yielded(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        draw(**options)


def test_a_generator_s_seed_decides_the_text() -> None:
    assert draw(seed=1) == draw(seed=1) != draw(seed=2)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    drawn = torch.tensor(draw(count=20_000, level="byte"))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(share, LOGITS.softmax(0), atol=0.02, rtol=0)


def test_the_unknown_is_never_written_but_for_bytes() -> None:
    assert 0 not in draw()
    assert 0 in draw(level="byte")


def test_the_model_reads_the_prompt_and_then_what_it_wrote_each_once() -> None:
    model: Any = Chain(LOGITS)
    new = list(generate(model, [3, 2, 1], 4, torch.Generator().manual_seed(1)))
    assert model.read == list(zip([3, 2, 1, *new[:3]], range(6), strict=True))


def test_tokens_come_as_soon_as_they_are_drawn() -> None:
    model: Any = Chain(LOGITS)
    stream = generate(model, [1], 1_000_000_000, torch.Generator())
    next(stream)
    assert len(model.read) == 1


@pytest.mark.parametrize(
    ("prompt", "message"), [([], "at least one token"), ([1, 4], "between 0 and 3"), ([-1], "0 and 3")]
)
def test_prompts_that_cannot_be_read_are_refused(prompt: list[int], message: str) -> None:
    model: Any = Chain(LOGITS)
    with pytest.raises(ConfigError, match=message):
        generate(model, prompt, 1, torch.Generator())
