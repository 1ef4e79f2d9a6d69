"""MNIST and Fashion-MNIST: fetched once with checksums, or read from a folder of IDX files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aprendiz.data import idx
from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset
from aprendiz.data.download import RemoteFile, cache_folder, fetch, mirrors
from aprendiz.errors import DataError

_TRAIN_IMAGES, _TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_TEST_IMAGES, _TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (_TRAIN_IMAGES, _TRAIN_LABELS, _TEST_IMAGES, _TEST_LABELS)
"""Without `.gz`, which each may have."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """A data set as its authors published it."""

    mirrors: tuple[str, ...]
    served: dict[str, tuple[int, str]]
    """Bytes and sha256 of the gzipped files."""
    content: dict[str, str]
    """MD5 of the same files unpacked: a file that was gzipped anew has the same."""


_MNIST = _Published(
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    served={
        _TRAIN_IMAGES: (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _TRAIN_LABELS: (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        _TEST_IMAGES: (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _TEST_LABELS: (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    content={
        _TRAIN_IMAGES: "6bbc9ace898e44ae57da46a324031adb",
        _TRAIN_LABELS: "a25bea736e30d166cdddb491f175f624",
        _TEST_IMAGES: "2646ac647ad5339dbf082846283269ea",
        _TEST_LABELS: "27ae3e4e09519cfbb04c329615203637",
    },
)
_FASHION_MNIST = _Published(
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    served={
        _TRAIN_IMAGES: (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        _TRAIN_LABELS: (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        _TEST_IMAGES: (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        _TEST_LABELS: (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    content={
        _TRAIN_IMAGES: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        _TRAIN_LABELS: "9018921c3c673c538a1fc5bad174d6f9",
        _TEST_IMAGES: "8181f5470baa50b63fa0f6fddb340f0a",
        _TEST_LABELS: "15d484375f8d13e6eb1aabb0c3f46965",
    },
)
_DIGITS = tuple(str(digit) for digit in range(10))
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist(*, folder: str | None = None, validation: int = 10_000, split_seed: int = 0) -> Dataset:
    """LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition".

    50,000 images are trained on, `validation` of the official training images are drawn by `split_seed`, by class, and
    the official 10,000 test. `folder` holds the four IDX files, gzipped or not; without it they come from the cache, or
    are fetched into it.
    """
    return _load("mnist", _MNIST, _DIGITS, folder, validation, split_seed)


def fashion_mnist(*, folder: str | None = None, validation: int = 10_000, split_seed: int = 0) -> Dataset:
    """Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms"; options as for `mnist`."""
    return _load("fashion-mnist", _FASHION_MNIST, _CLOTHES, folder, validation, split_seed)


def _load(
    name: str, published: _Published, classes: tuple[str, ...], folder: str | None, validation: int, split_seed: int
) -> Dataset:
    if folder is not None:
        arrays = _from_folder(Path(folder).expanduser().resolve())
    else:
        arrays = _from_cache(name, published)
    images, labels, test_images, test_labels = arrays
    return from_arrays(
        name,
        images,
        labels,
        classes=classes,
        test_images=test_images,
        test_labels=test_labels,
        validation=validation,
        split_seed=split_seed,
        options={
            "folder": None if folder is None else str(Path(folder).expanduser().resolve()),
            "validation": validation,
            "split_seed": split_seed,
        },
    )


def _from_folder(folder: Path) -> list[NDArray[np.uint8]]:
    """The four arrays, whatever they hold: checked for their format alone."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; --folder names the one with {', '.join(FILES)} (or .gz)")
    paths = [_find(folder, name) for name in FILES]
    missing = [name for name, path in zip(FILES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder} has no {' and no '.join(missing)} (with or without .gz)")
    return [idx.read(path, _dimensions(path.name)) for path in paths if path is not None]


def _from_cache(name: str, published: _Published) -> list[NDArray[np.uint8]]:
    folder = cache_folder() / name
    arrays = []
    for file in FILES:
        path = _find(folder, file)
        data = _whole(path, published.content[file]) if path is not None else None
        if data is None:
            path = _fetched(name, published, file, folder)
            data = idx.unpacked(path)
        assert path is not None
        arrays.append(idx.parse(data, _dimensions(file), path))
    return arrays


def _fetched(name: str, published: _Published, file: str, folder: Path) -> Path:
    size, sha256 = published.served[file]
    remote = RemoteFile(name=f"{file}.gz", size_bytes=size, sha256=sha256)
    try:
        return fetch(remote, folder, mirrors(name, published.mirrors))
    except DataError as error:
        raise DataError(
            f"{name} could not be fetched ({error}); fetch {', '.join(f'{one}.gz' for one in FILES)} by hand, from "
            f"{published.mirrors[0]}/ for example, and put them into {folder} (or name their folder with --folder), or "
            "use --data digits, which needs no download"
        ) from error


def _whole(path: Path, md5: str) -> bytes | None:
    """What the file holds, or None where that is not what was published: it is then fetched again."""
    try:
        data = idx.unpacked(path)
    except DataError:
        return None
    return data if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5 else None


def _find(folder: Path, name: str) -> Path | None:
    """The file, gzipped or not; some archives write a dot for the hyphen (`train-images.idx3-ubyte`)."""
    for candidate in (name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _dimensions(name: str) -> int:
    return 3 if "idx3" in name else 1
