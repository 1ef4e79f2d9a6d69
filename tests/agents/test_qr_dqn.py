"""Quantile regression: the Huber loss by hand and against its formula, and where it leads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.iqn import ImplicitQuantileValue, IQNConfig
from agents.qr_dqn import QRDQN, QRDQNConfig, QuantileValue, midpoints, quantile_huber_loss
from aprendiz.errors import ConfigError


def formula(quantiles: np.ndarray, target: np.ndarray, taus: np.ndarray, kappa: float) -> tuple[float, float]:
    """Dabney et al. (2018), equations 9 and 10: mean over targets, sum over quantiles; and the mean absolute error."""
    loss, error = 0.0, 0.0
    for i in range(len(quantiles)):
        for j in range(len(target)):
            u = target[j] - quantiles[i]
            huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            loss += abs(taus[i] - (1.0 if u < 0 else 0.0)) * huber / kappa / len(target)
            error += abs(u) / len(target) / len(quantiles)
    return loss, error


def test_the_middle_of_each_share() -> None:
    assert midpoints(4).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_the_loss_by_hand() -> None:
    # u = 1 - 0 = 1 with weight 0.25; u = 1 - 3 = -2 with weight |0.75 - 1| = 0.25: 0.25 * 0.5 + 0.25 * 1.5
    loss, error = quantile_huber_loss(torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0]]), midpoints(2), 1.0)
    assert loss.tolist() == [0.5] and error.tolist() == [1.5]


def test_the_loss_of_drawn_fractions_by_hand() -> None:
    # u = 1 - 0 = 1 and u = 1 - 3 = -2. Fractions 0.2 and 0.9: 0.2 * 0.5 + |0.9 - 1| * 1.5; 0.6 and 0.1: 0.3 + 0.9 * 1.5
    quantiles, taus = torch.tensor([[0.0, 3.0], [0.0, 3.0]]), torch.tensor([[0.2, 0.9], [0.6, 0.1]])
    loss, _ = quantile_huber_loss(quantiles, torch.ones(2, 1), taus, 1.0)
    assert loss.tolist() == pytest.approx([0.25, 1.65])


def test_averaged_over_targets_and_summed_over_quantiles() -> None:
    quantiles, target = torch.zeros(1, 2), torch.ones(1, 1)
    once, _ = quantile_huber_loss(quantiles, target, midpoints(2), 1.0)
    targets, _ = quantile_huber_loss(quantiles, target.expand(1, 5), midpoints(2), 1.0)
    more, _ = quantile_huber_loss(torch.zeros(1, 8), target, midpoints(8), 1.0)
    torch.testing.assert_close(targets, once)
    torch.testing.assert_close(more, 4 * once)


@pytest.mark.parametrize("kappa", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("implicit", [False, True], ids=["fixed", "drawn"])
def test_the_loss_equals_the_formula(kappa: float, implicit: bool) -> None:
    generator = np.random.default_rng(0)
    quantiles, target = generator.normal(size=(7, 5)) * 2, generator.normal(size=(7, 6)) * 2
    taus = generator.random((7, 5)) if implicit else np.tile((np.arange(5) + 0.5) / 5, (7, 1))
    given = taus if implicit else taus[0]
    loss, error = quantile_huber_loss(*(torch.from_numpy(x) for x in (quantiles, target, given)), kappa)
    expected = np.array([formula(quantiles[b], target[b], taus[b], kappa) for b in range(7)])
    np.testing.assert_allclose(loss.numpy(), expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(error.numpy(), expected[:, 1], rtol=1e-6)


def test_the_loss_is_least_at_the_quantiles() -> None:
    target = torch.from_numpy(np.random.default_rng(0).exponential(size=(1, 300)).astype(np.float32))
    taus = midpoints(8)
    quantiles = torch.zeros(1, 8, requires_grad=True)
    optimizer = torch.optim.Adam([quantiles], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        quantile_huber_loss(quantiles, target, taus, 0.02)[0].sum().backward()
        optimizer.step()
    np.testing.assert_allclose(
        quantiles.detach().numpy()[0], np.quantile(target.numpy(), taus.numpy()), rtol=0.06, atol=0.03
    )


@pytest.mark.parametrize("kind", [QuantileValue, ImplicitQuantileValue])
def test_the_kind_puts_target_and_loss_together(kind: type[QuantileValue]) -> None:
    config = (
        IQNConfig(quantiles=4, prioritized=True)
        if kind is ImplicitQuantileValue
        else QRDQNConfig(quantiles=4, prioritized=True)
    )
    generator = np.random.default_rng(0)
    chosen, following, taus = generator.normal(size=(3, 4)), generator.normal(size=(3, 4)), generator.random((3, 4))
    reward, discount = generator.normal(size=3), np.array([0.9, 0.0, 0.5])
    drawn = torch.from_numpy(taus) if kind is ImplicitQuantileValue else None
    found = kind(config, torch.device("cpu")).loss(
        *(torch.from_numpy(x) for x in (chosen, reward, discount, following)), drawn
    )
    at = taus if drawn is not None else np.tile(midpoints(4).numpy(), (3, 1))
    expected = [formula(chosen[b], reward[b] + discount[b] * following[b], at[b], 1.0) for b in range(3)]
    np.testing.assert_allclose(found.per_sample.numpy(), [loss for loss, _ in expected], rtol=1e-5)
    assert found.td_error is not None
    np.testing.assert_allclose(found.td_error.numpy(), [error for _, error in expected], rtol=1e-5)


def test_fast_on_images_is_the_recipe_for_an_hour() -> None:
    config = QRDQN.preset_table["image"]["fast"]
    expected = {
        "backbone": "nature-cnn",
        "layer_norm": "last",
        "quantiles": 32,
        "double": False,
        "n_step": 3,
        "num_envs": 64,
        "batch_size": 256,
        "train_period_env_steps": 64,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "learning_rate_end": 0.0,
        "optimizer_epsilon": 0.005 / 256,
        "target_period_env_steps": 2_000,
        "exploration_start": 1.0,
        "exploration_end": 0.01,
        "exploration_env_steps": 150_000,
        "warmup_env_steps": 20_000,
    }
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("wrong", [{"quantiles": 0}, {"huber_threshold": 0.0}])
def test_a_wrong_number_of_a_distribution_is_named(wrong: dict[str, float]) -> None:
    for kind in (QRDQNConfig, IQNConfig):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            kind(**wrong)  # type: ignore[arg-type]
