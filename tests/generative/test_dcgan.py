from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.dcgan import DCGAN, DCGANConfig
from generative.gan_losses import real_gradient_penalty

SPEC = ImageSpec(name="images", channels=1, height=8, width=8)
NARROW: Any = {"generator_width": 4, "discriminator_width": 4, "final_learning_rate": 1.0}


def game(**changes: Any) -> DCGAN:
    return DCGAN(DCGANConfig(**NARROW, batch_size=4, **changes), SPEC, seed=1)


def batch(count: int = 4) -> ImageBatch:
    return ImageBatch(torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_the_paper_s_hyperparameters() -> None:
    config = DCGAN.presets(SPEC)["paper"]
    model = DCGAN(config, SPEC, seed=1)
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.param_groups[0]["lr"] == 2e-4
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    assert (config.batch_size, config.latent_dimensions) == (128, 100)
    slopes = [layer.negative_slope for layer in model.discriminator.modules() if isinstance(layer, nn.LeakyReLU)]
    assert slopes and set(slopes) == {0.2}


@pytest.mark.parametrize(("same", "passes"), [(True, 1), (False, 2)])
def test_the_generator_learns_from_the_images_that_were_just_judged_or_from_new_ones(same: bool, passes: int) -> None:
    model = game(same_fakes=same)
    latents: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    model.update(batch())
    assert len(latents) == passes


def test_the_generator_learns_from_the_discriminator_after_its_step() -> None:
    model = game(gradient_penalty=0.0)
    shown: list[Tensor] = []
    model.discriminator.register_forward_hook(lambda _, inputs, output: shown.append(output.detach().clone()))
    model.update(batch())
    _, fake, again = shown
    assert not torch.equal(fake, again)  # the same images, another discriminator


def test_real_and_generated_images_are_never_normalised_together() -> None:
    model = game(discriminator_steps=2, discriminator_norm="batch", gradient_penalty=0.0)
    sizes: list[int] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    model.update(batch(8))
    assert sizes == [4] * 5


def test_the_penalty_comes_once_in_a_period_and_so_many_times_as_large() -> None:
    model = game(gradient_penalty=0.5, penalty_period_updates=3)
    images, losses = batch().images, []
    for _ in range(4):
        losses.append(float(model._penalised(torch.zeros(()), model.discriminator, images).detach()))
        model.average.update(model.generator)
    own = float(real_gradient_penalty(model.discriminator, images).detach())
    assert losses == pytest.approx([3 * 0.5 * own, 0.0, 0.0, 3 * 0.5 * own]) and own > 0


def test_a_penalty_on_a_discriminator_that_sees_neighbours_is_refused() -> None:
    with pytest.raises(ConfigError, match="by itself"):
        DCGANConfig(discriminator_norm="batch")


def test_without_batch_normalisation_a_logit_does_not_depend_on_the_other_images() -> None:
    model, images = game(), batch().images
    assert torch.allclose(model.discriminator(images)[:1], model.discriminator(images[:1]), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generator_width", 0),
        ("discriminator_width", 0),
        ("real_target", 0.5),
        ("gradient_penalty", -0.1),
        ("penalty_period_updates", 0),
    ],
)
def test_impossible_hyperparameters_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        DCGANConfig(**{name: value})
