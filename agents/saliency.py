"""Where in a picture an agent's values come from.

    gradient       |d max_a Q(s, a) / d s|: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2014,
                   section 3; of value functions Wang et al. 2016, section 4.2
    perturbation   what blurring a place changes: Greydanus, Koul, Dodge and Fern, "Visualizing and understanding Atari
                   agents", ICML 2018, equations 1 and 2, with the values Q(s, .) where that paper has the policy's
                   logits or the critic's value

Both are pure functions of an observation uint8 or float32 [C, H, W] and give float32 [H, W], 0 or more, unscaled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from agents.core import Agent

MASK_SIGMA = 5.0
"""Pixels: width of the place that is blurred, in pictures of 80 to 84 (Greydanus et al. 2018, section 3.1: 25 squared
under the root)."""
BLUR_SIGMA = 3.0
"""Pixels: how much it is blurred (Greydanus et al. 2018, section 3.1)."""
SPACING = 5
"""Pixels between two places (Greydanus et al. 2018, section 3.1: i mod 5 = j mod 5 = 0)."""


def can_gradient(agent: Agent, observation: NDArray[Any]) -> bool:
    """Whether the agent has a gradient to show: it must read floats as it reads pixels."""
    try:
        with torch.no_grad():
            values = agent.differentiable_values(_floats(agent, observation))[0].cpu().numpy()
    except (NotImplementedError, RuntimeError, TypeError, KeyError):
        return False
    thought = agent.inspect(observation[None])
    known = thought["q_values"][0] if "q_values" in thought else thought["value"][:1]
    # Narrow numbers differ by a hundredth; a wrong scale, 255 times too bright or too dark, by far more.
    return bool(np.allclose(values, known, rtol=0.05, atol=0.05 * float(np.abs(known).max()) + 1e-6))


def gradient(agent: Agent, observation: NDArray[Any]) -> NDArray[np.float32]:
    """[H, W]: the absolute gradient of the greatest value by each pixel, the greatest of its frames or colours."""
    with torch.enable_grad():
        shown = _floats(agent, observation).requires_grad_(True)
        greatest = agent.differentiable_values(shown).max()
        (found,) = torch.autograd.grad(greatest, shown)  # [1, C, H, W]; the weights' own gradients stay as they are
    return found[0].abs().amax(dim=0).float().cpu().numpy()


def perturbation(
    think: Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]], observation: NDArray[Any], spacing: int = SPACING
) -> NDArray[np.float32]:
    """[H, W]: S(i, j) = 1/2 |Q(s) - Q(s blurred around i, j)|^2, in between interpolated.

    spacing: pixels between two places, in pictures of up to 84; the time it takes falls with its square.
    think: observations [K, C, H, W] to what is thought of each, as `Agent.inspect` or `Player.imagine`.
    """
    height, width = observation.shape[1:]
    scale = max(1.0, max(height, width) / 84)  # larger pictures have larger places, not more of them
    spacing, sigma = round(scale * spacing), scale * MASK_SIGMA
    rows, columns = np.arange(0, height, spacing), np.arange(0, width, spacing)
    pixels = observation.astype(np.float32)
    blurred = gaussian_filter(pixels, (0.0, scale * BLUR_SIGMA, scale * BLUR_SIGMA))  # each frame for itself
    down = np.exp(-0.5 * ((np.arange(height)[None] - rows[:, None]) / sigma) ** 2)  # [R, H]
    across = np.exp(-0.5 * ((np.arange(width)[None] - columns[:, None]) / sigma) ** 2)  # [K, W]
    scores = np.empty((len(rows), len(columns)), np.float32)
    for row, of_row in enumerate(down):  # one row of places at a time: all of them together would fill memory
        masks = (of_row[None, :, None] * across[:, None, :])[:, None].astype(np.float32)  # [K, 1, H, W]
        changed = pixels + masks * (blurred - pixels)  # [K, C, H, W]: equation 1
        if observation.dtype == np.uint8:
            changed = np.rint(changed)
        # With the unchanged one among them: in batches of another size the same picture is rounded otherwise.
        values = _values(think(np.concatenate([observation[None], changed.astype(observation.dtype)])))  # [1 + K, A]
        scores[row] = 0.5 * ((values[1:] - values[0]) ** 2).sum(axis=1)  # equation 2
    by_row = np.stack([np.interp(np.arange(width), columns, one) for one in scores])  # [R, W]
    by_column = np.stack([np.interp(np.arange(height), rows, column) for column in by_row.T], axis=1)  # [H, W]
    return by_column.astype(np.float32)


def _values(thought: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """[K, A], or [K, 1] where there is one value for all actions."""
    return thought["q_values"] if "q_values" in thought else thought["value"][:, None]


def _floats(agent: Any, observation: NDArray[Any]) -> torch.Tensor:
    """float32 [1, C, H, W] on the agent's device."""
    device = getattr(agent, "device", torch.device("cpu"))
    return torch.from_numpy(observation[None].astype(np.float32)).to(device)
