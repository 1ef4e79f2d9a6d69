"""Scaling: pixels to what models see, and back; fitted on the training images alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aprendiz.data.core import Images
from aprendiz.errors import ConfigError

KINDS = ("unit", "min-max", "standard", "robust")
PER = ("channel", "pixel")
NEARLY_CONSTANT = 0.02
"""A spread below this (of the whole range from black to white) divides nothing: it counts as 1."""
_FIT_BYTES = 256 * 1024**2
"""Of images that are not in memory, at most so many bytes are looked at."""
_FIT_IMAGES = 4_096
_COUNT_BYTES = 64 * 1024**2


class Scaling:
    """x = (pixel / 255 - offset) / spread, with one offset and one spread a channel, or a pixel.

    unit:     offset 0, spread 1: models see [0, 1].
    min-max:  the smallest and the largest value of the training images become 0 and 1; others are clipped to [0, 1].
    standard: mean 0 and standard deviation 1 over the training images.
    robust:   median 0 and interquartile range 1 over the training images.

    A channel or pixel that hardly changes (spread below `NEARLY_CONSTANT`) is shifted but not stretched. Per pixel,
    ink where the training images have none would otherwise become enormous.
    """

    def __init__(self, kind: str = "unit", per: str = "channel") -> None:
        """Raises ConfigError for an unknown `kind` or `per`."""
        if kind not in KINDS:
            raise ConfigError(f"unknown scaling {kind!r}: use {', '.join(KINDS)}")
        if per not in PER:
            raise ConfigError(f"scaling_per is {per!r}: use {' or '.join(PER)}")
        self.kind, self.per = kind, per
        self.offset = torch.zeros(1, 1, 1)
        self.spread = torch.ones(1, 1, 1)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def unit_interval(self) -> bool:
        """Whether models see values in [0, 1]."""
        return self.kind in ("unit", "min-max")

    def fit(self, images: Images, *, seed: int = 0) -> Scaling:
        """Measures `images` (the training images): all of them when they are in memory, else a sample drawn by `seed`;
        returns itself. `unit` looks at nothing."""
        if self.kind != "unit":
            counts = _counts(_pixels_to_fit(images, seed), self.per)  # [rows, 256]
            offset, spread = offset_and_spread(counts, self.kind)
            shape = (images.spec.channels, 1, 1) if self.per == "channel" else images.spec.shape
            self.offset = torch.from_numpy(offset.reshape(shape).astype(np.float32))
            self.spread = torch.from_numpy(spread.reshape(shape).astype(np.float32))
            self._on = {}
        return self

    def to_model(self, pixels: Tensor) -> Tensor:
        """float32 [B, C, H, W] as models see them, of uint8 [B, C, H, W] pixels; on their device."""
        if self.kind == "unit":
            return pixels.to(torch.float32).div_(255.0)
        offset, spread = self._at(pixels.device)
        scaled = pixels.to(torch.float32).sub_(offset * 255.0).div_(spread * 255.0)
        return scaled.clamp_(0.0, 1.0) if self.kind == "min-max" else scaled

    def from_unit(self, images: Tensor) -> Tensor:
        """The same of float images in [0, 1], such as augmented ones."""
        if self.kind == "unit":
            return images
        offset, spread = self._at(images.device)
        scaled = (images - offset) / spread
        return scaled.clamp_(0.0, 1.0) if self.kind == "min-max" else scaled

    def to_pixels(self, images: Tensor) -> Tensor:
        """Back: float [B, C, H, W] in [0, 1], black to white, of what models see or draw; clipped to that range."""
        if self.kind == "unit":
            return images.clamp(0.0, 1.0)
        offset, spread = self._at(images.device)
        return (images * spread + offset).clamp_(0.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Kind, and offset and spread as tensors."""
        return {"kind": self.kind, "per": self.per, "offset": self.offset, "spread": self.spread}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The counterpart of `state_dict`; raises ConfigError where it is of another kind."""
        if (state["kind"], state["per"]) != (self.kind, self.per):
            raise ConfigError(
                f"the saved scaling is {state['kind']} per {state['per']}, this one {self.kind} per {self.per}"
            )
        self.offset, self.spread = state["offset"].float().cpu(), state["spread"].float().cpu()
        self._on = {}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Scaling:
        """The scaling that was saved."""
        scaling = cls(state["kind"], state["per"])
        scaling.load_state_dict(state)
        return scaling

    def _at(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._on:
            self._on[device] = (self.offset.to(device), self.spread.to(device))
        return self._on[device]


def offset_and_spread(counts: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 [rows] each, in parts of the range from black to white, of counts int64 [rows, 256] of pixel values.

    Quantiles are interpolated linearly between order statistics (Hyndman and Fan 1996, definition 7).
    """
    values = np.arange(256) / 255.0
    total = counts.sum(axis=1)  # [rows]
    if kind == "min-max":
        low = values[(counts > 0).argmax(axis=1)]
        high = values[255 - (counts[:, ::-1] > 0).argmax(axis=1)]
        offset, spread = low, high - low
    elif kind == "standard":
        offset = counts @ values / total
        spread = np.sqrt(np.maximum(counts @ values**2 / total - offset**2, 0.0))
    elif kind == "robust":
        offset = _quantile(counts, 0.5)
        spread = _quantile(counts, 0.75) - _quantile(counts, 0.25)
    else:
        raise ConfigError(f"{kind!r} scaling is not measured")
    return offset, np.where(spread < NEARLY_CONSTANT, 1.0, spread)


def _quantile(counts: np.ndarray, q: float) -> np.ndarray:
    """float64 [rows] of counts [rows, 256]."""
    below = counts.cumsum(axis=1)  # how many are at most this value
    position = (below[:, -1:] - 1) * q
    low = (below <= np.floor(position)).sum(axis=1)
    high = (below <= np.ceil(position)).sum(axis=1)
    return (low + (position - np.floor(position)).squeeze(1) * (high - low)) / 255.0


def _pixels_to_fit(images: Images, seed: int) -> Tensor:
    """uint8 [n, C, H, W]"""
    array = getattr(images, "array", None)
    if isinstance(array, Tensor):
        return array
    most = max(1, min(_FIT_IMAGES, _FIT_BYTES // images.spec.pixels, len(images)))
    chosen = np.random.default_rng(np.random.SeedSequence([seed, len(images)])).permutation(len(images))[:most]
    return images.pixels(torch.from_numpy(np.sort(chosen)))


def _counts(pixels: Tensor, per: str) -> np.ndarray:
    """int64 [C or C*H*W, 256]: how often each value stands in each channel, or at each pixel, of uint8 [N, C, H, W]."""
    flat = pixels.cpu().numpy()
    rows = flat.shape[1] if per == "channel" else int(np.prod(flat.shape[1:]))
    flat = flat.reshape(len(flat), rows, -1)  # [N, rows, positions]
    counts = np.zeros(rows * 256, np.int64)
    base = np.arange(rows, dtype=np.int64)[:, None] * 256
    step = max(1, _COUNT_BYTES // (8 * rows * flat.shape[2]))
    for start in range(0, len(flat), step):
        counts += np.bincount((flat[start : start + step] + base).ravel(), minlength=rows * 256)
    return counts.reshape(rows, 256)
