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


def adamw(
    parameters: Iterable[Parameter],
    learning_rate: float,
    weight_decay: float,
    device: torch.device,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), fused; none of biases and
    norms, which have one axis."""
    given = list(parameters)
    groups = [
        {"params": [one for one in given if one.dim() > 1], "weight_decay": weight_decay},
        {"params": [one for one in given if one.dim() <= 1], "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=betas, fused=fused)


def rmsprop(
    parameters: Iterable[Parameter], learning_rate: float, decay: float, epsilon: float, device: torch.device
) -> torch.optim.Optimizer:
    """Centred RMSProp (Graves 2013, equations 38 to 40), the optimiser of Mnih et al. (2015).

    Graves adds `epsilon` under the root, PyTorch outside.
    """
    return torch.optim.RMSprop(
        parameters, lr=learning_rate, alpha=decay, eps=epsilon, centered=True, capturable=device.type == "cuda"
    )


def radam(
    parameters: Iterable[Parameter], learning_rate: float, epsilon: float, device: torch.device
) -> torch.optim.Optimizer:
    """Adam whose first steps are held back until its variance is known (Liu et al. 2020, algorithm 2)."""
    return torch.optim.RAdam(parameters, lr=learning_rate, eps=epsilon, capturable=device.type == "cuda")


def adadelta(
    parameters: Iterable[Parameter], learning_rate: float, decay: float, epsilon: float, device: torch.device
) -> torch.optim.Optimizer:
    """ADADELTA (Zeiler 2012, algorithm 1), whose steps are multiplied by `learning_rate`."""
    return torch.optim.Adadelta(parameters, lr=learning_rate, rho=decay, eps=epsilon, capturable=device.type == "cuda")


def schedulable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Makes `set_learning_rate` reach an optimiser whose steps are captured in a CUDA graph, which reads numbers once:
    there the learning rate becomes a tensor."""
    if device.type == "cuda":
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


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
