"""Random numbers of a run: all of them come from its one seed, and no two parts share any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a random generator of a model's run is for (agents have purposes of their own)."""

    NETWORK = 1
    DATA = 2
    LEARNING = 3
    """Noise, dropout, latent vectors, hidden states, negative samples, subsampling."""
    VALIDATION = 4
    SAMPLING = 5
    EVALUATION = 6


def derived_seed(seed: int, purpose: IntEnum) -> int:
    """A seed of 31 bits for one purpose, so that no two parts of a run share random numbers."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0] >> 1)


def torch_generator(seed: int, purpose: IntEnum, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of PyTorch for one purpose."""
    return torch.Generator(device).manual_seed(derived_seed(seed, purpose))


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Within it PyTorch's global generators, from which layers draw their initial weights, begin at `seed`; after it
    they are as they were."""
    kind, devices = device.type, None
    if kind == "cuda":
        devices = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices, device_type=kind) if kind != "cpu" else torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(devices[0]):
                torch.cuda.manual_seed(seed)  # of this one alone; `torch.manual_seed` is for all
        elif kind == "mps":
            torch.mps.manual_seed(seed)
        yield
