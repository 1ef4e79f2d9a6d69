"""Convolutional autoencoder: strided convolutions down to a small code, transposed ones back.

Paper: Masci et al., "Stacked convolutional auto-encoders for hierarchical feature extraction", ICANN 2011; strides in
place of their max-pooling (Springenberg et al. 2015), and a dense code.

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
class ConvAutoencoderConfig(CodecConfig):
    """Hyperparameters of the convolutional autoencoder."""

    backbone: str = "conv-encoder"
    """Network that reads the image, by its registered name."""
    decoder: str = "conv-decoder"
    """Network that draws the image, by its registered name."""
    channels: tuple[int, ...] = (32, 64)
    """Feature maps of the encoder's convolutions, each halving height and width; the decoder has them in reverse."""
    hidden: tuple[int, ...] = ()
    """Units of dense layers, for a backbone or decoder that has such."""
    activation: str = "silu"
    """Nonlinearity after each layer except the code."""
    code_size: int | None = 32
    """Units of the linear code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code_size is None:
            raise ConfigError("a convolutional autoencoder needs a code_size")


class ConvAutoencoder(CodecModel):
    """The convolutional autoencoder, for images of any size from 4x4 up."""

    Config = ConvAutoencoderConfig
    config: ConvAutoencoderConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, ConvAutoencoderConfig]:
        # Large pictures get a third layer: 64x64 ends in maps of 8x8, as 28x28 does in 7x7.
        channels = (32, 64) if max(spec.height, spec.width) <= 40 else (32, 64, 128)
        code = min(32 if spec.pixels < 2_000 else 128, spec.pixels // 4)
        return presets_for(
            spec,
            {
                "default": ConvAutoencoderConfig(channels=channels, code_size=code),
                "fast": ConvAutoencoderConfig(channels=tuple(size // 2 for size in channels), code_size=code),
            },
        )

    @classmethod
    def default_epochs(cls, config: ConvAutoencoderConfig, spec: ImageSpec) -> int:
        if spec.pixels <= 256:
            return 200 if spec.classes else 2
        return 10

    def _build(self, config: ConvAutoencoderConfig, spec: ImageSpec) -> Codec:
        return Codec(
            spec,
            encoder=config.backbone,
            decoder=config.decoder,
            hidden=config.hidden,
            activation=config.activation,
            code_size=config.code_size,
            channels=config.channels,
        )

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
