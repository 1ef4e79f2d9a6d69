"""What is corrupted, how much of it, and what is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aprendiz.errors import ConfigError
from generative.noise import check_noise, corrupt


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def grey(count: int = 400) -> Tensor:
    return torch.full((count, 1, 8, 8), 0.6)


def test_masking_sets_the_share_of_pixels_to_zero_and_leaves_the_others() -> None:
    corrupted = corrupt(grey(), "masking", 0.2, generator())
    assert set(corrupted.unique().tolist()) == {0.0, grey(1).unique().item()}
    share = (corrupted == 0).float().mean().item()
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / grey().numel()) ** 0.5


def test_masks_differ_between_images_pixels_and_calls() -> None:
    same = generator()
    first, second = (corrupt(grey(), "masking", 0.5, same) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    shares = (first == 0).float().mean(dim=0)
    assert shares.min() > 0.35 and shares.max() < 0.65


def test_salt_and_pepper_throw_a_fair_coin() -> None:
    corrupted = corrupt(grey(), "salt-and-pepper", 0.3, generator())
    salt, pepper = (corrupted == 1).float().mean().item(), (corrupted == 0).float().mean().item()
    assert salt == pytest.approx(0.15, abs=0.01) and pepper == pytest.approx(0.15, abs=0.01)
    assert (corrupted == 0.6).float().mean().item() == pytest.approx(0.7, abs=0.015)


def test_gaussian_noise_has_the_deviation_and_is_not_cut_off() -> None:
    noise = corrupt(grey(), "gaussian", 0.5, generator()) - 0.6
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01) and noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.max() > 0.4


@pytest.mark.parametrize("kind", ["masking", "salt-and-pepper", "gaussian"])
def test_the_clean_images_stay_clean(kind: str) -> None:
    images = grey()
    corrupt(images, kind, 0.5, generator())  # type: ignore[arg-type]
    assert torch.equal(images, grey())


def test_without_noise_nothing_changes() -> None:
    assert torch.equal(corrupt(grey(), "none", 0.2, generator()), grey())


@pytest.mark.parametrize(
    ("kind", "level", "message"),
    [("masking", 1.0, "share"), ("gaussian", -0.1, "deviation"), ("pink", 0.1, "salt-and-pepper")],
)
def test_noise_that_cannot_be_is_refused(kind: str, level: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_noise(kind, level)
