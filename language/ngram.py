"""n-grams: the next token given the n - 1 tokens before it, counted.

Papers: Shannon, "A mathematical theory of communication", Bell System Technical Journal 27:379, 1948 (section 3); Chen
and Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech and Language 13:359,
1999.

    p(w | h) = reduced(h w) + left(h) * p(w | h without its first token)        h: the n - 1 tokens before

with `reduced` and `left` from counts (`language.kneser_ney`). Counting knows no steps and no seed: one pass over the
text, in chunks, and the order is the one that does best on the validation part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source, Work
from language import held_out
from language.core import LanguageModel
from language.kneser_ney import Smoothing
from language.ngram_counts import Counts, count, merge, nothing
from language.ngram_tables import Tables, before_any_token, scan, step, tables

if TYPE_CHECKING:
    from aprendiz.text.core import LabelledTexts, TextData, TextSpec, Tokens, Vocabulary

SMALLEST_CHUNK, LARGEST_CHUNK = 2**17, 2**24
"""Tokens that are counted at once: as many as were counted before, between these."""
BLOCK = 2**18
"""Tokens that are scored at once."""
CHOOSING_TOKENS = 2_000_000
"""So many validation tokens, at most, choose the order and score the model on the way."""
LARGE_TEXT = 20_000_000
"""Training tokens from which fewer orders are tried, to save memory."""
MAX_ORDERS = {"char": (10, 7), "byte": (10, 7), "word": (5, 4)}
"""The highest order that is tried: for texts up to LARGE_TEXT, and for larger ones."""
USUAL_ORDER = {"char": 6, "byte": 6, "word": 3}
"""The order where nothing can choose it: there is no validation part."""


@dataclass(frozen=True, kw_only=True)
class NGramConfig:
    """Hyperparameters of n-grams."""

    smoothing: Smoothing = "modified-kneser-ney"
    """modified-kneser-ney: three discounts a level (Chen and Goodman 1999, section 4.1); kneser-ney: one (their
    equation 20, interpolated); add-k; maximum-likelihood: of the longest context that was seen."""
    order: int | None = None
    """Tokens of an n-gram, the one that is predicted included. None: the best on the validation part."""
    max_order: int | None = None
    """The highest order that is tried where `order` is None. None: 10 for characters and bytes, 5 for words; 7 and 4
    where the text has more than 20,000,000 tokens."""
    k: float = 0.01
    """What add-k adds to each count (1 is Laplace's rule; less does better with many symbols: Chen and Goodman 1999,
    section 2.1)."""
    floor: float = 1e-5
    """Share of the uniform distribution in maximum-likelihood, so that what was never seen is not impossible. Ours."""

    def __post_init__(self) -> None:
        if self.smoothing not in get_args(Smoothing):
            raise ConfigError(f"smoothing must be one of {', '.join(get_args(Smoothing))}, got {self.smoothing!r}")
        for name in ("order", "max_order"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 100:
                raise ConfigError(f"{name} must be from 1 to 100, got {value}")
        if not 0.0 < self.k < float("inf"):
            raise ConfigError(f"k must be a number above 0, got {self.k}")
        if not 0.0 < self.floor < 1.0:
            raise ConfigError(f"floor must be between 0 and 1, got {self.floor}")


class Chunk(NamedTuple):
    """The next piece of a text."""

    ids: NDArray[Any]
    """[seen + new] tokens."""
    seen: int
    """How many of them were in the chunks before, and are there as contexts."""
    validation: NDArray[Any]
    """[T] what chooses the order."""
    end: bool
    """Whether nothing follows."""


class NGramSource(Source):
    """A text from its beginning to its end, once, in chunks."""

    def __init__(self, train: Tokens, validation: Tokens, overlap: int) -> None:
        """`overlap`: tokens of the chunk before that a chunk begins with."""
        self.ids, self.overlap, self.position = train.ids, overlap, 0
        self.validation = validation.ids[:CHOOSING_TOKENS]

    def next(self, limit: int | None = None) -> Work:
        """The next chunk; nothing where the text has ended."""
        size = min(max(SMALLEST_CHUNK, self.position), LARGEST_CHUNK, len(self.ids) - self.position)
        size = size if limit is None else min(size, limit)
        if size < 1:
            return Work(None, 0, True)
        seen = min(self.overlap, self.position)
        end = self.position + size
        chunk = Chunk(self.ids[self.position - seen : end], seen, self.validation, end == len(self.ids))
        self.position = end
        return Work(chunk, size, True)

    def metrics(self) -> dict[str, float]:
        """Which part of the text has been counted."""
        return {"train/epoch": self.position / max(len(self.ids), 1)}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["position"])


class NGram(LanguageModel):
    """n-grams with smoothing. Raises ConfigError for labelled texts."""

    Config: ClassVar[type] = NGramConfig
    abilities = frozenset({"predict"})
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    one_pass = True
    seeded = False
    config: NGramConfig

    def __init__(
        self,
        config: NGramConfig,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.config, self.spec, self.vocabulary, self.device = config, spec, vocabulary, torch.device(device)
        self.max_order = config.order or config.max_order or MAX_ORDERS[spec.level][0]
        self.counts: Counts = nothing(self.max_order, spec.vocabulary_size)
        self.chosen = config.order or min(USUAL_ORDER[spec.level], self.max_order)
        """The order that predicts."""
        self._tables: Tables | None = None

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, NGramConfig]:
        return {
            "default": NGramConfig(),
            "kneser-ney": NGramConfig(smoothing="kneser-ney"),
            "add-k": NGramConfig(smoothing="add-k"),
            "maximum-likelihood": NGramConfig(smoothing="maximum-likelihood"),
        }

    @classmethod
    def default_tokens(cls, config: NGramConfig, spec: TextSpec, train_tokens: int) -> int:
        return train_tokens

    @classmethod
    def resolve(cls, config: NGramConfig, spec: TextSpec, *, train_tokens: int, budget_tokens: int) -> NGramConfig:
        if config.order is not None or config.max_order is not None:
            return config
        return dataclasses.replace(config, max_order=MAX_ORDERS[spec.level][train_tokens > LARGE_TEXT])

    def make_source(self, data: TextData | LabelledTexts, *, seed: int) -> NGramSource:
        """The training part, once; the seed decides nothing."""
        return NGramSource(data.train, data.validation, self.max_order - 1)  # type: ignore[arg-type]

    def update(self, batch: Chunk) -> Outcome:
        """Counts a chunk, and chooses the order anew."""
        added = count(batch.ids, batch.seen, self.max_order, self.spec.vocabulary_size)
        self.counts = merge(self.counts, added) if self.counts.tokens else added
        self._tables = None
        metrics = {}
        if self.config.order is None and len(batch.validation):
            losses = self._losses(batch.validation)
            self.chosen = 1 + int(losses.argmin())
            metrics = {f"validation_nats_order_{n}": float(loss) for n, loss in enumerate(losses, start=1)}
        if batch.end:  # longer ones are of no more use
            self.counts = self.counts.up_to(self.chosen)
        ngrams = sum(map(len, self.counts.keys[: self.chosen]))
        return Outcome({"order": float(self.chosen), "ngrams": float(ngrams), **metrics})

    def _losses(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """Mean surprisal of a text by each order from 1 to `max_order`, in nats a token."""
        table = tables(self.counts, self.config.smoothing, k=self.config.k, floor=self.config.floor)
        state, total = before_any_token(self.max_order), np.zeros(self.max_order)
        for start in range(0, len(ids), BLOCK):
            total -= np.log(scan(table, ids[start : start + BLOCK], state, 1, self.max_order)).sum(axis=0)
        return total / len(ids)

    @property
    def table(self) -> Tables:
        """What predictions are made with."""
        if self._tables is None:
            kept = self.counts.up_to(self.chosen)
            self._tables = tables(kept, self.config.smoothing, k=self.config.k, floor=self.config.floor)
        return self._tables

    def validate(self, data: TextData | LabelledTexts, generator: torch.Generator) -> dict[str, float]:
        texts: Any = data
        part, prefix = held_out.judged(texts)
        losses = held_out.carried(self, part.ids[:CHOOSING_TOKENS])
        metrics = held_out.per_character(losses, part, self.spec.level)
        return {**{f"{prefix}{name}": value for name, value in metrics.items()}, "score": -losses["nats_per_token"]}

    def evaluate(self, data: TextData | LabelledTexts, part: str, generator: torch.Generator) -> dict[str, float]:
        return {**held_out.report(self, data, part, generator), "order": float(self.chosen)}  # type: ignore[arg-type]

    def start(self, count: int) -> NDArray[np.int64]:
        """int64 [count, order]"""
        return np.tile(before_any_token(self.table.order), (count, 1))

    def logits(self, tokens: Tensor, state: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        """Log-probabilities float32 [B, V] behind one more token of each text."""
        moved = state.copy()
        chances = step(self.table, tokens.cpu().numpy().astype(np.int64), moved, self.table.order)  # [B, V]
        return torch.from_numpy(np.log(chances)).float(), moved

    def surprisals(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        table = self.table
        state, result = before_any_token(table.order), np.empty(len(ids))
        for start in range(0, len(ids), BLOCK):
            chances = scan(table, ids[start : start + BLOCK], state, table.order, table.order)
            result[start : start + len(chances)] = -np.log(chances[:, 0])
        return result[1:]

    def modules(self) -> dict[str, nn.Module]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "vocabulary_size": counts.vocabulary_size,
            "tokens": counts.tokens,
            "chosen": self.chosen,
            "keys": list(counts.keys),
            "counts": list(counts.counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError where the counts are of another vocabulary, or of other orders."""
        keys, counts = list(state["keys"]), list(state["counts"])
        size, chosen = int(state["vocabulary_size"]), int(state["chosen"])
        if size != self.spec.vocabulary_size or not chosen <= len(keys) <= self.max_order or len(counts) != len(keys):
            raise ValueError(f"counts of {len(keys)} orders over {size} symbols")
        self.counts, self.chosen, self._tables = Counts(size, keys, counts, int(state["tokens"])), chosen, None
