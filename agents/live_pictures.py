"""What the page is sent of a moment: pictures, what the agent sees, and what it thinks, in few bytes."""

from __future__ import annotations

import io
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from agents.saved import SavedAgent
    from envs.core import EnvSpec

LOSSLESS_PIXELS = 64_000
"""Pictures of up to so many pixels, as the Atari's, are sent as they are, larger ones as JPEG."""
BINS = 40
"""Of the histogram of a distribution whose values differ from action to action."""
TAIL = 0.005
"""Of a distribution's mass at either end that the histogram's range may leave out."""
RANGE_MOMENTS = 100
"""Bars are scaled to the values of so many last moments, so that they do not jump with every one."""


def encode(picture: NDArray[np.uint8]) -> bytes:
    """A picture [H, W] or [H, W, 3] as PNG, or as JPEG where it is large."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if picture.shape[0] * picture.shape[1] <= LOSSLESS_PIXELS:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def encode_exactly(picture: NDArray[np.uint8]) -> bytes:
    """A picture [H, W] or [H, W, 3] as PNG, whatever its size."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def frames_side_by_side(observation: NDArray[np.uint8], stack: int, read: int) -> NDArray[np.uint8]:
    """The newest `read` frames of [C, H, W], a stack of `stack` frames, as one picture [H, read * W], or
    [H, read * W, 3] in colour; newest right.

    Grey where a frame has one channel; of others three channels are shown, or the first.
    """
    split = np.split(observation, stack)[-read:]  # frames of [C / stack, H, W]
    colours = len(split[0]) in (3, 4)
    return np.concatenate([one[:3].transpose(1, 2, 0) if colours else one[0] for one in split], axis=1)


def saliency_bytes(saliency: NDArray[np.float32]) -> bytes:
    """[H, W] as a PNG in grey: 255 where it is largest; the square root, so that weaker places show, too."""
    largest = float(saliency.max())
    shares = saliency / largest if largest > 0.0 else np.zeros_like(saliency)
    return encode_exactly(np.rint(255.0 * np.sqrt(np.clip(shares, 0.0, 1.0))).astype(np.uint8))


def finite(value: Any) -> float | None:
    """A number that JSON has, in six digits; None for NaN and infinity."""
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


class Thoughts:
    """Turns what agents think into what the page draws; remembers the range of the last moments."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._ranges: deque[tuple[float, float]] = deque(maxlen=RANGE_MOMENTS)
        self._distribution_ranges: deque[tuple[float, float]] = deque(maxlen=RANGE_MOMENTS)

    def describe(self, thought: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
        """JSON-able, of one game's thought (every array has a leading axis of 1).

        `q` [A], `value` (the greatest of them, or what the agent says), `range` of the last values, and of a
        distribution `histogram`: `low`, `high` and the mass of each of equally wide bins, [A][bins], summing to at most
        1 over a row. `mean` is the continuous action without noise.
        """
        words: dict[str, Any] = {"q": None, "value": None}
        if "q_values" in thought:
            q_values = np.asarray(thought["q_values"][0], np.float64)
            words["q"] = [finite(value) for value in q_values]
            known = q_values[np.isfinite(q_values)]
            if len(known):
                self._ranges.append((float(known.min()), float(known.max())))
                words["value"] = finite(known.max())
        if "value" in thought:
            words["value"] = finite(np.ravel(thought["value"])[0])
        if self._ranges:
            words["range"] = _widest(self._ranges)
        if "probabilities" in thought:
            words["probabilities"] = [finite(value) for value in np.ravel(thought["probabilities"][0])]
        if "mean" in thought:
            words["mean"] = [finite(value) for value in np.ravel(thought["mean"][0])]
        if "distribution" in thought and np.isfinite(thought["distribution"]).all():
            words["histogram"] = self._histogram(np.asarray(thought["distribution"][0], np.float64))
        return words

    def _histogram(self, distribution: NDArray[np.float64]) -> dict[str, Any]:
        """distribution: [A, Z, 2], values and their probabilities."""
        values, mass = distribution[..., 0], distribution[..., 1]
        order = np.argsort(values, axis=1)
        sorted_values, sorted_mass = np.take_along_axis(values, order, 1), np.take_along_axis(mass, order, 1)
        cumulative = sorted_mass.cumsum(axis=1)
        first = sorted_values[np.arange(len(values)), (cumulative > TAIL).argmax(axis=1)]
        last = sorted_values[np.arange(len(values)), (cumulative >= 1.0 - TAIL).argmax(axis=1)]
        self._distribution_ranges.append((float(first.min()), float(last.max())))
        low, high = _widest(self._distribution_ranges)
        if (values == values[0]).all():  # fixed atoms are bins of their own
            atoms = values[0]
            spacing = float(atoms[1] - atoms[0]) if len(atoms) > 1 else 1.0
            shown = (atoms > low - 1.5 * spacing) & (atoms < high + 1.5 * spacing)
            ends = float(atoms[shown][0]) - 0.5 * spacing, float(atoms[shown][-1]) + 0.5 * spacing
            return {"low": finite(ends[0]), "high": finite(ends[1]), "mass": _rounded(mass[:, shown])}
        if high - low < 1e-5 * max(1.0, abs(high)):  # less than the digits that are sent
            low, high = low - 0.5, high + 0.5
        inside = (values >= low) & (values <= high)
        bins = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)
        flat = (bins + BINS * np.arange(len(values))[:, None])[inside]
        counted: Any = np.bincount(flat, weights=mass[inside], minlength=BINS * len(values))
        return {"low": finite(low), "high": finite(high), "mass": _rounded(counted.reshape(-1, BINS))}


def _widest(ranges: deque[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _rounded(mass: NDArray[np.float64]) -> list[list[float]]:
    return np.round(mass, 4).tolist()


def table_words(saved: SavedAgent) -> dict[str, Any] | None:
    """The table of a tabular agent on the map of its environment, JSON-able; None of other agents."""
    from agents.value_table import best_actions, known_states, layout, signs_of

    q: Any = getattr(saved.agent, "q", None)
    if q is None:
        return None
    signs, known = signs_of(saved.spec), known_states(saved.agent)
    best = best_actions(q)
    panels = [
        {
            "title": panel.title,
            "states": panel.states.tolist(),
            "marks": {str(state): mark for state, mark in panel.marks.items()},
            "rows": panel.rows,
            "columns": panel.columns,
        }
        for panel in layout(saved.spec)
    ]
    return {
        "panels": panels,
        "values": [finite(value) for value in q.max(axis=1)],
        "best": ["".join(signs[action] for action in np.flatnonzero(row)) for row in best],
        "known": known.tolist(),
    }
