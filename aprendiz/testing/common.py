"""What the conformance checks share."""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Training:
    """A learner, its source and what came of them."""

    def __init__(self, learner: Any, source: Any, overshoot: int) -> None:
        """`overshoot`: by fewer units than this may a source go over what is left."""
        self.learner, self.source, self.overshoot = learner, source, overshoot
        self.units = self.updates = 0

    def train(self, until: int) -> list[tuple[int, bool, dict[str, float]]]:
        """Goes on until so many units and a safe point; returns units, safe point and metrics of each piece of work."""
        record = []
        idle = 0
        while True:
            work = self.source.next(until - self.units)
            units, safe_point = work.units, work.safe_point
            require(type(units) is int and units >= 0, f"a source counted {units!r} units; give an int, 0 or more")
            require(type(safe_point) is bool, f"safe_point is {safe_point!r}, not a bool")
            metrics: dict[str, float] = {}
            if work.batch is not None:
                outcome = self.learner.update(work.batch)
                metrics = scalars(outcome.metrics, "update")
                self.source.feedback(work.batch, outcome)
                self.updates += 1
            record.append((units, safe_point, metrics))
            self.units += units
            require(
                self.units < until + self.overshoot,
                f"told that {until} units are left in all, the source went on to {self.units}",
            )
            idle = 0 if units else idle + 1
            require(idle < 100_000, "a source that hands out work for ever, and never counts a unit")
            if safe_point and self.units >= until:
                return record

    def save(self, folder: Path) -> dict[str, Any]:
        manifest = self.source.save_bulk(folder / "bulk")
        source, learner = self.source.state_dict(), self.learner.state_dict()
        state = through_a_checkpoint({"learner": learner, "source": source, "bulk": manifest, "units": self.units})
        self.source.prune_bulk(folder / "bulk")
        return state

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        self.learner.load_state_dict(state["learner"])
        self.source.load_bulk(folder / "bulk", state["bulk"])
        self.source.load_state_dict(state["source"])
        self.units = state["units"]

    def state(self) -> dict[str, Any]:
        return {"learner": self.learner.state_dict(), "source": self.source.state_dict()}


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    from aprendiz import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        try:
            checkpoint.save(Path(folder) / "state", state)
        except TypeError as error:
            raise AssertionError(f"a state_dict cannot be saved: {error}") from error
        return checkpoint.load(Path(folder) / "state")


def scalars(metrics: Any, whose: str) -> dict[str, float]:
    require(isinstance(metrics, Mapping), f"metrics of {whose} are a {type(metrics).__name__}, not a mapping")
    values = {}
    for name, value in metrics.items():
        require(isinstance(name, str), f"{whose} gave a metric named {name!r}, not by text")
        require(not getattr(value, "shape", ()), f"metric {name} of {whose} is no scalar: {form(value)}")
        try:
            values[name] = float(value)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"metric {name} of {whose} is no number: {value!r}") from error
        require(math.isfinite(values[name]), f"metric {name} of {whose} is {values[name]}")
    return values


def form(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"{type(value).__name__} {value.dtype} {list(value.shape)}"
    return type(value).__name__


def difference(left: Any, right: Any, place: str = "") -> str:
    """Where two nested values first differ; empty where they are equal, number for number."""
    import torch

    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        left, right = left.detach().cpu().numpy(), right.detach().cpu().numpy()
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        same = left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
        return "" if same else place or "everything"
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return f"{place} has {sorted(map(str, left.keys() ^ right.keys()))} on one side only"
        found = (difference(left[key], right[key], f"{place}/{key}") for key in left)
        return next(filter(None, found), "")
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return f"{place} has {len(left)} and {len(right)} entries"
        pairs = enumerate(zip(left, right, strict=True))
        found = (difference(one, other, f"{place}/{number}") for number, (one, other) in pairs)
        return next(filter(None, found), "")
    return "" if left == right else f"{place}: {left!r} and {right!r}"


@contextlib.contextmanager
def global_random_state_left_alone() -> Iterator[None]:
    import torch

    untouched = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # One draw away from it, so that seeding with the number that somebody has just seeded with shows, too.
    random.random(), np.random.random(), torch.rand(1)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    for name, then, now in (
        ("Python's random module", before[0], random.getstate()),
        ("NumPy", before[1], np.random.get_state()),
        ("torch", before[2], torch.get_rng_state()),
    ):
        same = not difference(then, now)
        require(same, f"the global random state of {name} was touched; use generators of its own")
    random.setstate(untouched[0])
    np.random.set_state(untouched[1])
    torch.set_rng_state(untouched[2])


def is_json(value: Any) -> bool:
    """JSON-able but for numpy arrays; keys are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_json(one) for one in value)
    return value is None or type(value) in (bool, int, float, str, np.ndarray)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
