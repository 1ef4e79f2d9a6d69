"""Recurrent language models: vanilla RNN, LSTM and GRU over characters, bytes or words.

Papers: Mikolov et al., "Recurrent neural network based language model", Interspeech 2010; Graves, "Generating sequences
with recurrent neural networks", arXiv:1308.0850, 2013 (LSTM, characters); Zaremba et al., "Recurrent neural network
regularization", arXiv:1409.2329, 2014 (dropout, carried state); Cho et al., EMNLP 2014 (GRU).

    h_t, state = cell(x_t, state)                      the equations are in aprendiz/recurrent/cells.py
    p(x_{t+1} | x_1 ... x_t) = softmax(W h_t + b)
    loss = mean over B streams and T steps of -log p(x_{t+1} | ...)

Truncated backpropagation through time (Williams and Peng 1990, Neural Computation 2:490): the text is read in
contiguous streams; the state goes on from one stretch of T tokens to the next, the gradient does not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from aprendiz.averages import WeightAverage
from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import adamw, cosine_schedule, load_optimizer_state
from aprendiz.recurrent import Recurrent, State, detached, kept
from aprendiz.recurrent.cells import Cell
from aprendiz.recurrent.network import dropout
from aprendiz.seeds import global_seed
from aprendiz.text.streams import StreamBatch, StreamSource
from language import held_out, pretrained
from language.core import LanguageModel, Purpose, derived_seed, torch_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aprendiz.text.core import LabelledTexts, TextData, TextSpec, Vocabulary

_LOGITS = 1 << 24
"""Numbers of logits that are computed together where a text is only read."""


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Hyperparameters of a recurrent language model."""

    units: int = 256
    """Units of each layer (512 in Karpathy et al. 2016 for books of millions of characters)."""
    layers: int = 1
    """Layers, one on top of the other (2 or 3 in the papers; one learns most in a given time on a CPU)."""
    layer_norm: bool = False
    """Layer normalisation of the sums inside the cells (Ba et al. 2016). Several times slower on a CPU."""
    embedding: int = 64
    """Numbers of a learned vector for each token; 0: tokens are one-hot encoded (Graves 2013, section 3), which learns
    more slowly at the same step size."""
    tied: bool = False
    """Whether the output's weights are the embedding's (Press and Wolf 2017; Inan et al. 2017): the two must have the
    same size."""
    vectors: str | None = None
    """Vectors of words that the embedding begins with: a file in word2vec's text or binary format, or a run."""
    fixed_vectors: bool = False
    """Whether those stay as they are."""
    dropout: float = 0.2
    """Share of a layer's outputs that are dropped, between layers and before the softmax (Zaremba et al. 2014)."""
    input_dropout: float = 0.0
    """Share of the embedding's numbers that are dropped."""
    reset: float = 0.0
    """Share of stretches that a stream begins with an empty memory (Melis et al. 2018), so that beginning with none,
    as windows and samples do, is learned as well."""
    streams: int = 16
    """Places of the text that are read side by side: B. Few learn more of as many tokens, many get through more of them
    in a second."""
    length: int = 64
    """Tokens of a stretch, through which the gradient flows: T (35 in Zaremba et al. 2014; 100 in char-rnn)."""
    learning_rate: float = 5e-3
    """Step size of AdamW at its highest (0.002 in char-rnn, with RMSProp)."""
    final_learning_rate_share: float = 0.02
    """What is left of it at the end."""
    warmup_tokens: int | None = None
    """Training tokens over which it rises from 0. None: a fiftieth of the budget."""
    decay_tokens: int | None = None
    """Training tokens at which half a cosine (Loshchilov and Hutter 2017) has brought it down. None: the budget."""
    weight_decay: float = 0.01
    """Of AdamW, a step and a unit of step size (Loshchilov and Hutter 2019); not of biases."""
    second_moment_decay: float = 0.99
    """AdamW's beta2 (nanoGPT's value where an update sees few tokens; 0.999 in Kingma and Ba 2015)."""
    clip_norm: float = 1.0
    """Greatest norm of the gradient of all weights together (Pascanu et al. 2013; 5 in Zaremba et al. 2014)."""
    average_tokens: int | None = None
    """Training tokens over which weights are averaged, exponentially, for everything but learning (Polyak and Juditsky
    1992). None: a twentieth of the budget. 0: no average."""

    def __post_init__(self) -> None:
        for name in ("units", "layers", "streams", "length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("embedding", "warmup_tokens", "decay_tokens", "average_tokens"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ConfigError(f"{name} must be 0 or more, got {value}")
        for name in ("dropout", "input_dropout", "reset", "second_moment_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "final_learning_rate_share"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.tied and self.embedding != self.units:
            raise ConfigError(
                f"tied weights need an embedding as wide as a layer, got --embedding {self.embedding} and --units "
                f"{self.units}: give both the same number, or --no-tied"
            )
        if self.vectors is not None and self.embedding == 0:
            raise ConfigError("vectors need an embedding: give --embedding their dimensions")
        if self.fixed_vectors and (self.vectors is None or self.tied):
            raise ConfigError("fixed_vectors needs --vectors, and weights that are not tied")
        if self.input_dropout > 0.0 and self.embedding == 0:
            raise ConfigError("input_dropout needs an embedding: of a one-hot token nothing would be left")


class RecurrentNetwork(nn.Module):
    """Tokens in, logits of the next ones out."""

    def __init__(self, cell: Cell, config: RecurrentConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.input_dropout, self.dropout = config.input_dropout, config.dropout
        self.embedding: nn.Embedding | None = None
        space: Box | Discrete = Discrete(vocabulary_size)
        if config.embedding:
            self.embedding = nn.Embedding(vocabulary_size, config.embedding)
            nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5 if config.tied else 1.0)
            self.embedding.weight.requires_grad_(not config.fixed_vectors)
            space = Box(-np.inf, np.inf, (config.embedding,), np.float32)
        self.recurrent = Recurrent(
            space, cell, config.units, config.layers, layer_norm=config.layer_norm, dropout=config.dropout
        )
        self.output = nn.Linear(config.units, vocabulary_size)
        nn.init.zeros_(self.output.bias)
        if config.tied and self.embedding is not None:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State, generator: torch.Generator | None = None) -> tuple[Tensor, State]:
        """int64 [T, B] and the state before them to logits [T, B, V] and the state after them."""
        if self.embedding is None:
            features, state = self.recurrent(tokens, state, generator=generator)
        elif generator is not None and self.input_dropout > 0.0:
            inputs = dropout(self.embedding(tokens), self.input_dropout, generator)
            features, state = self.recurrent(inputs, state, generator=generator)
        else:
            features, state = self.recurrent.embedded(self.embedding.weight, tokens, state, generator=generator)
        if generator is not None:
            features = dropout(features, self.dropout, generator)
        return self.output(features), state


class RecurrentModel(LanguageModel):
    """What RNN, LSTM and GRU share; they differ in their cell."""

    Config: ClassVar[type] = RecurrentConfig
    cell: ClassVar[Cell]
    abilities = frozenset({"predict"})
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    config: RecurrentConfig

    def __init__(
        self,
        config: RecurrentConfig,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if precision not in self.precisions:
            raise ConfigError(f"precision must be one of {', '.join(self.precisions)}, got {precision}")
        self.config, self.spec, self.vocabulary, self.precision = config, spec, vocabulary, precision
        self.device = torch.device(device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.network = RecurrentNetwork(self.cell, config, spec.vocabulary_size).to(self.device)
        self.average = WeightAverage(self.network, self._average_decay())
        """What predicts; the same as the network where nothing is averaged."""
        self._weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimizer = adamw(
            self._weights, config.learning_rate, config.weight_decay, self.device, (0.9, config.second_moment_decay)
        )
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self._state: State | None = None
        """Of the streams, after the last batch."""
        self._tokens = 0
        self._vectors_wanted = config.vectors is not None
        self._seed = seed

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, RecurrentConfig]:
        if spec.level == "word":
            words = {"embedding": 256, "tied": True, "dropout": 0.3, "streams": 64, "length": 35, "learning_rate": 2e-3}
            default = cls.Config(**words)
            return {
                "default": default,
                "fast": dataclasses.replace(default, units=128, embedding=128, dropout=0.1),
                "large": dataclasses.replace(default, units=512, embedding=512, layers=2, dropout=0.5),
            }
        # Windows and samples begin without a memory, and whoever never did so while learning begins badly.
        default = cls.Config(reset=0.05)
        return {
            "default": default,
            # For a minute or so: who reads a text three times does not learn it by heart.
            "fast": dataclasses.replace(default, dropout=0.0),
            "large": dataclasses.replace(default, units=512, dropout=0.4),
            # Zaremba et al. (2014), section 4.1, "medium", as far as the optimiser allows.
            "stacked": dataclasses.replace(default, layers=2, dropout=0.3),
        }

    @classmethod
    def default_tokens(cls, config: RecurrentConfig, spec: TextSpec, train_tokens: int) -> int:
        return max(min(10 * train_tokens, 5_000_000), config.streams * config.length)

    @classmethod
    def resolve(
        cls, config: RecurrentConfig, spec: TextSpec, *, train_tokens: int, budget_tokens: int
    ) -> RecurrentConfig:
        """Also looks whether the vectors are there, and whether there will be an update, so that no run begins without.
        Raises ConfigError, DataError."""
        if budget_tokens < config.streams:
            raise ConfigError(
                f"an update takes a token of each of {config.streams} streams, and the budget is {budget_tokens}: give "
                "more --tokens, or fewer --streams"
            )
        if config.vectors is not None:
            config = dataclasses.replace(config, vectors=pretrained.checked(config.vectors, config.embedding))
        shares = {"warmup_tokens": 50, "decay_tokens": 1, "average_tokens": 20}
        missing = {
            name: max(budget_tokens // part, 1) for name, part in shares.items() if getattr(config, name) is None
        }
        return dataclasses.replace(config, **missing)  # type: ignore[arg-type]

    def make_source(self, data: TextData | LabelledTexts, *, seed: int) -> StreamSource:
        tokens: Any = data.train
        return StreamSource(
            tokens, streams=self.config.streams, length=self.config.length, seed=seed, device=self.device
        )

    def update(self, batch: StreamBatch) -> Outcome:
        if self._vectors_wanted:
            self._take_vectors()
        tokens = batch.tokens.t()  # [T + 1, B]
        state = self._state_for(batch)
        with autocast(self.device, self.precision):
            logits, state = self.network(tokens[:-1], state, self.generator)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._weights, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        self._state = detached(state)
        self._tokens += tokens[1:].numel()
        self.average.update(self.network)
        return Outcome({"nats_per_token": loss.detach(), "gradient_norm": norm.detach()})

    def _state_for(self, batch: StreamBatch) -> State:
        """What each stream carries; zero for those that begin anew."""
        count, starts = len(batch.starts), batch.starts
        if self.config.reset > 0.0:
            drawn = torch.rand(count, generator=self.generator, device=self.device)
            starts = starts.to(self.device) | (drawn < self.config.reset)
        if self._state is None or self._state[0].shape[1] != count:
            return self.network.recurrent.start(count)
        return kept(self._state, ~starts)

    def learning_rate(self) -> float:
        """The step size of the next update: a straight line up, half a cosine down."""
        config, peak = self.config, self.config.learning_rate
        if config.warmup_tokens and self._tokens < config.warmup_tokens:
            # An update's own tokens count, so that the first one learns, too.
            return peak * min(1.0, (self._tokens + config.streams * config.length) / config.warmup_tokens)
        if config.decay_tokens is None:
            return peak
        start = config.warmup_tokens or 0
        end = peak * config.final_learning_rate_share
        return cosine_schedule(peak, end, max(config.decay_tokens - start, 0), self._tokens - start)

    def _average_decay(self) -> float:
        """Of the average, an update; 0 where there is none."""
        config = self.config
        if not config.average_tokens:
            return 0.0
        return math.exp(-config.streams * config.length / config.average_tokens)

    def _take_vectors(self) -> None:
        generator = torch_generator(self._seed, Purpose.NETWORK)
        assert self.config.vectors is not None and self.network.embedding is not None
        table = pretrained.embedding_for(self.vocabulary, self.config.vectors, self.config.embedding, generator)
        for network in (self.network, self.average.network):
            assert network.embedding is not None
            with torch.no_grad():
                network.embedding.weight.copy_(table)
        self._vectors_wanted = False

    def validate(self, data: TextData | LabelledTexts, generator: torch.Generator) -> dict[str, float]:
        texts: Any = data
        return held_out.validation_metrics(self, texts, generator)

    def evaluate(self, data: TextData | LabelledTexts, part: str, generator: torch.Generator) -> dict[str, float]:
        texts: Any = data
        return held_out.report(self, texts, part, generator)

    def start(self, count: int) -> State:
        return self.average.network.recurrent.start(count)

    @torch.no_grad()
    def logits(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        logits, state = self.average.network(tokens.to(self.device).unsqueeze(0), state)
        return logits[0].float().cpu(), state

    @torch.no_grad()
    def surprisals(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        state, parts = self.start(1), []
        step = max(1, min(4096, _LOGITS // self.spec.vocabulary_size))
        for start in range(0, len(ids) - 1, step):
            stretch = np.asarray(ids[start : start + step + 1], np.int64)
            tokens = torch.from_numpy(stretch).to(self.device).unsqueeze(1)  # [T + 1, 1]
            logits, state = self.average.network(tokens[:-1], state)
            parts.append(F.cross_entropy(logits[:, 0].float(), tokens[1:, 0], reduction="none").double().cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros(0)

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "generator": self.generator.get_state(),
            "state": list(self._state or ()),
            "tokens": self._tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        load_generator_state(self.generator, state["generator"])
        self._state = tuple(tensor.to(self.device) for tensor in state["state"]) or None
        self._tokens = state["tokens"]
        self._vectors_wanted = self.config.vectors is not None and self._tokens == 0


class RNN(RecurrentModel):
    """Plain tanh units: forgets within some ten tokens, and is the measure for the other two."""

    cell: ClassVar[Cell] = "rnn"

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, RecurrentConfig]:
        # Steeper steps blow up a memory that nothing guards.
        return {
            name: dataclasses.replace(config, learning_rate=config.learning_rate / 4)
            for name, config in super().presets(spec).items()
        }


class LSTM(RecurrentModel):
    """Units with a memory that gates write to, keep and read."""

    cell: ClassVar[Cell] = "lstm"


class GRU(RecurrentModel):
    """Units whose memory and output are one, with three quarters of an LSTM's work."""

    cell: ClassVar[Cell] = "gru"

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, RecurrentConfig]:
        found = super().presets(spec)
        if spec.level != "word":
            # What learned most of tiny Shakespeare's characters: `fast` in one minute, `large` in five.
            for name in ("default", "fast"):
                found[name] = dataclasses.replace(found[name], units=384, learning_rate=4e-3)
            found["large"] = dataclasses.replace(
                found["large"], dropout=0.5, input_dropout=0.05, reset=0.1, learning_rate=3e-3
            )
        return found
