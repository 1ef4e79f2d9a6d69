"""Sequence classifier: a recurrent network reads a whole text, in both directions as a rule, and names its class.

Papers: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM", Neural Networks 18:602,
2005; pooling over time as in Conneau et al., EMNLP 2017, section 3.2. Baseline: the mean of the words' vectors, which
knows nothing of their order (Joulin et al., EACL 2017).

    h_1 ... h_T = recurrent network of the text's tokens
    z = [last state of each direction, mean of h_t, greatest of h_t]        or the parts of it that `pooling` names
    p(class | text) = softmax(W z + b),      loss = mean of -log p(label | text)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor, nn

from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError, DataError
from aprendiz.loop import Outcome
from aprendiz.optim import adamw, cosine_schedule, load_optimizer_state
from aprendiz.recurrent import Recurrent
from aprendiz.recurrent.cells import Cell
from aprendiz.recurrent.network import dropout
from aprendiz.seeds import global_seed
from aprendiz.text.documents import DocumentBatch, DocumentSource, padded
from language import pretrained
from language.core import LanguageModel, Purpose, derived_seed, torch_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aprendiz.text.core import Documents, LabelledTexts, TextData, TextSpec, Vocabulary

Reader = Literal["recurrent", "bag-of-words"]
Pooling = Literal["last", "mean", "max", "all"]
VALIDATION_DOCUMENTS = 2_000
_TOGETHER = 64
"""Documents that are judged side by side."""


@dataclass(frozen=True, kw_only=True)
class SequenceClassifierConfig:
    """Hyperparameters of the sequence classifier."""

    reader: Reader = "recurrent"
    """What reads the text; bag-of-words is the mean of the tokens' vectors: a baseline that cannot see their order."""
    cell: Cell = "lstm"
    """Cells of the recurrent network: rnn, lstm or gru."""
    units: int = 128
    """Units of each layer and direction."""
    layers: int = 1
    """Layers, one on top of the other."""
    bidirectional: bool = True
    """Whether a second network reads the text from its end (Graves and Schmidhuber 2005)."""
    layer_norm: bool = False
    """Layer normalisation of the sums inside the cells (Ba et al. 2016). Several times slower on a CPU."""
    pooling: Pooling = "all"
    """What the class is told by: the last state of each direction, mean or maximum over the text, or all of these."""
    embedding: int = 100
    """Numbers of the vector of each token."""
    vectors: str | None = None
    """Vectors of words that these begin with: a file in word2vec's text or binary format, or a run."""
    fixed_vectors: bool = False
    """Whether those stay as they are."""
    dropout: float = 0.3
    """Share of the vectors' numbers, of what goes from layer to layer, and of z, that is dropped while learning."""
    batch_size: int = 32
    """Documents an update."""
    batch_tokens: int = 16_384
    """Tokens an update, padding included: long documents come in smaller batches (one at least; none is cut)."""
    learning_rate: float = 2e-3
    """Step size of AdamW at first."""
    decay_tokens: int | None = None
    """Training tokens at which half a cosine (Loshchilov and Hutter 2017) has brought it to zero. None: the budget."""
    weight_decay: float = 0.01
    """Of AdamW, a step and a unit of step size (Loshchilov and Hutter 2019); not of biases."""
    clip_norm: float = 1.0
    """Greatest norm of the gradient of all weights together (Pascanu et al. 2013)."""

    def __post_init__(self) -> None:
        for name, kind in (("reader", Reader), ("cell", Cell), ("pooling", Pooling)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        for name in ("units", "layers", "embedding", "batch_size", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        for name in ("learning_rate", "clip_norm"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0.0 <= self.weight_decay < math.inf or (self.decay_tokens or 0) < 0:
            raise ConfigError(f"weight_decay and decay_tokens must be 0 or more, got {self.weight_decay}")
        if self.fixed_vectors and self.vectors is None:
            raise ConfigError("fixed_vectors needs --vectors")


class ClassifierNetwork(nn.Module):
    """Token ids of whole texts in, logits of classes out."""

    def __init__(self, config: SequenceClassifierConfig, vocabulary_size: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.embedding.weight.requires_grad_(not config.fixed_vectors)
        self.recurrent: Recurrent | None = None
        width, parts = config.embedding, 1
        if config.reader == "recurrent":
            space = Box(-np.inf, np.inf, (config.embedding,), np.float32)
            self.recurrent = Recurrent(
                space,
                config.cell,
                config.units,
                config.layers,
                bidirectional=config.bidirectional,
                layer_norm=config.layer_norm,
                dropout=config.dropout,
            )
            width, parts = self.recurrent.features, 3 if config.pooling == "all" else 1
        self.output = nn.Linear(parts * width, classes)

    def forward(self, tokens: Tensor, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """int64 [T, B], padded behind `lengths` int64 [B], to [B, classes]; with a generator there is dropout."""
        share = 0.0 if generator is None else self.config.dropout
        vectors = self.embedding(tokens)  # [T, B, D]
        if generator is not None:
            vectors = dropout(vectors, share, generator)
        inside = torch.arange(len(tokens), device=tokens.device).unsqueeze(1) < lengths  # [T, B]
        if self.recurrent is None:
            pooled = mean_over_time(vectors, inside, lengths)
        else:
            features, _ = self.recurrent(
                vectors, lengths=lengths if self.config.bidirectional else None, generator=generator
            )
            pooled = self._pooled(features.float(), inside, lengths)
        if generator is not None:
            pooled = dropout(pooled, share, generator)
        return self.output(pooled)

    def _pooled(self, features: Tensor, inside: Tensor, lengths: Tensor) -> Tensor:
        """[T, B, F] to [B, F], or [B, 3 F] for all."""
        parts = []
        if self.config.pooling in ("last", "all"):
            parts.append(last_states(features, lengths, self.config.bidirectional))
        if self.config.pooling in ("mean", "all"):
            parts.append(mean_over_time(features, inside, lengths))
        if self.config.pooling in ("max", "all"):
            parts.append(features.masked_fill(~inside.unsqueeze(2), -torch.inf).amax(dim=0))
        return torch.cat(parts, dim=1)


def last_states(features: Tensor, lengths: Tensor, bidirectional: bool) -> Tensor:
    """What each direction knows when it has read everything, [B, F], of [T, B, F]: forwards the feature of a text's
    last token, backwards that of its first."""
    at = (lengths - 1).view(1, -1, 1).expand(1, -1, features.shape[2])
    last = features.gather(0, at)[0]  # [B, F]
    if not bidirectional:
        return last
    half = features.shape[2] // 2
    return torch.cat([last[:, :half], features[0, :, half:]], dim=1)


def mean_over_time(features: Tensor, inside: Tensor, lengths: Tensor) -> Tensor:
    """The mean of [T, B, F] over each text's own tokens, [B, F]."""
    return (features * inside.unsqueeze(2)).sum(dim=0) / lengths.unsqueeze(1)


class SequenceClassifier(LanguageModel):
    """The class of a whole text. Raises ConfigError for texts without labels, and for fewer than two classes."""

    Config: ClassVar[type] = SequenceClassifierConfig
    abilities = frozenset({"classify"})
    levels = ("word", "char", "byte")
    text_defaults: ClassVar[Mapping[str, Any]] = {"level": "word", "lower": True}
    needs_labels: ClassVar[bool] = True
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    config: SequenceClassifierConfig

    def __init__(
        self,
        config: SequenceClassifierConfig,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if precision not in self.precisions:
            raise ConfigError(f"precision must be one of {', '.join(self.precisions)}, got {precision}")
        _require_classes(spec)
        self.config, self.spec, self.vocabulary, self.precision = config, spec, vocabulary, precision
        self.device = torch.device(device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.network = ClassifierNetwork(config, spec.vocabulary_size, len(spec.classes)).to(self.device)
        self._weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimizer = adamw(self._weights, config.learning_rate, config.weight_decay, self.device)
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self._tokens = self._updates = 0
        self._seed = seed
        self._vectors_wanted = config.vectors is not None

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, SequenceClassifierConfig]:
        _require_classes(spec)
        default = cls.Config()
        if spec.level != "word":
            default = dataclasses.replace(default, embedding=32)
        return {
            "default": default,
            "gru": dataclasses.replace(default, cell="gru"),
            "bag-of-words": dataclasses.replace(default, reader="bag-of-words", learning_rate=1e-2),
        }

    @classmethod
    def default_tokens(cls, config: SequenceClassifierConfig, spec: TextSpec, train_tokens: int) -> int:
        return 10 * train_tokens

    @classmethod
    def resolve(
        cls, config: SequenceClassifierConfig, spec: TextSpec, *, train_tokens: int, budget_tokens: int
    ) -> SequenceClassifierConfig:
        """Also looks whether the vectors are there. Raises ConfigError, DataError."""
        if config.vectors is not None:
            config = dataclasses.replace(config, vectors=pretrained.checked(config.vectors, config.embedding))
        if config.decay_tokens is not None:
            return config
        return dataclasses.replace(config, decay_tokens=max(1, budget_tokens))

    def make_source(self, data: TextData | LabelledTexts, *, seed: int) -> DocumentSource:
        documents: Any = data.train
        config = self.config
        return DocumentSource(
            documents, batch_size=config.batch_size, batch_tokens=config.batch_tokens, seed=seed, device=self.device
        )

    def update(self, batch: DocumentBatch) -> Outcome:
        if self._vectors_wanted:
            self._take_vectors()
        with autocast(self.device, self.precision):
            logits = self.network(batch.tokens, batch.lengths, self.generator)
        loss = F.cross_entropy(logits.float(), batch.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._weights, self.config.clip_norm)
        if self.config.decay_tokens is not None:
            rate = cosine_schedule(self.config.learning_rate, 0.0, self.config.decay_tokens, self._tokens)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.optimizer.step()
        self._tokens += batch.count
        self._updates += 1
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return Outcome({"nats": loss.detach(), "accuracy": accuracy, "gradient_norm": norm.detach()})

    def _take_vectors(self) -> None:
        assert self.config.vectors is not None
        generator = torch_generator(self._seed, Purpose.NETWORK)
        table = pretrained.embedding_for(self.vocabulary, self.config.vectors, self.config.embedding, generator)
        with torch.no_grad():
            self.network.embedding.weight.copy_(table)
        self._vectors_wanted = False

    def validate(self, data: TextData | LabelledTexts, generator: torch.Generator) -> dict[str, float]:
        """`accuracy` and `nats` of up to VALIDATION_DOCUMENTS documents; where there are none, of training documents,
        under names that say so. `score` is the accuracy, and among equal ones the lower nats."""
        texts: Any = data
        empty = len(texts.validation) == 0
        metrics = self._measured(texts.train if empty else texts.validation, VALIDATION_DOCUMENTS)
        score = metrics["accuracy"] - 1e-4 * metrics["nats"]
        return {**{f"training_{name}" if empty else name: one for name, one in metrics.items()}, "score": score}

    def evaluate(self, data: TextData | LabelledTexts, part: str, generator: torch.Generator) -> dict[str, float]:
        """`accuracy`, `nats`, and the accuracy on each class. Raises DataError where the part is empty."""
        texts: Any = data
        documents = {"train": texts.train, "validation": texts.validation, "test": texts.test}[part]
        if len(documents) == 0:
            raise DataError(f"{data.spec.name} has no {part} part to score")
        return self._measured(documents, len(documents), each_class=True)

    def _measured(self, documents: Documents, limit: int, each_class: bool = False) -> dict[str, float]:
        """Of up to `limit` documents, from all over: files often have their classes one after the other."""
        count = min(limit, len(documents))
        chosen = (np.arange(count) * len(documents) // count).tolist()
        logits = self._judge([document(documents, i) for i in chosen])
        labels = torch.from_numpy(np.asarray(documents.labels[chosen], np.int64))
        right = (logits.argmax(dim=1) == labels).double()
        metrics = {"accuracy": float(right.mean()), "nats": float(F.cross_entropy(logits, labels))}
        if each_class:
            for number, name in enumerate(self.spec.classes):
                if (labels == number).any():
                    metrics[f"accuracy_{name}"] = float(right[labels == number].mean())
        return metrics

    @torch.no_grad()
    def _judge(self, texts: list[NDArray[Any]]) -> Tensor:
        """Logits [N, classes], of texts that are read beside others of like length."""
        self.network.eval()  # no dropout between layers, either
        try:
            return self._logits(texts)
        finally:
            self.network.train()

    def _logits(self, texts: list[NDArray[Any]]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits = torch.empty(len(texts), len(self.spec.classes))
        start = 0
        while start < len(order):
            stop = start + 1
            while (
                stop < len(order)
                and stop - start < _TOGETHER
                and (stop - start + 1) * len(texts[order[stop]]) <= self.config.batch_tokens
            ):
                stop += 1
            chosen = order[start:stop]
            tokens, lengths = padded([texts[i] for i in chosen])
            logits[chosen] = self.network(tokens.to(self.device), lengths.to(self.device)).float().cpu()
            start = stop
        return logits

    def classify(self, texts: list[NDArray[Any]]) -> Tensor:
        if any(len(one) == 0 for one in texts):
            raise ConfigError("a text without any token has no class")
        return self._judge(texts)

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "generator": self.generator.get_state(),
            "tokens": self._tokens,
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        load_generator_state(self.generator, state["generator"])
        self._tokens, self._updates = state["tokens"], state["updates"]
        self._vectors_wanted = self.config.vectors is not None and self._updates == 0


def document(documents: Documents, index: int) -> NDArray[Any]:
    """Token ids of one document."""
    return documents.ids[documents.offsets[index] : documents.offsets[index + 1]]


def _require_classes(spec: TextSpec) -> None:
    if len(spec.classes) < 2:
        raise ConfigError(
            f"a classifier learns from labelled texts of two classes or more, and {spec.name} has {len(spec.classes)}: "
            "use tsv:PATH or negation"
        )
