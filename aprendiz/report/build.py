"""A report: runs, their groups, what they were worth, and the sections that a reader goes through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from aprendiz.report.alignment import Band, Centre, band
from aprendiz.report.comparing import Comparison, compare
from aprendiz.report.core import RunData, natural, unit_words
from aprendiz.report.finals import Final, finals
from aprendiz.report.grouping import Group, differing, group, repeated
from aprendiz.report.series import Curve

AXES = ("step", "seconds", "updates")
ORDER = ("eval/", "train/", "rollout/", "speed/")
"""Families of metrics, as a reader wants them."""
FIRST = ("eval/score", "rollout/score_mean", "train/loss")
COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e07b00", "#8c564b", "#00a08a", "#7f7f7f",
)  # fmt: skip
"""After Paul Tol's bright scheme, which colour-blind readers can tell apart, and more."""


@dataclass(frozen=True)
class Section:
    """The curves of one family on one task."""

    kind: str
    task: str
    unit: str
    """Of its steps, in words."""
    groups: tuple[int, ...]
    metrics: tuple[str, ...]
    """Names, the most telling first."""

    @property
    def title(self) -> str:
        return f"{self.task} ({self.kind})"


@dataclass
class Report:
    """Everything that HTML, PNG, CSV, Markdown and W&B's report are made from."""

    title: str
    created: datetime
    runs: list[RunData]
    groups: list[Group]
    ends: list[Final | None]
    sections: list[Section]
    comparisons: dict[str, Comparison]
    """By family."""
    centre: Centre = "mean"
    notes: list[str] = field(default_factory=list)

    @property
    def extent(self) -> str:
        """How many runs, in how many groups."""
        runs, groups = len(self.runs), len(self.groups)
        return f"{runs} run{'' if runs == 1 else 's'} in {groups} group{'' if groups == 1 else 's'}"

    @property
    def colors(self) -> dict[str, str]:
        """A colour for each label of a group; the same on every task."""
        labels = dict.fromkeys(one.label for one in self.groups)
        return {label: color(place) for place, label in enumerate(labels)}

    @property
    def differing(self) -> dict[str, list[str]]:
        """The settings in which runs differ, with every run's value."""
        return differing(self.runs)

    def group_of(self) -> list[int]:
        """For each run the place of its group."""
        places = {run: place for place, one in enumerate(self.groups) for run in one.runs}
        return [places[run] for run in range(len(self.runs))]

    def curves(self, section: Section, metric: str) -> dict[int, list[tuple[int, Curve]]]:
        """Of every group of a section the runs that have a metric, with their curves."""
        found = {}
        for place in section.groups:
            of_runs = [
                (run, self.runs[run].metrics.curves[metric])
                for run in self.groups[place].runs
                if metric in self.runs[run].metrics.curves
            ]
            if of_runs:
                found[place] = of_runs
        return found

    def band(self, curves: Sequence[Curve], axis: str, points: int) -> Band:
        """Curves of a group as one, over steps, seconds or updates."""
        return band([(rising(curve, axis), curve.value) for curve in curves], points, self.centre)


def rising(curve: Curve, axis: str) -> NDArray[np.float64]:
    """The places of a curve on an axis [n]. A clock that was set back never goes back here."""
    return np.maximum.accumulate(getattr(curve, axis))


def color(place: int) -> str:
    """The colour of the n-th label."""
    if place < len(COLORS):
        return COLORS[place]
    hue = (place * 137.508) % 360  # the golden angle: neighbours are far apart
    return _hex(hue, 0.6, 0.35 + 0.2 * (place % 3) / 2)


def _hex(hue: float, saturation: float, lightness: float) -> str:
    import colorsys

    red, green, blue = colorsys.hls_to_rgb(hue / 360, lightness, saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def build(
    runs: Sequence[RunData],
    *,
    by: Sequence[str] = (),
    centre: Centre = "mean",
    title: str = "",
    notes: Sequence[str] = (),
) -> Report:
    """Puts runs together. Raises ConfigError for a setting to group by that no run has."""
    runs = list(runs)
    groups = group(runs, by)
    ends = finals(runs)
    kinds = list(dict.fromkeys(run.kind for run in runs))
    comparisons = {kind: compare(kind, runs, groups, ends) for kind in kinds}
    sections = []
    for kind, task in dict.fromkeys((one.kind, one.task) for one in groups):
        places = tuple(place for place, one in enumerate(groups) if (one.kind, one.task) == (kind, task))
        members = [run for place in places for run in groups[place].runs]
        names = {name for run in members for name in runs[run].metrics.curves}
        units = list(dict.fromkeys(runs[run].unit for run in members))
        if names:
            ordered = tuple(sorted(names, key=_order))
            sections.append(Section(kind, task, unit_words(units[0]), places, ordered))
    if not title:
        learners, tasks = (list(dict.fromkeys(getattr(run, name) for run in runs)) for name in ("learner", "task"))
        title = f"{natural(learners, 4)} on {natural(tasks, 3)}"
    empty = [run.name for run in runs if not run.metrics.curves]
    said = [*notes, *([f"without any metric yet: {natural(empty)}"] if empty else [])]
    for indices in repeated(runs):
        same = natural([runs[index].name for index in indices], 3)
        said.append(f"of the same seed and settings, so that intervals over them are too narrow: {same}")
    created = datetime.now().astimezone()
    return Report(title, created, runs, groups, ends, sections, comparisons, centre, said)


def _order(name: str) -> tuple[int, int, str]:
    first = FIRST.index(name) if name in FIRST else len(FIRST)
    family = next((place for place, prefix in enumerate(ORDER) if name.startswith(prefix)), len(ORDER))
    return first, family, name


def finite(value: float | None) -> float | None:
    """A number that JSON can hold, or None."""
    return float(value) if value is not None and math.isfinite(value) else None
