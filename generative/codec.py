"""What all autoencoders without latent variables share: encoding, sampling, measuring, saving.

An algorithm's own file has its `Config`, its presets and its `update`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.backbones import activation_module
from aprendiz.device import load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.optim import adam, cosine_schedule, load_optimizer_state
from aprendiz.seeds import global_seed
from generative.code_density import CodeDensity
from generative.coding_networks import Codec
from generative.core import GenerativeModel, Purpose, derived_seed, evaluating, torch_generator
from generative.exciting_inputs import filters_of
from generative.penalties import ReconstructionLoss, reconstruction_loss

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, Images, ImageSpec
    from generative.metrics import Judge

VALIDATION_IMAGES = 2_000
"""At most so many are looked at while learning."""
CHUNK = 500
"""Images that go through a network at once when nothing is learned."""
DENSITY_PERIOD_UPDATES = 8
"""Every so many updates the running density takes in the codes: it forgets slowly, and need not see them all."""


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Hyperparameters that all these autoencoders have."""

    backbone: str = "mlp"
    """Network that reads the image, by its registered name."""
    hidden: tuple[int, ...] = (500,)
    """Units of the encoder's dense layers. The decoder has the same in reverse."""
    activation: str = "relu"
    """Nonlinearity after each of them: relu, leaky-relu, elu, silu, gelu, softplus, tanh, sigmoid or identity."""
    code_size: int | None = None
    """Units of a linear code layer on top of the encoder (Hinton and Salakhutdinov 2006). None: the encoder's last
    layer is the code."""
    loss: ReconstructionLoss = "cross-entropy"
    """Cross-entropy of pixels in [0, 1], or squared error; summed over pixels (Vincent et al. 2010, section 2.2)."""
    learning_rate: float = 1e-3
    """Step size of Adam at first (Kingma and Ba 2015, algorithm 1)."""
    learning_rate_decay_images: int | None = None
    """Training images over which the step size falls along half a cosine (Loshchilov and Hutter 2017, equation 5), to
    a hundredth. None: the whole budget."""
    batch_size: int = 128
    """Images an update."""
    weight_decay: float = 0.0
    """Factor of half the sum of squared weights, biases apart (Ng 2011, CS294A lecture notes, section 2)."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "learning_rate_decay_images", "code_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.loss not in ("cross-entropy", "squared-error"):
            raise ConfigError(f"loss must be cross-entropy or squared-error, got {self.loss!r}")
        if not self.hidden and self.code_size is None:
            raise ConfigError("an encoder without hidden layers needs a code_size")
        if any(size < 1 for size in self.hidden):
            raise ConfigError(f"hidden layers need at least 1 unit each, got {', '.join(map(str, self.hidden))}")
        activation_module(self.activation)
        check_positive(self, "learning_rate")
        check_not_negative(self, "weight_decay")


def check_positive(config: Any, *names: str) -> None:
    """Raises ConfigError where a field is not above 0 and finite."""
    for name in names:
        if not 0.0 < getattr(config, name) < math.inf:
            raise ConfigError(f"{name} must be above 0, got {getattr(config, name)}")


def check_not_negative(config: Any, *names: str) -> None:
    """Raises ConfigError where a field is not 0 or more and finite."""
    for name in names:
        if not 0.0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"{name} must be 0 or more, got {getattr(config, name)}")


def require_unit_interval(spec: ImageSpec, what: str, way_out: str) -> None:
    """Raises ConfigError where images do not lie in [0, 1], which `what` needs."""
    if not spec.unit_interval:
        raise ConfigError(
            f"{what} needs pixels in [0, 1], and those of {spec.name} are scaled otherwise: use --scaling unit, or "
            f"{way_out}"
        )


def presets_for(spec: ImageSpec, presets: Mapping[str, Any]) -> dict[str, Any]:
    """The presets; with the squared error, where the cross-entropy is not defined for such pixels."""
    if spec.unit_interval:
        return dict(presets)
    return {name: dataclasses.replace(config, loss="squared-error") for name, config in presets.items()}


def chunks(images: Images, limit: int, device: torch.device) -> Iterator[Tensor]:
    """The first `limit` images, scaled, on the device, [at most CHUNK, C, H, W] at a time."""
    end = min(limit, len(images))
    for first in range(0, end, CHUNK):
        yield images.scaled(slice(first, min(first + CHUNK, end))).to(device)


class CodecModel(GenerativeModel):
    """Base of the autoencoders whose code is a function of the image. A subclass adds `update`."""

    abilities = frozenset({"encode", "reconstruct", "decode", "latents", "filters"})
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")

    def __init__(
        self,
        config: Any,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if precision not in self.precisions:
            raise ConfigError(f"precision must be one of {', '.join(self.precisions)}, got {precision}")
        if config.loss == "cross-entropy":
            require_unit_interval(spec, "the cross-entropy", "--loss squared-error")
        self.config, self.spec, self.precision = config, spec, precision
        self.device = torch.device(device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.network = self._build(config, spec).to(self.device)
        self.optimizer = adam(self.network.parameters(), config.learning_rate, 1e-8, self.device)
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self.density = CodeDensity(self.network.code_size, self.network.squash, self.device)
        self._images = self._updates = 0

    def _build(self, config: Any, spec: ImageSpec) -> Codec:
        return Codec(
            spec,
            encoder=config.backbone,
            hidden=config.hidden,
            activation=config.activation,
            code_size=config.code_size,
            tied_weights=getattr(config, "tied_weights", False),
        )

    @classmethod
    def default_epochs(cls, config: Any, spec: ImageSpec) -> int:
        # Small images with labels are few as a rule (1,437 digits); patches, which have none, are many (200,000).
        if spec.pixels <= 256:
            return 500 if spec.classes else 6
        return 30

    @classmethod
    def resolve(cls, config: Any, spec: ImageSpec, *, train_images: int, budget_images: int) -> Any:
        if config.learning_rate_decay_images is not None:
            return config
        return dataclasses.replace(config, learning_rate_decay_images=max(1, budget_images))

    def _error(self, logits: Tensor, images: Tensor) -> Tensor:
        """The reconstruction loss of the config, a scalar."""
        return reconstruction_loss(logits.float(), images, self.config.loss, self.spec.unit_interval)

    def _step(self, loss: Tensor, codes: Tensor) -> None:
        """One step of the optimiser, and of everything that goes by the number of images seen."""
        start, duration = self.config.learning_rate, self.config.learning_rate_decay_images
        if duration is not None:
            self.optimizer.param_groups[0]["lr"] = cosine_schedule(start, start / 100, duration, self._images)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self._updates % DENSITY_PERIOD_UPDATES == 0:
            self.density.update(codes, DENSITY_PERIOD_UPDATES * len(codes))
        self._updates += 1
        self._images += len(codes)

    @torch.no_grad()
    def _measures(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Metrics of images [B, C, H, W], each a mean over them, "score" among them."""
        logits = self.network.decode(self.network.encode(images)).float()
        error = self._error(logits, images)
        return {
            "score": -error,
            "reconstruction_loss": error,
            "mean_squared_error": F.mse_loss(self._output(logits), images),
        }

    def _measured(self, images: Images, generator: torch.Generator, limit: int) -> dict[str, float]:
        totals: dict[str, float] = {}
        count = 0
        with evaluating(self.network):
            for chunk in chunks(images, limit, self.device):
                count += len(chunk)
                for name, value in self._measures(chunk, generator).items():
                    totals[name] = totals.get(name, 0.0) + float(value) * len(chunk)
        return {name: total / count for name, total in totals.items()}

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """The reconstruction loss of the config (sum over pixels, mean over images), the squared error (mean over
        pixels), and what the algorithm adds; `score` is the loss that is learned, negative."""
        return self._measured(images, generator, VALIDATION_IMAGES)

    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """What `validate` gives, of all images."""
        return self._measured(images, generator, len(images))

    def _output(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits) if self.spec.unit_interval else logits

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes [count, D] drawn from the density that was fitted to those of the training images."""
        return self.density.sample(count, generator)

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Decoded codes of the density that was fitted to those of the training images (Ghosh et al. 2020)."""
        codes = self.latents(count, generator)
        return torch.cat([self.decode(chunk).cpu() for chunk in codes.split(CHUNK)])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        with evaluating(self.network):
            return self.network.encode(images.to(self.device)).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with evaluating(self.network):
            return self._output(self.network.decode(codes.to(self.device)).float())

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def filters(self) -> Tensor:
        """Of the first layer where it is dense (w / ||w||), otherwise of the code (by ascent)."""
        with evaluating(self.network):
            return filters_of(self.network.encoder, self.network.encode, self.network.code_size, self.spec)

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "density": self.density.state_dict(),
            "generator": self.generator.get_state(),
            "images": self._images,
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.density.load_state_dict(state["density"])
        load_generator_state(self.generator, state["generator"])
        self._images, self._updates = state["images"], state["updates"]
