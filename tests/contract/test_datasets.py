"""Every registered data set keeps the contract, and `check_dataset` finds the mistakes that it is there to find."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aprendiz import DATASETS
from aprendiz.data import load, options
from aprendiz.data.build import finish, from_arrays
from aprendiz.data.core import Dataset
from aprendiz.errors import DataError
from aprendiz.testing import check_dataset

BUILTINS = [one.name for one in DATASETS.describe_all() if one.distribution == "aprendiz"]


@pytest.mark.parametrize("scaling", ["unit", "min-max", "standard", "robust"])
@pytest.mark.parametrize("patch", [None, 4])
def test_the_embedded_digits_keep_the_contract(scaling: str, patch: int | None) -> None:
    check_dataset(functools.partial(load, "digits", scaling=scaling, scaling_per="pixel", patch=patch))


@pytest.mark.parametrize("name", [name for name in BUILTINS if "mnist" in name])
def test_what_is_downloaded_keeps_the_contract_where_it_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    if "APRENDIZ_TEST_DATA" not in os.environ:
        pytest.skip("needs the data")
    monkeypatch.setenv("APRENDIZ_DATA", os.environ["APRENDIZ_TEST_DATA"])
    monkeypatch.setenv("APRENDIZ_MIRROR", "http://127.0.0.1:9")  # nothing is fetched
    try:
        load(name)
    except DataError:
        pytest.skip(f"{name} is not among the data")
    check_dataset(functools.partial(load, name))


@pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize("folders", [("",), ("a", "b")], ids=["plain", "labelled"])
def test_a_folder_of_pictures_keeps_the_contract(tmp_path: Path, stream: bool, folders: tuple[str, ...]) -> None:
    generator = np.random.default_rng(0)
    for folder in folders:
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(30):
            pixels = generator.integers(0, 256, (9, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    check_dataset(functools.partial(load, f"folder:{tmp_path}", stream=stream))


@pytest.mark.parametrize("name", BUILTINS)
def test_every_data_set_has_one_line_and_options(name: str) -> None:
    assert DATASETS.describe(name).summary
    assert {"scaling", "patch", "split_seed"} <= set(options(name))


def good(**changes: Any) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 5, 5), dtype=np.uint8)
    dataset = finish(from_arrays("noise", pixels, np.arange(60) % 2, classes=("a", "b")))
    return dataclasses.replace(dataset, **changes)


class Wrong:
    """A part with something wrong."""

    def __init__(self, part: Any, **changes: Any) -> None:
        self.part, self.changes = part, changes

    def __getattr__(self, name: str) -> Any:
        return self.changes.get(name, getattr(self.part, name))

    def __len__(self) -> int:
        return len(self.part)


def wrong_part(**changes: Callable[[Any], Any]) -> Callable[[], Dataset]:
    def make() -> Dataset:
        part = good().validation
        return good(validation=Wrong(part, **{name: change(part) for name, change in changes.items()}))

    return make


def different_each_time() -> Dataset:
    pixels = np.random.default_rng().integers(0, 256, (60, 1, 5, 5), dtype=np.uint8)
    return finish(from_arrays("noise", pixels))


def from_global_state() -> Dataset:
    np.random.rand()
    return good()


MISTAKES = {
    "other images each time": (different_each_time, "made again, the images or labels of train are others"),
    "global random state": (from_global_state, "global random state of NumPy"),
    "classes that are no text": (
        lambda: good(spec=dataclasses.replace(good().spec, classes=(0, 1))),  # type: ignore[arg-type]
        "not a tuple of text",
    ),
    "options that are no JSON": (lambda: good(options={"path": Path("x")}), "what JSON can hold"),
    "labels without names": (
        wrong_part(spec=lambda part: dataclasses.replace(part.spec, classes=())),
        "the data set as",
    ),
    "labels of another type": (wrong_part(labels=lambda part: part.labels.float()), "not int64"),
    "labels out of range": (wrong_part(labels=lambda part: part.labels + 1), "run from 1 to 2; there are 2"),
    "labels that are missing": (wrong_part(labels=lambda part: None), "labels of validation are NoneType"),
    "floats for pixels": (
        wrong_part(pixels=lambda part: lambda indices: part.scaled(indices)),
        "not a tensor of uint8",
    ),
    "scaled twice": (
        wrong_part(scaled=lambda part: lambda indices: part.scaled(indices) / 255),
        "not pixels scaled",
    ),
    "indices ignored": (
        wrong_part(pixels=lambda part: lambda indices: torch.zeros(3, 1, 5, 5, dtype=torch.uint8)),
        "by a slice are others",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_found_and_named(what: str) -> None:
    make, message = MISTAKES[what]
    with pytest.raises(AssertionError, match=message):
        check_dataset(make)


def test_a_good_data_set_passes() -> None:
    check_dataset(good)
