"""metrics.jsonl as it grows: each look reads what was added, and long curves are kept short."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

MOST_POINTS = 600
"""Of a curve; when it has more, every second point goes, from then on twice as far apart."""
_LEFT_OUT = ("train/updates", "train/epoch")
"""Counters that only repeat the x axis."""


class Curve:
    """Points (step, seconds of training, value), thinned evenly."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []
        self._last: tuple[int, float, float] | None = None
        self._every = 1
        self._count = 0

    def add(self, step: int, seconds: float, value: float) -> None:
        self._last = (step, seconds, value)
        if self._count % self._every == 0:
            self.points.append(self._last)
            if len(self.points) > MOST_POINTS:
                self.points = self.points[::2]
                self._every *= 2
        self._count += 1

    @property
    def last_step(self) -> int:
        """Of the last point that was added, shown or not."""
        assert self._last is not None, "a curve has points"
        return self._last[0]

    def shown(self) -> list[tuple[int, float, float]]:
        """The points, and the last one in any case."""
        if self._last is None or (self.points and self.points[-1] == self._last):
            return self.points
        return [*self.points, self._last]


class MetricsTail:
    """The curves of a metrics.jsonl that somebody else appends to, tears, cuts back or puts in place anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.curves: dict[str, Curve] = {}
        self._file: tuple[int, int] | None = None  # device and inode
        self._read = 0

    def look(self) -> bool:
        """Read the whole lines that were added; from the start where the file is another or shorter one. Whether
        anything changed."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                began_anew = identity != self._file or status.st_size < self._read
                if began_anew:
                    changed = bool(self.curves)
                    self.curves, self._file, self._read = {}, identity, 0
                else:
                    changed = False
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):  # half-written: the next look has the rest
                        break
                    self._read += len(line)
                    changed = self._add(line) or changed
                return changed
        except OSError:
            return False

    def _add(self, line: bytes) -> bool:
        try:
            found: Any = json.loads(line)
            step, seconds = int(found["step"]), _finite(found["time"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return False
        if seconds is None:
            return False
        for name, value in found.items():
            number = _finite(value) if "/" in name and name not in _LEFT_OUT else None
            if number is not None:
                self.curves.setdefault(name, Curve()).add(step, seconds, number)
        return True


def _finite(value: Any) -> float | None:
    """A number that can be drawn; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        return None
    return number if math.isfinite(number) else None
