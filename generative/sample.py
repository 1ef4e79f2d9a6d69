"""Draw images from a saved model: a grid, an array or a folder of pictures.

python -m generative.sample RUN --n 64 --out grid.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from generative.saved import SavedModel

PROG = "python -m generative.sample"
CHUNK = 500
"""Images drawn at a time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a data set or model (its newest run), or `latest`."""
    out: Path = Path("grid.png")
    """A .png file for a grid, an .npy file for an array float32 [n, C, H, W] from 0 to 1, or a folder for one picture
    each."""
    n: int | None = None
    """How many. None: 64; with --label all, 8 of each class."""
    seed: int = 1
    """The same seed draws the same images."""
    label: str | None = None
    """Which class, by its number or name, or `all` for a column of each: for models that take labels."""
    interpolate: tuple[str, str] | None = None
    """From one image to another: two seeds, for models with latent vectors; or two numbers of test images (test:3
    where 3 would be a seed), or two picture files, for models that encode and decode."""
    steps: int = 10
    """Images on the way from one to the other, both ends included."""
    columns: int | None = None
    """Images in a row of the grid. None: as many as rows."""
    scale: int | None = None
    """Each pixel becomes so many by so many. None: enough to see something."""
    checkpoint: str | None = None
    """`last`, `best` or a number of images. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("columns", 1), ("scale", 1), ("steps", 2), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if self.interpolate is not None and self.label is not None:
            raise ConfigError("give --label or --interpolate, not both")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Draw images from a saved generative model.")
    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from generative.grid import out_kind
    from generative.saved import open_model

    kind = out_kind(options.out, ("png", "npy", "folder"))
    run = Run.open(options.run, "generative")
    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    columns: int | None = options.steps
    if options.interpolate is not None:
        images = interpolate(saved, *options.interpolate, options.steps)
    else:
        images, columns = draw(saved, options.n, options.seed, options.label)
    write_images(saved.scaling.to_pixels(images), options.out, kind, options.columns or columns, options.scale)
    print(f"{len(images):,} images of {run.name}, checkpoint {saved.step:,}: {options.out}")


def draw(saved: SavedModel, count: int | None, seed: int, label: str | None = None) -> tuple[Tensor, int | None]:
    """Images [n, C, H, W] as the model draws them, and columns of a grid. Raises ConfigError for labels it lacks."""
    import torch

    from generative.core import Purpose, torch_generator

    classes = saved.spec.classes
    labels, columns = None, None
    if label is not None:
        saved.require("labels", "--label")
    if "labels" in saved.model.abilities and classes:
        number = None if label in (None, "all") else class_number(str(label), classes)
        count = count or (8 * len(classes) if label == "all" else 64)
        labels = torch.arange(count) % len(classes) if number is None else torch.full((count,), number)
        columns = len(classes) if number is None else None
    count = count or 64
    generator = torch_generator(seed, Purpose.SAMPLING)
    parts = []
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        parts.append(saved.model.sample(size, generator, None if labels is None else labels[start : start + size]))
    return torch.cat(parts), columns


def class_number(text: str, classes: tuple[str, ...]) -> int:
    """The place of a class by its name or number. Raises ConfigError where there is none."""
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise ConfigError(f"--label {text!r} is no class: 0 to {len(classes) - 1} ({shown}), or all")


def interpolate(saved: SavedModel, start: str, end: str, steps: int) -> Tensor:
    """Images [steps, C, H, W] on the way from one to another.

    Latent vectors are drawn from N(0, I), whose mass lies on a sphere: the way between two goes along it (White 2016,
    arXiv:1609.04468). Codes of given images are joined by a straight line. Raises ConfigError where the model cannot.
    """
    import torch

    from generative.core import Purpose, torch_generator

    saved.require("decode", "--interpolate")
    model = saved.model
    if "latents" in model.abilities and start.isdecimal() and end.isdecimal():
        ends = [model.latents(1, torch_generator(int(seed), Purpose.SAMPLING))[0] for seed in (start, end)]
        between = along_sphere if standard_normal(saved) else torch.lerp
    else:
        saved.require("encode", "--interpolate between given images")
        for text in (start, end):
            if not text.removeprefix("test:").isdecimal() and not Path(text).expanduser().is_file():
                raise ConfigError(f"--interpolate {text}: neither a number nor a picture file")
        images = torch.stack([_given_image(saved, text) for text in (start, end)])
        with torch.no_grad():
            ends = list(model.encode(images.to(model.device)).float().cpu())
        between = torch.lerp
    codes = torch.stack([between(ends[0], ends[1], step / (steps - 1)) for step in range(steps)])  # [steps, D]
    with torch.no_grad():
        return model.decode(codes.to(model.device)).detach().float().cpu()


def standard_normal(saved: SavedModel) -> bool:
    """Whether latent vectors of the model look like those of N(0, I)."""
    from generative.core import Purpose, torch_generator

    latents = saved.model.latents(1_000, torch_generator(0, Purpose.SAMPLING))  # [1000, D]
    return float(latents.mean().abs()) < 0.1 and abs(float(latents.std()) - 1.0) < 0.1


def along_sphere(start: Tensor, end: Tensor, fraction: float) -> Tensor:
    """sin((1-t) w) / sin(w) * a + sin(t w) / sin(w) * b with w the angle between a and b (White 2016, section 2.1);
    a straight line where they are parallel."""
    import torch

    cosine = torch.dot(start, end) / (start.norm() * end.norm()).clamp(min=1e-12)
    angle = torch.arccos(cosine.clamp(-1.0, 1.0))
    if float(torch.sin(angle)) < 1e-4:
        return torch.lerp(start, end, fraction)
    weights = torch.sin((1.0 - fraction) * angle), torch.sin(fraction * angle)
    return (weights[0] * start + weights[1] * end) / torch.sin(angle)


def write_images(images: Tensor, out: Path, kind: str, columns: int | None, scale: int | None) -> None:
    """Writes images [n, C, H, W] in [0, 1] as a grid, an array, or a folder of pictures."""
    from generative.grid import make_grid, png, write, write_array

    if kind == "npy":
        write_array(out, images.numpy())
    elif kind == "png":
        write(out, png(make_grid(images, columns=columns, scale=scale)))
    else:
        digits = max(5, len(str(len(images) - 1)))
        for index, image in enumerate(images):
            one = make_grid(image[None], scale=scale or 1)
            write(out / f"{index:0{digits}d}.png", png(one[1:-1, 1:-1]))


def _given_image(saved: SavedModel, text: str) -> Any:
    """float32 [C, H, W] of a test image by its number, or of a file."""
    from generative.inputs import read_picture

    number = text.removeprefix("test:")
    if not number.isdecimal():
        return saved.scaling.to_model(read_picture(Path(text).expanduser(), saved.spec)[None])[0]
    test = saved.dataset.test
    if int(number) >= len(test):
        raise ConfigError(f"--interpolate {text}: {saved.run.task} has test images 0 to {len(test) - 1}")
    return test.scaled(slice(int(number), int(number) + 1))[0]


if __name__ == "__main__":
    cli.main(command)
