"""A view of a run while it is trained, read from its folder: curves, how far it is, its newest picture, video or text.

Works for the runs of any family: a family's metrics have names, its pictures lie in `samples/`, its videos in
`videos/`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aprendiz.errors import RunError
from aprendiz.live.tail import MetricsTail
from aprendiz.live.view import View
from aprendiz.run import Run

LOOK_SECONDS = 1.0
"""Between two looks at the folder."""
MOST_TEXT = 4_000
"""Characters of a text sample that are shown, from its beginning."""
_UNITS = {"agents": "steps", "generative": "images", "language": "tokens"}
"""What a family counts; `steps` for others."""


class TrainingView(View):
    """Follows one run. Looks at the folder about once a second while anybody looks on."""

    kind = "training"
    channels = ("curves", "status", "media")

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run.task}   {run.learner}   seed {run.seed}")
        self.run = run
        self._tail = MetricsTail(run.path / "metrics.jsonl")
        self._viewers = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._status: dict[str, Any] | None = None
        self._media: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        unit = _UNITS.get(self.run.kind, "steps")
        return super().describe() | {"run": self.run.name, "unit": unit}

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"follow {self.run.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._viewers.set()
        if self._thread is not None:
            self._thread.join()

    def viewers_changed(self, count: int) -> None:
        if count:
            self._viewers.set()
        else:
            self._viewers.clear()

    def _work(self) -> None:
        while not self._ended.is_set():
            self._viewers.wait()
            if not self._ended.is_set():
                self.look()
            self._ended.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Look at the folder once, and publish what changed."""
        if self._tail.look():
            curves = {name: list(curve.shown()) for name, curve in sorted(self._tail.curves.items())}
            self.streams["curves"].publish(lambda: ({"curves": curves}, []))
        status = self._find_status()
        if status != self._status:
            self._status = status
            self.streams["status"].publish(lambda: ({"status": status}, []))
        media = self._find_media()
        if media != self._media:
            self._media = media
            self.streams["media"].publish(lambda: ({"media": media}, []))

    def _find_status(self) -> dict[str, Any]:
        status = self.run.status()
        state = str(status.get("state", "unknown"))
        if self.run.is_training():
            state = "training"
        elif state == "running":
            state = "interrupted"  # it was killed: it could not write down that it stopped
        evaluation = None
        with contextlib.suppress(RunError, IndexError):
            evaluation = self.run.evaluations()[-1]
        keys = ("checkpoint_step", "episodes", "mean", "iqm", "interval")
        short = {key: evaluation[key] for key in keys if key in evaluation} if isinstance(evaluation, dict) else None
        steps = self.run.steps()
        return {
            "state": state,
            "step": max((curve.last_step for curve in self._tail.curves.values()), default=status.get("step")),
            "checkpoint": steps[-1] if steps else None,
            "best": self.run.best_step(),
            "score": status.get("score"),
            "evaluation": short,
        }

    def _find_media(self) -> dict[str, Any]:
        media: dict[str, Any] = {}
        for kind, path in self._newest().items():
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime_ns
                media[kind] = {"name": f"{path.parent.name}/{path.name}", "version": str(changed)}
                if kind == "text":
                    with path.open("rb") as file:
                        media[kind]["text"] = file.read(4 * MOST_TEXT).decode(errors="replace")[:MOST_TEXT]
        return media

    def _newest(self) -> dict[str, Path]:
        """The newest video, picture and text, of those there are."""
        kinds = {"video": ("videos", ".mp4"), "picture": ("samples", ".png"), "text": ("samples", ".txt")}
        found = {}
        for kind, (folder, suffix) in kinds.items():
            with contextlib.suppress(OSError, ValueError):
                # What is being written has a name that starts with a dot; the curves are drawn on the page.
                paths = (path for path in (self.run.path / folder).iterdir() if path.suffix == suffix)
                shown = (path for path in paths if not path.name.startswith((".", "curves")))
                found[kind] = max(shown, key=lambda path: (path.stat().st_mtime_ns, path.name))
        return found

    def files(self) -> Mapping[str, Path]:
        """Every video and picture: one that is being watched can be fetched on when a newer one is there."""
        found = {}
        for folder, suffix in (("videos", ".mp4"), ("samples", ".png")):
            with contextlib.suppress(OSError):
                for path in (self.run.path / folder).iterdir():
                    if path.suffix == suffix and path.is_file():
                        found[f"{folder}/{path.name}"] = path
        return found
