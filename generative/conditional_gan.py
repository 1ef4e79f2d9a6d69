"""Conditional GAN: both players are told the class.

Paper: Mirza and Osindero, "Conditional Generative Adversarial Nets", arXiv:1411.1784, 2014, equation 2; `paper`: its
section 4.1. The convolutional networks of `default` are DCGAN's, with the class in the discriminator as in Miyato and
Koyama, "cGANs with Projection Discriminator", ICLR 2018.

    discriminator    descends  -E[log D(x|y)] - E[log(1 - D(G(z|y)|y))]      y: the labels of the real images
    generator        descends  -E[log D(G(z|y)|y)]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.history import History
from aprendiz.loop import Outcome
from generative.adversarial import AdversarialConfig, AdversarialModel, check_penalty
from generative.gan_losses import discriminator_loss, non_saturating_generator_loss
from generative.gan_networks import ConvDiscriminator, ConvGenerator, Maxout, Norm, dropout

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, Images, ImageSpec
    from generative.metrics import Judge


@dataclass(frozen=True, kw_only=True)
class ConditionalGANConfig(AdversarialConfig):
    """Hyperparameters of the conditional GAN."""

    network: Literal["convolutional", "dense"] = "convolutional"
    """DCGAN's networks, or the dense ones of Mirza and Osindero (2014), section 4.1."""
    latent_dimensions: int = 32
    """Numbers in a latent vector, each from N(0, 1) (ours, by validation images of MNIST; 100 in Mirza and Osindero
    2014)."""
    generator_learning_rate: float = 1e-3
    """Step size of the generator's optimiser at first (ours, by validation images of MNIST)."""
    discriminator_learning_rate: float = 4e-4
    """Step size of the discriminator's optimiser at first (ours, by validation images of MNIST)."""
    final_learning_rate: float = 0.1
    """What both step sizes are multiplied by at the end of `learning_rate_images`; 1 keeps them as they are."""
    adam_beta1: float = 0.0
    """Decay of Adam's mean gradient: no momentum (Karras et al. 2018, appendix A.1; 0.5 in Radford et al. 2016)."""
    adam_beta2: float = 0.99
    """Decay of Adam's mean squared gradient (Karras et al. 2018, appendix A.1; 0.999 in Kingma and Ba 2015)."""
    generator_width: int = 32
    """Of convolutional networks: channels of the generator's last hidden grid; each smaller one has twice as many."""
    discriminator_width: int = 32
    """Of convolutional networks: channels after the discriminator's first layer; each further one doubles them."""
    discriminator_norm: Norm = "batch"
    """Of a convolutional discriminator after its first layer: `batch` (Radford et al. 2016), `layer` or `none`. Told
    the classes, a discriminator does far better with batch normalisation than with a penalty, by validation images."""
    gradient_penalty: float = 0.0
    """Gamma: weight of the discriminator's squared gradient at real images (Mescheder et al. 2018, equation 9), for
    discriminators without batch normalisation; 0: none."""
    penalty_period_updates: int = 4
    """The penalty is added once in so many updates, so many times as large (Karras et al. 2020, section 3.1: 16)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or the paper's gradient descent with momentum."""
    momentum: float = 0.5
    """Of gradient descent (section 4.1, where it rises to 0.7)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_penalty(self)
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")


class DenseConditionalGenerator(nn.Module):
    """Latent vectors and one-hot labels [B, D + classes] to images [B, C, H, W] in [-1, 1], section 4.1: 200 rectified
    units for the noise, 1,000 for the label, 1,200 for both, with dropout while learning."""

    def __init__(self, spec: ImageSpec, latent: int, random: torch.Generator) -> None:
        super().__init__()
        self.shape, self.latent, self.random = spec.shape, latent, random
        self.noise, self.label = nn.Linear(latent, 200), nn.Linear(len(spec.classes), 1000)
        self.both, self.pixels = nn.Linear(1200, 1200), nn.Linear(1200, spec.pixels)

    def forward(self, codes: Tensor) -> Tensor:
        noise, label = codes[:, : self.latent], codes[:, self.latent :]
        hidden = torch.cat([F.relu(self.noise(noise)), F.relu(self.label(label))], dim=1)
        hidden = F.relu(self.both(self._drop(hidden)))
        return torch.tanh(self.pixels(self._drop(hidden))).view(-1, *self.shape)

    def _drop(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, 0.5, self.random) if self.training else hidden


class DenseConditionalDiscriminator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] and labels [B] to logits [B], section 4.1: maxout layers for the image (240 units
    of 5 pieces), for the label (50 of 5) and for both (240 of 4), with dropout."""

    def __init__(self, spec: ImageSpec, random: torch.Generator) -> None:
        super().__init__()
        self.classes, self.random = len(spec.classes), random
        self.image, self.label = Maxout(spec.pixels, 240, 5), Maxout(self.classes, 50, 5)
        self.both, self.logit = Maxout(290, 240, 4), nn.Linear(240, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        label = self.label(F.one_hot(labels, self.classes).to(images.dtype))
        hidden = torch.cat([self.image(images.flatten(1)), label], dim=1)
        hidden = self.both(dropout(hidden, 0.5, self.random))
        return self.logit(dropout(hidden, 0.5, self.random)).squeeze(1)


class ConditionalGAN(AdversarialModel):
    """Conditional GAN: draws the classes that it is asked for."""

    Config = ConditionalGANConfig
    abilities = frozenset({"decode", "latents", "labels"})
    needs_labels = True

    def __init__(
        self,
        config: ConditionalGANConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if not spec.classes:
            raise ConfigError(f"conditional-gan learns from labelled images, and {spec.name} has no labels; use dcgan")
        super().__init__(config, spec, seed=seed, device=device, precision=precision)
        self._labels_seen = torch.zeros(len(spec.classes), dtype=torch.int64, device=self.device)

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, ConditionalGANConfig]:
        width = 32 if spec.height * spec.width <= 32 * 32 else 64
        return {
            "default": ConditionalGANConfig(generator_width=width, discriminator_width=width),
            "paper": ConditionalGANConfig(
                network="dense",
                latent_dimensions=100,
                batch_size=100,
                optimizer="sgd",
                generator_learning_rate=0.1,
                discriminator_learning_rate=0.1,
                final_learning_rate=1.0,
                average_decay=0.0,
            ),
        }

    @classmethod
    def default_epochs(cls, config: ConditionalGANConfig, spec: ImageSpec) -> int:
        return 300 if spec.pixels <= 256 else 20

    def _networks(self, config: ConditionalGANConfig, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        if config.network == "dense":
            generator = DenseConditionalGenerator(spec, config.latent_dimensions, self._random)
            return generator, DenseConditionalDiscriminator(spec, self._random)
        classes = len(spec.classes)
        return (
            ConvGenerator(spec, config.latent_dimensions + classes, config.generator_width),
            ConvDiscriminator(spec, config.discriminator_width, config.discriminator_norm, classes),
        )

    def _optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=self.config.momentum)
        return super()._optimizer(network, learning_rate)

    def _new_history(self) -> History | None:
        if not self.config.history_images:
            return None
        shapes, dtypes = (self.spec.shape, ()), (torch.float32, torch.int64)
        return History(self.config.history_images, shapes, dtypes, self.device)

    def update(self, batch: ImageBatch) -> Outcome:
        """k steps of the discriminator, one of the generator."""
        if batch.labels is None:
            raise ConfigError("conditional-gan learns from labelled images")
        for real, real_labels in zip(self._real(batch), self._real_labels(batch), strict=True):
            with torch.no_grad(), self._autocast():
                fake = self.generator(self._codes(real_labels))
            labels = real_labels
            if self.history:
                fake, labels = self.history.mix((fake, labels), self._random)
            with self._autocast():
                real_logits = self.discriminator(real, real_labels)
                fake_logits = self.discriminator(fake, labels)
            d_loss = discriminator_loss(real_logits, fake_logits)
            d_loss = self._penalised(d_loss, lambda x, y=real_labels: self.discriminator(x, y), real)  # type: ignore[misc]
            d_norm = self._step(self.discriminator_optimizer, self.discriminator, d_loss)
        with self._frozen(self.discriminator), self._autocast():
            g_logits = self.discriminator(self.generator(self._codes(real_labels)), real_labels)
        g_loss = non_saturating_generator_loss(g_logits)
        g_norm = self._step(self.generator_optimizer, self.generator, g_loss)
        self._finish(batch)
        self._labels_seen.scatter_add_(0, batch.labels, torch.ones_like(batch.labels))  # waits for no device
        return self._outcome((d_loss, g_loss), (d_norm, g_norm), real_logits, fake_logits)

    def _real_labels(self, batch: ImageBatch) -> list[Tensor]:
        """The labels of what `_real` gives."""
        assert batch.labels is not None
        parts = batch.labels.split(self.config.batch_size)
        return [part.repeat(2) if len(part) == 1 else part for part in parts]

    def _codes(self, labels: Tensor) -> Tensor:
        """Fresh noise and one-hot labels, [B, D + classes]."""
        return torch.cat([self._noise(len(labels)), F.one_hot(labels, len(self._labels_seen)).float()], dim=1)

    def latent(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Float32 [count, D + classes] on the CPU: noise from N(0, 1), then the class as one number of one.

        Where `labels` [count] are not given they are drawn, as often as each was learned from. Raises ConfigError for
        labels that there are not, or another number of them.
        """
        noise = super().latent(count, generator)
        classes = len(self.spec.classes)
        if labels is None:
            seen = self._labels_seen.cpu().float()
            shares = seen if seen.sum() > 0 else torch.ones(classes)
            labels = (
                torch.multinomial(shares, count, replacement=True, generator=generator) if count else noise.new_zeros(0)
            ).long()
        labels = labels.cpu().long()
        if labels.shape != (count,):
            raise ConfigError(f"{count} images take {count} labels, got {tuple(labels.shape)}")
        if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ConfigError(f"labels lie between 0 and {classes - 1}, got {int(labels.min())} to {int(labels.max())}")
        return torch.cat([noise, F.one_hot(labels, classes).float()], dim=1)

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """As of every game; with a judge also how many of 500 samples it takes for the class that was asked for."""
        metrics = super().validate(images, generator, judge)
        if judge is None:
            return metrics
        labels = torch.arange(500) % len(self.spec.classes)
        guesses = judge.logits(self.sample(500, generator, labels)).argmax(dim=1).cpu()
        return metrics | {"label_accuracy": float((guesses == labels).float().mean())}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"labels_seen": self._labels_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._labels_seen.copy_(state["labels_seen"])
