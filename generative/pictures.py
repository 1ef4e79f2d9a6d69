"""Pictures of a run in its folder: samples from the same random numbers all along, reconstructions, metric curves."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aprendiz.errors import ConfigError
from generative.core import GenerativeModel, Purpose, torch_generator
from generative.grid import make_grid, png, write

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset
    from aprendiz.run import Run

SHARE_OF_TIME = 0.05
"""Pictures on the way may take this part of the time of training; slow models are drawn less often."""
CURVES_A_ROW = 3


class Pictures:
    """Draws `samples/images-<n>.png` and, of models that reconstruct, `samples/reconstructions-<n>.png`."""

    def __init__(self, run: Run, model: GenerativeModel, dataset: Dataset, count: int) -> None:
        self.run, self.model, self.dataset, self.count = run, model, dataset, count
        self._last_seconds = self._seconds = 0.0

    def due(self, training_seconds: float) -> bool:
        """Whether another picture stays within the time that pictures may take. The first one always does."""
        return self._seconds + self._last_seconds <= SHARE_OF_TIME * training_seconds or self._seconds == 0.0

    def draw(self, images: int) -> list[Path]:
        """Draws after so many training `images`; returns the files, which go to the tracker as well."""
        if self.count == 0:
            return []
        started = time.perf_counter()
        made = []
        for name, picture in self._pictures().items():
            path = self.run.samples / f"{name}-{images:012d}.png"
            write(path, png(picture))
            if self.run.tracker is not None:
                self.run.tracker.image(f"sample/{name}", path, images)
            made.append(path)
        self._last_seconds = time.perf_counter() - started
        self._seconds += self._last_seconds
        return made

    def _pictures(self) -> dict[str, Any]:
        model, dataset = self.model, self.dataset
        pictures = {}
        labels, columns = class_columns(model, dataset.spec.classes, self.count)
        try:
            samples = model.sample(self.count, torch_generator(self.run.seed, Purpose.SAMPLING), labels)
            pictures["images"] = make_grid(dataset.scaling.to_pixels(samples), columns=columns)
        except ConfigError:  # a model of a third party that only encodes
            pass
        count = min(self.count, len(dataset.validation))
        if "reconstruct" in model.abilities and count:
            originals = dataset.validation.scaled(slice(0, count))
            with torch.no_grad():
                back = model.reconstruct(originals.to(model.device)).cpu()
            pairs = torch.stack([originals, back], dim=1).flatten(0, 1)  # [2 * count, C, H, W]
            columns = 2 * max(1, round((count / 2) ** 0.5))  # original and reconstruction side by side
            pictures["reconstructions"] = make_grid(dataset.scaling.to_pixels(pairs), columns=columns)
        return pictures


def class_columns(
    model: GenerativeModel, classes: tuple[str, ...], count: int
) -> tuple[torch.Tensor | None, int | None]:
    """Labels int64 [count] that give each class a column of the grid, and the number of columns; None and None of
    models that take no labels."""
    if "labels" not in model.abilities or not classes:
        return None, None
    return torch.arange(count) % len(classes), len(classes)


def curves(run: Run) -> bytes | None:
    """A PNG of every metric of training and validation over the images seen; None where nothing was logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in run.metrics():
        for name, value in line.items():
            shown = name.startswith(("train/", "eval/")) and name not in ("train/updates", "train/epoch")
            if shown and isinstance(value, (int, float)):
                steps, values = series.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(float(value))
    if not series:
        return None
    rows = -(-len(series) // CURVES_A_ROW)
    figure = Figure(figsize=(4.0 * CURVES_A_ROW, 2.6 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, CURVES_A_ROW, squeeze=False).flatten()
    for panel, (name, (steps, values)) in zip(panels, sorted(series.items()), strict=False):
        panel.plot(steps, values, marker="." if len(steps) < 50 else "", linewidth=1.0)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
        panel.set_xlabel("training images", fontsize=7)
    for panel in panels[len(series) :]:
        panel.set_axis_off()
    figure.suptitle(run.name, fontsize=9)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def summary_of(metrics: Mapping[str, float]) -> str:
    """`score 0.93, reconstruction_error 4.1`"""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
