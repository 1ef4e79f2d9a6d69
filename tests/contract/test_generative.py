"""Every registered generative model keeps the contract, and `check_generative_model` finds the mistakes that it is there
to find."""

from __future__ import annotations

import dataclasses
import functools
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import data
from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Work
from aprendiz.testing import check_generative_model
from generative import GENERATIVE

sys.path.insert(0, str(Path(__file__).parents[1] / "generative"))
from linear_autoencoder import LinearAutoencoder  # noqa: E402

BUILTINS = [one.name for one in GENERATIVE.describe_all() if one.distribution == "aprendiz"]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def digits() -> Dataset:
    """Few of the embedded digits, so that evaluating takes no time."""
    whole = data.load("digits")
    pixels, labels = whole.train.pixels(slice(0, 200)), whole.train.labels
    assert labels is not None
    return finished(from_arrays("digits", pixels, labels[:200], classes=whole.spec.classes))


@functools.cache
def random_images(height: int, width: int, channels: int = 1) -> Dataset:
    """Labelled blobs of any size."""
    generator = np.random.default_rng(height)
    rows, columns = np.mgrid[0:height, 0:width]
    centres = generator.uniform(0.2, 0.8, (60, 2)) * (height, width)
    distance = (rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2  # [N, H, W]
    blobs = 255 * np.exp(-distance / (0.1 * height * width))[:, None] * generator.uniform(0.5, 1, (60, channels, 1, 1))
    labels = np.arange(60) % 3
    return finished(from_arrays("blobs", blobs.astype(np.uint8), labels, classes=("a", "b", "c")))


def finished(dataset: Dataset) -> Dataset:
    from aprendiz.data.build import finish

    return finish(dataset)


SMALL = {
    "batch_size": 16,
    "chains": 16,
    "layers": 2,
    "channels": 8,
    "residual_blocks": 1,
    "ais_chains": 20,
    "ais_temperatures": 50,
    "importance_samples": 5,
}
"""Sizes that decide how long a moment of training takes, by the names that they have in configs."""


def small(config: Any) -> Any:
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes = {name: size for name, size in SMALL.items() if type(known.get(name)) is int and known[name] > size}
    return dataclasses.replace(config, **changes)


def check(name: str, dataset: Dataset, images: int = 96) -> None:
    model = GENERATIVE.get(name)
    config = small(model.presets(dataset.spec)["default"])
    check_generative_model(model, dataset, config=config, images=images)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_keeps_the_contract_on_digits(name: str) -> None:
    check(name, digits())


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_keeps_the_contract_on_images_of_the_size_of_mnist(name: str) -> None:
    check(name, random_images(28, 28), images=32)


@pytest.mark.parametrize("name", ["denoising", "conv-autoencoder", "vae", "rbm", "dcgan", "pixelcnn"])
def test_models_keep_the_contract_on_small_oblong_colour_pictures(name: str) -> None:
    check(name, random_images(8, 12, channels=3), images=32)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_has_its_paper_and_one_line(name: str) -> None:
    found = GENERATIVE.describe(name)
    assert found.summary and found.paper
