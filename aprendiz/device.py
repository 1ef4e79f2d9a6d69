"""Devices, memory, precision: what is chosen by looking at the machine, and then written into the run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from aprendiz.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` in GNU's malloc.h."""
_CGROUP = Path("/sys/fs/cgroup")
"""Where version 2 of Linux's control groups shows a container its own limits."""

PRECISIONS = ("auto", "fp32", "bf16")


def used_memory() -> dict[str, float]:
    """What this process uses, in MB, by the names of metrics: `speed/memory_mb` (resident), and `speed/gpu_memory_mb`
    (the most that PyTorch had allocated) where CUDA is in use. Its child processes are not counted."""
    used = {"speed/memory_mb": round(psutil.Process().memory_info().rss / 1e6, 1)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        most = max(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
        used["speed/gpu_memory_mb"] = round(most / 1e6, 1)
    return used


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` as a device. Raises ConfigError where there is no such device."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda or mps")
    if colon and not (index.isascii() and index.isdigit()):
        raise ConfigError(f"unknown device {name!r}: after the colon comes its number, as in {kind}:0")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "there is no CUDA device that this PyTorch can use: use --device cpu, or install a CUDA build"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no Apple GPU here: use --device cpu")
    if not colon:
        return torch.device(kind)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if int(index) >= count:
        there = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
        raise ConfigError(f"there is no device {name!r} here: use {there}")
    return torch.device(kind, int(index))


def available_memory(device: torch.device) -> int:
    """Bytes that can be taken without swapping: of the GPU, or of the machine within its container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used + _reclaimable()))
    return free


def _reclaimable() -> int:
    """Bytes of files in the page cache that nobody has used lately: counted as used, and given up when needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    return 0


def keep_freed_memory() -> None:
    """Tells the C library to keep large blocks that are freed, for the next update to take again.

    An update on a CPU frees and takes the same megabytes each time; giving them back to the system in between costs
    hundreds of page faults. Does nothing where the C library is not GNU's.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: Windows, where a library has a name
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def flush_denormals() -> None:
    """Has numbers too small for float32's full precision (below 1.2e-38) count as 0, in this thread and in those that
    it starts from now on.

    Adam's averages of the gradients of a unit that is never active shrink to such numbers and stay there, since 0.9 of
    the smallest is rounded up to itself; processors need many times as long for each. Does nothing where the
    processor has no such mode.
    """
    torch.set_flush_denormal(True)


def learning_leaves_cores(device: torch.device) -> bool:
    """Whether anything else can run beside the learner: on a GPU, or where PyTorch leaves some of the cores idle."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or torch.get_num_threads() < cores


def replay_storage(device: torch.device, bytes_needed: int) -> torch.device:
    """Where a replay memory of so many bytes lives: beside the learner on a GPU with room to spare, else on the CPU."""
    if device.type == "cuda" and bytes_needed < 0.8 * available_memory(device):
        return device
    return torch.device("cpu")


def load_generator_state(generator: torch.Generator, state: Tensor) -> None:
    """Sets a generator to what `get_state` gave, so that it goes on as it would have.

    Generators of a CPU and of a GPU have states of different forms. Where `state` is of the other kind the generator is
    seeded by a checksum of it: other numbers than there, but the same whenever this state is loaded.
    """
    state = state.cpu()
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        generator.manual_seed(zlib.crc32(state.numpy().tobytes()))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision for forward passes: bfloat16 where `precision` is bf16, otherwise nothing."""
    if precision == "bf16":
        # No cache of cast weights: each is used once a pass, and a cache must not outlive a captured graph.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


class CapturedStep:
    """A training step replayed as one CUDA graph, so that a small network is not held up by launching its kernels.

    `step` takes a dict of tensors, may change `state` (tensors, in place only) and returns a dict of tensors. It is
    warmed up three times on a side stream, `state` is put back in place, and then it is captured. All of it happens on
    the GPU where the tensors are, whichever is the current one. Tensors of `state` are known by their memory, since
    `state_dict` of a module gives new tensors over the same memory each time.
    See "Whole-network capture" in the CUDA section of the PyTorch notes.
    """

    def __init__(
        self,
        step: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        inputs: dict[str, Tensor],
        state: Callable[[], list[Tensor]],
    ) -> None:
        self.inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        self._device = next(iter(self.inputs.values())).device
        before = {tensor.data_ptr(): (tensor, tensor.detach().clone()) for tensor in state()}
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    step(self.inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.no_grad():
                for tensor in state():
                    # What the warm-up created (the moments of an optimiser) starts from zero, as it would have.
                    found = before.get(tensor.data_ptr())
                    tensor.zero_() if found is None else tensor.copy_(found[1])
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=stream):  # its own choice is one of the first GPU that captured
                self.outputs = step(self.inputs)

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.cuda.device(self._device):
            for name, tensor in inputs.items():
                # Pinned memory of the CPU could be overwritten by its owner before a copy that nobody waits for.
                self.inputs[name].copy_(tensor, non_blocking=tensor.is_cuda)
            self.graph.replay()
            return {name: tensor.clone() for name, tensor in self.outputs.items()}
