"""Convolutions that look at nothing which comes later, and drawing an image from a network made of them.

Pixels come in raster order: rows from the top, each from the left, the channels of a pixel one after another (red,
green, blue). Paper: van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016 (2016a).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MaskType = Literal["A", "B"]
"""Whether a feature sees its own channel at its own pixel: never (A, in the first layer), or yes (B, in the others)."""


def channel_groups(features: int, channels: int) -> Tensor:
    """Which channel each feature belongs to, int64 [features]: equal shares, in the order of the channels.

    Van den Oord et al. (2016a), section 3.4.
    """
    return torch.arange(features) * channels // features


def causal_mask(kind: MaskType, inputs: Tensor, outputs: Tensor, kernel: tuple[int, int]) -> Tensor:
    """1.0 where a weight may be used, else 0.0: float32 [outputs, inputs, rows, columns].

    `inputs` and `outputs` are the channels that the features belong to (int64). The last row of the kernel is the
    pixel's own row, and the middle column its own; a kernel that ends there has no column to the right, and one row
    looks along the pixel's own row only. At the pixel itself a feature of channel c sees channels below c, and with
    mask B also c (van den Oord et al. 2016a, section 3.4 and figure 2).
    """
    rows, columns = kernel
    own = columns // 2 if rows > 1 else columns - 1
    mask = torch.ones(len(outputs), len(inputs), rows, columns)
    mask[:, :, -1, own + 1 :] = 0.0
    seen = inputs[None, :] < outputs[:, None] if kind == "A" else inputs[None, :] <= outputs[:, None]
    mask[:, :, -1, own] = seen.float()
    return mask


class MaskedConv2d(nn.Module):
    """A convolution that sees the rows above, the pixels to the left and, as `kind` says, the pixel itself.

    The rows below, which the mask would hide, are not computed at all. `rows`=False leaves out the rows above, too:
    the horizontal stack of the gated PixelCNN.
    """

    def __init__(
        self, kind: MaskType, inputs: Tensor, outputs: Tensor, size: int, *, rows: bool = True, gain: float = 1.0
    ) -> None:
        """`inputs`, `outputs`: the channels that features belong to, int64 [I] and [O]; `size`: that of the whole
        kernel, odd; `gain`: factor of the initial weights, which keep the variance behind a rectifier (He et al.
        2015)."""
        super().__init__()
        reach = size // 2
        kernel = (reach + 1, size) if rows else (1, reach + 1)
        mask = causal_mask(kind, inputs, outputs, kernel)
        self.mask: Tensor | None
        self.register_buffer("mask", None if bool(mask.all()) else mask, persistent=False)
        self.padding = (reach, reach if rows else 0, kernel[0] - 1, 0)
        self.weight = nn.Parameter(initial_weight(mask, gain))  # [O, I, rows, columns]
        self.bias = nn.Parameter(torch.zeros(len(outputs)))

    def masked_weight(self) -> Tensor:
        """[O, I, rows, columns], 0 where the mask is."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, I, H, W] to [B, O, H, W]"""
        return F.conv2d(padded(hidden, self.padding), self.masked_weight(), self.bias)


class RowsAbove(nn.Module):
    """A convolution over whole rows, the pixel's own and those above: the vertical stack, whose input is moved down by
    one row, so that its own row is the one above the pixel. Van den Oord et al. (2016b), section 2.2."""

    def __init__(self, inputs: int, outputs: int, size: int, *, gain: float = 1.0) -> None:
        super().__init__()
        reach = size // 2
        self.padding = (reach, reach, reach, 0)
        self.weight = nn.Parameter(initial_weight(torch.ones(outputs, inputs, reach + 1, size), gain))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, I, H, W] to [B, O, H, W]"""
        return F.conv2d(padded(hidden, self.padding), self.weight, self.bias)


def initial_weight(mask: Tensor, gain: float) -> Tensor:
    """Normal weights of variance gain^2 * 2 / (inputs that an output sees on average) (He et al. 2015, equation 10)."""
    fan_in = max(1.0, float(mask.sum()) / len(mask))
    return torch.randn(mask.shape) * gain * math.sqrt(2.0 / fan_in)


def padded(hidden: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Zeros around [B, C, H, W]: left, right, top, bottom."""
    return F.pad(hidden, padding) if any(padding) else hidden


def side_by_side(hidden: Tensor) -> Tensor:
    """The same with a pixel's features beside one another in memory: a convolution of one channel forgets that, and all
    layers after it would be slow. [B, C, H, W]"""
    return hidden.contiguous(memory_format=torch.channels_last)


def moved_down(images: Tensor) -> Tensor:
    """Each row holds what stood one row above; the first holds zeros. [B, C, H, W]"""
    return F.pad(images, (0, 0, 1, 0))[:, :, :-1]


def gated(hidden: Tensor) -> Tensor:
    """tanh of the first half of the features times the logistic function of the second: [B, 2F, ...] to [B, F, ...].

    Van den Oord et al. (2016b), equation 2.
    """
    return _Gate.apply(hidden)


class _Gate(torch.autograd.Function):
    """The gate with its gradient by hand: halves of features lie interleaved in memory, and taking them out and putting
    their gradients back one by one costs more than the gate itself."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        layout = torch.channels_last if hidden.dim() == 4 else torch.contiguous_format
        value, gate = (half.contiguous(memory_format=layout) for half in hidden.chunk(2, dim=1))
        # tanh(x) = 2 sigmoid(2x) - 1: on CPUs the logistic function is many times as fast, in float32 above all.
        wide = torch.promote_types(value.dtype, torch.float32)
        value = value.to(wide, copy=True).mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0).to(hidden.dtype)
        gate = torch.sigmoid(gate)
        ctx.save_for_backward(value, gate)
        return value * gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        value, gate = ctx.saved_tensors
        of_value, of_gate = gradient * gate, gradient * value
        of_value = torch.addcmul(of_value, of_value * value, value, value=-1.0)  # times 1 - tanh^2
        of_gate = of_gate.mul_(gate)
        of_gate = torch.addcmul(of_gate, of_gate, gate, value=-1.0)  # times sigmoid (1 - sigmoid)
        return torch.cat([of_value, of_gate], dim=1)


# Likelihoods. Images are levels, int64 [B, C, H, W] from 0; logits are [B, C, K, H, W], with K = 1 for two levels.


def quantised(images: Tensor, levels: int) -> Tensor:
    """The levels int64 of images in [0, 1], each as wide as any other on the scale of 256 grey values."""
    return (images * 255.0).round().clamp(0, 255).long() * levels // 256


def centred(levels_of_pixels: Tensor, levels: int) -> Tensor:
    """Levels as a network sees them, float32: 0 becomes -1 and the last one 1."""
    return levels_of_pixels.float() * (2.0 / (levels - 1)) - 1.0


def log_mass(pixels: Tensor, logits: Tensor) -> Tensor:
    """log p of levels int64 [B, C, H, W] under logits [B, C, K, H, W], summed over channels and pixels: nats [B].

    Bernoulli where K is 1, categorical otherwise (van den Oord et al. 2016a, equations 1 and 2, section 3.2).
    """
    if logits.shape[2] == 1:
        loss = F.binary_cross_entropy_with_logits(logits[:, :, 0], pixels.to(logits.dtype), reduction="none")
    else:
        loss = F.cross_entropy(logits.transpose(1, 2), pixels, reduction="none")  # [B, C, H, W]
    return -loss.flatten(1).sum(dim=1)


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Nats an image as bits a number (van den Oord et al. 2016a, section 5.2)."""
    return nats / (dimensions * math.log(2.0))


def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """Levels int64 [B] of logits [B, K], each the one in whose share of [0, 1) the number uniform [B] lies."""
    if logits.shape[1] == 1:
        return (uniform < torch.sigmoid(logits[:, 0])).long()
    cumulative = torch.softmax(logits, dim=1).cumsum(dim=1)
    return (uniform[:, None] >= cumulative[:, :-1]).sum(dim=1)


# Drawing pixel by pixel. What a layer has computed stays in a cache; for one pixel only the few numbers that are new
# are computed, so that a whole image costs about what one pass through the network costs.


class Canvas(Protocol):
    """A network half-way through drawing images."""

    def begin_row(self, row: int) -> None:
        """All rows above `row` are there."""

    def logits(self, row: int, column: int) -> Tensor:
        """[B, C, K] of a pixel; those of channel c mean something once the channels before it are written."""
        ...

    def write(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Puts centred values [B] where they belong."""


@torch.no_grad()
def draw(canvas: Canvas, uniform: Tensor, levels: int) -> Tensor:
    """Images as levels int64 [B, C, H, W], decided by uniform numbers [B, C, H, W] in [0, 1): ancestral sampling.

    Van den Oord et al. (2016a), section 2.1.
    """
    count, channels, height, width = uniform.shape
    pixels = torch.zeros(count, channels, height, width, dtype=torch.int64, device=uniform.device)
    for row in range(height):
        canvas.begin_row(row)
        for column in range(width):
            for channel in range(channels):
                logits = canvas.logits(row, column)[:, channel]  # [B, K]
                chosen = drawn(logits, uniform[:, channel, row, column])
                pixels[:, channel, row, column] = chosen
                canvas.write(row, column, channel, centred(chosen, levels))
    return pixels


class Cache:
    """What the layer before a convolution has computed so far, padded: float32 [B, rows, columns, I]; and the
    convolution at one pixel."""

    def __init__(self, layer: MaskedConv2d, count: int, height: int, width: int) -> None:
        weight = layer.masked_weight().detach().float()  # [O, I, rows, columns]
        self.rows, self.columns = weight.shape[2:]
        self.left, _, self.top, _ = layer.padding
        size = (count, height + self.top, width + self.left + layer.padding[1], weight.shape[1])
        self.values = torch.zeros(size, device=weight.device)
        self.weight = weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # [rows * columns * I, O]
        self.bias = layer.bias.detach().float()

    def write(self, row: int, column: int, hidden: Tensor) -> None:
        """Features [B, I] of a pixel."""
        self.values[:, row + self.top, column + self.left] = hidden

    def at(self, row: int, column: int) -> Tensor:
        """What the convolution gives at a pixel, [B, O]."""
        window = self.values[:, row : row + self.rows, column : column + self.columns]
        return torch.addmm(self.bias, window.flatten(1), self.weight)


class Pointwise:
    """A convolution of size 1 at one pixel: [B, I] to [B, O]."""

    def __init__(self, layer: MaskedConv2d) -> None:
        self.weight = layer.masked_weight().detach().float()[:, :, 0, 0].t().contiguous()  # [I, O]
        self.bias = layer.bias.detach().float()

    def __call__(self, hidden: Tensor) -> Tensor:
        return torch.addmm(self.bias, hidden, self.weight)


class Head(nn.Module):
    """Rectifier, 1x1, rectifier, 1x1: features [B, F, H, W] to logits [B, C, K, H, W] (van den Oord et al. 2016a,
    table 1)."""

    def __init__(self, inputs: Tensor, width: int, channels: int, outputs: int) -> None:
        """`inputs`: the channels that the features belong to; `outputs`: K."""
        super().__init__()
        middle = channel_groups(width, channels)
        self.shape = (channels, outputs)
        self.hidden = MaskedConv2d("B", inputs, middle, 1)
        logits = torch.arange(channels).repeat_interleave(outputs)
        self.logits = MaskedConv2d("B", middle, logits, 1, gain=0.1)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(F.relu(self.hidden(F.relu(features)))).unflatten(1, self.shape)

    def pointwise(self) -> Callable[[Tensor], Tensor]:
        """The same for one pixel: [B, F] to [B, C, K]."""
        hidden, logits = Pointwise(self.hidden), Pointwise(self.logits)
        return lambda features: logits(F.relu(hidden(F.relu(features)))).unflatten(1, self.shape)
