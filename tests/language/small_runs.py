"""Runs of small models for tests of the commands that use them, and what those print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aprendiz.run import Run
from language.train import run_command

COMMON = ("--wandb", "disabled", "--device", "cpu", "--precision", "fp32", "--samples", "0", "--validations", "2")


def trained(folder: Path, *arguments: str) -> Run:
    """A run below a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(folder / "runs"))
        assert run_command([*arguments, *COMMON]) == 0
        return Run.open("latest")


def printed(capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], Any], *arguments: str) -> str:
    """What a command writes to standard output."""
    capsys.readouterr()
    command(list(arguments))
    return capsys.readouterr().out
