"""Learning curves of a run, as a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aprendiz.run import Run

CURVES_A_ROW = 3


def save_curves(run: Run, unit: str, step: int, write: Callable[[Path, bytes], Any] = Path.write_bytes) -> None:
    """Draws `samples/curves.png` where anything was logged; it goes to the tracker as well, at `step`."""
    drawn = curves(run, unit)
    if drawn is None:
        return
    path = run.samples / "curves.png"
    write(path, drawn)
    if run.tracker is not None:
        run.tracker.image("sample/curves", path, step)


def curves(run: Run, unit: str) -> bytes | None:
    """A PNG of every metric of training and validation over what was seen (`unit`: training images, say); None where
    nothing was logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in run.metrics():
        for name, value in line.items():
            shown = name.startswith(("train/", "eval/")) and name not in ("train/updates", "train/epoch")
            if shown and isinstance(value, (int, float)):
                steps, values = series.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(float(value))
    if not series:
        return None
    rows = -(-len(series) // CURVES_A_ROW)
    figure = Figure(figsize=(4.0 * CURVES_A_ROW, 2.6 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, CURVES_A_ROW, squeeze=False).flatten()
    for panel, (name, (steps, values)) in zip(panels, sorted(series.items()), strict=False):
        panel.plot(steps, values, marker="." if len(steps) < 50 else "", linewidth=1.0)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
        panel.set_xlabel(unit, fontsize=7)
    for panel in panels[len(series) :]:
        panel.set_axis_off()
    figure.suptitle(run.name, fontsize=9)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()
