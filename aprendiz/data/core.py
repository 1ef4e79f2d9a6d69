"""What a data set of images is, whoever made it and however large it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gymnasium.spaces import Box
from torch import Tensor

if TYPE_CHECKING:
    from aprendiz.data.scaling import Scaling


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What a model must know of its images before it sees one; JSON-able by `dataclasses.asdict`."""

    name: str
    """The data set's name, or its folder's."""
    channels: int
    """1 for grey, 3 for colour."""
    height: int
    width: int
    """Pixels."""
    classes: tuple[str, ...] = ()
    """Names of the labels, in their order; empty where there are none."""
    unit_interval: bool = True
    """Whether what models see lies in [0, 1]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width

    @property
    def pixels(self) -> int:
        """Numbers in an image: channels times height times width."""
        return self.channels * self.height * self.width

    @property
    def space(self) -> Box:
        """The space that a backbone is built from: float32 [C, H, W]."""
        low, high = (0.0, 1.0) if self.unit_interval else (-np.inf, np.inf)
        return Box(low, high, self.shape, np.float32)


@dataclass(slots=True)
class ImageBatch:
    """B images, scaled as models see them, on the learner's device."""

    images: Tensor
    """float32 [B, C, H, W]"""
    labels: Tensor | None = None
    """int64 [B], None where the data set has none."""
    stage: str = ""
    """What a model that learns in stages is to do with it; empty for all others."""


class Images(Protocol):
    """A sequence of images that may be larger than memory."""

    spec: ImageSpec
    labels: Tensor | None
    """int64 [N] on the CPU."""
    scaling: Scaling
    """Which `scaled` applies."""

    def __len__(self) -> int: ...

    def pixels(self, indices: Any) -> Tensor:
        """uint8 [B, C, H, W] of the images at `indices` (an int64 tensor or array, or a slice), on the CPU.

        May be called from another thread while training reads ahead.
        """
        ...

    def scaled(self, indices: Any) -> Tensor:
        """float32 [B, C, H, W] as models see them: `pixels`, scaled."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Three parts of one data set, of which the first alone is learned from."""

    spec: ImageSpec
    train: Images
    validation: Images
    """Chooses hyperparameters and checkpoints."""
    test: Images
    """Scored once, at the end."""
    scaling: Scaling
    """Pixels to what models see, and back; fitted on `train`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it was made with."""
    fingerprint: str = ""
    """Hash of the content: a run is resumed with the data that it began with."""
    skipped: tuple[str, ...] = ()
    """Files that could not be read."""
