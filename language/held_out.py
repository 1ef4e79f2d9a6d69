"""How well a model predicts a text that it did not learn from: the same two protocols for every model.

windows   random stretches of a text, each read from the state before any token: what is published for models with a
          short memory, and what allows a comparison with them
carried   the text from its first token to its last, each scored once given all before it

Compare only numbers of one protocol, on one split. All are in nats: of a token, or of a Unicode character where tokens
are words or bytes (surprisal of the text divided by its characters).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aprendiz.text.core import TextData, Tokens
    from language.core import LanguageModel

WINDOW = 256
"""Tokens that are scored of each window (the block of nanoGPT's character model)."""
WINDOWS = 400
"""Windows of an evaluation."""
VALIDATION_WINDOWS = 100
"""Windows on the way."""
_TOGETHER = 100
"""Windows that are read side by side."""
_NUMBERS = 1 << 26
"""Logits of those, at most."""


def windows(
    model: LanguageModel,
    ids: NDArray[Any],
    generator: torch.Generator,
    *,
    length: int = WINDOW,
    count: int = WINDOWS,
) -> dict[str, float]:
    """`windows_nats_per_token` and its standard error over `count` windows of `length` + 1 tokens.

    Their places are drawn by the generator (a CPU one), all equally likely; the first token of each is given and not
    scored. A text that is shorter is one window. Raises DataError for fewer than two tokens.
    """
    _require(ids, 2)
    length = min(length, len(ids) - 1)
    places = torch.randint(len(ids) - length, (count,), generator=generator).tolist()
    together = max(1, min(_TOGETHER, _NUMBERS // max(model.spec.vocabulary_size, 1)))
    means = []
    for start in range(0, count, together):
        stretches = [
            np.asarray(ids[place : place + length + 1], np.int64) for place in places[start : start + together]
        ]
        means.append(window_surprisals(model, torch.from_numpy(np.stack(stretches))).mean(dim=1))
    all_means = torch.cat(means)
    error = float(all_means.std() / math.sqrt(count)) if count > 1 else math.nan
    return {"windows_nats_per_token": float(all_means.mean()), "windows_standard_error": error}


@torch.no_grad()
def window_surprisals(model: LanguageModel, tokens: Tensor) -> Tensor:
    """-log p of all but the first of int64 [B, T + 1] tokens, read from the state before any: float64 [B, T]."""
    state, surprisals = model.start(len(tokens)), []
    for now, following in zip(tokens.unbind(1)[:-1], tokens.unbind(1)[1:], strict=True):
        logits, state = model.logits(now, state)
        surprisals.append(-logits.double().log_softmax(dim=1).gather(1, following.unsqueeze(1)))
    return torch.cat(surprisals, dim=1)


def carried(model: LanguageModel, ids: NDArray[Any]) -> dict[str, float]:
    """`nats_per_token`: the mean over every token but the first, each scored once with the state carried.

    Raises DataError for fewer than two tokens.
    """
    _require(ids, 2)
    return {"nats_per_token": float(model.surprisals(ids).mean())}


def per_character(metrics: dict[str, float], part: Tokens, level: str) -> dict[str, float]:
    """The metrics, and what follows from those that are nats a token: `nats_per_character` (the part's tokens divided
    by its characters), `bits_per_character`, and `perplexity` where tokens are words; for windows with their prefix."""
    share = len(part) / max(part.characters, 1)
    result = dict(metrics)
    for prefix in ("", "windows_"):
        if (nats := metrics.get(f"{prefix}nats_per_token")) is None:
            continue
        result[f"{prefix}nats_per_character"] = nats * share
        result[f"{prefix}bits_per_character"] = nats * share / math.log(2.0)
        if level == "word":
            result[f"{prefix}perplexity"] = math.exp(min(nats, 700.0))
    return result


def validation_metrics(
    model: LanguageModel, data: TextData, generator: torch.Generator, *, count: int = VALIDATION_WINDOWS
) -> dict[str, float]:
    """What a model tells on the way: `windows` of what it is `judged` by, and their negative mean as `score`."""
    part, prefix = judged(data)
    metrics = per_character(windows(model, part.ids, generator, count=count), part, data.spec.level)
    score = -metrics["windows_nats_per_token"]
    return {**{f"{prefix}{name}": value for name, value in metrics.items()}, "score": score}


def judged(data: TextData) -> tuple[Tokens, str]:
    """What a model is judged by on the way, and what the names of its metrics begin with: the validation part or, where
    that has nothing to score, the training part, so that the names say so: `training_windows_...`."""
    return (data.validation, "") if len(data.validation) > 1 else (data.train, "training_")


def report(model: LanguageModel, data: TextData, part: str, generator: torch.Generator) -> dict[str, float]:
    """What is reported of a part ("train", "validation" or "test"): both protocols, a token and a character.

    Raises DataError where the part is empty.
    """
    tokens: Tokens = {"train": data.train, "validation": data.validation, "test": data.test}[part]
    if len(tokens) < 2:
        raise DataError(
            f"{data.spec.name} has no {part} part to score; load it with --held-out or --validation above 0"
        )
    metrics = carried(model, tokens.ids) | windows(model, tokens.ids, generator)
    return per_character(metrics, tokens, data.spec.level)


def _require(ids: NDArray[Any], tokens: int) -> None:
    if len(ids) < tokens:
        raise DataError(f"a text of {len(ids)} tokens is too short to score: it needs at least {tokens}")
