"""Which input excites a hidden unit most: what a filter looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aprendiz.backbones import MLP

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


def filters_of(encoder: nn.Module, encode: Callable[[Tensor], Tensor], units: int, spec: ImageSpec) -> Tensor:
    """The input of norm 1 that most excites each hidden unit, float32 [units, C, H, W] on the CPU.

    Units of the first layer where that is a dense one (in closed form), otherwise those of the code.
    """
    if isinstance(encoder, MLP) and len(encoder.layers):
        return unit_rows(encoder.layers[0].weight.detach().float()).unflatten(1, spec.shape).cpu()  # type: ignore[operator]
    device = next(encoder.parameters()).device
    return exciting_inputs(encode, units, spec.shape, device).cpu()


def unit_rows(weight: Tensor) -> Tensor:
    """w_j / ||w_j|| of [units, ...], each row of norm 1: for a unit that grows with w_j x + b_j, the input under the
    bound ||x|| <= 1 that most excites it. Ng (2011), CS294A lecture notes, section 4. A row of zeros stays zero."""
    norms = weight.flatten(1).norm(dim=1).clamp(min=torch.finfo(weight.dtype).tiny)
    return weight / norms.view(-1, *[1] * (weight.ndim - 1))


def exciting_inputs(
    encode: Callable[[Tensor], Tensor],
    units: int,
    shape: tuple[int, int, int],
    device: torch.device,
    steps: int = 50,
    chunk: int = 64,
) -> Tensor:
    """The input of norm 1 that most excites each unit of a network of any depth, [units, C, H, W], as far as found.

    Erhan et al. (2009), "Visualizing higher-layer features of a deep network", section 2.2; the ascent takes the best
    input for the gradient at the last one, x <- g / ||g|| (Frank and Wolfe 1956), averaged with what it had, and keeps
    the best of all steps. It starts from a little fixed noise, so that the same weights give the same picture.
    """
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    found = []
    for first in range(0, units, chunk):
        numbers = torch.arange(first, min(first + chunk, units), device=device)
        inputs = unit_rows(start.expand(len(numbers), *shape).clone()) * 0.1
        best, height = inputs, torch.full((len(numbers),), -torch.inf, device=device)
        for step in range(steps):
            with torch.enable_grad():
                inputs = inputs.detach().requires_grad_()
                excited = encode(inputs).float().gather(1, numbers[:, None]).squeeze(1)  # [units]
                (gradient,) = torch.autograd.grad(excited.sum(), inputs)
            better = (excited.detach() > height) & (step > 0)  # the first input is not of norm 1
            height = torch.where(better, excited.detach(), height)
            best = torch.where(better.view(-1, 1, 1, 1), inputs.detach(), best)
            inputs = unit_rows(inputs.detach() + unit_rows(gradient))
        found.append(unit_rows(best))
    return torch.cat(found)
