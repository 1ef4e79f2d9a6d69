"""The residual network of IMPALA, for any family, with what later papers added to it.

Espeholt et al. (2018), "IMPALA", figure 3, right; twice the width ("x2"), spectral normalisation of the residual
convolutions (Miyato et al. 2018; Bjorck, Gomes and Weinberger 2021) and adaptive max-pooling before the dense layer
after Clark et al. (2024), "Beyond the Rainbow", section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gymnasium import Space
from torch import Tensor, nn

from aprendiz.backbones import ChannelNorm, _compute_dtype, _image_shape, check_layer_norm
from aprendiz.errors import ConfigError

CHANNELS = (16, 32, 32)
"""Of the three stacks, at width 1."""


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix [out, in * kernel], is divided by its largest singular value.

    Miyato et al. (2018), algorithm 1. The singular vectors are kept and improved by one step of power iteration each
    time `iterate` is called, once an update: acting and evaluating change nothing.
    """

    u: Tensor
    v: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, padding: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size, padding=padding)
        with torch.no_grad():
            matrix = self.weight.flatten(1)
            self.register_buffer("u", F.normalize(torch.randn(matrix.shape[0]), dim=0))
            self.register_buffer("v", F.normalize(matrix.T @ self.u, dim=0))
        for _ in range(15):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of power iteration, in place."""
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            self.v.copy_(F.normalize(matrix.T @ self.u, dim=0))
            self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def norm(self) -> Tensor:
        """The largest singular value, as far as it is known: u' W v, through which gradients flow to W."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return torch.dot(self.u, self.weight.flatten(1) @ self.v)

    def forward(self, image: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W]"""
        return F.conv2d(image, self.weight / self.norm(), self.bias, padding=self.padding)


def spectral_layers(module: nn.Module) -> list[SpectralConv2d]:
    """Those of a network whose `iterate` wants to be called once an update."""
    return [layer for layer in module.modules() if isinstance(layer, SpectralConv2d)]


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3."""

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()

        def convolution() -> nn.Module:
            if spectral_norm:
                return SpectralConv2d(channels, channels, kernel_size=3, padding=1)
            return nn.Conv2d(channels, channels, kernel_size=3, padding=1)

        self.conv1, self.conv2 = convolution(), convolution()

    def forward(self, image: Tensor) -> Tensor:
        return image + self.conv2(F.relu(self.conv1(F.relu(image))))


class Stack(nn.Module):
    """A convolution, max-pooling that halves height and width, and two residual blocks."""

    def __init__(self, shape_in: tuple[int, int, int], channels: int, spectral_norm: bool, layer_norm: bool) -> None:
        super().__init__()
        depth, height, width = shape_in
        self.conv = nn.Conv2d(depth, channels, kernel_size=3, padding=1)
        self.norm = ChannelNorm(channels) if layer_norm else None
        self.residuals = nn.Sequential(*(ResidualBlock(channels, spectral_norm) for _ in range(2)))
        self.shape_out = (channels, (height + 1) // 2, (width + 1) // 2)

    def forward(self, image: Tensor, scale: float = 1.0) -> Tensor:
        weight = self.conv.weight if scale == 1.0 else self.conv.weight / scale
        hidden = F.conv2d(image, weight, self.conv.bias, padding=1)
        if self.norm is not None:
            hidden = self.norm(hidden)
        return self.residuals(F.max_pool2d(hidden, kernel_size=3, stride=2, padding=1))


class ImpalaCNN(nn.Module):
    """Three stacks of a convolution and two residual blocks, and a dense layer.

    Reads uint8 images [B, C, H, W]; returns [B, 512] (IMPALA itself: 256). `width` multiplies the channels (16, 32,
    32); `spectral_norm` divides the residual convolutions by their largest singular values; `max_pool` P > 0 pools
    the last stack's output to P x P; `layer_norm`, one of LAYER_NORMS, normalises after the stacks' first convolutions
    ("all") and before the last rectifier ("last" and "all"). With `trunk` the dense layer is left out, for heads that
    bring their own of `last_width` units. Raises ConfigError for other spaces, images under 8x8, a width under 1.
    """

    last_width = 512

    def __init__(
        self,
        observation_space: Space,
        *,
        width: int = 1,
        spectral_norm: bool = False,
        max_pool: int = 0,
        layer_norm: str = "none",
        trunk: bool = False,
    ) -> None:
        super().__init__()
        check_layer_norm(layer_norm)
        if width < 1:
            raise ConfigError(f"the width of impala-cnn must be at least 1, got {width}")
        if max_pool < 0:
            raise ConfigError(f"max_pool must be 0 (none) or the side of what is left, got {max_pool}")
        shape = _image_shape(observation_space, "impala-cnn", smallest=8)
        stacks = []
        for channels in CHANNELS:
            stacks.append(Stack(shape, width * channels, spectral_norm, layer_norm == "all"))
            shape = stacks[-1].shape_out
        self.stacks = nn.ModuleList(stacks)
        self.max_pool = max_pool
        channels, height, columns = shape
        flat = channels * (max_pool**2 if max_pool else height * columns)
        self.features = flat if trunk else self.last_width
        self.dense: nn.Module | None = None if trunk else nn.Linear(flat, self.features)
        self.norm: nn.Module | None = None
        if layer_norm != "none" and not trunk:
            self.norm = nn.LayerNorm(self.features)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float [B, features]"""
        image = observation.contiguous(memory_format=torch.channels_last).to(_compute_dtype(observation.device))
        hidden = self.stacks[0](image, scale=255.0)  # the weights, not each pixel
        for stack in list(self.stacks)[1:]:
            hidden = stack(hidden)
        hidden = F.relu(hidden)
        if self.max_pool:
            hidden = F.adaptive_max_pool2d(hidden, self.max_pool)
        hidden = hidden.flatten(1)
        if self.dense is None:
            return hidden
        hidden = self.dense(hidden)
        return F.relu(hidden if self.norm is None else self.norm(hidden))
