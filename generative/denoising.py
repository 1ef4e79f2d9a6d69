"""Denoising autoencoder: the input is corrupted, and the clean image is asked for.

Paper: Vincent et al., "Stacked denoising autoencoders: learning useful representations in a deep network with a local
denoising criterion", JMLR 11:3371, 2010, sections 2.3 and 3.

    x~ = corrupt(x)      loss = mean over images of sum over pixels of L(x, decode(encode(x~)))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from aprendiz.device import autocast
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.codec import CodecConfig, CodecModel, presets_for, require_unit_interval
from generative.noise import Noise, check_noise, corrupt
from generative.penalties import weight_penalty

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(CodecConfig):
    """Hyperparameters of the denoising autoencoder."""

    hidden: tuple[int, ...] = (100,)
    """Hidden units; the last layer is the code, which may have more units than there are pixels."""
    activation: str = "sigmoid"
    """Nonlinearity of the hidden units (Vincent et al. 2010, equation 1)."""
    tied_weights: bool = True
    """Whether the decoder's weights are the encoder's, transposed (Vincent et al. 2010, section 2.2)."""
    weight_decay: float = 1e-2
    """Factor of half the sum of squared weights, biases apart: it clears filters of the noise that they began with
    (ours, chosen by looking at them; the paper has none)."""
    noise: Noise = "masking"
    """Kind of corruption: masking (pixels set to 0), salt-and-pepper (to 0 or 1), gaussian or none."""
    noise_level: float = 0.2
    """Share of the pixels that are corrupted, or the standard deviation of Gaussian noise in units of the scaled pixels
    (0.1, 0.25 and 0.4 are tried in Vincent et al. 2010, section 6.2)."""
    sampling: Literal["density", "chain"] = "chain"
    """How `sample` draws: decoded codes of a Gaussian fitted to those of the training images (Ghosh et al. 2020), or
    the Markov chain that corrupts and reconstructs (Bengio et al. 2013), started from the former."""
    chain_steps: int = 20
    """Steps of that chain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.noise_level)
        if self.sampling not in ("density", "chain"):
            raise ConfigError(f"sampling must be density or chain, got {self.sampling!r}")
        if self.chain_steps < 0:
            raise ConfigError(f"chain_steps must be 0 or more, got {self.chain_steps}")


class DenoisingAutoencoder(CodecModel):
    """The denoising autoencoder. Raises ConfigError for salt-and-pepper noise on pixels outside [0, 1]."""

    Config = DenoisingConfig
    config: DenoisingConfig

    def __init__(
        self,
        config: DenoisingConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if config.noise == "salt-and-pepper":
            require_unit_interval(spec, "salt-and-pepper noise", "--noise gaussian")
        super().__init__(config, spec, seed=seed, device=device, precision=precision)

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, DenoisingConfig]:
        default = DenoisingConfig()
        return presets_for(
            spec,
            {
                "default": default,
                "gaussian": replace(default, noise="gaussian", noise_level=0.3, loss="squared-error"),
                "wide": replace(default, hidden=(1000,), noise_level=0.25),
            },
        )

    def update(self, batch: ImageBatch) -> Outcome:
        config, images = self.config, batch.images
        corrupted = corrupt(images, config.noise, config.noise_level, self.generator)
        with autocast(self.device, self.precision):
            codes = self.network.encode(corrupted)
            logits = self.network.decode(codes)
        error = self._error(logits, images)
        loss = error
        if config.weight_decay:
            loss = error + config.weight_decay * weight_penalty(self.network.weights())
        self._step(loss, codes)
        return Outcome({"loss": loss.detach(), "denoising_loss": error.detach()})

    @torch.no_grad()
    def _measures(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        corrupted = corrupt(images, self.config.noise, self.config.noise_level, generator)
        error = self._error(self.network.decode(self.network.encode(corrupted)), images)
        return {**super()._measures(images, generator), "denoising_loss": error, "score": -error}

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Decoded codes of the fitted density; with `sampling` "chain", then `chain_steps` of corrupting and
        reconstructing (Bengio et al. 2013, "Generalized denoising auto-encoders", equation 3), the last one shown as
        the mean of its pixels. What the cross-entropy has learned is a probability of each pixel, of which bits are
        drawn between steps; the squared error gives a mean without a spread, which is taken as it is."""
        images = super().sample(count, generator)
        if self.config.sampling == "density":
            return images
        for step in range(self.config.chain_steps):
            if self.config.loss == "cross-entropy" and step > 0:
                images = torch.bernoulli(images, generator=generator)
            images = corrupt(images, self.config.noise, self.config.noise_level, generator)
            images = self.reconstruct(images).cpu()
        return images
