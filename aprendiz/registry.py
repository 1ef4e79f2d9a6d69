"""Named, lazy catalogues that third parties extend through entry points.

A built-in is a row of a table (`"module:attribute"` and one line about it), so listing names imports nothing. Another
distribution adds a name by declaring an entry point in the group `aprendiz.<kind>`; its line is its distribution's summary.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.errors import PluginError, UnknownNameError

BUILTIN_DISTRIBUTION = "aprendiz"
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """A built-in: where it lives and one line about it."""

    target: str
    """`module:attribute`, imported by `Registry.get` alone."""
    summary: str
    paper: str = ""


@dataclass(frozen=True)
class Description:
    """What can be said about a name without importing it."""

    name: str
    summary: str
    paper: str
    file: str
    """A built-in's file relative to the repository (`agents/dqn.py`); a plugin's module."""
    distribution: str
    target: str


class Registry:
    """Names of one kind (`agents`, `envs`, ...). Hyphens equal underscores, and capitals do not matter."""

    def __init__(self, kind: str, builtins: Mapping[str, Entry] | Callable[[], Mapping[str, Entry]]) -> None:
        self.kind = kind
        self._builtins = builtins
        self._cached: tuple[tuple[str, ...], dict[str, list[Description]]] | None = None

    def names(self) -> list[str]:
        """Every registered name, sorted; a name in conflict is among them."""
        return sorted(self._table())

    def canonical(self, name: str) -> str:
        """The name as it is listed. Raises UnknownNameError with the closest matches. `module:attribute` stays as it is."""
        if ":" in name:
            return name
        key, table = _canonical(name), self._table()
        if key in table:
            return key
        close = difflib.get_close_matches(key, table, n=3, cutoff=0.5)
        close = close or [other for other in sorted(table) if key and (key in other or other in key)][:3]
        hint = f"closest: {', '.join(close)}; " if close else ""
        raise UnknownNameError(f"unknown name {name!r} among the {len(table)} {self.kind}; {hint}--list shows all")

    def get(self, name: str) -> Any:
        """Import and return what `name`, or any `package.module:attribute`, stands for.

        Raises UnknownNameError; PluginError where the name is registered twice or a plugin fails to import.
        """
        if ":" in name:
            return _load(name, f"{self.kind} {name!r}")
        description = self.describe(name)
        if description.distribution == BUILTIN_DISTRIBUTION:
            module, _, attribute = description.target.partition(":")
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        what = f"{self.kind} plugin {description.name!r} of distribution {description.distribution!r}"
        return _load(description.target, what)

    def describe(self, name: str) -> Description:
        """What is known about `name`, without importing it. Raises UnknownNameError, or PluginError on a conflict."""
        if ":" in name:
            return Description(name, "", "", name.partition(":")[0], "", name)
        found = self._table()[self.canonical(name)]
        if len(found) > 1:
            raise PluginError(
                f"{self.kind} name {found[0].name!r} is {_conflict(found)}; uninstall one, or name package.module:Class"
            )
        return found[0]

    def describe_all(self) -> list[Description]:
        """One description a name, sorted; a conflict is told in its summary."""
        result = []
        for name, found in sorted(self._table().items()):
            conflict = Description(name, f"conflict: {_conflict(found)}", "", "", "", "")
            result.append(found[0] if len(found) == 1 else conflict)
        return result

    def _table(self) -> dict[str, list[Description]]:
        path = tuple(sys.path)
        if self._cached is None or self._cached[0] != path:
            table: dict[str, list[Description]] = {}
            builtins = self._builtins() if callable(self._builtins) else self._builtins
            for name, entry in builtins.items():
                described = (entry.summary, entry.paper, _file(entry.target), BUILTIN_DISTRIBUTION, entry.target)
                table.setdefault(_canonical(name), []).append(Description(_canonical(name), *described))
            for description in _plugins(f"aprendiz.{self.kind}"):
                table.setdefault(description.name, []).append(description)
            self._cached = (path, table)
        return self._cached[1]


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _conflict(found: list[Description]) -> str:
    return f"registered by {' and '.join(sorted({one.distribution for one in found}))}"


def _file(target: str) -> str:
    path = target.partition(":")[0].replace(".", "/")
    return f"{path}/__init__.py" if (_ROOT / path).is_dir() else f"{path}.py"


def _plugins(group: str) -> list[Description]:
    import importlib.metadata  # 40 ms: only those who ask for names pay

    result = []
    for point in importlib.metadata.entry_points(group=group):
        distribution = point.dist.name if point.dist else "unknown"
        summary = (point.dist.metadata["Summary"] or "" if point.dist else "").splitlines()
        target = point.value.partition("[")[0].strip()
        described = (summary[0] if summary else "", "", target.partition(":")[0], distribution, target)
        result.append(Description(_canonical(point.name), *described))
    return result


def _load(target: str, what: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = "importlib" in last.filename or last.filename == __file__
        where = "" if own else f" ({last.filename}, line {last.lineno})"
        reason = " ".join(str(error).split())
        raise PluginError(f"{what} cannot be loaded: {type(error).__name__}: {reason}{where}") from error
