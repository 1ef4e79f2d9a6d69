"""Patches: windows of images, none of them blank, none of them from another part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aprendiz.data import load
from aprendiz.data.build import finish, from_arrays
from aprendiz.data.core import Dataset
from aprendiz.data.patches import deviation
from aprendiz.errors import ConfigError, DataError


def marked(count: int = 40, side: int = 12) -> Dataset:
    """Images in which every pixel tells which image it belongs to, in channel 0; channel 1 and 2 where it stands."""
    pixels = np.zeros((count, 3, side, side), np.uint8)
    pixels[:, 0] = np.arange(count)[:, None, None] * 6
    pixels[:, 1] = np.arange(side)[:, None] * 20
    pixels[:, 2] = np.arange(side)[None, :] * 20
    return from_arrays("marked", pixels, np.arange(count) % 2, classes=("even", "odd"))


def test_a_patch_is_a_window_of_one_image() -> None:
    data = finish(marked(), patch=5, patches=300, patch_min_deviation=0)
    patches = data.train.pixels(slice(None))
    assert patches.shape == (300, 3, 5, 5) and data.spec.shape == (3, 5, 5)
    assert torch.equal(patches[:, 0], patches[:, 0, :1, :1].expand(-1, 5, 5))
    assert torch.equal(
        patches[:, 1] - patches[:, 1, :1], (torch.arange(5, dtype=torch.uint8) * 20)[None, :, None].expand(300, 5, 5)
    )
    corners = {(int(p[1, 0, 0]) // 20, int(p[2, 0, 0]) // 20) for p in patches}
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(8))


def test_patches_are_cut_after_the_split_so_that_nothing_leaks() -> None:
    data = marked()
    cut = finish(data, patch=4, patches=500, patch_min_deviation=0)
    parts = [set(part.pixels(slice(None))[:, 0, 0, 0].tolist()) for part in (cut.train, cut.validation, cut.test)]
    whole = [set(part.pixels(slice(None))[:, 0, 0, 0].tolist()) for part in (data.train, data.validation, data.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(patches <= images for patches, images in zip(parts, whole, strict=True))


def test_every_image_gives_its_share() -> None:
    cut = finish(marked(), patch=4, patches_per_image=10, patch_min_deviation=0)
    assert set(cut.train.pixels(slice(None))[:, 0, 0, 0].bincount().tolist()) == {0, 10}
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (320, 40, 40)


def test_blank_patches_are_dropped() -> None:
    pixels = np.zeros((50, 20, 20), np.uint8)
    pixels[:, 3:8, 3:8] = 255
    data = from_arrays("dots", pixels)
    kept = finish(data, patch=4, patches=400).train.pixels(slice(None))
    assert len(kept) == 400 and deviation(kept).min() >= 0.1
    unchecked = finish(data, patch=4, patches=400, patch_min_deviation=0).train.pixels(slice(None))
    assert (deviation(unchecked) == 0).mean() > 0.5


def test_images_that_are_blank_give_none_and_others_make_up_for_it() -> None:
    pixels = np.zeros((3_000, 8, 8), np.uint8)
    pixels[::10] = np.random.default_rng(0).integers(0, 256, (300, 8, 8))
    cut = finish(from_arrays("few", pixels), patch=4, patches=2_000)
    assert 1_900 <= len(cut.train) <= 2_000


def test_all_blank_is_an_error_that_names_the_threshold() -> None:
    with pytest.raises(DataError, match="all patches of black are blank.*below 0.1; lower patch_min_deviation"):
        finish(from_arrays("black", np.zeros((20, 8, 8), np.uint8)), patch=4)


def test_positions_are_fixed_by_the_seed_of_the_split() -> None:
    first, again, other = (load("digits", patch=4, split_seed=seed).fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_patches_have_no_labels() -> None:
    cut = load("digits", patch=4)
    assert cut.spec.classes == () and cut.train.labels is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 9}, "patch must be between 1 and 8 pixels, got 9"),
        ({"patch": 0}, "patch must be between 1 and 8"),
        ({"patch": 4, "patches": 0}, "at least 1 patch"),
        ({"patch": 4, "patches_per_image": 0}, "at least 1 patch"),
        ({"patch": 4, "patch_min_deviation": 0.7}, "between 0 .keep all. and 0.5, got 0.7"),
    ],
)
def test_values_that_fit_no_patch_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("digits", **options)


def test_more_patches_than_fit_into_memory_are_refused() -> None:
    with pytest.raises(DataError, match="GB, more than there is room for: lower patches"):
        load("digits", patch=8, patches=10**12)
