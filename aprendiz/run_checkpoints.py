"""The checkpoints of a run: which is the last and which the best, what is kept, and what can still be used."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aprendiz import checkpoint
from aprendiz.errors import CheckpointError, RunError, StorageError
from aprendiz.run_files import read_json


class Checkpoints:
    """What a run does with the folders checkpoints/step-*/, and with last.json, best.json and kept.json beside them."""

    path: Path
    """The run's folder."""

    @property
    def name(self) -> str:
        return self.path.name

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

    def spare_steps(self) -> list[int]:
        """The steps of the checkpoints that are neither the best nor the last, nor kept on purpose, rising; none where
        one of the files that say so cannot be read."""
        files = {"last.json": dict, "best.json": dict, "kept.json": list}
        for name, kind in files.items():
            file = self.path / "checkpoints" / name
            if file.exists() and read_json(file, kind) is None:
                return []
        steps = self.steps()
        last = self._pointer("last")
        stay = {*steps[-1:], last["step"] if last else None, self.best_step(), *self._kept()}
        return [step for step in steps if step not in stay]

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
        kept = read_json(self.path / "checkpoints" / "kept.json", list) or []
        return [step for step in kept if isinstance(step, int)]

    def _pointer(self, which: str) -> dict[str, Any] | None:
        pointer = read_json(self.path / "checkpoints" / f"{which}.json", dict)
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

    def _subfolder(self, name: str) -> Path:
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {error.strerror}; the run's folder must be writable") from error
        return folder
