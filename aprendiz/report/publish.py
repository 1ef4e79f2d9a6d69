"""The comparison as a report at Weights & Biases: text, run sets and panels, by the package wandb-workspaces."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aprendiz.errors import ConfigError
from aprendiz.report.build import Report, Section
from aprendiz.report.core import RunData
from aprendiz.report.online import one_line
from aprendiz.report.tables import markdown
from aprendiz.tracking import key_is_configured

PROJECT = "aprendiz"
TITLE_CHARACTERS = 128
PANELS = 18
"""Of a section."""
RUN_SETS = 24
MEDIA = ("sample/images", "sample/grid", "sample/text", "eval/video")
_PANEL_WIDTH, _PANEL_HEIGHT, _ROW = 8, 6, 24


def publish(report: Report, project: str | None = None) -> str | None:
    """Makes the report and prints its address. Where that cannot be done one line says why, and None is returned: the
    offline report is there all the same. Raises ConfigError for a project that is none."""
    entity, name = _project(report, project)
    if importlib.util.find_spec("wandb_workspaces") is None:
        _refuse("it needs wandb-workspaces; pip install wandb-workspaces")
        return None
    if not key_is_configured():
        _refuse("no key is configured; `wandb login` stores one")
        return None
    logged = [run for run in report.runs if _logged(run)]
    if not logged:
        _refuse("none of these runs was ever logged there")
        return None
    try:
        import wandb

        entity = entity or str(wandb.Api(timeout=20).default_entity)
        made = specification(report, entity, name)
        made.save()
        address = str(made.url)
    except Exception as error:  # W&B's own errors, requests', pydantic's
        _refuse(one_line(error))
        return None
    print(f"W&B: {address}", flush=True)
    if len(logged) < len(report.runs):
        missing = len(report.runs) - len(logged)
        _say(f"{missing} of {len(report.runs)} runs were never logged there: only tables have them")
    waiting = [folders for run in report.runs if (folders := _not_uploaded(run))]
    if waiting:
        every = [shlex.quote(str(path)) for folders in waiting for path in folders]
        _say(
            f"{len(waiting)} of {len(report.runs)} runs were logged offline and show there once they are uploaded: "
            f"wandb sync {' '.join(every[:3])}{' ...' if len(every) > 3 else ''}"
        )
    return address


def specification(report: Report, entity: str, project: str) -> Any:
    """A `wandb_workspaces.reports.v2.Report`, not saved. Makes no request where all runs lie in its own project."""
    reports: Any = importlib.import_module("wandb_workspaces.reports.v2")
    blocks: list[Any] = [
        reports.P(text=f"{report.extent}, by aprendiz."),
        *([reports.UnorderedList(items=list(report.notes))] if report.notes else []),
        reports.TableOfContents(),
    ]
    for section in report.sections:
        blocks += [reports.H1(text=section.title), _grid(reports, report, section, f"{entity}/{project}")]
    blocks += [
        reports.H1(text="Configurations"),
        reports.PanelGrid(
            runsets=[_run_set(reports, "all runs", report.runs, f"{entity}/{project}")],
            panels=[reports.RunComparer(diff_only="split", layout=reports.Layout(x=0, y=0, w=_ROW, h=14))],
        ),
        reports.MarkdownBlock(text=markdown(report)),
    ]
    title = report.title[:TITLE_CHARACTERS]
    return reports.Report(entity=entity, project=project, title=title, description="", blocks=blocks, width="fluid")


def _grid(reports: Any, report: Report, section: Section, home: str) -> Any:
    """Run sets, one a group, and the panels of a section."""
    members = [run for place in section.groups for run in report.groups[place].runs]
    unit = report.runs[members[0]].unit
    x = unit if unit != "steps" else "Step"
    panels = []
    for place, metric in enumerate(section.metrics[:PANELS]):
        panels.append(
            reports.LinePlot(title=metric, x=x, y=[metric], title_x=section.unit, layout=_layout(reports, place))
        )
    below = -(-len(panels) // (_ROW // _PANEL_WIDTH)) * _PANEL_HEIGHT
    if "eval/score" in section.metrics:
        panels.append(reports.BarPlot(title="last score", metrics=["eval/score"], layout=_at(reports, 0, below)))
    if any(report.runs[run].media for run in members):
        panels.append(
            reports.MediaBrowser(title="samples", media_keys=list(MEDIA), layout=_at(reports, _PANEL_WIDTH, below))
        )
    groups = [report.groups[place] for place in section.groups]
    if len(groups) <= RUN_SETS:
        sets = [
            _run_set(reports, one.label, [report.runs[run] for run in one.runs], home, report.colors[one.label])
            for one in groups
        ]
    else:
        sets = [_run_set(reports, section.title, [report.runs[run] for run in members], home)]
    return reports.PanelGrid(runsets=sets, panels=panels)


def _run_set(reports: Any, name: str, runs: Sequence[RunData], home: str, color: str = "") -> Any:
    """A set of exactly these runs. Those of another project than the report's are looked for there."""
    ids = [run.wandb_id for run in runs if run.wandb_id]
    listed = ", ".join(f"'{one}'" for one in ids)
    colors = {one: reports.RunSettings(color=color) for one in ids} if color else {}
    places = {run.wandb_path for run in runs if "/" in run.wandb_path} - {home}
    elsewhere = dict(zip(("entity", "project"), next(iter(places)).split("/"), strict=True)) if len(places) == 1 else {}
    return reports.Runset(name=name, filters=f"Metric('ID') in [{listed}]", run_settings=colors, **elsewhere)


def _layout(reports: Any, place: int) -> Any:
    columns = _ROW // _PANEL_WIDTH
    return _at(reports, place % columns * _PANEL_WIDTH, place // columns * _PANEL_HEIGHT)


def _at(reports: Any, x: int, y: int) -> Any:
    return reports.Layout(x=x, y=y, w=_PANEL_WIDTH, h=_PANEL_HEIGHT)


def _project(report: Report, given: str | None) -> tuple[str, str]:
    """Entity ("" for one's own) and project."""
    if given is not None:
        parts = given.split("/")
        if len(parts) > 2 or not all(parts):
            raise ConfigError(f"--wandb-project {given!r} is neither PROJECT nor ENTITY/PROJECT")
        return ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    known = next((run.wandb_path for run in report.runs if "/" in run.wandb_path), "")
    entity, _, name = known.partition("/")
    return entity, name or PROJECT


def _logged(run: RunData) -> bool:
    """Whether W&B may know the run: every run here has an id for it, also where it was told to log nothing there."""
    if not run.wandb_id:
        return False
    disabled = run.origin == "local" and run.config.get("wandb") == "disabled"
    return not disabled or (run.path is not None and (run.path / "wandb").is_dir())


def _not_uploaded(run: RunData) -> list[Path]:
    """Where W&B keeps what was logged offline, one folder a session. Beside what `wandb sync` has uploaded lies a file
    that says so."""
    if run.path is None:
        return []
    folder = run.path.parent if run.origin == "W&B offline" else run.path / "wandb"
    files = sorted(folder.glob(f"offline-run-*/run-{run.wandb_id}.wandb"))
    return [file.parent for file in files if not file.with_name(f"{file.name}.synced").exists()]


def _refuse(reason: str) -> None:
    _say(f"no report at W&B: {reason}")


def _say(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr)
