"""Saliency maps, against functions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from scipy.ndimage import gaussian_filter

from agents import AGENTS
from agents.core import Agent
from agents.saliency import can_gradient, gradient, perturbation


class Watcher(Agent):
    """Values one pixel of the newest frame, and half of another; reads floats as pixels, or not."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def differentiable_values(self, observations):
        at = observations * self.scale
        return torch.stack([at[:, 3, 40, 20] / 255, 0.5 * at[:, 2, 10, 60] / 255 - 9.0], dim=1)

    def inspect(self, observations):
        shown = torch.from_numpy(observations.astype(np.float32))
        return {"q_values": Watcher().differentiable_values(shown).numpy()}


def observation() -> np.ndarray:
    return np.random.default_rng(3).integers(100, 256, (4, 84, 84), dtype=np.uint8)


def test_the_gradient_is_that_of_the_greatest_value_by_each_pixel():
    found = gradient(Watcher(), observation())
    assert found[40, 20] == pytest.approx(1 / 255) and np.count_nonzero(found) == 1


def test_an_agent_that_reads_floats_otherwise_has_no_gradient_to_show():
    assert can_gradient(Watcher(), observation()) and not can_gradient(Watcher(scale=1 / 255), observation())


def test_an_agent_without_differentiable_values_has_none_to_show():
    class Blind(Agent):
        def __init__(self) -> None:
            pass

        def inspect(self, observations):
            return {"q_values": np.zeros((len(observations), 2), np.float32)}

    assert not can_gradient(Blind(), observation())


@pytest.mark.parametrize("name", ["dqn", "c51", "iqn"])
def test_the_gradient_leaves_the_weights_without_one_and_equals_a_small_change(name):
    cls = AGENTS.get(name)
    config = cls.resolve(cls.preset_table["image"]["default"], 1_000)
    agent = cls(config, Box(0, 255, (4, 84, 84), np.uint8), Discrete(3), seed=1)
    shown = observation()
    assert can_gradient(agent, shown)
    found = gradient(agent, shown)
    assert all(parameter.grad is None for parameter in agent.online.parameters())
    at = np.unravel_index(found.argmax(), found.shape)
    floats = torch.from_numpy(shown[None].astype(np.float32))
    with torch.no_grad():
        best = int(agent.differentiable_values(floats)[0].argmax())
        slopes = []
        for channel in range(4):
            darker, brighter = floats.clone(), floats.clone()  # by so much that float32 tells their values apart
            darker[0, channel, at[0], at[1]] -= 2.0
            brighter[0, channel, at[0], at[1]] += 2.0
            low, high = (agent.differentiable_values(changed)[0, best] for changed in (darker, brighter))
            slopes.append(abs(float(high - low)) / 4.0)
    assert max(slopes) == pytest.approx(float(found.max()), rel=0.02)


def test_perturbation_shows_the_place_that_matters_and_no_other():
    shown = np.zeros((4, 84, 84), np.uint8)
    shown[3, 40, 20] = 255  # a dot, on every fifth pixel both ways
    found = perturbation(Watcher().inspect, shown)
    assert np.unravel_index(found.argmax(), found.shape) == (40, 20)
    assert found[:, 60:].max() < 1e-3 * found.max()


def test_perturbation_is_half_the_squared_change_of_the_values():
    shown = np.zeros((1, 84, 84), np.float32)
    shown[0, 40, 20] = 1.0
    found = perturbation(lambda many: {"q_values": many[:, 0, 40, 20][:, None] * np.float32([[3.0, 4.0]])}, shown)
    left = float(gaussian_filter(shown[0], 3.0)[40, 20])  # where the mask is 1 only this much is left of the dot
    assert found[40, 20] == pytest.approx(0.5 * (3.0**2 + 4.0**2) * (1.0 - left) ** 2, rel=1e-4)


def test_large_pictures_have_larger_places_and_not_more_of_them():
    asked = []

    def think(many):
        asked.append(len(many))
        return {"value": many[:, 0, 200, 100].astype(np.float32)}

    shown = np.zeros((1, 420, 336), np.uint8)
    shown[0, 195:206, 95:106] = 255
    found = perturbation(think, shown)
    assert sum(asked) <= 17 * 18 and found.shape == (420, 336)
    assert np.unravel_index(found.argmax(), found.shape) == (200, 100)


def test_nothing_matters_to_an_agent_that_looks_at_nothing():
    found = perturbation(lambda many: {"value": np.ones(len(many), np.float32)}, observation())
    assert found.shape == (84, 84) and found.max() == 0.0
