"""Corruption of images for denoising autoencoders: what is put in is spoilt, what is compared with stays clean."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from aprendiz.errors import ConfigError

Noise = Literal["masking", "salt-and-pepper", "gaussian", "none"]
"""The three kinds of Vincent et al. (2010), section 3.3, and none."""


def check_noise(kind: str, level: float) -> None:
    """Raises ConfigError where there is no such noise, or its level is out of range."""
    if kind not in get_args(Noise):
        raise ConfigError(f"unknown noise {kind!r}: use one of {', '.join(get_args(Noise))}")
    if kind == "gaussian" and not 0.0 <= level < float("inf"):
        raise ConfigError(f"noise_level of Gaussian noise is a standard deviation, 0 or more; got {level}")
    if kind != "gaussian" and not 0.0 <= level < 1.0:
        raise ConfigError(f"noise_level of {kind} noise is a share of the pixels, from 0 to below 1; got {level}")


def corrupt(images: Tensor, kind: Noise, level: float, generator: torch.Generator) -> Tensor:
    """New images [B, C, H, W] with noise of the kind; `images` are left alone. Raises ConfigError for another kind."""
    if kind == "masking":
        return mask(images, level, generator)
    if kind == "salt-and-pepper":
        return salt_and_pepper(images, level, generator)
    if kind == "gaussian":
        return add_gaussian(images, level, generator)
    check_noise(kind, level)
    return images


def mask(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each number of [B, ...] is set to 0 with probability `share`, apart from all others (masking noise, MN)."""
    return _uniform(images, generator).ge_(share).mul_(images)  # in place, which is faster than a product with booleans


def salt_and_pepper(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each number of [B, ...] is set, with probability `share`, to 0 or 1 at the toss of a fair coin (SP)."""
    uniform = _uniform(images, generator)
    salted = torch.where(uniform < share / 2, torch.ones_like(images), images)
    return torch.where((uniform >= share / 2) & (uniform < share), torch.zeros_like(images), salted)


def add_gaussian(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """images + N(0, deviation^2) (additive isotropic Gaussian noise, GS); not cut off at 0 and 1."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + deviation * noise.to(images.device)


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
