"""Generative adversarial networks (GAN), as published: minimax, and with the generator loss that does not saturate.

Paper: Goodfellow et al., "Generative Adversarial Nets", NIPS 2014, algorithm 1; `paper`: the authors' mnist.yaml.

    discriminator, k times    ascends   E[log D(x)] + E[log(1 - D(G(z)))]     new x and new z every time
    generator, once           descends  E[log(1 - D(G(z)))]                   GAN
                              descends  -E[log D(G(z))]                       NonSaturatingGAN
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.adversarial import AdversarialConfig, AdversarialModel
from generative.coding_networks import build_backbone
from generative.gan_losses import discriminator_loss, minimax_generator_loss, non_saturating_generator_loss
from generative.gan_networks import DenseGenerator, Maxout, dropout

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class GANConfig(AdversarialConfig):
    """Hyperparameters of GAN and NonSaturatingGAN. The defaults are ours, by validation images of MNIST."""

    latent_dimensions: int = 32
    """Numbers in a latent vector, each from N(0, 1) (ours; 100 in mnist.yaml)."""
    generator_learning_rate: float = 1e-3
    """Step size of the generator's optimiser at first (ours)."""
    discriminator_learning_rate: float = 4e-4
    """Step size of the discriminator's optimiser at first (ours)."""
    final_learning_rate: float = 0.1
    """What both step sizes are multiplied by at the end of `learning_rate_images`; 1 keeps them as they are."""
    adam_beta1: float = 0.0
    """Decay of Adam's mean gradient: no momentum (Karras et al. 2018, appendix A.1)."""
    adam_beta2: float = 0.99
    """Decay of Adam's mean squared gradient (Karras et al. 2018, appendix A.1; 0.999 in Kingma and Ba 2015)."""
    generator_hidden: tuple[int, ...] = (512, 512)
    """Rectified units of each of the generator's hidden layers (ours; twice 1,200 in mnist.yaml)."""
    generator_batch_norm: bool = True
    """Batch normalisation in the generator's hidden layers (Radford et al. 2016; none in mnist.yaml)."""
    discriminator: Literal["backbone", "maxout"] = "backbone"
    """`backbone`, or the published one: two layers of 240 maxout units of 5 pieces, with dropout."""
    backbone: str = "mlp"
    """Network under the discriminator's logit, by its registered name; reads images in [0, 1]."""
    backbone_hidden: tuple[int, ...] = (512, 256)
    """Units of each hidden layer of a backbone that has the option, as `mlp` does (ours)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or the paper's gradient descent with momentum."""
    momentum: float = 0.5
    """Of gradient descent (mnist.yaml, where it rises to 0.7)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_hidden", "backbone_hidden"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(f"{name} takes one or more widths of at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")


PAPER = GANConfig(
    latent_dimensions=100,
    batch_size=100,
    generator_hidden=(1200, 1200),
    generator_batch_norm=False,
    discriminator="maxout",
    optimizer="sgd",
    generator_learning_rate=0.1,
    discriminator_learning_rate=0.1,
    final_learning_rate=1.0,
    average_decay=0.0,
)
"""The authors' mnist.yaml."""


class MaxoutDiscriminator(nn.Module):
    """Images [B, C, H, W] to logits [B]: two maxout layers of 240 units of 5 pieces with dropout (0.2 of the pixels,
    half of the units, drawn from `random`), as in the authors' mnist.yaml. Goodfellow et al. (2013)."""

    def __init__(self, spec: ImageSpec, random: torch.Generator) -> None:
        super().__init__()
        self.random = random
        self.first, self.second = Maxout(spec.pixels, 240, 5), Maxout(240, 240, 5)
        self.logit = nn.Linear(240, 1)
        nn.init.uniform_(self.logit.weight, -0.005, 0.005)
        nn.init.zeros_(self.logit.bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(dropout(images.flatten(1), 0.2, self.random))
        hidden = self.second(dropout(hidden, 0.5, self.random))
        return self.logit(dropout(hidden, 0.5, self.random)).squeeze(1)


class BackboneDiscriminator(nn.Module):
    """A backbone and one linear layer on top: images [B, C, H, W] in [0, 1] to logits [B]."""

    def __init__(self, name: str, spec: ImageSpec, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = build_backbone(name, spec.space, hidden=hidden)
        self.logit = nn.Linear(int(self.backbone.features), 1)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.logit(self.backbone(images.float())).squeeze(1)


class GAN(AdversarialModel):
    """The adversarial game as published: the generator descends what the discriminator ascends."""

    Config = GANConfig
    signed = False

    @staticmethod
    def generator_loss(fake_logits: Tensor) -> Tensor:
        return minimax_generator_loss(fake_logits)

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, GANConfig]:
        return {"default": GANConfig(), "paper": PAPER}

    @classmethod
    def default_epochs(cls, config: GANConfig, spec: ImageSpec) -> int:
        return 300 if spec.pixels <= 256 else 50

    def _networks(self, config: GANConfig, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        generator = DenseGenerator(spec, config.latent_dimensions, config.generator_hidden, config.generator_batch_norm)
        if config.discriminator == "maxout":
            return generator, MaxoutDiscriminator(spec, self._random)
        return generator, BackboneDiscriminator(config.backbone, spec, config.backbone_hidden)

    def _optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=self.config.momentum)
        return super()._optimizer(network, learning_rate)

    def update(self, batch: ImageBatch) -> Outcome:
        """k steps of the discriminator, one of the generator."""
        for real in self._real(batch):
            with torch.no_grad(), self._autocast():
                fake = self.generator(self._noise(len(real)))
            if self.history:
                (fake,) = self.history.mix((fake,), self._random)
            with self._autocast():
                real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
            d_loss = discriminator_loss(real_logits, fake_logits)
            d_norm = self._step(self.discriminator_optimizer, self.discriminator, d_loss)
        with self._frozen(self.discriminator), self._autocast():
            g_logits = self.discriminator(self.generator(self._noise(len(real))))
        g_loss = self.generator_loss(g_logits)
        g_norm = self._step(self.generator_optimizer, self.generator, g_loss)
        self._finish(batch)
        return self._outcome((d_loss, g_loss), (d_norm, g_norm), real_logits, fake_logits)


class NonSaturatingGAN(GAN):
    """The same game, but the generator ascends log D(G(z)): it learns also while the discriminator wins."""

    @staticmethod
    def generator_loss(fake_logits: Tensor) -> Tensor:
        return non_saturating_generator_loss(fake_logits)
