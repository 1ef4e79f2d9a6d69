"""Stacked denoising autoencoder.

Papers: Vincent et al., "Stacked denoising autoencoders", JMLR 11:3371, 2010 (each layer a denoising autoencoder, then
a classifier); Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313:504,
2006 (the layers unrolled into one deep autoencoder and fine-tuned).

    layer k:      h = f_k-1(...f_1(x)), frozen and clean;   loss = distance(h, g_k(f_k(corrupted h)))
    reconstruct:  loss = distance(x, g_1(...g_K(f_K(...f_1(corrupted x)))))
    classify:     loss = cross-entropy(label, softmax(head(f_K(...f_1(x)))))        with dropout
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aprendiz.data.core import Dataset, ImageBatch, ImageSpec
from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.code_density import CodeDensity
from generative.core import GenerativeModel, Purpose, evaluating, torch_generator
from generative.exciting_inputs import filters_of
from generative.fine_tuning import (
    FINE_TUNE,
    FineTunedClassifier,
    StagedConfig,
    StageOptimizer,
    accuracy_metrics,
    initialize,
    layer_stage,
    require_labels,
)
from generative.noise import Noise, check_noise, corrupt, mask
from generative.stacked_layers import code_kind, distance, make_layers, squashed
from generative.staged import StagedSource

if TYPE_CHECKING:
    from aprendiz.data.core import Images
    from generative.metrics import Judge

VALIDATION_IMAGES = 2_000
DENSITY_PERIOD = 8
"""Updates between two looks at the codes, for sampling."""


@dataclass(frozen=True, kw_only=True)
class StackedConfig(StagedConfig):
    """Hyperparameters of a stacked denoising autoencoder; those of its last stage come from StagedConfig."""

    backbone: str = "mlp"
    """First layer, which reads the images, by its registered name; the layers above are dense."""
    hidden: tuple[int, ...] = (1000, 1000, 1000)
    """Units of each layer (Vincent et al. 2010, section 6: three of 1,000 to 2,000). The first number counts for mlp
    alone: other backbones have their own width."""
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    """Nonlinearity of the dense layers, and of a backbone that has the option (sigmoid in Vincent et al. 2010)."""
    fine_tune: Literal["reconstruct", "classify"] = "reconstruct"
    """What the last stage learns: to reconstruct the images through all layers, or their labels."""
    noise: Noise = "masking"
    """What spoils the images (Vincent et al. 2010, section 3.3)."""
    noise_level: float = 0.25
    """Share of the pixels, or standard deviation of Gaussian noise (Vincent et al. 2010, table 3: 10% to 40%)."""
    code_noise_level: float = 0.25
    """Share of a layer's units that are set to 0 before the layer above sees them, in pre-training."""
    batch_size: int = 128
    """Images an update in pre-training."""
    learning_rate: float = 1e-3
    """Adam's step size at the start of each layer; it falls linearly to a tenth."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.noise_level)
        check_noise("masking", self.code_noise_level)
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden must be at least one number, each at least 1, got {self.hidden}")
        if self.activation not in ("relu", "sigmoid", "tanh"):
            raise ConfigError(f"activation must be relu, sigmoid or tanh, got {self.activation!r}")
        if self.fine_tune not in ("reconstruct", "classify"):
            raise ConfigError(f"fine_tune must be reconstruct or classify, got {self.fine_tune!r}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")


class StackedAutoencoder(GenerativeModel):
    """Stacked denoising autoencoder. Fine-tuning as a classifier learns on a copy of the layers, so that what was
    pre-trained still encodes, reconstructs and samples."""

    Config = StackedConfig
    abilities = frozenset({"encode", "reconstruct", "decode", "latents", "filters", "classify"})
    precisions = ("fp32", "bf16")

    def __init__(
        self,
        config: StackedConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.config, self.spec, self.device, self.precision = config, spec, torch.device(device), precision
        generator = torch_generator(seed, Purpose.NETWORK)
        self.encoders = make_layers(config.backbone, spec, config.hidden, config.activation, generator)
        widths = [int(encoder.features) for encoder in self.encoders]  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights of its own first
            self.decoders = nn.ModuleList(
                nn.Linear(above, below) for below, above in itertools.pairwise([spec.pixels, *widths])
            )
        initialize(self.decoders, "linear", generator)
        self.encoders.to(self.device)
        self.decoders.to(self.device)
        self._kinds = [code_kind(encoder, config.activation) for encoder in self.encoders]
        self.density = CodeDensity(widths[-1], self._kinds[-1], self.device)
        self.tuned: FineTunedClassifier | None = None
        if config.fine_tune == "classify":
            require_labels(config, spec)
            layers = copy.deepcopy(self.encoders)
            self.tuned = FineTunedClassifier(config, layers, widths[-1], len(spec.classes), generator, self.device)
        else:
            self.abilities = self.abilities - {"classify"}  # type: ignore[misc]
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self.stage = ""
        self.optimizer: StageOptimizer | None = None
        """Of the stage that is on, if it trains a layer or the whole autoencoder."""
        self._updates = 0

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, StackedConfig]:
        large = spec.pixels >= 400
        base = StackedConfig() if large else StackedConfig(batch_size=20, fine_tune_batch_size=20)
        presets = {
            "default": replace(base, hidden=(512, 256, 64) if large else (128, 64, 32)),
            # The sizes of Hinton and Salakhutdinov 2006.
            "deep": replace(base, hidden=(1000, 500, 250, 30) if large else (128, 64, 32, 16), activation="sigmoid"),
        }
        if len(spec.classes) > 1:
            wide = replace(base, hidden=(1000, 1000, 1000) if large else (256, 256), fine_tune="classify")
            presets["classify"] = replace(wide, pretrain_share=0.4)
            presets["few-labels"] = replace(wide, labels=max(100, len(spec.classes)), pretrain_share=0.9)
            # Vincent et al. 2010: sigmoid units, no dropout, no average.
            presets["paper"] = replace(wide, activation="sigmoid", input_dropout=0.0, dropout=0.0, ema_decay=None)
        return presets

    @classmethod
    def default_epochs(cls, config: StackedConfig, spec: ImageSpec) -> int:
        return 60 if spec.pixels >= 400 else 120

    @classmethod
    def resolve(cls, config: StackedConfig, spec: ImageSpec, *, train_images: int, budget_images: int) -> StackedConfig:
        return config.resolved(len(config.hidden), budget_images)

    def make_source(self, data: Dataset, *, seed: int, augment: Any = None) -> StagedSource:
        config = self.config
        stages = config.stages(len(config.hidden), config.batch_size, labelled=config.fine_tune == "classify")
        return StagedSource(data.train, stages, seed=seed, device=self.device, augment=augment)

    def update(self, batch: ImageBatch) -> Outcome:
        if batch.stage != self.stage:
            self._begin(batch.stage)
        images = batch.images
        if self.tuned is not None and self.stage == FINE_TUNE:
            assert batch.labels is not None
            return Outcome(self.tuned.step(images, batch.labels, self.generator, self.precision) | self._place())
        assert self.optimizer is not None
        with autocast(self.device, self.precision):
            layer = self._layer
            loss = self._unrolled_loss(images) if layer is None else self._layer_loss(layer, images)
        self.optimizer.step(loss, len(images))
        self._updates += 1
        if layer in (None, len(self.encoders) - 1) and self._updates % DENSITY_PERIOD == 0:
            self.density.update(self._codes(images), DENSITY_PERIOD * len(images))
        metrics: dict[str, Tensor | float] = {"loss": loss.detach(), "learning_rate_share": self.optimizer.share}
        return Outcome(metrics | self._place())

    def _begin(self, stage: str) -> None:
        """A new stage, with an optimiser of its own and the other layers frozen."""
        if stage not in self._stages():
            raise ValueError(f"there is no stage {stage!r}, only {', '.join(self._stages())}")
        self.stage = stage
        if stage == FINE_TUNE and self.tuned is not None:
            self.optimizer = None
            self.tuned.start_from(self.encoders)
        else:
            self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> StageOptimizer:
        config, layer = self.config, self._layer
        assert config.pretrain_images is not None and config.fine_tune_images is not None, "resolve() comes first"
        trained = slice(None) if layer is None else slice(layer, layer + 1)
        parameters = [*self.encoders[trained].parameters(), *self.decoders[trained].parameters()]
        if layer is None:
            return StageOptimizer(
                [(parameters, config.fine_tune_learning_rate)],
                images=config.fine_tune_images,
                final_share=config.fine_tune_final_share,
                weight_decay=config.weight_decay,
            )
        return StageOptimizer([(parameters, config.learning_rate)], images=config.pretrain_images, final_share=0.1)

    def _stages(self) -> list[str]:
        return [*map(layer_stage, range(len(self.encoders))), FINE_TUNE]

    @property
    def _layer(self) -> int | None:
        """The layer that the stage trains, None in fine-tuning."""
        return None if self.stage == FINE_TUNE else self._stages().index(self.stage)

    def _place(self) -> dict[str, Tensor | float]:
        return {"stage": float(self._stages().index(self.stage) + 1)}

    def _layer_loss(self, layer: int, images: Tensor) -> Tensor:
        """Of one denoising autoencoder, on the clean code of the frozen layers below it."""
        config = self.config
        below = self.encoders[:layer]
        with torch.no_grad(), evaluating(below):
            clean = images
            for encoder in below:
                clean = encoder(clean).float()
        if layer == 0:
            spoilt = corrupt(clean, config.noise, config.noise_level, self.generator)
        else:
            spoilt = mask(clean, config.code_noise_level, self.generator)
        raw = self.decoders[layer](self.encoders[layer](spoilt)).float()
        return distance(self._kind_below(layer), raw, clean.flatten(1))

    def _unrolled_loss(self, images: Tensor) -> Tensor:
        spoilt = corrupt(images, self.config.noise, self.config.noise_level, self.generator)
        raw = self._decoded(self._encoded(self.encoders, spoilt))
        return distance(self._kind_below(0), raw.float(), images.flatten(1))

    def _kind_below(self, layer: int) -> str:
        """What kind of numbers a decoder puts out: pixels, or codes of the layer below."""
        if layer == 0:
            return "sigmoid" if self.spec.unit_interval else "linear"
        return self._kinds[layer - 1]

    def _encoded(self, layers: nn.ModuleList, images: Tensor) -> Tensor:
        for layer in layers:
            images = layer(images)
        return images

    def _decoded(self, codes: Tensor) -> Tensor:
        """Codes [B, D] to what stands before the pixels' nonlinearity [B, pixels]."""
        for layer in reversed(range(len(self.decoders))):
            codes = self.decoders[layer](codes)
            if layer > 0:
                codes = squashed(self._kind_below(layer), codes)
        return codes

    @torch.no_grad()
    def _codes(self, images: Tensor) -> Tensor:
        with autocast(self.device, self.precision), evaluating(self.encoders):
            return self._encoded(self.encoders, images.to(self.device)).float()

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """Reconstruction error through all layers (squared, summed over pixels) and, where it classifies, accuracy.

        The score is the accuracy in [0, 1] once the classifier learns, before that and elsewhere -error: below 0.
        """
        return self._measured(images, min(len(images), VALIDATION_IMAGES))

    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """The same of all images."""
        return self._measured(images, len(images))

    @torch.no_grad()
    def _measured(self, images: Images, count: int) -> dict[str, float]:
        error = 0.0
        for start in range(0, count, 500):
            batch = images.scaled(slice(start, min(start + 500, count))).to(self.device)
            error += float((self.reconstruct(batch) - batch).square().sum()) / count
        metrics = {"reconstruction_error": error, "score": -error}
        if self.tuned is not None and self.stage == FINE_TUNE:
            metrics |= accuracy_metrics(self.classify, images, count)
            metrics["score"] = metrics["accuracy"]
        return metrics

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        if self.tuned is None:
            raise self._cannot("classify")
        with autocast(self.device, self.precision):
            return self.tuned.evaluated(images.to(self.device)).float()

    def encode(self, images: Tensor) -> Tensor:
        """Codes of the pre-trained layers; without pre-training those of the classifier."""
        if self.tuned is None or self.config.pretrain:
            return self._codes(images)
        with torch.no_grad():
            return self._encoded(self.tuned.evaluated.layers, images.to(self.device)).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            raw = self._decoded(codes.to(self.device)).float()
        return squashed(self._kind_below(0), raw).reshape(-1, *self.spec.shape)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self._codes(images))

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes of a Gaussian fitted to those of the training images while the last layer learned."""
        return self.density.sample(count, generator)

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.latents(count, generator)).cpu()

    def filters(self) -> Tensor:
        """Of the first layer's units."""
        layers = self.encoders if self.tuned is None or self.config.pretrain else self.tuned.evaluated.layers
        units = int(layers[0].features)  # type: ignore[arg-type]
        with evaluating(layers):
            return filters_of(layers[0], layers[0], units, self.spec)

    def modules(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"encoders": self.encoders, "decoders": self.decoders}
        return networks if self.tuned is None else networks | {"classifier": self.tuned.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "encoders": self.encoders.state_dict(),
            "decoders": self.decoders.state_dict(),
            "density": self.density.state_dict(),
            "tuned": None if self.tuned is None else self.tuned.state_dict(),
            "generator": self.generator.get_state(),
            "stage": self.stage,
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.encoders.load_state_dict(state["encoders"])
        self.decoders.load_state_dict(state["decoders"])
        self.density.load_state_dict(state["density"])
        if self.tuned is not None:
            self.tuned.load_state_dict(state["tuned"])
        load_generator_state(self.generator, state["generator"])
        self.stage, self._updates = state["stage"], state["updates"]
        self.optimizer = None
        if state["optimizer"] is not None:
            self.optimizer = self._make_optimizer()
            self.optimizer.load_state_dict(state["optimizer"])
