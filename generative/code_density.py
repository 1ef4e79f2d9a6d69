"""A density over the codes of an autoencoder that has none of its own, so that it can be sampled.

Paper: Ghosh et al., "From variational to deterministic autoencoders", ICLR 2020, section 4: ex-post density estimation;
here one Gaussian with a full covariance, kept up to date while the model learns instead of fitted afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class CodeDensity:
    """A Gaussian over codes [B, D], of running averages in which the last `half_life_images` count for half.

    `squash` names the last nonlinearity of the encoder: codes of sigmoid and tanh units are taken back through it
    first, so that what is sampled lies where codes lie; those of rectifiers are cut off at 0.
    """

    def __init__(
        self, size: int, squash: str, device: torch.device | str = "cpu", half_life_images: float = 10_000.0
    ) -> None:
        self.squash, self.half_life_images = squash, half_life_images
        self.weight = torch.zeros((), device=device)
        """Sum of the weights of all images so far: 0 before the first, 1 in the end."""
        self.mean = torch.zeros(size, device=device)
        self.second = torch.zeros(size, size, device=device)
        """Weighted sums of codes [D] and of their outer products [D, D]."""

    @torch.no_grad()
    def update(self, codes: Tensor, images: int | None = None) -> None:
        """Takes in codes [B, D], which stand for so many `images` (B of them unless told otherwise)."""
        codes = self._unsquashed(codes.detach().float())
        rate = 1.0 - math.exp(-math.log(2.0) * (images or len(codes)) / self.half_life_images)
        self.weight.lerp_(torch.ones_like(self.weight), rate)
        self.mean.lerp_(codes.mean(dim=0), rate)
        self.second.mul_(1.0 - rate).addmm_(codes.T, codes, alpha=rate / len(codes))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes float32 [count, D] on the CPU; the generator is one of the CPU. Before any update, of N(0, I)."""
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        weight = float(self.weight)
        if weight == 0.0:
            return self._squashed(noise.float())
        mean = self.mean.cpu().double() / weight
        covariance = self.second.cpu().double() / weight - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0.0).sqrt() @ vectors.T  # [D, D], whatever the signs of the vectors
        return self._squashed((mean + noise @ root).float())

    def _unsquashed(self, codes: Tensor) -> Tensor:
        if self.squash == "sigmoid":
            return torch.logit(codes, eps=1e-4)
        return torch.atanh(codes.clamp(-1.0 + 1e-4, 1.0 - 1e-4)) if self.squash == "tanh" else codes

    def _squashed(self, values: Tensor) -> Tensor:
        if self.squash == "sigmoid":
            return torch.sigmoid(values)
        if self.squash == "tanh":
            return torch.tanh(values)
        return values.clamp(min=0.0) if self.squash == "relu" else values

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "mean": self.mean, "second": self.second}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight.copy_(state["weight"])
        self.mean.copy_(state["mean"])
        self.second.copy_(state["second"])
