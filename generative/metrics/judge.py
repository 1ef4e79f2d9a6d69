"""Who judges samples: a frozen classifier, by the data set."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aprendiz.data.download import cache_folder
from aprendiz.errors import CheckpointError, ConfigError, StorageError
from generative.metrics.classifier import (
    FEATURES,
    FORMAT,
    ClassifierConfig,
    Report,
    Trained,
    load,
    save,
    train,
    unsaved,
)

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, Images

WEIGHTS = Path(__file__).parents[1] / "weights"
MNIST_SHA256 = "7018e96b2e8d759c4c4527eba87d4737e79c8e2ed0cc03844cf385d44cf05c86"
"""Of weights/mnist.safetensors. Whoever trains it anew changes it, and every FID with it."""
MNIST_TEST_LABELS_SHA256 = "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"
"""Of the 10,000 published labels as bytes."""
BATCH = 500
"""Images that the network sees at once; fixed, so that rounding is the same whoever asks."""
SLACK = 1e-4
"""How far outside [0, 1] rounding may carry an image."""


class Judge:
    """A frozen classifier that looks at images. Deterministic; on the CPU, wherever the images are."""

    def __init__(self, name: str, trained: Trained) -> None:
        self.name = name
        """What it was trained on, and whether it is the one that comes with aprendiz."""
        self.sha256 = trained.sha256
        """Of its file: metrics compare only between equal ones."""
        self.provenance: Mapping[str, Any] = trained.provenance
        self._classifier = trained.classifier.eval().requires_grad_(False)

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of the images that it names rightly, by split: `validation`, and `test` where it was scored."""
        return dict(self.provenance["accuracy"])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._classifier.classes

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer, float32 [N, FEATURES], of images [N, C, H, W] in [0, 1]. Raises as `look` does."""
        return self.look(images)[0]

    def logits(self, images: Tensor) -> Tensor:
        """float32 [N, classes] of images [N, C, H, W] in [0, 1]. Raises as `look` does."""
        return self.look(images)[1]

    @torch.inference_mode()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, FEATURES] and logits [N, classes] of float images [N, C, H, W] in [0, 1], at one go.

        Raises ConfigError for images of another shape, and for values outside [0, 1] or not a number: images as models
        see them must be turned back by `dataset.scaling.to_pixels` first.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self._classifier.shape:
            shape = list(self._classifier.shape)
            raise ConfigError(f"{self.name} judges images of shape {shape}, got {list(images.shape[1:])}")
        if not images.is_floating_point():
            raise ConfigError(f"{self.name} judges float images in [0, 1], got {images.dtype}")
        features, logits = torch.empty(len(images), FEATURES), torch.empty(len(images), self.classes)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH].detach().to("cpu", torch.float32)
            low, high = float(part.min()), float(part.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConfigError(f"{self.name} got images with values that are infinite or not a number")
            if low < -SLACK or high > 1 + SLACK:
                raise ConfigError(
                    f"{self.name} judges images in [0, 1], got values from {low:.4g} to {high:.4g}; turn what a model "
                    "draws into pixels with dataset.scaling.to_pixels"
                )
            seen = self._classifier.features(part.clamp(0.0, 1.0))
            features[start : start + len(part)] = seen
            logits[start : start + len(part)] = self._classifier.head(seen)
        return features, logits

    def look_at(self, images: Images, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features and logits of a data set's own images (those at `indices`, or all of them), read in batches."""
        if indices is None:
            indices = torch.arange(len(images))
        seen = [self.look(images.pixels(part).float() / 255) for part in indices.split(BATCH)]
        return torch.cat([features for features, _ in seen]), torch.cat([logits for _, logits in seen])


def judge_for(dataset: Dataset, *, report: Report | None = None) -> Judge | None:
    """Who judges samples of a model of `dataset`; None where it has no labels: of its samples nothing is claimed.

    MNIST is judged by the classifier that comes with aprendiz, whose file is checked against its hash. For other
    labelled data one is trained on the training images, once (seconds to a few minutes), and kept in the cache folder;
    `report` is told how far that is, by default with a line on stderr. Raises CheckpointError where the file that comes
    with aprendiz was changed.
    """
    labels = dataset.train.labels
    if labels is None or len(dataset.spec.classes) < 2 or len(labels.unique()) < 2:
        return None
    if is_mnist(dataset):
        return Judge("mnist, the classifier of aprendiz", load(WEIGHTS / "mnist.safetensors", MNIST_SHA256))
    return Judge(f"a classifier trained on {dataset.spec.name}", _cached(dataset, report or _Line()))


def is_mnist(dataset: Dataset) -> bool:
    """Whether these are the published images, in their own size: whatever lies in a folder can be called so."""
    spec, labels = dataset.spec, dataset.test.labels
    if spec.name != "mnist" or spec.shape != (1, 28, 28) or labels is None:
        return False
    return hashlib.sha256(labels.to(torch.uint8).numpy().tobytes()).hexdigest() == MNIST_TEST_LABELS_SHA256


def _cached(dataset: Dataset, report: Report) -> Trained:
    config = ClassifierConfig()
    path = cache_folder() / "classifiers" / f"{_fingerprint(dataset, config)}.safetensors"
    if path.exists():
        try:
            return load(path)
        except CheckpointError as error:  # a cache: what is damaged is made again
            print(f"warning: {error}; it is trained again", file=sys.stderr)
    trained = train(dataset, config, report)
    try:
        return save(trained, path)
    except StorageError as error:
        print(f"warning: {error}; the classifier is not kept", file=sys.stderr)
        return unsaved(trained)


def _fingerprint(dataset: Dataset, config: ClassifierConfig) -> str:
    """Of everything that the classifier depends on: data, their parts, and how it is trained."""
    parts = (dataset.train, dataset.validation, dataset.test)
    known = {
        "data": dataset.fingerprint,
        "shape": dataset.spec.shape,
        "classes": dataset.spec.classes,
        "sizes": [len(part) for part in parts],
        "options": {key: value for key, value in dataset.options.items() if key not in ("scaling", "scaling_per")},
        "config": asdict(config),
        "format": FORMAT,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:32]


class _Line:
    """How far training is, on stderr: a line that is written over on a terminal, elsewhere one every half minute."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, words: str, fraction: float) -> None:
        now, done = time.monotonic(), fraction >= 1
        if now < self._next and not done:
            return
        self._next = now + (0.2 if self._live else 30.0)
        text = f"training what judges the samples, once for these data: {words}, {fraction:.0%}"
        print(f"\r{text}\x1b[K" if self._live else text, end="" if self._live and not done else "\n", file=sys.stderr)
