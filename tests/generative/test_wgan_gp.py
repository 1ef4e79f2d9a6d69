from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import generative.wgan_gp as wgan_gp
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.wgan_gp import WGANGP, WGANGPConfig

SPEC = ImageSpec(name="images", channels=1, height=8, width=8)


def game(**changes: Any) -> WGANGP:
    return WGANGP(
        WGANGPConfig(generator_width=4, discriminator_width=4, batch_size=4, final_learning_rate=1.0, **changes),
        SPEC,
        seed=1,
    )


def batch(count: int = 20) -> ImageBatch:
    return ImageBatch(torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_the_paper_s_hyperparameters() -> None:
    config = WGANGP.presets(SPEC)["paper"]
    model = WGANGP(config, SPEC, seed=1)
    assert (config.penalty_weight, config.discriminator_steps) == (10.0, 5)
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.param_groups[0]["lr"] == 1e-4
        assert optimizer.param_groups[0]["betas"] == (0.0, 0.9)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_what_the_critic_says_of_an_image_does_not_depend_on_the_others(norm: Any) -> None:
    critic = game(critic_norm=norm).discriminator.train()
    images = batch(6).images
    torch.testing.assert_close(critic(images)[:1], critic(images[:1]))
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in critic.modules())


def test_layer_normalisation_is_over_all_of_an_image() -> None:
    critic = game(critic_norm="layer").discriminator
    norms = [layer for layer in critic.modules() if isinstance(layer, nn.GroupNorm)]
    assert norms and {norm.num_groups for norm in norms} == {1}


def test_batch_normalisation_in_the_critic_cannot_be_asked_for_by_accident() -> None:
    assert {field.name: str(field.type) for field in dataclasses.fields(WGANGPConfig)}["critic_norm"] == (
        "Literal['none', 'layer']"
    )


def test_every_sample_of_every_step_has_a_weight_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    interpolate = wgan_gp.interpolate

    def spied(real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
        assert not fake.requires_grad
        seen.append(weights)
        return interpolate(real, fake, weights)

    monkeypatch.setattr(wgan_gp, "interpolate", spied)
    game().update(batch())
    weights = torch.cat(seen)
    assert weights.shape == (20,)
    assert len(weights.unique()) == 20
    assert 0 <= float(weights.min()) < float(weights.max()) < 1


def test_the_loss_is_the_distance_s_negative_and_ten_times_the_penalty() -> None:
    metrics = game().update(batch()).metrics
    expected = 10 * float(metrics["gradient_penalty"]) - float(metrics["distance"])
    assert float(metrics["d_loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["distance"]) == pytest.approx(float(metrics["d_real"]) - float(metrics["d_fake"]), abs=1e-5)


def test_the_penalty_pulls_the_critic_s_slope_towards_1() -> None:
    model = game(penalty_weight=100.0, discriminator_learning_rate=3e-3)
    first = float(model.update(batch()).metrics["gradient_penalty"])
    for _ in range(60):
        last = float(model.update(batch()).metrics["gradient_penalty"])
    assert last < 0.2 * first
    assert last < 0.05


@pytest.mark.parametrize(
    ("name", "value"),
    [("generator_width", 0), ("discriminator_width", 0), ("penalty_weight", -1.0), ("history_images", 5)],
)
def test_impossible_hyperparameters_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        WGANGPConfig(**{name: value})
