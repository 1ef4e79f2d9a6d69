"""Pictures of a run in its folder: samples from the same random numbers all along, and reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aprendiz.errors import ConfigError
from aprendiz.time_share import TimeShare
from generative.core import GenerativeModel, Purpose, torch_generator
from generative.grid import make_grid, png, write

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset
    from aprendiz.run import Run


class Pictures:
    """Draws `samples/images-<n>.png` and, of models that reconstruct, `samples/reconstructions-<n>.png`."""

    def __init__(self, run: Run, model: GenerativeModel, dataset: Dataset, count: int) -> None:
        self.run, self.model, self.dataset, self.count = run, model, dataset, count
        self._share = TimeShare()

    def due(self, training_seconds: float) -> bool:
        """Whether another picture stays within the time that pictures may take. The first one always does."""
        return self._share.due(training_seconds)

    def draw(self, images: int) -> list[Path]:
        """Draws after so many training `images`; returns the files, which go to the tracker as well."""
        if self.count == 0:
            return []
        made = []
        with self._share.measured():
            for name, picture in self._pictures().items():
                path = self.run.samples / f"{name}-{images:012d}.png"
                write(path, png(picture))
                if self.run.tracker is not None:
                    self.run.tracker.image(f"sample/{name}", path, images)
                made.append(path)
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
