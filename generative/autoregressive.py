"""What the two PixelCNNs share: what an image is made of, learning, the exact likelihood, drawing.

    log p(x) = sum over pixels i and channels c of log p(x[i, c] | all that come before)

Paper: van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016, equations 1 and 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aprendiz.averages import WeightAverage
from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import adam, linear_schedule, load_optimizer_state, rmsprop
from aprendiz.seeds import global_seed
from generative.core import GenerativeModel, Purpose, derived_seed, torch_generator
from generative.elbo import binarised
from generative.masked import Canvas, bits_per_dimension, centred, draw, log_mass, quantised

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, ImageBatch, Images, ImageSpec
    from generative.metrics import Judge

VALIDATED = 2_000
"""Images that `validate` looks at, at most."""
CHUNK = 250
"""Images at once where nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Hyperparameters of every PixelCNN."""

    levels: int = 2
    """Values that a number of an image can have: 2 (bits, Bernoulli) to 256 (categorical); 256 in van den Oord et al.
    (2016a), section 3.2, 2 for their MNIST."""
    binarisation: Literal["dynamic", "static", "thresholded"] = "dynamic"
    """With two levels: bits drawn from the grey values each time an image is seen, drawn once for all, or grey values
    above a half (Salakhutdinov and Murray 2008 draw them)."""
    batch_size: int = 32
    """Images an update (ours; 16 in van den Oord et al. 2016a, section 5.1)."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or centred RMSProp (van den Oord et al. 2016a, section 5.1, use RMSProp)."""
    learning_rate: float = 2e-3
    """Step size of the optimiser (ours)."""
    warmup_images: int | None = None
    """Images over which the step size rises linearly from 0 (ours). None: 3,200, at most a twentieth of the budget."""
    constant_share: float = 0.3
    """Share of the budget after which the step size begins to fall (ours)."""
    final_learning_rate: float = 0.0
    """What it has fallen to at the end, linearly, as a share of `learning_rate` (ours); 1 keeps it as it is."""
    constant_images: int | None = None
    """Images after which the step size begins to fall. None: `constant_share` of the budget."""
    decay_images: int | None = None
    """Images over which it then falls. None: the rest of the budget."""
    max_gradient_norm: float = 50.0
    """Gradients longer than this are shortened to it; inf leaves all as they are (ours)."""
    average_decay: float = 0.9995
    """Decay, an update, of the average of the weights that is evaluated and draws (Polyak and Juditsky 1992); 0 takes
    the weights themselves."""

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise ConfigError(f"levels must lie between 2 and 256, got {self.levels}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not self.max_gradient_norm > 0.0:
            raise ConfigError(f"max_gradient_norm must be above 0, got {self.max_gradient_norm}")
        for name in ("warmup_images", "constant_images", "decay_images"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("constant_share", "final_learning_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0.0 <= self.average_decay < 1.0:
            raise ConfigError(f"average_decay must lie in [0, 1), got {self.average_decay}")

    @property
    def outputs(self) -> int:
        """K: logits a number of the image; one is enough for a bit."""
        return 1 if self.levels == 2 else self.levels

    def learning_rate_at(self, images: int) -> float:
        """The step size once so many images have been seen; `resolve` comes first."""
        assert self.warmup_images is not None, "resolve() comes first"
        assert self.constant_images is not None and self.decay_images is not None, "resolve() comes first"
        if images < self.warmup_images:
            return linear_schedule(0.0, self.learning_rate, self.warmup_images, images + self.batch_size)
        past, end = images - self.constant_images, self.final_learning_rate * self.learning_rate
        if past <= 0:
            return self.learning_rate
        return linear_schedule(self.learning_rate, end, self.decay_images, past)


class AutoregressiveNetwork(nn.Module):
    """Centred images [B, C, H, W] (and one-hot labels [B, classes]) to logits [B, C, K, H, W]."""

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def canvas(self, count: int, height: int, width: int, condition: Tensor | None = None) -> Canvas:
        """Empty images to be drawn on, pixel by pixel."""
        raise NotImplementedError


class AutoregressiveModel(GenerativeModel):
    """Base of the PixelCNNs. A subclass defines `_build` and `presets`."""

    config: AutoregressiveConfig
    abilities = frozenset({"log_likelihood"})
    precisions = ("fp32", "bf16")

    def __init__(
        self, config: Any, spec: ImageSpec, *, seed: int, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        if not spec.unit_interval:
            raise ConfigError(
                "the levels of a PixelCNN are steps from 0 to 1, and these images lie elsewhere: use --scaling unit"
            )
        self.config, self.spec, self.device, self.precision = config, spec, torch.device(device), precision
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.network = self._build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.network, config.average_decay)
        parameters = list(self.network.parameters())
        if config.optimizer == "adam":
            self.optimizer = adam(parameters, config.learning_rate, 1e-8, self.device)
        else:
            self.optimizer = rmsprop(parameters, config.learning_rate, 0.95, 1e-8, self.device)
        self._generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self._images = 0

    def _build(self) -> AutoregressiveNetwork:
        raise NotImplementedError

    @classmethod
    def default_epochs(cls, config: Any, spec: ImageSpec) -> int:
        return 20 if spec.pixels > 192 else 100

    @classmethod
    def resolve(cls, config: Any, spec: ImageSpec, *, train_images: int, budget_images: int) -> Any:
        warmup, constant, decay = config.warmup_images, config.constant_images, config.decay_images
        warmup = min(3_200, budget_images // 20) if warmup is None else warmup
        constant = round(config.constant_share * budget_images) if constant is None else constant
        decay = max(0, budget_images - constant) if decay is None else decay
        return dataclasses.replace(config, warmup_images=warmup, constant_images=constant, decay_images=decay)

    def _pixels(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Levels int64 [B, C, H, W] of images in [0, 1]."""
        if self.config.levels == 2:
            return binarised(images, self.config.binarisation, generator).long()
        return quantised(images, self.config.levels)

    def _condition(self, labels: Tensor | None) -> Tensor | None:
        """What the network is told of the labels: nothing, where it is not conditional."""
        return None

    def _logits(self, network: nn.Module, pixels: Tensor, condition: Tensor | None) -> Tensor:
        images = centred(pixels, self.config.levels).contiguous(memory_format=torch.channels_last)
        return network(images, condition).float()

    def update(self, batch: ImageBatch) -> Outcome:
        pixels = self._pixels(batch.images, self._generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self._images)
        with autocast(self.device, self.precision):
            logits = self._logits(self.network, pixels, self._condition(batch.labels))
        nats = -log_mass(pixels, logits).mean()
        self.optimizer.zero_grad(set_to_none=True)
        nats.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.average.update(self.network)
        self._images += len(pixels)
        nats = nats.detach()
        bits = nats * bits_per_dimension(1.0, self.spec.pixels)
        return Outcome({"nats": nats, "bits_per_dimension": bits, "gradient_norm": norm.detach()})

    @property
    def _evaluated(self) -> AutoregressiveNetwork:
        """The network that is evaluated and draws."""
        return self.average.network if self.config.average_decay > 0.0 else self.network

    @torch.no_grad()
    def _log_mass(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        return log_mass(pixels, self._logits(self._evaluated, pixels, condition))

    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Exact log p of the bits (drawn by the generator, where they are drawn) or levels of images, nats [B]."""
        return self._log_mass(self._pixels(images.to(self.device), generator), None)

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        measured = self._means(images, min(len(images), VALIDATED), generator, everything=False)
        return {"score": -next(iter(measured.values())), **measured}

    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """Of all images. `binarisation_seed` is that of the generator which drew their bits."""
        measured = self._means(images, len(images), generator, everything=True)
        if self.config.levels == 2 and self.config.binarisation == "dynamic":
            measured["binarisation_seed"] = float(generator.initial_seed())
        return {"score": -next(iter(measured.values())), **measured}

    def _means(self, images: Images, count: int, generator: torch.Generator, *, everything: bool) -> dict[str, float]:
        """Means over the first `count` images of what `_measure` tells, and bits for its nats."""
        totals: dict[str, float] = {}
        for start in range(0, count, CHUNK):
            chunk = slice(start, min(start + CHUNK, count))
            labels = None if images.labels is None else images.labels[chunk].to(self.device)
            pixels = self._pixels(images.scaled(chunk).to(self.device), generator)
            for name, values in self._measure(pixels, labels, everything).items():
                totals[name] = totals.get(name, 0.0) + float(values.cpu().double().sum())
        means = {name: total / count for name, total in totals.items()}
        bits = {
            name.replace("nats", "bits_per_dimension"): bits_per_dimension(nats, self.spec.pixels)
            for name, nats in means.items()
        }
        return {**means, **bits}

    def _measure(self, pixels: Tensor, labels: Tensor | None, everything: bool) -> dict[str, Tensor]:
        """Nats [B] by name, what is learned first; `everything`: also what takes long."""
        return {"nats": -self._log_mass(pixels, None)}

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Exact samples, one number after another; bits come as 0 and 1, levels as equal steps from 0 to 1."""
        labels = self._labels_to_draw(count, generator, labels)
        uniform = torch.rand((count, *self.spec.shape), generator=generator)
        network, drawn = self._evaluated, []
        for start in range(0, count, CHUNK):
            chunk = slice(start, start + CHUNK)
            numbers = uniform[chunk].to(self.device)
            condition = self._condition(None if labels is None else labels[chunk].to(self.device))
            canvas = network.canvas(len(numbers), self.spec.height, self.spec.width, condition)
            drawn.append(draw(canvas, numbers, self.config.levels).cpu())
        return torch.cat(drawn).float() / (self.config.levels - 1)

    def _labels_to_draw(self, count: int, generator: torch.Generator, labels: Tensor | None) -> Tensor | None:
        if labels is not None:
            raise ConfigError(f"{type(self).__name__} was not trained with labels, and cannot draw by them")
        return None

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.average.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "generator": self._generator.get_state(),
            "images": self._images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        load_generator_state(self._generator, state["generator"])
        self._images = state["images"]
