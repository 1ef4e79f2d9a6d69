"""The residual network: its sizes, spectral normalisation against singular values, pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from aprendiz.errors import ConfigError
from aprendiz.impala import ImpalaCNN, SpectralConv2d, spectral_layers

ATARI = Box(0, 255, (4, 84, 84), np.uint8)
SMALL = Box(0, 255, (3, 16, 16), np.uint8)


def pictures(space: Box, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *space.shape), dtype=np.uint8))


@pytest.mark.parametrize("width", [1, 2])
def test_the_network_is_that_of_the_paper(width: int) -> None:
    network = ImpalaCNN(ATARI, width=width)
    convolutions = [tuple(layer.weight.shape[:2]) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    a, b = 16 * width, 32 * width
    assert convolutions == [(a, 4), *[(a, a)] * 4, (b, a), *[(b, b)] * 4, (b, b), *[(b, b)] * 4]
    assert isinstance(network.dense, nn.Linear) and network.dense.in_features == b * 11 * 11
    assert network(pictures(ATARI)).shape == (2, 512)


def test_pixels_are_divided_by_255_once() -> None:
    torch.manual_seed(0)
    network, image = ImpalaCNN(SMALL), pictures(SMALL)
    hidden = image.float() / 255
    for stack in network.stacks:
        hidden = stack(hidden)
    assert network.dense is not None
    by_hand = torch.relu(network.dense(torch.relu(hidden).flatten(1)))
    torch.testing.assert_close(network(image), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [84, 96, 210])
def test_pooling_makes_one_size_of_all_images(size: int) -> None:
    network = ImpalaCNN(Box(0, 255, (4, size, size), np.uint8), max_pool=6, trunk=True)
    assert network.features == 32 * 6 * 6
    assert network(pictures(Box(0, 255, (4, size, size), np.uint8), 1)).shape == (1, 32 * 6 * 6)


def test_a_spectral_convolution_has_norm_one() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(8, 12, kernel_size=3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(30.0).add_(0.1 * torch.randn_like(layer.weight))
    for _ in range(100):
        layer.iterate()
    singular = np.linalg.svd(layer.weight.detach().flatten(1).numpy(), compute_uv=False)
    assert float(layer.norm().detach()) == pytest.approx(singular[0], rel=1e-4)
    image = torch.randn(1, 8, 5, 5)
    expected = nn.functional.conv2d(image, layer.weight / singular[0], layer.bias, padding=1)
    torch.testing.assert_close(layer(image), expected, rtol=1e-3, atol=1e-4)


def test_the_gradient_knows_that_the_norm_depends_on_the_weight() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(2, 2, kernel_size=3, padding=1)
    layer(torch.randn(1, 2, 4, 4)).sum().backward()
    assert layer.weight.grad is not None
    # along the weight itself nothing changes what comes out
    assert abs(float((layer.weight.grad * layer.weight).sum().detach())) < 1e-4


def test_looking_changes_nothing_and_only_iterating_does() -> None:
    network = ImpalaCNN(SMALL, spectral_norm=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network(pictures(SMALL))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    with torch.no_grad():
        for layer in spectral_layers(network):
            layer.weight.add_(torch.randn_like(layer.weight))
            layer.iterate()
    assert any(not torch.equal(before[name], t) for name, t in network.state_dict().items() if name.endswith(".u"))


def test_only_residual_convolutions_are_normalised() -> None:
    network = ImpalaCNN(SMALL, spectral_norm=True)
    assert len(spectral_layers(network)) == 12
    assert spectral_layers(ImpalaCNN(SMALL)) == []


def test_a_narrow_pass_keeps_singular_vectors_exact() -> None:
    torch.manual_seed(0)
    layer, twin = (SpectralConv2d(4, 4, kernel_size=3, padding=1) for _ in range(2))
    twin.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        layer.iterate()
        assert layer.norm().dtype == torch.float32
    twin.iterate()
    torch.testing.assert_close(layer.u, twin.u)


@pytest.mark.parametrize(
    ("options", "said"), [({"width": 0}, "width"), ({"max_pool": -1}, "max_pool"), ({"layer_norm": "some"}, "last")]
)
def test_a_wrong_option_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ImpalaCNN(SMALL, **options)  # type: ignore[arg-type]


def test_layer_norm_everywhere_learns() -> None:
    network = ImpalaCNN(SMALL, layer_norm="all")
    assert len([layer for layer in network.modules() if isinstance(layer, nn.LayerNorm)]) == 4
    network(pictures(SMALL)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
