"""PixelCNN: masked convolutions in residual blocks.

Paper: van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016, sections 3.3 to 3.6,
figure 5 and table 1.

    first:  7x7, mask A
    block:  x + 1x1(relu(3x3(relu(1x1(relu(x)))))),  2h -> h -> h -> 2h features, mask B
    head:   relu, 1x1, relu, 1x1 to the logits of the bits, or of the levels

Stacked masks leave a blind spot to the upper right of a pixel, which `gated-pixelcnn` has not (van den Oord et al.
2016b, figure 1).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from generative.autoregressive import AutoregressiveConfig, AutoregressiveModel, AutoregressiveNetwork
from generative.masked import Cache, Head, MaskedConv2d, Pointwise, channel_groups, side_by_side

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(AutoregressiveConfig):
    """Hyperparameters of PixelCNN."""

    features: int = 32
    """h: features inside a residual block; twice as many run between the blocks (ours; 128 on CIFAR-10 in van den Oord
    et al. 2016a, section 5.5)."""
    blocks: int = 7
    """Residual blocks (ours; 15 on CIFAR-10 in the paper)."""
    first_size: int = 7
    """Width of the first convolution's kernel in pixels, odd (table 1 of the paper)."""
    size: int = 3
    """Width of the blocks' kernels in pixels, odd (table 1 of the paper)."""
    head_features: int = 32
    """Features between the two last convolutions (table 1 of the paper: 32 for MNIST, 1,024 for CIFAR-10)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "blocks", "head_features"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("first_size", "size"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} must be odd and at least 3, got {getattr(self, name)}")


PRESETS = {
    "default": PixelCNNConfig(),
    "fast": PixelCNNConfig(features=16, blocks=5),
    # As far as the paper says; it does not tell the size of its network for MNIST: this is the one for CIFAR-10.
    "paper": PixelCNNConfig(
        features=128,
        blocks=15,
        batch_size=16,
        optimizer="rmsprop",
        learning_rate=1e-3,
        warmup_images=0,
        final_learning_rate=1.0,
        max_gradient_norm=float("inf"),
        average_decay=0.0,
    ),
}


class ResidualBlock(nn.Module):
    """x + 1x1(relu(kxk(relu(1x1(relu(x)))))): [B, 2h, H, W] to the same (van den Oord et al. 2016a, figure 5, left).

    `gain` is small where many blocks follow one another, so that their sum begins as large as its terms.
    """

    def __init__(self, outer: Tensor, inner: Tensor, size: int, gain: float) -> None:
        super().__init__()
        self.narrow = MaskedConv2d("B", outer, inner, 1)
        self.look = MaskedConv2d("B", inner, inner, size)
        self.widen = MaskedConv2d("B", inner, outer, 1, gain=gain)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.widen(F.relu(self.look(F.relu(self.narrow(F.relu(hidden))))))


class PixelCNNNetwork(AutoregressiveNetwork):
    """Centred images [B, C, H, W] to logits [B, C, K, H, W]."""

    def __init__(self, config: PixelCNNConfig, channels: int) -> None:
        super().__init__()
        outer, inner = channel_groups(2 * config.features, channels), channel_groups(config.features, channels)
        self.first = MaskedConv2d("A", torch.arange(channels), outer, config.first_size)
        gain = config.blocks**-0.5
        self.blocks = nn.ModuleList(ResidualBlock(outer, inner, config.size, gain) for _ in range(config.blocks))
        self.head = Head(outer, config.head_features, channels, config.outputs)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = side_by_side(self.first(images))
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)

    def canvas(self, count: int, height: int, width: int, condition: Tensor | None = None) -> PixelCNNCanvas:
        return PixelCNNCanvas(self, count, height, width)


class PixelCNNCanvas:
    """Draws with a PixelCNN: for each pixel a block computes its own few numbers, and remembers them."""

    def __init__(self, network: PixelCNNNetwork, count: int, height: int, width: int) -> None:
        self.first = Cache(network.first, count, height, width)
        self.blocks: list[tuple[Pointwise, Cache, Pointwise]] = []
        for block in network.blocks:
            assert isinstance(block, ResidualBlock)
            self.blocks.append(
                (Pointwise(block.narrow), Cache(block.look, count, height, width), Pointwise(block.widen))
            )
        self.head = network.head.pointwise()

    def begin_row(self, row: int) -> None:
        pass

    def logits(self, row: int, column: int) -> Tensor:
        hidden = self.first.at(row, column)  # [B, 2h]
        for narrow, look, widen in self.blocks:
            look.write(row, column, F.relu(narrow(F.relu(hidden))))
            hidden = hidden + widen(F.relu(look.at(row, column)))
        return self.head(hidden)

    def write(self, row: int, column: int, channel: int, values: Tensor) -> None:
        self.first.values[:, row + self.first.top, column + self.first.left, channel] = values


class PixelCNN(AutoregressiveModel):
    """PixelCNN."""

    Config = PixelCNNConfig
    config: PixelCNNConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, Any]:
        return {name: for_images(config, spec, paper=name == "paper") for name, config in PRESETS.items()}

    def _build(self) -> PixelCNNNetwork:
        least = min(self.config.features, self.config.head_features)
        if least < self.spec.channels:
            raise ConfigError(f"images of {self.spec.channels} channels need at least as many features, got {least}")
        return PixelCNNNetwork(self.config, self.spec.channels)


def for_images(config: Any, spec: ImageSpec, *, paper: bool) -> Any:
    """Colour in 16 levels (256 in the papers), with features for each of its channels; grey as bits."""
    if spec.channels == 1:
        return config
    changes = {"levels": 256, "head_features": 1_024} if paper else {"levels": 16, "head_features": 96}
    features = -(-config.features // spec.channels) * spec.channels
    return dataclasses.replace(config, features=features, **changes)
