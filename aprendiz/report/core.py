"""What a report knows of a run, wherever it was read from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aprendiz.report.series import Metrics

Evaluation = dict[str, Any]


@dataclass(frozen=True)
class Medium:
    """A picture, video or text that a run left behind."""

    kind: str
    """"image", "video" or "text"."""
    path: Path
    step: int | None
    """How far training was; None where the file does not say."""


@dataclass
class RunData:
    """One run. Everything is there to be shown, nothing to be changed."""

    name: str
    kind: str
    """Family: "agents", "generative", "language", or whatever another program calls its own."""
    task: str
    learner: str
    seed: int | None
    config: dict[str, Any]
    metrics: Metrics
    origin: str = "local"
    """"local", "W&B offline" or "W&B"."""
    path: Path | None = None
    """Its folder, where it has one here."""
    command: list[str] = field(default_factory=list)
    state: str = "unknown"
    created: str = ""
    """ISO 8601."""
    device: str = ""
    git_commit: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    wandb_id: str = ""
    wandb_path: str = ""
    """entity/project, where it is known."""
    unit: str = "steps"
    """What a step is: env_steps, images, tokens."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """Of evaluations.json, oldest first."""
    media: list[Medium] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be read, each in a sentence."""

    @property
    def command_line(self) -> str:
        """The words that made it, to be pasted into a shell; empty where nobody wrote them down."""
        if not self.command:
            return ""
        program, words = self.command[0], self.command[1:]
        return " ".join([program, *(shlex.quote(word) for word in words)])

    @property
    def units_per_second(self) -> float | None:
        """Median speed of training; None where it was not logged."""
        import numpy as np

        curve = self.metrics.curves.get("speed/units_per_second")
        if curve is None or np.isnan(curve.value).all():
            return None
        return float(np.nanmedian(curve.value))

    @property
    def memory_mb(self) -> float | None:
        """Highest memory of the process, in MB; None where it was not logged."""
        return self.metrics.peaks.get("speed/memory_mb")


def unit_words(unit: str) -> str:
    """`env_steps` as a reader would say it."""
    return {"env_steps": "environment steps", "images": "training images", "tokens": "training tokens"}.get(
        unit, unit.replace("_", " ")
    )


def natural(names: Sequence[str], most: int = 5) -> str:
    """A few names in a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
