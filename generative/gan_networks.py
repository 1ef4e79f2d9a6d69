"""Convolutional and dense players of adversarial games.

Convolutions: Radford, Metz and Chintala (2016), section 3: strides instead of pooling, batch normalisation, rectifiers
in the generator and leaky ones (slope 0.2) in the discriminator, no hidden dense layers, weights from N(0, 0.02).
Every image size from 4x4 up works: the generator draws on the next larger grid that strides of 2 reach, and crops.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn

from aprendiz.data.core import ImageSpec

Norm = Literal["batch", "layer", "none"]
LEAK = 0.2
"""Slope of the leaky rectifier below zero."""
WIDEST = 8
"""The deepest feature maps have at most this many times the width of the shallowest."""


def doublings(spec: ImageSpec) -> int:
    """How often a grid of about 4x4 is doubled to reach the image, at least twice: 8x8 from 2x2, 28x28 and 32x32 from
    4x4. Fewer layers see too little of a picture at once: with a grid of 7x7 digits stay scribbles."""
    return max(2, round(math.log2(min(spec.height, spec.width) / 4)))


def _norm(kind: Norm, channels: int) -> list[nn.Module]:
    """Batch normalisation with PyTorch's epsilon, layer normalisation over [C, H, W] with a gain a channel, or none."""
    if kind == "none":
        return []
    return [nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(1, channels)]


def initialise(module: nn.Module, deviation: float = 0.02) -> None:
    """Weights from N(0, deviation), gains of normalisation from N(1, deviation), offsets 0 (Radford et al. 2016)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            nn.init.normal_(layer.weight, 0.0, deviation)
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm)):
            nn.init.normal_(layer.weight, 1.0, deviation)
        if isinstance(getattr(layer, "bias", None), nn.Parameter):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class ConvGenerator(nn.Module):
    """Latent vectors [B, D] to images [B, C, H, W] in [-1, 1]: a small grid, doubled by strided convolutions.

    `width`: channels of the last hidden grid; each grid below has twice as many, up to 8 times.
    """

    def __init__(self, spec: ImageSpec, latent: int, width: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.size = spec.height, spec.width
        times = doublings(spec)
        widths = [width * min(2**level, WIDEST) for level in reversed(range(times))]
        self.grid = math.ceil(spec.height / 2**times), math.ceil(spec.width / 2**times), widths[0]
        self.project = nn.Linear(latent, math.prod(self.grid), bias=norm == "none")
        layers = [*_norm(norm, widths[0]), nn.ReLU(inplace=True)]
        for before, after in itertools.pairwise(widths):
            layers.append(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none"))
            layers += [*_norm(norm, after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, spec.channels, 4, 2, 1))
        initialise(self)

    def forward(self, latent: Tensor) -> Tensor:
        height, width, channels = self.grid
        # Channels last from the start: what the projection gives is never moved in memory.
        hidden = self.project(latent).view(-1, height, width, channels).permute(0, 3, 1, 2)  # [B, C, h, w]
        return torch.tanh(_crop(self.layers(hidden), *self.size))


class ConvDiscriminator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to logits (or a critic's values) [B]: strided convolutions and one linear layer.

    `width`: channels after the first convolution; they double with every further one, up to 8 times. The first has no
    normalisation. With none, or one of each sample by itself, initial weights are those of He et al. (2015). With
    `classes`, labels [B] enter by an inner product with the last features (Miyato and Koyama 2018, equation 3).
    """

    def __init__(self, spec: ImageSpec, width: int, norm: Norm = "batch", classes: int = 0) -> None:
        super().__init__()
        widths = [width * min(2**level, WIDEST) for level in range(doublings(spec))]
        layers: list[nn.Module] = []
        before = spec.channels
        for depth, after in enumerate(widths):
            kind: Norm = norm if depth else "none"
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=kind == "none"))
            layers += [*_norm(kind, after), nn.LeakyReLU(LEAK, inplace=True)]
            before = after
        self.layers = nn.Sequential(*layers)
        cells = (spec.height >> len(widths)) * (spec.width >> len(widths))
        self.value = nn.Linear(before * cells, 1)
        self.classes = nn.Embedding(classes, before * cells) if classes else None
        if norm == "batch":
            initialise(self)
            return
        # Without it the scale of what comes out hangs on the initial weights: He et al. (2015), as Gulrajani et al. do.
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=LEAK)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        hidden = self.layers(images.contiguous(memory_format=torch.channels_last)).flatten(1)  # [B, features]
        value = self.value(hidden).squeeze(1)
        if self.classes is not None:
            value = value + (self.classes(labels) * hidden).sum(dim=1)
        return value


class DenseGenerator(nn.Module):
    """Latent vectors [B, D] to images [B, C, H, W] in [0, 1]: dense layers with rectifiers, sigmoid outputs."""

    def __init__(self, spec: ImageSpec, latent: int, hidden: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__()
        self.shape = spec.shape
        layers: list[nn.Module] = []
        before = latent
        for width in hidden:
            layers.append(nn.Linear(before, width, bias=not batch_norm))
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, spec.pixels))

    def forward(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(latent)).view(-1, *self.shape)


class Maxout(nn.Module):
    """The largest of `pieces` linear functions, for each of `units`: [B, D] to [B, units] (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units = units
        self.linear = nn.Linear(inputs, units * pieces)
        nn.init.uniform_(self.linear.weight, -0.005, 0.005)  # of the authors' code
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).unflatten(1, (self.units, -1)).amax(dim=2)


def dropout(inputs: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Each number with probability `rate` set to 0, the others divided by 1 - rate (Srivastava et al. 2014).

    PyTorch's own draws from the global generator, which a resumed run would not find as it was.
    """
    if rate == 0.0:
        return inputs
    kept = torch.rand(inputs.shape, generator=generator, device=inputs.device) >= rate
    return inputs * kept / (1 - rate)


def _crop(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images [B, C, H', W']."""
    if images.shape[2:] == (height, width):
        return images
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
