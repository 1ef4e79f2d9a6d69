from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from aprendiz.data import load
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.conditional_gan import ConditionalGAN

SPEC = ImageSpec(name="images", channels=1, height=8, width=8, classes=("a", "b", "c"))


def game(preset: str = "default", **changes: Any) -> ConditionalGAN:
    config = dataclasses.replace(
        ConditionalGAN.presets(SPEC)[preset],
        batch_size=6,
        generator_width=4,
        discriminator_width=4,
        final_learning_rate=1.0,
        **changes,
    )
    return ConditionalGAN(config, SPEC, seed=1)


def batch(labels: list[int]) -> ImageBatch:
    images = torch.rand(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageBatch(images, torch.tensor(labels))


def seen_by_both(model: ConditionalGAN, one: ImageBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Labels that the generator drew, and that the discriminator was told, pass by pass."""
    drawn: list[Tensor] = []
    told: list[Tensor] = []
    classes = len(SPEC.classes)
    model.generator.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0][:, -classes:].argmax(1)))
    model.discriminator.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1].clone()))
    model.update(one)
    return drawn, told


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_both_players_are_told_the_labels_of_the_real_images(preset: str) -> None:
    labels = [0, 1, 2, 2, 1, 1]
    drawn, told = seen_by_both(game(preset), batch(labels))
    assert len(drawn) == 2 and len(told) == 3
    assert all(torch.equal(one, torch.tensor(labels)) for one in (*drawn, *told))


def test_remembered_images_keep_their_labels() -> None:
    model = game(history_images=30)
    for start in range(3):
        model.update(batch([start] * 6))
    drawn: dict[int, Tensor] = {}
    model.generator.register_forward_hook(
        lambda _, inputs, output: drawn.update({int(inputs[0][0, -3:].argmax()): output.detach().clone()})
    )
    assert model.history is not None
    held = model.history.rows[1][: model.history.size]
    assert sorted(held.unique().tolist()) == [0, 1, 2]
    _, told = seen_by_both(model, batch([0] * 6))
    assert int((told[1] != 0).sum()) > 0  # some of the generated images are older, of other classes
    assert int((told[1] == 0).sum()) >= 3


def test_the_label_decides_the_image_for_one_noise() -> None:
    model = game()
    model.update(batch([0, 1, 2, 0, 1, 2]))
    images = [model.sample(1, torch.Generator().manual_seed(1), torch.tensor([label])) for label in (0, 1, 1)]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[1], images[2])


def test_without_labels_classes_come_as_often_as_they_were_learned_from() -> None:
    model = game()
    model.update(batch([0, 0, 0, 0, 0, 2]))
    codes = model.latent(3_000, torch.Generator().manual_seed(1))
    shares = codes[:, -3:].mean(0)
    torch.testing.assert_close(shares, torch.tensor([5 / 6, 0.0, 1 / 6]), rtol=0, atol=0.03)


def test_a_saved_model_still_knows_how_often_it_learned_each_class() -> None:
    model, other = game(), game()
    model.update(batch([0, 0, 0, 0, 0, 0]))
    other.load_state_dict(model.state_dict())
    codes = [one.latent(50, torch.Generator().manual_seed(1)) for one in (model, other)]
    assert torch.equal(*codes)
    assert codes[1][:, -3].sum() == 50


def test_before_it_has_learned_all_classes_come_equally_often() -> None:
    shares = game().latent(3_000, torch.Generator().manual_seed(1))[:, -3:].mean(0)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), rtol=0, atol=0.03)


def test_labels_that_there_are_not_are_an_error() -> None:
    model = game()
    with pytest.raises(ConfigError, match="between 0 and 2, got 1 to 3"):
        model.sample(2, torch.Generator(), torch.tensor([1, 3]))
    with pytest.raises(ConfigError, match="2 images take 2 labels"):
        model.sample(2, torch.Generator(), torch.tensor([1]))


def test_images_without_labels_are_an_error() -> None:
    spec = dataclasses.replace(SPEC, classes=())
    with pytest.raises(ConfigError, match="has no labels"):
        ConditionalGAN(ConditionalGAN.presets(SPEC)["default"], spec, seed=1)


def test_the_discriminator_s_verdict_depends_on_the_label() -> None:
    model = game()
    with torch.no_grad():
        one, other = (model.discriminator(batch([0] * 6).images, torch.full((6,), label)) for label in (0, 1))
    assert not torch.equal(one, other)


def test_it_draws_the_digit_that_it_is_asked_for() -> None:
    digits = load("digits")
    config = dataclasses.replace(
        ConditionalGAN.presets(digits.spec)["default"],
        generator_width=16,
        discriminator_width=16,
        generator_learning_rate=2e-3,
        discriminator_learning_rate=2e-3,
        final_learning_rate=1.0,
        average_decay=0.98,
    )
    model = ConditionalGAN(config, digits.spec, seed=1)
    source = model.make_source(digits, seed=1)
    for _ in range(200):
        model.update(source.next().batch)
    images, labels = digits.train.scaled(slice(None)), digits.train.labels
    assert labels is not None
    means = torch.stack([images[labels == digit].mean(0) for digit in range(10)]).flatten(1)
    asked = torch.arange(10).repeat_interleave(20)
    samples = model.sample(200, torch.Generator().manual_seed(1), asked).flatten(1)
    nearest = torch.cdist(samples, means).argmin(dim=1)
    assert float((nearest == asked).float().mean()) > 0.8


def test_the_penalty_is_that_of_the_discriminator_that_knows_the_labels() -> None:
    labels = [0, 1, 2, 2, 1, 1]
    drawn, told = seen_by_both(game(discriminator_norm="none", gradient_penalty=0.1), batch(labels))
    assert len(drawn) == 2 and len(told) == 4  # the real images once more
    assert all(torch.equal(one, torch.tensor(labels)) for one in told)
