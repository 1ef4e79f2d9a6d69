"""Texts out of a model, one token after the other.

Papers: top-k, Fan et al. 2018, ACL, section 5.4; top-p (nucleus), Holtzman et al. 2020, ICLR, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from aprendiz.text.core import UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from language.core import LanguageModel


def filtered(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits [..., V] (or log-probabilities) of what is drawn from, minus infinity where nothing is.

    temperature: logits are divided by it; at 0 all but the greatest goes (the first of several).
    top_k: only the k greatest stay; of those that are equal the first ones.
    top_p: only the fewest stay whose probabilities, after temperature and top_k, add up to at least p: always one.

    Raises ConfigError for a temperature below 0, a top_k below 1 and a top_p that is not above 0 and at most 1.
    """
    if not 0.0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ConfigError(f"top_p must be above 0 and at most 1, got {top_p}")
    if temperature == 0.0:
        top_k = 1
    else:
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    if top_k is None and (top_p is None or top_p == 1.0):
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered = ordered.clone()
        ordered[..., top_k:] = -torch.inf
    if top_p is not None and top_p < 1.0:
        probabilities = ordered.double().softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(ordered).scatter_(-1, order, ordered)


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt_ids: NDArray[Any] | list[int],
    length: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[int]:
    """Yields `length` new tokens that continue the prompt (at least one token), each as soon as it is drawn.

    The generator (a CPU one), the weights and the prompt alone decide them. What the vocabulary lacks (UNKNOWN) is
    never written, but at level byte, where every id is a byte. Raises ConfigError for an empty prompt, ids that the
    model does not have, and as `filtered` does, before anything is yielded.
    """
    prompt = np.asarray(prompt_ids, np.int64)
    size = model.spec.vocabulary_size
    if len(prompt) == 0:
        raise ConfigError("a prompt needs at least one token")
    if prompt.min() < 0 or prompt.max() >= size:
        raise ConfigError(f"tokens must be between 0 and {size - 1}, got {int(prompt.min())} to {int(prompt.max())}")
    filtered(torch.zeros(1), temperature, top_k, top_p)
    return _continue(model, prompt, length, generator, temperature, top_k, top_p)


def _continue(
    model: LanguageModel,
    prompt: NDArray[np.int64],
    length: int,
    generator: torch.Generator,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Iterator[int]:
    state = model.start(1)
    known = model.spec.level != "byte" and model.spec.vocabulary_size > 1
    with torch.no_grad():
        for token in prompt[:-1].tolist():
            _, state = model.logits(torch.tensor([token]), state)
    last = int(prompt[-1])
    for _ in range(length):
        with torch.no_grad():
            logits, state = model.logits(torch.tensor([last]), state)
            row = logits[0].clone()
            if known:
                row[UNKNOWN] = -torch.inf
            chances = filtered(row, temperature, top_k, top_p).double().softmax(dim=-1)
            last = int(torch.multinomial(chances, 1, generator=generator))
        yield last
