"""Augmentation: random changes that leave a picture what it is; whole batches at a time, decided by a generator."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aprendiz.errors import ConfigError

_PADDING = {"edge": "border", "black": "zeros", "mirror": "reflection"}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed at random, for each image on its own; by default nothing is."""

    flip_horizontal: bool = False
    """Mirror left and right every other image."""
    flip_vertical: bool = False
    """Mirror top and bottom every other image."""
    shift_pixels: int = 0
    """Move by up to so many whole pixels, both ways along both axes."""
    crop: float = 1.0
    """Keep a random square window of at least this share of each side, and stretch it to the full size (1: off)."""
    rotation_degrees: float = 0.0
    """Turn by up to this angle, both ways."""
    brightness: float = 0.0
    """Add up to this part of the range from black to white, both ways."""
    contrast: float = 0.0
    """Multiply the distance from the image's mean by a factor between 1 - this and 1 + this."""
    border: Literal["edge", "black", "mirror"] = "edge"
    """What fills the places that come into view: the nearest pixel, black, or the mirrored image."""

    def __post_init__(self) -> None:
        if self.shift_pixels < 0:
            raise ConfigError(f"shift_pixels must be at least 0, got {self.shift_pixels}")
        if not 0.0 < self.crop <= 1.0:
            raise ConfigError(f"crop must be above 0 and at most 1 (off), got {self.crop}")
        if not 0.0 <= self.rotation_degrees <= 180.0:
            raise ConfigError(f"rotation_degrees must be between 0 and 180, got {self.rotation_degrees}")
        for name in ("brightness", "contrast"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.border not in _PADDING:
            raise ConfigError(f"border is {self.border!r}: use {', '.join(_PADDING)}")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return any(getattr(self, one.name) != one.default for one in fields(self) if one.name != "border")

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed images [B, C, H, W] in [0, 1] of such images; `generator` (a CPU one) decides, also on a GPU."""
        count, _, height, width = images.shape
        draws = torch.rand(count, 9, generator=generator)  # always as many, so that one setting moves no other's draws
        for on, axis, coin in ((self.flip_horizontal, 3, draws[:, 0]), (self.flip_vertical, 2, draws[:, 1])):
            if on:
                flipped = (coin < 0.5).to(images.device)[:, None, None, None]
                images = torch.where(flipped, images.flip(axis), images)
        if self.shift_pixels or self.crop < 1.0 or self.rotation_degrees:
            shift = (draws[:, 2:4] * (2 * self.shift_pixels + 1)).floor() - self.shift_pixels  # [B, 2] pixels
            angle = math.radians(self.rotation_degrees) * (2.0 * draws[:, 4] - 1.0)  # [B]
            share = self.crop + (1.0 - self.crop) * draws[:, 5]  # [B]
            corner = 2.0 * draws[:, 6:8] - 1.0  # [B, 2]
            matrices = window_matrices(angle, share, corner, shift, height, width).to(images.device)
            grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode=_PADDING[self.border], align_corners=False)
        if self.contrast:
            factor = 1.0 + self.contrast * (2.0 * draws[:, 8] - 1.0)
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = mean + (images - mean) * factor.to(images.device)[:, None, None, None]
        if self.brightness:
            added = self.brightness * (2.0 * torch.rand(count, generator=generator) - 1.0)
            images = images + added.to(images.device)[:, None, None, None]
        return images.clamp(0.0, 1.0)


def window_matrices(angle: Tensor, share: Tensor, corner: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """[B, 2, 3] for `affine_grid`: where each output pixel is looked up, in coordinates from -1 to 1.

    `angle` [B] radians, counterclockwise as it is seen; `share` [B] of each side that the window keeps; `corner`
    [B, 2] in [-1, 1] where between left and right, top and bottom the window lies; `shift` [B, 2] pixels to the right
    and down.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    aspect = height / width  # a rotation in pixels is none in coordinates of an oblong image
    linear = torch.stack([cos, -sin * aspect, sin / aspect, cos], dim=1).reshape(-1, 2, 2)
    linear = linear * share[:, None, None]
    size = torch.tensor([width, height], dtype=shift.dtype)
    moved = corner * (1.0 - share)[:, None] - 2.0 * shift / size
    return torch.cat([linear, moved[:, :, None]], dim=2)
