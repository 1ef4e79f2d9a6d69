"""What models that learn layer by layer share: the classifier of the last stage, and the optimiser of one stage.

Dropout and max-norm: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR
15:1929, 2014. The same network from random initialisation is what pre-training is compared with (Erhan et al., "Why
does unsupervised pre-training help deep learning?", JMLR 11:625, 2010).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor, nn

from aprendiz.averages import WeightAverage
from aprendiz.backbones import MLP
from aprendiz.data.core import ImageSpec
from aprendiz.device import autocast
from aprendiz.errors import ConfigError
from aprendiz.optim import linear_schedule, load_optimizer_state
from generative.staged import Stage, stage_boundaries

if TYPE_CHECKING:
    from aprendiz.data.core import Images

FINE_TUNE = "fine-tune"
"""Name of the last stage; the ones before are `layer_stage(k)`."""


def layer_stage(layer: int) -> str:
    """Name of the stage that trains a layer, counted from 0."""
    return f"layer-{layer + 1}"


@dataclass(frozen=True, kw_only=True)
class StagedConfig:
    """Stages and fine-tuning, the same for every model that is trained layer by layer. Where no source is named, the
    number is ours, chosen on the 5,000 validation images of MNIST."""

    labels: int | None = None
    """How many labelled training images the classifier learns from, equally many of each class, chosen by the run's
    seed; None: all. Without their labels all training images serve pre-training."""
    pretrain: bool = True
    """Train the layers one by one first; off: the same network, its layers as they were initialised."""
    pretrain_share: float = 0.5
    """Share of the budget that the layers are given, in equal parts; the rest is fine-tuning."""
    pretrain_images: int | None = None
    """Training images that each layer sees. None: from `pretrain_share` when the run is created."""
    fine_tune_images: int | None = None
    """Images over which the learning rate of fine-tuning falls. None: what the layers leave of the budget."""
    fine_tune_batch_size: int = 100
    """Images an update in fine-tuning."""
    fine_tune_learning_rate: float = 1e-3
    """Adam's step size at the start of fine-tuning; it falls linearly."""
    fine_tune_final_share: float = 0.01
    """Share of the learning rate that is left at the end."""
    lower_layers_share: float = 1.0
    """Factor of the learning rate below the classifier's last layer."""
    input_dropout: float = 0.2
    """Share of pixels that are dropped while the classifier learns (Srivastava et al. 2014, appendix A.2)."""
    dropout: float = 0.5
    """Share of hidden units that are dropped while the classifier learns (the same)."""
    input_noise: float = 0.0
    """Standard deviation of Gaussian noise on the pixels while the classifier learns, in units of the scaled pixels."""
    max_norm: float | None = None
    """Bound on the norm of the weights that enter a hidden unit, while fine-tuning (Srivastava et al. 2014, section
    5.1)."""
    weight_decay: float = 0.0
    """Decoupled weight decay of fine-tuning (Loshchilov and Hutter 2019), relative to the learning rate."""
    ema_decay: float | None = 0.999
    """Weight of the past in the running average of the classifier's parameters, which classifies; None: no average."""

    def __post_init__(self) -> None:
        for name in ("labels", "fine_tune_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        for name in ("pretrain_images", "fine_tune_images"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("pretrain_share", "fine_tune_final_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("input_dropout", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must be 0 or more and below 1, got {getattr(self, name)}")
        for name in ("fine_tune_learning_rate", "lower_layers_share", "max_norm"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, got {value}")
        for name in ("weight_decay", "input_noise"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0.0 < self.ema_decay < 1.0:
            raise ConfigError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")

    def resolved(self, layers: int, budget_images: int, *, fine_tuned: bool = True) -> Self:
        """With the stages as numbers of images; numbers that are given stay as they are."""
        share = (self.pretrain_share if fine_tuned else 1.0) if self.pretrain else 0.0
        each = self.pretrain_images
        if each is None:
            each = stage_boundaries(budget_images, [share / layers] * layers + [1.0 - share])[0]
        if not self.pretrain:
            each = 0
        last = self.fine_tune_images
        if last is None:
            last = max(0, budget_images - layers * each) if fine_tuned else 0
        return dataclasses.replace(self, pretrain_images=each, fine_tune_images=last)

    def stages(self, layers: int, batch_size: int, *, fine_tuned: bool = True, labelled: bool = False) -> list[Stage]:
        """The stages of a resolved config. `labelled`: whether fine-tuning wants labels."""
        assert self.pretrain_images is not None and self.fine_tune_images is not None, "resolve() comes first"
        each = self.pretrain_images
        stages = [Stage(name=layer_stage(k), images=each, batch_size=batch_size) for k in range(layers)]
        if fine_tuned:
            labels = self.labels if labelled else None
            last = Stage(
                name=FINE_TUNE,
                images=max(1, self.fine_tune_images),
                batch_size=self.fine_tune_batch_size,
                labelled=labels,
            )
            stages.append(last)
        return stages


def require_labels(config: StagedConfig, spec: ImageSpec) -> None:
    """Raises ConfigError where a classifier is asked for and the images have no labels, or too few are asked for."""
    if len(spec.classes) < 2:
        raise ConfigError(f"{spec.name} has no labels to classify by: fine-tune otherwise, or name labelled --data")
    if config.labels is not None and config.labels < len(spec.classes):
        raise ConfigError(f"labels must be at least {len(spec.classes)}, one for each class, got {config.labels}")


class Classifier(nn.Module):
    """Layers and a linear layer on top: images [B, C, H, W] to logits [B, classes]."""

    def __init__(self, layers: Iterable[nn.Module], features: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor, config: StagedConfig | None = None, generator: Any = None) -> Tensor:
        """Logits [B, classes]; with the noise and the dropout of a config while it learns."""
        hidden = images
        if config is not None:
            if config.input_noise:
                noise = torch.randn(images.shape, generator=generator, device=images.device)
                hidden = hidden + config.input_noise * noise
            hidden = dropped(hidden, config.input_dropout, generator)
        for layer in self.layers:
            hidden = layer(hidden)
            if config is not None:
                hidden = dropped(hidden, config.dropout, generator)
        return self.head(hidden)


def dropped(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Values with a share of them set to 0 and the rest scaled up, so that the mean stays (Srivastava et al. 2014,
    section 10)."""
    if not share:
        return values
    keep = torch.rand(values.shape, generator=generator, device=values.device) >= share
    return values * keep.to(values.dtype).mul_(1.0 / (1.0 - share))


def dense_layers(spec: ImageSpec, hidden: tuple[int, ...], generator: torch.Generator) -> nn.ModuleList:
    """A network of sigmoid units with the machines' sizes, initialised at random."""
    layers: list[MLP] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for units in hidden:
            below = Box(-np.inf, np.inf, (layers[-1].features,), np.float32) if layers else spec.space
            layers.append(MLP(below, hidden=(units,), activation="sigmoid"))
            initialize(layers[-1], "sigmoid", generator)
    return nn.ModuleList(layers)


@torch.no_grad()
def initialize(module: nn.Module, activation: str, generator: torch.Generator) -> None:
    """New weights for all dense layers within a module: He et al. (2015, equation 10) for rectifiers, else Glorot and
    Bengio (2010, equation 16; four times that for sigmoid units, as their tutorial's code has it). Biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            outputs, inputs = layer.weight.shape
            if activation == "relu":
                layer.weight.normal_(0.0, math.sqrt(2.0 / inputs), generator=generator)
            else:
                bound = math.sqrt(6.0 / (inputs + outputs)) * (4.0 if activation == "sigmoid" else 1.0)
                layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


@torch.no_grad()
def bound_norms(module: nn.Module, bound: float) -> None:
    """Scales down what enters a unit of a dense layer where its norm is above the bound (Srivastava et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            norms = layer.weight.norm(dim=1, keepdim=True)  # [out, 1]
            layer.weight.mul_(torch.clamp(bound / norms.clamp_min(1e-12), max=1.0))


class StageOptimizer:
    """Adam for the length of one stage, its learning rate falling linearly with the images seen."""

    def __init__(
        self,
        groups: Iterable[tuple[Iterable[nn.Parameter], float]],
        *,
        images: int,
        final_share: float,
        weight_decay: float = 0.0,
    ) -> None:
        """`groups`: parameters and their learning rates; `images`: when the fall ends."""
        self.images, self.final_share = images, final_share
        self.seen = 0
        self._rates = []
        described = []
        for parameters, rate in groups:
            described.append({"params": list(parameters), "lr": rate})
            self._rates.append(rate)
        kind = described[0]["params"][0].device.type  # type: ignore[index]
        self.optimizer = torch.optim.AdamW(described, weight_decay=weight_decay, fused=kind in ("cpu", "cuda"))

    @property
    def share(self) -> float:
        """What is left of the learning rate."""
        return linear_schedule(1.0, self.final_share, self.images, self.seen)

    def step(self, loss: Tensor, images: int) -> None:
        """One step down the gradient of a loss of so many images."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.share
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.seen += images

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()["state"], "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.seen = state["seen"]


class FineTunedClassifier:
    """The last stage of a model that is fine-tuned for labels: a classifier on a copy of its layers, with its optimiser
    and running average."""

    def __init__(
        self,
        config: StagedConfig,
        layers: nn.ModuleList,
        features: int,
        classes: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights of its own first
            self.network = Classifier(layers, features, classes)
        initialize(self.network.head, "linear", generator)
        self.network.to(device)
        self.average: WeightAverage | None = None
        self.optimizer: StageOptimizer | None = None
        """From the first update of fine-tuning on."""

    def start_from(self, layers: nn.Module) -> None:
        """Takes over the layers' parameters as they are now; the head is as it was initialised."""
        self.network.layers.load_state_dict(layers.state_dict())
        self._begin()

    def _begin(self) -> None:
        config = self.config
        assert config.fine_tune_images is not None, "resolve() comes first"
        if config.ema_decay is not None:
            self.average = WeightAverage(self.network, config.ema_decay)
        rate = config.fine_tune_learning_rate
        self.optimizer = StageOptimizer(
            [
                (self.network.layers.parameters(), rate * config.lower_layers_share),
                (self.network.head.parameters(), rate),
            ],
            images=config.fine_tune_images,
            final_share=config.fine_tune_final_share,
            weight_decay=config.weight_decay,
        )

    @property
    def evaluated(self) -> Classifier:
        """What classifies: the running average where there is one."""
        network = self.network if self.average is None else self.average.network
        assert isinstance(network, Classifier)
        return network.eval()

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator, precision: str) -> dict[str, Any]:
        """One update on images [B, C, H, W] and labels int64 [B]; returns metrics."""
        assert self.optimizer is not None, "start_from() comes first"
        self.network.train()
        with autocast(self.device, precision):
            logits = self.network(images, self.config, generator).float()
        loss = F.cross_entropy(logits, labels)
        self.optimizer.step(loss, len(images))
        if self.config.max_norm is not None:
            bound_norms(self.network.layers, self.config.max_norm)
        if self.average is not None:
            self.average.update(self.network)
        return {"loss": loss.detach(), "learning_rate_share": self.optimizer.share}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average = self.optimizer = None
        if state["optimizer"] is not None:
            self._begin()
            assert self.optimizer is not None
            self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


@torch.no_grad()
def accuracy_metrics(classify: Callable[[Tensor], Tensor], images: Images, count: int) -> dict[str, float]:
    """Accuracy and mean cross-entropy in nats of the first `count` images."""
    assert images.labels is not None
    right = entropy = 0.0
    for start in range(0, count, 500):
        part = slice(start, min(start + 500, count))
        logits, labels = classify(images.scaled(part)).cpu(), images.labels[part]
        right += float((logits.argmax(1) == labels).sum())
        entropy += float(F.cross_entropy(logits, labels, reduction="sum"))
    return {"accuracy": right / count, "cross_entropy": entropy / count}
