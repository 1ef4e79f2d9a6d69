"""Losses and penalties against numbers worked out by hand, loops, and autograd's own Jacobian."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from generative.penalties import (
    estimated_jacobian_norm,
    jacobian_norm,
    reconstruction_loss,
    sigmoid_jacobian_norm,
    sparsity_kl,
    sparsity_l1,
    weight_penalty,
)


def test_the_cross_entropy_is_summed_over_pixels_and_averaged_over_images() -> None:
    images = torch.tensor([[1.0, 0.0], [0.25, 1.0]]).view(2, 1, 1, 2)
    outputs = torch.tensor([[0.8, 0.5], [0.5, 0.9]]).view(2, 1, 1, 2)
    by_hand = (-math.log(0.8) - math.log(0.5)) + (-0.25 * math.log(0.5) - 0.75 * math.log(0.5) - math.log(0.9))
    loss = reconstruction_loss(torch.logit(outputs), images, "cross-entropy", True)
    assert loss.item() == pytest.approx(by_hand / 2, rel=1e-5)


@pytest.mark.parametrize("unit_interval", [True, False])
def test_the_squared_error_is_summed_over_pixels_and_averaged_over_images(unit_interval: bool) -> None:
    images = torch.tensor([[1.0, 0.0], [0.25, 1.0]]).view(2, 1, 1, 2)
    outputs = torch.tensor([[0.8, 0.5], [0.5, 0.9]]).view(2, 1, 1, 2)
    logits = torch.logit(outputs) if unit_interval else outputs
    loss = reconstruction_loss(logits, images, "squared-error", unit_interval)
    assert loss.item() == pytest.approx((0.04 + 0.25 + 0.0625 + 0.01) / 2, rel=1e-5)


def test_the_sparsity_penalty_is_that_of_the_mean_activation_over_the_batch() -> None:
    activations = torch.tensor([[0.1, 0.9], [0.3, 0.5]])  # means 0.2 and 0.7
    by_hand = sum(0.2 * math.log(0.2 / mean) + 0.8 * math.log(0.8 / (1 - mean)) for mean in (0.2, 0.7))
    assert sparsity_kl(activations, 0.2).item() == pytest.approx(by_hand, rel=1e-5)
    assert sparsity_kl(activations[:, :1], 0.2).item() == pytest.approx(0.0, abs=1e-6)


def test_dead_units_do_not_make_the_sparsity_penalty_infinite() -> None:
    assert torch.isfinite(sparsity_kl(torch.tensor([[0.0, 1.0]]), 0.05))


def test_absolute_values_are_summed_over_units_and_averaged_over_images() -> None:
    assert sparsity_l1(torch.tensor([[1.0, -2.0], [0.5, 0.0]])).item() == pytest.approx(1.75)


def test_weight_decay_is_half_the_sum_of_squares() -> None:
    assert weight_penalty([torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]).item() == pytest.approx(7.0)


def squared_norms(encode: nn.Module, images: Tensor) -> Tensor:
    """Autograd's whole Jacobian, squared and summed, [B]."""
    jacobian = vmap(jacrev(lambda image: encode(image[None])[0]))(images)  # [B, D, C, H, W]
    return jacobian.flatten(1).square().sum(dim=1)


def encoder(*widths: int) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.Sigmoid()]
    return nn.Sequential(*layers).double()


def pictures(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_the_closed_form_is_the_norm_of_autograd_s_jacobian() -> None:
    network = encoder(12, 7)
    norms = sigmoid_jacobian_norm(network(pictures()), network[1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(norms, squared_norms(network, pictures()))


def test_the_closed_form_is_what_a_loop_over_units_and_pixels_gives() -> None:
    network = encoder(12, 3)
    weight, code = network[1].weight.detach().numpy(), network(pictures(1)).detach().numpy()[0]  # type: ignore[operator]
    by_hand = sum((code[j] * (1 - code[j]) * weight[j, i]) ** 2 for j in range(3) for i in range(12))
    ours = sigmoid_jacobian_norm(network(pictures(1)), network[1].weight)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.item(), by_hand)


def test_the_norm_of_a_deep_encoder_is_that_of_autograd_s_jacobian() -> None:
    network = encoder(12, 8, 5)
    torch.testing.assert_close(jacobian_norm(network, pictures()), squared_norms(network, pictures()))


def test_the_gradients_of_the_closed_form_and_of_autograd_agree() -> None:
    network = encoder(12, 7)
    weights = list(network.parameters())
    closed = sigmoid_jacobian_norm(network(pictures()), network[1].weight).mean()  # type: ignore[arg-type]
    general = jacobian_norm(network, pictures()).mean()
    full = squared_norms(network, pictures()).mean()
    expected = torch.autograd.grad(full, weights)
    for norm in (closed, general):
        for ours, theirs in zip(torch.autograd.grad(norm, weights), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_random_signs_estimate_the_norm_without_bias() -> None:
    network = encoder(12, 8, 5)
    probes = 4_000
    estimate = estimated_jacobian_norm(network, pictures(), probes, torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate, squared_norms(network, pictures()), rtol=0.06, atol=0.0)
    one = estimated_jacobian_norm(network, pictures(), 1, torch.Generator().manual_seed(0))
    assert not torch.allclose(one, estimate, rtol=0.01)
