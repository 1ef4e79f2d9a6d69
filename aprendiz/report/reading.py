"""Runs from wherever they are: folders here, W&B's offline folders, W&B itself."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from aprendiz.errors import RunError
from aprendiz.report import series
from aprendiz.report.core import Medium, RunData
from aprendiz.run import Run, runs_folder

ALONE_BYTES = 30_000_000
"""Less than so much to read is read by one process: others take longer to start."""
WORKER_BYTES = 8_000_000
"""What is worth a process of its own."""
_MEDIA = {".png": "image", ".jpg": "image", ".jpeg": "image", ".gif": "image", ".mp4": "video", ".txt": "text"}
_ONLINE = re.compile(r"(?:wandb:)?([\w.-]+)/([\w.-]+)/(?:runs/)?([\w.-]+)")
_PAGE = re.compile(r"https://[\w.:-]+/(?:wandb/)?([\w.-]+)/([\w.-]+)/runs/([\w.-]+)(?:[/?#].*)?")


def find(texts: Sequence[str]) -> tuple[list[Path | str], list[str]]:
    """What the words of a command mean: folders of runs, W&B's offline folders, and `entity/project/run_id` as text.

    A folder that holds runs stands for all of them, a name for what `Run.open` finds. Returns them, each once, with
    notes on what was passed over (files such as the README of `runs/*`, folders that are no runs). Raises RunError for
    a name that nothing answers to, and where nothing is left.
    """
    found: dict[str, Path | str] = {}
    notes: list[str] = []

    def add(one: Path | str) -> None:
        found.setdefault(str(one.resolve()) if isinstance(one, Path) else one, one)

    for text in texts:
        path = Path(text)
        if path.is_dir():
            try:
                several = _runs_in(path) or _called(text)
            except OSError as error:  # it may not be read, or has just gone
                notes.append(f"passed over {text}: {error.strerror}")
                continue
            for one in several:
                add(one)
            if not several:
                notes.append(f"passed over {text}: no run in it")
        elif path.suffix == ".wandb" and path.is_file():
            add(path.parent)
        elif path.is_file():
            notes.append(f"passed over {text}: a file, and no run's folder")
        elif (online := _ONLINE.fullmatch(text) or _PAGE.fullmatch(text)) and not (runs_folder() / text).exists():
            add("/".join(online.groups()))
        else:
            add(Run.open(text).path)
    if not found:
        raise RunError(f"there is no run in {', '.join(texts)}; name folders that training commands made")
    return list(found.values()), notes


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself where it is a run's or W&B's, else those right below it, links last: most lead to others."""
    if (folder / "config.json").exists() or _wandb_file(folder) is not None:
        return [folder]
    below = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: (one.is_symlink(), one))
    return [one for one in below if (one / "config.json").exists() or _wandb_file(one) is not None]


def _called(text: str) -> list[Path]:
    """The run of that name, task or learner, for a folder of the same name need not be meant."""
    try:
        return [Run.open(text).path]
    except RunError:
        return []


def _wandb_file(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("run-*.wandb"))), None)


def read_all(
    runs: Sequence[Path | str], workers: int | None = None, points: int = series.POINTS
) -> tuple[list[RunData], list[str]]:
    """Reads runs in the given order, those with much to read by several processes.

    A run that cannot be read, or pulled from W&B, is left out with a note, as is what is here twice. Raises RunError
    where none is left.
    """
    here = [one for one in runs if isinstance(one, Path)]
    sizes = {one: _size(one) for one in here}
    total = sum(sizes.values())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or cores, len(here), max(total // WORKER_BYTES, 1))
    if count > 1 and total > ALONE_BYTES:
        # The largest first, so that no process is left with it at the end.
        order = sorted(here, key=lambda one: -sizes[one])
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            answers = dict(zip(order, pool.map(_try_read, order, [points] * len(order)), strict=True))
    else:
        answers = {one: _try_read(one, points) for one in here}
    result, notes = [], []
    for one in runs:
        if isinstance(one, str):
            from aprendiz.report import online

            answer: RunData | str
            try:
                answer = online.read_online(one, points)
            except RunError as error:
                answer = str(error)
        else:
            answer = answers[one]
        if isinstance(answer, str):
            notes.append(f"passed over {one}: {answer}")
        else:
            result.append(answer)
            notes += answer.notes
    if not result:
        raise RunError("; ".join(notes) or "no run was given")
    return _each_once(result, notes), notes


def _each_once(runs: Sequence[RunData], notes: list[str]) -> list[RunData]:
    """The runs, of which those at W&B may be there twice: beside their own folder, or in several offline sessions."""
    local = {run.wandb_id: run for run in runs if run.origin == "local"}
    found: dict[tuple, list[RunData]] = defaultdict(list)
    for place, run in enumerate(runs):
        if run.origin == "local" or not run.wandb_id:
            found[(place,)].append(run)
        elif run.wandb_id in local:
            notes.append(f"passed over {run.name} ({run.origin}): it is {local[run.wandb_id].name}, which is here")
        else:
            found[(run.origin, run.wandb_path, run.wandb_id)].append(run)
    return [_sessions(several) for several in found.values()]


def _sessions(several: Sequence[RunData]) -> RunData:
    """A run of one or more sessions: made by the command of the first, and left as the last did."""
    ordered = sorted(several, key=lambda run: run.created)
    first, last = ordered[0], ordered[-1]
    if first is last:
        return first
    metrics = series.together([run.metrics for run in ordered])
    shown = sorted((one for run in ordered for one in run.media), key=lambda one: one.step or 0)
    return replace(first, metrics=metrics, media=shown, state=last.state, config=last.config)


def _try_read(path: Path, points: int) -> RunData | str:
    """The run, or why there is none."""
    try:
        return read_run(path, points)
    except (RunError, OSError) as error:
        return str(error)


def _size(path: Path) -> int:
    file = path / "metrics.jsonl"
    if not (path / "config.json").exists():
        file = _wandb_file(path) or file
    try:
        return file.stat().st_size
    except OSError:
        return 0


def read_run(path: Path, points: int = series.POINTS) -> RunData:
    """One run's folder, or one of W&B's offline folders. Raises RunError where it is neither; OSError.

    What is half-written or missing inside is left out and noted.
    """
    if not (path / "config.json").exists() and _wandb_file(path) is not None:
        from aprendiz.report import offline

        return offline.read_offline(path, points)
    from aprendiz.runs import state_of

    run = Run.open(path)
    notes: list[str] = []
    metrics = series.read(path / "metrics.jsonl", points)
    if metrics.torn:
        notes.append(f"{run.name}: {metrics.torn:,} lines of metrics.jsonl are no metrics, and were left out")
    try:
        evaluations = [one for one in run.evaluations() if isinstance(one, dict)]
    except RunError as error:
        evaluations = []
        notes.append(f"{run.name}: evaluations.json cannot be read and was left out: {error}")
    info = run.info
    command = info.get("command")
    return RunData(
        name=run.name,
        kind=run.kind,
        task=run.task,
        learner=run.learner,
        seed=run.seed,
        config=run.config,
        metrics=metrics,
        path=path,
        command=[str(word) for word in command] if isinstance(command, list) else [],
        state=state_of(run),
        created=str(info.get("created") or ""),
        device=str(info.get("device") or ""),
        git_commit=info.get("git_commit"),
        versions=info.get("versions") or {},
        wandb_id=str(info.get("wandb_id") or ""),
        unit=unit_of(run.config),
        evaluations=evaluations,
        media=find_media(path),
        notes=notes,
    )


def unit_of(config: dict[str, Any]) -> str:
    """What a run counts: the cadence's name of it."""
    cadence = config.get("cadence")
    unit = cadence.get("step_name") if isinstance(cadence, dict) else None
    return unit if isinstance(unit, str) and unit else "steps"


def find_media(path: Path) -> list[Medium]:
    """Pictures, texts and videos of a run's folder, the earliest first; those without a step last.

    Names that start with a dot are of what is being written; a picture of the run's curves shows what the report draws.
    """
    found = []
    for folder in ("samples", "videos"):
        for file in sorted((path / folder).glob("*")):
            kind = _MEDIA.get(file.suffix.lower())
            if kind and file.is_file() and not file.name.startswith((".", "curves")):
                step = re.search(r"-(\d{6,})(?!\d)", file.stem)
                found.append(Medium(kind, file, int(step.group(1)) if step else None))
    return sorted(found, key=lambda one: (one.step is None, one.step or 0))


def tell(notes: Sequence[str], most: int = 10) -> None:
    """Notes on stderr, one a line."""
    for note in notes[:most]:
        print(f"note: {note}", file=sys.stderr)
    if len(notes) > most:
        print(f"note: and {len(notes) - most} more like these", file=sys.stderr)


def as_text(value: Any) -> str:
    """A value of a configuration in a few words."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.9g}"  # settings with equal texts are one: a schedule of millions of steps has more than 6
    return json.dumps(value, default=str)
