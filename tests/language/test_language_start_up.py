"""What `--help` and `--list` of the commands cost: they import neither torch nor a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("train", "sample", "evaluate", "neighbors", "analogy", "map", "vectors", "classify")
HEAVY = """
import atexit, runpy, sys
heavy = ("torch", "numba", "scipy", "sklearn", "matplotlib", "wandb", "language.recurrent", "language.ngram",
         "language.word2vec", "language.classifier")
atexit.register(lambda: print("imported:", [name for name in heavy if name in sys.modules]))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_neither_torch_nor_a_model(name: str) -> None:
    shown = run(f"language.{name}", "--help")
    assert shown[-1] == "imported: []"
    assert "usage:" in shown[0]


def test_the_list_imports_neither_torch_nor_a_model() -> None:
    shown = run("language.train", "--list")
    assert shown[-1] == "imported: []"
    assert {"lstm", "word2vec", "tiny-shakespeare"} <= {line.split()[0] for line in shown if line.startswith("  ")}


def test_every_command_has_its_help_checked_here() -> None:
    found = {path.stem for path in (ROOT / "language").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert found == set(COMMANDS)
