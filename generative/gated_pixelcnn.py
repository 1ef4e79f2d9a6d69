"""Gated PixelCNN: two stacks without a blind spot, gates instead of rectifiers, labels if wanted.

Paper: van den Oord et al., "Conditional image generation with PixelCNN decoders", NIPS 2016, sections 2.1 to 2.3 and
figure 2.

    gate(x)     tanh(x[:p]) * sigmoid(x[p:])                                                     equations 2 and 4
    vertical    sees all rows above:  t = kxk(v) + V y,  v <- gate(t)
    horizontal  sees its own row to the left, and t:  h <- h + 1x1(gate(1xk(h) + 1x1(t) + V' y))

With `middle_features` the vertical stack, which is free to look left and right, is an hourglass instead: most of its
layers work at half the width and height (after PixelCNN++, Salimans et al. 2017, sections 2.3 and 2.4), which takes a
fraction of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.errors import ConfigError
from generative.autoregressive import AutoregressiveConfig, AutoregressiveModel, AutoregressiveNetwork
from generative.masked import (
    Cache,
    Head,
    MaskedConv2d,
    Pointwise,
    RowsAbove,
    channel_groups,
    gated,
    moved_down,
    side_by_side,
)
from generative.pixelcnn import for_images

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


@dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig(AutoregressiveConfig):
    """Hyperparameters of the gated PixelCNN."""

    features: int = 32
    """p: features of both stacks (ours; 384 on ImageNet in the paper, section 3.1)."""
    layers: int = 5
    """Gated layers of the horizontal stack, and of the vertical one where it is no hourglass (ours; 20 on ImageNet in
    the paper, section 3.1)."""
    first_size: int = 7
    """Width of the first kernels in pixels, odd (as in van den Oord et al. 2016a, table 1)."""
    size: int = 3
    """Width of the other kernels in pixels, odd (figure 2 of the paper: n; 5 on ImageNet)."""
    middle_features: int = 64
    """Features of the vertical stack at half the width and height; 0: no hourglass, as in the paper (ours)."""
    middle_blocks: int = 4
    """Residual blocks at half the width and height (ours)."""
    residual_vertical: bool = True
    """Whether the layers of a vertical stack that is no hourglass are added to what they read; not so in the paper."""
    head_features: int = 32
    """Features between the two last convolutions (32 for MNIST in van den Oord et al. 2016a, table 1)."""
    conditional: bool = False
    """Whether it is told the labels: p(x | y) (section 2.3 of the paper)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "layers", "head_features"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("middle_features", "middle_blocks"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("first_size", "size"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} must be odd and at least 3, got {getattr(self, name)}")


PRESETS = {
    "default": GatedPixelCNNConfig(),
    "fast": GatedPixelCNNConfig(features=16, layers=3, middle_features=48, middle_blocks=2),
    # Figure 2 as drawn, with the sizes of section 3.1 (ImageNet at 32x32); the paper names no optimiser: that of 2016a.
    "paper": GatedPixelCNNConfig(
        features=384,
        layers=20,
        size=5,
        middle_features=0,
        residual_vertical=False,
        batch_size=128,
        optimizer="rmsprop",
        learning_rate=1e-3,
        warmup_images=0,
        final_learning_rate=1.0,
        max_gradient_norm=float("inf"),
        average_decay=0.0,
    ),
}


class Told(nn.Module):
    """V y: adds what the label says to every pixel's features (equation 4); without labels it does nothing."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, features)) if classes else None

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        """Features [B, F, H, W] and one-hot labels [B, classes] to features."""
        if self.weight is None:
            return hidden
        assert condition is not None
        return hidden + (condition @ self.weight)[:, :, None, None]


class VerticalStack(nn.Module):
    """Images moved down by one row, [B, C, H, W], to what each horizontal layer is told, L times [B, 2p, H, W]."""

    def __init__(self, config: GatedPixelCNNConfig, channels: int, classes: int) -> None:
        super().__init__()
        width, layers = config.features, config.layers
        self.width = 2 * width
        """Features that it tells."""
        self.residual = config.residual_vertical
        self.first = RowsAbove(channels, width, config.first_size)
        self.looks = nn.ModuleList(RowsAbove(width, 2 * width, config.size) for _ in range(layers))
        self.told = nn.ModuleList(Told(classes, 2 * width) for _ in range(layers))
        mixed = layers - 1 if config.residual_vertical else 0
        self.mixes = nn.ModuleList(RowsAbove(width, width, 1, gain=layers**-0.5) for _ in range(mixed))
        self.reach = config.first_size // 2 + layers * (config.size // 2)
        """Rows above its own that a row depends on."""

    def forward(self, images: Tensor, condition: Tensor | None) -> list[Tensor]:
        hidden, out = side_by_side(self.first(images)), []
        for layer, (look, told) in enumerate(zip(self.looks, self.told, strict=True)):
            out.append(told(look(hidden), condition))
            if layer + 1 < len(self.looks):
                new = gated(out[-1])
                hidden = hidden + self.mixes[layer](new) if self.residual else new
        return out


class RowBlock(nn.Module):
    """x + 1x1(relu(kxk(relu(x)) + V y)) over rows above: a residual block of the hourglass."""

    def __init__(self, features: int, size: int, classes: int, gain: float) -> None:
        super().__init__()
        self.look = RowsAbove(features, features, size)
        self.told = Told(classes, features)
        self.mix = RowsAbove(features, features, 1, gain=gain)

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        return hidden + self.mix(F.relu(self.told(self.look(F.relu(hidden)), condition)))


class Hourglass(nn.Module):
    """A vertical stack with a middle of half the width and height: the same in and out, but p features for all layers.

    The middle's row r stands for rows 2r and 2r + 1, and sees rows up to 2r of its input.
    """

    def __init__(self, config: GatedPixelCNNConfig, channels: int, classes: int) -> None:
        super().__init__()
        width, middle, blocks, size = config.features, config.middle_features, config.middle_blocks, config.size
        self.width, self.layers = width, config.layers
        self.first = RowsAbove(channels, width, config.first_size)
        self.before = RowBlock(width, size, classes, 0.5)
        self.down = nn.Conv2d(width, middle, (2, 4), stride=2)
        self.middle = nn.ModuleList(RowBlock(middle, size, classes, max(1, blocks) ** -0.5) for _ in range(blocks))
        self.up = nn.Conv2d(middle, 4 * width, 1)
        self.after = RowBlock(width, size, classes, 0.5)
        self.reach = config.first_size // 2 + 2 * (size // 2) + 2 + 2 * blocks * (size // 2)

    def forward(self, images: Tensor, condition: Tensor | None) -> list[Tensor]:
        fine = self.before(side_by_side(self.first(images)), condition)
        height, width = fine.shape[2:]
        coarse = self.down(F.pad(fine, (1, 1 + width % 2, 1, height % 2)))
        for block in self.middle:
            coarse = block(coarse, condition)
        fine = fine + F.pixel_shuffle(self.up(coarse), 2)[:, :, :height, :width]
        return [F.relu(self.after(fine, condition))] * self.layers


class HorizontalLayer(nn.Module):
    """h + 1x1(gate(1xk(h) + 1x1(t) + V y)); mask B."""

    def __init__(self, config: GatedPixelCNNConfig, groups: Tensor, told_width: int, classes: int) -> None:
        super().__init__()
        twice = torch.cat([groups, groups])
        self.look = MaskedConv2d("B", groups, twice, config.size, rows=False, gain=0.7)
        self.link = RowsAbove(told_width, len(twice), 1, gain=0.7)
        self.told = Told(classes, len(twice))
        self.mix = MaskedConv2d("B", groups, groups, 1, gain=config.layers**-0.5)

    def forward(self, hidden: Tensor, above: Tensor, condition: Tensor | None) -> Tensor:
        return hidden + self.mix(gated(self.look(hidden) + self.linked(above, condition)))

    def linked(self, above: Tensor, condition: Tensor | None) -> Tensor:
        """What it adds of the rows above and of the label, [B, 2p, H, W]."""
        return self.told(self.link(above), condition)


class GatedPixelCNNNetwork(AutoregressiveNetwork):
    """Centred images [B, C, H, W] and one-hot labels [B, classes] or None to logits [B, C, K, H, W]."""

    def __init__(self, config: GatedPixelCNNConfig, channels: int, classes: int) -> None:
        super().__init__()
        groups = channel_groups(config.features, channels)
        stack = Hourglass if config.middle_features else VerticalStack
        self.vertical = stack(config, channels, classes)
        self.first = MaskedConv2d("A", torch.arange(channels), groups, config.first_size, rows=False)
        self.layers = nn.ModuleList(
            HorizontalLayer(config, groups, self.vertical.width, classes) for _ in range(config.layers)
        )
        self.head = Head(groups, config.head_features, channels, config.outputs)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = side_by_side(self.first(images))
        for layer, above in zip(self.layers, self.vertical(moved_down(images), condition), strict=True):
            hidden = layer(hidden, above, condition)
        return self.head(hidden)

    def canvas(self, count: int, height: int, width: int, condition: Tensor | None = None) -> GatedPixelCNNCanvas:
        return GatedPixelCNNCanvas(self, count, height, width, condition)


class GatedPixelCNNCanvas:
    """Draws with a gated PixelCNN: the vertical stack once a row, from the rows that it depends on; of the horizontal
    stack, for each pixel, its own few numbers."""

    def __init__(
        self, network: GatedPixelCNNNetwork, count: int, height: int, width: int, condition: Tensor | None
    ) -> None:
        self.network, self.condition = network, condition
        channels = network.first.weight.shape[1]
        self.moved = torch.zeros(count, channels, height + 1, width, device=network.first.weight.device)
        """The images, moved down by one row."""
        self.first = Cache(network.first, count, 1, width)  # one row: what it holds of the row before is not read
        self.layers: list[tuple[Cache, Pointwise]] = []
        for layer in network.layers:
            assert isinstance(layer, HorizontalLayer)
            self.layers.append((Cache(layer.look, count, 1, width), Pointwise(layer.mix)))
        self.head = network.head.pointwise()
        self.above: list[Tensor] = []

    def begin_row(self, row: int) -> None:
        top = max(0, row - self.network.vertical.reach) // 2 * 2  # halves of the hourglass begin at even rows
        told = self.network.vertical(self.moved[:, :, top : row + 1], self.condition)
        self.above = []
        for layer, above in zip(self.network.layers, told, strict=True):
            assert isinstance(layer, HorizontalLayer)
            linked = layer.linked(above[:, :, -1:], self.condition)  # [B, 2p, 1, W]
            self.above.append(linked[:, :, 0].permute(2, 0, 1).contiguous())  # [W, B, 2p]

    def logits(self, row: int, column: int) -> Tensor:
        hidden = self.first.at(0, column)  # [B, p]
        for (look, mix), above in zip(self.layers, self.above, strict=True):
            look.write(0, column, hidden)
            hidden = hidden + mix(gated(look.at(0, column) + above[column]))
        return self.head(hidden)

    def write(self, row: int, column: int, channel: int, values: Tensor) -> None:
        self.first.values[:, 0, column + self.first.left, channel] = values
        self.moved[:, channel, row + 1, column] = values


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN."""

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(
        self, config: Any, spec: ImageSpec, *, seed: int, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        if config.conditional and not spec.classes:
            raise ConfigError(f"conditional=True needs labels, and {spec.name} has none")
        super().__init__(config, spec, seed=seed, device=device, precision=precision)
        if config.conditional:
            self.abilities = frozenset({*self.abilities, "labels"})  # type: ignore[misc]

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, Any]:
        return {name: for_images(config, spec, paper=name == "paper") for name, config in PRESETS.items()}

    def _build(self) -> GatedPixelCNNNetwork:
        least = min(self.config.features, self.config.head_features)
        if least < self.spec.channels:
            raise ConfigError(f"images of {self.spec.channels} channels need at least as many features, got {least}")
        return GatedPixelCNNNetwork(self.config, self.spec.channels, self._classes)

    @property
    def _classes(self) -> int:
        return len(self.spec.classes) if self.config.conditional else 0

    def _condition(self, labels: Tensor | None) -> Tensor | None:
        if not self.config.conditional:
            return None
        if labels is None:
            raise ConfigError("this gated PixelCNN was made for labelled images, and these have no labels")
        return F.one_hot(labels, self._classes).float()

    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Exact log p of the bits (drawn by the generator, where they are drawn) or levels of images, nats [B].

        A conditional model sums over the labels: log p(x) = log (1/Y sum_y p(x | y)), all Y of them as likely.
        """
        pixels = self._pixels(images.to(self.device), generator)
        return self._marginal(self._log_mass_by_label(pixels)) if self._classes else self._log_mass(pixels, None)

    def _log_mass_by_label(self, pixels: Tensor) -> Tensor:
        """log p(x | y) for every label y: [B, Y]."""
        labels = torch.arange(self._classes, device=pixels.device)
        return torch.stack([self._log_mass(pixels, self._condition(y.expand(len(pixels)))) for y in labels], dim=1)

    def _marginal(self, log_mass: Tensor) -> Tensor:
        return log_mass.logsumexp(dim=1) - math.log(self._classes)

    def _measure(self, pixels: Tensor, labels: Tensor | None, everything: bool) -> dict[str, Tensor]:
        """Of a conditional model `nats_given_label`, and with `everything` also `nats`, whatever the label."""
        if not self._classes:
            return super()._measure(pixels, labels, everything)
        measured = {"nats_given_label": -self._log_mass(pixels, self._condition(labels))}
        return {**measured, "nats": -self._marginal(self._log_mass_by_label(pixels))} if everything else measured

    def _labels_to_draw(self, count: int, generator: torch.Generator, labels: Tensor | None) -> Tensor | None:
        if not self.config.conditional:
            return super()._labels_to_draw(count, generator, labels)
        if labels is None:
            return torch.randint(self._classes, (count,), generator=generator)
        if len(labels) != count or bool(((labels < 0) | (labels >= self._classes)).any()):
            raise ConfigError(f"labels must be {count} numbers from 0 to {self._classes - 1}, got {labels.tolist()}")
        return labels
