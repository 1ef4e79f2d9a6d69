"""What the two players of an adversarial game minimise: pure functions of logits (never of probabilities).

D(x) = sigmoid(logit), so that log D = -softplus(-logit) and log(1 - D) = -softplus(logit), exact however large the
logit is. All functions return a scalar, in float32 whatever the precision of the logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, real_target: float = 1.0) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))]: logits [B] of real and [B'] of generated images.

    Goodfellow et al. (2014), algorithm 1, what the discriminator ascends. `real_target` under 1 is the one-sided label
    smoothing of Salimans et al. (2016), section 3.4: the cross-entropy with that probability in place of 1.
    """
    real = -real_target * F.logsigmoid(real_logits.float()) - (1 - real_target) * F.logsigmoid(-real_logits.float())
    return real.mean() + F.softplus(fake_logits.float()).mean()


def minimax_generator_loss(fake_logits: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))]: logits [B] of generated images.

    Goodfellow et al. (2014), algorithm 1, what the generator descends: the discriminator's own loss with its sign
    changed. Its gradient with respect to a logit is -D, which vanishes where the discriminator is sure of itself.
    """
    return -F.softplus(fake_logits.float()).mean()


def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))]: logits [B] of generated images.

    Goodfellow et al. (2014), section 3: the same fixed point, and a gradient, -(1 - D), that is largest where the
    discriminator is sure of itself.
    """
    return F.softplus(-fake_logits.float()).mean()


def real_gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E[|gradient of D's logit with respect to x|^2] / 2 over real images x [B, ...], the norm over all but the batch.

    Mescheder, Geiger and Nowozin (2018), equation 9 (R1), without its factor gamma: it keeps the discriminator from
    leaving an equilibrium once it is there. No image's logit may depend on the others (batch normalisation).
    """
    images = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.flatten(1).float().square().sum(dim=1).mean() / 2


def wasserstein_critic_loss(real_values: Tensor, fake_values: Tensor) -> Tensor:
    """E[f(G(z))] - E[f(x)]: the critic's values [B] of real and [B'] of generated images.

    Gulrajani et al. (2017), equation 3 without its penalty; with the sign changed it estimates the distance.
    """
    return fake_values.float().mean() - real_values.float().mean()


def wasserstein_generator_loss(fake_values: Tensor) -> Tensor:
    """-E[f(G(z))]: the critic's values [B] of generated images (Gulrajani et al. 2017, algorithm 1)."""
    return -fake_values.float().mean()


def interpolate(real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
    """weights * real + (1 - weights) * fake, one weight for each sample: [B, ...], [B, ...] and [B] to [B, ...].

    Gulrajani et al. (2017), algorithm 1, line 6.
    """
    weights = weights.view(-1, *(1,) * (real.dim() - 1))  # [B, 1, ...]
    return fake + weights * (real - fake)


def gradient_penalty(critic: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """E[(|grad f(x)| - 1)^2] at `points` [B, ...]; the norm is over everything but the batch.

    Gulrajani et al. (2017), equation 3, without its factor. `critic` takes [B, ...] to [B], each sample by itself:
    with batch normalisation in it the gradient of a sum would not be that of the samples. Can be differentiated again.
    """
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).float().sum(), points, create_graph=True)
    # The tiny number keeps the derivative of the root finite where the gradient is zero.
    norms = gradient.flatten(1).float().square().sum(dim=1).add(1e-12).sqrt()  # [B]
    return (norms - 1).square().mean()
