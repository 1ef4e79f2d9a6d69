"""The progress line: steps, rate, time left, the last mean score, exploration."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

SHOWN = {"rollout/score_mean": "score {:,.1f}", "rollout/exploration": "epsilon {:.3g}"}
"""Which of a source's metrics stand in the line, and how."""


class ProgressLine:
    """A live bar on a terminal; elsewhere (a log file, a pipe) one plain line every half minute."""

    def __init__(self, unit: str, units: int | None, minutes: float | None, *, enabled: bool = True) -> None:
        self.unit, self.units, self.minutes, self.enabled = unit, units, minutes, enabled
        self.console = Console(file=sys.stdout, highlight=False)
        self.live = enabled and self.console.is_terminal
        self.interval_seconds = 0.25 if self.live else 30.0
        self._next = 0.0
        self._rate = 0.0
        self._last: tuple[int, float] | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> ProgressLine:
        if self.live:
            self._progress = Progress(
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                console=self.console,
                auto_refresh=False,
            )
            self._task = self._progress.add_task("starting", total=1.0)
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def due(self, seconds: float) -> bool:
        """Whether it is time to draw again; `seconds` of training so far."""
        return self.enabled and time.perf_counter() >= self._next

    def show(self, units: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Draws the line for `units` done in `seconds`."""
        if not self.enabled:
            return
        self._next = time.perf_counter() + self.interval_seconds
        if self._last is not None and seconds > self._last[1] and units > self._last[0]:
            rate = (units - self._last[0]) / (seconds - self._last[1])
            self._rate = rate if self._rate == 0 else 0.8 * self._rate + 0.2 * rate
        self._last = (units, seconds)
        done, left = self._fraction_and_seconds_left(units, seconds)
        total = f"/{self.units:,}" if self.units else ""
        text = f"{units:,}{total} {self.unit.replace('_', ' ')} | {self._rate:,.0f}/s | "
        text += f"{duration(seconds)} gone, {duration(left) if left is not None else '?'} left"
        for name, shown in SHOWN.items():
            if name in metrics:
                text += f" | {shown.format(metrics[name])}"
        if self._progress is not None:
            self._progress.update(self._task, completed=done, description=text, refresh=True)
        else:
            print(text, flush=True)

    def _fraction_and_seconds_left(self, units: int, seconds: float) -> tuple[float, float | None]:
        fractions, lefts = [0.0], []
        if self.units:
            fractions.append(units / self.units)
            if self._rate > 0:
                lefts.append(max(self.units - units, 0) / self._rate)
        if self.minutes:
            fractions.append(seconds / (60 * self.minutes))
            lefts.append(max(60 * self.minutes - seconds, 0.0))
        return min(max(fractions), 1.0), min(lefts, default=None)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
