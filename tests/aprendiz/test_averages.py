from __future__ import annotations

import pytest
import torch
from torch import nn

from aprendiz.averages import WeightAverage, warmed_decay


def test_the_decay_warms_up() -> None:
    assert warmed_decay(0.999, 0) == 0.1
    assert warmed_decay(0.999, 90) == 0.91
    assert warmed_decay(0.999, 1_000_000) == 0.999
    assert warmed_decay(0.0, 5) == 0.0


def test_every_weight_follows_by_the_formula() -> None:
    network = nn.Linear(2, 1)
    average = WeightAverage(network, 0.5)
    expected = network.weight.detach().clone()
    for update in range(20):
        with torch.no_grad():
            network.weight += update
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        average.update(network)
        torch.testing.assert_close(average.network.weight, expected)


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm1d(3)
    average = WeightAverage(network, 0.9)
    mean = torch.zeros(3)
    for update in range(5):
        network(torch.randn(8, 3) + 4)
        decay = min(0.9, (1 + update) / (10 + update))
        assert network.running_mean is not None
        mean = decay * mean + (1 - decay) * network.running_mean
        average.update(network)
    torch.testing.assert_close(average.network.running_mean, mean)
    assert average.network.num_batches_tracked == 5


def test_without_decay_it_is_the_network() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(network, 0.0)
    network(torch.randn(6, 3))
    average.update(network)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(average.network.state_dict()[name], value)


def test_the_average_is_in_evaluation_mode_and_learns_nothing() -> None:
    average = WeightAverage(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), 0.9)
    assert not any(module.training for module in average.network.modules())
    assert not any(weight.requires_grad for weight in average.network.parameters())


def test_the_network_s_own_weights_are_left_alone() -> None:
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.9)
    before = network.weight.detach().clone()
    average.update(network)
    assert torch.equal(network.weight, before)
    assert average.network.weight.data_ptr() != network.weight.data_ptr()


def test_it_goes_on_from_its_state() -> None:
    network = nn.BatchNorm1d(3)
    one, other = WeightAverage(network, 0.99), WeightAverage(network, 0.99)
    for _ in range(3):
        network(torch.randn(8, 3))
        one.update(network)
    other.load_state_dict(one.state_dict())
    network(torch.randn(8, 3))
    one.update(network)
    other.update(network)
    assert torch.equal(one.network.running_var, other.network.running_var)
    assert one.updates == other.updates == 4


def test_a_copied_recurrence_is_put_into_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    network = nn.Sequential(nn.LSTM(2, 3), nn.Linear(3, 1))
    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", lambda self: made.append(self))
    average = WeightAverage(network, 0.5)
    assert made == [average.network[0]]
