"""PixelCNN: masks by hand, causality by gradients, exact probabilities, drawing, learning, exact saving."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.data.images import ArrayImages
from aprendiz.errors import ConfigError
from generative.masked import (
    Head,
    MaskedConv2d,
    bits_per_dimension,
    causal_mask,
    centred,
    channel_groups,
    draw,
    drawn,
    log_mass,
    quantised,
)
from generative.pixelcnn import PixelCNN, PixelCNNConfig
from tests.generative.autoregressive_checks import (
    all_images,
    assert_causal,
    assert_features_lie_side_by_side,
    assert_probabilities_sum_to_one,
    assert_resumes_exactly,
    dependence,
    digits,
    draw_naively,
    image_spec,
    independent_nats,
    logits_while_drawing,
    shaken,
    strokes,
    train,
)

SMALL: dict[str, Any] = {"features": 12, "blocks": 3, "head_features": 12, "batch_size": 8}


def make(spec: ImageSpec, *, seed: int = 0, budget: int = 1_000, **changes: Any) -> PixelCNN:
    config = PixelCNNConfig(**{**SMALL, "warmup_images": 0, **changes})
    config = PixelCNN.resolve(config, spec, train_images=100, budget_images=budget)
    return PixelCNN(config, spec, seed=seed)


# Masks


def test_mask_a_hides_the_pixel_itself_and_mask_b_does_not() -> None:
    one = torch.zeros(1, dtype=torch.int64)
    assert causal_mask("A", one, one, (2, 3))[0, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert causal_mask("B", one, one, (2, 3))[0, 0].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert causal_mask("A", one, one, (1, 3))[0, 0].tolist() == [[1, 1, 0]]
    assert causal_mask("B", one, one, (1, 3))[0, 0].tolist() == [[1, 1, 1]]


def test_at_the_pixel_itself_green_sees_red_and_blue_sees_both() -> None:
    colours = torch.arange(3)
    assert causal_mask("A", colours, colours, (2, 3))[:, :, 1, 1].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert causal_mask("B", colours, colours, (2, 3))[:, :, 1, 1].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_features_are_shared_out_to_the_channels_in_order() -> None:
    assert channel_groups(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_cropped_kernel_gives_what_the_whole_masked_kernel_gives() -> None:
    torch.manual_seed(0)
    layer = MaskedConv2d("B", torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 5)
    whole = torch.zeros(3, 2, 5, 5)
    whole[:, :, :3] = layer.masked_weight()
    hidden = torch.randn(2, 2, 7, 6)
    torch.testing.assert_close(layer(hidden), F.conv2d(hidden, whole, layer.bias, padding=2))


# Causality


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 4), (3, 4)])
def test_no_logit_depends_on_its_own_or_a_later_number(channels: int, levels: int) -> None:
    spec = image_spec(4 if channels == 3 else 5, channels)
    assert_causal(shaken(make(spec, levels=levels).network), spec)


def test_with_mask_b_in_the_first_layer_a_pixel_sees_itself() -> None:
    spec = image_spec(5)
    network = make(spec).network
    network.first = MaskedConv2d("B", torch.zeros(1, dtype=torch.int64), channel_groups(24, 1), 7)
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(shaken(network), spec)


@pytest.mark.parametrize("layer", ["narrow", "look", "widen"])
def test_without_the_mask_of_one_layer_of_one_block_colour_sees_later_numbers(layer: str) -> None:
    spec = image_spec(4, 3)
    network = make(spec, levels=4).network
    getattr(network.blocks[1], layer).mask = None
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(shaken(network), spec)


def test_the_blind_spot_lies_to_the_upper_right_and_nowhere_else() -> None:
    """Stacked masks of 3x3 see one column further right with each row up: what lies beyond that stays unseen."""
    spec = image_spec(9)
    network = shaken(make(spec, blocks=8, first_size=3).network)
    seen = dependence(network, spec, 6, 3, 0)[0] > 0
    for row, column in itertools.product(range(9), range(9)):
        earlier = (row, column) < (6, 3)
        blind = earlier and column - 3 > 6 - row
        assert bool(seen[row, column]) == (earlier and not blind), (row, column)
    assert not seen[5, 5]
    assert seen[5, 4]


# Probabilities


@pytest.mark.parametrize(("levels", "shape"), [(2, (1, 3, 3)), (3, (1, 2, 3)), (2, (3, 2, 2)), (4, (3, 1, 2))])
def test_the_probabilities_of_all_images_sum_to_one(levels: int, shape: tuple[int, int, int]) -> None:
    spec = ImageSpec(name="toy", channels=shape[0], height=shape[1], width=shape[2])
    assert_probabilities_sum_to_one(make(spec, levels=levels))


def test_log_mass_by_hand() -> None:
    bits = torch.tensor([[[[1, 0]]]])
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 1, 1, 1, 2)
    assert float(log_mass(bits, logits)) == pytest.approx(math.log(0.5) + math.log(0.25))
    levels = torch.tensor([[[[2]]]])
    logits = torch.tensor([1.0, 2.0, 5.0]).log().view(1, 1, 3, 1, 1)
    assert float(log_mass(levels, logits)) == pytest.approx(math.log(5 / 8))


def test_log_mass_of_colour_is_the_sum_over_pixels_and_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(4, (2, 3, 2, 2), generator=generator)
    logits = torch.randn(2, 3, 4, 2, 2, generator=generator)
    chosen = torch.log_softmax(logits, dim=2).gather(2, pixels[:, :, None])[:, :, 0]
    torch.testing.assert_close(log_mass(pixels, logits), chosen.sum(dim=(1, 2, 3)))


def test_one_bit_for_each_of_8_pixels_is_one_bit_a_dimension() -> None:
    assert bits_per_dimension(8 * math.log(2.0), 8) == pytest.approx(1.0)


def test_levels_share_the_256_grey_values_equally() -> None:
    grey = torch.arange(256) / 255.0
    for levels in (2, 4, 16, 256):
        assert torch.bincount(quantised(grey, levels)).tolist() == [256 // levels] * levels
    assert quantised(grey, 256).tolist() == list(range(256))
    assert centred(torch.tensor([0, 3]), 4).tolist() == [-1.0, 1.0]


def test_the_likelihood_is_that_of_the_bits_and_not_of_grey_pixels() -> None:
    spec = image_spec(5)
    model = make(spec)
    grey = torch.rand((4, *spec.shape), generator=torch.Generator().manual_seed(0))
    bits = (torch.rand(grey.shape, generator=torch.Generator().manual_seed(3)) < grey).float()
    expected = model.log_likelihood(bits, torch.Generator().manual_seed(9))
    torch.testing.assert_close(model.log_likelihood(grey, torch.Generator().manual_seed(3)), expected)


@pytest.mark.parametrize(("binarisation", "same"), [("dynamic", False), ("static", True), ("thresholded", True)])
def test_only_dynamic_bits_are_drawn_afresh(binarisation: Any, same: bool) -> None:
    spec = image_spec(5)
    model = make(spec, binarisation=binarisation)
    grey = torch.rand((4, *spec.shape), generator=torch.Generator().manual_seed(0))
    one, other = (model.log_likelihood(grey, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.equal(one, other) == same


# Drawing


def test_the_level_drawn_is_the_one_whose_share_holds_the_number() -> None:
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(5, 3)
    assert drawn(logits, torch.tensor([0.0, 0.19, 0.21, 0.51, 0.999])).tolist() == [0, 0, 1, 2, 2]
    assert drawn(torch.tensor([[math.log(3.0)]] * 2), torch.tensor([0.74, 0.76])).tolist() == [1, 0]


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 16), (3, 4)])
def test_drawing_with_caches_gives_the_logits_of_the_whole_network(channels: int, levels: int) -> None:
    spec = image_spec(6, channels)
    network = shaken(make(spec, levels=levels).network)
    pixels = torch.randint(levels, (3, *spec.shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(centred(pixels, levels))
    torch.testing.assert_close(logits_while_drawing(network, pixels, levels, None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 4)])
def test_drawing_with_caches_draws_what_naive_drawing_draws(channels: int, levels: int) -> None:
    spec = image_spec(6, channels)
    network = shaken(make(spec, levels=levels).network)
    uniform = torch.rand((4, *spec.shape), generator=torch.Generator().manual_seed(0))
    canvas = network.canvas(4, spec.height, spec.width)
    assert torch.equal(draw(canvas, uniform, levels), draw_naively(network, uniform, levels, None))


def test_samples_come_as_often_as_the_network_says() -> None:
    """Of 2x2 images there are sixteen: chi-squared of 4,000 samples against their exact probabilities."""
    spec = ImageSpec(name="toy", channels=1, height=2, width=2)
    model = make(spec, average_decay=0.0)
    shaken(model.network)
    pixels = all_images(2, spec.shape)
    expected = 4_000 * model.log_likelihood(pixels.float(), torch.Generator()).exp()
    samples = model.sample(4_000, torch.Generator().manual_seed(5)).long()
    place = (samples.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(dim=1)
    observed = torch.bincount(place, minlength=16)
    assert float(((observed - expected) ** 2 / expected).sum()) < 37.7  # 0.1% of chi-squared with 15 degrees of freedom


def test_drawing_takes_few_operations_for_each_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass through the whole network: the convolutions over images are not used at all."""
    model = make(image_spec(8))
    monkeypatch.setattr(F, "conv2d", None)
    assert model.sample(2, torch.Generator().manual_seed(0)).shape == (2, 1, 8, 8)


DRAW = """
import sys, torch
torch.set_num_threads(1)
from tests.generative.test_pixelcnn import drawn_bytes
sys.stdout.buffer.write(drawn_bytes())
"""


def drawn_bytes() -> bytes:
    model = make(image_spec(7), average_decay=0.0)
    shaken(model.network)
    return model.sample(5, torch.Generator().manual_seed(11)).numpy().tobytes()


def test_another_process_draws_the_same_bytes() -> None:
    root = Path(__file__).parents[2]
    other = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, check=True, cwd=root).stdout
    assert len(other) == 5 * 49 * 4
    assert other == drawn_bytes()


def test_samples_hold_nothing_but_levels() -> None:
    samples = make(image_spec(5, 3), levels=4).sample(6, torch.Generator().manual_seed(0))
    assert samples.shape == (6, 3, 5, 5)
    assert set((samples * 3).flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}


# Learning


def test_it_learns_more_than_each_pixel_on_its_own_could_tell() -> None:
    learned, held_out = digits()
    model = make(
        learned.spec, features=16, blocks=3, batch_size=32, learning_rate=5e-3, average_decay=0.98, budget=8_000
    )
    train(model, learned, 220)
    independent = independent_nats(learned.scaled(slice(None)), held_out.scaled(slice(None)))
    nats = model.validate(held_out, torch.Generator().manual_seed(0))["nats"]
    assert nats < independent - 2.0, (nats, independent)


def test_training_goes_on_exactly_where_it_was_saved(tmp_path: Path) -> None:
    spec = image_spec(8)
    images = ArrayImages(spec, strokes(100))
    assert_resumes_exactly(lambda seed: make(spec, seed=seed, budget=70, warmup_images=20), images, tmp_path)


def test_bfloat16_learns_as_float32_does() -> None:
    spec = image_spec(8)
    images = ArrayImages(spec, strokes(200))
    config = make(spec, features=16).config
    nats = {p: train(PixelCNN(config, spec, seed=0, precision=p), images, 60) for p in ("fp32", "bf16")}
    assert sum(nats["bf16"][-20:]) == pytest.approx(sum(nats["fp32"][-20:]), rel=0.1)


def test_the_average_of_the_weights_is_what_is_evaluated_and_draws() -> None:
    spec = image_spec(5)
    model = make(spec, average_decay=0.9)
    shaken(model.average.network, seed=3)
    bits = torch.ones(2, *spec.shape)
    averaged = model.log_likelihood(bits, torch.Generator())
    with torch.no_grad():
        expected = log_mass(bits.long(), model.average.network(bits))
        assert not torch.allclose(averaged, log_mass(bits.long(), model.network(bits)))
    torch.testing.assert_close(averaged, expected)
    shaken(model.network, seed=4)
    samples = model.sample(8, torch.Generator().manual_seed(0))
    shaken(model.network, seed=5)
    assert torch.equal(samples, model.sample(8, torch.Generator().manual_seed(0)))


def test_the_step_size_rises_stays_and_falls_to_its_end() -> None:
    spec = image_spec()
    config = PixelCNNConfig(
        learning_rate=1.0, batch_size=10, warmup_images=100, constant_share=0.5, final_learning_rate=0.1
    )
    config = PixelCNN.resolve(config, spec, train_images=500, budget_images=1_000)
    assert (config.constant_images, config.decay_images) == (500, 500)
    rates = [config.learning_rate_at(images) for images in (0, 40, 100, 500, 750, 1_000, 5_000)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1, 0.1])
    assert PixelCNN.resolve(config, spec, train_images=500, budget_images=9_000) == config
    for budget, warmup in ((1_000, 50), (1_000_000, 3_200)):
        assert PixelCNN.resolve(PixelCNNConfig(), spec, train_images=9, budget_images=budget).warmup_images == warmup


def test_an_update_takes_the_step_size_of_its_image() -> None:
    spec = image_spec(8)
    model = make(spec, budget=80, constant_share=0.0, learning_rate=1e-2)
    train(model, ArrayImages(spec, strokes(50)), 5)
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * (1 - 32 / 80))


def test_evaluation_states_the_seed_of_its_bits_and_counts_all_images() -> None:
    spec = image_spec(8)
    model, images = make(spec), ArrayImages(spec, strokes(300))
    metrics = model.evaluate(None, images, torch.Generator().manual_seed(17))  # type: ignore[arg-type]
    assert metrics["binarisation_seed"] == 17.0
    assert metrics["score"] == -metrics["nats"]
    generator = torch.Generator().manual_seed(17)
    parts = [model.log_likelihood(images.scaled(part), generator) for part in (slice(0, 250), slice(250, 300))]
    assert metrics["nats"] == pytest.approx(-float(torch.cat(parts).mean()), rel=1e-5)
    assert metrics["bits_per_dimension"] == pytest.approx(metrics["nats"] / (64 * math.log(2.0)))


# Speed


def test_features_lie_side_by_side_in_memory() -> None:
    for channels in (1, 3):
        spec = image_spec(6, channels)
        assert_features_lie_side_by_side(make(spec).network, spec)


# Presets and wrong values


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (1, 28), (3, 5), (3, 32)])
def test_every_preset_but_the_paper_s_learns_images_of_any_size(channels: int, size: int) -> None:
    spec = image_spec(size, channels)
    presets = PixelCNN.presets(spec)
    assert next(iter(presets)) == "default"
    for name in ("default", "fast"):
        config = PixelCNN.resolve(presets[name], spec, train_images=10, budget_images=100)
        model = PixelCNN(config, spec, seed=0)
        model.update(ImageBatch(torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0))))
    if size < 10:
        assert model.sample(2, torch.Generator().manual_seed(0)).shape == (2, *spec.shape)


def test_the_paper_s_preset_is_what_table_1_says() -> None:
    for channels, levels, head in ((1, 2, 32), (3, 256, 1_024)):
        config = PixelCNN.presets(image_spec(channels=channels))["paper"]
        assert (config.levels, config.head_features, config.first_size, config.size) == (levels, head, 7, 3)
        assert config.optimizer == "rmsprop"


def test_wrong_values_are_named() -> None:
    for name, value in (
        ("levels", 1),
        ("levels", 257),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("average_decay", 1.0),
        ("constant_share", 1.5),
        ("warmup_images", -1),
        ("max_gradient_norm", 0.0),
        ("features", 0),
        ("blocks", 0),
        ("first_size", 4),
        ("size", 1),
    ):
        with pytest.raises(ConfigError, match=f"{name} must .*{value}"):
            dataclasses.replace(PixelCNNConfig(), **{name: value})


def test_images_outside_the_unit_interval_and_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="--scaling unit"):
        make(image_spec(unit_interval=False))
    with pytest.raises(ConfigError, match="labels"):
        make(image_spec()).sample(2, torch.Generator(), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigError, match="3 channels"):
        make(image_spec(channels=3), features=2)


def test_the_head_keeps_the_order_of_channels_and_levels() -> None:
    torch.manual_seed(0)
    head = Head(channel_groups(6, 3), 6, 3, 4)
    features = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(head.pointwise()(features[:, :, 1, 2]), head(features)[:, :, :, 1, 2])
