"""The bound and its parts against closed forms, quadrature and a model whose likelihood is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from generative.elbo import (
    bernoulli_log_mass,
    binarised,
    fixed_uniform,
    gaussian_kl,
    gaussian_log_density,
    importance_weighted,
    reparameterised,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_divergence_by_hand() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])
    by_hand = 0.5 * (1 + 1 - 1 - 0) + 0.5 * (0 + 4 - 1 - math.log(4.0))
    assert gaussian_kl(mean, log_variance).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_divergence_is_what_drawing_from_the_posterior_gives() -> None:
    mean, log_variance = torch.tensor([[0.7, -1.2, 0.1]]), torch.tensor([[-1.0, 0.3, 0.8]])
    many = mean.expand(200_000, 3), log_variance.expand(200_000, 3)
    latents = reparameterised(*many, generator())
    prior = gaussian_log_density(latents, torch.zeros(3), torch.zeros(3))
    estimate = gaussian_log_density(latents, *many) - prior
    error = estimate.std().item() / math.sqrt(len(estimate))
    assert estimate.mean().item() == pytest.approx(gaussian_kl(mean, log_variance).item(), abs=4 * error)


def test_densities_are_those_of_torch_and_summed_over_pixels() -> None:
    values = torch.randn(3, 1, 2, 2, generator=generator())
    mean, log_variance = torch.full_like(values, 0.3), torch.tensor(-0.8)
    expected = Normal(mean, math.exp(-0.4)).log_prob(values).flatten(1).sum(dim=1)
    torch.testing.assert_close(gaussian_log_density(values, mean, log_variance), expected)
    bits, logits = (values > 0).float(), values * 2
    torch.testing.assert_close(
        bernoulli_log_mass(bits, logits), Bernoulli(logits=logits).log_prob(bits).flatten(1).sum(dim=1)
    )


def test_elbo_is_below_the_weighted_bound_which_is_below_the_likelihood_and_reaches_it() -> None:
    """x = W z + noise with z ~ N(0, I): log p(x) is known, and q is wrong on purpose."""
    weight = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.6, -0.9]])
    variance = 0.25
    x = torch.tensor([[0.9, -0.4, 0.7]])
    exact = MultivariateNormal(torch.zeros(3), weight @ weight.T + variance * torch.eye(3)).log_prob(x).item()

    def log_weights(draws: int, mean: torch.Tensor, log_variance: torch.Tensor, count: int) -> torch.Tensor:
        """[k, B]"""
        one = []
        source = generator(draws)
        for _ in range(draws):
            q = mean.expand(count, 2), log_variance.expand(count, 2)
            z = reparameterised(*q, source)
            likelihood = gaussian_log_density(x.expand(count, 3), z @ weight.T, torch.tensor(math.log(variance)))
            prior = gaussian_log_density(z, torch.zeros(2), torch.zeros(2))
            one.append(likelihood + prior - gaussian_log_density(z, *q))
        return torch.stack(one)

    wrong = torch.tensor([[0.2, 0.1]]), torch.tensor([[-1.0, -1.5]])
    elbo, five, fifty = (importance_weighted(log_weights(draws, *wrong, 20_000)).mean().item() for draws in (1, 5, 50))
    assert elbo < five - 0.05 and five < fifty and fifty < exact + 0.01
    assert importance_weighted(log_weights(3_000, *wrong, 20)).mean().item() == pytest.approx(exact, abs=0.02)


def test_one_draw_of_the_weighted_bound_is_the_draw_itself() -> None:
    weights = torch.tensor([[-3.0, 2.0]])
    torch.testing.assert_close(importance_weighted(weights), weights[0])
    torch.testing.assert_close(importance_weighted(weights.repeat(7, 1)), weights[0])


def grey() -> torch.Tensor:
    return torch.arange(256).float().div(255).view(1, 1, 16, 16).repeat(300, 1, 1, 1)


def test_dynamic_bits_are_fresh_each_time_and_have_the_pixels_as_their_means() -> None:
    source = generator()
    first, second = (binarised(grey(), "dynamic", source) for _ in range(2))
    assert not torch.equal(first, second) and set(first.unique().tolist()) == {0.0, 1.0}
    assert (first.mean(dim=0) - grey()[0]).abs().max() < 5 * 0.5 / math.sqrt(300)


def test_static_bits_never_change_and_depend_on_nothing_but_the_image() -> None:
    images = torch.randint(0, 256, (500, 1, 8, 8), generator=generator()).float() / 255
    first, second = binarised(images, "static", generator(1)), binarised(images, "static", generator(2))
    assert torch.equal(first, second)
    assert torch.equal(binarised(images[7:9], "static", generator()), first[7:9])
    assert binarised(images, "static", generator()).unique().tolist() == [0.0, 1.0]


def test_static_bits_have_the_pixels_as_their_means() -> None:
    images = torch.randint(0, 256, (4_000, 1, 8, 8), generator=generator()).float() / 255
    uniform = fixed_uniform(images)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.005)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.002)
    between = torch.corrcoef(uniform.flatten(1).T) - torch.eye(64)
    assert between.abs().max() < 5 / math.sqrt(4_000)
    chosen = (images > 0.45) & (images < 0.55)
    assert (uniform < images).float()[chosen].mean().item() == pytest.approx(0.5, abs=0.02)


def test_thresholded_bits_are_those_above_a_half_and_grey_stays_grey() -> None:
    images = torch.tensor([0.0, 0.5, 0.51, 1.0]).view(1, 1, 2, 2)
    assert binarised(images, "thresholded", generator()).flatten().tolist() == [0, 0, 1, 1]
    assert torch.equal(binarised(images, "grey", generator()), images)
    assert torch.equal(binarised(images, "gaussian", generator()), images)
