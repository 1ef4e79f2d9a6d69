"""C51: the projection by hand and against algorithm 1, the loss, and its priorities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.c51 import C51Config, CategoricalValue, project
from aprendiz.errors import ConfigError


def algorithm_1(atoms: np.ndarray, reward: float, discount: float, probabilities: np.ndarray) -> np.ndarray:
    """Bellemare et al. (2017), algorithm 1, with the mass of a target that hits an atom kept whole."""
    low, high, count = atoms[0], atoms[-1], len(atoms)
    spacing = (high - low) / (count - 1)
    projected = np.zeros(count)
    for j in range(count):
        moved = min(max(reward + discount * atoms[j], low), high)
        b = (moved - low) / spacing
        lower, upper = math.floor(b), math.ceil(b)
        if lower == upper:
            projected[lower] += probabilities[j]
        else:
            projected[lower] += probabilities[j] * (upper - b)
            projected[upper] += probabilities[j] * (b - lower)
    return projected


def one(atoms: list[float], reward: float, discount: float, probabilities: list[float]) -> list[float]:
    found = project(
        torch.tensor(atoms), torch.tensor([reward]), torch.tensor([discount]), torch.tensor([probabilities])
    )
    return found[0].tolist()


def test_what_lies_between_two_atoms_is_shared_by_nearness() -> None:
    assert one([0.0, 1.0, 2.0], 0.25, 0.5, [0.0, 1.0, 0.0]) == pytest.approx([0.25, 0.75, 0.0])  # 0.25 + 0.5 * 1


def test_a_target_exactly_on_an_atom_stays_whole() -> None:
    assert one([0.0, 1.0, 2.0], 1.0, 1.0, [0.25, 0.75, 0.0]) == pytest.approx([0.0, 0.25, 0.75])
    assert one([-10.0, 0.0, 10.0], 0.0, 1.0, [0.2, 0.3, 0.5]) == pytest.approx([0.2, 0.3, 0.5])


def test_what_lies_outside_the_support_goes_to_its_ends() -> None:
    assert one([0.0, 1.0, 2.0], 100.0, 1.0, [0.2, 0.3, 0.5]) == pytest.approx([0.0, 0.0, 1.0])
    assert one([0.0, 1.0, 2.0], -1.5, 1.0, [0.2, 0.3, 0.5]) == pytest.approx([0.5 + 0.25, 0.25, 0.0])


def test_where_nothing_follows_only_the_reward_counts() -> None:
    assert one([0.0, 1.0, 2.0], 2.0, 0.0, [0.2, 0.3, 0.5]) == pytest.approx([0.0, 0.0, 1.0])


@pytest.mark.parametrize("count", [2, 51])
def test_the_projection_equals_algorithm_1(count: int) -> None:
    generator = np.random.default_rng(0)
    atoms = np.linspace(-10, 10, count)
    reward = np.round(generator.normal(size=60) * 5, 1)
    discount = generator.choice([0.0, 0.5, 0.99, 1.0], 60)
    probabilities = generator.dirichlet(np.ones(count), 60)
    expected = [algorithm_1(atoms, reward[b], discount[b], probabilities[b]) for b in range(60)]
    found = project(*(torch.from_numpy(x) for x in (atoms, reward, discount, probabilities)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 1.0, atol=1e-9)


def test_the_mean_is_kept_within_the_support() -> None:
    atoms = torch.linspace(-10, 10, 51, dtype=torch.float64)
    probabilities = torch.softmax(torch.randn(20, 51, dtype=torch.float64), dim=1)
    reward, discount = torch.full((20,), 0.37, dtype=torch.float64), torch.full((20,), 0.6, dtype=torch.float64)
    mean = (project(atoms, reward, discount, probabilities) * atoms).sum(dim=1)
    torch.testing.assert_close(mean, reward + discount * (probabilities * atoms).sum(dim=1))


def test_loss_and_priority_equal_a_loop() -> None:
    config = C51Config(backbone="mlp", atoms=5, value_min=-2.0, value_max=2.0, prioritized=True)
    kind, generator = CategoricalValue(config, torch.device("cpu")), np.random.default_rng(0)
    logits, following = generator.normal(size=(6, 5)), generator.dirichlet(np.ones(5), 6)
    reward, discount = generator.normal(size=6), np.full(6, 0.9)
    found = kind.loss(*(torch.from_numpy(x).float() for x in (logits, reward, discount, following)), None)
    assert found.td_error is not None
    for b in range(6):
        target = algorithm_1(np.linspace(-2, 2, 5), reward[b], discount[b], following[b])
        predicted = np.exp(logits[b]) / np.exp(logits[b]).sum()
        cross_entropy = -sum(target[i] * math.log(predicted[i]) for i in range(5))
        divergence = sum(target[i] * math.log(target[i] / predicted[i]) for i in range(5) if target[i] > 0)
        assert float(found.per_sample[b]) == pytest.approx(cross_entropy, rel=1e-4)
        assert float(found.td_error[b]) == pytest.approx(divergence, rel=1e-3, abs=1e-5)


def test_values_are_the_means_of_the_distribution() -> None:
    kind = CategoricalValue(C51Config(backbone="mlp", atoms=3, value_min=0, value_max=4), torch.device("cpu"))
    distribution = kind.distribution(torch.log(torch.tensor([[[1.0, 2.0, 1.0], [1.0, 1.0, 8.0]]])))
    assert kind.q_values(distribution).flatten().tolist() == pytest.approx([2.0, 3.4])
    picture = kind.picture(distribution)
    assert picture[0, 0, :, 0].tolist() == [0.0, 2.0, 4.0]
    assert picture[0, 0, :, 1].tolist() == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize("wrong", [{"atoms": 1}, {"value_min": 3.0, "value_max": 3.0}, {"value_max": float("inf")}])
def test_a_support_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        C51Config(**wrong)  # type: ignore[arg-type]
