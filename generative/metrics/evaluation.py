"""Everything that is said of a saved model: `python -m generative.evaluate` prints what `report` returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from generative.core import Purpose, derived_seed, torch_generator
from generative.metrics.balance import class_balance
from generative.metrics.frechet import fid
from generative.metrics.judge import Judge, judge_for
from generative.metrics.neighbours import precision_recall
from generative.metrics.probe import LARGEST, linear_probe

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, Images
    from generative.saved import SavedModel

SAMPLES = 10_000
"""Images that are drawn, as many as MNIST has test images: FIDs compare at equal numbers only."""
NEIGHBOURS = 3
"""k of precision and recall (Kynkaanniemi et al. 2019, section 3.1)."""
BATCH = 500
"""Images that are drawn, or read, at once; part of the protocol, as it decides which noise becomes which image."""
DOUBTFUL = 0.9
"""Validation accuracy of a judge below which its word is marked as doubtful."""

Progress = Callable[[str, float], None]
"""Told what is being done and the fraction of it that is done."""


def report(
    saved: SavedModel, *, samples: int = SAMPLES, seed: int = 0, split: str = "test", progress: Progress | None = None
) -> dict[str, Any]:
    """All metrics of a saved model against the test images (or the validation images); JSON-able.

    `metrics` holds numbers by name, None for one that is not finite: what the model measures itself and, each with
    `floor_` in front for as many training images in place of the samples,

    fid                  of `samples` images against all of the split's
    precision, recall    of equally many of both (at most SAMPLES)
    class_deviation, class_entropy_nats, confident_share    balance; `class_shares` of the report has every class
    label_accuracy       share of samples in which the judge sees the class that was asked for, where labels are taken
    probe_accuracy       of a linear classifier on the codes, where the model encodes and there are labels
    classification_error share of images that the model itself names wrongly, where it classifies

    `protocol` is what has to be the same where two are compared: among it the extractor, who looked at the samples; it
    is None where the images have no labels, and then nothing is claimed of samples. `notes` say in words what is
    missing or doubtful, and why. Without samples (0) their metrics are left out. Raises ConfigError for a split or a
    number of samples that cannot be.
    """
    if split not in ("test", "validation"):
        raise ConfigError(f"split must be test or validation, got {split!r}")
    if samples and samples <= NEIGHBOURS:
        raise ConfigError(f"samples must be 0 (no metrics of samples) or {NEIGHBOURS + 1} or more, got {samples}")
    tell = progress or (lambda words, fraction: None)
    dataset = saved.dataset
    images = dataset.test if split == "test" else dataset.validation
    judge = judge_for(dataset, report=progress)
    tell("the model's own metrics", 0.0)
    metrics: dict[str, Any] = dict(
        saved.model.evaluate(dataset, images, torch_generator(seed, Purpose.EVALUATION), judge)
    )
    shares: dict[str, float] | None = None
    notes: list[str] = []
    if samples and judge is None:
        notes.append("nothing is claimed of the samples: the images have no labels that a judge could learn")
        samples = 0
    elif samples and min(len(images), len(dataset.train)) <= NEIGHBOURS:
        notes.append(f"nothing is claimed of the samples: there are only {len(images)} images to compare them with")
        samples = 0
    if samples and judge is not None:
        shares = _of_samples(saved, dataset, images, judge, samples, seed, metrics, notes, tell)
    if images.labels is not None:
        _of_codes(saved, dataset, images, seed, metrics, notes, tell)
        _of_classes(saved, images, metrics, notes)
    tell("done", 1.0)
    return {
        "which": saved.which,
        "checkpoint_step": saved.step,
        "metrics": {name: _plain(value) for name, value in metrics.items()},
        "class_shares": shares,
        "protocol": {
            "split": split,
            "images": len(images),
            "samples": samples,
            "seed": seed,
            "data_fingerprint": dataset.fingerprint,
            "extractor": judge.name if judge else None,
            "extractor_sha256": judge.sha256 if judge else None,
            "extractor_accuracy": judge.accuracy if judge else None,
        },
        "notes": notes,
    }


def compare(real: Tensor, fake: Tensor, seed: int) -> dict[str, float]:
    """FID of features `fake` [M, D] against `real` [N, D], and precision and recall of equally many of both.

    Where there are more of one, some are drawn by the seed: a set may lie class by class.
    """
    count = min(len(real), len(fake), SAMPLES)
    generator = torch_generator(seed, Purpose.DATA)
    few_real, few_fake = (
        features[torch.randperm(len(features), generator=generator)[:count]] for features in (real, fake)
    )
    return {"fid": fid(real, fake), **precision_recall(few_real, few_fake, NEIGHBOURS)._asdict()}


def floor(judge: Judge, train: Images, real: Tensor, count: int, seed: int) -> dict[str, float]:
    """What `count` training images, drawn by the seed, score against features `real` [N, D] of held-out images.

    The best that a sampler can be asked for. Its FID is above 0 because these are other images, from other writers in
    MNIST, and because the judge learned from them.
    """
    generator = torch_generator(seed, Purpose.DATA)
    chosen = torch.randperm(len(train), generator=generator)[:count].sort().values
    return compare(real, judge.look_at(train, chosen)[0], seed)


def _of_samples(
    saved: SavedModel,
    dataset: Dataset,
    images: Images,
    judge: Judge,
    samples: int,
    seed: int,
    metrics: dict[str, Any],
    notes: list[str],
    tell: Progress,
) -> dict[str, float]:
    """Draws, and adds to `metrics` and `notes` what the judge makes of it; returns the share of each class."""
    fake, logits, labels = _draw(saved, judge, samples, seed, tell)
    tell("held-out images", 0.0)
    real = judge.look_at(images)[0]
    tell("precision and recall", 0.0)
    metrics |= compare(real, fake, seed)
    tell("the floor: training images in place of samples", 0.0)
    metrics |= {f"floor_{name}": value for name, value in floor(judge, dataset.train, real, samples, seed).items()}
    balance = class_balance(logits)
    metrics |= {
        "class_deviation": balance.deviation,
        "class_entropy_nats": balance.entropy,
        "confident_share": balance.confident,
    }
    if labels is not None:
        metrics["label_accuracy"] = float((logits.argmax(1) == labels).double().mean())
    fewest = min(len(real), len(fake), len(dataset.train))
    if fewest < 10 * real.shape[1]:
        notes.append(f"FID from as few as {fewest:,} images comes out too high: compare it with its floor only")
    right = judge.accuracy.get("validation", 0.0)
    if right < DOUBTFUL:
        notes.append(f"the judge names only {right:.1%} of the validation images rightly: its word is doubtful")
    return dict(zip(dataset.spec.classes, balance.shares, strict=True))


def _draw(
    saved: SavedModel, judge: Judge, samples: int, seed: int, tell: Progress
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features, logits and, where the model takes labels, the labels that were asked for (equally many of each).

    No image is kept: what the judge sees of `samples` images is small.
    """
    generator = torch_generator(seed, Purpose.SAMPLING)
    labels = torch.arange(samples) % judge.classes if "labels" in saved.model.abilities else None
    seen = []
    for start in range(0, samples, BATCH):
        tell("drawing samples", start / samples)
        count = min(BATCH, samples - start)
        drawn = saved.model.sample(count, generator, None if labels is None else labels[start : start + count])
        seen.append(judge.look(saved.scaling.to_pixels(drawn)))
    return torch.cat([features for features, _ in seen]), torch.cat([logits for _, logits in seen]), labels


def _of_codes(
    saved: SavedModel,
    dataset: Dataset,
    images: Images,
    seed: int,
    metrics: dict[str, Any],
    notes: list[str],
    tell: Progress,
) -> None:
    if "encode" not in saved.model.abilities or dataset.train.labels is None or dataset.validation.labels is None:
        return
    tell("linear classifier on the codes", 0.0)
    generator = torch.Generator().manual_seed(derived_seed(seed, Purpose.DATA))
    chosen = torch.randperm(len(dataset.train), generator=generator)[:LARGEST].sort().values
    try:
        pairs = [
            (_batches(saved, saved.model.encode, part, indices), part.labels[indices])
            for part, indices in (
                (dataset.train, chosen),
                (dataset.validation, torch.arange(len(dataset.validation))),
                (images, torch.arange(len(images))),
            )
            if part.labels is not None
        ]
        metrics["probe_accuracy"] = linear_probe(pairs[0], pairs[1], pairs[2], seed=seed).accuracy
    except ConfigError as error:
        notes.append(f"no linear classifier on the codes: {error}")


def _of_classes(saved: SavedModel, images: Images, metrics: dict[str, Any], notes: list[str]) -> None:
    if "classify" not in saved.model.abilities or images.labels is None:
        return
    try:
        logits = _batches(saved, saved.model.classify, images, torch.arange(len(images)))
    except ConfigError as error:
        notes.append(f"no classification error: {error}")
        return
    metrics["classification_error"] = float((logits.argmax(1) != images.labels).double().mean())


@torch.no_grad()
def _batches(saved: SavedModel, look: Callable[[Tensor], Tensor], images: Images, indices: Tensor) -> Tensor:
    """What `look` makes of the scaled images at `indices`, [N, ...] on the CPU."""
    device = saved.model.device
    return torch.cat([look(images.scaled(part).to(device)).cpu() for part in indices.split(BATCH)])


def _plain(value: Any) -> float | None:
    """A number as JSON holds it."""
    number = float(value)
    return number if math.isfinite(number) else None
