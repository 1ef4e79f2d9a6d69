"""Undercomplete autoencoder: a code with fewer units than the image has pixels.

Paper: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313:504, 2006; here
all layers learn at once, without the pre-training by Boltzmann machines that depth then needed.

    loss = mean over images of sum over pixels of L(x, decode(encode(x)))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aprendiz.device import autocast
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.codec import CodecConfig, CodecModel, presets_for
from generative.coding_networks import Codec
from generative.penalties import weight_penalty

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(CodecConfig):
    """Hyperparameters of the undercomplete autoencoder."""

    hidden: tuple[int, ...] = (500, 250)
    """Units of the encoder's dense layers, the decoder has the same in reverse; half the depth of Hinton and
    Salakhutdinov (2006), who have 1000, 500 and 250 (preset `paper`)."""
    activation: str = "silu"
    """Nonlinearity after each of them, except the code; the paper has sigmoid units, pre-trained."""
    code_size: int | None = 32
    """Units of the linear code (30 in the paper); fewer than there are pixels."""
    tied_weights: bool = False
    """Whether the decoder's weights are the encoder's, transposed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code_size is None:
            raise ConfigError("an undercomplete autoencoder needs a code_size")


class Autoencoder(CodecModel):
    """The undercomplete autoencoder on any backbone. Raises ConfigError for codes as large as the image."""

    Config = AutoencoderConfig
    config: AutoencoderConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, AutoencoderConfig]:
        small = spec.pixels <= 256
        code = min(32, spec.pixels // 4)
        return presets_for(
            spec,
            {
                "default": AutoencoderConfig(hidden=(256, 128) if small else (500, 250), code_size=code),
                "paper": AutoencoderConfig(hidden=(1000, 500, 250), code_size=min(30, spec.pixels // 4)),
            },
        )

    def _build(self, config: AutoencoderConfig, spec: ImageSpec) -> Codec:
        if config.code_size is None or config.code_size >= spec.pixels:
            raise ConfigError(
                f"code_size {config.code_size} is not smaller than an image of {spec.name} ({spec.pixels} pixels): "
                "choose a smaller one, or an overcomplete model (denoising, sparse, contractive)"
            )
        return super()._build(config, spec)

    def update(self, batch: ImageBatch) -> Outcome:
        images = batch.images
        with autocast(self.device, self.precision):
            codes = self.network.encode(images)
            logits = self.network.decode(codes)
        error = self._error(logits, images)
        loss = error
        if self.config.weight_decay:
            loss = error + self.config.weight_decay * weight_penalty(self.network.weights())
        self._step(loss, codes)
        return Outcome({"loss": loss.detach(), "reconstruction_loss": error.detach()})
