"""Compare runs of any family: one page with curves, tables, samples and configurations, which works offline.

python -m aprendiz.report RUN [RUN ...] [--out report.html] [--wandb]
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError, StorageError

PROG = "python -m aprendiz.report"
SUFFIXES = {".html": "html", ".png": "png", ".csv": "csv", ".md": "md"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder or name, a task or learner (its newest run), `latest`, a folder of runs, a folder of W&B's
    offline runs, or a run at W&B as entity/project/run_id."""
    out: Path = Path("report.html")
    """The page. Picture, CSV and Markdown lie beside it; with .png, .csv or .md that alone is written."""
    formats: str = "html,png,csv,md"
    """What is written, with commas between."""
    group_by: str | None = None
    """Settings that decide which runs belong together, with commas between: `learner`, `learning_rate`, `agent.preset`.
    None: everything but the seed."""
    statistic: Literal["mean", "iqm"] = "mean"
    """Of the curves: the mean over runs, or the interquartile mean. Tables have both."""
    title: str = ""
    """Empty: made from learners and tasks."""
    wandb: bool = False
    """Also make a report at W&B of the runs that are there, and print its address (needs `pip install
    wandb-workspaces`)."""
    wandb_project: str | None = None
    """Where it is made: PROJECT or ENTITY/PROJECT. None: where the runs are, else `aprendiz`."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options,
        argv,
        prog=PROG,
        description="Compare runs: curves, final scores, samples and configurations in one page.",
    )
    if not options.runs:
        raise ConfigError(f"which runs? give their folders or names, or a folder of runs; {PROG} --help")
    formats = _formats(options)
    folder = options.out.parent
    if not folder.is_dir():
        raise ConfigError(f"--out {options.out}: there is no folder {folder}; make it first")
    if options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a folder; name a file in it, such as {options.out / 'report.html'}")
    from aprendiz.report import build, reading

    found, passed_over = reading.find(options.runs)
    runs, notes = reading.read_all(found)
    by = [name.strip() for name in (options.group_by or "").split(",") if name.strip()]
    report = build.build(runs, by=by, centre=options.statistic, title=options.title, notes=[*passed_over, *notes])
    reading.tell([*report.notes, *(note for one in report.comparisons.values() for note in one.notes)])
    for path in write(report, options.out, formats):
        print(path, flush=True)
    if options.wandb:
        from aprendiz.report import publish

        publish.publish(report, options.wandb_project)


def _formats(options: Options) -> list[str]:
    known = list(SUFFIXES.values())
    suffix = options.out.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--out {options.out}: the name must end in {', '.join(SUFFIXES)}")
    if suffix != ".html":
        return [SUFFIXES[suffix]]
    wanted = [name.strip().lower().lstrip(".") for name in options.formats.split(",") if name.strip()]
    wanted = [{"markdown": "md"}.get(name, name) for name in wanted]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(f"--formats {options.formats!r}: choose from {', '.join(known)}, with commas between")
    return [name for name in known if name in wanted]


def write(report: object, out: Path, formats: list[str]) -> list[Path]:
    """Writes a `build.Report` in these formats; returns the files. Raises StorageError."""
    from aprendiz.report.build import Report

    assert isinstance(report, Report)
    written: list[Path] = []

    def put(path: Path, content: str | bytes) -> None:
        # Names of files and settings need not be text; in the page's data such escapes are what JSON has for them.
        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        temporary = path.with_name(f".{os.getpid()}.tmp")  # who has the page open never sees half of it
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write {path}: {error.strerror}; name another place with --out") from error
        written.append(path)

    if "html" in formats:
        from aprendiz.report import page

        put(out, page.render(report, out))
    picture = None
    if "png" in formats:
        from aprendiz.report.picture import draw

        if (picture := draw(report)) is not None:
            put(out.with_suffix(".png"), picture)
        else:
            print("no picture: no run has a metric to draw", file=sys.stderr)
    if "csv" in formats:
        from aprendiz.report import tables

        put(out.with_suffix(".csv"), tables.results_csv(report))
        put(out.with_name(f"{out.stem}-curves.csv"), tables.curves_csv(report))
    if "md" in formats:
        from aprendiz.report import tables

        put(out.with_suffix(".md"), tables.markdown(report, out.with_suffix(".png").name if picture else ""))
    return written


if __name__ == "__main__":
    cli.main(command)
