"""The Gaussian over codes is the one that they were drawn from, and samples lie where codes lie."""

from __future__ import annotations

import pytest
import torch

from generative.code_density import CodeDensity


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_samples_have_the_mean_and_the_covariance_of_the_codes() -> None:
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.2, 0.7]])
    mean = torch.tensor([3.0, -1.0, 0.5])
    codes = mean + torch.randn(40_000, 3, generator=generator()) @ mixing.T
    density = CodeDensity(3, "identity", half_life_images=5_000)
    for batch in codes.split(100):
        density.update(batch)
    samples = density.sample(40_000, generator())
    torch.testing.assert_close(samples.mean(dim=0), mean, atol=0.05, rtol=0.0)
    torch.testing.assert_close(torch.cov(samples.T), mixing @ mixing.T, atol=0.06, rtol=0.0)


def test_one_batch_is_enough_to_begin_with() -> None:
    density = CodeDensity(2, "identity")
    density.update(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    samples = density.sample(5_000, generator())
    torch.testing.assert_close(samples.mean(dim=0), torch.tensor([2.0, 2.0]), atol=0.05, rtol=0.0)
    assert samples[:, 0].std().item() == pytest.approx(1.0, abs=0.05) and samples[:, 1].std() < 0.01


def test_what_was_long_ago_is_forgotten() -> None:
    density = CodeDensity(1, "identity", half_life_images=100)
    density.update(torch.full((50, 1), -9.0), 1_000)
    density.update(torch.full((50, 1), 4.0), 5_000)
    assert density.sample(1, generator()).item() == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize(("squash", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("relu", 0, torch.inf)])
def test_samples_lie_where_codes_lie(squash: str, low: float, high: float) -> None:
    codes = getattr(torch, squash)(2 * torch.randn(500, 4, generator=generator()))
    density = CodeDensity(4, squash)
    density.update(codes)
    samples = density.sample(500, generator())
    assert samples.min() >= low and samples.max() <= high
    assert (samples.mean(dim=0) - codes.mean(dim=0)).abs().max() < 0.35
