"""Scaling: what models see of a pixel, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aprendiz.data.build import finish, from_arrays
from aprendiz.data.core import ImageSpec
from aprendiz.data.images import ArrayImages, Subset
from aprendiz.data.scaling import KINDS, PER, Scaling
from aprendiz.errors import ConfigError


def images(seed: int = 0, count: int = 50, channels: int = 2) -> ArrayImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, 4, 5), dtype=np.uint8)
    pixels[:, 0] //= 3  # channels and pixels that differ
    pixels[:, :, 0, 0] = 17  # one that never changes
    return ArrayImages(ImageSpec(name="noise", channels=channels, height=4, width=5), pixels)


def test_unit_scaling_divides_by_255_exactly_once() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    scaled = Scaling().to_model(pixels)
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16) / 255)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("kind", KINDS)
def test_what_models_see_leads_back_to_the_pixels(kind: str, per: str) -> None:
    data = images()
    scaling = Scaling(kind, per).fit(data)
    back = scaling.to_pixels(scaling.to_model(data.array))
    assert torch.allclose(back, data.array / 255, atol=1e-6)


@pytest.mark.parametrize("per", PER)
def test_standard_scaling_gives_mean_0_and_deviation_1(per: str) -> None:
    data = images()
    axes = (0, 2, 3) if per == "channel" else (0,)
    scaled = Scaling("standard", per).fit(data).to_model(data.array)
    mean, deviation = scaled.mean(axes), scaled.std(axes, correction=0)
    assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-5)
    if per == "pixel":
        assert torch.equal(deviation[:, 0, 0], torch.zeros(2))  # constant: shifted, not stretched
        deviation[:, 0, 0] = 1
    assert torch.allclose(deviation, torch.ones_like(deviation), atol=1e-4)


@pytest.mark.parametrize("per", PER)
def test_robust_scaling_takes_numpy_s_median_and_quartiles(per: str) -> None:
    data = images(count=51)
    axes = (0, 2, 3) if per == "channel" else 0
    low, median, high = np.percentile(data.array.numpy() / 255, [25, 50, 75], axis=axes, keepdims=True)
    scaling = Scaling("robust", per).fit(data)
    spread = np.where(high - low < 0.02, 1.0, high - low)
    assert np.allclose(scaling.offset, median[0], atol=1e-6)
    assert np.allclose(scaling.spread, spread[0], atol=1e-6)


@pytest.mark.parametrize("per", PER)
def test_min_max_scaling_reaches_0_and_1_and_never_passes_them(per: str) -> None:
    data = images()
    scaling = Scaling("min-max", per).fit(data)
    scaled = scaling.to_model(data.array)
    assert (float(scaled.min()), float(scaled.max())) == (0.0, 1.0)
    unseen = torch.full((1, 2, 4, 5), 255, dtype=torch.uint8)
    assert float(scaling.to_model(unseen).max()) <= 1.0
    assert float(scaling.from_unit(unseen / 255).max()) <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_augmented_images_are_scaled_like_pixels(kind: str) -> None:
    data = images()
    scaling = Scaling(kind, "pixel").fit(data)
    assert torch.allclose(scaling.from_unit(data.array / 255), scaling.to_model(data.array), atol=1e-5)


def test_scaling_is_fitted_on_the_training_images_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    data = finish(from_arrays("noise", pixels), scaling="standard")
    train = data.train.pixels(slice(None)).float() / 255
    assert float(data.scaling.offset) == pytest.approx(float(train.mean()), abs=1e-6)
    assert float(data.scaling.offset) != pytest.approx(float(pixels.mean() / 255), abs=1e-5)


def test_every_part_is_seen_through_the_same_scaling() -> None:
    data = finish(
        from_arrays("noise", np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)), scaling="robust"
    )
    for part in (data.train, data.validation, data.test):
        assert torch.equal(part.scaled([0]), data.scaling.to_model(part.pixels([0])))
        assert not part.spec.unit_interval
    assert data.spec.unit_interval is False


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_scaling_is_the_same(kind: str) -> None:
    data = images()
    scaling = Scaling(kind, "pixel").fit(data)
    again = Scaling.from_state_dict(scaling.state_dict())
    assert torch.equal(again.to_model(data.array), scaling.to_model(data.array))
    assert again.unit_interval == scaling.unit_interval == (kind in ("unit", "min-max"))


def test_a_scaling_of_another_kind_is_not_loaded() -> None:
    with pytest.raises(ConfigError, match="saved scaling is robust per pixel, this one unit per channel"):
        Scaling().load_state_dict(Scaling("robust", "pixel").state_dict())


def test_images_that_are_not_in_memory_are_measured_by_a_sample() -> None:
    whole = images(count=6_000, channels=1)
    sampled = Scaling("standard").fit(Subset(whole, range(6_000)))
    exact = Scaling("standard").fit(whole)
    assert 0 < abs(float(sampled.offset - exact.offset)) < 0.01
    assert torch.equal(Scaling("standard").fit(Subset(whole, range(6_000))).offset, sampled.offset)


def test_an_unknown_kind_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="unknown scaling 'minmax': use unit, min-max, standard, robust"):
        Scaling("minmax")
    with pytest.raises(ConfigError, match="scaling_per is 'image': use channel or pixel"):
        Scaling("standard", "image")
