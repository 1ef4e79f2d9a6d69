"""Partition functions: sums against brute force, and AIS against sums."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from generative.partition import (
    LogPartition,
    annealed_log_weights,
    base_log_partition,
    binary_states,
    can_sum,
    estimated_log_partition,
    exact_log_partition,
    log_mean_weight,
    paper_temperatures,
    summed_terms,
)


def machine(visible: int, hidden: int, scale: float = 1.0, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(shape, generator=generator) for shape in ((visible, hidden), visible, hidden))


def brute_force(weight, visible_bias, hidden_bias):
    """log of the sum of exp(-E) over every joint state."""
    terms = []
    for v in itertools.product((0.0, 1.0), repeat=len(visible_bias)):
        for h in itertools.product((0.0, 1.0), repeat=len(hidden_bias)):
            v_, h_ = torch.tensor(v).double(), torch.tensor(h).double()
            terms.append(v_ @ visible_bias.double() + h_ @ hidden_bias.double() + v_ @ weight.double() @ h_)
    return float(torch.stack(terms).logsumexp(0))


@pytest.mark.parametrize(("visible", "hidden"), [(4, 3), (3, 5), (1, 1)])
def test_the_sum_over_one_layer_is_the_sum_over_all_joint_states(visible: int, hidden: int) -> None:
    parts = machine(visible, hidden)
    assert exact_log_partition(*parts) == pytest.approx(brute_force(*parts), abs=1e-9)


def test_a_machine_without_weights_has_the_product_of_its_coins() -> None:
    bias = torch.tensor([0.5, -1.0, 2.0])
    parts = (torch.zeros(3, 2), bias, torch.zeros(2))
    by_hand = sum(math.log(1 + math.exp(b)) for b in (0.5, -1.0, 2.0)) + 2 * math.log(2)
    assert exact_log_partition(*parts) == pytest.approx(by_hand, abs=1e-6)
    assert base_log_partition(bias, 2) == pytest.approx(by_hand, abs=1e-6)


def test_more_states_than_fit_a_chunk_are_all_summed() -> None:
    weight = torch.zeros(30, 16)
    assert exact_log_partition(weight, torch.zeros(30), torch.zeros(16)) == pytest.approx(46 * math.log(2), abs=1e-8)


def test_binary_states_are_all_there_once() -> None:
    states = torch.cat(list(binary_states(15)))
    assert states.shape == (1 << 15, 15)
    assert len(torch.unique(states @ (2.0 ** torch.arange(15)).double())) == 1 << 15


def test_gaussian_visible_units_are_integrated_out() -> None:
    weight, visible_bias, hidden_bias = machine(1, 2, scale=0.7)
    grid = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None]
    log_density = grid @ visible_bias.double() - 0.5 * grid.square().sum(1)
    log_density = log_density + torch.nn.functional.softplus(hidden_bias + grid @ weight.double()).sum(1)
    integral = float(torch.trapezoid(log_density.exp(), grid[:, 0]).log())
    assert exact_log_partition(weight, visible_bias, hidden_bias, gaussian=True) == pytest.approx(integral, abs=1e-6)


def test_large_machines_are_not_summed() -> None:
    assert not can_sum(784, 21)
    assert can_sum(784, 20)
    assert can_sum(16, 500)
    assert not can_sum(16, 500, gaussian=True)
    assert summed_terms(784, 10) == 784 * 1024
    assert summed_terms(4, 100) == 100 * 16
    with pytest.raises(ValueError, match="too many states"):
        exact_log_partition(torch.zeros(30, 21), torch.zeros(30), torch.zeros(21))


def test_temperatures_rise_from_0_to_1_as_in_the_paper() -> None:
    steps = paper_temperatures()
    assert len(steps) == 14_501
    assert float(steps[0]) == 0.0 and float(steps[-1]) == 1.0
    assert bool((steps.diff() > 0).all())
    assert int((steps < 0.5).sum()) == 500 and int((steps < 0.9).sum()) == 4_500


@pytest.mark.parametrize(("hidden", "gaussian"), [(8, False), (20, False), (6, True)])
def test_ais_finds_the_exact_value_within_its_error_bar(hidden: int, gaussian: bool) -> None:
    weight, visible_bias, hidden_bias = machine(12, hidden, scale=0.5 if gaussian else 1.0, seed=3)
    weight = weight * (0.3 if gaussian else 0.8)
    exact = exact_log_partition(weight, visible_bias, hidden_bias, gaussian)
    found = estimated_log_partition(
        weight,
        visible_bias,
        hidden_bias,
        torch.full((12,), 0.3),
        torch.Generator().manual_seed(5),
        chains=200,
        steps=1_000,
        gaussian=gaussian,
    )
    assert found.low <= exact <= found.high
    assert found.high - found.low < 1.0
    assert abs(found.value - exact) < 0.2


def test_ais_is_unbiased_even_with_few_temperatures() -> None:
    weight, visible_bias, hidden_bias = machine(6, 5, seed=2)
    base = torch.zeros(6)
    log_weights = annealed_log_weights(
        weight,
        visible_bias,
        hidden_bias,
        base,
        torch.linspace(0, 1, 6),
        40_000,
        torch.Generator().manual_seed(0),
    )
    _, low, high = log_mean_weight(log_weights)
    exact = exact_log_partition(weight, visible_bias, hidden_bias) - base_log_partition(base, 5)
    assert low <= exact <= high
    assert high - low < 0.1


def test_the_error_bar_is_three_standard_errors() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 6.0]).double()
    value, low, high = log_mean_weight((weights * math.exp(100)).log())
    mean, error = 3.0, 3 * float(weights.std()) / 2
    assert value == pytest.approx(100 + math.log(mean))
    assert high == pytest.approx(100 + math.log(mean + error))
    assert low == -math.inf  # the error is larger than the mean
    even = log_mean_weight(torch.tensor([1.0, 1.1, 0.9, 1.0]).log())
    assert even[1] == pytest.approx(math.log(1.0 - 3 * float(torch.tensor([1.0, 1.1, 0.9, 1.0]).std()) / 2), abs=1e-6)


def test_an_error_bar_without_an_end_is_left_out() -> None:
    closed = LogPartition(5.0, 4.0, 5.5, exact=False).likelihoods("nats", 3.0)
    assert closed == {"nats": -2.0, "nats_low": -2.5, "nats_high": -1.0, "log_partition": 5.0, "log_partition_exact": 0}
    open_ended = LogPartition(5.0, -math.inf, 5.5, exact=False).likelihoods("nats", 3.0)
    assert open_ended == {name: value for name, value in closed.items() if name != "nats_high"}
