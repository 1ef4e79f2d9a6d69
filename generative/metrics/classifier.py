"""The classifier through which samples are judged: its network, how it is trained, and its file.

FID and its kin compare what a network sees in real and in generated images. For photographs that network is an
Inception network; digits and one's own pictures want one that was trained on them. This one is small: three
convolutions, a penultimate layer of FEATURES rectified units (what the metrics compare), and one linear layer on top.
It is kept apart from the shared backbones on purpose: a change to it would change every FID that was ever reported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.checkpoint import sync
from aprendiz.errors import CheckpointError, ConfigError, StorageError
from generative.metrics.classifier_config import ClassifierConfig

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, Images

FEATURES = 64
"""Units of the penultimate layer."""
CHANNELS = (16, 32, 64)
"""Of the three convolutions."""
LARGEST = 64
"""Pixels: longer sides are shrunk to this before the network sees them."""
MEMORY = 512 * 1024**2
"""Bytes of training images that are held; where there are more, a random part of them is learned from."""
FORMAT = "aprendiz-classifier-1"

Report = Callable[[str, float], None]
"""Called with the state of training in words and the fraction that is done."""


class Classifier(nn.Module):
    """Images float32 [B, C, H, W] in [0, 1] to logits [B, classes]."""

    def __init__(self, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> None:
        """`shape` is (channels, height, width), of any size from 1x1."""
        super().__init__()
        channels, height, width = shape
        self.shape, self.classes, self.dropout = shape, classes, dropout
        shrink = min(1.0, LARGEST / max(height, width))
        height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
        self.size = (height, width)
        self.pools: list[bool] = []
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for index, wide in enumerate(CHANNELS):
            kernel = 5 if index == 0 else 3
            self.convolutions.append(nn.Conv2d(channels, wide, kernel, padding=kernel // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(wide))
            self.pools.append(min(height, width) >= 6)
            if self.pools[-1]:
                height, width = height // 2, width // 2
            channels = wide
        self.hidden = nn.Linear(channels * height * width, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer [B, FEATURES], after its rectifier: the input of the last linear layer."""
        x = images if tuple(images.shape[2:]) == self.size else F.interpolate(images, self.size, mode="area")
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            x = convolution(x)
            if pool:  # before the norm and the rectifier, which then have a quarter of the work
                x = F.max_pool2d(x, 2)
            x = F.relu(norm(x))
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(images), self.dropout, self.training))


@dataclass(frozen=True)
class Trained:
    """A classifier, and what is known of it."""

    classifier: Classifier
    provenance: Mapping[str, Any]
    """JSON-able: config, data, accuracies, versions."""
    sha256: str = ""
    """Of its file, or "" as long as it has none."""


def distort(images: Tensor, config: ClassifierConfig, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W], each shifted, rotated and stretched a little about its centre; what moves in is 0."""
    count, _, height, width = images.shape
    random = torch.rand(count, 5, generator=generator) * 2 - 1
    angle = random[:, 0] * math.radians(config.rotation_degrees)
    zoom = 1 + random[:, 1:3] * config.zoom
    shift = random[:, 3:5] * 2 * config.shift  # the grid's side is 2
    ratio = height / width  # so that a rotation stays one on an oblong image
    cosine, sine = angle.cos(), angle.sin()
    matrix = torch.stack(
        [
            torch.stack([zoom[:, 0] * cosine, -zoom[:, 0] * sine * ratio, shift[:, 0]], 1),
            torch.stack([zoom[:, 1] * sine / ratio, zoom[:, 1] * cosine, shift[:, 1]], 1),
        ],
        1,
    )  # [B, 2, 3]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def train(dataset: Dataset, config: ClassifierConfig | None = None, report: Report | None = None) -> Trained:
    """Learn `dataset.train`; the accuracy on `dataset.validation` is reported with the result.

    The test images are not looked at. Raises ConfigError where the data have fewer than two labels.
    """
    config = config or ClassifierConfig()
    images = dataset.train
    classes = len(dataset.spec.classes)
    if classes < 2 or images.labels is None or len(images) < 2:
        raise ConfigError(
            f"no classifier can be trained on {dataset.spec.name}: it wants images of two classes or more"
        )
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        torch.manual_seed(config.seed)
        classifier = Classifier(dataset.spec.shape, classes, config.dropout)
        classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = _learn(classifier, images, config, report)
    provenance: dict[str, Any] = {
        "config": asdict(config),
        "data": {
            "name": dataset.spec.name,
            "shape": list(dataset.spec.shape),
            "classes": classes,
            "fingerprint": dataset.fingerprint,
            "options": json.loads(json.dumps(dict(dataset.options), default=str)),
            "train_images": len(images),
            "validation_images": len(dataset.validation),
        },
        "accuracy": {"validation": accuracy(average, dataset.validation)}
        if dataset.validation.labels is not None
        else {},
        "parameters": sum(parameter.numel() for parameter in average.parameters()),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return Trained(average, provenance)


def _learn(classifier: Classifier, images: Images, config: ClassifierConfig, report: Report | None) -> Classifier:
    """AdamW with one cycle of the step size; returns the average of the weights."""
    generator = torch.Generator().manual_seed(config.seed)
    updates, batch_size = config.updates(len(images))
    pixels, labels = _in_memory(images, classifier.size, config.seed)
    average = torch.optim.swa_utils.AveragedModel(
        classifier, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average), use_buffers=True
    )
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=updates, pct_start=0.1, cycle_momentum=False
    )
    classifier.train()
    order, place = torch.empty(0, dtype=torch.int64), 0
    for update in range(updates):
        if place + batch_size > len(order):
            order, place = torch.randperm(len(pixels), generator=generator), 0
        indices = order[place : place + batch_size]
        place += batch_size
        batch = distort(pixels[indices].float() / 255, config, generator)
        loss = F.cross_entropy(classifier(batch.contiguous(memory_format=torch.channels_last)), labels[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(classifier)
        if report is not None and update % 50 == 0:
            report(f"classifier: update {update:,} of {updates:,}", update / updates)
    if report is not None:
        report(f"classifier: {updates:,} updates done", 1.0)
    module = average.module
    assert isinstance(module, Classifier)
    return module.eval()


def _in_memory(images: Images, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """uint8 [N, C, *size] and labels [N]: all images, or as many as MEMORY holds, drawn by the seed."""
    assert images.labels is not None
    generator = torch.Generator().manual_seed(seed)
    most = max(2, MEMORY // (images.spec.channels * size[0] * size[1]))
    chosen = torch.randperm(len(images), generator=generator)[:most].sort().values
    pixels = torch.empty(len(chosen), images.spec.channels, *size, dtype=torch.uint8)
    for part in torch.arange(len(chosen)).split(500):
        found = images.pixels(chosen[part])
        if tuple(found.shape[2:]) != size:
            found = F.interpolate(found.float(), size, mode="area").round().to(torch.uint8)
        pixels[part] = found
    return pixels, images.labels[chosen]


@torch.inference_mode()
def accuracy(classifier: Classifier, images: Images, batch_size: int = 500) -> float:
    """Share of labelled images whose label has the largest logit."""
    assert images.labels is not None
    classifier.eval()
    right = 0
    for start in range(0, len(images), batch_size):
        part = slice(start, min(start + batch_size, len(images)))
        right += int((classifier(images.pixels(part).float() / 255).argmax(1) == images.labels[part]).sum())
    return right / len(images)


def save(trained: Trained, path: Path) -> Trained:
    """Write a classifier as safetensors, whole or not at all, with its provenance in the header; returns what `load`
    does. Raises StorageError where the disk is full or read-only."""
    data = _encode(trained)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}; make room or set APRENDIZ_DATA") from error
    return _decode(data)


def unsaved(trained: Trained) -> Trained:
    """What `load` would return had it been saved: bit for bit the same judge."""
    return _decode(_encode(trained))


def load(path: Path, sha256: str | None = None) -> Trained:
    """A classifier that `save` wrote, ready to judge.

    Raises CheckpointError where it cannot be read, was cut off or changed, and where its file has not the hash
    `sha256`, if one is given.
    """
    import safetensors

    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the classifier {path} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise CheckpointError(
            f"the classifier {path} was changed: its SHA-256 is {found}, not {sha256}; restore the file, or no metric "
            "can be compared with those of others"
        )
    try:
        return _decode(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"the classifier {path} is damaged: {error}") from error


def _encode(trained: Trained) -> bytes:
    import safetensors.torch

    classifier = trained.classifier
    tensors = {name: tensor.detach().contiguous() for name, tensor in classifier.state_dict().items()}
    header = {
        "format": FORMAT,
        "shape": list(classifier.shape),
        "classes": classifier.classes,
        "content_sha256": _content(tensors),
        "provenance": dict(trained.provenance),
    }
    # One entry: safetensors writes several in an order that changes, and with it the hash of the file.
    return safetensors.torch.save(tensors, {"classifier": json.dumps(header, sort_keys=True)})


def _decode(data: bytes) -> Trained:
    import safetensors.torch

    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["classifier"])
    tensors = safetensors.torch.load(data)
    if header["format"] != FORMAT or header["content_sha256"] != _content(tensors):
        raise ValueError("its weights are not those of its header")
    channels, height, width = header["shape"]
    classifier = Classifier((channels, height, width), header["classes"])
    classifier.load_state_dict(tensors)
    return Trained(classifier.eval().requires_grad_(False), header["provenance"], hashlib.sha256(data).hexdigest())


def _content(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
