"""Metrics of a run, read fast: files with one JSON object a line, thinned while they are read.

A file of 100,000 lines is decoded in blocks and its columns become arrays at once; no line is kept as an object. A file
that is still being written, torn lines and lines of something else are all the same to it.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20
POINTS = 400
"""Points that a curve keeps; more are averaged, neighbours together."""
PENDING = 1 << 16
"""Values of a metric that are held at most before they are thinned."""
LONG_LINES = 25_000
"""Of a longer file about so many lines are decoded: of the lines of a kind every second, third, ..."""
RARE_LINES = 2000
"""Of every kind so many are decoded in any case, so that evaluations between a million other lines are all there."""
PEAKS = ("speed/memory_mb", "speed/gpu_memory_mb")
"""Metrics of which the highest value counts, and must not be averaged away."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run, all arrays float64 [n]. A value is NaN where it was not finite."""

    step: NDArray[np.float64]
    seconds: NDArray[np.float64]
    updates: NDArray[np.float64]
    """NaN where nobody counted them."""
    value: NDArray[np.float64]


@dataclass
class Metrics:
    """What a file of metrics comes to."""

    curves: dict[str, Curve] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    lines: int = 0
    """Lines that could be used."""
    torn: int = 0
    """Lines that could not."""
    step: float = 0.0
    seconds: float = 0.0
    updates: float = float("nan")
    """The highest that occur."""
    last: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Step and value of the newest number of each metric of an evaluation: what curves keep of many is averaged."""


class Collector:
    """Takes lines of metrics as dicts, in the order in which they were written."""

    def __init__(self, points: int = POINTS) -> None:
        self.points = points
        self.metrics = Metrics()
        self._parts: dict[str, list[NDArray[np.float64]]] = defaultdict(list)  # each [5, n]: axes, value, weight
        self._pending: dict[str, int] = defaultdict(int)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Adds lines; those without a step and a time count as torn."""
        shapes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if isinstance(row, dict):
                shapes[tuple(row)].append(row)
            else:
                self.metrics.torn += 1
        for names, alike in shapes.items():
            if "step" not in names or "time" not in names:
                self.metrics.torn += len(alike)
                continue
            self._columns(names, alike)

    def _columns(self, names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
        wanted = itemgetter(*names)
        try:
            table = np.array([wanted(row) for row in rows], np.float64).T  # a null becomes NaN
        except (TypeError, ValueError, OverflowError):  # text, a list, or an integer of 400 digits among the values
            table = np.array([[_number(row[name]) for row in rows] for name in names], np.float64)
        columns = dict(zip(names, table, strict=True))
        usable = np.isfinite(columns["step"]) & np.isfinite(columns["time"])
        self.metrics.lines += int(usable.sum())
        self.metrics.torn += int((~usable).sum())
        if not usable.all():
            columns = {name: column[usable] for name, column in columns.items()}
        count = len(columns["step"])
        if not count:
            return
        none = np.full(count, np.nan)
        step, seconds, updates = columns["step"], columns["time"], columns.get("train/updates", none)
        self.metrics.step = max(self.metrics.step, step.max())
        self.metrics.seconds = max(self.metrics.seconds, seconds.max())
        if "train/updates" in columns:
            self.metrics.updates = float(np.fmax.reduce(updates, initial=self.metrics.updates))
        for name in names:
            value = columns[name]
            if name in ("step", "time") or (np.isnan(value).all() and not _is_metric(rows, name)):
                continue
            if name in PEAKS and np.isfinite(value).any():
                self.metrics.peaks[name] = max(self.metrics.peaks.get(name, 0.0), float(np.nanmax(value)))
            value = np.where(np.isfinite(value), value, np.nan)
            self._parts[name].append(np.stack([step, seconds, updates, value, np.ones(count)]))
            self._pending[name] += count
            if self._pending[name] > PENDING:
                merged = thin(np.concatenate(self._parts[name], axis=1), PENDING // 4)
                self._parts[name], self._pending[name] = [merged], merged.shape[1]

    def result(self) -> Metrics:
        """Everything added so far, every curve in the order of its steps and thinned to `points`."""
        counted = self._parts.pop("train/updates", [np.zeros((5, 0))])
        known = np.concatenate(counted, axis=1)[[0, 3]]  # step, updates
        known = known[:, np.isfinite(known[1])]
        known = known[:, np.argsort(known[0], kind="stable")]
        for name in sorted(self._parts):
            table = np.concatenate(self._parts[name], axis=1)
            if (np.diff(table[0]) < 0).any():
                table = table[:, np.argsort(table[0], kind="stable")]
            numbers = np.flatnonzero(np.isfinite(table[3]))
            if name.startswith("eval/") and len(numbers):
                self.metrics.last[name] = (float(table[0, numbers[-1]]), float(table[3, numbers[-1]]))
            table = thin(table, self.points)
            if known.shape[1] and np.isnan(table[2]).any():  # lines of evaluations do not count updates
                missing = np.isnan(table[2])
                table[2, missing] = np.interp(table[0, missing], known[0], known[1])
            self.metrics.curves[name] = Curve(*table[:4])
        return self.metrics


def together(sessions: list[Metrics]) -> Metrics:
    """Metrics of a run that was logged in several sessions, in their order. Each counts up to where the next one began
    anew, and its clock goes on from the one before."""
    result = Metrics()
    for place, one in enumerate(sessions):
        end = min((_begin(later) for later in sessions[place + 1 :]), default=float("inf"))
        first = min((curve.seconds[0] for curve in one.curves.values() if len(curve.seconds)), default=0.0)
        shift = result.seconds if first < result.seconds else 0.0
        for name, curve in one.curves.items():
            kept = curve.step < end
            if not kept.any():
                continue
            table = np.stack([curve.step, curve.seconds + shift, curve.updates, curve.value])[:, kept]
            if name in result.curves:
                before = result.curves[name]
                table = np.concatenate([[before.step, before.seconds, before.updates, before.value], table], axis=1)
            result.curves[name] = Curve(*table)
        result.last |= {name: newest for name, newest in one.last.items() if newest[0] < end}
        result.peaks |= {name: max(peak, result.peaks.get(name, peak)) for name, peak in one.peaks.items()}
        result.lines, result.torn = result.lines + one.lines, result.torn + one.torn
        result.step, result.seconds = max(result.step, one.step), max(result.seconds, one.seconds + shift)
        result.updates = float(np.fmax(result.updates, one.updates))
    return result


def _begin(metrics: Metrics) -> float:
    return min((curve.step[0] for curve in metrics.curves.values() if len(curve.step)), default=float("inf"))


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else float("nan")
    except OverflowError:
        return float("nan")


def _is_metric(rows: list[dict[str, Any]], name: str) -> bool:
    """Whether a column without a finite number is one of numbers all the same: a null is one that was not finite."""
    return all(isinstance(row[name], (int, float, type(None))) for row in rows)


def thin(table: NDArray[np.float64], points: int) -> NDArray[np.float64]:
    """At most `points` columns of [axes ..., value, weight]: neighbours of about equal weight together become one, at
    their mean place.

    Means are weighed by the last row, whose sum stays; a value that is NaN is left out of its mean, and a mean of
    nothing is NaN.
    """
    count = table.shape[1]
    if count <= points:
        return table
    weight = table[-1]
    # Equal shares of what lies behind the columns, which may have been thinned before: not of their number.
    behind = np.cumsum(weight)
    shares = np.linspace(0, behind[-1], points, endpoint=False)
    starts = np.unique(np.searchsorted(behind, shares, side="right"))
    total = np.add.reduceat(weight, starts)
    rows = []
    for row in table[:-1]:
        known = np.isfinite(row)
        if known.all():
            rows.append(np.add.reduceat(row * weight, starts) / total)
            continue
        share = np.add.reduceat(np.where(known, weight, 0.0), starts)
        summed = np.add.reduceat(np.where(known, row * weight, 0.0), starts)
        rows.append(np.divide(summed, share, out=np.full(len(starts), np.nan), where=share > 0))
    return np.stack([*rows, total])


def read(path: Path, points: int = POINTS) -> Metrics:
    """All curves of a file of metrics; none where there is no file. Raises OSError where it cannot be read."""
    collector = Collector(points)
    for rows in blocks(path, collector.metrics):
        collector.add(rows)
    return collector.result()


def blocks(path: Path, counts: Metrics | None = None) -> Iterator[list[dict[str, Any]]]:
    """The lines of a file, many at a time, of a long one those that `_Sieve` lets through. A last line without its end
    is being written, and left out; lines that are no JSON are counted in `counts.torn`."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        rest, sieve = b"", None
        size = os.fstat(file.fileno()).st_size
        while block := file.read(BLOCK_BYTES):
            whole, newline, after = block.rpartition(b"\n")
            if not newline:
                rest += block
                continue
            text, rest = rest + whole, after
            if sieve is None:
                lines = size * (text.count(b"\n") + 1) / len(text)
                sieve = _Sieve(round(lines / LONG_LINES))
            yield _decode(sieve.through(text), counts)


class _Sieve:
    """Of lines of the same kind lets every `period`-th through, and the first RARE_LINES of each.

    What kind a line is of is told by its third key, behind step and time; `Run.log` writes the keys of training, and
    of evaluations, always in the same order.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self._seen: dict[bytes, int] = {}

    def through(self, text: bytes) -> bytes:
        if self.period <= 1:
            return text
        kept, seen, period = [], self._seen, self.period
        for line in text.split(b"\n"):
            parts = line.split(b'"', 6)
            kind = parts[5] if len(parts) > 5 else b""
            count = seen[kind] = seen.get(kind, -1) + 1
            if count < RARE_LINES or count % period == 0:
                kept.append(line)
        return b"\n".join(kept)


def _decode(text: bytes, counts: Metrics | None) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        rows = orjson.loads(b"[" + text.replace(b"\n", b",") + b"]")
        if len(rows) == text.count(b"\n") + 1:  # else two halves made a whole
            return rows
    except orjson.JSONDecodeError:  # something torn, an empty line, NaN, or a number of more than 64 bits
        pass
    return list(_one_by_one(text.split(b"\n"), counts))


def _one_by_one(lines: Iterable[bytes], counts: Metrics | None) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            if counts is not None:
                counts.torn += 1
