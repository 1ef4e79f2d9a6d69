"""Augmentation: each change on its own, on images small enough to write the result down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aprendiz.data.augment import Augment, window_matrices
from aprendiz.errors import ConfigError


def changed(images: Tensor, seed: int = 0, **fields: object) -> Tensor:
    return Augment(**fields).apply(images, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def noise(count: int = 64, channels: int = 1, height: int = 7, width: int = 7) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_nothing_is_changed_by_default() -> None:
    assert not Augment().active and not Augment(border="black").active
    assert torch.equal(changed(noise()), noise())


@pytest.mark.parametrize(("field", "axis"), [("flip_horizontal", 3), ("flip_vertical", 2)])
def test_about_half_of_the_images_are_flipped_and_the_others_are_not(field: str, axis: int) -> None:
    images = noise(count=400)
    result = changed(images, **{field: True})
    flipped = torch.tensor([torch.equal(a, b) for a, b in zip(result, images.flip(axis), strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(result, images, strict=True)])
    assert bool((flipped ^ kept).all()) and 150 < int(flipped.sum()) < 250


def test_a_shift_moves_whole_pixels_and_every_distance_occurs() -> None:
    images = torch.zeros(500, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    result = changed(images, shift_pixels=2, border="black")
    assert torch.allclose(result.sum((1, 2, 3)), torch.ones(500), atol=1e-4)
    places = result.flatten(1).argmax(1)
    found = {(int(place) // 9 - 4, int(place) % 9 - 4) for place in places}
    assert found == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_a_shift_to_the_right_and_down_moves_the_picture_there() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    matrix = window_matrices(zero, one, torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), 5, 6)
    image = torch.zeros(1, 1, 5, 6)
    image[0, 0, 1, 1] = 1.0
    grid = torch.nn.functional.affine_grid(matrix, [1, 1, 5, 6], align_corners=False)
    moved = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    assert int(moved.flatten().argmax()) == 3 * 6 + 2


def test_a_quarter_turn_is_counterclockwise_also_in_an_oblong_image() -> None:
    image = torch.zeros(1, 1, 5, 9)
    image[0, 0, 2, 6] = 1.0  # two to the right of the centre
    angle = torch.tensor([math.pi / 2])
    matrix = window_matrices(angle, torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2), 5, 9)
    grid = torch.nn.functional.affine_grid(matrix, [1, 1, 5, 9], align_corners=False)
    turned = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    assert int(turned.flatten().argmax()) == 0 * 9 + 4 and float(turned.max()) == pytest.approx(1.0, abs=1e-4)


def test_a_rotation_stays_within_its_angle() -> None:
    images = torch.zeros(300, 1, 41, 41)
    images[:, :, 20, 36] = 1.0
    places = changed(images, rotation_degrees=30).flatten(1).argmax(1)
    angles = torch.atan2(20.0 - places // 41, places % 41 - 20.0) * 180 / math.pi
    assert float(angles.abs().max()) <= 32 and float(angles.max()) > 24 and float(angles.min()) < -24


def test_a_crop_shows_a_window_at_full_size() -> None:
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    result = changed(ramp, crop=0.5)
    span = result[:, 0, 16, -1] - result[:, 0, 16, 0]
    assert float(span.min()) < 0.55 and float(span.max()) > 0.9 and float(span.max()) <= 1.0
    assert float(result[:, 0, 16, 0].min()) < 0.05 and float(result[:, 0, 16, -1].max()) > 0.95


def test_brightness_adds_and_contrast_stretches_around_the_mean() -> None:
    images = 0.4 + 0.2 * noise(count=300)
    added = changed(images, brightness=0.2) - images
    assert float((added - added.mean((1, 2, 3), keepdim=True)).abs().max()) < 1e-5
    assert -0.2 <= float(added.min()) < -0.15 and 0.15 < float(added.max()) <= 0.2
    stretched = changed(images, contrast=0.5)
    assert torch.allclose(stretched.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-5)
    factor = stretched.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.49 < float(factor.min()) < 0.55 and 1.45 < float(factor.max()) < 1.51


def test_values_stay_between_black_and_white() -> None:
    result = changed(noise(channels=3), brightness=1.0, contrast=1.0, rotation_degrees=180, crop=0.3, shift_pixels=3)
    assert float(result.min()) >= 0.0 and float(result.max()) <= 1.0 and result.shape == (64, 3, 7, 7)


def test_each_image_is_changed_in_its_own_way_and_its_channels_alike() -> None:
    one = noise(count=1).expand(20, 3, 7, 7)
    result = changed(one, rotation_degrees=20, brightness=0.1)
    assert torch.allclose(result[:, 0], result[:, 1])
    assert len({image.numpy().tobytes() for image in result}) == 20


def test_the_generator_alone_decides() -> None:
    settings = {"flip_horizontal": True, "shift_pixels": 2, "crop": 0.8, "rotation_degrees": 15, "contrast": 0.2}
    torch.manual_seed(5)
    first = changed(noise(), seed=3, **settings)
    torch.manual_seed(6)
    assert torch.equal(changed(noise(), seed=3, **settings), first)
    assert not torch.equal(changed(noise(), seed=4, **settings), first)


def test_what_comes_into_view_is_filled_as_told() -> None:
    white = torch.ones(100, 1, 6, 6)
    assert float(changed(white, shift_pixels=3).min()) == pytest.approx(1.0)
    assert float(changed(white, shift_pixels=3, border="black").min()) == pytest.approx(0.0)
    assert float(changed(white, shift_pixels=3, border="mirror").min()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"shift_pixels": -1},
        {"crop": 0.0},
        {"crop": 1.1},
        {"rotation_degrees": 181},
        {"brightness": 2.0},
        {"contrast": -0.1},
        {"border": "red"},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Augment(**fields)  # type: ignore[arg-type]
