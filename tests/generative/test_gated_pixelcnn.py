"""Gated PixelCNN: gates by hand, causality, no blind spot, exact probabilities, labels, drawing, exact saving."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.data.images import ArrayImages
from aprendiz.errors import ConfigError
from generative.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig, GatedPixelCNNNetwork
from generative.masked import MaskedConv2d, centred, draw, gated, moved_down
from tests.generative.autoregressive_checks import (
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

SMALL: dict[str, Any] = {
    "features": 12,
    "layers": 3,
    "head_features": 12,
    "middle_features": 8,
    "middle_blocks": 2,
    "batch_size": 8,
}
STACKS: list[dict[str, Any]] = [
    {},
    {"middle_features": 0},
    {"middle_features": 0, "residual_vertical": False, "size": 5},
]
NAMES = ["hourglass", "stack", "stack of the paper"]
stacks = pytest.mark.parametrize("stack", STACKS, ids=NAMES)


def make(spec: ImageSpec, *, seed: int = 0, budget: int = 1_000, **changes: Any) -> GatedPixelCNN:
    config = GatedPixelCNNConfig(**{**SMALL, "warmup_images": 0, **changes})
    config = GatedPixelCNN.resolve(config, spec, train_images=100, budget_images=budget)
    return GatedPixelCNN(config, spec, seed=seed)


def labelled(size: int = 8, channels: int = 1, classes: int = 3) -> ImageSpec:
    return image_spec(size, channels, classes=tuple("abcdefghij"[:classes]))


def one_hot(labels: list[int], classes: int = 3) -> Tensor:
    return torch.eye(classes)[labels]


# Causality


def test_the_gate_by_hand() -> None:
    hidden = torch.tensor([0.5, -1.0, 0.0, 2.0]).view(1, 4, 1, 1)
    expected = [math.tanh(0.5) * 0.5, math.tanh(-1.0) / (1.0 + math.exp(-2.0))]
    assert gated(hidden).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3, 4)])
def test_the_gradient_of_the_gate_is_that_of_its_formula(shape: tuple[int, ...]) -> None:
    hidden = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value, gate = hidden.chunk(2, dim=1)
    torch.testing.assert_close(gated(hidden), torch.tanh(value) * torch.sigmoid(gate))
    assert torch.autograd.gradcheck(gated, (hidden,))


def test_moved_down_shows_each_row_the_one_above() -> None:
    rows = torch.arange(1.0, 4.0).view(1, 1, 3, 1)
    assert moved_down(rows).flatten().tolist() == [0.0, 1.0, 2.0]


@stacks
@pytest.mark.parametrize(("channels", "size"), [(1, 7), (3, 4)])
def test_no_logit_depends_on_its_own_or_a_later_number(stack: dict[str, Any], channels: int, size: int) -> None:
    spec = image_spec(size, channels)
    assert_causal(shaken(make(spec, levels=2 if channels == 1 else 3, **stack).network), spec)


@stacks
def test_every_earlier_pixel_is_seen(stack: dict[str, Any]) -> None:
    """No blind spot: of an image that lies within reach, all that came before has a gradient."""
    size = 8 if "middle_features" in stack else 6
    spec = image_spec(size)
    network = shaken(make(spec, **{**stack, "layers": 4, "middle_blocks": 3}).network)
    place = torch.arange(size * size).view(size, size)
    for row, column in [(1, 0), (2, 0), (3, 3), (4, 5), (5, 1), (size - 1, size - 1)]:
        seen = dependence(network, spec, row, column, 0)[0] > 0
        assert (seen == (place < place[row, column])).all(), (row, column)


def test_every_earlier_channel_of_every_earlier_pixel_is_seen() -> None:
    spec = image_spec(5, 3)
    network = shaken(make(spec, levels=3).network)
    place = torch.arange(75).view(5, 5, 3).permute(2, 0, 1)
    for channel, row, column in [(0, 2, 2), (1, 3, 0), (2, 3, 4)]:
        seen = dependence(network, spec, row, column, channel) > 0
        assert (seen == (place < place[channel, row, column])).all(), (channel, row, column)


def test_with_mask_b_in_the_first_layer_a_pixel_sees_itself() -> None:
    spec = image_spec(5)
    network = make(spec).network
    network.first = MaskedConv2d(
        "B", torch.zeros(1, dtype=torch.int64), torch.zeros(12, dtype=torch.int64), 7, rows=False
    )
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(shaken(network), spec)


@pytest.mark.parametrize("layer", ["look", "mix"])
def test_without_the_mask_of_one_layer_colour_sees_later_numbers(layer: str) -> None:
    spec = image_spec(4, 3)
    network = make(spec, levels=3).network
    getattr(network.layers[1], layer).mask = None
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(shaken(network), spec)


@stacks
def test_a_vertical_stack_that_is_not_moved_down_sees_its_own_row(
    stack: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = image_spec(5)
    network = shaken(make(spec, **stack).network)
    monkeypatch.setattr("generative.gated_pixelcnn.moved_down", lambda images: images)
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(network, spec)


def test_an_hourglass_whose_middle_looks_one_row_too_far_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = image_spec(6)
    network = shaken(make(spec).network)
    pad = nn.functional.pad

    def one_row_later(hidden: Tensor, padding: Any) -> Tensor:
        return pad(hidden, (1, 1, 0, 1) if tuple(padding) == (1, 1, 1, 0) and hidden.shape[1] == 12 else padding)

    monkeypatch.setattr("generative.gated_pixelcnn.F.pad", one_row_later)
    network.vertical.before = nn.Identity()
    network.vertical.before.forward = lambda hidden, condition: hidden  # type: ignore[method-assign]
    network.vertical.after = network.vertical.before
    with pytest.raises(AssertionError, match="depends on itself"):
        assert_causal(network, spec)


# Probabilities


@stacks
def test_the_probabilities_of_all_images_sum_to_one(stack: dict[str, Any]) -> None:
    assert_probabilities_sum_to_one(make(image_spec(3), **stack))


def test_the_probabilities_of_all_colour_images_sum_to_one() -> None:
    assert_probabilities_sum_to_one(make(ImageSpec(name="toy", channels=3, height=1, width=2), levels=4))


def test_the_probabilities_of_all_images_with_a_label_sum_to_one() -> None:
    model = make(labelled(3), conditional=True)
    assert_probabilities_sum_to_one(model, one_hot([2]))


# Drawing


@stacks
@pytest.mark.parametrize(("channels", "levels", "size"), [(1, 2, 11), (3, 4, 5)])
def test_drawing_with_caches_gives_the_logits_of_the_whole_network(
    stack: dict[str, Any], channels: int, levels: int, size: int
) -> None:
    """Large enough that the rows above are cut off where nothing below depends on them any more."""
    changes = {**stack, "first_size": 3, "size": 3, "middle_blocks": 1, "layers": 2}
    network = shaken(make(image_spec(size, channels), levels=levels, **changes).network)
    assert network.vertical.reach <= 8
    pixels = torch.randint(levels, (3, channels, size, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(centred(pixels, levels))
    torch.testing.assert_close(logits_while_drawing(network, pixels, levels, None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 5), (7, 4), (6, 9)])
def test_drawing_pictures_that_are_not_square(height: int, width: int) -> None:
    spec = ImageSpec(name="toy", channels=1, height=height, width=width)
    network = shaken(make(spec).network)
    uniform = torch.rand((4, *spec.shape), generator=torch.Generator().manual_seed(0))
    canvas = network.canvas(4, height, width)
    assert torch.equal(draw(canvas, uniform, 2), draw_naively(network, uniform, 2, None))


@stacks
def test_drawing_with_caches_draws_what_naive_drawing_draws(stack: dict[str, Any]) -> None:
    spec = labelled(6)
    network = shaken(make(spec, conditional=True, **stack).network)
    told = one_hot([0, 1, 2, 1])
    uniform = torch.rand((4, *spec.shape), generator=torch.Generator().manual_seed(0))
    canvas = network.canvas(4, 6, 6, told)
    assert torch.equal(draw(canvas, uniform, 2), draw_naively(network, uniform, 2, told))


@stacks
def test_the_reach_of_the_vertical_stack_is_what_it_depends_on(stack: dict[str, Any]) -> None:
    spec = image_spec(14)
    changes = {**stack, "first_size": 3, "size": 3, "layers": 2, "middle_blocks": 1}
    network: GatedPixelCNNNetwork = shaken(make(spec, **changes).network)
    images = torch.randn(8, 1, 14, 14, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for row in (12, 13):
        told = network.vertical(images, None)
        total = sum((above[:, :, row].square().sum() for above in told), torch.zeros(()))
        (gradient,) = torch.autograd.grad(total, images)
        seen = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert row - network.vertical.reach <= int(seen.min())
        assert int(seen.max()) == row


# Labels


def test_a_label_changes_what_is_drawn() -> None:
    """Class 0 is a row of light at the top, class 1 one at the bottom."""
    pixels = torch.zeros(200, 1, 6, 6, dtype=torch.uint8)
    pixels[:100, :, :3], pixels[100:, :, 3:] = 250, 250
    spec = labelled(6, classes=2)
    images = ArrayImages(spec, pixels, torch.arange(200) // 100)
    model = make(spec, conditional=True, learning_rate=1e-2, average_decay=0.9, batch_size=16)
    train(model, images, 60)
    drawn = model.sample(20, torch.Generator().manual_seed(0), torch.arange(20) % 2)
    top, bottom = drawn[:, :, :3].mean(dim=(1, 2, 3)), drawn[:, :, 3:].mean(dim=(1, 2, 3))
    assert ((top > bottom) == (torch.arange(20) % 2 == 0)).float().mean() > 0.9


def test_only_a_conditional_model_takes_labels() -> None:
    spec = labelled()
    assert "labels" not in make(spec).abilities
    assert "labels" in make(spec, conditional=True).abilities
    assert "labels" not in GatedPixelCNN.abilities
    with pytest.raises(ConfigError, match="not trained with labels"):
        make(spec).sample(2, torch.Generator(), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="from 0 to 2"):
        make(spec, conditional=True).sample(2, torch.Generator(), torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="toy has none"):
        make(image_spec(), conditional=True)
    with pytest.raises(ConfigError, match="no labels"):
        make(spec, conditional=True).update(ImageBatch(torch.zeros(2, 1, 8, 8)))


def test_labels_are_drawn_by_the_generator_where_none_are_given() -> None:
    model = make(labelled(4), conditional=True)
    shaken(model.average.network)
    one, same, other = (model.sample(6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_likelihood_without_a_label_sums_over_the_labels() -> None:
    model = make(labelled(4), conditional=True, average_decay=0.0)
    shaken(model.network)
    bits = (torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    each = [model._log_mass(bits.long(), one_hot([label] * 5)).exp() for label in range(3)]
    expected = torch.stack(each).mean(dim=0).log()
    torch.testing.assert_close(model.log_likelihood(bits, torch.Generator()), expected)


def test_a_conditional_model_reports_nats_with_and_without_the_label() -> None:
    spec = labelled()
    images = ArrayImages(spec, strokes(30), torch.arange(30) % 3)
    model = make(spec, conditional=True)
    shaken(model.average.network)
    learning = model.validate(images, torch.Generator().manual_seed(0))
    assert learning["score"] == -learning["nats_given_label"]
    metrics = model.evaluate(None, images, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert metrics["nats_given_label"] == pytest.approx(learning["nats_given_label"])
    pixels = model._pixels(images.scaled(slice(None)), torch.Generator().manual_seed(0))
    expected = -float(model.log_likelihood(pixels.float(), torch.Generator()).mean())
    assert metrics["nats"] == pytest.approx(expected, rel=1e-5)


# Learning


@stacks
def test_it_learns_more_than_each_pixel_on_its_own_could_tell(stack: dict[str, Any]) -> None:
    learned, held_out = digits()
    model = make(learned.spec, batch_size=32, learning_rate=1e-2, average_decay=0.95, budget=4_000, **stack)
    train(model, learned, 120)
    independent = independent_nats(learned.scaled(slice(None)), held_out.scaled(slice(None)))
    nats = model.validate(held_out, torch.Generator().manual_seed(0))["nats"]
    assert nats < independent - 1.0, (nats, independent)


@pytest.mark.parametrize("conditional", [False, True])
def test_training_goes_on_exactly_where_it_was_saved(tmp_path: Path, conditional: bool) -> None:
    spec = labelled()
    images = ArrayImages(spec, strokes(100), torch.arange(100) % 3)
    changes: dict[str, Any] = {"conditional": conditional, "budget": 70, "warmup_images": 20}
    assert_resumes_exactly(lambda seed: make(spec, seed=seed, **changes), images, tmp_path)


# Speed


@stacks
def test_features_lie_side_by_side_in_memory(stack: dict[str, Any]) -> None:
    for channels in (1, 3):
        spec = image_spec(6, channels)
        assert_features_lie_side_by_side(make(spec, **stack).network, spec)


# Presets and wrong values


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (1, 28), (3, 5), (3, 32)])
def test_every_preset_but_the_paper_s_learns_images_of_any_size(channels: int, size: int) -> None:
    spec = image_spec(size, channels)
    presets = GatedPixelCNN.presets(spec)
    assert next(iter(presets)) == "default"
    for name in ("default", "fast"):
        config = GatedPixelCNN.resolve(presets[name], spec, train_images=10, budget_images=100)
        model = GatedPixelCNN(config, spec, seed=0)
        model.update(ImageBatch(torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0))))
    if size < 10:
        assert model.sample(2, torch.Generator().manual_seed(0)).shape == (2, *spec.shape)


def test_the_paper_s_preset_has_no_hourglass_and_no_vertical_residuals() -> None:
    config = GatedPixelCNN.presets(image_spec())["paper"]
    assert config.middle_features == 0
    assert not config.residual_vertical


def test_wrong_values_are_named() -> None:
    for name, value in itertools.chain(
        (("features", 0), ("layers", 0), ("head_features", 0), ("middle_features", -1), ("middle_blocks", -1)),
        (("first_size", 2), ("size", 4), ("levels", 0)),
    ):
        with pytest.raises(ConfigError, match=f"{name} must .*{value}"):
            dataclasses.replace(GatedPixelCNNConfig(), **{name: value})
