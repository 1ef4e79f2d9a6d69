"""Codes of images under a saved model, as an array.

python -m generative.encode RUN IMAGES --out codes.npy
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m generative.encode"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a data set or model (its newest run), or `latest`."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Picture files, a folder of them, an .npy array (uint8, or floats from 0 to 1), or a data set. None: the data set
    of the run. They are resized and scaled as in training."""
    out: Path = Path("codes.npy")
    """Where the codes go: an .npy file float32 [N, D]."""
    part: Literal["train", "validation", "test", "all"] = "all"
    """Which images of a data set; all come in this order."""
    checkpoint: str | None = None
    """`last`, `best` or a number of images. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Codes of images under a saved model.")
    import torch

    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from generative.grid import describe, out_kind, write_array
    from generative.inputs import read_inputs
    from generative.saved import open_model

    out_kind(options.out, ("npy",))
    run = Run.open(options.run, "generative")
    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    saved.require("encode", "encode")
    inputs = read_inputs(saved, options.images or (run.config["data"]["name"],), options.part)
    if inputs.count == 0:
        raise ConfigError(f"{inputs.words} has no images")
    with torch.no_grad():
        codes = torch.cat(
            [saved.model.encode(batch.to(saved.model.device)).float().cpu() for batch in inputs.batches()]
        )
    write_array(options.out, codes.numpy())
    print(f"codes of {inputs.count:,} images of {inputs.words}: {describe(codes.numpy())} in {options.out}")


if __name__ == "__main__":
    cli.main(command)
