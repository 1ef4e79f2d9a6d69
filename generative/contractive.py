"""Contractive autoencoder: codes that change little when the image does.

Paper: Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", ICML 2011.

    loss = mean over images of [ sum over pixels of L(x, decode(h(x))) + contraction_weight * ||dh/dx||_F^2 ]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from aprendiz.backbones import MLP
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.codec import CodecConfig, CodecModel, check_not_negative, presets_for
from generative.penalties import estimated_jacobian_norm, jacobian_norm, sigmoid_jacobian_norm, weight_penalty

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class ContractiveConfig(CodecConfig):
    """Hyperparameters of the contractive autoencoder."""

    hidden: tuple[int, ...] = (200,)
    """Hidden units; the last layer is the code. The paper has 1,000 on 28x28 images."""
    activation: str = "sigmoid"
    """Nonlinearity of the hidden units (Rifai et al. 2011, equation 4)."""
    tied_weights: bool = True
    """Whether the decoder's weights are the encoder's, transposed (Rifai et al. 2011, section 2). Untied, an encoder
    can escape the penalty by small weights that the decoder makes up for."""
    contraction_weight: float = 0.1
    """Factor of the squared Frobenius norm of the encoder's Jacobian (lambda; chosen by validation in the paper)."""
    jacobian: Literal["auto", "exact", "estimated"] = "auto"
    """How the norm is had: estimated without bias by random signs (Hutchinson 1989), or exactly, by one backward pass
    for each code unit. For one dense layer of sigmoid units both auto and exact take the closed form (Rifai et al.
    2011, equation 9); for all other encoders auto estimates."""
    jacobian_probes: int = 1
    """Draws of random signs an image, where it is estimated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jacobian not in ("auto", "exact", "estimated"):
            raise ConfigError(f"jacobian must be auto, exact or estimated, got {self.jacobian!r}")
        if self.jacobian_probes < 1:
            raise ConfigError(f"jacobian_probes must be at least 1, got {self.jacobian_probes}")
        check_not_negative(self, "contraction_weight")


class ContractiveAutoencoder(CodecModel):
    """The contractive autoencoder on any backbone that can be differentiated twice."""

    Config = ContractiveConfig
    config: ContractiveConfig
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, ContractiveConfig]:
        default = ContractiveConfig()
        return presets_for(
            spec,
            {
                "default": default,
                "deep": replace(default, hidden=(300, 150), tied_weights=True),
                "paper": replace(default, hidden=(1000,)),
            },
        )

    def update(self, batch: ImageBatch) -> Outcome:
        config = self.config
        images = batch.images.detach().requires_grad_(not self._closed_form())
        codes = self.network.encode(images)
        error = self._error(self.network.decode(codes), batch.images)
        contraction = self._contraction(images, codes, self.generator).mean()
        loss = error + config.contraction_weight * contraction
        if config.weight_decay:
            loss = loss + config.weight_decay * weight_penalty(self.network.weights())
        self._step(loss, codes)
        return Outcome(
            {"loss": loss.detach(), "reconstruction_loss": error.detach(), "jacobian_norm": contraction.detach()}
        )

    def _closed_form(self) -> bool:
        """Whether the encoder is one dense layer of sigmoid units."""
        network, encoder = self.network, self.network.encoder
        one_layer = isinstance(encoder, MLP) and len(encoder.layers) == 2 and isinstance(encoder.layers[1], nn.Sigmoid)
        return self.config.jacobian != "estimated" and one_layer and network.code is None

    def _contraction(self, images: Tensor, codes: Tensor, generator: torch.Generator) -> Tensor:
        """||dh/dx||_F^2 of each image, [B]; `codes` are those of `images`, which require a gradient where needed."""
        if self._closed_form():
            return sigmoid_jacobian_norm(codes, self.network.encoder.layers[0].weight)  # type: ignore[index,union-attr]
        if self.config.jacobian == "exact":
            return jacobian_norm(self.network.encode, images, codes)
        return estimated_jacobian_norm(self.network.encode, images, self.config.jacobian_probes, generator, codes)

    def _measures(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        measures = super()._measures(images, generator)
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            contraction = self._contraction(images, self.network.encode(images), generator).mean().detach()
        score = measures["score"] - self.config.contraction_weight * contraction
        return {**measures, "score": score, "jacobian_norm": contraction}
