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
import math
import os
import random
import re
import shutil
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aprendiz import checkpoint, jsonlines, provenance
from aprendiz.errors import CheckpointError, RunError, StorageError

if TYPE_CHECKING:
    from aprendiz.tracking import Tracker

FORMAT_VERSION = 1
_FIELDS: dict[str, type] = {
    "format_version": int,
    "kind": str,
    "task": str,
    "learner": str,
    "seed": int,
    "config": dict,
    "created": str,
    "wandb_id": str,
}
"""What config.json must hold, and as what."""
_TYPE_NAMES = {int: "a whole number", str: "text", dict: "a JSON object"}


def runs_folder() -> Path:
    """Where runs are made and looked for: `APRENDIZ_RUNS`, else `runs` under the working directory."""
    return Path(os.environ.get("APRENDIZ_RUNS") or "runs")


class Run:
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
    def name(self) -> str:
        return self.path.name

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
            return cls(folder, _read_config(folder, kind))
        root = root or runs_folder()
        if text and "/" not in text and (root / text).is_dir() and text not in (".", ".."):
            return cls(root / text, _read_config(root / text, kind))
        runs = _known_runs(root)
        wanted = [run for run in runs if text == "latest" or _plain(text) in run.answers_to()]
        for run in wanted:
            if kind in (None, run.kind):
                return run
        if wanted and text != "latest":
            raise _wrong_kind(wanted[0].path, wanted[0].kind)
        if text and folder.is_dir():
            _read_config(folder)
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
        return _locked(self.path / "training.lock", wait=False)

    def is_training(self) -> bool:
        """Whether a process trains it now, by its lock; where the system has none, by what status.json says."""
        try:
            import fcntl
        except ImportError:  # Windows
            return self.status().get("state") == "running"
        try:
            handle = os.open(self.path / "training.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return self.status().get("state") == "running"
        finally:
            os.close(handle)
        return False

    # Status

    def set_status(self, state: str, *, step: int | None = None, score: float | None = None) -> None:
        """Write down "running", "finished" or "stopped", and how far it got. Raises StorageError."""
        checkpoint.write_json(
            self.path / "status.json",
            {"state": state, "step": step, "score": _finite(score), "time": datetime.now(UTC).isoformat()},
        )

    def status(self) -> dict[str, Any]:
        """What `set_status` wrote last; `{"state": "unknown"}` where that cannot be read."""
        return _read_json(self.path / "status.json", dict) or {"state": "unknown"}

    # Metrics

    def log(self, step: int, metrics: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Append a line to metrics.jsonl, and hand the metrics to the tracker.

        `seconds` is the wall-clock time of training so far, over all sessions; where it is None it is measured from the
        last one known. NaN and infinity become null. Raises StorageError.
        """
        values = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        line = {"step": step, "time": round(self._seconds(seconds), 3)}
        line |= {name: _finite(value) for name, value in values.items()}
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

    # Checkpoints

    def save(self, step: int, state: Mapping[str, Any], *, keep: bool = False, best: bool = False) -> None:
        """Save a checkpoint, which becomes the last and, where `best`, the best one.

        Of the others the best, the one before and those saved with `keep` stay; the rest is deleted. Only when the new
        one is whole on the disk do last.json and best.json name it. Raises StorageError; what there was stays.
        """
        folder = self._folder(step)
        self._subfolder("checkpoints")
        before = self._pointer("last")
        checkpoint.save(folder, state)
        pointer = {"step": step, "folder": folder.name}
        if before is not None and before["step"] != step:
            pointer["before"] = before["step"]
        elif before is not None:
            pointer["before"] = before.get("before")
        kept = self._kept()
        if keep and step not in kept:
            kept.append(step)
            checkpoint.write_json(folder.parent / "kept.json", kept)
        checkpoint.write_json(folder.parent / "last.json", pointer)
        if best:
            checkpoint.write_json(folder.parent / "best.json", pointer)
        stay = {step, pointer.get("before"), (self._pointer("best") or pointer)["step"], *kept}
        for old in self.steps():
            if old not in stay:
                self._delete(old)
        stay_names = {self._folder(old).name for old in stay if isinstance(old, int)}
        for left in folder.parent.glob("step-*.*-*"):  # by a process that was killed while it saved
            name, _, rest = left.name.partition(".")
            # What was moved aside is all there is of a checkpoint whose new version never got its name.
            if rest.startswith("tmp-") or name not in stay_names or (folder.parent / name).exists():
                shutil.rmtree(left, ignore_errors=True)
        halves = [*folder.parent.glob("*.json.tmp-*"), *self.path.glob("status.json.tmp-*")]
        for half in halves:  # only who trains writes these
            half.unlink(missing_ok=True)

    def go_back_to(self, step: int, best_step: int | None) -> None:
        """Make the checkpoint of `step` the last one, as it is for a run that goes on from there.

        The newer ones are deleted. `best_step` becomes the best; there is none where it is None, newer, or deleted. A
        kill at any moment leaves a last checkpoint that can be loaded. Raises RunError where there is none at `step`,
        before anything is changed; StorageError.
        """
        folder = self._find(step).parent
        older = [one for one in self.steps() if one < step]
        best = best_step if best_step is not None and best_step in (*older, step) else None
        if best is None:
            try:
                (folder / "best.json").unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot delete {folder / 'best.json'}: {error.strerror}") from error
        elif best != self.best_step():
            checkpoint.write_json(folder / "best.json", {"step": best, "folder": self._folder(best).name})
        pointer = {"step": step, "folder": self._folder(step).name, "before": max(older, default=None)}
        checkpoint.write_json(folder / "last.json", pointer)  # only then may what it named before go
        kept = self._kept()
        if any(one > step for one in kept):
            checkpoint.write_json(folder / "kept.json", [one for one in kept if one <= step])
        for newer in self.steps():
            if newer > step:
                self._delete(newer)

    def _delete(self, step: int) -> None:
        """Remove a checkpoint; under its own name it is there whole or not at all."""
        folder = self._folder(step)
        aside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
        with contextlib.suppress(OSError):
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, rising."""
        names = (path.name for path in (self.path / "checkpoints").glob("step-*"))
        return sorted(int(name[5:]) for name in names if name[5:].isdigit())

    def best_step(self) -> int | None:
        """The step of the checkpoint called best, where there is one."""
        pointer = self._pointer("best")
        return pointer["step"] if pointer else None

    def checkpoint(self, which: str | int = "last") -> Path:
        """The folder of a checkpoint, checked byte for byte; `which` is "last", "best" or a step.

        Raises RunError where there is none, listing the steps there are; CheckpointError where it is damaged, naming
        the newest older one that is whole.
        """
        folder = self._find(which)
        with self._advice(folder):
            checkpoint.verify(folder)
        return folder

    def load(self, which: str | int = "last") -> dict[str, Any]:
        """The state of a checkpoint; see `checkpoint` for `which` and for what is raised."""
        folder = self._find(which)
        with self._advice(folder):
            return checkpoint.load(folder)

    def _folder(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:012d}"

    def _kept(self) -> list[int]:
        """The steps that were saved with `keep`."""
        kept = _read_json(self.path / "checkpoints" / "kept.json", list) or []
        return [step for step in kept if isinstance(step, int)]

    def _pointer(self, which: str) -> dict[str, Any] | None:
        pointer = _read_json(self.path / "checkpoints" / f"{which}.json", dict)
        return pointer if pointer is not None and isinstance(pointer.get("step"), int) else None

    def _find(self, which: str | int) -> Path:
        steps = self.steps()
        there = f"there are {', '.join(map(str, steps))}" if steps else "it has none yet"
        if isinstance(which, str) and which not in ("last", "best"):
            if not which.replace("_", "").isdigit():
                raise RunError(f"checkpoint {which!r} of run {self.name}: name last, best or a step; {there}")
            which = int(which)
        if isinstance(which, int):
            if which not in steps:
                raise RunError(f"run {self.name} has no checkpoint at step {which}; {there}")
            return self._folder(which)
        pointer = self._pointer(which)
        if pointer is not None:
            return self._folder(pointer["step"])
        if not steps:
            raise RunError(f"run {self.name} has no checkpoint yet; the first is saved some minutes after its start")
        if which == "best":
            raise RunError(
                f"run {self.name} was not evaluated yet and has no best checkpoint; use last, or a step: {there}"
            )
        return self._folder(steps[-1])

    @contextlib.contextmanager
    def _advice(self, folder: Path) -> Iterator[None]:
        """Add to a CheckpointError which older checkpoint can be used."""
        try:
            yield
        except checkpoint.NewerFormatError:
            raise
        except CheckpointError as error:
            others = [step for step in reversed(self.steps()) if self._folder(step) != folder]
            for step in sorted(others, key=lambda step: (self._folder(step).name > folder.name, -step)):
                try:
                    checkpoint.verify(self._folder(step))
                except CheckpointError:
                    continue
                raise CheckpointError(f"{error}; the one at step {step} is whole: --checkpoint {step}") from error
            raise CheckpointError(f"{error}; no other checkpoint of this run is whole: start it again") from error

    # Evaluations, pictures, tracking

    def add_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Append to evaluations.json, also while others do. Raises StorageError, or RunError where it is damaged."""
        with _locked(self.path):
            everything = [*self.evaluations(), {name: _json_able(value) for name, value in evaluation.items()}]
            checkpoint.write_json(self.path / "evaluations.json", everything)

    def evaluations(self) -> list[dict[str, Any]]:
        """Everything `add_evaluation` was given, oldest first."""
        path = self.path / "evaluations.json"
        if not path.exists():
            return []
        everything = _read_json(path, list)
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

    def _subfolder(self, name: str) -> Path:
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {error.strerror}; the run's folder must be writable") from error
        return folder

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


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_able(value: Any) -> Any:
    """Arrays, numpy scalars and tensors as lists and numbers; NaN and infinity as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _json_able(item) for key, item in value.items()}
    return [_json_able(item) for item in value] if isinstance(value, (list, tuple)) else _finite(value)


def _read_json(path: Path, kind: type) -> Any:
    """The file's value, or None where there is none of that type."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, kind) else None


def _read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        what = "it has no config.json" if any(folder.iterdir()) else "it is empty"
        raise RunError(f"{folder} is no run's folder: {what}; name a folder that a training command made")
    info = _read_json(path, dict)
    if info is None:
        raise RunError(
            f"{path} is half-written or no JSON; put back a copy, or delete the folder and start the run again"
        )
    version = info.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        reads = f"this one reads up to {FORMAT_VERSION}; upgrade aprendiz"
        raise RunError(f"run {folder} was written by a newer aprendiz: format {version}, {reads}")
    missing = _FIELDS.keys() - info.keys()
    if missing:
        raise RunError(
            f"{path} lacks {', '.join(sorted(missing))}; it was not written by aprendiz, or was changed since"
        )
    for name, wanted in _FIELDS.items():
        if type(info[name]) is not wanted:  # a bool is no number
            raise RunError(
                f"{path}: {name} is {json.dumps(info[name])[:60]}, and must be {_TYPE_NAMES[wanted]}; put back a copy, "
                "or start the run again"
            )
    if kind is not None and info["kind"] != kind:
        raise _wrong_kind(folder, info["kind"])
    return info


def _wrong_kind(folder: Path, kind: str) -> RunError:
    return RunError(f"{folder.name} is a run of {kind}; use python -m {kind}.evaluate and the other commands of {kind}")


def _known_runs(root: Path) -> list[Run]:
    """Every readable run under `root`, newest first."""
    runs = []
    for path in root.glob("*/config.json"):
        with contextlib.suppress(RunError):
            runs.append(Run(path.parent, _read_config(path.parent)))
    return sorted(runs, key=lambda run: str(run.info["created"]), reverse=True)


def _newest(runs: Sequence[Run], kind: str | None) -> str:
    names = [run.name for run in runs if kind in (None, run.kind)][:5]
    return f"the newest: {', '.join(names)}" if names else f"start one with python -m {kind or 'agents'}.train"


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, or of a file in a run's folder, where the system has one."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror}; the run's folder must be writable") from error
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)  # somebody may only have looked whether it is held: `Run.is_training`
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = path.parent.name
            raise RunError(f"run {name} is being trained by another process; wait for its end, or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
