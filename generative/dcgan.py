"""Deep convolutional GAN (DCGAN).

Paper: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016, section 3; the order of the steps is that of the authors' code (dcgan.torch).

    discriminator    descends  -E[log D(x)] - E[log(1 - D(G(z)))]
    generator        descends  -E[log D(G(z))]                        of the same z, under the new D
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.adversarial import AdversarialConfig, AdversarialModel, check_penalty
from generative.gan_losses import discriminator_loss, non_saturating_generator_loss
from generative.gan_networks import ConvDiscriminator, ConvGenerator, Norm

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class DCGANConfig(AdversarialConfig):
    """Hyperparameters of DCGAN. The defaults are ours, for minutes on two cores, by validation images of MNIST."""

    latent_dimensions: int = 32
    """Numbers in a latent vector, each from N(0, 1) (ours, by validation images of MNIST; 100 in Radford et al.
    2016)."""
    batch_size: int = 32
    """Real images a step of the discriminator, and as many generated ones (ours; 128 in Radford et al. 2016)."""
    generator_learning_rate: float = 1.5e-3
    """Step size of the generator's Adam at first (0.0002 in Radford et al. 2016, section 3)."""
    discriminator_learning_rate: float = 1.5e-3
    """Step size of the discriminator's Adam at first (0.0002 in Radford et al. 2016, section 3)."""
    final_learning_rate: float = 0.1
    """What both step sizes are multiplied by at the end of `learning_rate_images`; 1 keeps them as they are."""
    adam_beta1: float = 0.0
    """Decay of Adam's mean gradient: no momentum (Karras et al. 2018, appendix A.1; 0.5 in Radford et al. 2016)."""
    adam_beta2: float = 0.99
    """Decay of Adam's mean squared gradient (Karras et al. 2018, appendix A.1; 0.999 in Kingma and Ba 2015)."""
    generator_width: int = 32
    """Channels of the generator's last hidden grid; each smaller grid has twice as many, up to 8 times (128 in Radford
    et al. 2016, figure 1)."""
    discriminator_width: int = 32
    """Channels after the discriminator's first convolution; each further one doubles them, up to 8 times."""
    discriminator_norm: Norm = "none"
    """Of the discriminator's layers after the first: `batch` (Radford et al. 2016), `layer` or `none` (ours: with the
    penalty, and longer runs, the lowest FID on validation images of MNIST)."""
    gradient_penalty: float = 1.0
    """Gamma: weight of the discriminator's squared gradient at real images (Mescheder et al. 2018, equation 9, who take
    10 for other networks); 0: none. Ours, by validation images of MNIST."""
    penalty_period_updates: int = 4
    """The penalty is added once in so many updates, so many times as large (Karras et al. 2020, section 3.1: 16)."""
    same_fakes: bool = True
    """Whether the generator learns from the images that the discriminator has just learned from (the authors' code), or
    draws new ones, which costs one more pass (Goodfellow et al. 2014, algorithm 1)."""
    real_target: float = 1.0
    """What the discriminator is to say of real images; 0.9 is one-sided label smoothing (Salimans et al. 2016)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_penalty(self)
        if not 0.5 < self.real_target <= 1.0:
            raise ConfigError(f"real_target must lie above 0.5 and not above 1, got {self.real_target}")


class DCGAN(AdversarialModel):
    """Deep convolutional GAN."""

    Config = DCGANConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, DCGANConfig]:
        width = 32 if spec.height * spec.width <= 32 * 32 else 64
        return {
            "default": DCGANConfig(generator_width=width, discriminator_width=width),
            # Section 3 and figure 1; the paper knows no average of weights.
            "paper": DCGANConfig(
                latent_dimensions=100,
                batch_size=128,
                generator_width=128,
                discriminator_width=128,
                discriminator_norm="batch",
                gradient_penalty=0.0,
                generator_learning_rate=2e-4,
                discriminator_learning_rate=2e-4,
                final_learning_rate=1.0,
                adam_beta1=0.5,
                adam_beta2=0.999,
                average_decay=0.0,
            ),
        }

    @classmethod
    def default_epochs(cls, config: DCGANConfig, spec: ImageSpec) -> int:
        return 300 if spec.pixels <= 256 else 20

    def _networks(self, config: DCGANConfig, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        generator = ConvGenerator(spec, config.latent_dimensions, config.generator_width)
        return generator, ConvDiscriminator(spec, config.discriminator_width, config.discriminator_norm)

    def update(self, batch: ImageBatch) -> Outcome:
        """k steps of the discriminator, one of the generator."""
        steps = list(self._real(batch))
        for number, real in enumerate(steps, 1):
            learns = self.config.same_fakes and number == len(steps)
            with torch.set_grad_enabled(learns), self._autocast():
                fake = self.generator(self._noise(len(real)))
            shown = fake.detach()
            if self.history:
                (shown,) = self.history.mix((shown,), self._random)
            with self._autocast():  # real and generated images are normalised apart
                real_logits, fake_logits = self.discriminator(real), self.discriminator(shown)
            d_loss = discriminator_loss(real_logits, fake_logits, self.config.real_target)
            d_loss = self._penalised(d_loss, self.discriminator, real)
            d_norm = self._step(self.discriminator_optimizer, self.discriminator, d_loss)
        with self._frozen(self.discriminator), self._autocast():
            if not self.config.same_fakes:
                fake = self.generator(self._noise(len(real)))
            g_loss = non_saturating_generator_loss(self.discriminator(fake))
        g_norm = self._step(self.generator_optimizer, self.generator, g_loss)
        self._finish(batch)
        return self._outcome((d_loss, g_loss), (d_norm, g_norm), real_logits, fake_logits)
