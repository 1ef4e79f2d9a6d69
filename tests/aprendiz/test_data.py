"""Data sets by name: options, splits, the embedded digits, MNIST's files, a plugin's data set."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aprendiz import DATASETS
from aprendiz.data import canonical, digits, load, options
from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset
from aprendiz.data.splits import hold_out, labelled_subset, split
from aprendiz.errors import ConfigError, DataError, UnknownNameError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, compress: bool = True, train: int = 60, test: int = 10) -> None:
    """Four small files in MNIST's format."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    arrays = (
        random.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        (np.arange(train) % 10).astype(np.uint8),
        random.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        (np.arange(test) % 10).astype(np.uint8),
    )
    for name, array in zip(FILES, arrays, strict=True):
        data = idx_bytes(array)
        (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(data) if compress else data)


def two_colours(*, count: int = 30, split_seed: int = 0) -> Dataset:
    """What a plugin registers: a factory whose keyword arguments are the options."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 6, 5), dtype=np.uint8)
    return from_arrays("two-colours", images, np.arange(count) % 2, classes=("red", "blue"), split_seed=split_seed)


def not_a_dataset() -> int:
    return 3


def test_options_are_told_without_loading_anything() -> None:
    code = "import sys; import aprendiz.data; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert options("mnist") == {
        "folder": None,
        "validation": 10_000,
        "split_seed": 0,
        "scaling": "unit",
        "scaling_per": "channel",
        "patch": None,
        "patches": None,
        "patches_per_image": 4,
        "patch_min_deviation": 0.1,
    }
    assert "path" not in options("folder:somewhere") and options("folder:somewhere")["colour"] == "auto"


def test_an_option_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="digits has no option 'folder'; it has: split_seed, scaling, scaling_per"):
        load("digits", folder="x")


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="fashion-mnist"):
        load("fashion")


def test_every_built_in_has_a_factory() -> None:
    assert DATASETS.names()[:4] == ["digits", "fashion-mnist", "folder", "mnist"]
    assert all(callable(DATASETS.get(name)) for name in ("digits", "fashion-mnist", "folder", "mnist"))


def test_the_embedded_digits_are_spread_from_black_to_white() -> None:
    data = load("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1437, 180, 180)
    assert data.spec.shape == (1, 8, 8) and data.spec.classes == tuple("0123456789")
    pixels = data.train.pixels(slice(None))
    assert pixels.dtype == torch.uint8 and (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert len(pixels.unique()) == 17
    assert data.train.labels is not None and data.train.labels.dtype == torch.int64


def test_a_data_set_is_made_again_from_the_options_that_it_keeps() -> None:
    first = load("digits", scaling="standard", patch=4, split_seed=3)
    again = load("digits", **first.options)
    assert again.options == first.options and again.fingerprint == first.fingerprint
    assert torch.equal(again.test.pixels([0, 1]), first.test.pixels([0, 1]))


def test_the_fingerprint_tells_other_content_and_other_splits() -> None:
    prints = {load("digits").fingerprint, load("digits", split_seed=1).fingerprint, load("digits", patch=4).fingerprint}
    assert len(prints) == 3
    assert load("digits", scaling="standard").fingerprint in prints


def test_a_plugin_s_data_set_gets_patches_and_scaling_like_any_other() -> None:
    name = f"{__name__}:two_colours"
    assert list(options(name))[:2] == ["count", "split_seed"]
    data = load(name, count=40, scaling="min-max", patch=3, patches=100, patch_min_deviation=0)
    assert (len(data.train), data.spec.shape) == (100, (3, 3, 3))
    assert data.options["count"] == 40 and data.options["split_seed"] == 0
    assert float(data.train.scaled(slice(None)).max()) == 1.0


def test_what_is_no_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="is a int; its factory must return a Dataset"):
        load(f"{__name__}:not_a_dataset")


def test_the_name_of_a_folder_is_saved_with_its_whole_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical("folder:pictures") == f"folder:{tmp_path.resolve() / 'pictures'}"
    assert canonical("Fashion_MNIST") == "fashion-mnist"


# Splits


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 19, 100, 1_797])
def test_a_split_takes_every_image_once_and_leaves_no_part_empty(count: int) -> None:
    parts = split(count, np.arange(count) % 3, 0)
    assert all(len(part) for part in parts)
    if count >= 3:
        assert sorted(np.concatenate(parts)) == list(range(count))


def test_a_split_gives_each_class_its_share() -> None:
    labels = np.repeat(np.arange(4), [10, 200, 500, 1])
    train, validation, test = split(len(labels), labels, 0)
    for part in (validation, test):
        found = np.bincount(labels[part], minlength=4)
        assert np.abs(found - np.array([1, 20, 50, 0])).max() <= 1
    assert 3 in labels[train]


def test_a_split_is_decided_by_its_seed_alone() -> None:
    np.random.default_rng(5).random(7)
    labels = np.arange(100) % 10
    first, second, other = split(100, labels, 0), split(100, labels, 0), split(100, labels, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[2], other[2])


def test_validation_and_test_images_of_one_seed_differ() -> None:
    _, validation, test = split(1_000, None, 0)
    assert not set(validation) & set(test)


def test_more_than_there_is_cannot_be_held_out() -> None:
    with pytest.raises(ConfigError, match="70 of 60 images"):
        hold_out(60, None, 70, 0)


@pytest.mark.parametrize("count", [100, 1_000, 1_003])
def test_a_labelled_subset_has_equally_many_of_each_class(count: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 10, 5_000))
    chosen = labelled_subset(labels, count, seed=0)
    assert len(np.unique(chosen)) == count
    found = np.bincount(labels.numpy()[chosen])
    assert found.max() - found.min() <= 1
    assert not np.array_equal(chosen, labelled_subset(labels, count, seed=1))


def test_a_class_that_has_too_few_gives_all_it_has() -> None:
    labels = np.repeat([0, 1, 2], [3, 50, 50])
    assert np.bincount(labels[labelled_subset(labels, 43, seed=0)]).tolist() == [3, 20, 20]
    with pytest.raises(ConfigError, match="between 3 .* and 103 can"):
        labelled_subset(labels, 2, seed=0)


# MNIST


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_are_read_from_a_folder(tmp_path: Path, compress: bool) -> None:
    write_mnist(tmp_path, compress=compress)
    data = load("mnist", folder=str(tmp_path), validation=20)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 20, 10)
    assert data.train.labels is not None and data.train.labels.bincount().tolist() == [4] * 10
    expected = np.random.default_rng(1).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    assert {image.tobytes() for image in data.train.pixels(slice(None)).numpy()} <= {one.tobytes() for one in expected}


def test_images_stay_with_their_labels(tmp_path: Path) -> None:
    write_mnist(tmp_path, compress=False)
    images = np.repeat((np.arange(60) % 10).astype(np.uint8)[:, None, None], 28, axis=1).repeat(28, axis=2)
    (tmp_path / FILES[0]).write_bytes(idx_bytes(images))
    data = load("mnist", folder=str(tmp_path), validation=20)
    for part in (data.train, data.validation):
        assert part.labels is not None and torch.equal(part.pixels(slice(None))[:, 0, 3, 5].long(), part.labels)


BROKEN = {
    "truncated": (lambda data: data[:-5], r"is truncated: 47,035 bytes of images, and its header says 47,040"),
    "too long": (lambda data: data + b"x", r"is too long: 47,041 bytes"),
    "labels for images": (
        lambda data: b"\0\0\x08\x01" + data[4:],
        r"magic number is 0x00000801, and images have 0x00000803",
    ),
    "another type": (lambda data: b"\0\0\x0d\x03" + data[4:], r"magic number is 0x00000d03"),
    "only a header's beginning": (lambda data: data[:7], r"is truncated: 7 bytes"),
    "empty": (lambda data: b"", r"is truncated: 0 bytes"),
    "a page of HTML": (lambda data: b"<!DOCTYPE html><html>", r"is no IDX file of images"),
    "truncated gzip": (lambda data: gzip.compress(data)[:-20], r"is truncated or damaged"),
    "damaged gzip": (lambda data: gzip.compress(data)[:30] + b"junk" * 9, r"is truncated or damaged"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, what: str) -> None:
    damage, message = BROKEN[what]
    write_mnist(tmp_path, compress=False)
    path = tmp_path / FILES[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", folder=str(tmp_path), validation=20)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, compress=False)
    (tmp_path / FILES[1]).write_bytes(idx_bytes(np.zeros(59, np.uint8)))
    with pytest.raises(DataError, match="mnist has 60 images and 59 labels"):
        load("mnist", folder=str(tmp_path), validation=20)
    (tmp_path / FILES[1]).write_bytes(idx_bytes(np.full(60, 11, np.uint8)))
    with pytest.raises(DataError, match="labels of mnist run from 11 to 11, and it names 10 classes"):
        load("mnist", folder=str(tmp_path), validation=20)


def test_a_folder_without_the_files_is_told_which_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load("mnist", folder=str(tmp_path / "nowhere"))
    write_mnist(tmp_path)
    (tmp_path / f"{FILES[3]}.gz").unlink()
    with pytest.raises(DataError, match=r"has no t10k-labels-idx1-ubyte \(with or without .gz\)"):
        load("mnist", folder=str(tmp_path))


@pytest.mark.skipif("APRENDIZ_TEST_DATA" not in os.environ, reason="needs MNIST")
def test_mnist_in_the_cache_is_used_whatever_gzip_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_DATA", os.environ["APRENDIZ_TEST_DATA"])
    monkeypatch.setenv("APRENDIZ_MIRROR", "http://127.0.0.1:9")  # nothing is fetched
    data = load("mnist")
    assert (len(data.train), len(data.validation), len(data.test)) == (50_000, 10_000, 10_000)
    assert data.train.labels is not None and data.validation.labels is not None
    assert (data.train.labels.bincount() + data.validation.labels.bincount()).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert float(data.train.scaled(slice(None)).mean()) == pytest.approx(0.1307, abs=3e-4)


def test_the_embedded_digits_are_scikit_learn_s() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    found, known = digits._read()
    assert np.array_equal(found, images) and np.array_equal(known, labels)
