"""What every language model is: a learner on a text that also predicts, generates, or gives words their vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source
from aprendiz.seeds import Purpose, derived_seed, torch_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aprendiz.text.core import LabelledTexts, Level, TextData, TextSpec, Vocabulary

__all__ = ["ABILITIES", "LanguageModel", "Purpose", "derived_seed", "torch_generator"]

ABILITIES = ("predict", "vectors", "classify")
"""What a model may offer: `predict` (the next token: `start`, `logits`, `surprisals`, and so to generate), `vectors`
of the words of its vocabulary, `classify` whole texts."""


class LanguageModel:
    """Base of all language models. A subclass names its frozen `Config`, and defines what raises
    NotImplementedError."""

    Config: ClassVar[type]
    abilities: ClassVar[frozenset[str]] = frozenset()
    """Which of ABILITIES it has."""
    levels: ClassVar[tuple[Level, ...]] = ("char", "byte", "word")
    """Tokens that it learns from; the first is the default."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    """Precisions that it can learn in; the fastest on this machine is chosen when a run is created."""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    """Kinds of device that it can live on."""
    needs_labels: ClassVar[bool] = False
    """Whether it learns from LabelledTexts instead of TextData."""
    text_defaults: ClassVar[Mapping[str, Any]] = {}
    """Options of texts whose defaults are others for this model, such as `{"level": "word", "min_count": 5}`."""
    one_pass: ClassVar[bool] = False
    """Whether one pass over the text is all that it can learn from: a budget ends there."""
    seeded: ClassVar[bool] = True
    """Whether the seed decides anything of what is learned; False of a model that counts."""

    config: Any
    spec: TextSpec
    vocabulary: Vocabulary
    device: torch.device

    def __init__(
        self,
        config: Any,
        spec: TextSpec,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        """`seed` decides the initial parameters and all noise of learning. Raises ConfigError for texts that it cannot
        learn from."""
        raise NotImplementedError

    @classmethod
    def presets(cls, spec: TextSpec) -> dict[str, Any]:
        """Configs by name for such a text, `default` first. Raises ConfigError where none fits."""
        raise NotImplementedError

    @classmethod
    def default_tokens(cls, config: Any, spec: TextSpec, train_tokens: int) -> int:
        """Training tokens of a run that is given no budget (documents' tokens, for a classifier)."""
        raise NotImplementedError

    @classmethod
    def resolve(cls, config: Any, spec: TextSpec, *, train_tokens: int, budget_tokens: int) -> Any:
        """The config with every fraction of the budget turned into a number of tokens."""
        return config

    def make_source(self, data: TextData | LabelledTexts, *, seed: int) -> Source:
        """Where its batches come from; units are training tokens."""
        raise NotImplementedError

    def update(self, batch: Any) -> Outcome:
        """One step of learning."""
        raise NotImplementedError

    def validate(self, data: TextData | LabelledTexts, generator: torch.Generator) -> dict[str, float]:
        """Metrics of the validation part, with "score" (higher is better) among them; at most a few seconds' work."""
        raise NotImplementedError

    def evaluate(self, data: TextData | LabelledTexts, part: str, generator: torch.Generator) -> dict[str, float]:
        """The metrics that are reported, on the whole of `part` ("test", as a rule, or "validation")."""
        raise NotImplementedError

    def start(self, count: int) -> Any:
        """The state before any token, for `count` texts side by side."""
        raise self._cannot("predict")

    def logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Reads one token of each text, int64 [B]; returns logits (or log-probabilities) float32 [B, V] of the next one
        on the CPU, and the new state. Weights are the averaged ones (EMA), where there are any."""
        raise self._cannot("predict")

    def surprisals(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """-log p of each token of a text but the first, given all before it, in nats [T - 1]; the state is carried."""
        raise self._cannot("predict")

    def vectors(self) -> NDArray[np.float32]:
        """Vectors [V, D] of the words of its vocabulary, by id."""
        raise self._cannot("vectors")

    def classify(self, texts: list[NDArray[Any]]) -> Tensor:
        """Logits float32 [B, classes] of token ids of whole texts."""
        raise self._cannot("classify")

    def modules(self) -> dict[str, nn.Module]:
        """Its networks by name."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, averages and random generators: everything needed to go on exactly."""
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _cannot(self, ability: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__} cannot {ability}; it can {', '.join(sorted(self.abilities))}")
