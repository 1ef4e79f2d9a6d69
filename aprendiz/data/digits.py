"""The embedded data set: scikit-learn's 8x8 digits."""

from __future__ import annotations

from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset


def digits(*, split_seed: int = 0) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels, which are spread to 0..255.

    Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI repository: the test images of it, as
    scikit-learn ships them. 80% are trained on, 10% validate and 10% test, by class.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255.0 / 16.0)).round().astype("uint8")
    classes = [str(digit) for digit in range(10)]
    return from_arrays(
        "digits", pixels, labels, classes=classes, split_seed=split_seed, options={"split_seed": split_seed}
    )
