"""Whether a data set of images keeps the contract."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from aprendiz.testing.common import difference, form, global_random_state_left_alone, require

_PARTS = ("train", "validation", "test")
_BATCHES = 8


def check_dataset(make: Callable[[], Any], *, seed: int = 7) -> None:
    """Look at a data set from all sides and raise AssertionError, saying what is wrong, where it breaks the contract.

    `make()` returns a new `aprendiz.data.core.Dataset`, the same each time: a factory, or `aprendiz.data.load` with a
    name. Checked: the description and its JSON; dtypes, shapes and labels of the three parts, by slices, arrays and
    tensors of indices, and from another thread; that `scaled` is `pixels` scaled, and in [0, 1] where the description
    says so; that making it again gives the same images in the same parts; that batches go on exactly after an
    interruption; and that the global random states of Python, NumPy and torch are left alone.
    """
    from aprendiz.data.source import DataSource

    dataset = make()  # out here, where what it imports for the first time may do as it likes
    with global_random_state_left_alone():
        again = make()
        _check_spec(dataset)
        for name in _PARTS:
            part, other = getattr(dataset, name), getattr(again, name)
            _check_part(dataset, name, part)
            some = np.unique(np.linspace(0, len(part) - 1, 5).astype(np.int64))
            require(len(part) == len(other), f"{name} has {len(part)} images, made again {len(other)}")
            where = difference([part.pixels(some), part.labels], [other.pixels(some), other.labels])
            require(not where, f"made again, the images or labels of {name} are others")
        require(dataset.fingerprint == again.fingerprint, "made again, the fingerprint is another")
        _check_batches(functools.partial(DataSource, dataset.train), len(dataset.train), seed)


def _check_spec(dataset: Any) -> None:
    spec = dataset.spec
    for name in ("channels", "height", "width"):
        size = getattr(spec, name)
        require(type(size) is int and size > 0, f"{name} is {size!r}, not an int above 0")
    require(spec.channels in (1, 3), f"channels is {spec.channels}; 1 is grey and 3 is colour")
    require(isinstance(spec.name, str) and bool(spec.name), f"the name is {spec.name!r}")
    require(
        isinstance(spec.classes, tuple) and all(isinstance(one, str) for one in spec.classes),
        f"classes is {spec.classes!r}, not a tuple of text",
    )
    require(len(set(spec.classes)) == len(spec.classes), "two classes have one name")
    try:
        json.dumps([dataclasses.asdict(spec), dict(dataset.options)])
    except TypeError as error:
        raise AssertionError(f"description and options must be what JSON can hold: {error}") from error


def _check_part(dataset: Any, name: str, part: Any) -> None:
    import torch

    require(len(part) > 0, f"{name} has no images")
    require(part.spec == dataset.spec, f"{name} describes its images as {part.spec}, the data set as {dataset.spec}")
    last = len(part) - 1
    indices = [last, 0, last // 2]
    pixels = part.pixels(torch.tensor(indices))
    require(
        isinstance(pixels, torch.Tensor) and pixels.dtype == torch.uint8 and not pixels.is_cuda,
        f"pixels of {name} are {form(pixels)}, not a tensor of uint8 on the CPU",
    )
    require(
        tuple(pixels.shape) == (3, *dataset.spec.shape),
        f"3 images of {name} are {form(pixels)}; the description says {list(dataset.spec.shape)}",
    )
    for what, key in (("an array", np.array(indices)), ("a list", indices)):
        require(torch.equal(part.pixels(key), pixels), f"pixels of {name} by {what} of indices are others")
    require(torch.equal(part.pixels(slice(0, 1)), pixels[1:2]), f"pixels of {name} by a slice are others")
    require(torch.equal(part.pixels(slice(last, None)), pixels[:1]), f"pixels of {name} by a slice are others")
    elsewhere: list[Any] = []
    thread = threading.Thread(target=lambda: elsewhere.append(part.pixels(indices)))
    thread.start()
    thread.join()
    require(bool(elsewhere), f"pixels of {name} cannot be read by another thread")
    require(torch.equal(elsewhere[0], pixels), f"pixels of {name} read by another thread are others")
    scaled = part.scaled(indices)
    require(scaled.dtype == torch.float32, f"scaled images of {name} are {form(scaled)}, not float32")
    require(torch.equal(scaled, dataset.scaling.to_model(pixels)), f"scaled images of {name} are not pixels scaled")
    inside = 0.0 <= float(scaled.min()) <= float(scaled.max()) <= 1.0
    require(inside or not dataset.spec.unit_interval, f"scaled images of {name} leave [0, 1]")
    labels = part.labels
    if not dataset.spec.classes:
        require(labels is None, f"{name} has labels, and the description names no classes")
        return
    require(
        isinstance(labels, torch.Tensor) and labels.dtype == torch.int64 and tuple(labels.shape) == (len(part),),
        f"labels of {name} are {form(labels)}, not int64 [{len(part)}]",
    )
    low, high = int(labels.min()), int(labels.max())
    require(
        0 <= low and high < len(dataset.spec.classes),  # noqa: SIM300 (a range reads from left to right)
        f"labels of {name} run from {low} to {high}; there are {len(dataset.spec.classes)} classes",
    )


def _check_batches(make: Callable[..., Any], count: int, seed: int) -> None:
    def source() -> Any:
        return make(batch_size=max(1, min(16, count // 3)), seed=seed)

    whole, before, after = source(), source(), source()
    try:
        expected = [whole.next().batch for _ in range(_BATCHES)]
        found = [before.next().batch for _ in range(_BATCHES // 2)]
        after.load_state_dict(before.state_dict())
        found += [after.next().batch for _ in range(_BATCHES - _BATCHES // 2)]
    finally:
        for one in (whole, before, after):
            one.close()
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        where = difference([one.images, one.labels], [other.images, other.labels])
        require(not where, f"batch {number} after an interruption is another one")
