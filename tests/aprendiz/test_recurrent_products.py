"""Products of few rows in bfloat16, and the layers that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba.core.config
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from aprendiz.recurrent import Recurrent, detached, products, sequences
from aprendiz.recurrent.fused import GRUSequence, LSTMSequence, RNNSequence

CELLS = ("rnn", "lstm", "gru")
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
here = pytest.mark.skipif(not products.available(), reason="needs a CPU with AVX-512 BF16")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random(generator: torch.Generator, *shape: int, scale: float = 0.5) -> Tensor:
    """Numbers that bfloat16 holds exactly, as float64."""
    return torch.randn(shape, generator=generator).mul_(scale).bfloat16().double()


def multiplied(left: Tensor, right: Tensor) -> Tensor:
    """What the compiled product makes of [B, K] and [K, N]."""
    out = np.full((products.padded(len(left)), right.shape[1]), np.nan, np.float32)
    packed = products.packed(right.bfloat16())
    products.product(left.bfloat16().view(torch.uint16).numpy(), packed.numpy(), out)
    return torch.from_numpy(out[: len(left)])


@here
@pytest.mark.parametrize("rows", [1, 4, 7, 17])
@pytest.mark.parametrize(("pairs", "columns"), [(1, 16), (8, 64), (40, 80), (128, 112)])
def test_a_product_is_that_of_float64(rows: int, pairs: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = random(generator, rows, 2 * pairs), random(generator, 2 * pairs, columns)
    torch.testing.assert_close(multiplied(left, right), (left @ right).float(), rtol=1e-5, atol=1e-5)


@here
def test_a_row_s_numbers_do_not_depend_on_the_rows_beside_it() -> None:
    generator = torch.Generator().manual_seed(2)
    left, right = random(generator, 7, 96), random(generator, 96, 80)
    alone = torch.cat([multiplied(row, right) for row in left.split(1)])
    assert torch.equal(multiplied(left, right), alone)


def test_weights_are_laid_out_in_pairs_of_rows_for_sixteen_columns() -> None:
    matrix = torch.arange(4 * 32).view(4, 32).bfloat16()  # exact up to 256
    packed = products.packed(matrix).view(torch.bfloat16).view(2, 2, 16, 2)
    for column, pair, lane, which in ((0, 0, 0, 1), (1, 0, 3, 0), (1, 1, 15, 1)):
        assert packed[column, pair, lane, which] == matrix[2 * pair + which, 16 * column + lane]
    assert torch.equal(products.packed_transposed(matrix.t().contiguous()), products.packed(matrix))


def test_other_types_and_sizes_are_left_to_others() -> None:
    assert not products.fits(torch.float32, 64) and not products.fits(torch.bfloat16, 40)
    assert products.fits(torch.bfloat16, 48) == products.available()


@pytest.mark.parametrize(("name", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2")])
def test_code_compiled_for_another_cpu_does_without(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.config, name, value)
    products.available.cache_clear()
    assert not products.available()
    monkeypatch.undo()
    products.available.cache_clear()


def results_of(cell: str, batch: int, units: int, dtype: torch.dtype) -> list[Tensor]:
    """What a layer makes of numbers that every dtype holds, and the gradients of a sum of it."""
    generator = torch.Generator().manual_seed(3)
    state = torch.float32 if dtype == torch.bfloat16 else dtype

    def leaf(*shape: int, scale: float = 0.5, kind: torch.dtype = state) -> Tensor:
        return random(generator, *shape, scale=scale).to(kind).requires_grad_()

    projected = leaf(9, batch, GATES[cell] * units, kind=dtype)
    hidden, weight = leaf(batch, units), leaf(GATES[cell] * units, units, scale=units**-0.5)
    layer: Any = {"rnn": RNNSequence, "lstm": LSTMSequence, "gru": GRUSequence}[cell]
    inputs = {"rnn": [], "lstm": [leaf(batch, units)], "gru": []}[cell]
    inputs = [projected, hidden, *inputs, weight, *([leaf(units)] if cell == "gru" else [])]
    outputs = layer.apply(*inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    weighed = [out.to(state) * torch.linspace(-1, 1, out.numel(), dtype=state).view_as(out) for out in outputs]
    gradients = torch.autograd.grad(torch.stack([one.sum() for one in weighed]).sum(), inputs)
    return [*(out.detach() for out in outputs), *gradients]


@pytest.mark.parametrize("batch", [1, 7, 17])
@pytest.mark.parametrize("units", [16, 80])
@pytest.mark.parametrize("cell", CELLS)
def test_numbers_and_gradients_are_those_of_float64_but_for_rounding(cell: str, units: int, batch: int) -> None:
    exact = results_of(cell, batch, units, torch.float64)
    for ours, expected in zip(results_of(cell, batch, units, torch.bfloat16), exact, strict=True):
        assert float((ours.double() - expected).norm() / expected.norm()) < 0.01


@here
@pytest.mark.parametrize("cell", CELLS)
def test_it_rounds_no_more_than_products_of_pytorch(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, ours = (results_of(cell, 16, 64, dtype) for dtype in (torch.float64, torch.bfloat16))
    monkeypatch.setattr(products, "fits", lambda dtype, size: False)
    theirs = results_of(cell, 16, 64, torch.bfloat16)

    def error(found: list[Tensor]) -> float:
        return sum(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))

    assert error(ours) < error(theirs)


@here
@pytest.mark.parametrize("batch", [8, 17])
@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_give_the_bits_of_one(cell: str, batch: int) -> None:
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        results.append(results_of(cell, batch, 48, torch.bfloat16))
    of_rows = {"rnn": 3, "lstm": 5, "gru": 4}[cell]  # the gradients after them are sums over rows, made by PyTorch
    assert all(torch.equal(one, two) for one, two in zip(results[0][:of_rows], results[1][:of_rows], strict=True))
    assert all(torch.equal(one, two) for one, two in zip(results[1], results[2], strict=True))


@here
def test_eight_rows_are_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    parts: list[tuple[int, int]] = []
    real = sequences.lstm_forward
    monkeypatch.setattr(sequences, "lstm_forward", lambda *given: (parts.append(given[-2:]), real(*given))[1])
    results_of("lstm", 8, 16, torch.bfloat16)
    assert sorted(parts) == [(0, 4), (4, 8)]


@pytest.mark.parametrize("cell", CELLS)
def test_a_carried_state_is_one_long_sequence_in_several_layers(cell: Any) -> None:
    torch.manual_seed(1)
    network = Recurrent(Box(-1, 1, (5,)), cell, 32, layers=3)
    inputs = torch.randn(10, 7, 5)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        whole, last = network(inputs)
        first, state = network(inputs[:4])
        second, state = network(inputs[4:], detached(state))
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(one, other) for one, other in zip(state, last, strict=True))
