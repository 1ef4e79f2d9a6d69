"""Exponential moving average of a network's weights (Polyak and Juditsky 1992, SIAM J. Control and Optimization 30:838;
of generators: Yazici et al. 2019, ICLR): what predicts or samples better than the weights of the last step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def warmed_decay(decay: float, updates: int) -> float:
    """min(decay, (1 + t) / (10 + t)) after t updates: the first weights, which know nothing, are soon forgotten."""
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage(Generic[Network]):
    """A second copy of `network`, always in evaluation mode, whose every number follows the network's:

        average = decay * average + (1 - decay) * network

    Buffers of floats (the running statistics of batch normalisation) are averaged in the same way, so that they are
    statistics of the same stretch of time as the weights; counters are copied.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, nn.RNNBase):  # a copy has its weights apart, where cuDNN wants one piece
                module.flatten_parameters()
        self._floats, self._counters = _tensors(self.network)

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """One step towards `network`, after its own."""
        floats, counters = _tensors(network)
        torch._foreach_lerp_(self._floats, floats, 1 - warmed_decay(self.decay, self.updates))
        for counter, new in zip(self._counters, counters, strict=True):
            counter.copy_(new)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers of floats, and other buffers, in a fixed order."""
    tensors = [*(parameter.detach() for parameter in network.parameters()), *network.buffers()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
