"""Where runs learn, and when that is settled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents import training
from agents.train import run_command
from aprendiz import session
from aprendiz.errors import ConfigError

QUICK = ["--steps", "100", "--evaluations", "0", "--wandb", "disabled", "--no-video"]


def test_threads_are_set_before_there_are_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have begun keep their arithmetic, so that a resumed run would compute otherwise."""
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    run_command(["cartpole", *QUICK])
    order: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            order.append(name)
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(training, "set_threads", noting("threads", training.set_threads))
    monkeypatch.setattr(training, "new_agent", noting("agent", training.new_agent))
    run_command(["--resume", "latest", "--steps", "200"])
    assert order == ["threads", "agent"]


def test_automatic_is_a_device_that_the_learner_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "choose_device", lambda name: torch.device("mps" if name == "auto" else name))
    assert session.device_for("auto", ("cpu", "cuda"), "sb3-dqn", small=False).type == "cpu"
    assert session.device_for("auto", ("cpu", "cuda", "mps"), "dqn", small=False).type == "mps"
    assert session.device_for("auto", ("cpu", "cuda", "mps"), "dqn", small=True).type == "cpu"
    with pytest.raises(ConfigError, match="sb3-dqn lives on cpu, cuda, not on mps"):
        session.device_for("mps", ("cpu", "cuda"), "sb3-dqn", small=False)
