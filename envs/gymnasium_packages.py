"""Gymnasium's registry and the packages behind it: what goes wrong there is one line for the user."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

from aprendiz.errors import ConfigError, EnvError

_PACKAGES = {"box2d": "gymnasium[box2d]", "mujoco": "gymnasium[mujoco]", "minigrid": "minigrid", "vizdoom": "vizdoom"}
"""Parts of Gymnasium's messages, and what to install."""


def find_spec(gymnasium_id: str) -> Any:
    """Gymnasium's own spec of an id. Raises what Gymnasium raises."""
    import gymnasium

    if gymnasium_id.startswith("ALE/"):
        import ale_py

        gymnasium.register_envs(ale_py)
    return gymnasium.spec(gymnasium_id)


def translate(gymnasium_id: str, function: Callable[[], Any]) -> Any:
    """What `function` returns; what Gymnasium raises about ids, packages and options becomes one line for the user."""
    import gymnasium

    try:
        return function()
    except gymnasium.error.DependencyNotInstalled as error:
        said = f"{error} {error.__cause__}".lower()
        package = next((package for part, package in _PACKAGES.items() if part in said), None)
        if package is None:
            entry = str(getattr(gymnasium.registry.get(gymnasium_id), "entry_point", ""))
            package = next((package for part, package in _PACKAGES.items() if part in entry), None)
        raise EnvError(f"{gymnasium_id} needs a package that is not installed{_install(package)}") from error
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(str(error.name).partition(".")[0])
        raise EnvError(
            f"{gymnasium_id} needs the package {error.name}, which is not installed{_install(package)}"
        ) from error
    except (gymnasium.error.Error, ImportError) as error:
        raise EnvError(f"Gymnasium cannot make {gymnasium_id}: {one_line(error)}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{gymnasium_id} does not take these options: {one_line(error)}") from error


def import_package(package: str, name: str) -> Any:
    """The module of an optional package that environment `name` needs. Raises EnvError with the command that installs
    it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        found = f"{name} needs the package {package}, which cannot be imported"
        raise EnvError(f"{found}{_install(_PACKAGES[package])}") from error


def _install(package: str | None) -> str:
    return f': pip install "{package}"' if package else ""


def one_line(error: Exception) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split())


def keep_mujoco_from_logging(entry_point: Any) -> None:
    """Sends MuJoCo's warnings to stderr alone. Where nobody takes them it writes them into a file MUJOCO_LOG.TXT, too,
    wherever the program happens to stand.

    entry_point: of the environment that is about to be made; does nothing where it is none of MuJoCo's, where MuJoCo is
    missing, and where its warnings go somewhere already (its handler belongs to the whole process).
    """
    if "mujoco" not in str(entry_point):
        return
    with contextlib.suppress(ImportError):
        mujoco: Any = importlib.import_module("mujoco")
        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(_tell)


def _tell(warning: str) -> None:
    print(f"MuJoCo: {warning}", file=sys.stderr)
