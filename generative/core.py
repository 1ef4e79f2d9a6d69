"""What every generative model is: a learner that also samples, and that may encode, reconstruct and explain itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source
from aprendiz.seeds import Purpose, derived_seed, torch_generator

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, ImageBatch, Images, ImageSpec
    from generative.metrics import Judge

__all__ = ["ABILITIES", "GenerativeModel", "Purpose", "derived_seed", "evaluating", "torch_generator"]

ABILITIES = ("encode", "reconstruct", "decode", "latents", "filters", "classify", "log_likelihood", "labels")
"""What a model may offer besides `sample`: the methods of these names, and "labels" where `sample` takes them."""


class GenerativeModel:
    """Base of all generative models. A subclass names its frozen `Config`, and defines what raises NotImplementedError.

    Images are float32 [B, C, H, W], scaled as the data set says (in [0, 1] where `spec.unit_interval`).
    """

    Config: ClassVar[type]
    abilities: ClassVar[frozenset[str]] = frozenset()
    """Which of ABILITIES it has."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    """Precisions that it can learn in; the fastest on this machine is chosen when a run is created."""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    """Kinds of device that it can live on."""
    needs_labels: ClassVar[bool] = False
    """Whether it learns from labelled images only."""
    wants_judge: ClassVar[bool] = False
    """Whether `validate` makes use of a judge: a classifier is then at hand while it learns, where there are labels."""

    config: Any
    spec: ImageSpec

    def __init__(
        self, config: Any, spec: ImageSpec, *, seed: int, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        """`seed` decides the initial parameters and all noise of learning. Raises ConfigError for images that it cannot
        learn from."""
        raise NotImplementedError

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, Any]:
        """Configs by name for such images, `default` first. Raises ConfigError where none fits."""
        raise NotImplementedError

    @classmethod
    def default_epochs(cls, config: Any, spec: ImageSpec) -> int:
        """Passes over the training images of a run that is given no budget."""
        return 20

    @classmethod
    def resolve(cls, config: Any, spec: ImageSpec, *, train_images: int, budget_images: int) -> Any:
        """The config with every fraction of the budget, and every number of epochs, turned into a number of images."""
        return config

    def make_source(self, data: Dataset, *, seed: int, augment: Any = None) -> Source:
        """Where its batches (ImageBatch) come from: by default the training images, shuffled, batch after batch."""
        from aprendiz.data.source import DataSource

        return DataSource(data.train, batch_size=self.config.batch_size, seed=seed, device=self.device, augment=augment)

    device: torch.device

    def update(self, batch: ImageBatch) -> Outcome:
        """One step of learning."""
        raise NotImplementedError

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """Metrics of held-out images, with "score" (higher is better) among them; at most a few seconds' work.

        `judge` is there where the data are labelled: what looks at samples.
        """
        raise NotImplementedError

    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """The metrics that are reported, on all of `images` (the test images, as a rule): what `validate` gives, and
        whatever takes longer. Metrics of samples and of codes that any model may have are added by the command."""
        return self.validate(images, generator, judge)

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """New images float32 [count, C, H, W] on the CPU, decided by the generator (a CPU one) and the weights alone.

        `labels` int64 [count] chooses classes, for models with that ability. Where there is an average of the weights
        (EMA), it is what samples.
        """
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Codes float32 [B, D] of images [B, C, H, W]; deterministic (the mean of a distribution)."""
        raise self._cannot("encode")

    def decode(self, codes: Tensor) -> Tensor:
        """Images float32 [B, C, H, W] of codes [B, D] (or latent vectors, for a GAN: what `interpolate` walks in)."""
        raise self._cannot("decode")

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Latent vectors float32 [count, D] drawn from the prior, for `decode`; the generator is one of the CPU."""
        raise self._cannot("latents")

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images as they come back through the model, float32 [B, C, H, W]."""
        raise self._cannot("reconstruct")

    def filters(self) -> Tensor:
        """The input of norm 1 that most excites each hidden unit, float32 [units, C, H, W]."""
        raise self._cannot("filters")

    def classify(self, images: Tensor) -> Tensor:
        """Logits float32 [B, classes]."""
        raise self._cannot("classify")

    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """log p(x) in nats [B], or the bound or estimate of it that the model's page names."""
        raise self._cannot("log_likelihood")

    def modules(self) -> dict[str, nn.Module]:
        """Its networks by name."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, averages and random generators: everything needed to go on exactly."""
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _cannot(self, ability: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__} cannot {ability.replace('_', ' ')}; it has {self._abilities()}")

    def _abilities(self) -> str:
        return ", ".join(sorted({"sample", *self.abilities} - {"labels"}))


@contextlib.contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Within it networks are in evaluation mode, after it as they were: a backbone that normalises by the batch, or
    drops units, while it learns does neither where its codes are asked for."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
