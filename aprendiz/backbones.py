"""Networks that turn an observation (or an image, or a token) into features, shared by all families.

A backbone takes the space it reads, has `features` (the width of what it returns) and scales pixels itself: uint8 in,
divided by 255 exactly once, whoever uses it; floats are read as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from aprendiz.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}
"""What follows a layer, by name. The slope of leaky rectifiers is that of Radford, Metz and Chintala (2016)."""


def activation_module(name: str) -> nn.Module:
    """The nonlinearity of that name. Raises ConfigError naming those that there are."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"unknown activation {name!r}: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


LAYER_NORMS = ("none", "last", "all")
"""Where a backbone normalises (Ba, Kiros and Hinton 2016): nowhere, before its last activation, before each."""


def check_layer_norm(name: str) -> str:
    """`name`, if it is one of LAYER_NORMS; else raises ConfigError."""
    if name not in LAYER_NORMS:
        raise ConfigError(f"unknown layer_norm {name!r}: use one of {', '.join(LAYER_NORMS)}")
    return name


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place of an image by itself: [B, C, H, W] to the same.

    What Flax's LayerNorm does where channels come last, and so the network of Gallici et al. (2024). (Ba, Kiros and
    Hinton 2016 normalise over all units of a layer, which of a convolution are channels, height and width.)
    """

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NatureCNN(nn.Module):
    """The network of Mnih et al. (2015), "Methods, Model architecture": three convolutions and one dense layer.

    Reads uint8 images [B, C, H, W]; returns [B, 512]. `layer_norm`, one of LAYER_NORMS, normalises a layer's output
    (over the channels of each place of a convolution's, as Gallici et al. 2024) before its rectifier. With `trunk` the
    dense layer is left out, for heads that bring their own of `last_width` units: it then returns the convolutions'
    output, [B, features]. Raises ConfigError for other spaces and for images under 36x36.
    """

    name = "nature-cnn"
    convolutions: ClassVar[tuple[tuple[int, int, int], ...]] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    """Channels, size and stride of each."""
    last_width = 512
    smallest = 36
    """Height and width that its convolutions need."""

    def __init__(self, observation_space: Space, *, layer_norm: str = "none", trunk: bool = False) -> None:
        super().__init__()
        self.layer_norm = check_layer_norm(layer_norm)
        shape = _image_shape(observation_space, self.name, self.smallest)
        channels = shape[0]
        for number, (wide, size, stride) in enumerate(self.convolutions, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, wide, kernel_size=size, stride=stride))
            channels = wide
        self.norms = nn.ModuleList()
        if layer_norm == "all":
            self.norms.extend(ChannelNorm(wide) for wide, _, _ in self.convolutions)
        with torch.no_grad():
            flat = self._convolve(torch.zeros(1, *shape, dtype=torch.uint8)).numel()
        self.features = flat if trunk else self.last_width
        self.dense: nn.Module | None = None if trunk else nn.Linear(flat, self.features)
        self.norm: nn.Module | None = None
        if layer_norm != "none" and not trunk:
            self.norm = nn.LayerNorm(self.features)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float [B, features]"""
        hidden = self._convolve(observation).flatten(1)
        if self.dense is None:
            return hidden
        hidden = self.dense(hidden)
        return F.relu(hidden if self.norm is None else self.norm(hidden))

    def _convolve(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last).to(_compute_dtype(image.device))
        layers: list[Any] = [self.get_submodule(f"conv{number}") for number in range(1, len(self.convolutions) + 1)]
        # Dividing the first layer's few weights by 255 is the same as dividing every pixel, and cheaper.
        hidden = F.conv2d(image, layers[0].weight / 255, layers[0].bias, stride=layers[0].stride)
        hidden = F.relu(self._normed(0, hidden))
        for number, layer in enumerate(layers[1:], 1):
            hidden = F.relu(self._normed(number, layer(hidden)))
        return hidden

    def _normed(self, layer: int, hidden: Tensor) -> Tensor:
        return self.norms[layer](hidden) if self.norms else hidden


class NipsCNN(NatureCNN):
    """The smaller network of Mnih et al. (2013), "Playing Atari with Deep Reinforcement Learning", section 4.1, and of
    A3C (Mnih et al. 2016): two convolutions and one dense layer, a third of the arithmetic of `nature-cnn`.

    As `NatureCNN`, but returns [B, 256] and reads images of 20x20 or more.
    """

    name = "nips-cnn"
    convolutions = ((16, 8, 4), (32, 4, 2))
    last_width = 256
    smallest = 20


class MLP(nn.Module):
    """Dense layers with rectifiers, twice 256 units unless told otherwise (RL Baselines3 Zoo, DQN on CartPole).

    Reads vectors [B, D], images (flattened; uint8 divided by 255) or, one-hot encoded, the states of a discrete space
    [B]. Returns [B, last width]. `activation`, one of ACTIVATIONS, follows every layer; with `residual` a layer as wide
    as the one before adds to it what it computes, h + f(W h + b) (He et al. 2016). `layer_norm`, one of LAYER_NORMS,
    normalises what a layer computes before its activation. With `trunk` the last layer is left out, for heads that
    bring their own of `last_width` units. Raises ConfigError for other spaces, other activations and widths under 1.
    """

    def __init__(
        self,
        observation_space: Space,
        hidden: tuple[int, ...] = (256, 256),
        activation: str = "relu",
        residual: bool = False,
        *,
        layer_norm: str = "none",
        trunk: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        check_layer_norm(layer_norm)
        self.states: int | None = None
        self.scale = 1.0
        if isinstance(observation_space, Discrete):
            width = self.states = int(observation_space.n)
        elif isinstance(observation_space, Box):
            width = math.prod(observation_space.shape)
            self.scale = 255.0 if observation_space.dtype == np.uint8 else 1.0
        else:
            raise ConfigError(f"backbone mlp reads Box and Discrete spaces, not {observation_space}")
        if any(size < 1 for size in hidden):
            raise ConfigError(f"hidden layers need at least 1 unit each, got {', '.join(map(str, hidden))}")
        self.last_width = hidden[-1] if hidden else width
        kept = hidden[:-1] if trunk else hidden
        layers: list[nn.Module] = []
        for number, size in enumerate(kept):
            normed = layer_norm == "all" or (layer_norm == "last" and number == len(hidden) - 1)
            norm = [nn.LayerNorm(size)] if normed else []
            layers += [nn.Linear(width, size), *norm, activation_module(activation)]
            width = size
        self.layers = nn.Sequential(*layers)
        self.features = width

    def forward(self, observation: Tensor) -> Tensor:
        """[B, ...] -> float [B, features]"""
        if self.states is not None:
            return self._through(F.one_hot(observation, self.states).float())
        flat = observation.flatten(1).float()
        return self._through(flat / self.scale if self.scale != 1.0 else flat)

    def _through(self, hidden: Tensor) -> Tensor:
        if not self.residual:
            return self.layers(hidden)
        starts = [number for number, layer in enumerate(self.layers) if isinstance(layer, nn.Linear)]
        for number, end in zip(starts, [*starts[1:], len(self.layers)], strict=True):
            new = self.layers[number:end](hidden)
            hidden = hidden + new if number > 0 and new.shape == hidden.shape else new
        return hidden


class ConvEncoder(nn.Module):
    """3x3 convolutions, each halving height and width (rounded up), flattened: images of any size from 4x4 up.

    Strided convolutions in place of pooling after Springenberg et al. (2015, section 2) and Radford, Metz and Chintala
    (2016, section 3). Reads uint8 images [B, C, H, W] (divided by 255) or float images as they are; returns
    [B, channels[-1] * h * w]. Raises ConfigError for other spaces, activations, and images under 4x4.
    """

    def __init__(
        self, observation_space: Space, channels: tuple[int, ...] = (32, 64), activation: str = "relu"
    ) -> None:
        super().__init__()
        depth, height, width = _image_shape(observation_space, "conv-encoder", smallest=4, floats=True)
        _check_channels(channels)
        self.scale = 255.0 if observation_space.dtype == np.uint8 else 1.0
        layers: list[nn.Module] = []
        for size in channels:
            layers += [nn.Conv2d(depth, size, kernel_size=3, stride=2, padding=1), activation_module(activation)]
            depth, height, width = size, _halved(height), _halved(width)
        self.layers = nn.Sequential(*layers)
        self.features = depth * height * width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observation: Tensor) -> Tensor:
        """[B, C, H, W] -> float [B, features]"""
        image = observation.contiguous(memory_format=torch.channels_last).to(_compute_dtype(observation.device))
        return self.layers(image / self.scale if self.scale != 1.0 else image).flatten(1)


class ConvDecoder(nn.Module):
    """The way back from a ConvEncoder: a dense layer, then transposed convolutions that double height and width.

    Reads vectors [B, D]; returns what stands before the output's nonlinearity, [B, C, H, W] in the shape asked for,
    whatever its size (each layer undoes one rounded halving exactly). `channels` are the encoder's, in its order.
    Raises ConfigError for spaces other than vectors, and where no `image_shape` is given: it draws, and cannot be told
    what by the space that it reads.
    """

    def __init__(
        self,
        observation_space: Space,
        image_shape: tuple[int, int, int] | None = None,
        channels: tuple[int, ...] = (32, 64),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if image_shape is None:
            raise ConfigError("backbone conv-decoder draws images from codes: it can only be a decoder")
        if not (isinstance(observation_space, Box) and len(observation_space.shape) == 1):
            raise ConfigError(f"backbone conv-decoder reads vectors, not {observation_space}")
        _check_channels(channels)
        self.image_shape = image_shape
        sizes = [image_shape[1:]]
        for _ in channels:
            sizes.append((_halved(sizes[-1][0]), _halved(sizes[-1][1])))
        self.smallest = (channels[-1], *sizes[-1])
        self.dense = nn.Linear(observation_space.shape[0], math.prod(self.smallest))
        layers: list[nn.Module] = [activation_module(activation)]
        depths = [image_shape[0], *channels]
        for i in reversed(range(len(channels))):
            (height, width), (low, narrow) = sizes[i], sizes[i + 1]
            padding = (height - (2 * low - 1), width - (2 * narrow - 1))
            layers.append(nn.ConvTranspose2d(depths[i + 1], depths[i], 3, stride=2, padding=1, output_padding=padding))
            if i > 0:
                layers.append(activation_module(activation))
        self.layers = nn.Sequential(*layers)
        self.features = math.prod(image_shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, codes: Tensor) -> Tensor:
        """[B, D] -> float [B, C, H, W]"""
        small = self.dense(codes).unflatten(1, self.smallest)  # [B, channels[-1], h, w]
        return self.layers(small.contiguous(memory_format=torch.channels_last))


def _halved(size: int) -> int:
    return (size + 1) // 2


def _check_channels(channels: tuple[int, ...]) -> None:
    if not channels or min(channels) < 1:
        raise ConfigError(f"channels must be at least one number, each at least 1, got {channels}")


def _image_shape(space: Space, backbone: str, smallest: int, floats: bool = False) -> tuple[int, int, int]:
    kinds = (np.uint8, np.float32) if floats else (np.uint8,)
    if not (isinstance(space, Box) and len(space.shape) == 3 and space.dtype in kinds):
        wanted = "uint8 or float32" if floats else "uint8"
        found = f"{space.dtype} {list(space.shape)}" if isinstance(space, Box) else str(space)
        raise ConfigError(f"backbone {backbone} reads {wanted} images [C, H, W], not {found}; use --backbone mlp")
    channels, height, width = space.shape
    if min(height, width) < smallest:
        raise ConfigError(
            f"backbone {backbone} needs images of at least {smallest}x{smallest}, not {height}x{width}; "
            "use --backbone mlp"
        )
    return channels, height, width


def _compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 inside a bfloat16 autocast (pixels, 0 to 255, are exact in it), else float32."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32
