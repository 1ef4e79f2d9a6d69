"""What a run was made with: versions of packages and the commit of the source."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import aprendiz

PACKAGES = ("aprendiz", "torch", "numpy", "gymnasium", "ale-py", "wandb")


def versions() -> dict[str, str | None]:
    """The installed version of each package, None for one that is not installed."""
    result: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            result[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            result[package] = aprendiz.__version__ if package == "aprendiz" else None
    return result


def git_commit() -> str | None:
    """The commit of the source that runs, with "+changes" where it has uncommitted ones; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "provenance.py")  # a clone of ours, not whatever holds site-packages
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
