"""Local runs: which there are, and room on the disk.

python -m aprendiz.runs                    state, score, age and size of every run
python -m aprendiz.runs prune [RUN ...]    free space, asking first
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from aprendiz import cli, jsonlines
from aprendiz.errors import ConfigError, RunError, StorageError

if TYPE_CHECKING:
    from aprendiz.run import Run

PROG = "python -m aprendiz.runs"
PARTS = ("replay", "checkpoints", "wandb", "runs")
FRESH_SECONDS = 600.0
"""A run that says it is running, and wrote something so lately, is left alone even where no lock is seen: it may run on
another machine that shares the disk."""
BUSY = ("running", "running elsewhere")
STATES = ("finished", "stopped", "failed", "diverged", "killed", "unknown")
"""Of runs that nobody trains."""


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """List runs, the newest first. `prune --help` tells of freeing space."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only these: names, folders, tasks, learners. None: all."""
    folder: Path | None = None
    """Where runs lie. None: APRENDIZ_RUNS, else `runs`."""
    sort: Literal["age", "size", "score", "name"] = "age"
    """By what: the youngest, largest, best or first comes first."""


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Free space. What would go is shown first and goes when that was agreed to; running runs are never touched."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only these: names, folders, tasks, learners (all runs of theirs). None: all."""
    what: str = "replay,checkpoints"
    """With commas between: `replay` (replay memories: a run then fills a new one before it goes on learning),
    `checkpoints` (all but the best, the last, and those kept on purpose), `wandb` (W&B's own files, also what was never
    uploaded), `runs` (everything)."""
    older_than: float | None = None
    """Only runs that began so many days ago."""
    state: str | None = None
    """Only runs in this state: finished, stopped, failed, diverged, killed or unknown."""
    yes: bool = False
    """Do not ask."""
    folder: Path | None = None
    """Where runs lie. None: APRENDIZ_RUNS, else `runs`."""

    def __post_init__(self) -> None:
        parts = self.parts
        if not parts or any(part not in PARTS for part in parts):
            raise ConfigError(f"--what {self.what!r}: choose from {', '.join(PARTS)}, with commas between")
        if self.state is not None and self.state not in STATES:
            raise ConfigError(f"--state {self.state!r}: choose from {', '.join(STATES)}")
        if self.older_than is not None and not self.older_than >= 0:
            raise ConfigError(f"--older-than is in days, 0 or more; got {self.older_than}")
        if "runs" in parts and not self.runs and self.older_than is None and self.state is None:
            raise ConfigError(
                "--what runs deletes everything: name the runs, or give --older-than DAYS or --state STATE"
            )

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.what.split(",") if part.strip())


@dataclass(frozen=True)
class Found:
    """A run as the list shows it."""

    run: Run
    state: str
    """As the run wrote it last; "killed" where it says that it is running and nobody trains it."""
    step: int | None
    """How far its metrics or its status say that it has come; None where neither can be read."""
    score: float | None
    """Mean of the newest evaluation of whole games, else the best score of training; None where there is neither."""
    age_seconds: float
    size: int
    """Bytes of all its files."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    if argv and argv[0] == "prune":
        description = "Free space taken by local runs."
        prune(cli.parse(PruneOptions, argv[1:], prog=f"{PROG} prune", description=description))
        return
    words = argv[1:] if argv and argv[0] == "list" else argv
    options: ListOptions = cli.parse(ListOptions, words, prog=PROG, description=ListOptions.__doc__ or "")
    show(options)


def show(options: ListOptions) -> None:
    """Prints the list. Raises RunError where there is no run."""
    found = [look_at(run) for run in choose(options.runs, options.folder)]
    if not found:
        raise RunError(f"there is no run in {_root(options.folder)}; start one with a training command")
    keys: dict[str, Any] = {
        "age": lambda one: one.age_seconds,
        "size": lambda one: -one.size,
        "score": lambda one: -one.score if one.score is not None else float("inf"),
        "name": lambda one: one.run.name,
    }
    found.sort(key=keys[options.sort])
    rows = []
    for one in found:
        steps = "" if one.step is None else f"{one.step:,}"
        score = "" if one.score is None else f"{one.score:.4g}"
        rows.append((one.run.name, one.run.kind, one.state, steps, score, age(one.age_seconds), size(one.size)))
    total = f"{len(found)} run{'s' if len(found) > 1 else ''}, {size(sum(one.size for one in found))}"
    print_rows(("run", "family", "state", "step", "score", "age", "size"), rows, total)


def prune(options: PruneOptions) -> None:
    """Shows what can go, asks, and deletes it. Raises ConfigError where nobody can be asked; StorageError."""
    chosen: list[tuple[Found, list[Path], int]] = []
    busy = 0
    for run in choose(options.runs, options.folder):
        if run.path.is_symlink():
            print(f"{run.path} is a link, and left alone; name the folder that it leads to", file=sys.stderr)
            continue
        found = look_at(run, sizes=False)
        if options.older_than is not None and found.age_seconds < 86400 * options.older_than:
            continue
        if options.state is not None and found.state != options.state:
            continue
        if found.state in BUSY:
            busy += 1
            continue
        paths = removable(run, options.parts)
        bytes_ = sum(size_of(path) for path in paths)
        if paths:
            chosen.append((found, paths, bytes_))
    if busy:
        print(f"{busy} running run{'s are' if busy > 1 else ' is'} left alone", file=sys.stderr)
    if not chosen:
        print("nothing to free")
        return
    chosen.sort(key=lambda one: -one[2])
    rows = [
        (one.run.name, one.state, age(one.age_seconds), ", ".join(_names(one.run, paths)), size(bytes_))
        for one, paths, bytes_ in chosen
    ]
    total = sum(bytes_ for _, _, bytes_ in chosen)
    count = f"{len(chosen)} run{'s' if len(chosen) > 1 else ''}"
    print_rows(("run", "state", "age", "what goes", "size"), rows, f"{count}, {size(total)}")
    if not options.yes and not _agreed(f"delete these {size(total)}? [y/N] "):
        print("nothing was deleted")
        return
    freed = 0
    for one, paths, bytes_ in chosen:
        if _remove(one.run, paths, options.parts):
            freed += bytes_
        else:
            print(f"{one.run.name} is being trained meanwhile, and left alone", file=sys.stderr)
    print(f"freed {size(freed)}")


def _root(folder: Path | None) -> Path:
    from aprendiz.run import runs_folder

    return folder or runs_folder()


def choose(names: Sequence[str], folder: Path | None) -> list[Run]:
    """The runs that the names mean: each a run's name or folder, or a task or learner with all runs of it. All runs
    without any name. One that cannot be read is left out, and said on stderr. Raises RunError for a name that no run
    answers to."""
    from aprendiz.run import Run

    root = _root(folder)
    if not root.is_dir():
        raise RunError(f"there is no folder {root}; runs are made by the training commands, or give --folder")
    known: list[Run] = []
    seen: set[Path] = set()
    # Links come last: one to a run that is here is no other run.
    for path in sorted(root.glob("*/config.json"), key=lambda path: (path.parent.is_symlink(), path)):
        if path.parent.resolve() in seen:
            continue
        seen.add(path.parent.resolve())
        try:
            known.append(Run.open(path.parent))
        except RunError as error:
            print(f"passed over {path.parent.name}: {error}", file=sys.stderr)
    if not names:
        return known
    chosen: dict[Path, Run] = {}
    for name in names:
        wanted = name.lower().replace("_", "-")
        several = [run for run in known if wanted in run.answers_to()]
        for run in several or [Run.open(name, root=root)]:
            chosen.setdefault(run.path.resolve(), run)
    return list(chosen.values())


def look_at(run: Run, *, sizes: bool = True) -> Found:
    """State, step, score, age and (where wanted) size of a run."""
    try:
        created = datetime.fromisoformat(str(run.info["created"]))
        created = created if created.tzinfo else created.replace(tzinfo=UTC)
    except ValueError:
        created = datetime.fromtimestamp((run.path / "config.json").stat().st_mtime, UTC)
    age_seconds = max((datetime.now(UTC) - created).total_seconds(), 0.0)
    return Found(run, state_of(run), step_of(run), score_of(run), age_seconds, size_of(run.path) if sizes else 0)


def state_of(run: Run) -> str:
    """What the run wrote last of its state, held against who really trains it."""
    return "running" if run.is_training() else _state_written(run)


def _state_written(run: Run) -> str:
    state = str(run.status().get("state") or "unknown")
    if state != "running":
        return state
    written = []
    for name in ("metrics.jsonl", "status.json"):
        with contextlib.suppress(FileNotFoundError):
            written.append((run.path / name).stat().st_mtime)
    return "running elsewhere" if written and time.time() - max(written) < FRESH_SECONDS else "killed"


def step_of(run: Run) -> int | None:
    """Its newest step. Its status is written when it starts and when it stops, its metrics all the while."""
    said = run.status().get("step"), jsonlines.newest(run.path / "metrics.jsonl", "step")
    return max((step for step in said if isinstance(step, int)), default=None)


def score_of(run: Run) -> float | None:
    """Mean of the newest evaluation of whole games, or the score of another; else the best of training."""
    with contextlib.suppress(RunError):
        for one in reversed(run.evaluations()):
            if not isinstance(one, dict):
                continue
            metrics = one.get("metrics")
            values = (one.get("mean"), metrics.get("score") if isinstance(metrics, dict) else None)
            for value in values:
                if isinstance(value, (int, float)):
                    return float(value)
    best = None
    for value in _scores(run.path / "metrics.jsonl"):
        best = value if best is None else max(best, value)
    return best


def _scores(path: Path) -> Iterator[float]:
    """Every `eval/score` of a file of metrics; lines without one are not decoded."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            place = text.find(b'"eval/score"')
            while place >= 0:
                start, end = text.rfind(b"\n", 0, place) + 1, text.find(b"\n", place)
                if end < 0:
                    return
                with contextlib.suppress(ValueError, AttributeError):
                    value = json.loads(text[start:end]).get("eval/score")
                    if isinstance(value, (int, float)):
                        yield float(value)
                place = text.find(b'"eval/score"', end)
    except (OSError, ValueError):  # none yet, or empty
        return


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; links count nothing."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        try:
            return path.stat().st_size
        except OSError:
            return 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def removable(run: Run, parts: Sequence[str]) -> list[Path]:
    """What of a run goes when these parts of it are pruned, and what killed processes left behind. What a link
    leads to stays."""
    if "runs" in parts:
        return [run.path]
    found = [*run.path.glob("*.pruned-*"), *(run.path / name for name in ("replay", "wandb") if name in parts)]
    if "checkpoints" in parts and not (run.path / "checkpoints").is_symlink():
        found += [run.path / "checkpoints" / f"step-{step:012d}" for step in run.spare_steps()]
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _remove(run: Run, paths: Sequence[Path], parts: Sequence[str]) -> bool:
    """Deletes what can still go of a run while holding its lock; False where somebody else has taken it since."""
    lock = run.lock() if (run.path / "training.lock").exists() else contextlib.nullcontext()
    try:
        with lock:
            if _state_written(run) in BUSY:  # it was started while the question stood
                return False
            still = removable(run, parts)
            for path in (path for path in paths if path in still and path.exists()):
                # Under its own name a folder is there whole, or not at all.
                aside = path if ".pruned-" in path.name else path.with_name(f"{path.name}.pruned-{os.getpid()}")
                try:
                    path.rename(aside)
                    shutil.rmtree(aside)
                except OSError as error:
                    raise StorageError(
                        f"cannot delete {path}: {error.strerror}; what was deleted before is gone"
                    ) from error
    except RunError:
        return False
    return True


def _names(run: Run, paths: Sequence[Path]) -> list[str]:
    checkpoints = sum(path.parent.name == "checkpoints" for path in paths)
    others = ["everything" if path == run.path else path.name for path in paths if path.parent.name != "checkpoints"]
    return [*others, *([f"{checkpoints} checkpoint{'s' if checkpoints > 1 else ''}"] if checkpoints else [])]


def _agreed(question: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("prune asks before it deletes, and nobody can answer here; give --yes")
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def age(seconds: float) -> str:
    """A duration in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes in the unit that suits them."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def print_rows(head: Sequence[str], rows: Sequence[Sequence[str]], total: str) -> None:
    """A table: a fine one in a terminal, elsewhere plain aligned text."""
    numbers = ("step", "score", "age", "size")
    if not sys.stdout.isatty():
        table = [head, *rows]
        widths = [max(len(row[place]) for row in table) for place in range(len(head))]
        for row in table:
            cells = [
                cell.rjust(width) if name in numbers else cell.ljust(width)
                for name, cell, width in zip(head, row, widths, strict=True)
            ]
            print("  ".join(cells).rstrip())
        print(total)
        return
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, caption=total, caption_justify="left")
    for name in head:
        right = name in numbers
        made.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        made.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(made)


if __name__ == "__main__":
    cli.main(command)
