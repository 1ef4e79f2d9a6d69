"""Devices and memory: what is chosen by looking at the machine, on machines that are made up."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from aprendiz import device, session
from aprendiz.device import (
    CapturedStep,
    available_memory,
    choose_device,
    keep_freed_memory,
    load_generator_state,
    used_memory,
)
from aprendiz.errors import ConfigError
from tests.cuda_graphs import pretend


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "cuda", "cuda:0", "cuda:1", "mps", "mps:0"])
def test_devices_that_are_there(two_gpus: None, name: str) -> None:
    assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cpu:x", "unknown device 'cpu:x': after the colon comes its number, as in cpu:0"),
        ("cuda:x", "unknown device 'cuda:x': after the colon comes its number, as in cuda:0"),
        ("cuda:", "unknown device 'cuda:'"),
        ("cuda:-1", "unknown device 'cuda:-1'"),
        ("cuda:9", "there is no device 'cuda:9' here: use cuda:0 to cuda:1"),
        ("cuda:99999999999", "there is no device 'cuda:99999999999' here"),
        ("mps:5", "there is no device 'mps:5' here: use mps:0"),
        ("cpu:1", "there is no device 'cpu:1' here: use cpu:0"),
        ("abacus:0", "unknown device 'abacus:0': use auto, cpu, cuda or mps"),
    ],
)
def test_devices_that_are_not_there_are_named_in_one_line(two_gpus: None, name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_no_gpu_at_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="there is no CUDA device that this PyTorch can use"):
        choose_device("cuda:0")


def container(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_a_container_s_page_cache_is_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_CGROUP", tmp_path)
    cpu, machine = torch.device("cpu"), type("Memory", (), {"available": 1_000_000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert available_memory(cpu) == 1_000_000
    container(tmp_path, memory_max="1000\n", memory_current="900\n")
    assert available_memory(cpu) == 100
    container(tmp_path, memory_stat="anon 300\nfile 600\ninactive_anon 7\ninactive_file 550\nactive_file 50\n")
    assert available_memory(cpu) == 650
    container(tmp_path, memory_current="1600\n", memory_stat="inactive_file 0\n")
    assert available_memory(cpu) == 0
    container(tmp_path, memory_max="max\n")
    assert available_memory(cpu) == 1_000_000


def test_a_library_that_needs_a_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def windows(name: str | None) -> None:
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr(ctypes, "CDLL", windows)
    keep_freed_memory()


@pytest.mark.parametrize("threads", [1, 2])
def test_training_on_a_cpu_has_no_denormal_numbers(threads: int) -> None:
    """Else Adam takes many times as long for units that are never active."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    before, small = torch.get_num_threads(), torch.full((1 << 20,), 1e-38)
    try:
        torch.set_num_threads(threads)
        assert (small * 0.1).all()
        session.set_threads(threads, torch.device("cpu"), small=False)
        assert not (small[:1000] * 0.1).any()  # of this thread; the others' mode is that of when they began
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(lambda: (small[:1000] * 0.1).any()).result()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def test_a_captured_step_acts_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[Any] = []
    done: list[str] = []

    @contextlib.contextmanager
    def entered(where: Any) -> Iterator[None]:
        current.append(where)
        yield
        current.pop()

    def note(what: str) -> None:
        assert current == [torch.device("cpu")], f"{what} is not done on the tensors' device"
        done.append(what)

    class Stream:
        def __init__(self) -> None:
            note("stream")

        def wait_stream(self, other: Any) -> None:
            note("wait")

    class Graph:
        def __init__(self) -> None:
            note("graph")

        def replay(self) -> None:
            note("replay")

    for name, fake in (("device", entered), ("Stream", Stream), ("current_stream", Stream), ("CUDAGraph", Graph)):
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda given, **_: contextlib.nullcontext())

    def step(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        note("step")
        return {"twice": inputs["x"] * 2}

    captured = CapturedStep(step, {"x": torch.ones(3)}, list)
    captured({"x": torch.ones(3)})
    assert done.count("step") == 4 and {"stream", "wait", "graph", "replay"} <= set(done) and current == []


def test_warming_up_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of tensors that are other ones, over the same memory, each time one asks for them."""
    pretend(monkeypatch)
    module = torch.nn.Linear(3, 2)
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    created: list[torch.Tensor] = []

    def step(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not created:
            created.append(torch.zeros(2))
        with torch.no_grad():
            for tensor in (*module.parameters(), *created):
                tensor.add_(inputs["x"])
        return {}

    CapturedStep(step, {"x": torch.ones(1)}, lambda: [*module.state_dict().values(), *created])
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, start[name] + 1)
    assert created[0].tolist() == [1.0, 1.0]


def test_only_copies_from_a_gpu_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []
    captured = object.__new__(CapturedStep)

    class Place:
        def copy_(self, tensor: torch.Tensor, non_blocking: bool = False) -> None:
            waited.append(not non_blocking)

    monkeypatch.setattr(torch.cuda, "device", lambda given: contextlib.nullcontext())
    captured.__dict__.update(
        inputs={"x": Place()},
        outputs={},
        graph=type("Graph", (), {"replay": lambda self: None})(),
        _device=torch.device("cpu"),
    )
    captured({"x": torch.ones(1)})
    captured({"x": type("OnGPU", (), {"is_cuda": True})()})
    assert waited == [True, False]


def test_the_memory_in_use_is_this_process_s_own_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    own = psutil.Process().memory_info().rss / 1e6
    assert used_memory()["speed/memory_mb"] == pytest.approx(own, rel=0.1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda index: index * 2_500_000)
    assert used_memory()["speed/gpu_memory_mb"] == 2.5


def test_a_generator_goes_on_where_it_was() -> None:
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    torch.rand(5, generator=one)
    load_generator_state(other, one.get_state())
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=other))


def test_a_state_of_another_kind_of_device_seeds_a_generator() -> None:
    """A GPU's is 16 bytes: a seed and a place."""
    drawn = []
    for state in (torch.arange(16, dtype=torch.uint8), torch.arange(16, dtype=torch.uint8), torch.ones(16).byte()):
        generator = torch.Generator()
        load_generator_state(generator, state)
        drawn.append(torch.rand(3, generator=generator).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
