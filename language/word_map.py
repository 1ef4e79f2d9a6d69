"""Words on a plane: vectors of many numbers as two coordinates, and a picture of them.

PCA: Pearson, Philosophical Magazine 2, 1901. t-SNE: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR
9, 2008.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from aprendiz.errors import ConfigError, StorageError

Method = Literal["pca", "t-sne"]


class Drawn(NamedTuple):
    """What a picture does not show."""

    left_out: int
    """Names that found no room."""
    without_glyph: str
    """Characters of names that no font of this machine has: boxes stand for them."""


def coordinates(vectors: NDArray[np.float32], method: Method = "t-sne", *, seed: int = 0) -> NDArray[np.float64]:
    """[N, 2] of vectors [N, D], of which only directions count. Neighbours in t-SNE's map are near; distances beyond,
    and the axes, mean nothing. The same seed gives the same map. Raises ConfigError for fewer than three vectors."""
    if method not in get_args(Method):
        raise ConfigError(f"the method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if len(vectors) < 3:
        raise ConfigError(f"a map needs at least 3 words, got {len(vectors)}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors.astype(np.float64) / np.where(lengths > 0, lengths, 1)
    if method == "t-sne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(units) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
        return np.asarray(model.fit_transform(units), np.float64)
    from sklearn.decomposition import PCA

    if units.shape[1] < 2:
        return np.column_stack([units[:, 0] - units[:, 0].mean(), np.zeros(len(units))])
    places = PCA(2, svd_solver="full").fit_transform(units)
    largest = np.abs(places).argmax(0)  # an axis may come out either way round: its largest value is to be positive
    return np.asarray(places * np.sign(places[largest, [0, 1]]), np.float64)


def draw(words: Sequence[str], places: NDArray[np.float64], path: str | Path, *, title: str = "") -> Drawn:
    """A picture (PNG, SVG or PDF, by the path's name) of words at their places [N, 2]: a dot for each, and its name
    where that covers no name of a word before it. Raises StorageError, and ConfigError for another kind of file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = float(np.clip(0.75 * len(words) ** 0.5, 6.0, 24.0))
    figure = Figure(figsize=(side, side), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(places[:, 0], places[:, 1], s=6, color="tab:blue", alpha=0.6, linewidths=0)
    axes.margins(0.08)
    axes.set(xticks=[], yticks=[])
    fonts, without_glyph = _fonts({*title, *"".join(words)})
    axes.set_title(title, parse_math=False, family=fonts)
    with warnings.catch_warnings():  # of characters without a glyph, which the caller is told
        warnings.filterwarnings("ignore", r"Glyph \d+|Matplotlib currently does not support", UserWarning)
        canvas.draw()  # only now is it known where everything lies
        left_out = _name(axes, canvas.get_renderer(), words, places, fonts)
        try:
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    return Drawn(left_out, without_glyph)


def _fonts(characters: set[str]) -> tuple[list[str], str]:
    """Families of fonts, the usual ones first, that together have a glyph for each character, where this machine has
    such fonts; and the characters that none has."""
    from matplotlib import font_manager, rcParams
    from matplotlib.ft2font import FT2Font

    families = list(rcParams["font.family"])
    wanted = {ord(character) for character in characters if not character.isspace()}
    wanted -= set(FT2Font(font_manager.findfont(font_manager.FontProperties())).get_charmap())
    for entry in font_manager.fontManager.ttflist:
        if not wanted:
            break
        if entry.style != "normal" or entry.weight != 400 or entry.name.startswith("Last Resort"):
            continue  # the last resort has a box for each character
        try:
            font = FT2Font(entry.fname)
            found = wanted & set(font.get_charmap()) if font.scalable else None
        except (OSError, RuntimeError):  # went away, or is broken
            continue
        if found:
            families.append(entry.name)
            wanted -= found
    return families, "".join(map(chr, sorted(wanted)))


def _name(axes: Any, renderer: Any, words: Sequence[str], places: NDArray[np.float64], fonts: list[str]) -> int:
    """Writes names beside their dots, on the first of four sides where there is room; returns how many have none."""
    sides = ((4, 0, "left", "center"), (-4, 0, "right", "center"), (0, 4, "center", "bottom"), (0, -4, "center", "top"))
    frame = axes.get_window_extent(renderer)
    taken: list[Any] = []
    left_out = 0
    for word, place in zip(words, places, strict=True):
        for right, up, horizontal, vertical in sides:
            name = axes.annotate(
                word,
                place,
                (right, up),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=8,
                family=fonts,
                parse_math=False,
            )
            box = name.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            name.remove()
        else:
            left_out += 1
    return left_out
