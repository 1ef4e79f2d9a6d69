"""The embedded data set: scikit-learn's 8x8 digits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset


def digits(*, split_seed: int = 0) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels, which are spread to 0..255.

    Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI repository: the test images of it, as
    scikit-learn ships them. 80% are trained on, 10% validate and 10% test, by class.
    """
    images, labels = _read()
    pixels = (images.reshape(-1, 8, 8) * (255.0 / 16.0)).round().astype(np.uint8)
    classes = [str(digit) for digit in range(10)]
    return from_arrays(
        "digits", pixels, labels, classes=classes, split_seed=split_seed, options={"split_seed": split_seed}
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    """float64 [1797, 64] from 0 to 16, and labels [1797]: from the file alone, as importing scikit-learn takes longer
    than training on it does, and by its own function where the file is elsewhere."""
    found: Any = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)
