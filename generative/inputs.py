"""Images that a user names for a saved model (a folder, files, an array, a data set), prepared as in training."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aprendiz import DATASETS, data
from aprendiz.data.pictures import UnreadableError, decode, list_pictures, quiet_pillow
from aprendiz.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, ImageSpec
    from generative.saved import SavedModel

PARTS = ("train", "validation", "test", "all")
BATCH_SIZE = 500


@dataclass(frozen=True)
class Inputs:
    """Images and what they are called."""

    words: str
    count: int
    _pixels: Tensor | None = None
    """uint8 [N, C, H, W], or None where they come out of a data set."""
    _parts: tuple = ()
    _saved: SavedModel | None = None

    def batches(self) -> Iterator[Tensor]:
        """float32 [B, C, H, W] as the model sees them, in order."""
        if self._pixels is not None:
            assert self._saved is not None
            for pixels in self._pixels.split(BATCH_SIZE):
                yield self._saved.scaling.to_model(pixels)
        for part in self._parts:
            for start in range(0, len(part), BATCH_SIZE):
                yield part.scaled(slice(start, min(start + BATCH_SIZE, len(part))))


def read_inputs(saved: SavedModel, words: Sequence[str], part: str = "all") -> Inputs:
    """The images that `words` name. Raises ConfigError or DataError where there are none, or they do not fit."""
    if len(words) == 1 and (found := _data_set(saved, words[0])) is not None:
        if part not in PARTS:
            raise ConfigError(f"--part {part!r} is not {', '.join(PARTS)}")
        names = PARTS[:3] if part == "all" else (part,)
        parts = tuple(getattr(found, name) for name in names)
        return Inputs(f"{found.spec.name} ({part})", sum(map(len, parts)), None, parts)
    pixels = torch.cat([_read(Path(word).expanduser(), saved.spec) for word in words])  # [N, C, H, W]
    return Inputs(", ".join(words), len(pixels), pixels, (), saved)


def read_picture(path: Path, spec: ImageSpec) -> Tensor:
    """uint8 [C, H, W] of a file, resized and greyed as the run's images were. Raises ConfigError."""
    try:
        with quiet_pillow():
            return torch.from_numpy(np.array(decode(path, *spec.shape)))
    except UnreadableError as error:
        raise ConfigError(f"{path} cannot be read as a picture: {error}") from error


def _data_set(saved: SavedModel, word: str) -> Dataset | None:
    """The data set of that name: the run's own with the run's options. None where the word names files."""
    own, task = saved.run.config["data"]["name"], saved.run.task
    there = Path(word).expanduser().exists()
    # A folder that is there is meant itself, though the run's own folder may have the same last name.
    if word == own or (word == task and not (there and own.startswith("folder:"))):
        return saved.dataset
    if there:
        return None
    if not (":" in word or word.lower().replace("_", "-") in DATASETS.names()):
        if "/" in word or "." in word:
            raise ConfigError(f"there is no file or folder {word}; name pictures, a folder, an .npy file or a data set")
        try:
            DATASETS.canonical(word)
        except UnknownNameError as error:  # it names the closest
            raise ConfigError(f"there is no file or folder {word}, nor a data set: {error}") from error
    dataset = data.load(word)
    if dataset.spec.shape != saved.spec.shape:
        raise ConfigError(
            f"images of {word} are {_size(dataset.spec)}, {saved.run.name} learned from {_size(saved.spec)}; those in "
            "files are resized"
        )
    return dataset


def _read(path: Path, spec: ImageSpec) -> Tensor:
    """uint8 [N, C, H, W] of a file, an array or a folder."""
    if path.is_dir():
        names, skipped = list_pictures(path)
        pictures = []
        for name in names:
            try:
                pictures.append(read_picture(path / name, spec))
            except ConfigError as error:
                skipped.append(f"{name} ({error.__cause__})")
        if skipped:
            more = f", and {len(skipped) - 20} more" if len(skipped) > 20 else ""
            text = f"warning: {len(skipped)} files in {path} could not be read: {', '.join(skipped[:20])}{more}"
            print(text.encode(errors="backslashreplace").decode(), file=sys.stderr)
        if not pictures:
            raise ConfigError(f"no picture in {path} can be read")
        return torch.stack(pictures)
    if not path.exists():
        raise ConfigError(f"there is no file or folder {path}")
    if path.suffix.lower() == ".npy":
        return _from_array(path, spec)
    return read_picture(path, spec)[None]


def _from_array(path: Path, spec: ImageSpec) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no .npy array that can be read: {error}") from error
    images = array[:, None] if array.ndim == 3 and spec.channels == 1 else array
    if images.ndim != 4 or images.shape[1:] != spec.shape or len(images) == 0:
        expected = f"(N, {', '.join(map(str, spec.shape))})"
        raise ConfigError(f"{path} holds an array {array.shape}; the model reads {expected}")
    array = images
    if array.dtype == np.uint8:
        return torch.from_numpy(array)
    if array.dtype.kind != "f" or not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ConfigError(f"{path} must hold uint8, or floats between 0 and 1; it holds {array.dtype}")
    return torch.from_numpy(np.rint(array * 255).astype(np.uint8))


def _size(spec: ImageSpec) -> str:
    return f"{spec.height}x{spec.width} in {'colour' if spec.channels == 3 else 'grey'}"
