"""A language model of a third party: small enough to be trained hundreds of times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source, Work
from aprendiz.text.core import TextData, TextSpec, Tokens, Vocabulary
from language.core import LanguageModel, Purpose, derived_seed, torch_generator


@dataclass(frozen=True, kw_only=True)
class BigramConfig:
    """Every field becomes an option of the command line, and its docstring the help."""

    learning_rate: float = 20.0
    """Step size of gradient descent."""
    noise: float = 0.1
    """Standard deviation of what is added to the logits while learning."""
    batch_size: int = 100
    """Tokens an update."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")


class Stretches(Source):
    """Stretches of a text from random places; a unit is a token that is predicted."""

    def __init__(self, tokens: Tokens, size: int, seed: int) -> None:
        self.ids, self.size, self.random = tokens.ids, min(size, len(tokens) - 1), np.random.default_rng(seed)

    def next(self, limit: int | None = None) -> Work:
        size = self.size if limit is None else min(self.size, limit)
        start = int(self.random.integers(len(self.ids) - size))
        return Work(torch.from_numpy(self.ids[start : start + size + 1].astype(np.int64)), size, True)

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]


class Bigram(LanguageModel):
    """The next token by a table of logits for each token before it."""

    Config = BigramConfig
    abilities = frozenset({"predict"})

    def __init__(
        self,
        config: BigramConfig,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.config, self.spec, self.vocabulary, self.device = config, spec, vocabulary, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, Purpose.NETWORK))
            self.table = nn.Embedding(spec.vocabulary_size, spec.vocabulary_size).to(self.device)
        self.optimizer = torch.optim.SGD(self.table.parameters(), config.learning_rate)
        self.generator = torch_generator(seed, Purpose.LEARNING)

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, BigramConfig]:
        return {"default": BigramConfig(), "careful": BigramConfig(learning_rate=5.0)}

    @classmethod
    def default_tokens(cls, config: BigramConfig, spec: TextSpec, train_tokens: int) -> int:
        return 2 * train_tokens

    def make_source(self, data: TextData, *, seed: int) -> Stretches:
        return Stretches(data.train, self.config.batch_size, seed)

    def update(self, batch: Tensor) -> Outcome:
        logits = self.table(batch[:-1].to(self.device))  # [T, V]
        noise = self.config.noise * torch.randn(logits.shape, generator=self.generator).to(self.device)
        loss = F.cross_entropy(logits + noise, batch[1:].to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Outcome({"loss": loss.detach()})

    def validate(self, data: TextData, generator: torch.Generator) -> dict[str, float]:
        loss = float(self.surprisals(data.validation.ids[:10_000]).mean())
        return {"score": -loss, "nats_per_token": loss}

    def evaluate(self, data: TextData, part: str, generator: torch.Generator) -> dict[str, float]:
        return {"nats_per_token": float(self.surprisals(getattr(data, part).ids).mean())}

    def start(self, count: int) -> None:
        return None

    @torch.no_grad()
    def logits(self, tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return self.table(tokens.to(self.device)).float().cpu(), None  # [B, V]

    @torch.no_grad()
    def surprisals(self, ids: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(ids.astype(np.int64)).to(self.device)
        losses = F.cross_entropy(self.table(tokens[:-1]), tokens[1:], reduction="none")  # [T - 1]
        return losses.double().cpu().numpy()

    def modules(self) -> dict[str, nn.Module]:
        return {"table": self.table}

    def state_dict(self) -> dict[str, Any]:
        return {"table": self.table.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.table.load_state_dict(state["table"])
        self.generator.set_state(state["generator"])
