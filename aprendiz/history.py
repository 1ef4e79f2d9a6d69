"""A replay memory of generated images (Shrivastava et al. 2017, CVPR, section 2.3), so that a discriminator does not
forget what its opponent used to draw.

It has the words of `aprendiz.replay` (`add`, `sample`, `state_dict`) and none of its ring: images follow from no action
and lead to no next one, what goes in replaces something at random instead of the oldest, and neither way leaves the
learner's device. A thousand images are small enough to be saved whole with the learner that draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aprendiz.errors import ConfigError


class History:
    """Holds up to `capacity` rows, each a tuple of tensors: an image, say, and its label.

    Args:
        capacity: rows held.
        shapes, dtypes: of each tensor of one row.
        device: where rows are held.
    """

    def __init__(
        self,
        capacity: int,
        shapes: tuple[tuple[int, ...], ...],
        dtypes: tuple[torch.dtype, ...],
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"a history of generated images holds at least 1, not {capacity}")
        self.capacity, self.size = capacity, 0
        self.rows = tuple(
            torch.zeros((capacity, *shape), dtype=dtype, device=device)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        )

    @torch.no_grad()
    def mix(self, new: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Half of the batch `new` (tensors [B, ...], row by row together) replaced by older rows, [B, ...].

        While there are fewer rows than B/2, fewer are replaced. Then half of `new`, drawn at random, goes in.
        `generator` lives on the rows' device, here and below.
        """
        batch = len(new[0])
        half = min(batch // 2, self.capacity)
        drawn = min(half, self.size)
        mixed = new
        if drawn:
            old = self.sample(drawn, generator)
            mixed = tuple(torch.cat([row.to(one.dtype), one[drawn:]]) for row, one in zip(old, new, strict=True))
        fresh = torch.randperm(batch, generator=generator, device=self.rows[0].device)[:half]
        self.add(tuple(one[fresh] for one in new), generator)
        return mixed

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """`count` different rows, at most as many as there are, drawn at random: tensors [count, ...]."""
        chosen = torch.randperm(self.size, generator=generator, device=self.rows[0].device)[:count]
        return tuple(row[chosen] for row in self.rows)

    @torch.no_grad()
    def add(self, new: tuple[Tensor, ...], generator: torch.Generator) -> None:
        """Takes in the rows of tensors [B, ...], at most `capacity`: at the end where there is room, else in the place
        of rows drawn at random."""
        count, device = len(new[0]), self.rows[0].device
        room = min(self.capacity - self.size, count)
        places = torch.arange(self.size, self.size + room, device=device)
        if room < count:
            old = torch.randperm(self.size, generator=generator, device=device)[: count - room]
            places = torch.cat([places, old])
        for row, one in zip(self.rows, new, strict=True):
            row[places] = one.detach().to(row.dtype)
        self.size += room

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "rows": [row[: self.size] for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.size = state["size"]
        for row, saved in zip(self.rows, state["rows"], strict=True):
            row[: self.size] = saved.to(row.device)
