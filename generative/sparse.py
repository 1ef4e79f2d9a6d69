"""Sparse autoencoder: more hidden units than needed, of which few are active for any one image.

Source: Ng, "Sparse autoencoder", CS294A lecture notes, Stanford 2011, sections 2 and 3.

    loss = error(x, decode(h)) + sparsity_weight * penalty + weight_decay / 2 * ||W||^2
    penalty "kl": sum over units of KL(target || mean of h_j over the batch)          h_j must be sigmoid
    penalty "l1": mean over images of sum over units of |h_j|
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from aprendiz.device import autocast
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.codec import CodecConfig, CodecModel, check_not_negative, presets_for
from generative.penalties import sparsity_kl, sparsity_l1, weight_penalty

if TYPE_CHECKING:
    from aprendiz.data.core import ImageBatch, ImageSpec


@dataclass(frozen=True, kw_only=True)
class SparseConfig(CodecConfig):
    """Hyperparameters of the sparse autoencoder."""

    hidden: tuple[int, ...] = (200,)
    """Hidden units; the last layer is the code."""
    activation: str = "sigmoid"
    """Nonlinearity of the hidden units; the KL penalty needs sigmoid."""
    penalty: Literal["kl", "l1"] = "kl"
    """Kullback-Leibler divergence of mean activations (Ng 2011, section 3), or absolute values (for relu, say)."""
    sparsity_target: float = 0.05
    """Mean activation wanted of each unit (rho; 0.05 in Ng 2011, section 3)."""
    sparsity_weight: float = 0.5
    """Factor of the penalty (beta; 3 in Ng's exercise, whose error is half the squared one)."""
    loss: Literal["cross-entropy", "squared-error"] = "squared-error"
    """Squared error (Ng 2011, section 2) or cross-entropy, summed over pixels."""
    weight_decay: float = 1e-4
    """Factor of half the sum of squared weights (lambda; 0.0001 in Ng's exercise)."""
    batch_size: int = 256
    """Images an update; the mean activation is taken over them (Ng: over all images)."""
    learning_rate: float = 2e-3
    """Step size of Adam at first (ours; Ng minimises with L-BFGS)."""
    tied_weights: bool = False
    """Whether the decoder's weights are the encoder's, transposed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in ("kl", "l1"):
            raise ConfigError(f"penalty must be kl or l1, got {self.penalty!r}")
        if self.penalty == "kl" and (self.activation != "sigmoid" or self.code_size is not None):
            raise ConfigError(
                "the KL penalty compares mean activations with a probability: it needs --activation sigmoid and no "
                "code_size; use --penalty l1 with others"
            )
        if not 0.0 < self.sparsity_target < 1.0:
            raise ConfigError(f"sparsity_target must lie between 0 and 1, got {self.sparsity_target}")
        check_not_negative(self, "sparsity_weight")


class SparseAutoencoder(CodecModel):
    """The sparse autoencoder. Raises ConfigError for the KL penalty on a backbone whose last units are not sigmoid."""

    Config = SparseConfig
    config: SparseConfig

    def __init__(
        self,
        config: SparseConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        super().__init__(config, spec, seed=seed, device=device, precision=precision)
        if config.penalty == "kl" and self.network.squash != "sigmoid":
            raise ConfigError(
                f"the KL penalty needs sigmoid units, which backbone {config.backbone} cannot be told to have: use "
                "--penalty l1, or --backbone mlp"
            )

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, SparseConfig]:
        default = SparseConfig()
        return presets_for(
            spec,
            {
                "default": default,
                "l1": replace(default, penalty="l1", activation="relu", sparsity_weight=0.1),
            },
        )

    def update(self, batch: ImageBatch) -> Outcome:
        config, images = self.config, batch.images
        with autocast(self.device, self.precision):
            codes = self.network.encode(images)
            logits = self.network.decode(codes)
        error = self._error(logits, images)
        penalty = self._penalty(codes.float())
        loss = error + config.sparsity_weight * penalty + config.weight_decay * weight_penalty(self.network.weights())
        self._step(loss, codes)
        return Outcome(
            {
                "loss": loss.detach(),
                "reconstruction_loss": error.detach(),
                "sparsity_penalty": penalty.detach(),
                "mean_activation": codes.detach().float().mean(),
            }
        )

    def _penalty(self, codes: Tensor) -> Tensor:
        return sparsity_kl(codes, self.config.sparsity_target) if self.config.penalty == "kl" else sparsity_l1(codes)

    @torch.no_grad()
    def _measures(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        codes = self.network.encode(images).float()
        penalty = self._penalty(codes)
        measures = super()._measures(images, generator)
        return {
            **measures,
            "score": measures["score"] - self.config.sparsity_weight * penalty,
            "sparsity_penalty": penalty,
            "mean_activation": codes.mean(),
            "active_share": (codes > 0.1).float().mean(),
        }
