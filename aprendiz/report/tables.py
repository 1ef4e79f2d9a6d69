"""The report's numbers as CSV, and its tables as Markdown."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from aprendiz.report.build import AXES, Report
from aprendiz.report.comparing import Comparison, Row
from aprendiz.report.core import RunData
from aprendiz.report.finals import SCORE
from aprendiz.report.grouping import Group
from aprendiz.report.page import highest, middle

CURVE_POINTS = (20, 200)
"""Places of a curve, at least and at most."""
CURVE_LINES = 150_000
"""As many lines as a spreadsheet still opens."""


def results_csv(report: Report) -> str:
    """One line a group and metric: statistics, interval, scores of runs, speed, memory, and settings that differ."""
    names = list(dict.fromkeys(name for one in report.groups for name in one.settings))
    head = ["family", "task", "group", "metric", "source", "runs", "mean", "iqm", "low", "high", "interval_over"]
    head += ["human_normalized", "human_low", "human_high", "units_per_second", "memory_mb", "values", *names]

    def rows() -> Iterator[list[Any]]:
        for kind, comparison in report.comparisons.items():
            for row in comparison.rows:
                one = report.groups[row.group]
                runs = [report.runs[run] for run in one.runs]
                human, interval = row.human_interval or (None, None), row.interval or (None, None)
                about = [kind, one.task, one.label, row.metric, row.source, len(row.values)]
                statistics = [row.mean, row.iqm, *interval, row.over, row.human_normalized, *human]
                values = " ".join(f"{value:.10g}" for value in row.values)
                differing = [one.settings.get(name) for name in names]
                yield [*about, *statistics, _speed(runs), _memory(runs), values, *differing]

    return _csv(head, rows())


def curves_csv(report: Report) -> str:
    """One line a group, metric, axis and place: centre, interval, and how many runs were there."""

    series = sum(len(report.curves(one, metric)) for one in report.sections for metric in one.metrics) * len(AXES)
    points = min(max(CURVE_LINES // max(series, 1), CURVE_POINTS[0]), CURVE_POINTS[1])

    def rows() -> Iterator[list[Any]]:
        for section in report.sections:
            for metric in section.metrics:
                for place, members in report.curves(section, metric).items():
                    for axis in AXES:
                        made = report.band([curve for _, curve in members], axis, points)
                        for values in zip(made.x, made.centre, made.low, made.high, made.runs, strict=True):
                            if values[4]:
                                about = [section.kind, section.task, report.groups[place].label, metric, axis]
                                yield [*about, *(f"{value:.8g}" for value in values[:4]), int(values[4])]

    return _csv(["family", "task", "group", "metric", "axis", "x", "centre", "low", "high", "runs"], rows())


def _csv(head: Sequence[str], rows: Iterator[list[Any]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return buffer.getvalue()


def markdown(report: Report, picture: str = "") -> str:
    """All tables, with the command that made each run; `picture`: the address of the curves."""
    parts = [
        f"# {_shown(report.title)}",
        f"{report.extent}; {report.created:%Y-%m-%d %H:%M}.",
    ]
    parts += [f"- {_shown(note)}" for note in report.notes]
    if picture:
        parts.append(f"![curves]({quote(os.fsencode(picture))})")
    for kind, comparison in report.comparisons.items():
        if comparison.rows or comparison.notes:
            parts += [f"## Final evaluation: {kind}", *_final(report, comparison)]
    parts += ["## Settings that differ", _settings(report), "## Runs", _runs(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _final(report: Report, comparison: Comparison) -> Iterator[str]:
    yield from (f"- {_shown(note)}" for note in comparison.notes)
    head = [
        "task",
        "group",
        "metric",
        "mean",
        "IQM",
        "95% interval of the IQM",
        "over",
        "human-normalised",
        "steps a second",
    ]
    yield _table([*head, "memory MB", "from"], [_row(report, row) for row in comparison.rows])
    if comparison.aggregates:
        yield f"### Human-normalised scores over {', '.join(comparison.human_tasks)}"
        rows = []
        for one in comparison.aggregates:
            names = ("iqm", "median", "mean", "optimality_gap")
            cells = [f"{number(getattr(one, name))} ({_between(one.intervals[name])})" for name in names]
            rows.append([one.label, str(one.runs), *cells])
        yield _table(["group", "runs", "IQM", "median", "mean", "optimality gap"], rows)
    if comparison.compared:
        yield f"### Probability of improvement ({comparison.metric}; {', '.join(comparison.tasks)})"
        yield "How likely a run of the row scores better than a run of the column, with the 95% interval."
        pairs = {(pair.better, pair.worse): pair for pair in comparison.improvements}
        rows = []
        for better in comparison.compared:
            cells = [better]
            for worse in comparison.compared:
                pair = pairs.get((better, worse))
                ends = f" ({pair.interval[0]:.2f} to {pair.interval[1]:.2f})" if pair and pair.interval else ""
                cells.append(f"{pair.probability:.2f}{ends}" if pair else "")
            rows.append(cells)
        yield _table(["", *comparison.compared], rows)


def _row(report: Report, row: Row) -> list[str]:
    one = report.groups[row.group]
    runs = [report.runs[run] for run in one.runs]
    human = "" if row.human_normalized is None else f"{row.human_normalized:.1%}"
    numbers = [
        one.task,
        one.label,
        row.metric,
        number(row.mean),
        number(row.iqm),
        _between(row.interval),
        row.over,
        human,
    ]
    return [*numbers, number(_speed(runs)), number(_memory(runs)), row.source]


def _settings(report: Report) -> str:
    differing = {name: values for name, values in report.differing.items() if name not in ("seed", "task", "learner")}
    if not differing:
        return "None but the seed."

    def cell(one: Group, values: Sequence[str]) -> str:
        own = list(dict.fromkeys(values[run] for run in one.runs))
        return ", ".join(own[:4]) + (", ..." if len(own) > 4 else "")

    names = [f"{one.task}: {one.label}" for one in report.groups]
    if len(names) <= len(differing):  # whatever there is less of goes across
        rows = [[name, *(cell(one, values) for one in report.groups)] for name, values in differing.items()]
        return _table(["setting", *names], rows)
    rows = [
        [name, *(cell(one, values) for values in differing.values())]
        for name, one in zip(names, report.groups, strict=True)
    ]
    return _table(["group", *differing], rows)


def _runs(report: Report) -> str:
    rows = []
    for place, run, end in zip(report.group_of(), report.runs, report.ends, strict=True):
        score = end.values.get(SCORE) if end is not None else None
        command = _code(run.command_line) if run.command_line else ""
        about = [run.name, report.groups[place].label, run.state, "" if run.seed is None else str(run.seed)]
        rows.append([*about, f"{run.metrics.step:,.0f}", f"{run.metrics.seconds:,.0f}", number(score), command])
    return _table(["run", "group", "state", "seed", "steps", "seconds", "score", "command"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in map(_shown, cells)) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *(line(row) for row in rows)])


def _shown(cell: str) -> str:
    """A cell as a reader is to see it: `<unk>` is no element."""
    return cell if cell.startswith("`") else cell.replace("&", "&amp;").replace("<", "&lt;")


def _code(text: str) -> str:
    """A text as code, whatever quotes are in it."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def number(value: float | None) -> str:
    """A number in a table, to four digits; nothing where there is none."""
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def _speed(runs: Sequence[RunData]) -> float | None:
    return middle([run.units_per_second for run in runs])


def _memory(runs: Sequence[RunData]) -> float | None:
    return highest([run.memory_mb for run in runs])
