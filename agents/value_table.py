"""A table of action values as people read it: on the map of its environment, with an arrow for what is best.

In a terminal (`show`) and as a picture (`save_picture`). Environments of squares are drawn as grids, taxi as a grid for
each errand, blackjack with the player's sum against the dealer's card as in Sutton and Barto, figure 5.2, and
everything else as a list of states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.picture import action_names
from aprendiz.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agents.core import Agent
    from envs.core import EnvSpec

SIGNS = {
    "up": "↑", "right": "→", "down": "↓", "left": "←", "north": "↑", "east": "→", "south": "↓", "west": "←",
    "stick": "S", "hit": "H", "pick up": "P", "drop off": "D",
}  # fmt: skip
DIRECTIONS = {"↑": (0, -1), "→": (1, 0), "↓": (0, 1), "←": (-1, 0)}
"""Signs that are drawn as arrows in a picture: x to the right, y down."""
LISTED_STATES = 40
"""Of a table without a map: so many known states are listed in a terminal."""


@dataclass(frozen=True)
class Panel:
    """States laid out on squares."""

    title: str
    states: NDArray[np.int64]
    """[H, W], -1 where there is none."""
    marks: dict[int, str] = field(default_factory=dict)
    """Letters of states in which nothing is decided: goals, holes."""
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


def layout(spec: EnvSpec) -> list[Panel]:
    """The map of an environment with numbered states, or no panel where none is known."""
    protocol = spec.protocol
    states = int(spec.observation_space.n)  # type: ignore[attr-defined]
    name = str(protocol.get("id", spec.name))
    if "map" in protocol:
        return [_from_letters(str(protocol["map"]).split("/"), walls="#", ends="GP")]
    if name.startswith("FrozenLake"):
        from gymnasium.envs.toy_text.frozen_lake import MAPS

        options = protocol.get("options", {})
        rows = MAPS.get(options.get("map_name") or ("8x8" if "8x8" in name else "4x4"), [])
        if not options.get("desc") and states == sum(map(len, rows)):
            return [_from_letters(rows, walls="", ends="GH")]
    if name.startswith("CliffWalking") and states == 48:
        return [_from_letters(["." * 12] * 3 + ["S" + "C" * 10 + "G"], walls="", ends="CG")]
    if name.startswith("Taxi") and states == 500:
        return _taxi()
    if protocol.get("deck") == "infinite" and states == 290:
        return _blackjack()
    return []


def _from_letters(rows: list[str], *, walls: str, ends: str) -> Panel:
    cells = np.array([list(row) for row in rows])
    numbers = np.arange(cells.size).reshape(cells.shape)
    marks = {int(state): str(cells.flat[state]) for state in numbers.ravel() if cells.flat[state] in ends}
    return Panel("", np.where(np.isin(cells, list(walls)), -1, numbers), marks)


def _taxi() -> list[Panel]:
    """State = ((row * 5 + column) * 5 + passenger) * 4 + destination; the passenger rides at 4."""
    squares, places = np.arange(25).reshape(5, 5), ("red", "green", "yellow", "blue")
    panels = []
    for destination in range(4):
        for passenger in (*(place for place in range(4) if place != destination), 4):
            where = "on board" if passenger == 4 else f"at {places[passenger]}"
            panels.append(Panel(f"{where}, to {places[destination]}", (squares * 5 + passenger) * 4 + destination))
    return panels


def _blackjack() -> list[Panel]:
    from envs.blackjack import DEALER_CARDS, state_number

    panels = []
    for usable, lowest in ((True, 12), (False, 11)):
        sums = range(21, lowest - 1, -1)
        states = np.array([[state_number((total, usable), card) for card in DEALER_CARDS] for total in sums])
        title = f"{'usable ace' if usable else 'no usable ace'}: player's sum by dealer's card"
        columns = ["A", *map(str, DEALER_CARDS[1:])]
        panels.append(Panel(title, states, rows=[str(total) for total in sums], columns=columns))
    return panels


def signs_of(spec: EnvSpec) -> list[str]:
    """One letter, arrow or number for each action."""
    return [SIGNS.get(name, str(action)) for action, name in enumerate(action_names(spec))]


def best_actions(q: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[S, A] whether an action is a best one of its state, up to rounding. q: [S, A]."""
    return np.isclose(q, q.max(axis=1, keepdims=True), rtol=1e-9, atol=1e-12)


def known_states(agent: Agent) -> NDArray[np.bool_]:
    """[S] of a tabular agent: which states it has ever been in."""
    visits: Any = getattr(agent, "visits", None)
    if visits is None:
        return np.ones(len(agent.q), np.bool_)  # type: ignore[attr-defined]
    credited = getattr(agent.config, "initial_visits", 0)
    return (visits.reshape(-1, *visits.shape[-2:]) > credited).any(axis=(0, 2))


# In a terminal


def show(
    spec: EnvSpec,
    q: NDArray[np.float64],
    *,
    values: NDArray[np.float64] | None = None,
    known: NDArray[np.bool_] | None = None,
    console: Console | None = None,
) -> None:
    """Print the table q [S, A]: the value of each state and its best action, or only the latter where room is short.

    values: [S] of the policy, where it is another than the greedy one. known: [S] states that were ever visited; the
    others are dots. None: all.
    """
    from rich.columns import Columns
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    known = np.ones(len(q), np.bool_) if known is None else known
    values = q.max(axis=1) if values is None else values
    signs, panels = signs_of(spec), layout(spec)
    shades = _Shades(values, _drawn(panels, known))
    if not panels:
        console.print(_listed(q, values, known, action_names(spec)))
        return

    widest = max(panel.states.shape[1] * 9 + 6 for panel in panels)
    full = len(panels) <= 2 and widest <= console.width
    tables: list[Any] = []
    for panel in panels:
        table = Table(show_header=bool(panel.columns), show_edge=True, show_lines=full, pad_edge=False, padding=(0, 0))
        table.title, table.title_style = panel.title or None, "dim"
        if panel.rows:
            table.add_column("")
        for index in range(panel.states.shape[1]):
            table.add_column(panel.columns[index] if panel.columns else "", justify="center", no_wrap=True)
        for row, states in enumerate(panel.states.tolist()):
            cells = [_cell(state, panel, values, q, known, signs, shades, full) for state in states]
            table.add_row(*([Text(panel.rows[row], "dim")] if panel.rows else []), *cells)
        tables.append(table)
    console.print(Columns(tables) if len(tables) > 2 else tables[0])
    for table in tables[1:] if len(tables) <= 2 else []:
        console.print(table)


def _cell(
    state: int,
    panel: Panel,
    values: NDArray[np.float64],
    q: NDArray[np.float64],
    known: NDArray[np.bool_],
    signs: list[str],
    shades: _Shades,
    full: bool,
) -> Text:
    from rich.text import Text

    width = 8 if full else 3
    if state < 0:
        return Text("█" * width, "grey37")
    if state in panel.marks:
        return Text(panel.marks[state].center(width), "bold")
    if not known[state]:
        return Text("·".center(width), "dim")
    sign = signs[int(q[state].argmax())]
    text = f"{sign}{_short(values[state]):>7}" if full else sign.center(width)
    red, green, blue = shades.colour(values[state])
    ink = "black" if red * 0.3 + green * 0.6 + blue * 0.1 > 130 else "white"
    return Text(text, f"{ink} on rgb({red},{green},{blue})")


def _listed(q: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.bool_], names: list[str]) -> Any:
    from rich.table import Table

    states = np.flatnonzero(known)
    table = Table("state", "value", "best action", *names, title_justify="left")
    if len(states) > LISTED_STATES:
        table.title = f"the first {LISTED_STATES} of {len(states)} states; --picture draws all"
    for state in states[:LISTED_STATES].tolist():
        best = int(q[state].argmax())
        table.add_row(str(state), _short(values[state]), names[best], *(_short(value) for value in q[state]))
    return table


def _short(value: float) -> str:
    """At most seven characters."""
    size = abs(value)
    if size >= 1e6 or 0.0 < size < 0.0005:
        return f"{value:.0e}"
    return f"{value:.3f}" if size < 10.0 else f"{value:.2f}" if size < 1000.0 else f"{value:.0f}"


# As a picture


def check_picture_path(path: Path) -> Path:
    """The path, or ConfigError where its name does not end in .png or it is a folder."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ConfigError(f"the picture's name {str(path)!r} must be that of a file and end in .png")
    return path


def save_picture(
    spec: EnvSpec,
    q: NDArray[np.float64],
    path: Path,
    *,
    values: NDArray[np.float64] | None = None,
    known: NDArray[np.bool_] | None = None,
    title: str = "",
) -> Path:
    """Draw the table q [S, A] to a .png: colours and numbers are values, arrows and letters all best actions.

    values, known: as `show`. Environments without a map are drawn as squares in the order of their states. Raises
    ConfigError for the name, StorageError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    path = check_picture_path(path)
    known = np.ones(len(q), np.bool_) if known is None else known
    values = q.max(axis=1) if values is None else values
    signs, best = signs_of(spec), best_actions(q)
    panels = layout(spec) or [_in_order(len(q))]
    across = min(len(panels), 4 if len(panels) > 2 else 2)
    down = -(-len(panels) // across)
    height, width = panels[0].states.shape
    square = min(0.75, 11.0 / (width * across), 7.5 / (max(panel.states.shape[0] for panel in panels) * down))
    square = max(square, 0.3 if len(panels) <= 2 else 0.42)
    size = (across * (width * square + 0.5) + 0.9, down * (height * square + 0.45) + 0.5)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    lowest, highest = _Shades(values, _drawn(panels, known)).limits
    norm = Normalize(lowest, highest)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.set_axis_on()
        _draw_panel(axes, panel, values, best, known, signs, norm, square)
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=grid, label="value of the state", fraction=0.03, pad=0.02)
    figure.suptitle(title or spec.name, fontsize=11)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; name a file elsewhere") from error
    return path


def _draw_panel(
    axes: Any,
    panel: Panel,
    values: NDArray[np.float64],
    best: NDArray[np.bool_],
    known: NDArray[np.bool_],
    signs: list[str],
    norm: Any,
    square: float,
) -> None:
    height, width = panel.states.shape
    coloured = (panel.states >= 0) & known[panel.states] & ~np.isin(panel.states, list(panel.marks))
    axes.imshow(np.where(coloured, values[panel.states], np.nan), cmap="viridis", norm=norm)
    axes.set_facecolor("#dddddd")
    axes.set_title(panel.title, fontsize=8)
    axes.set_xticks(range(len(panel.columns)), panel.columns, fontsize=8)
    axes.set_yticks(range(len(panel.rows)), panel.rows, fontsize=8)
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    numbers = square >= 0.5
    middle = (norm.vmin + norm.vmax) / 2
    reach, up = (0.2, -0.14) if numbers else (0.3, 0.0)
    arrows: list[tuple[float, float, float, float, str]] = []
    for y, row in enumerate(panel.states.tolist()):
        for x, state in enumerate(row):
            if state < 0:
                axes.fill([x - 0.5, x + 0.5, x + 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5], color="#444444")
                continue
            if state in panel.marks or not known[state]:
                axes.text(x, y, panel.marks.get(state, "·"), ha="center", va="center", fontsize=10, color="#444444")
                continue
            ink = "black" if values[state] > middle else "white"
            for action in np.flatnonzero(best[state]).tolist():
                if signs[action] in DIRECTIONS:
                    dx, dy = DIRECTIONS[signs[action]]
                    # One arrow through the middle, several from the middle.
                    back, length = (0.0, reach) if best[state].sum() > 1 else (reach, 2 * reach)
                    arrows.append((x - back * dx, y + up - back * dy, length * dx, length * dy, ink))
                else:
                    axes.text(x, y + up, signs[action], ha="center", va="center", fontsize=9, color=ink)
            if numbers:
                axes.text(x, y + 0.32, _short(values[state]), ha="center", va="center", fontsize=7, color=ink)
    if arrows:
        at_x, at_y, along, down, inks = zip(*arrows, strict=True)
        unit = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "units": "xy", "width": 0.045}
        axes.quiver(at_x, at_y, along, down, color=inks, headwidth=4.5, headlength=4.5, headaxislength=4.0, **unit)


def _in_order(states: int) -> Panel:
    """States in reading order on a square, -1 after the last."""
    side = math.ceil(math.sqrt(states))
    numbers = np.full(side * -(-states // side), -1)
    numbers[:states] = np.arange(states)
    return Panel("states in order", numbers.reshape(-1, side))


def _drawn(panels: list[Panel], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of the states whose values are drawn."""
    if not panels:
        return np.flatnonzero(known)
    shown = np.concatenate([np.setdiff1d(panel.states, [-1, *panel.marks]) for panel in panels])
    return shown[known[shown]]


class _Shades:
    """Colours from the lowest to the highest value of some states."""

    def __init__(self, values: NDArray[np.float64], states: NDArray[np.int64]) -> None:
        shown = values[states] if len(states) else np.zeros(1)
        low, high = float(shown.min()), float(shown.max())
        self.limits = (low, high) if high > low else (low - 0.5, high + 0.5)

    def colour(self, value: float) -> tuple[int, int, int]:
        """Dark violet to yellow, through green: about matplotlib's viridis."""
        low, high = self.limits
        share = min(max((value - low) / (high - low), 0.0), 1.0) * (len(_VIRIDIS) - 1)
        at = min(int(share), len(_VIRIDIS) - 2)
        pairs = zip(_VIRIDIS[at], _VIRIDIS[at + 1], strict=True)
        red, green, blue = (round(left + (share - at) * (right - left)) for left, right in pairs)
        return red, green, blue


_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
