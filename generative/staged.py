"""Training images in stages: each has its own batch size and images, and ends after a fixed number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aprendiz.errors import ConfigError
from aprendiz.loop import Source, Work

if TYPE_CHECKING:
    from aprendiz.data.core import Images


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a training."""

    name: str
    """What the model finds in `ImageBatch.stage`."""
    images: int
    """Training images seen before the next stage begins. The last stage lasts as long as the budget does."""
    batch_size: int
    """Images an update."""
    labelled: int | None = None
    """How many labelled images it draws from, equally many of each class; None: all training images."""


def stage_boundaries(budget_images: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Images of each stage: `shares` of the budget (in any unit), rounded so that they sum up to it exactly.

    Raises ConfigError where a share is negative, or none is above 0.
    """
    total = sum(shares)
    if total <= 0 or any(share < 0 for share in shares):
        raise ConfigError(f"stages need shares of the budget of 0 or more, one above 0, got {list(shares)}")
    ends = [round(budget_images * sum(shares[: i + 1]) / total) for i in range(len(shares))]
    return tuple(end - start for start, end in zip([0, *ends[:-1]], ends, strict=True))


class StagedSource(Source):
    """Batches of one stage after the other. A stage without images is left out.

    A batch never reaches over the end of a stage: the last one of a stage may be smaller. Each stage shuffles with a
    seed of its own, so that its order does not depend on how long the one before was. Raises ConfigError where a stage
    wants labels that the images lack.
    """

    def __init__(
        self,
        images: Images,
        stages: Sequence[Stage],
        *,
        seed: int,
        device: torch.device | str = "cpu",
        augment: Any = None,
    ) -> None:
        if not any(stage.images > 0 for stage in stages):
            raise ConfigError("no stage has any images: raise the budget")
        self.stages = tuple(stage for stage in stages if stage.images > 0)
        self._images, self._seed, self._device, self._augment = images, seed, device, augment
        self._names = [stage.name for stage in stages]
        self.index = 0
        self.seen = 0
        """Images seen in the current stage."""
        self._source = self._make_source()

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self.index]

    def next(self, limit: int | None = None) -> Work:
        """The next batch, with the stage's name in it; `limit` as for every source."""
        last = self.index == len(self.stages) - 1
        if not last and self.seen >= self.stage.images:
            self._close()
            del self._source  # its images leave the GPU before the next stage's come
            self.index, self.seen = self.index + 1, 0
            self._source = self._make_source()
            last = self.index == len(self.stages) - 1
        left = None if last else self.stage.images - self.seen
        bounds = [bound for bound in (limit, left) if bound is not None]
        work = self._source.next(min(bounds) if bounds else None)
        self.seen += work.units
        if work.batch is not None:
            work.batch.stage = self.stage.name
        return work

    def metrics(self) -> dict[str, float]:
        return self._source.metrics()

    def state_dict(self) -> dict[str, Any]:
        return {"stage": self.stage.name, "seen": self.seen, "source": self._source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        names = [stage.name for stage in self.stages]
        if state["stage"] not in names:
            raise ValueError(f"there is no stage {state['stage']!r}, only {', '.join(names)}")
        self._close()
        del self._source
        self.index, self.seen = names.index(state["stage"]), state["seen"]
        self._source = self._make_source()
        self._source.load_state_dict(state["source"])

    def _make_source(self) -> Source:
        from aprendiz.data.images import subset
        from aprendiz.data.source import DataSource
        from aprendiz.data.splits import labelled_subset

        stage, images = self.stage, self._images
        if stage.labelled is not None:
            if images.labels is None:
                raise ConfigError(
                    f"{images.spec.name} has no labels, of which stage {stage.name} wants {stage.labelled}"
                )
            images = subset(images, labelled_subset(images.labels, stage.labelled, self._seed))
        # The place among all stages, also those left out, decides the order: skipping one does not change the others'.
        entropy = np.random.SeedSequence([self._seed, self._names.index(stage.name)])
        return DataSource(
            images,
            batch_size=stage.batch_size,
            seed=int(entropy.generate_state(1)[0] >> 1),
            device=self._device,
            augment=self._augment,
        )

    def _close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
