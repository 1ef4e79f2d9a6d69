"""What the hidden units of a saved model look for: the input of norm 1 that most excites each, as a grid.

python -m generative.filters RUN --out filters.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m generative.filters"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a data set or model (its newest run), or `latest`."""
    out: Path = Path("filters.png")
    """A .png file for a grid, or an .npy file for an array float32 [units, C, H, W]."""
    count: int = 100
    """How many units, from the first on."""
    contrast: Literal["each", "shared"] = "each"
    """Grey is 0. `each` filter uses the whole range from black to white, or all are `shared` out on one scale."""
    columns: int | None = None
    """Filters in a row of the grid. None: as many as rows."""
    scale: int | None = None
    """Each pixel becomes so many by so many. None: enough to see something."""
    checkpoint: str | None = None
    """`last`, `best` or a number of images. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        for name in ("count", "columns", "scale"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options, argv, prog=PROG, description="The input that most excites each hidden unit of a saved model."
    )
    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from generative.grid import make_grid, normalised, out_kind, png, write, write_array
    from generative.saved import open_model

    kind = out_kind(options.out, ("png", "npy"))
    run = Run.open(options.run, "generative")
    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    saved.require("filters", "filters")
    filters = saved.model.filters().detach().float().cpu()
    shown = filters[: options.count]
    if kind == "npy":
        write_array(options.out, shown.numpy())
    else:
        picture = make_grid(normalised(shown, options.contrast), columns=options.columns, scale=options.scale)
        write(options.out, png(picture))
    print(f"{len(shown):,} of {len(filters):,} filters of {run.name}, checkpoint {saved.step:,}: {options.out}")


if __name__ == "__main__":
    cli.main(command)
