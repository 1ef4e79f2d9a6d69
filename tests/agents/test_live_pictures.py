"""What the page is sent of a moment."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.live_pictures import Thoughts, encode, encode_exactly, finite, frames_side_by_side, saliency_bytes

SPEC: Any = None


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def test_small_pictures_arrive_pixel_by_pixel_and_large_ones_nearly():
    small, large = picture(210, 160, 3), np.full((400, 600, 3), 200, np.uint8)
    assert (decoded(encode(small)) == small).all()
    assert np.abs(decoded(encode(large)).astype(int) - large).max() < 4 and len(encode(large)) < 20_000


@pytest.mark.parametrize("shape", [(84, 84), (400, 300), (7, 5, 3)])
def test_what_the_agent_sees_arrives_pixel_by_pixel(shape):
    shown = picture(*shape)
    assert (decoded(encode_exactly(shown)) == shown).all()


def test_stacked_frames_stand_side_by_side_newest_right():
    stack = picture(4, 5, 6)
    side = frames_side_by_side(stack, 4, 4)
    assert side.shape == (5, 24)
    for index in range(4):
        assert (side[:, 6 * index : 6 * index + 6] == stack[index]).all()


def test_of_a_stack_only_the_frames_that_are_read_are_shown():
    stack = picture(4, 5, 6)
    assert (frames_side_by_side(stack, 4, 1) == stack[3]).all()
    assert (frames_side_by_side(stack, 4, 2)[:, :6] == stack[2]).all()


def test_stacks_in_colour_keep_their_colours():
    stack = picture(6, 5, 4)  # two frames of three colours
    side = frames_side_by_side(stack, 2, 2)
    assert side.shape == (5, 8, 3) and (side[:, 4:, 1] == stack[4]).all()


def test_saliency_is_brightest_where_it_is_largest_and_dark_where_there_is_none():
    saliency = np.zeros((5, 5), np.float32)
    saliency[2, 3] = 7.0
    shown = decoded(saliency_bytes(saliency))
    assert shown[2, 3] == 255 and shown.sum() == 255
    assert decoded(saliency_bytes(np.zeros((5, 5), np.float32))).max() == 0


def test_numbers_are_short_and_those_that_json_lacks_are_none():
    assert finite(np.float32(0.1)) == 0.1 and finite(float("nan")) is None and finite(float("inf")) is None


def test_values_that_are_not_finite_harm_nothing():
    words = Thoughts(SPEC).describe({"q_values": np.array([[np.nan, 2.0]], np.float32)})
    assert words["q"] == [None, 2.0] and words["value"] == 2.0
    words = Thoughts(SPEC).describe({"q_values": np.array([[np.nan]], np.float32)})
    assert words["value"] is None and "range" not in words


def test_the_value_is_the_greatest_or_what_the_agent_says():
    assert Thoughts(SPEC).describe({"q_values": np.array([[1.0, 3.0, 2.0]], np.float32)})["value"] == 3.0
    words = Thoughts(SPEC).describe({"value": np.array([5.0]), "probabilities": np.array([[0.25, 0.75]])})
    assert words["value"] == 5.0 and words["q"] is None and words["probabilities"] == [0.25, 0.75]


def test_bars_keep_the_range_of_the_last_moments():
    thoughts = Thoughts(SPEC)
    thoughts.describe({"q_values": np.array([[-4.0, 3.0]], np.float32)})
    assert thoughts.describe({"q_values": np.array([[0.0, 1.0]], np.float32)})["range"] == (-4.0, 3.0)


def test_atoms_keep_their_own_bins_and_those_without_mass_at_the_ends_are_left_out():
    atoms = np.linspace(-10, 10, 51)
    mass = np.zeros((2, 51))
    mass[0, 25:27] = 0.5  # at 0 and 0.4
    mass[1, 30] = 1.0  # at 2
    distribution = np.stack([np.broadcast_to(atoms, (2, 51)), mass], axis=-1)[None]
    shown = Thoughts(SPEC).describe({"q_values": np.zeros((1, 2)), "distribution": distribution})["histogram"]
    bins = np.array(shown["mass"])
    assert bins.sum(axis=1) == pytest.approx([1.0, 1.0])
    centres = np.linspace(shown["low"], shown["high"], 2 * bins.shape[1] + 1)[1::2]
    assert bins @ centres == pytest.approx([0.2, 2.0], abs=1e-5)
    assert shown["low"] > -2.0 and shown["high"] < 4.0


def test_quantiles_are_counted_where_they_lie():
    quantiles = np.stack([np.linspace(0, 1, 200), np.linspace(3, 4, 200)])
    distribution = np.stack([quantiles, np.full((2, 200), 1 / 200)], axis=-1)[None]
    shown = Thoughts(SPEC).describe({"q_values": np.zeros((1, 2)), "distribution": distribution})["histogram"]
    bins = np.array(shown["mass"])
    assert bins.sum(axis=1) == pytest.approx([0.99, 0.99], abs=0.011)
    centres = np.linspace(shown["low"], shown["high"], 2 * bins.shape[1] + 1)[1::2]
    assert (bins @ centres) / bins.sum(axis=1) == pytest.approx([0.5, 3.5], abs=0.05)


def test_a_distribution_that_is_one_number_has_a_range_all_the_same():
    distribution = np.stack([np.full((2, 8), 3.0), np.full((2, 8), 1 / 8)], axis=-1)[None]
    distribution[0, 1, :, 0] = np.linspace(3.0, 3.0, 8) + 1e-12
    shown = Thoughts(SPEC).describe({"q_values": np.zeros((1, 2)), "distribution": distribution})["histogram"]
    assert shown["high"] > shown["low"] and np.sum(shown["mass"]) == pytest.approx(2.0, abs=0.01)
