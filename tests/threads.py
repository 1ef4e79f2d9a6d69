"""Fixtures of PyTorch's threads: networks this small gain nothing from more than one, and lose much where other
processes want the cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


one_thread = pytest.fixture(autouse=True, name="one_thread")(_one_thread)
one_thread_a_session = pytest.fixture(autouse=True, scope="session", name="one_thread_a_session")(_one_thread)
