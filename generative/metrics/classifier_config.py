"""How the classifier is trained through which samples are judged; apart, so that `--help` imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a classifier is trained. The defaults are ours, chosen on validation images of MNIST."""

    epochs: int = 15
    """Passes over the training images, unless `least_updates` asks for more or `most_updates` for fewer."""
    least_updates: int = 800
    """Updates at least, for small data sets."""
    most_updates: int = 8_000
    """Updates at most, for large ones."""
    batch_size: int = 128
    """Images an update, at most a sixteenth of the training images, unless that is below 8."""
    learning_rate: float = 4e-3
    """Peak of the step size of Adam, which rises over the first tenth of the updates and falls to 0 as a cosine."""
    weight_decay: float = 1e-2
    """Decoupled (Loshchilov and Hutter 2019)."""
    dropout: float = 0.2
    """Share of the features that the last layer does not see while learning."""
    average: float = 0.995
    """Decay of the exponential average of the weights, which is what is kept."""
    shift: float = 0.08
    """Largest displacement, as a share of the side; uniform, as are the next two."""
    rotation_degrees: float = 12.0
    """Largest rotation."""
    zoom: float = 0.1
    """Largest change of each side's scale."""
    seed: int = 0
    """Decides the initial weights, the order of the images and their distortions."""

    def __post_init__(self) -> None:
        for name in ("epochs", "least_updates", "most_updates", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "shift", "rotation_degrees", "zoom"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("dropout", "average", "zoom"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    def updates(self, images: int) -> tuple[int, int]:
        """Number of updates, and images in each, for that many training images."""
        batch_size = max(8, min(self.batch_size, images // 16))
        updates = math.ceil(self.epochs * images / batch_size)
        return max(self.least_updates, min(updates, self.most_updates)), batch_size
