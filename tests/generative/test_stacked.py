"""Stacked denoising autoencoder: greedy layers, fine-tuning, resuming, and a fair comparison."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from aprendiz.data import load
from aprendiz.data.build import finish, from_arrays
from aprendiz.errors import ConfigError
from generative import fine_tuning
from generative.fine_tuning import Classifier, StagedConfig, bound_norms, dropped, initialize
from generative.stacked import StackedAutoencoder, StackedConfig
from generative.stacked_layers import distance
from tests.generative.staged_checks import copies, generator, resumed_exactly, same, train


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def config_of(**options) -> StackedConfig:
    small = {"hidden": (24, 12), "batch_size": 50, "fine_tune_batch_size": 50}
    return StackedConfig(**(small | options))


EAGER = {"fine_tune_batch_size": 20, "fine_tune_learning_rate": 3e-3, "ema_decay": 0.99, "input_dropout": 0.0}
"""For runs of seconds."""


def made(config: StackedConfig, data, budget: int = 4_000, seed: int = 1):
    config = StackedAutoencoder.resolve(config, data.spec, train_images=len(data.train), budget_images=budget)
    model = StackedAutoencoder(config, data.spec, seed=seed)
    return model, model.make_source(data, seed=seed)


def test_while_a_layer_learns_the_others_do_not_change(digits) -> None:
    model, source = made(config_of(pretrain_images=500, fine_tune_images=500), digits)
    parts = [*model.encoders, *model.decoders]
    for layer in range(2):
        before = [copies(part) for part in parts]
        train(model, source, 500)
        changed = [not same(old, copies(part)) for old, part in zip(before, parts, strict=True)]
        assert changed == [layer == 0, layer == 1] * 2


def test_a_layer_learns_from_the_clean_code_of_the_one_below(digits) -> None:
    """What is spoilt is the input of the layer, not that of the layers below it."""
    model, source = made(config_of(noise_level=0.9, code_noise_level=0.0), digits)
    train(model, source, 1_000)
    images = digits.train.scaled(slice(0, 20))
    model._begin("layer-2")
    with torch.no_grad():
        code = model.encoders[0](images)
        raw = model.decoders[1](model.encoders[1](code))
        assert float(model._layer_loss(1, images)) == pytest.approx(float(distance("relu", raw, code)), rel=1e-6)


def test_the_first_layer_sees_noise_and_is_compared_with_the_clean_image(digits) -> None:
    model, _ = made(config_of(noise_level=0.5), digits)
    model._begin("layer-1")
    images = digits.train.scaled(slice(0, 20))
    model.generator.manual_seed(3)
    loss = float(model._layer_loss(0, images).detach())
    from generative.noise import mask

    spoilt = mask(images, 0.5, generator(3))
    with torch.no_grad():
        raw = model.decoders[0](model.encoders[0](spoilt))
    assert loss == pytest.approx(float(distance("sigmoid", raw, images.flatten(1))), rel=1e-6)
    assert loss != pytest.approx(float(distance("sigmoid", raw, spoilt.flatten(1))), rel=1e-3)


def test_each_stage_starts_with_a_fresh_optimiser(digits) -> None:
    model, source = made(config_of(pretrain_images=500, fine_tune_images=500), digits)
    train(model, source, 500)
    assert model.optimizer is not None
    first, steps = model.optimizer, [int(state["step"]) for state in model.optimizer.optimizer.state.values()]
    assert set(steps) == {10}
    train(model, source, 50)
    assert model.optimizer is not first
    assert {int(state["step"]) for state in model.optimizer.optimizer.state.values()} == {1}
    assert model.optimizer.seen == 50


def test_the_loss_is_summed_over_pixels_and_averaged_over_images() -> None:
    raw, clean = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    assert float(distance("sigmoid", raw, clean)) == pytest.approx(3 * np.log(2))
    assert float(distance("linear", raw, clean)) == pytest.approx(3 * 0.5 * 0.25)
    assert float(distance("tanh", torch.full((2, 3), 100.0), clean)) == pytest.approx(3 * 0.5 * 0.25)


def test_fine_tuning_for_reconstruction_trains_all_layers_and_lowers_the_error(digits) -> None:
    model, source = made(config_of(pretrain_share=0.5), digits, 20_000)
    train(model, source, 10_000)
    before, error = (
        [copies(part) for part in (*model.encoders, *model.decoders)],
        model.validate(digits.validation, generator())["reconstruction_error"],
    )
    train(model, source, 10_000)
    after = [*model.encoders, *model.decoders]
    assert not any(same(old, copies(part)) for old, part in zip(before, after, strict=True))
    result = model.validate(digits.validation, generator())
    assert result["reconstruction_error"] < 0.9 * error
    assert result["score"] == -result["reconstruction_error"]


def test_it_learns_to_classify_and_still_reconstructs(digits) -> None:
    model, source = made(config_of(fine_tune="classify", hidden=(64, 32), dropout=0.1, **EAGER), digits, 40_000)
    train(model, source, 20_000)
    before = model.validate(digits.validation, generator())
    assert before["score"] == -before["reconstruction_error"] < 0.0
    train(model, source, 20_000)
    after = model.validate(digits.validation, generator())
    assert after["score"] == after["accuracy"] > 0.93
    assert after["reconstruction_error"] == before["reconstruction_error"]
    assert model.classify(digits.test.scaled(slice(0, 5))).shape == (5, 10)
    assert model.sample(3, generator()).shape == (3, 1, 8, 8)


def test_the_classifier_starts_from_the_pre_trained_layers(digits) -> None:
    model, source = made(config_of(fine_tune="classify", fine_tune_learning_rate=1e-12), digits, 4_000)
    train(model, source, 4_000)
    assert model.tuned is not None
    for layer, pretrained in zip(model.tuned.network.layers, model.encoders, strict=True):
        for tuned, before in zip(layer.parameters(), pretrained.parameters(), strict=True):
            torch.testing.assert_close(tuned, before)


def test_it_is_the_average_of_the_weights_that_classifies(digits) -> None:
    model, source = made(config_of(fine_tune="classify", pretrain=False, fine_tune_images=500), digits, 500)
    train(model, source, 500)
    assert model.tuned is not None and model.tuned.average is not None
    images = digits.test.scaled(slice(0, 20))
    with torch.no_grad():
        of_average, of_last = (network.eval()(images) for network in (model.tuned.average.network, model.tuned.network))
    assert torch.equal(model.classify(images), of_average)
    assert not torch.allclose(of_average, of_last)


def test_random_initialisation_is_the_very_same_network(digits) -> None:
    """Same sizes and same first weights; pre-training is the only difference."""
    options = {"fine_tune": "classify", "pretrain_images": 500, "fine_tune_images": 500}
    pretrained, _ = made(config_of(**options), digits)
    random, source = made(config_of(**options | {"pretrain": False}), digits)
    assert pretrained.tuned is not None and random.tuned is not None
    assert same(copies(pretrained.tuned.network), copies(random.tuned.network))
    before = copies(random.encoders)
    first = source.next().batch
    assert first is not None and first.stage == "fine-tune"
    random.tuned.start_from(random.encoders)
    assert same(copies(random.tuned.network), copies(pretrained.tuned.network))
    random.update(first)
    assert same(before, copies(random.encoders))


def test_both_arms_fine_tune_on_the_same_batches(digits) -> None:
    options = {"fine_tune": "classify", "labels": 20, "pretrain_images": 300, "fine_tune_images": 500}
    _, with_layers = made(config_of(**options), digits)
    _, without = made(config_of(**options | {"pretrain": False}), digits)
    seen = 0
    while seen < 600:
        seen += with_layers.next(600 - seen).units
    for _ in range(3):
        left, right = with_layers.next().batch, without.next().batch
        assert left is not None and right is not None
        assert torch.equal(left.images, right.images)


def test_few_labels_pre_train_on_all_images(digits) -> None:
    model, source = made(config_of(fine_tune="classify", labels=30, pretrain_images=1_400), digits)
    assert [stage.labelled for stage in source.stages] == [None, None, 30]
    counts = np.zeros(10)
    train(model, source, 2_800)
    assert len(source._source.images) == len(digits.train)
    for _ in range(1):
        batch = source.next().batch
        counts += np.bincount(batch.labels, minlength=10)
    assert counts.tolist() == [3.0] * 10


@pytest.mark.parametrize("fine_tune", ["reconstruct", "classify"])
@pytest.mark.parametrize("until", [300, 500, 700, 1_000, 1_350])
def test_resuming_in_the_middle_of_any_stage_is_exact(digits, fine_tune: str, until: int) -> None:
    config = config_of(fine_tune=fine_tune, pretrain_images=500, fine_tune_images=600, max_norm=2.0, input_noise=0.1)
    whole, again = resumed_exactly(lambda: made(config, digits), until, 1_600)
    if whole.tuned is not None:
        images = digits.test.scaled(slice(0, 9))
        assert torch.equal(whole.classify(images), again.classify(images))


def test_samples_come_from_the_generator_alone(digits) -> None:
    model, source = made(config_of(), digits)
    train(model, source, 4_000)
    assert torch.equal(model.sample(3, generator(1)), model.sample(3, generator(1)))
    assert not torch.equal(model.sample(3, generator(1)), model.sample(3, generator(2)))


def test_another_backbone_reads_the_images(digits) -> None:
    model, source = made(config_of(backbone="conv-encoder", fine_tune="classify", dropout=0.1, **EAGER), digits, 10_000)
    train(model, source, 10_000)
    assert model.validate(digits.validation, generator())["accuracy"] > 0.5
    assert model.encode(digits.test.scaled(slice(0, 3))).shape == (3, 12)


class Plain(nn.Module):
    """A backbone of a third party."""

    def __init__(self, observation_space: Box) -> None:
        super().__init__()
        self.features = 7
        self.dense = nn.Linear(int(np.prod(observation_space.shape)), 7)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.dense(observation.flatten(1))


def test_a_backbone_of_a_third_party_reads_the_images(digits) -> None:
    model, source = made(config_of(backbone=f"{__name__}:Plain"), digits)
    train(model, source, 4_000)
    assert model.reconstruct(digits.test.scaled(slice(0, 3))).shape == (3, 1, 8, 8)
    assert model.filters().shape == (7, 1, 8, 8)


def test_images_outside_the_unit_interval_are_reconstructed_by_squared_error() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 5, 6, 3), np.uint8).transpose(0, 3, 1, 2)
    data = finish(from_arrays("colour", pixels), scaling="standard")
    model, source = made(config_of(), data, 2_000)
    train(model, source, 2_000)
    assert float(model.sample(20, generator()).min()) < 0.0
    assert model.sample(2, generator()).shape == (2, 3, 5, 6)
    with pytest.raises(ConfigError, match="no labels"):
        made(config_of(fine_tune="classify"), data)
    with pytest.raises(ConfigError, match="cannot classify"):
        model.classify(data.test.scaled(slice(0, 1)))


def test_too_few_labels_are_an_error(digits) -> None:
    with pytest.raises(ConfigError, match="at least 10"):
        made(config_of(fine_tune="classify", labels=9), digits)


def test_presets_fit_the_images(digits) -> None:
    assert next(iter(StackedAutoencoder.presets(digits.spec))) == "default"
    unlabelled = dataclasses.replace(digits.spec, classes=())
    assert all(one.fine_tune == "reconstruct" for one in StackedAutoencoder.presets(unlabelled).values())


# What fine-tuning is made of


def test_dropout_keeps_the_mean_and_drops_the_share() -> None:
    values = dropped(torch.ones(200_000), 0.3, generator())
    assert float((values == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(values.mean()) == pytest.approx(1.0, abs=0.01)


def test_noise_and_dropout_are_off_when_it_classifies() -> None:
    network = Classifier([nn.Linear(4, 8)], 8, 3)
    images = torch.rand(5, 4)
    config = StagedConfig(dropout=0.5, input_dropout=0.5, input_noise=0.3)
    assert torch.equal(network(images), network(images))
    assert not torch.equal(network(images, config, generator(1)), network(images, config, generator(2)))


def test_norms_of_incoming_weights_are_bounded() -> None:
    layer = nn.Linear(6, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0] * 6, [0.1] * 6, [0.0] * 6]))
    bound_norms(layer, 2.0)
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.tensor([2.0, 0.1 * 6**0.5, 0.0]))


def test_weights_are_drawn_for_their_activation() -> None:
    layer = nn.Linear(1_000, 500)
    initialize(layer, "relu", generator())
    assert float(layer.weight.detach().std()) == pytest.approx((2 / 1_000) ** 0.5, rel=0.02)
    initialize(layer, "sigmoid", generator())
    assert float(layer.weight.detach().max()) == pytest.approx(4 * (6 / 1_500) ** 0.5, rel=0.01)


def test_the_learning_rate_falls_to_its_final_share() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = fine_tuning.StageOptimizer([([weight], 0.5)], images=100, final_share=0.1)
    shares = []
    for _ in range(6):
        shares.append(optimizer.share)
        optimizer.step((weight * 1.0).sum(), 25)
    assert shares == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1, 0.1])


def test_a_backbone_that_has_an_activation_is_told_it(digits) -> None:
    model, _ = made(config_of(backbone="conv-encoder", activation="sigmoid"), digits)
    assert any(isinstance(module, nn.Sigmoid) for module in model.encoders[0].modules())
    assert model._kind_below(1) == "sigmoid"
    with pytest.raises(ConfigError, match="activation must be relu, sigmoid or tanh"):
        config_of(activation="silu")
