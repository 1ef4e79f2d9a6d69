"""Losses and penalties of autoencoders. All are sums over pixels or units and means over images, unless they say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ReconstructionLoss = Literal["cross-entropy", "squared-error"]


def reconstruction_loss(logits: Tensor, images: Tensor, kind: ReconstructionLoss, unit_interval: bool) -> Tensor:
    """What images [B, C, H, W] lose on the way through; a scalar. Vincent et al. (2010), section 2.2.

    "cross-entropy": -sum_pixels [x log y + (1 - x) log(1 - y)] with y = sigmoid(logits), for images in [0, 1].
    "squared-error": sum_pixels (x - y)^2 with the same y, or y = logits where images are not in [0, 1].
    """
    if kind == "cross-entropy":
        return F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
    return F.mse_loss(torch.sigmoid(logits) if unit_interval else logits, images, reduction="sum") / len(images)


def weight_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Half the sum of all squared weights, without biases; a scalar. Ng (2011), CS294A lecture notes, section 2."""
    return 0.5 * torch.stack([weight.float().square().sum() for weight in weights]).sum()


def sparsity_kl(activations: Tensor, target: float) -> Tensor:
    """sum_units KL(Bernoulli(target) || Bernoulli(mean activation over the batch)); a scalar.

    `activations` [B, D] in (0, 1): units must be sigmoid. Ng (2011), CS294A lecture notes, section 3.
    """
    mean = activations.mean(dim=0).clamp(1e-6, 1.0 - 1e-6)  # [D]
    return (target * torch.log(target / mean) + (1.0 - target) * torch.log((1.0 - target) / (1.0 - mean))).sum()


def sparsity_l1(activations: Tensor) -> Tensor:
    """sum_units |activation|, mean over the images of [B, D]; a scalar. Olshausen and Field (1996), Nature 381:607."""
    return activations.abs().sum(dim=1).mean()


def sigmoid_jacobian_norm(codes: Tensor, weight: Tensor) -> Tensor:
    """||J||_F^2 of h = sigmoid(W x + b) in closed form, [B]: sum_j (h_j (1 - h_j))^2 sum_i W_ji^2.

    `codes` h [B, D], `weight` W [D, pixels]. Rifai et al. (2011), equation 9.
    """
    return (codes * (1.0 - codes)).square() @ weight.square().sum(dim=1)


def jacobian_norm(encode: Callable[[Tensor], Tensor], images: Tensor, codes: Tensor | None = None) -> Tensor:
    """||J||_F^2 of any encoder, [B], exactly: one backward pass for each code unit, differentiable in its parameters.

    `images` [B, ...]; `encode` maps each image to a code [D] by itself (no batch normalisation). Where the caller has
    them, `codes` [B, D] are `encode(images)` with `images` requiring a gradient. Rifai et al. (2011), equation 2.
    """
    if codes is None:
        images = images.detach().requires_grad_()
        codes = encode(images)
    total = images.new_zeros(len(images))
    for unit in codes.float().sum(dim=0):
        (row,) = torch.autograd.grad(unit, images, create_graph=True)  # [B, ...]
        total = total + row.flatten(1).square().sum(dim=1)
    return total


def estimated_jacobian_norm(
    encode: Callable[[Tensor], Tensor],
    images: Tensor,
    probes: int,
    generator: torch.Generator,
    codes: Tensor | None = None,
) -> Tensor:
    """||J||_F^2 = E ||v^T J||^2 over random signs v, [B]: the mean of `probes` draws, unbiased.

    Arguments as of `jacobian_norm`. Hutchinson (1989), Communications in Statistics 18:1059.
    """
    if codes is None:
        images = images.detach().requires_grad_()
        codes = encode(images)
    total = images.new_zeros(len(images))
    for _ in range(probes):
        coins = torch.randint(0, 2, codes.shape, generator=generator, device=generator.device)
        signs = (2 * coins - 1).to(codes.device, codes.dtype)  # [B, D]
        (row,) = torch.autograd.grad(codes, images, signs, create_graph=True)  # [B, ...]
        total = total + row.flatten(1).square().sum(dim=1)
    return total / probes
