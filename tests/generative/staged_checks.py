"""What models that are trained in stages are tested with: training for some images, and going on exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(model: Any, source: Any, images: int) -> None:
    seen = 0
    while seen < images:
        work = source.next(images - seen)
        seen += work.units
        if work.batch is not None:
            model.update(work.batch)


def copies(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def resumed_exactly(make: Callable[[], tuple[Any, Any]], until: int, images: int) -> tuple[Any, Any]:
    """A model that was trained at once, and one that was saved on the way and went on elsewhere: the same weights."""
    whole, source = make()
    train(whole, source, until)
    state = copy.deepcopy({"model": whole.state_dict(), "source": source.state_dict()})
    train(whole, source, images - until)
    again, other = make()
    again.load_state_dict(state["model"])
    other.load_state_dict(state["source"])
    train(again, other, images - until)
    for name, module in whole.modules().items():
        assert same(copies(module), copies(again.modules()[name])), name
    assert torch.equal(whole.sample(2, generator()), again.sample(2, generator()))
    return whole, again
