"""Optimisers and schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def adam(
    parameters: Iterable[Parameter],
    learning_rate: float,
    epsilon: float,
    device: torch.device,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015, algorithm 1), in one fused kernel; ready for capture in a CUDA graph."""
    on_cuda = device.type == "cuda"
    fused = on_cuda or device.type == "cpu"
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, eps=epsilon, fused=fused, capturable=on_cuda)


def rmsprop(
    parameters: Iterable[Parameter], learning_rate: float, decay: float, epsilon: float, device: torch.device
) -> torch.optim.Optimizer:
    """Centred RMSProp (Graves 2013, equations 38 to 40), the optimiser of Mnih et al. (2015).

    Graves adds `epsilon` under the root, PyTorch outside.
    """
    return torch.optim.RMSprop(
        parameters, lr=learning_rate, alpha=decay, eps=epsilon, centered=True, capturable=device.type == "cuda"
    )


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[Any, Mapping[str, Any]]) -> None:
    """Puts back what was `optimizer.state_dict()["state"]`, as copies; keys may have become text on the way.

    A fused kernel walks through a parameter and its moments side by side in memory. Files know one layout only, so that
    moments of a channels-last weight come back in another one, and would be paired with the wrong weights.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def laid_out(value: Any, parameter: Parameter) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.shape != parameter.shape:
            return value.clone()
        return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)

    moments = {
        int(index): {name: laid_out(value, parameters[int(index)]) for name, value in moment.items()}
        for index, moment in state.items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def linear_schedule(start: float, end: float, duration: int, at: int) -> float:
    """From `start` at 0 to `end` at `duration` and after, in whatever unit both are."""
    if at >= duration:
        return end
    return start + (end - start) * at / duration


def cosine_schedule(start: float, end: float, duration: int, at: int) -> float:
    """From `start` at 0 to `end` at `duration` and after: half a cosine (Loshchilov and Hutter 2017, equation 5)."""
    if at >= duration:
        return end
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * at / duration))
