"""Backbones for images of any size, and for codes; the network of an agent is the encoder of an autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import nn

from aprendiz import BACKBONES
from aprendiz.backbones import ACTIVATIONS, MLP, ChannelNorm, ConvDecoder, ConvEncoder, NatureCNN, NipsCNN
from aprendiz.errors import ConfigError


def space(channels: int, height: int, width: int, dtype: Any = np.float32) -> Box:
    return Box(0, 255 if dtype == np.uint8 else 1, (channels, height, width), dtype)


SIZES = [(1, 4, 4), (1, 5, 7), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 33, 64)]


@pytest.mark.parametrize("shape", SIZES)
def test_a_conv_encoder_says_how_many_features_it_returns(shape: tuple[int, int, int]) -> None:
    encoder = ConvEncoder(space(*shape), channels=(4, 6))
    assert encoder(torch.rand(2, *shape)).shape == (2, encoder.features)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 8)])
def test_a_conv_decoder_draws_images_of_the_size_asked_for(shape: tuple[int, int, int], channels: Any) -> None:
    decoder = ConvDecoder(Box(-np.inf, np.inf, (5,), np.float32), image_shape=shape, channels=channels)
    assert decoder(torch.randn(2, 5)).shape == (2, *shape)
    assert decoder.features == np.prod(shape)


def test_a_conv_decoder_mirrors_the_encoder() -> None:
    encoder = ConvEncoder(space(3, 33, 64), channels=(4, 6))
    decoder = ConvDecoder(Box(-1, 1, (5,), np.float32), image_shape=(3, 33, 64), channels=(4, 6))
    down = [layer.weight.shape for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    up = [layer.weight.shape for layer in decoder.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert up == down[::-1]
    assert decoder.dense.out_features == encoder.features


@pytest.mark.parametrize("network", [MLP, ConvEncoder])
def test_bytes_are_divided_by_255_once_and_floats_never(network: Any) -> None:
    torch.manual_seed(0)
    floats = network(space(1, 8, 8))
    pixels = network(space(1, 8, 8, np.uint8))
    pixels.load_state_dict(floats.state_dict())
    image = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(pixels(image), floats(image / 255), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation_follows_every_layer(name: str) -> None:
    mlp = MLP(space(1, 2, 2), hidden=(3, 5), activation=name)
    by_hand = ACTIVATIONS[name]()
    image = torch.rand(6, 1, 2, 2)
    first = by_hand(mlp.layers[0](image.flatten(1)))
    torch.testing.assert_close(mlp(image), by_hand(mlp.layers[2](first)))
    assert torch.isfinite(ConvEncoder(space(1, 8, 8), activation=name)(torch.rand(2, 1, 8, 8))).all()


def test_a_residual_layer_adds_to_the_one_before_where_the_widths_allow_it() -> None:
    mlp = MLP(space(1, 2, 2), hidden=(4, 4, 3), activation="tanh", residual=True)
    image = torch.rand(6, 1, 2, 2)
    first, second, third = (mlp.layers[number] for number in (0, 2, 4))
    hidden = torch.tanh(first(image.flatten(1)))
    hidden = hidden + torch.tanh(second(hidden))
    torch.testing.assert_close(mlp(image), torch.tanh(third(hidden)))


def test_the_smaller_network_of_2013_by_hand() -> None:
    torch.manual_seed(0)
    network = NipsCNN(space(4, 84, 84, np.uint8))
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert shapes == {
        "conv1.weight": (16, 4, 8, 8),
        "conv1.bias": (16,),
        "conv2.weight": (32, 16, 4, 4),
        "conv2.bias": (32,),
        "dense.weight": (256, 9 * 9 * 32),
        "dense.bias": (256,),
    }
    image = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8)
    hidden = F.relu(F.conv2d(image / 255, network.conv1.weight, network.conv1.bias, stride=4))
    hidden = F.relu(F.conv2d(hidden, network.conv2.weight, network.conv2.bias, stride=2))
    torch.testing.assert_close(network(image), F.relu(network.dense(hidden.flatten(1))), rtol=1e-4, atol=1e-5)
    assert network.features == 256 and NipsCNN(space(4, 84, 84, np.uint8), trunk=True).features == 2592


def test_the_smaller_network_normalises_as_the_larger_one_and_says_what_it_cannot_read() -> None:
    assert len(NipsCNN(space(4, 20, 20, np.uint8), layer_norm="all").norms) == 2
    with pytest.raises(ConfigError, match="nips-cnn needs images of at least 20x20, not 19x40; use --backbone mlp"):
        NipsCNN(space(4, 19, 40, np.uint8))


def test_rectifiers_are_what_an_agent_gets_when_nothing_is_said() -> None:
    assert [type(layer) for layer in MLP(space(1, 2, 2)).layers][1::2] == [nn.ReLU, nn.ReLU]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(space(1, 8, 8), activation="swishy"), "unknown activation 'swishy'.*sigmoid"),
        (lambda: MLP(space(1, 8, 8), hidden=(4, 0)), "at least 1 unit"),
        (lambda: ConvEncoder(space(1, 3, 8)), "at least 4x4"),
        (lambda: ConvEncoder(Box(-1, 1, (4,))), "--backbone mlp"),
        (lambda: ConvEncoder(space(1, 8, 8), channels=()), "channels"),
        (lambda: ConvDecoder(Box(-1, 1, (4,))), "only be a decoder"),
        (lambda: ConvDecoder(space(1, 8, 8), image_shape=(1, 8, 8)), "vectors"),
    ],
)
def test_what_cannot_be_built_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(("name", "cls"), [("conv-encoder", ConvEncoder), ("conv-decoder", ConvDecoder), ("mlp", MLP)])
def test_names_stand_for_the_classes(name: str, cls: type) -> None:
    assert BACKBONES.get(name) is cls


def test_each_place_of_an_image_is_normalised_by_itself() -> None:
    image = 3.0 + 2.0 * torch.randn(2, 6, 3, 4)
    found = ChannelNorm(6)(image)
    for sample in range(2):
        for row in range(3):
            for column in range(4):
                numbers = image[sample, :, row, column]
                by_hand = (numbers - numbers.mean()) / (numbers.var(unbiased=False) + 1e-5).sqrt()
                torch.testing.assert_close(found[sample, :, row, column], by_hand)


def test_normalising_keeps_channels_last() -> None:
    image = torch.randn(2, 6, 3, 4).contiguous(memory_format=torch.channels_last)
    assert ChannelNorm(6)(image).is_contiguous(memory_format=torch.channels_last)


def test_with_all_layers_normalised_a_bright_corner_changes_nothing_elsewhere() -> None:
    torch.manual_seed(0)
    network = NatureCNN(space(4, 84, 84, np.uint8), layer_norm="all", trunk=True)
    dark = torch.randint(0, 50, (1, 4, 84, 84), dtype=torch.uint8)
    bright = dark.clone()
    bright[..., :8, :8] = 255
    seen = [network(image).unflatten(1, (64, 7, 7)) for image in (dark, bright)]
    torch.testing.assert_close(seen[0][..., 1:, 1:], seen[1][..., 1:, 1:])
    assert not torch.equal(seen[0][..., 0, 0], seen[1][..., 0, 0])
