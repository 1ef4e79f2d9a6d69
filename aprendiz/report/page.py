"""The report as one HTML file that works offline: style, script and numbers lie in it."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.report import media
from aprendiz.report.build import AXES, Report, Section, finite, rising
from aprendiz.report.comparing import Comparison, Row, higher_is_better, tells_quality
from aprendiz.report.finals import SCORE
from aprendiz.report.grouping import settings

PAGE_BYTES = 9_500_000
"""No page is larger, but for configurations of thousands of runs."""
CURVE_BYTES = 5_500_000
POINTS = (24, 300)
"""Points of a curve, at least and at most."""
BAND_ARRAYS = 5
ROBUST = "speed/"
"""Metrics whose peaks may leave their panel: before learning begins steps are many times as fast."""
EXPLAIN = {
    "mean": "Lines are means over the runs of a group",
    "iqm": "Lines are interquartile means over the runs of a group",
}


def render(report: Report, path: Path) -> str:
    """The whole page. `path`: where it will lie, for links to pictures and videos."""
    assets = files("aprendiz.report")
    script = "\n".join((assets / name).read_text(encoding="utf-8") for name in ("chart.js", "page.js"))
    parts = {
        "title": html.escape(report.title),
        "style": (assets / "page.css").read_text(encoding="utf-8"),
        "script": script,
    }
    text = (assets / "page.html").read_text(encoding="utf-8")
    content = payload(report)
    content["media"] = [vars(one) for one in media.show(report.runs, path, 0)]  # the names and links alone
    spent = sum(len(part.encode("utf-8", "backslashreplace")) for part in (text, _json(content), *parts.values()))
    content["media"] = [vars(one) for one in media.show(report.runs, path, max(PAGE_BYTES - spent, 0))]
    parts["data"] = _json(content)
    head, *pieces = text.split("{{")
    for piece in pieces:
        name, _, rest = piece.partition("}}")
        head += parts[name] + rest
    return head


def _json(content: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Blobs:
    """Arrays as float32 in base64, each only once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._known: dict[bytes, int] = {}

    def add(self, values: NDArray) -> int:
        raw = np.ascontiguousarray(values, "<f4").tobytes()
        if raw not in self._known:
            self._known[raw] = len(self.texts)
            self.texts.append(base64.b64encode(raw).decode())
        return self._known[raw]


def payload(report: Report) -> dict[str, Any]:
    """All that the script of the page needs but the media, JSON-able."""
    blobs = _Blobs()
    group_of = report.group_of()
    shown = {section: list(section.metrics) for section in report.sections}
    points = _points(report, shown)
    every = report.differing
    differing = {name: values for name, values in every.items() if name not in ("seed", "task", "learner")}
    return {
        "about": f"{report.extent}; made {report.created:%Y-%m-%d %H:%M %Z}",
        "notes": report.notes,
        "explain_curves": f"{EXPLAIN[report.centre]}, areas their 95% bootstrap interval; dashed where some runs "
        "have ended.",
        "explain_table": "IQM: mean without the lowest and the highest quarter. Intervals: 95% percentile bootstrap "
        "over runs, stratified by task (Agarwal et al. 2021); of a single run over its games.",
        "colors": report.colors,
        "groups": [{"label": one.label, "kind": one.kind, "task": one.task, "runs": one.runs} for one in report.groups],
        "runs": [_run(report, index, group_of[index]) for index in range(len(report.runs))],
        "differing": list(differing.items()),
        "configurations": [_configurations(report, kind, differing, every) for kind in report.comparisons],
        "tables": [_table(report, kind, one) for kind, one in report.comparisons.items() if one.rows or one.notes],
        "sections": [
            {
                "title": section.title,
                "unit": section.unit,
                "left_out": len(section.metrics) - len(metrics),
                "panels": [_panel(report, section, metric, points, blobs) for metric in metrics],
            }
            for section, metrics in shown.items()
        ],
        "blobs": blobs.texts,
    }


def _points(report: Report, shown: dict[Section, list[str]]) -> int:
    """How many points curves may have; where even the fewest are too many, the last metrics of `shown` go."""
    allowed = CURVE_BYTES * 3 // 4 // 4
    while True:
        numbers = 0.0
        for section, metrics in shown.items():
            for metric in metrics:
                for members in report.curves(section, metric).values():
                    numbers += 1.5 * len(members)  # values; the axes are shared by metrics of the same lines
                    numbers += len(AXES) * BAND_ARRAYS if len(members) > 1 else 0
        points = int(allowed / max(numbers, 1))
        longest = max(shown, key=lambda section: len(shown[section]), default=None)
        if points >= POINTS[0] or longest is None or len(shown[longest]) <= 1:
            return min(max(points, POINTS[0]), POINTS[1])
        shown[longest].pop()


def _panel(report: Report, section: Section, metric: str, points: int, blobs: _Blobs) -> dict[str, Any]:
    lines, bands = [], []
    for place, members in report.curves(section, metric).items():
        for run, curve in members:
            chosen = _spread(len(curve.value), points)
            axes = [rising(curve, axis)[chosen] for axis in AXES]
            lines.append(
                [
                    run,
                    *(None if np.isnan(x).any() else blobs.add(x) for x in axes),
                    blobs.add(_means(curve.value, points)),
                ]
            )
        if len(members) > 1:
            found: dict[str, Any] = {"group": place}
            for axis in AXES:
                made = report.band([curve for _, curve in members], axis, points)
                if len(made.x):
                    found[axis] = [blobs.add(row) for row in (made.x, made.centre, made.low, made.high, made.runs)]
            bands.append(found)
    return {"metric": metric, "lines": lines, "bands": bands, "robust": metric.startswith(ROBUST)}


def _spread(count: int, points: int) -> NDArray[np.int64]:
    """The middle of each of at most so many equal parts."""
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, points + 1).astype(np.int64)
    return (edges[:-1] + edges[1:] - 1) // 2


def _means(values: NDArray, points: int) -> NDArray:
    """The mean of each of those parts, NaN left out."""
    if len(values) <= points:
        return values
    edges = np.linspace(0, len(values), points + 1).astype(np.int64)[:-1]
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0), edges)
    count = np.add.reduceat(known.astype(np.float64), edges)
    return np.divide(total, count, out=np.full(points, np.nan), where=count > 0)


def _run(report: Report, index: int, group: int) -> dict[str, Any]:
    run, end = report.runs[index], report.ends[index]
    return {
        "name": run.name,
        "group": group,
        "state": run.state,
        "seed": run.seed,
        "step": finite(run.metrics.step),
        "seconds": finite(run.metrics.seconds),
        "speed": finite(run.units_per_second),
        "memory": finite(run.memory_mb),
        "score": finite(end.values.get(SCORE)) if end is not None else None,
        "created": run.created,
        "origin": run.origin,
        "command": run.command_line,
    }


def _configurations(
    report: Report, kind: str, differing: Mapping[str, list[str]], every: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Of a family: the settings that differ in it, each with its commonest value, and those that do not."""
    runs = [index for index, run in enumerate(report.runs) if run.kind == kind]
    own = {}
    for name, values in differing.items():
        count = Counter(values[run] for run in runs)
        if len(count) > 1:
            own[name] = count.most_common(1)[0][0]
    first = settings(report.runs[runs[0]])
    shared = [
        (name, value) for name, value in first.items() if name not in own and (name not in every or name == "task")
    ]
    groups = [place for place, one in enumerate(report.groups) if one.kind == kind]
    return {"kind": kind, "groups": groups, "differing": list(own.items()), "common": shared}


def _table(report: Report, kind: str, one: Comparison) -> dict[str, Any]:
    best = _best(report, one.rows)
    own = {row.metric for row in one.rows if tells_quality(row.metric)} or {row.metric for row in one.rows}
    return {
        "kind": kind,
        "notes": one.notes,
        "metric": one.metric,
        "tasks": one.tasks,
        "human_tasks": one.human_tasks,
        "rows": [
            {
                **{
                    name: getattr(row, name)
                    for name in ("group", "metric", "mean", "iqm", "interval", "over", "values", "source")
                },
                "human": row.human_normalized,
                "human_interval": row.human_interval,
                "speed": finite(middle([report.runs[run].units_per_second for run in report.groups[row.group].runs])),
                "memory": finite(highest([report.runs[run].memory_mb for run in report.groups[row.group].runs])),
                "best": index in best,
                "own": row.metric in own,
            }
            for index, row in enumerate(one.rows)
        ],
        "aggregates": [vars(row) for row in one.aggregates],
        "compared": one.compared,
        "improvements": [vars(pair) for pair in one.improvements],
    }


def _best(report: Report, rows: Sequence[Row]) -> set[int]:
    """Of each task and metric that several groups have, and that tells who is better, the row with the best mean.

    Only those are rivals that compare.
    """
    rivals: dict[tuple, list[int]] = {}
    for index, row in enumerate(rows):
        if tells_quality(row.metric):
            rivals.setdefault((row.metric, report.groups[row.group].task, row.compares), []).append(index)
    best = set()
    for (metric, *_), indices in rivals.items():
        sign = 1.0 if higher_is_better(metric) else -1.0
        if len(indices) > 1:
            best.add(max(indices, key=lambda index: sign * rows[index].mean))
    return best


def middle(values: Sequence[float | None]) -> float | None:
    """The median of what is known."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def highest(values: Sequence[float | None]) -> float | None:
    """The maximum of what is known."""
    return max((value for value in values if value is not None), default=None)
