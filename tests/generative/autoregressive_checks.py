"""What both PixelCNNs are tested for: causality, probabilities that sum to one, drawing, learning, exact saving."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aprendiz import checkpoint
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.data.images import ArrayImages
from generative.autoregressive import AutoregressiveModel, AutoregressiveNetwork
from generative.masked import centred, drawn, log_mass


def image_spec(size: int = 6, channels: int = 1, **changes: Any) -> ImageSpec:
    return ImageSpec(**{"name": "toy", "channels": channels, "height": size, "width": size, **changes})


def shaken(network: Any, *, seed: int = 0) -> Any:
    """The network with random numbers in every parameter, so that no path through it is closed by a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def dependence(network: nn.Module, spec: ImageSpec, row: int, column: int, channel: int) -> Tensor:
    """How strongly the logits of a number depend on every number of the image, [C, H, W]: summed gradients."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((32, *spec.shape), generator=generator).requires_grad_()
    logits = network(images)[:, channel, :, row, column]  # [B, K]
    weights = torch.randn(logits.shape, generator=generator)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), images)
    return gradient.abs().sum(dim=0)


def raster_place(spec: ImageSpec) -> Tensor:
    """When each number is drawn, int64 [C, H, W]."""
    return torch.arange(spec.pixels).view(spec.height, spec.width, spec.channels).permute(2, 0, 1)


def assert_causal(network: nn.Module, spec: ImageSpec) -> None:
    place = raster_place(spec)
    for channel, row, column in itertools.product(*map(range, spec.shape)):
        later = place >= place[channel, row, column]
        reached = dependence(network, spec, row, column, channel)
        assert not reached[later].any(), f"channel {channel} of pixel {row}, {column} depends on itself or later ones"


def draw_naively(network: AutoregressiveNetwork, uniform: Tensor, levels: int, condition: Tensor | None) -> Tensor:
    """What `draw` computes, by a pass through the whole network for each number."""
    pixels = torch.zeros(uniform.shape, dtype=torch.int64)
    _, channels, height, width = uniform.shape
    for row, column, channel in itertools.product(range(height), range(width), range(channels)):
        with torch.no_grad():
            logits = network(centred(pixels, levels), condition)
        pixels[:, channel, row, column] = drawn(logits[:, channel, :, row, column], uniform[:, channel, row, column])
    return pixels


def logits_while_drawing(network: AutoregressiveNetwork, pixels: Tensor, levels: int, condition: Any) -> Tensor:
    """The logits [B, C, K, H, W] that a canvas gives when `pixels` are written on it, one after another."""
    count, channels, height, width = pixels.shape
    rows: list[Tensor] = []
    with torch.no_grad():
        canvas = network.canvas(count, height, width, condition)
        for row in range(height):
            canvas.begin_row(row)
            for column in range(width):
                parts = []
                for channel in range(channels):
                    parts.append(canvas.logits(row, column)[:, channel])
                    canvas.write(row, column, channel, centred(pixels[:, channel, row, column], levels))
                rows.append(torch.stack(parts, dim=1))
    return torch.stack(rows, dim=-1).unflatten(-1, (height, width))


def all_images(levels: int, shape: tuple[int, int, int]) -> Tensor:
    """Every image there is, int64 [levels ** numbers, C, H, W]."""
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape)


def assert_probabilities_sum_to_one(model: AutoregressiveModel, condition: Tensor | None = None) -> None:
    pixels = all_images(model.config.levels, model.spec.shape)
    for network in (model.network, model.average.network):
        shaken(network.double())
    with torch.no_grad():
        images = centred(pixels, model.config.levels).double()
        told = None if condition is None else condition.expand(len(pixels), -1).double()
        total = log_mass(pixels, model.network(images, told)).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-9)


def strokes(count: int, *, size: int = 8, seed: int = 0) -> Tensor:
    """uint8 [count, 1, size, size]: one bright row and one bright column a picture, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    rows, columns = torch.randint(size, (2, count), generator=generator)
    images[torch.arange(count), 0, rows] = 230
    images[torch.arange(count), 0, :, columns] = 230
    return images


def train(model: AutoregressiveModel, images: ArrayImages, updates: int, *, start: int = 0) -> list[float]:
    """Nats of each update; batch n is decided by n alone."""
    nats = []
    for number in range(start, start + updates):
        generator = torch.Generator().manual_seed(1_000 + number)
        chosen = torch.randint(len(images), (model.config.batch_size,), generator=generator)
        labels = None if images.labels is None else images.labels[chosen]
        nats.append(float(model.update(ImageBatch(images.scaled(chosen), labels)).metrics["nats"]))
    return nats


def independent_nats(train_images: Tensor, images: Tensor) -> float:
    """Nats an image of the best model whose pixels know nothing of one another; bits are drawn from grey values."""
    rate = train_images.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    return -float((images * rate.log() + (1 - images) * (1 - rate).log()).flatten(1).sum(dim=1).mean())


def assert_resumes_exactly(build: Any, images: ArrayImages, folder: Path) -> None:
    whole = build(0)
    train(whole, images, 5)
    saved = folder / "half"
    checkpoint.save(saved, whole.state_dict())
    expected = train(whole, images, 5, start=5)
    resumed = build(7)
    resumed.load_state_dict(checkpoint.load(saved))
    assert train(resumed, images, 5, start=5) == expected
    for name, module in whole.modules().items():
        for one, other in zip(module.parameters(), resumed.modules()[name].parameters(), strict=True):
            assert torch.equal(one, other), name


def digits() -> tuple[ArrayImages, ArrayImages]:
    """scikit-learn's handwritten digits: 1,500 to learn from, and the others."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    spec = image_spec(8, name="digits", classes=tuple("0123456789"))
    return ArrayImages(spec, pixels[:1_500], labels[:1_500]), ArrayImages(spec, pixels[1_500:], labels[1_500:])


def assert_features_lie_side_by_side(network: nn.Module, spec: ImageSpec) -> None:
    """Channels-last from the first layer to the last: anything else makes every layer slower."""
    wrong: list[str] = []

    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        features = output if isinstance(output, Tensor) else output[0]
        if features.dim() == 4 and not features.is_contiguous(memory_format=torch.channels_last):
            wrong.append(type(module).__name__)

    for module in network.modules():
        if len(list(module.children())) > 0 and module is not network:
            module.register_forward_hook(look)
    network(torch.zeros(2, *spec.shape).contiguous(memory_format=torch.channels_last))
    assert not wrong
