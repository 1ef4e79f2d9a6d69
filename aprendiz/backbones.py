"""Networks that turn an observation (or an image, or a token) into features, shared by all families.

A backbone takes the space it reads, has `features` (the width of what it returns) and scales pixels itself: uint8 in,
divided by 255 exactly once, whoever uses it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from aprendiz.errors import ConfigError


class NatureCNN(nn.Module):
    """The network of Mnih et al. (2015), "Methods, Model architecture": three convolutions and one dense layer.

    Reads uint8 images [B, C, H, W]; returns [B, 512]. Raises ConfigError for other spaces and for images under 36x36.
    """

    features = 512

    def __init__(self, observation_space: Space) -> None:
        super().__init__()
        channels, height, width = _image_shape(observation_space, "nature-cnn", smallest=36)
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=8, stride=4)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=4, stride=2)
        self.conv3 = nn.Conv2d(64, 64, kernel_size=3, stride=1)
        with torch.no_grad():
            flat = self._convolve(torch.zeros(1, channels, height, width, dtype=torch.uint8)).numel()
        self.dense = nn.Linear(flat, self.features)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float [B, 512]"""
        return F.relu(self.dense(self._convolve(observation).flatten(1)))

    def _convolve(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last).to(_compute_dtype(image.device))
        # Dividing the first layer's few weights by 255 is the same as dividing every pixel, and cheaper.
        hidden = F.relu(F.conv2d(image, self.conv1.weight / 255, self.conv1.bias, stride=4))
        hidden = F.relu(self.conv2(hidden))
        return F.relu(self.conv3(hidden))


class MLP(nn.Module):
    """Dense layers with rectifiers, twice 256 units unless told otherwise (RL Baselines3 Zoo, DQN on CartPole).

    Reads vectors [B, D], images (flattened, divided by 255) or, one-hot encoded, the states of a discrete space [B].
    Returns [B, last width].
    """

    def __init__(self, observation_space: Space, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        self.states: int | None = None
        self.scale = 1.0
        if isinstance(observation_space, Discrete):
            width = self.states = int(observation_space.n)
        elif isinstance(observation_space, Box):
            width = math.prod(observation_space.shape)
            self.scale = 255.0 if observation_space.dtype == np.uint8 else 1.0
        else:
            raise ConfigError(f"backbone mlp reads Box and Discrete spaces, not {observation_space}")
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(*layers)
        self.features = width

    def forward(self, observation: Tensor) -> Tensor:
        """[B, ...] -> float [B, features]"""
        if self.states is not None:
            return self.layers(F.one_hot(observation, self.states).float())
        flat = observation.flatten(1).float()
        return self.layers(flat / self.scale if self.scale != 1.0 else flat)


def _image_shape(space: Space, backbone: str, smallest: int) -> tuple[int, int, int]:
    if not (isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8):
        raise ConfigError(f"backbone {backbone} reads uint8 images [C, H, W], not {space}; use --backbone mlp")
    channels, height, width = space.shape
    if min(height, width) < smallest:
        raise ConfigError(f"backbone {backbone} needs images of at least {smallest}x{smallest}, not {height}x{width}")
    return channels, height, width


def _compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 inside a bfloat16 autocast (pixels, 0 to 255, are exact in it), else float32."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32
