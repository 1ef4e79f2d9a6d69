"""What the outputs of a network of the DQN line mean, and what they cost: the part in which its papers differ most."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class ValueLoss(NamedTuple):
    """What a batch costs."""

    per_sample: Tensor
    """[B], with gradients."""
    target_mean: Tensor
    """Scalar: the targets' mean."""
    td_error: Tensor | None = None
    """[B], without gradients: new priorities, where they are wanted."""


class ValueKind:
    """What a network's outputs mean. `outputs` numbers per action: [B, A] where that is 1, else [B, A, Z]."""

    outputs: int = 1
    cosines: int = 0
    """Numbers that describe a quantile, where quantiles are implicit."""
    taus: tuple[int, int, int] = (0, 0, 0)
    """Implicit quantiles drawn for an update: of what is learned, of what follows, and for choosing an action."""

    def __init__(self, config: Any, device: torch.device) -> None:
        self.config = config

    def distribution(self, outputs: Tensor) -> Tensor:
        """What can be averaged over actions: values [B, A], probabilities or quantiles [B, A, Z]."""
        return outputs

    def q_values(self, distribution: Tensor) -> Tensor:
        """Expected values [B, A] of what `distribution` gave."""
        raise NotImplementedError

    def loss(
        self, chosen: Tensor, reward: Tensor, discount: Tensor, following: Tensor, taus: Tensor | None
    ) -> ValueLoss:
        """chosen: outputs of the actions taken, [B] or [B, Z]; reward, discount [B]; following [B] or [B, Z'], the
        distribution of what comes next; taus [B, Z] that `chosen` belongs to, where they are implicit."""
        raise NotImplementedError

    def picture(self, distribution: Tensor) -> Tensor | None:
        """[B, A, Z, 2]: values and their probabilities, of what `distribution` gave; None for a single value."""
        return None
