"""The report as one PNG: the most telling curves of every task, and final scores with their intervals."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.report.build import Report, Section
from aprendiz.report.comparing import Comparison, Row
from aprendiz.report.page import ROBUST

PANELS_A_ROW = 3
PANELS = 15
POINTS = 150
MOST_GROUPS = 20
"""In a legend and in a panel of final scores."""
LABEL_CHARACTERS = 70


def draw(report: Report) -> bytes | None:
    """A PNG; None where no run has a metric to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = _chosen(report)
    bars = [(kind, found) for kind, one in report.comparisons.items() if (found := _bars(one))]
    count = len(chosen) + len(bars)
    if not count:
        return None
    rows = -(-count // PANELS_A_ROW)
    figure = Figure(figsize=(4.6 * PANELS_A_ROW, 3.0 * rows + 0.9), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, PANELS_A_ROW, squeeze=False).flatten())
    for panel in panels[count:]:
        panel.set_axis_off()
    handles: dict[str, Any] = {}
    for panel, (section, metric) in zip(panels, chosen, strict=False):
        _curves(report, section, metric, panel, handles)
    for panel, (kind, found) in zip(panels[len(chosen) :], bars, strict=False):
        _finals(report, kind, found, panel)
    figure.suptitle(_plain(report.title), fontsize=11)
    shown = dict(list(handles.items())[:MOST_GROUPS])
    if shown:
        names = [_plain(name, LABEL_CHARACTERS) for name in shown]
        columns = max(1, min(len(names), 150 // (max(map(len, names)) + 8)))
        figure.legend(shown.values(), names, loc="outside lower center", ncols=columns, fontsize=8)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _chosen(report: Report) -> list[tuple[Section, str]]:
    """Sections take turns, each with its next metric, until there are enough."""
    found: list[tuple[Section, str]] = []
    depth = max((len(section.metrics) for section in report.sections), default=0)
    share = max(PANELS // max(len(report.sections), 1), 1)
    for place in range(min(depth, share)):
        found += [(section, section.metrics[place]) for section in report.sections if place < len(section.metrics)]
    found = found[:PANELS]
    return sorted(found, key=lambda pair: report.sections.index(pair[0]))


def _curves(report: Report, section: Section, metric: str, panel: Any, handles: dict[str, Any]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    colors = report.colors
    drawn: list[NDArray[np.float64]] = []
    for place, members in report.curves(section, metric).items():
        label = report.groups[place].label
        made = report.band([curve for _, curve in members], "step", POINTS)
        if not len(made.x):
            continue
        (line,) = panel.plot(
            made.x, made.centre, color=colors[label], linewidth=1.4, marker="." if len(made.x) < 2 else ""
        )
        panel.fill_between(made.x, made.low, made.high, color=colors[label], alpha=0.18, linewidth=0)
        handles.setdefault(label, line)
        drawn += [made.low, made.high]
    if metric.startswith(ROBUST) and drawn:
        values = np.concatenate(drawn)
        least = min(float(np.nanmin(values)), 0.0)
        highest = min(float(np.nanmax(values)), 2.0 * float(np.nanquantile(values, 0.95)) - least)
        margin = 0.05 * (highest - least) or 1.0
        panel.set_ylim(least - margin, highest + margin)
    panel.set_title(_plain(f"{section.task}: {metric}"), fontsize=9)
    panel.set_xlabel(_plain(section.unit), fontsize=8)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.3)


def _bars(comparison: Comparison) -> list[Row]:
    """The rows of the metric that is compared, of at most so many groups."""
    return [row for row in comparison.rows if row.metric == comparison.metric][:MOST_GROUPS]


def _finals(report: Report, kind: str, rows: list[Row], panel: Any) -> None:
    colors = report.colors
    several = len({report.groups[row.group].task for row in rows}) > 1
    names = []
    for place, row in enumerate(reversed(rows)):
        one = report.groups[row.group]
        panel.barh(place, row.iqm, color=colors[one.label], alpha=0.7)
        if row.interval is not None:
            error = [[max(row.iqm - row.interval[0], 0.0)], [max(row.interval[1] - row.iqm, 0.0)]]
            panel.errorbar(row.iqm, place, xerr=error, color="black", linewidth=1.0, capsize=2)
        names.append(f"{one.task}: {one.label}" if several else one.label)
    panel.set_yticks(range(len(names)), [_plain(name, 34) for name in names], fontsize=7)
    panel.set_title(_plain(f"{kind}: {rows[0].metric}, IQM and 95% interval"), fontsize=8)
    panel.tick_params(axis="x", labelsize=7)
    panel.grid(alpha=0.3, axis="x")


def _plain(text: str, most: int = 200) -> str:
    """A text as it is, and not too long: matplotlib takes what stands between dollars for mathematics."""
    short = text if len(text) <= most else f"{text[: most - 3]}..."
    return short.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
