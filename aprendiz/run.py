"""A run's folder: what was asked for, what was measured, the checkpoints, the pictures.

runs/<task>-<learner>-s<seed>-<YYYYMMDD-HHMMSS>-<4 letters>/
    config.json         what was asked for, and with which versions; changes only when the run is extended
    status.json         running, finished or stopped, and at which step
    metrics.jsonl       one object a line: step, time (seconds of training), metrics
    checkpoints/        step-000000050000/ ..., last.json and best.json say which is which
    replay/             the replay memory, kept beside the checkpoints by who learns from one
    evaluations.json    a list of whatever `add_evaluation` was given
    training.lock       held by the process that trains; see `Run.lock`
    videos/ samples/ wandb/
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import random
import re
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aprendiz import checkpoint, jsonlines, provenance
from aprendiz.errors import RunError, StorageError
from aprendiz.run_checkpoints import Checkpoints
from aprendiz.run_files import (
    FORMAT_VERSION,
    finite,
    is_locked,
    json_able,
    locked,
    read_config,
    read_json,
    wrong_kind,
)

if TYPE_CHECKING:
    from aprendiz.tracking import Tracker


def runs_folder() -> Path:
    """Where runs are made and looked for: `APRENDIZ_RUNS`, else `runs` under the working directory."""
    return Path(os.environ.get("APRENDIZ_RUNS") or "runs")


class Run(Checkpoints):
    """An open run; made by `Run.create` and `Run.open`."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        """All of config.json: kind, task, learner, seed, config, versions, git_commit, command, device, created and
        wandb_id."""
        self.tracker: Tracker | None = None
        """Where `log` sends metrics besides the file; see `track`."""
        self._metrics: IO[bytes] | None = None
        self._clock: tuple[float, float] | None = None  # seconds of training, and the clock's reading at that point

    @property
    def kind(self) -> str:
        """The family whose commands work on this run: "agents", "generative" or "language"."""
        return self.info["kind"]

    @property
    def task(self) -> str:
        return self.info["task"]

    @property
    def learner(self) -> str:
        return self.info["learner"]

    @property
    def seed(self) -> int:
        return self.info["seed"]

    @property
    def config(self) -> dict[str, Any]:
        """What `create` was given as `config`: everything that decides how the run goes."""
        return self.info["config"]

    @classmethod
    def create(
        cls,
        *,
        kind: str,
        task: str,
        learner: str,
        seed: int,
        config: dict[str, Any],
        command: Sequence[str],
        device: str,
        root: Path | None = None,
    ) -> Run:
        """Make a new folder under `root` (by default `runs_folder()`) with its config.json. Raises StorageError."""
        now = datetime.now(UTC)
        stem = f"{_safe(task)}-{_safe(learner)}-s{seed}-{now.astimezone():%Y%m%d-%H%M%S}"
        letters = random.SystemRandom()  # names differ even where the seed is the same
        path = (root or runs_folder()) / f"{stem}-{''.join(letters.choices(string.ascii_lowercase, k=4))}"
        info = {
            "format_version": FORMAT_VERSION,
            "kind": kind,
            "task": task,
            "learner": learner,
            "seed": seed,
            "config": config,
            "versions": provenance.versions(),
            "git_commit": provenance.git_commit(),
            "command": list(command),
            "device": device,
            "created": now.isoformat(),
            "wandb_id": "".join(letters.choices(string.ascii_lowercase + string.digits, k=8)),
        }
        try:
            path.mkdir(parents=True)
        except OSError as error:
            message = f"cannot make {path}: {error.strerror}; set APRENDIZ_RUNS to a folder that can be written to"
            raise StorageError(message) from error
        checkpoint.write_json(path / "config.json", info)
        run = cls(path, info)
        run.set_status("running", step=0)
        return run

    @classmethod
    def open(cls, text: str | Path, kind: str | None = None, *, root: Path | None = None) -> Run:
        """The run that `text` means: its folder, its name, a task, a learner or task-learner (the newest), or "latest".

        Only runs of `kind`, where one is given, count. Raises RunError where there is none, or where its folder is
        empty, half-written, from a newer aprendiz, or of another kind.
        """
        folder, text = Path(text), str(text)
        if (folder / "config.json").exists():
            return cls(folder, read_config(folder, kind))
        root = root or runs_folder()
        if text and "/" not in text and (root / text).is_dir() and text not in (".", ".."):
            return cls(root / text, read_config(root / text, kind))
        runs = _known_runs(root)
        wanted = [run for run in runs if text == "latest" or _plain(text) in run.answers_to()]
        for run in wanted:
            if kind in (None, run.kind):
                return run
        if wanted and text != "latest":
            raise wrong_kind(wanted[0].path, wanted[0].kind)
        if text and folder.is_dir():
            read_config(folder)
        close = difflib.get_close_matches(text, [run.name for run in runs if kind in (None, run.kind)], n=1, cutoff=0.8)
        hint = f"did you mean {close[0]}? " if close else ""
        what = "no run at all" if text == "latest" else f"no run {text!r}"
        raise RunError(f"there is {what} in {root}; {hint}{_newest(runs, kind)}")

    def answers_to(self) -> set[str]:
        """What `Run.open` finds this run by, besides its name and its folder."""
        both = f"{self.task}-{self.learner}"
        return {_plain(text) for text in (self.task, _safe(self.task), self.learner, both, _safe(both))}

    def save_config(self) -> None:
        """Write config.json anew: a run that goes on further than planned has a new budget. Raises StorageError."""
        checkpoint.write_json(self.path / "config.json", self.info)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for training, in a `with` block, so that no other process trains it meanwhile.

        Entering raises RunError where another one does, StorageError where the folder cannot be written to. Does
        nothing where the system has no such locks.
        """
        return locked(self.path / "training.lock", wait=False)

    def is_training(self) -> bool:
        """Whether a process trains it now, by its lock; where the system has none, by what status.json says."""
        held = is_locked(self.path / "training.lock")
        return self.status().get("state") == "running" if held is None else held

    # Status

    def set_status(self, state: str, *, step: int | None = None, score: float | None = None) -> None:
        """Write down "running", "finished" or "stopped", and how far it got. Raises StorageError."""
        checkpoint.write_json(
            self.path / "status.json",
            {"state": state, "step": step, "score": finite(score), "time": datetime.now(UTC).isoformat()},
        )

    def status(self) -> dict[str, Any]:
        """What `set_status` wrote last; `{"state": "unknown"}` where that cannot be read."""
        return read_json(self.path / "status.json", dict) or {"state": "unknown"}

    # Metrics

    def log(self, step: int, metrics: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Append a line to metrics.jsonl, and hand the metrics to the tracker.

        `seconds` is the wall-clock time of training so far, over all sessions; where it is None it is measured from the
        last one known. NaN and infinity become null. Raises StorageError.
        """
        values = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        line = {"step": step, "time": round(self._seconds(seconds), 3)}
        line |= {name: finite(value) for name, value in values.items()}
        try:
            if self._metrics is None:
                self._metrics = jsonlines.open_for_append(self.path / "metrics.jsonl")
            self._metrics.write(json.dumps(line).encode() + b"\n")
            self._metrics.flush()
        except OSError as error:
            self.close()
            reason = error.strerror
            raise StorageError(f"cannot write {self.path / 'metrics.jsonl'}: {reason}; make room and resume") from error
        if self.tracker is not None:
            self.tracker.log(step, values)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl; a torn last line is left out."""
        return list(jsonlines.read(self.path / "metrics.jsonl", ("step", "time")))

    def truncate_metrics(self, step: int) -> None:
        """Drop the lines after `step`: what came after the checkpoint to resume from. Raises StorageError."""
        path = self.path / "metrics.jsonl"
        self.close()
        if not path.exists():
            return
        try:
            jsonlines.keep_up_to(path, "step", step)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; make room and resume") from error
        self._clock = None

    def _seconds(self, given: float | None) -> float:
        now = time.monotonic()
        if given is None and self._clock is not None:
            return self._clock[0] + now - self._clock[1]
        if given is None:
            given = max((line["time"] for line in self.metrics()), default=0.0)
        self._clock = (given, now)
        return given

    # Evaluations, pictures, tracking

    def add_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Append to evaluations.json, also while others do. Raises StorageError, or RunError where it is damaged."""
        with locked(self.path):
            everything = [*self.evaluations(), {name: json_able(value) for name, value in evaluation.items()}]
            checkpoint.write_json(self.path / "evaluations.json", everything)

    def evaluations(self) -> list[dict[str, Any]]:
        """Everything `add_evaluation` was given, oldest first."""
        path = self.path / "evaluations.json"
        if not path.exists():
            return []
        everything = read_json(path, list)
        if everything is None:
            raise RunError(f"{path} is no JSON list; mend it or move it away")
        return everything

    @property
    def videos(self) -> Path:
        """The folder of videos, made when first asked for. Raises StorageError."""
        return self._subfolder("videos")

    @property
    def samples(self) -> Path:
        """The folder of samples and pictures, made when first asked for. Raises StorageError."""
        return self._subfolder("samples")

    def track(self, mode: str | None = None, *, step_metric: str = "env_steps", resumed: bool = False) -> Tracker:
        """Send what is logged from now on to Weights & Biases as well; see `aprendiz.tracking.Tracker`."""
        from aprendiz.tracking import Tracker

        self.tracker = Tracker(
            self.path,
            mode=mode,
            run_id=self.info["wandb_id"],
            name=self.name,
            config={key: self.info.get(key) for key in ("kind", "task", "learner", "seed", "device", "versions")}
            | self.config,
            step_metric=step_metric,
            resumed=resumed,
        )
        return self.tracker

    def close(self) -> None:
        """Close metrics.jsonl; the next `log` opens it again."""
        if self._metrics is not None:
            with contextlib.suppress(OSError):
                self._metrics.close()
            self._metrics = None


def _safe(text: str) -> str:
    """A name without what folders cannot have, such as the colon and the slash of gym:ALE/Pong-v5."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def _plain(text: str) -> str:
    return text.lower().replace("_", "-")


def _known_runs(root: Path) -> list[Run]:
    """Every readable run under `root`, newest first."""
    runs = []
    for path in root.glob("*/config.json"):
        with contextlib.suppress(RunError):
            runs.append(Run(path.parent, read_config(path.parent)))
    return sorted(runs, key=lambda run: str(run.info["created"]), reverse=True)


def _newest(runs: Sequence[Run], kind: str | None) -> str:
    names = [run.name for run in runs if kind in (None, run.kind)][:5]
    return f"the newest: {', '.join(names)}" if names else f"start one with python -m {kind or 'agents'}.train"
