from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from language.lanes import LANES, divide, greater, lesser, load, multiply_add, prefetch, spread, store, subtract, totals


@njit
def _arithmetic(a, b, out):
    prefetch(out, 0)
    x, y = load(a, 1), load(b, 0)
    store(out, 0, multiply_add(x, y, spread(b[3])))
    store(out, LANES, divide(subtract(x, y), y))
    store(out, 2 * LANES, lesser(x, y))
    store(out, 3 * LANES, greater(x, y))


@njit
def _totals(a, out):
    store(
        out,
        0,
        totals(
            load(a, 0), load(a, LANES), load(a, 2 * LANES), load(a, 3 * LANES), load(a, 4 * LANES), load(a, 5 * LANES)
        ),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes_calculate_what_arrays_do(dtype: type) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.uniform(1, 2, size=(2, LANES + 1)).astype(dtype)
    out = np.zeros(4 * LANES, dtype)
    _arithmetic(a, b, out)
    x, y = a[1:], b[:-1]
    expected = [x * y + b[3], (x - y) / y, np.minimum(x, y), np.maximum(x, y)]
    np.testing.assert_allclose(out.reshape(4, LANES), expected, rtol=1e-5 if dtype == np.float32 else 1e-14, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_totals_are_six_sums_side_by_side(dtype: type) -> None:
    a = np.random.default_rng(0).normal(size=6 * LANES).astype(dtype)
    out = np.ones(LANES, dtype)
    _totals(a, out)
    np.testing.assert_allclose(out[:6], a.reshape(6, LANES).sum(1), rtol=1e-4 if dtype == np.float32 else 1e-12)
    assert not out[6:].any()
