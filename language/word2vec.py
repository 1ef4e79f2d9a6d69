"""word2vec: vectors of words, learned by predicting words from the words beside them.

Papers: Mikolov, Chen, Corrado and Dean, "Efficient estimation of word representations in vector space", ICLR workshop
2013 (2013a: skip-gram and CBOW); Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words
and phrases and their compositionality", NIPS 2013 (2013b: negative sampling, subsampling).

    skip-gram     each word of a window predicts the centre       x = v(context)
    CBOW          all of them together do                         x = mean of v(context)

    negative      log sigmoid(x . u(centre)) + sum over K negatives of log sigmoid(-x . u(negative))     2013b, (4)
    hierarchical  sum over the way to the centre of log sigmoid(+-x . u(node))                           2013b, (3)
    softmax       x . u(centre) - log sum over all words of exp(x . u(word))                             2013b, (2)

    negatives ~ counts^0.75;   a word of share f is kept with probability sqrt(t / f) + t / f;   the rate falls linearly

On the CPU compiled threads learn (`word2vec_kernels`), all of them from the one text, which is mapped, not copied.
Elsewhere PyTorch does (`word2vec_torch`). What is drawn is the same (`word2vec_draws`), and with one thread a seed
decides every bit.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aprendiz.errors import CheckpointError, ConfigError, DataError
from aprendiz.loop import Outcome
from aprendiz.text.cache import release
from language import word2vec_kernels as kernels
from language import word2vec_torch as torch_path
from language.core import LanguageModel, Purpose, derived_seed
from language.huffman import HuffmanTree, huffman_tree
from language.token_chunks import TokenChunk, TokenChunks, has_neighbours
from language.word2vec_draws import LINE_END, Draws
from language.word2vec_network import WordVectors
from language.word2vec_torch import Architecture, Objective

if TYPE_CHECKING:
    from aprendiz.text.core import LabelledTexts, TextData, TextSpec, Vocabulary

JOB_TOKENS = 4096
"""Tokens that a thread learns from between two looks for work."""
REPRODUCIBLE_TOKENS = 5_000_000
"""A run of fewer training tokens than this takes seconds, so that one thread does, and every run is the same."""
VALIDATION_LOGITS = 20_000_000
"""About so many logits are computed to validate."""


@dataclass(frozen=True, kw_only=True)
class Word2VecConfig:
    """Hyperparameters of word2vec."""

    architecture: Architecture = "skip-gram"
    """skip-gram: each word of the window predicts the centre; cbow: their mean does (2013a, section 3)."""
    objective: Objective = "negative"
    """negative: negative sampling; hierarchical: softmax over a Huffman tree; softmax: over all words (slow)."""
    dimensions: int = 100
    """Length of a word's vector (100 in the program of the papers; 300 in 2013b, section 2.3)."""
    window: int = 5
    """Words on either side of the centre, at most (2013b, section 2.3)."""
    dynamic_window: bool = True
    """Whether the width of each window is drawn from 1 to `window` (2013a, section 3.2)."""
    negatives: int = 5
    """Negative samples (5 to 20 for small texts, 2 to 5 for large ones: 2013b, section 2.2)."""
    share_negatives: bool = True
    """Whether the words of a window share their negatives (Ji et al. 2019): faster, and no worse. cbow has one
    prediction a window in any case."""
    negative_exponent: float = 0.75
    """Negatives are drawn in proportion to counts to this power (2013b, section 2.2)."""
    subsampling: float = 1e-4
    """Threshold t above which a word's share of the text makes it be dropped at times; 0 never (1e-5 for texts of 10^9
    words in 2013b, section 2.3; 1e-3 to 1e-5 in the program)."""
    learning_rate: float = 0.025
    """Step size at first (0.025 for skip-gram, 0.05 for cbow in the program of the papers)."""
    final_learning_rate: float = 1e-4
    """Step size at last (a 10,000th of the first one in the program; this in gensim)."""
    decay_tokens: int | None = None
    """Training tokens over which the step size falls from the first to the last. None: all of the budget."""
    cbow_mean: bool = True
    """Whether cbow takes the mean of the context's vectors, or their sum."""
    cbow_gradient: Literal["whole", "exact"] = "whole"
    """whole: each vector of the context moves by the whole gradient of the mean, as in the program of the papers;
    exact: by its own (Irsoy, Benton and Stratos 2021, "Corrected CBOW performs as well as skip-gram")."""
    threads: int | None = None
    """Threads of the compiled path; more than one do not give the same bits each time. None: one below 5,000,000
    tokens, else one for each core."""
    backend: Literal["auto", "compiled", "torch"] = "auto"
    """compiled: threads on the CPU; torch: any device; auto: compiled on the CPU, torch elsewhere."""
    batch_examples: int = 512
    """Windows in a step of the torch path. Their gradients are summed, so that more is not always better."""
    chunk_tokens: int | None = None
    """Tokens of one update of the loop: how often it can log and stop, never what is learned. None: by the
    objective."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("architecture", get_args(Architecture)),
            ("objective", get_args(Objective)),
            ("cbow_gradient", ("whole", "exact")),
            ("backend", ("auto", "compiled", "torch")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("dimensions", "window", "negatives", "batch_examples", "decay_tokens", "threads", "chunk_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.window > 1_000:
            raise ConfigError(f"window must be at most 1,000, got {self.window}")
        if not 0.0 <= self.subsampling < 1.0:
            raise ConfigError(f"subsampling must be at least 0 and below 1, got {self.subsampling}; try 1e-4")
        for name in ("learning_rate", "negative_exponent", "final_learning_rate"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0.0 or (value == 0.0 and name == "learning_rate"):
                raise ConfigError(f"{name} must be a finite number above 0, got {value}")
        if self.final_learning_rate > self.learning_rate:
            raise ConfigError(
                f"the step size falls: final_learning_rate {self.final_learning_rate:g} must be at most learning_rate "
                f"{self.learning_rate:g}"
            )


class Word2Vec(LanguageModel):
    """Skip-gram and CBOW. Raises ConfigError for texts that are not at word level, or have fewer than two words."""

    Config: ClassVar[type] = Word2VecConfig
    abilities = frozenset({"vectors"})
    levels = ("word",)
    text_defaults: ClassVar[Mapping[str, Any]] = {
        "level": "word", "lower": True, "min_count": 5, "held_out": 0.0, "validation": 0.0,
    }  # fmt: skip
    config: Word2VecConfig

    def __init__(
        self,
        config: Word2VecConfig,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        _require_words(spec)
        self.config, self.spec, self.vocabulary = config, spec, vocabulary
        self.device = torch.device(device)
        counts = np.asarray(vocabulary.counts, dtype=np.int64).copy()
        counts[: LINE_END + 1] = 0
        if (words := int((counts > 0).sum())) < 2:
            raise ConfigError(
                f"word2vec needs at least 2 words, {spec.name} has {words}; use a longer text or --min-count 1"
            )
        self.compiled = config.backend == "compiled" or (config.backend == "auto" and self.device.type == "cpu")
        if self.compiled and self.device.type != "cpu":
            raise ConfigError(f"the compiled backend lives on the CPU, not on {self.device.type}; use --backend torch")
        self.draws = self._draws(derived_seed(seed, Purpose.LEARNING))
        self.tree: HuffmanTree | None = huffman_tree(counts) if config.objective == "hierarchical" else None
        rows = self.tree.inner_nodes if self.tree is not None else len(counts)
        self.network = WordVectors(len(counts), rows, config.dimensions, self.compiled, seed)
        if not self.compiled:
            self.network = self.network.to(self.device)
            del self.network.input_rows, self.network.output_rows  # where they were before
        self._way: torch_path.Way | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._loss: Tensor | float = 0.0
        """Of the last predictions that were measured."""

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, Word2VecConfig]:
        """`default`, `cbow`, `hierarchical`, and `paper`: NEG-15 of 2013b, table 1. Raises ConfigError but for
        words."""
        _require_words(spec)
        return {
            "default": Word2VecConfig(),
            "cbow": Word2VecConfig(architecture="cbow", learning_rate=0.05),
            "hierarchical": Word2VecConfig(objective="hierarchical"),
            "paper": Word2VecConfig(dimensions=300, negatives=15, share_negatives=False, subsampling=1e-5),
        }

    @classmethod
    def default_tokens(cls, config: Word2VecConfig, spec: TextSpec, train_tokens: int) -> int:
        """Five passes, as in the program of the papers; up to a hundred over small texts, which need them."""
        return train_tokens * max(5, min(100, 20_000_000 // max(train_tokens, 1)))

    @classmethod
    def resolve(
        cls, config: Word2VecConfig, spec: TextSpec, *, train_tokens: int, budget_tokens: int
    ) -> Word2VecConfig:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chunk = {"negative": 1_000_000, "hierarchical": 300_000, "softmax": 2_000}[config.objective]
        return dataclasses.replace(
            config,
            decay_tokens=config.decay_tokens or max(1, budget_tokens),
            threads=config.threads or (1 if budget_tokens < REPRODUCIBLE_TOKENS else cores),
            chunk_tokens=config.chunk_tokens or max(1, min(chunk, budget_tokens // 50)),
        )

    def make_source(self, data: TextData | LabelledTexts, *, seed: int) -> TokenChunks:
        """The training part in its order; all that is random is in the learner's draws. Raises DataError where no two
        words stand in one line."""
        tokens: Any = data.train
        if not has_neighbours(tokens.ids):
            raise DataError(
                f"no line of {data.spec.name} has two words of the vocabulary, and word2vec learns from words that "
                f"stand side by side; use a longer text or a lower --min-count"
            )
        return TokenChunks(tokens, self.config.chunk_tokens or 100_000)

    def update(self, batch: TokenChunk) -> Outcome:
        """Learns from a stretch. Metrics: `loss` in nats a prediction (of one in 64 on the compiled path),
        `learning_rate`."""
        if self.compiled:
            jobs = range(batch.start, batch.stop, JOB_TOKENS)
            every = kernels.LOSS_EVERY if len(jobs) > 8 else 1
            parts = list(self._map(lambda start: self._job(batch, start, every), jobs))
            loss, predictions = (math.fsum(column) for column in zip(*parts, strict=True))
            self._loss = loss / predictions if predictions else self._loss
        else:
            self._loss = self._torch_update(batch)
        return Outcome({"loss": self._loss, "learning_rate": self.rate(batch.epoch * len(batch.ids) + batch.start)})

    def rate(self, place: int) -> float:
        """The step size after so many tokens."""
        config = self.config
        passed = 0.0 if config.decay_tokens is None else min(1.0, place / config.decay_tokens)
        return config.learning_rate + (config.final_learning_rate - config.learning_rate) * passed

    def _job(self, chunk: TokenChunk, start: int, every: int) -> tuple[float, int]:
        """What one thread does: draws the examples of a stretch, and learns them."""
        config, network = self.config, self.network
        examples = self.draws.examples(chunk.ids, start, min(start + JOB_TOKENS, chunk.stop), chunk.epoch)
        inputs, outputs = network.input_rows.numpy().reshape(-1), network.output_rows.numpy().reshape(-1)
        tables = inputs, outputs, network.row, len(examples.centres)
        drawn = examples.places, examples.centres, examples.sizes, examples.contexts
        decay, last = config.decay_tokens, config.final_learning_rate
        how = (
            config.architecture == "cbow", config.cbow_mean, config.cbow_gradient == "exact", config.learning_rate,
            config.learning_rate if decay is None else last, float(decay or 1), every,
        )  # fmt: skip
        if config.objective == "softmax":
            return kernels.learn_softmax(*tables, *drawn, *how)
        if self.tree is not None:
            return kernels.learn_hierarchical(*tables, *drawn, self.tree.lengths, self.tree.nodes, self.tree.bits, *how)
        return kernels.learn_negative(*tables, *drawn, examples.noise, *how)

    def _map(self, work: Any, jobs: range) -> Iterator[tuple[float, int]]:
        """In order, on as many threads as there are to be; they end with the process."""
        threads = self.config.threads or 1
        if threads == 1 or len(jobs) == 1:
            return map(work, jobs)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="word2vec")
        return self._pool.map(work, jobs)

    def _torch_update(self, chunk: TokenChunk) -> Tensor | float:
        losses, counts = [], []
        for start in range(chunk.start, chunk.stop, 4 * JOB_TOKENS):
            examples = self.draws.examples(chunk.ids, start, min(start + 4 * JOB_TOKENS, chunk.stop), chunk.epoch)
            whole = torch_path.batch_of(examples, self.device)
            for first in range(0, len(examples.centres), self.config.batch_examples):
                batch = torch_path.Batch(*(part[first : first + self.config.batch_examples] for part in whole))
                loss, count = torch_path.step(
                    self.network.input, self.network.output, batch, self.rate(int(examples.places[first])),
                    exact=self.config.cbow_gradient == "exact", **self._kind(),
                )  # fmt: skip
                losses.append(loss)
                counts.append(count)
        return torch.stack(losses).sum() / torch.stack(counts).sum() if losses else self._loss

    def _kind(self) -> dict[str, Any]:
        if self.tree is not None and self._way is None:
            self._way = torch_path.way_of(self.tree, self.device)
        return {
            "architecture": self.config.architecture, "objective": self.config.objective,
            "mean": self.config.cbow_mean, "way": self._way,
        }  # fmt: skip

    def _draws(self, seed: int) -> Draws:
        config = self.config
        return Draws(
            counts=np.asarray(self.vocabulary.counts, dtype=np.int64),
            seed=seed,
            subsampling=config.subsampling,
            window=config.window,
            dynamic=config.dynamic_window,
            negatives=config.negatives if config.objective == "negative" else 0,
            own=config.architecture == "skip-gram" and config.objective == "negative" and not config.share_negatives,
            exponent=config.negative_exponent,
        )

    def validate(self, data: TextData | LabelledTexts, generator: torch.Generator) -> dict[str, float]:
        """`nats_per_prediction` of a stretch of the validation part or, where that is empty, of the training part;
        `score` is its negative. Of the objective it says little about the vectors' worth: `language.word_tasks`
        does."""
        part: Any = data.validation if len(data.validation) > 0 else data.train
        seed = int(torch.randint(2**31, (), generator=generator))
        start = int(torch.randint(max(1, len(part)), (), generator=generator))
        nats = self._nats(part.ids, start, seed, VALIDATION_LOGITS)
        return {"nats_per_prediction": nats, "score": -nats}

    def evaluate(self, data: TextData | LabelledTexts, part: str, generator: torch.Generator) -> dict[str, float]:
        """`nats_per_prediction` of the whole part, once, with the same subsampling as in training. Raises DataError
        where it is empty, as it is unless --held-out or --validation was given."""
        tokens: Any = {"validation": data.validation, "test": data.test, "train": data.train}[part]
        if len(tokens) == 0:
            raise DataError(
                f"{data.spec.name} has no {part} part for word2vec, which judges vectors by word sets; train with "
                f"--held-out 0.1 --validation 0.1 to have one"
            )
        return {
            "nats_per_prediction": self._nats(tokens.ids, 0, int(torch.randint(2**31, (), generator=generator)), None)
        }

    def _nats(self, ids: NDArray[Any], start: int, seed: int, logits: int | None) -> float:
        """Mean loss of ids from `start` on, then from the beginning, until so many logits were computed."""
        draws, config = self._draws(seed), self.config
        rows = self.network.output.shape[0] if config.objective == "softmax" else 4 * (config.negatives + 1)
        size = max(1, min(JOB_TOKENS, VALIDATION_LOGITS // (rows * 2 * config.window)))
        limit = len(ids) if logits is None else min(len(ids), max(size, logits // (rows * 2 * config.window)))
        total, predictions = 0.0, 0
        for offset in range(0, limit, size):
            first = (start + offset) % len(ids)
            examples = draws.examples(ids, first, min(first + min(size, limit - offset), len(ids)), 0)
            if len(examples.centres):
                batch = torch_path.batch_of(examples, self.device)
                loss, count = torch_path.loss(self.network.input, self.network.output, batch, **self._kind())
                total, predictions = total + float(loss), predictions + int(count)
            release(ids, first, first + size)
        return total / max(predictions, 1)

    def vectors(self) -> NDArray[np.float32]:
        """[V, D] by id. Those of UNKNOWN and LINE_END were never learned."""
        return self.network.input.detach().cpu().contiguous().numpy().copy()

    def modules(self) -> dict[str, nn.Module]:
        return {"vectors": self.network}

    def state_dict(self) -> dict[str, Any]:
        """Both tables. What is drawn depends on the seed and the place in the text alone."""
        network = self.network
        return {
            "seed": self.draws.seed,
            "input": network.input.detach().cpu().contiguous().clone(),
            "output": network.output.detach().cpu().contiguous().clone(),
            "loss": float(self._loss),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError for tables of another shape."""
        for name in ("input", "output"):
            table, saved = getattr(self.network, name), state[name]
            if table.shape != saved.shape:
                raise CheckpointError(
                    f"the checkpoint's {name} vectors are {tuple(saved.shape)}, the model's {tuple(table.shape)}; "
                    "resume with the text and options of the run"
                )
            table.data.copy_(torch.as_tensor(saved))
        self.draws = self._draws(int(state["seed"]))
        self._loss = float(state["loss"])


def _require_words(spec: TextSpec) -> None:
    if spec.level != "word":
        raise ConfigError(f"word2vec learns from words, {spec.name} was read at level {spec.level}; use --level word")
