"""Wasserstein GAN with gradient penalty (WGAN-GP).

Paper: Gulrajani et al., "Improved Training of Wasserstein GANs", NIPS 2017, algorithm 1; `paper`: its section 4 and the
authors' gan_mnist.py.

    critic, 5 times    descends  E[f(G(z))] - E[f(x)] + 10 E[(|grad f(u)| - 1)^2]    u between x and G(z), z new
    generator, once    descends  -E[f(G(z))]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.adversarial import AdversarialConfig, AdversarialModel
from generative.gan_losses import (
    gradient_penalty,
    interpolate,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from generative.gan_networks import ConvDiscriminator, ConvGenerator

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class WGANGPConfig(AdversarialConfig):
    """Hyperparameters of WGAN-GP. The defaults are ours, for minutes on two cores, by validation images of MNIST."""

    latent_dimensions: int = 32
    """Numbers in a latent vector, each from N(0, 1) (ours; 128 in gan_mnist.py)."""
    batch_size: int = 32
    """Real images a step of the critic, and as many generated ones (ours; 50 in gan_mnist.py)."""
    discriminator_steps: int = 2
    """Steps of the critic for one of the generator (ours; 5 in Gulrajani et al. 2017, algorithm 1)."""
    generator_learning_rate: float = 1e-3
    """Step size of the generator's Adam at first (ours; 0.0001 in Gulrajani et al. 2017, algorithm 1)."""
    discriminator_learning_rate: float = 1e-3
    """Step size of the critic's Adam at first (ours; 0.0001 in Gulrajani et al. 2017, algorithm 1)."""
    final_learning_rate: float = 0.1
    """What both step sizes are multiplied by at the end of `learning_rate_images`; 1 keeps them as they are."""
    adam_beta1: float = 0.0
    """Decay of Adam's mean gradient (Gulrajani et al. 2017, algorithm 1)."""
    adam_beta2: float = 0.99
    """Decay of Adam's mean squared gradient (Karras et al. 2018, appendix A.1; 0.9 in Gulrajani et al. 2017)."""
    generator_width: int = 32
    """Channels of the generator's last hidden grid; each smaller one has twice as many (ours; 64 in gan_mnist.py)."""
    discriminator_width: int = 32
    """Channels after the critic's first convolution; each further one doubles them (ours; 64 in gan_mnist.py)."""
    critic_norm: Literal["none", "layer"] = "none"
    """Normalisation in the critic. Never over the batch: the penalty is one of each sample's gradient (section 4)."""
    penalty_weight: float = 10.0
    """Lambda, the weight of the gradient penalty (Gulrajani et al. 2017, section 4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.penalty_weight < float("inf"):
            raise ConfigError(f"penalty_weight must be 0 or more, got {self.penalty_weight}")
        if self.history_images:
            raise ConfigError("history_images must be 0: the critic measures how far today's images are, not old ones")


class WGANGP(AdversarialModel):
    """Wasserstein GAN with gradient penalty; its discriminator is called a critic, since it says no probability."""

    Config = WGANGPConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, WGANGPConfig]:
        return {
            "default": WGANGPConfig(),
            # Algorithm 1; the sizes are those of the authors' gan_mnist.py.
            "paper": WGANGPConfig(
                latent_dimensions=128,
                batch_size=50,
                discriminator_steps=5,
                generator_learning_rate=1e-4,
                discriminator_learning_rate=1e-4,
                final_learning_rate=1.0,
                adam_beta2=0.9,
                generator_width=64,
                discriminator_width=64,
                average_decay=0.0,
            ),
        }

    @classmethod
    def default_epochs(cls, config: WGANGPConfig, spec: ImageSpec) -> int:
        return 300 if spec.pixels <= 256 else 20

    def _networks(self, config: WGANGPConfig, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        generator = ConvGenerator(spec, config.latent_dimensions, config.generator_width)
        return generator, ConvDiscriminator(spec, config.discriminator_width, config.critic_norm)

    def update(self, batch: ImageBatch) -> Outcome:
        """Some steps of the critic, one of the generator."""
        for real in self._real(batch):
            count = len(real)
            with torch.no_grad(), self._autocast():
                fake = self.generator(self._noise(count)).float()
            weights = torch.rand(count, generator=self._random, device=self.device)  # one for each sample
            with self._autocast():
                real_values, fake_values = self.discriminator(torch.cat([real, fake])).split(count)
                penalty = gradient_penalty(self.discriminator, interpolate(real, fake, weights))
            distance = -wasserstein_critic_loss(real_values, fake_values)
            d_loss = self.config.penalty_weight * penalty - distance
            d_norm = self._step(self.discriminator_optimizer, self.discriminator, d_loss)
        with self._frozen(self.discriminator), self._autocast():
            g_values = self.discriminator(self.generator(self._noise(count)))
        g_loss = wasserstein_generator_loss(g_values)
        g_norm = self._step(self.generator_optimizer, self.generator, g_loss)
        self._finish(batch)
        with torch.no_grad():
            return Outcome(
                {
                    "d_loss": d_loss.detach(),
                    "g_loss": g_loss.detach(),
                    "d_real": real_values.float().mean(),
                    "d_fake": fake_values.float().mean(),
                    "distance": distance.detach(),
                    "gradient_penalty": penalty.detach(),
                    "d_gradient_norm": d_norm,
                    "g_gradient_norm": g_norm,
                }
            )
