"""What must hold of every adversarial game."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aprendiz import checkpoint
from aprendiz.config import from_json, to_json
from aprendiz.data import load
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.adversarial import AdversarialModel, sliced_wasserstein
from generative.conditional_gan import ConditionalGAN
from generative.dcgan import DCGAN
from generative.gan import GAN, NonSaturatingGAN
from generative.wgan_gp import WGANGP

MODELS: list[type[AdversarialModel]] = [GAN, NonSaturatingGAN, ConditionalGAN, DCGAN, WGANGP]
NARROW = {"generator_width": 4, "discriminator_width": 4}
SMALL: dict[type[AdversarialModel], dict[str, Any]] = {
    GAN: {"generator_hidden": (16,), "backbone_hidden": (16,)},
    NonSaturatingGAN: {"generator_hidden": (16,), "backbone_hidden": (16,)},
    ConditionalGAN: NARROW,
    DCGAN: NARROW,
    WGANGP: NARROW,
}
DIGITS = tuple("0123456789")
every_model = pytest.mark.parametrize("model_class", MODELS, ids=lambda cls: cls.__name__)


def spec_of(height: int = 8, width: int = 8, channels: int = 1) -> ImageSpec:
    return ImageSpec(name="images", channels=channels, height=height, width=width, classes=DIGITS)


def small(model_class: type[AdversarialModel], spec: ImageSpec | None = None, seed: int = 1, **changes: Any) -> Any:
    spec = spec or spec_of()
    changes = {**SMALL[model_class], "batch_size": 6, "discriminator_steps": 2, **changes}
    config = dataclasses.replace(model_class.presets(spec)["default"], **changes)
    config = model_class.resolve(config, spec, train_images=1_000, budget_images=10_000)
    return model_class(config, spec, seed=seed)


def batch_of(spec: ImageSpec, count: int = 12, seed: int = 0) -> ImageBatch:
    random = torch.Generator().manual_seed(seed)
    return ImageBatch(torch.rand(count, *spec.shape, generator=random), torch.randint(10, (count,), generator=random))


def learn(model: AdversarialModel, updates: int = 3, first_seed: int = 0) -> None:
    for seed in range(first_seed, first_seed + updates):
        model.update(batch_of(model.spec, seed=seed))


def at_each_step(model: Any, look: Callable[[bool], None]) -> None:
    """Calls `look(is_discriminator)` after each step of either player."""
    step = model._step

    def stepped(optimizer: Any, network: nn.Module, loss: Tensor) -> Tensor:
        norm = step(optimizer, network, loss)
        look(optimizer is model.discriminator_optimizer)
        return norm

    model._step = stepped


def weights_of(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@every_model
def test_a_step_of_the_discriminator_leaves_no_gradient_in_the_generator(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    seen: list[bool] = []

    def look(is_discriminator: bool) -> None:
        if is_discriminator:
            seen.append(all(weight.grad is None for weight in model.generator.parameters()))
        model.generator.zero_grad(set_to_none=True)

    at_each_step(model, look)
    learn(model)
    assert seen == [True] * 6


@every_model
def test_a_step_of_the_generator_leaves_the_discriminator_alone(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    seen: list[bool] = []
    before = weights_of(model.discriminator)

    def look(is_discriminator: bool) -> None:
        nonlocal before
        if not is_discriminator:
            untouched = all(weight.grad is None for weight in model.discriminator.parameters())
            seen.append(untouched and same(before, weights_of(model.discriminator)))
        before = weights_of(model.discriminator)
        model.discriminator.zero_grad(set_to_none=True)

    at_each_step(model, look)
    learn(model)
    assert seen == [True] * 3


@every_model
def test_every_step_of_the_discriminator_has_noise_of_its_own(model_class: type[AdversarialModel]) -> None:
    model = small(model_class, discriminator_steps=3, batch_size=4)
    latents: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0].clone()))
    model.update(batch_of(model.spec))
    rows = torch.cat(latents)
    assert len(latents) == (3 if model_class is DCGAN else 4)
    assert len(rows.unique(dim=0)) == len(rows)


@every_model
def test_every_step_of_the_discriminator_has_images_of_its_own(model_class: type[AdversarialModel]) -> None:
    penalty = {"gradient_penalty": 0.0} if hasattr(model_class.Config, "gradient_penalty") else {}
    model = small(model_class, discriminator_steps=3, batch_size=4, **penalty)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    batch = batch_of(model.spec)
    model.update(batch)
    real = (2 * batch.images - 1 if model.signed else batch.images).unbind()
    shown = [image for images in seen for image in images]
    for image in real:
        assert sum(torch.equal(image, one) for one in shown) == 1


@every_model
def test_what_one_seed_learns_is_the_same_and_what_another_learns_is_not(model_class: type[AdversarialModel]) -> None:
    one, again, other = small(model_class), small(model_class), small(model_class, seed=2)
    for model in (one, again, other):
        learn(model)
    assert same(weights_of(one.generator), weights_of(again.generator))
    assert not same(weights_of(one.generator), weights_of(other.generator))


@every_model
def test_learning_neither_draws_from_nor_seeds_the_global_generator(model_class: type[AdversarialModel]) -> None:
    before = torch.get_rng_state()
    learn(small(model_class, history_images=0 if model_class is WGANGP else 8))
    assert torch.equal(torch.get_rng_state(), before)


@every_model
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_run_that_was_saved_goes_on_exactly(model_class: type[AdversarialModel], preset: str, tmp_path: Path) -> None:
    spec = spec_of()
    changes = dict(SMALL[model_class]) | {"batch_size": 6, "final_learning_rate": 0.1}
    changes |= {} if model_class is WGANGP else {"history_images": 20}
    config = dataclasses.replace(model_class.presets(spec)[preset], **changes)
    config = model_class.resolve(config, spec, train_images=100, budget_images=100)
    one, other = model_class(config, spec, seed=1), model_class(config, spec, seed=2)
    learn(one)
    checkpoint.save(tmp_path / "saved", one.state_dict())
    other.load_state_dict(checkpoint.load(tmp_path / "saved"))
    for model in (one, other):
        learn(model, first_seed=3)
    for name, module in one.modules().items():
        theirs = other.modules()[name].state_dict()
        for key, value in module.state_dict().items():
            assert torch.equal(value, theirs[key]), f"{name}.{key}"
    samples = [model.sample(3, torch.Generator().manual_seed(5)) for model in (one, other)]
    assert torch.equal(*samples)


@every_model
def test_samples_come_from_the_average_of_the_weights(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    learn(model)
    before = model.sample(4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.zero_()
    assert torch.equal(model.sample(4, torch.Generator().manual_seed(1)), before)


@every_model
def test_samples_hang_on_the_generator_alone_and_disturb_no_learning(model_class: type[AdversarialModel]) -> None:
    one, other = small(model_class), small(model_class)
    learn(one)
    learn(other)
    first = one.sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(one.sample(5, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(one.sample(5, torch.Generator().manual_seed(2)), first)
    learn(one, first_seed=3)
    learn(other, first_seed=3)
    assert same(weights_of(one.generator), weights_of(other.generator))


@every_model
def test_a_sample_does_not_depend_on_those_drawn_beside_it(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    learn(model)
    codes = model.latent(300, torch.Generator().manual_seed(1))
    together = model.decode(codes)
    alone = torch.cat([model.decode(codes[i : i + 1]) for i in (0, 7, 299)])
    torch.testing.assert_close(alone, together[[0, 7, 299]], rtol=0, atol=1e-5)


@every_model
@pytest.mark.parametrize(("height", "width", "channels"), [(4, 4, 1), (5, 7, 3), (8, 8, 1), (28, 28, 1), (32, 40, 3)])
def test_images_of_any_size_and_colour(
    model_class: type[AdversarialModel], height: int, width: int, channels: int
) -> None:
    spec = spec_of(height, width, channels)
    model = small(model_class, spec)
    learn(model, 1)
    samples = model.sample(3, torch.Generator().manual_seed(1))
    assert samples.shape == (3, *spec.shape)
    assert samples.dtype == torch.float32 and samples.is_contiguous()
    assert 0 <= float(samples.min()) < float(samples.max()) <= 1


@every_model
def test_real_and_generated_images_reach_the_discriminator_on_one_scale(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    images = torch.cat([torch.zeros(6, 1, 8, 8), torch.ones(6, 1, 8, 8)])
    model.update(ImageBatch(images, torch.zeros(12, dtype=torch.int64)))
    values = torch.cat([one.flatten() for one in seen])
    lowest = -1.0 if model.signed else 0.0
    assert float(values.min()) == lowest and float(values.max()) == 1.0
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight *= 1_000
        drawn = model.generator(torch.randn(20, model.latent(1, torch.Generator()).shape[1]))
    assert float(drawn.min()) == lowest and float(drawn.max()) == 1.0


@every_model
def test_metrics_are_finite_and_wait_for_no_device(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    metrics = model.update(batch_of(model.spec)).metrics
    wanted = {"d_loss", "g_loss", "d_real", "d_fake", "d_gradient_norm", "g_gradient_norm"}
    assert wanted <= set(metrics)
    for name, value in metrics.items():
        assert isinstance(value, Tensor) and value.shape == () and not value.requires_grad, name
        assert bool(torch.isfinite(value)), name


@every_model
def test_narrow_precision_learns_in_float32_weights(model_class: type[AdversarialModel]) -> None:
    spec = spec_of()
    config = dataclasses.replace(model_class.presets(spec)["default"], **SMALL[model_class])
    config = model_class.resolve(config, spec, train_images=100, budget_images=100)
    model = model_class(config, spec, seed=1, precision="bf16")
    learn(model)
    assert {weight.dtype for weight in model.generator.parameters()} == {torch.float32}
    assert model.sample(2, torch.Generator().manual_seed(1)).dtype == torch.float32


@every_model
def test_the_last_image_of_a_budget_is_learned_from_like_any_other(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    model.update(batch_of(model.spec, count=7))
    model.update(batch_of(model.spec, count=1))
    assert model.state_dict()["images"] == 8


@every_model
def test_step_sizes_fall_linearly_over_the_budget(model_class: type[AdversarialModel]) -> None:
    model = small(model_class, final_learning_rate=0.5, learning_rate_images=48)
    rates = []
    for seed in range(6):
        model.update(batch_of(model.spec, seed=seed))  # 12 images each
        rates.append(model.generator_optimizer.param_groups[0]["lr"] / model.config.generator_learning_rate)
    assert rates == pytest.approx([0.875, 0.75, 0.625, 0.5, 0.5, 0.5])


@every_model
def test_no_batch_normalisation_has_an_epsilon_where_a_momentum_was_meant(model_class: type[AdversarialModel]) -> None:
    model = small(model_class)
    norms = [
        module
        for network in (model.generator, model.discriminator)
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    assert norms
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


@every_model
def test_a_scaling_that_the_outputs_cannot_reach_is_an_error(model_class: type[AdversarialModel]) -> None:
    with pytest.raises(ConfigError, match="--scaling unit"):
        small(model_class, dataclasses.replace(spec_of(), unit_interval=False))


@every_model
def test_an_image_too_small_is_an_error(model_class: type[AdversarialModel]) -> None:
    with pytest.raises(ConfigError, match="at least 4x4"):
        small(model_class, spec_of(3, 8))


@every_model
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 1),
        ("discriminator_steps", 0),
        ("latent_dimensions", 0),
        ("generator_learning_rate", 0.0),
        ("adam_beta1", 1.0),
        ("average_decay", 1.0),
        ("final_learning_rate", 2.0),
        ("learning_rate_images", 0),
        ("history_images", -1),
    ],
)
def test_impossible_hyperparameters_are_named(model_class: type[AdversarialModel], name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        model_class.Config(**{name: value})


@every_model
def test_presets_survive_json(model_class: type[AdversarialModel]) -> None:
    for config in model_class.presets(spec_of()).values():
        assert from_json(model_class.Config, to_json(config)) == config


@every_model
def test_a_batch_of_the_source_is_what_k_steps_take(model_class: type[AdversarialModel]) -> None:
    model = small(model_class, batch_size=7, discriminator_steps=3)
    work = model.make_source(load("digits"), seed=1).next()
    assert work.units == len(work.batch.images) == 21


@every_model
def test_without_a_judge_the_score_is_a_distance_in_pixels(model_class: type[AdversarialModel]) -> None:
    digits = load("digits")
    model = small(model_class, digits.spec)
    metrics = model.validate(digits.validation, torch.Generator().manual_seed(1))
    assert metrics["score"] == -metrics["sliced_wasserstein"] < 0


class BrightnessJudge:
    """Sees an image's four quarters."""

    def features(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def logits(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10]


@every_model
def test_with_a_judge_the_score_is_the_negative_of_its_fid(model_class: type[AdversarialModel]) -> None:
    digits = load("digits")
    model = small(model_class, digits.spec)
    judge: Any = BrightnessJudge()
    metrics = model.validate(digits.validation, torch.Generator().manual_seed(1), judge)
    assert metrics["score"] == -metrics["fid"] < 0
    assert model.validate(digits.validation, torch.Generator().manual_seed(1), judge) == metrics


def test_the_sliced_distance_of_equal_sets_is_0_and_of_shifted_ones_grows() -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(200, 1, 4, 4, generator=random)
    assert sliced_wasserstein(images, images[torch.randperm(200, generator=random)], random) < 1e-6
    near, far = (sliced_wasserstein(images, images + shift, torch.Generator().manual_seed(2)) for shift in (0.1, 0.4))
    # A shift by s moves each projection by s times the sum of its direction.
    assert far == pytest.approx(4 * near, rel=1e-4)


def test_the_sliced_distance_of_sets_of_different_sizes_compares_whole_distributions() -> None:
    one, even = torch.zeros(1, 1, 1, 1), torch.linspace(0, 1, 101).view(-1, 1, 1, 1)  # one pixel: one direction
    assert sliced_wasserstein(one, even, torch.Generator()) == pytest.approx(0.5)
    assert sliced_wasserstein(even, one, torch.Generator()) == pytest.approx(0.5)


@every_model
def test_it_learns_what_digits_look_like(model_class: type[AdversarialModel]) -> None:
    digits = load("digits")
    changes: dict[str, Any] = {"batch_size": 64, "discriminator_steps": 1, "average_decay": 0.98}
    rates = {"generator_learning_rate": 2e-3, "discriminator_learning_rate": 2e-3}
    wide: dict[str, Any] = (
        {"generator_hidden": (128, 128), "backbone_hidden": (128, 64)}
        if issubclass(model_class, GAN)
        else {"generator_width": 16, "discriminator_width": 16}
    )
    if model_class is DCGAN:
        wide |= {"discriminator_norm": "batch", "gradient_penalty": 0.0}  # sooner in so few steps; the default: below
    model = small(model_class, digits.spec, **changes, **rates, **wide)
    before = model.validate(digits.validation, torch.Generator().manual_seed(1))["sliced_wasserstein"]
    source = model.make_source(digits, seed=1)
    for _ in range(200):
        model.update(source.next().batch)
    after = model.validate(digits.validation, torch.Generator().manual_seed(1))["sliced_wasserstein"]
    assert after < 0.3 * before
    samples = model.sample(500, torch.Generator().manual_seed(2))
    real = digits.validation.scaled(slice(None))
    assert float(samples.mean()) == pytest.approx(float(real.mean()), abs=0.05)
    assert float((samples.mean(0) - real.mean(0)).abs().mean()) < 0.08
    # Not one image over and over: pixels vary over samples as they do over digits.
    assert float(samples.std(0).mean()) > 0.6 * float(real.std(0).mean())


def test_dcgan_learns_what_digits_look_like_with_its_penalty_too() -> None:
    digits = load("digits")
    changes: dict[str, Any] = {"batch_size": 32, "discriminator_steps": 1, "average_decay": 0.98}
    model = small(DCGAN, digits.spec, **changes, generator_width=16, discriminator_width=16, final_learning_rate=1.0)
    before = model.validate(digits.validation, torch.Generator().manual_seed(1))["sliced_wasserstein"]
    source = model.make_source(digits, seed=1)
    for _ in range(600):
        model.update(source.next().batch)
    after = model.validate(digits.validation, torch.Generator().manual_seed(1))["sliced_wasserstein"]
    assert after < 0.6 * before
