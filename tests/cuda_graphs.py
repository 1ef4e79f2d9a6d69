"""CUDA graphs on a machine without a GPU: what is captured is run at once, and replaying it does nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch


class _Stream:
    def wait_stream(self, other: _Stream) -> None:
        pass


class _Graph:
    def replay(self) -> None:
        pass


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `CapturedStep` run on the CPU: of its steps only the captured one is to be seen."""
    for name, fake in (("Stream", _Stream), ("current_stream", _Stream), ("CUDAGraph", _Graph)):
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda given, **_: contextlib.nullcontext())
