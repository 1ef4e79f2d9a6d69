"""Rows of a batch on several threads: the numbers of one thread, and nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from aprendiz.recurrent.fused import GRUSequence, LSTMSequence, RNNSequence
from aprendiz.recurrent.rows import FEWEST, in_parts

STEPS, BATCH, UNITS = 5, 2 * FEWEST + 3, 7
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Two threads, however many there are otherwise; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def parts_of(rows: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    in_parts(lambda start, stop: found.append((start, stop)), rows)
    return sorted(found)


def within(seconds: float, act: Any) -> list[Any]:
    """What `act` returns in a thread of its own, or nothing where it has not come back by then."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()), daemon=True)
    thread.start()
    thread.join(seconds)
    return results


def inputs_of(cell: str, dtype: torch.dtype) -> tuple[Any, list[Tensor]]:
    """The layer and what it takes: projections, states and weights, as they are with that compute type."""
    generator = torch.Generator().manual_seed(3)
    state = torch.float32 if dtype == torch.bfloat16 else dtype

    def random(*shape: int, kind: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.5).to(kind).requires_grad_()

    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    projected = random(STEPS, BATCH, gates * UNITS, kind=dtype)
    hidden, weight = random(BATCH, UNITS, kind=state), random(gates * UNITS, UNITS, kind=state)
    if cell == "rnn":
        return RNNSequence, [projected, hidden, weight]
    if cell == "lstm":
        return LSTMSequence, [projected, hidden, random(BATCH, UNITS, kind=state), weight]
    return GRUSequence, [projected, hidden, weight, random(UNITS, kind=state)]


def results_of(cell: str, dtype: torch.dtype, threads: int) -> tuple[list[Tensor], list[Tensor]]:
    """What comes out, and the gradients of a sum of it in which every number weighs differently."""
    torch.set_num_threads(threads)
    layer, inputs = inputs_of(cell, dtype)
    outputs = layer.apply(*inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    loss = sum(
        (tensor.float() * torch.linspace(-1, 1, tensor.numel()).view_as(tensor)).sum() / BATCH for tensor in outputs
    )
    return [tensor.detach() for tensor in outputs], list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_two_threads_compute_what_one_computes(cell: str, dtype: torch.dtype) -> None:
    alone, together = results_of(cell, dtype, 1)[0], results_of(cell, dtype, 2)[0]
    for one, two in zip(alone, together, strict=True):
        torch.testing.assert_close(two, one)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_two_threads_compute_the_gradients_that_one_computes(cell: str, dtype: torch.dtype) -> None:
    alone, together = results_of(cell, dtype, 1)[1], results_of(cell, dtype, 2)[1]
    for one, two in zip(alone, together, strict=True):
        assert one.abs().max() > 1e-3  # a gradient that is there
        torch.testing.assert_close(two, one)


def test_parts_are_all_rows_and_each_row_once() -> None:
    assert parts_of(2 * FEWEST + 3) == [(0, FEWEST + 1), (FEWEST + 1, 2 * FEWEST + 3)]


def test_a_small_batch_stays_in_one_part() -> None:
    assert parts_of(2 * FEWEST - 1) == [(0, 2 * FEWEST - 1)]


def test_a_small_batch_stays_in_the_caller_s_thread() -> None:
    where: list[threading.Thread] = []
    in_parts(lambda start, stop: where.append(threading.current_thread()), FEWEST)
    assert where == [threading.current_thread()]


def test_one_thread_takes_all_rows_itself() -> None:
    torch.set_num_threads(1)
    assert parts_of(100 * FEWEST) == [(0, 100 * FEWEST)]


def test_parts_run_at_the_same_time() -> None:
    both = threading.Barrier(2)
    in_parts(lambda start, stop: (both.wait(timeout=10), None)[1], 2 * FEWEST)


def test_a_part_computes_with_one_thread() -> None:
    numbers: list[int] = []
    in_parts(lambda start, stop: numbers.append(torch.get_num_threads()), 2 * FEWEST)
    assert numbers == [1, 1]


def test_the_caller_keeps_its_number_of_threads() -> None:
    for threads in (3, 2):
        torch.set_num_threads(threads)
        parts_of(4 * FEWEST)
        assert torch.get_num_threads() == threads


def test_threads_that_begin_later_have_the_caller_s_number() -> None:
    torch.set_num_threads(4)
    parts_of(4 * FEWEST)
    assert within(10.0, torch.get_num_threads) == [4]


@pytest.mark.parametrize("part", [0, FEWEST])
def test_an_exception_in_a_part_reaches_the_caller(part: int) -> None:
    def work(start: int, stop: int) -> None:
        if start == part:
            raise ValueError(f"rows from {start}")

    with pytest.raises(ValueError, match=f"^rows from {part}$"):
        in_parts(work, 2 * FEWEST)


def test_an_exception_arrives_once_every_part_has_ended() -> None:
    ended: list[int] = []

    def work(start: int, stop: int) -> None:
        if start == 0:
            raise ValueError
        time.sleep(0.1)
        ended.append(start)

    with pytest.raises(ValueError):  # noqa: PT011
        in_parts(work, 2 * FEWEST)
    assert ended == [FEWEST]


def test_after_an_exception_all_parts_are_done_again() -> None:
    def work(start: int, stop: int) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        in_parts(work, 2 * FEWEST)
    assert parts_of(2 * FEWEST) == [(0, FEWEST), (FEWEST, 2 * FEWEST)]


@pytest.mark.parametrize("rows", [FEWEST, 2 * FEWEST])
def test_nothing_in_a_part_is_recorded_for_gradients(rows: int) -> None:
    recorded: list[bool] = []
    in_parts(lambda start, stop: recorded.append(torch.is_grad_enabled()), rows)
    assert not any(recorded)


def test_it_computes_in_inference_mode() -> None:
    layer, inputs = inputs_of("lstm", torch.float32)
    expected = layer.apply(*inputs)[0].detach()
    with torch.inference_mode():
        torch.testing.assert_close(layer.apply(*inputs)[0], expected)


def test_called_from_a_part_it_does_not_wait_for_itself() -> None:
    both = threading.Barrier(2)

    def nested() -> bool:
        def work(start: int, stop: int) -> None:
            both.wait(timeout=10)  # every thread is taken
            in_parts(lambda start, stop: None, 2 * FEWEST)

        torch.set_num_threads(2)
        in_parts(work, 2 * FEWEST)
        return True

    assert within(20.0, nested) == [True]


def test_callers_in_several_threads_do_not_disturb_one_another() -> None:
    wrong: list[Any] = []

    def call(threads: int) -> None:
        try:
            torch.set_num_threads(threads)
            expected = [(part * FEWEST, (part + 1) * FEWEST) for part in range(threads)]
            wrong.extend(found for _ in range(200) if (found := parts_of(threads * FEWEST)) != expected)
        except Exception as error:
            wrong.append(error)

    callers = [threading.Thread(target=call, args=(threads,), daemon=True) for threads in (2, 3, 2, 3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20.0)
    assert wrong == [] and not any(caller.is_alive() for caller in callers)


def test_threads_are_made_once_for_each_number() -> None:
    counts = []
    for threads in (2, 3, 2, 3):
        torch.set_num_threads(threads)
        parts_of(threads * FEWEST)
        counts.append(sum(thread.name.startswith("rows") for thread in threading.enumerate()))
    assert counts[1] == counts[2] == counts[3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    parts_of(2 * FEWEST)  # the parent has them
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # where it waits for threads that are not there
        os._exit(0 if len(parts_of(2 * FEWEST)) == 2 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
