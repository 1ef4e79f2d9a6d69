"""The evidence lower bound and its parts, in nats: sums over pixels and latent units, one number an image."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Likelihood = Literal["dynamic", "static", "thresholded", "grey", "gaussian"]
"""What p(x|z) is a distribution of: bits drawn afresh from grey pixels each time an image is seen, bits drawn once for
all, pixels above a half, grey pixels put into the Bernoulli formula (no likelihood), or real numbers."""


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of [B, D]: [B]. Kingma and Welling (2014), appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def gaussian_log_density(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(values; mean, exp(log_variance)), summed over all but the first axis: [B]. The two broadcast."""
    log_density = -0.5 * (math.log(2.0 * math.pi) + log_variance + (values - mean).square() / log_variance.exp())
    return log_density.flatten(1).sum(dim=1)


def bernoulli_log_mass(bits: Tensor, logits: Tensor) -> Tensor:
    """log prod_pixels Bernoulli(bit; sigmoid(logit)) of [B, ...]: [B]. Kingma and Welling (2014), appendix C.1."""
    return -F.binary_cross_entropy_with_logits(logits, bits, reduction="none").flatten(1).sum(dim=1)


def reparameterised(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """z = mean + exp(log_variance / 2) * noise, [B, D]. Kingma and Welling (2014), equation 10."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
    return mean + torch.exp(0.5 * log_variance) * noise


def importance_weighted(log_weights: Tensor) -> Tensor:
    """log (1/k sum_k w), [B], of log w = log p(x, z) - log q(z|x), [k, B] with z drawn from q.

    At least the ELBO, at most log p(x), in expectation. Burda, Grosse and Salakhutdinov (2016), equation 8.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def binarised(images: Tensor, likelihood: Likelihood, generator: torch.Generator) -> Tensor:
    """What p(x|z) is a distribution of, from images [B, C, H, W]: bits as floats, or the images themselves."""
    if likelihood == "dynamic":
        uniform = torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
        return (uniform < images).to(images.dtype)
    if likelihood == "static":
        return (fixed_uniform(images) < images).to(images.dtype)
    if likelihood == "thresholded":
        return (images > 0.5).to(images.dtype)
    return images


def fixed_uniform(images: Tensor) -> Tensor:
    """Numbers in [0, 1) [B, C, H, W] that depend on nothing but the image itself: one and the same draw for ever.

    The 8-bit pixels of an image are hashed into a seed, and seed and place of a pixel into its number (the finaliser of
    MurmurHash3, in 32 bits). So an image has the same bits in every epoch, run and process, on every device.
    """
    pixels = (images * 255.0).round().to(torch.int64).flatten(1)  # [B, D]
    place = torch.arange(1, pixels.shape[1] + 1, device=pixels.device)  # [D]
    seed = _scrambled((pixels + 1) * _scrambled(place) % _WORD).sum(dim=1, keepdim=True) % _WORD  # [B, 1]
    return (_scrambled((seed + place * 0x9E3779B1) % _WORD) >> 8).to(torch.float32).div(1 << 24).view_as(images)


_WORD = 1 << 32


def _scrambled(word: Tensor) -> Tensor:
    """The finaliser of MurmurHash3 on int64 that hold 32 bits."""
    word = word ^ (word >> 16)
    word = _product(word, 0x85EBCA6B)
    word = word ^ (word >> 13)
    word = _product(word, 0xC2B2AE35)
    return word ^ (word >> 16)


def _product(word: Tensor, factor: int) -> Tensor:
    """word * factor modulo 2^32, without leaving the range of int64."""
    low, high = word & 0xFFFF, word >> 16
    return (low * factor + ((high * factor & 0xFFFF) << 16)) % _WORD
