"""The global random state that Stable-Baselines3 draws from, kept apart from everybody else's.

Here random numbers come from named generators; nothing touches the global state of Python, NumPy or torch.
Stable-Baselines3 knows only that state (exploration, batches, initial weights, sampled actions), and it is the one
exception: an adapter has a `LibraryRandom`, a global state of its own, which is put in place for the length of a call
into the library and taken away again, so that the rest of the program never sees it. It is seeded from the run's seed
and saved in every checkpoint.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


class LibraryRandom:
    """A global random state that is there only inside `with in_place():`.

    Args:
        seed: 0 or more; decides all that is drawn inside.
        device: where a CUDA generator has to be kept apart too.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device, self._inside = device, False
        outer = self._capture()
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            self._state = self._capture()
        finally:
            self._put(outer)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the global random state is this one; after it, whatever happened, it is the program's again."""
        if self._inside:
            raise RuntimeError("the library's random state is in place already")
        outer = self._capture()
        self._put(self._state)
        self._inside = True
        try:
            yield
        finally:
            self._state, self._inside = self._capture(), False
            self._put(outer)

    def state_dict(self) -> dict[str, Any]:
        """Arrays, numbers and tensors."""
        python, legacy, cpu, cuda = self._state
        _, keys, position, has_gauss, gauss = legacy
        state = {
            "python": np.array(python[1], np.int64),
            "python_gauss": python[2],
            "numpy": np.array(keys, np.int64),
            "numpy_position": int(position),
            "numpy_has_gauss": int(has_gauss),
            "numpy_gauss": float(gauss),
            "torch": cpu.clone(),
        }
        return state if cuda is None else state | {"cuda": cuda.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; a GPU's generator keeps its seed where the state has none."""
        python = (3, tuple(np.asarray(state["python"]).tolist()), state["python_gauss"])
        keys = np.asarray(state["numpy"]).astype(np.uint32)
        tail = state["numpy_position"], state["numpy_has_gauss"], state["numpy_gauss"]
        cuda = state.get("cuda", self._state[3]) if self._device.type == "cuda" else None
        self._state = python, ("MT19937", keys, *tail), state["torch"].clone(), cuda

    def _capture(self) -> Any:
        cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda

    def _put(self, state: Any) -> None:
        python, legacy, cpu, cuda = state
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, self._device)
