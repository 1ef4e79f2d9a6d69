from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.gan import GAN, BackboneDiscriminator, GANConfig, MaxoutDiscriminator, NonSaturatingGAN

SPEC = ImageSpec(name="images", channels=1, height=4, width=4)


def game(model_class: type[GAN] = GAN, **changes: Any) -> GAN:
    config = GANConfig(generator_hidden=(8,), backbone_hidden=(8,), batch_size=4, final_learning_rate=1.0, **changes)
    return model_class(config, SPEC, seed=1)


def batch(count: int = 4) -> ImageBatch:
    return ImageBatch(torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("model_class", "moves"), [(GAN, False), (NonSaturatingGAN, True)])
def test_only_the_non_saturating_generator_learns_from_a_discriminator_that_is_sure(
    model_class: type[GAN], moves: bool
) -> None:
    model = game(model_class)
    with torch.no_grad():
        model.discriminator.logit.bias.fill_(-30.0)
    norm = float(model.update(batch()).metrics["g_gradient_norm"])
    assert (norm > 1e-4) == moves
    assert (norm < 1e-9) != moves


def test_the_published_generator_loss_is_the_logarithm_of_what_the_discriminator_takes_for_generated() -> None:
    torch.testing.assert_close(GAN.generator_loss(torch.zeros(3)), -torch.tensor(2.0).log())
    torch.testing.assert_close(NonSaturatingGAN.generator_loss(torch.zeros(3)), torch.tensor(2.0).log())


def test_the_generator_moves_once_for_k_steps_of_the_discriminator() -> None:
    model = game(discriminator_steps=3)
    steps: list[str] = []
    for name in ("generator", "discriminator"):
        optimizer = getattr(model, f"{name}_optimizer")
        optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
    model.update(batch(12))
    assert steps == ["discriminator"] * 3 + ["generator"]


def test_the_paper_s_game_is_played_with_maxout_dropout_and_momentum() -> None:
    model = GAN(dataclasses.replace(GAN.presets(SPEC)["paper"]), SPEC, seed=1)
    assert isinstance(model.discriminator, MaxoutDiscriminator)
    assert model.discriminator.first.linear.weight.shape == (240 * 5, 16)
    assert isinstance(model.generator_optimizer, torch.optim.SGD)
    assert model.generator_optimizer.param_groups[0]["momentum"] == 0.5
    first, second = (model.discriminator(batch().images) for _ in range(2))
    assert not torch.equal(first, second)  # dropout


def test_the_paper_s_weights_sample_as_they_are() -> None:
    model = GAN(dataclasses.replace(GAN.presets(SPEC)["paper"], batch_size=4), SPEC, seed=1)
    for _ in range(3):
        model.update(batch())
    codes = model.latent(5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.decode(codes), model.generator(codes).detach())


def test_a_history_gives_the_discriminator_half_of_its_generated_images() -> None:
    model = game(history_images=100)
    drawn: list[Tensor] = []
    shown: list[Tensor] = []
    model.generator.register_forward_hook(lambda _, inputs, output: drawn.append(output.detach().clone()))
    model.discriminator.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach().clone()))
    for number in range(3):
        drawn.clear()
        shown.clear()
        model.update(batch())
        ours = drawn[0]  # of the discriminator's step; the second are the generator's
        new = sum(any(torch.equal(image, one) for one in ours) for image in shown[1])
        assert new == (4 if number == 0 else 2)


class Corner(nn.Module):
    """A third party's backbone: the first two rows."""

    features = 8

    def __init__(self, observation_space: Box) -> None:
        super().__init__()
        assert observation_space.shape == (1, 4, 4)
        self.dense = nn.Linear(8, self.features)

    def forward(self, observation: Tensor) -> Tensor:
        return self.dense(observation[:, 0, :2].flatten(1))


def test_any_backbone_can_stand_under_the_discriminator() -> None:
    model = game(backbone=f"{__name__}:Corner")
    assert isinstance(model.discriminator, BackboneDiscriminator)
    assert isinstance(model.discriminator.backbone, Corner)
    before = model.discriminator.backbone.dense.weight.detach().clone()
    model.update(batch())
    assert not torch.equal(model.discriminator.backbone.dense.weight, before)


@pytest.mark.parametrize(("name", "value"), [("generator_hidden", ()), ("backbone_hidden", (0,)), ("momentum", 1.0)])
def test_impossible_hyperparameters_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        GANConfig(**{name: value})


class Wide(nn.Module):
    """Somebody's own backbone, whose layers have the usual option."""

    def __init__(self, observation_space: Box, hidden: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        self.features = hidden[-1]
        self.dense = nn.Linear(16, self.features)

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(images.flatten(1))


class Silent(nn.Module):
    """One that does not say how wide it is."""

    def __init__(self, observation_space: Box) -> None:
        super().__init__()


def test_a_backbone_of_a_third_party_gets_the_options_that_it_has() -> None:
    model = game(backbone=f"{__name__}:Wide")
    assert model.discriminator.logit.in_features == 8
    with pytest.raises(ConfigError, match="features"):
        game(backbone=f"{__name__}:Silent")
