"""Heads of the DQN line: dueling, noisy layers, embeddings of quantiles, and what backbones are asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import nn

from agents.value_network import NoisyLinear, QNetwork, QuantileEmbedding, dueling_values, make_backbone, scaled_noise
from aprendiz.errors import ConfigError

VECTOR = Box(-1.0, 1.0, (4,), np.float32)
IMAGE = Box(0, 255, (4, 84, 84), np.uint8)


def weights(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")}


# Dueling


def test_dueling_by_hand() -> None:
    value, advantage = torch.tensor([[[10.0]]]), torch.tensor([[[1.0], [2.0], [6.0]]])
    assert dueling_values(value, advantage).flatten().tolist() == [8.0, 9.0, 13.0]


def test_dueling_equals_a_loop_for_each_atom() -> None:
    generator = np.random.default_rng(0)
    value, advantage = generator.normal(size=(5, 1, 7)), generator.normal(size=(5, 3, 7))
    expected = np.empty((5, 3, 7))
    for b in range(5):
        for a in range(3):
            for z in range(7):
                mean = sum(advantage[b, other, z] for other in range(3)) / 3
                expected[b, a, z] = value[b, 0, z] + advantage[b, a, z] - mean
    np.testing.assert_allclose(dueling_values(torch.from_numpy(value), torch.from_numpy(advantage)).numpy(), expected)


def test_what_is_added_to_all_advantages_changes_nothing() -> None:
    value, advantage = torch.randn(2, 1, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(dueling_values(value, advantage), dueling_values(value, advantage + 5.0))


def test_the_dueling_atari_network_has_the_size_of_the_paper() -> None:
    shapes = weights(QNetwork("nature-cnn", IMAGE, 6, dueling=True))
    assert {name: shape for name, shape in shapes.items() if "conv" not in name} == {
        "advantage.hidden.weight": (512, 3136),
        "advantage.out.weight": (6, 512),
        "value.hidden.weight": (512, 3136),
        "value.out.weight": (1, 512),
    }


def test_streams_send_back_a_scaled_gradient() -> None:
    gradients = []
    for scale in (1.0, 0.5):
        torch.manual_seed(0)
        network = QNetwork("mlp", VECTOR, 2, dueling=True, trunk_gradient_scale=scale)
        out = network(torch.ones(3, 4))
        out.sum().backward()
        first = next(network.backbone.parameters()).grad
        assert first is not None and network.value is not None
        head = network.value.hidden.weight.grad
        gradients.append((out.detach(), first, head))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(0.5 * gradients[0][1], gradients[1][1])
    torch.testing.assert_close(gradients[0][2], gradients[1][2])


# Noise


def test_noise_is_scaled_by_hand() -> None:
    assert scaled_noise(torch.tensor([4.0, -9.0, 0.0])).tolist() == [2.0, -3.0, 0.0]


def noisy_by_hand(layer: NoisyLinear, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Equations 9 to 11 of Fortunato et al. (2018), weight by weight."""
    mu_w, sigma_w, mu_b, sigma_b = (
        p.detach().numpy().astype(np.float64) for p in (layer.weight, layer.weight_sigma, layer.bias, layer.bias_sigma)
    )
    e_in, e_out = noise[: layer.features_in], noise[layer.features_in :]
    y = np.zeros(layer.features_out)
    for i in range(layer.features_out):
        y[i] = mu_b[i] + sigma_b[i] * e_out[i]
        for j in range(layer.features_in):
            y[i] += (mu_w[i, j] + sigma_w[i, j] * e_out[i] * e_in[j]) * x[j]
    return y


@pytest.mark.parametrize("own", [False, True], ids=["one noise for all", "noise of its own for each row"])
def test_a_noisy_layer_equals_the_formula(own: bool) -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(6, 4, sigma=0.5)
    generator = np.random.default_rng(0)
    with torch.no_grad():  # sigmas that can be told apart
        for p in (layer.weight_sigma, layer.bias_sigma):
            p.copy_(torch.from_numpy(generator.random(p.shape)))
    x = generator.normal(size=(5, 6)).astype(np.float32)
    noise = generator.normal(size=(5, 10) if own else 10).astype(np.float32)
    expected = [noisy_by_hand(layer, x[b], noise[b] if own else noise) for b in range(5)]
    out = layer(torch.from_numpy(x), torch.from_numpy(noise)).detach().numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_the_same_noise_for_all_and_for_each_row_have_the_same_gradients() -> None:
    torch.manual_seed(0)
    layer, x, noise = NoisyLinear(6, 4, sigma=0.5), torch.randn(5, 6, requires_grad=True), torch.randn(10)
    of_what = [x, *layer.parameters()]
    for_all, for_each = (
        torch.autograd.grad((layer(x, given) ** 2).sum(), of_what) for given in (noise, noise.expand(5, 10))
    )
    torch.testing.assert_close(for_all, for_each)


def test_without_noise_a_noisy_layer_is_its_means() -> None:
    layer, x = NoisyLinear(3, 2, sigma=0.5), torch.randn(4, 3)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_noisy_layers_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(400, 30, sigma=0.5)
    largest = float(layer.weight.detach().abs().max())
    assert 0.04 < largest <= 1 / math.sqrt(400)
    for sigma in (layer.weight_sigma, layer.bias_sigma):
        np.testing.assert_allclose(sigma.detach().numpy(), 0.5 / math.sqrt(400), rtol=1e-6)


def test_the_noise_of_a_network_reaches_all_its_layers() -> None:
    torch.manual_seed(0)
    network = QNetwork("mlp", VECTOR, 3, dueling=True, noisy_sigma=0.5)
    x = torch.randn(2, 4)
    noise = torch.randn(network.noise_size, requires_grad=True)
    network(x, noise).square().sum().backward()
    assert noise.grad is not None
    assert (noise.grad != 0).float().mean() > 0.7  # what a rectifier closes gets none
    assert network.noise_size == (256 + 256 + 256 + 3) + (256 + 256 + 256 + 1)


def test_all_weights_of_a_noisy_network_learn() -> None:
    torch.manual_seed(0)
    network = QNetwork("mlp", VECTOR, 3, outputs=5, dueling=True, noisy_sigma=0.5)
    network(torch.randn(8, 4), torch.randn(network.noise_size)).square().sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in network.parameters())


# Implicit quantiles


def test_the_embedding_of_a_quantile_equals_a_loop() -> None:
    torch.manual_seed(0)
    embedding, taus = QuantileEmbedding(5, 3), np.random.default_rng(0).random((2, 4)).astype(np.float32)
    weight, bias = embedding.dense.weight.detach().numpy(), embedding.dense.bias.detach().numpy()
    expected = np.zeros((2, 4, 3))
    for b in range(2):
        for t in range(4):
            for j in range(3):  # Dabney et al. (2018b), equation 4, i from 0 to n - 1
                total = sum(math.cos(math.pi * i * taus[b, t]) * weight[j, i] for i in range(5))
                expected[b, t, j] = max(total + bias[j], 0.0)
    np.testing.assert_allclose(embedding(torch.from_numpy(taus)).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_each_quantile_is_computed_from_its_own_row_and_fraction() -> None:
    torch.manual_seed(0)
    network = QNetwork("mlp", VECTOR, 3, cosines=8, dueling=True)
    x, taus = torch.randn(4, 4), torch.rand(4, 6)
    together = network(x, None, taus)
    assert together.shape == (4, 3, 6)
    for b in range(4):
        for t in range(6):
            alone = network(x[b : b + 1], None, taus[b : b + 1, t : t + 1])
            torch.testing.assert_close(together[b, :, t], alone[0, :, 0])


def test_noise_of_its_own_belongs_to_all_quantiles_of_a_row() -> None:
    torch.manual_seed(0)
    network = QNetwork("mlp", VECTOR, 3, cosines=8, noisy_sigma=0.5)
    x, taus, noise = torch.randn(3, 4), torch.rand(3, 5), torch.randn(3, network.noise_size)
    together = network(x, noise, taus)
    for b in range(3):
        torch.testing.assert_close(together[b], network(x[b : b + 1], noise[b], taus[b : b + 1])[0])


def test_high_frequencies_are_exact_in_narrow_networks() -> None:
    torch.manual_seed(0)
    embedding, taus = QuantileEmbedding(64, 16), torch.rand(1, 32)
    with torch.no_grad():
        exact = embedding(taus)
        narrow = embedding.to(torch.bfloat16)(taus).float()
    assert float((exact - narrow).abs().max()) < 0.02 * float(exact.abs().max()) + 0.01


# Backbones


class Plain(nn.Module):
    """A third party's: no options, nothing to leave out."""

    def __init__(self, observation_space: Box) -> None:
        super().__init__()
        self.features = 7
        self.dense = nn.Linear(4, 7)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return F.relu(self.dense(observation))


@pytest.mark.parametrize("options", [{}, {"dueling": True}, {"noisy_sigma": 0.5}, {"cosines": 8}])
def test_a_backbone_that_cannot_leave_out_its_last_layer_is_used_whole(options: dict[str, object]) -> None:
    network = QNetwork(f"{__name__}:Plain", VECTOR, 3, **options)  # type: ignore[arg-type]
    taus = torch.rand(2, 4) if "cosines" in options else None
    assert network(torch.randn(2, 4), None, taus).shape[:2] == (2, 3)


def test_streams_above_a_wide_backbone_are_no_wider_than_the_paper_s() -> None:
    network = QNetwork("conv-encoder", IMAGE, 3, dueling=True)
    assert network.advantage.hidden.weight.shape == (512, 64 * 21 * 21)


def test_an_option_that_a_backbone_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="mlp has no spectral_norm and no max_pool"):
        make_backbone("mlp", VECTOR, {"spectral_norm": True, "max_pool": 6}, trunk=False)


@pytest.mark.parametrize("name", ["nature-cnn", "impala-cnn"])
def test_layer_norm_stands_before_the_last_activation(name: str) -> None:
    torch.manual_seed(0)
    backbone = make_backbone(name, IMAGE, {"layer_norm": "last"}, trunk=False)
    out = backbone(torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8))
    trunk = make_backbone(name, IMAGE, {}, trunk=True)
    assert len([layer for layer in backbone.modules() if isinstance(layer, nn.LayerNorm)]) == 1
    assert out.shape == (3, 512) and (out >= 0).all()
    assert (out == 0).float().mean() > 0.2 and float(out.detach().square().mean()) == pytest.approx(0.5, abs=0.15)
    assert trunk.features == 3136 or name == "impala-cnn"


def test_layer_norm_reaches_the_streams() -> None:
    network = QNetwork("mlp", VECTOR, 2, dueling=True, options={"layer_norm": "last"})
    assert network.value is not None
    assert network.value.norm is not None and network.advantage.norm is not None
