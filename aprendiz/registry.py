"""Named, lazy catalogues that third parties extend through entry points.

A built-in is a row of a table, so listing names imports nothing. Another distribution adds a name by an entry point in
the group `aprendiz.<kind>` (`module:attribute`); its line is its distribution's summary.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.errors import PluginError, UnknownNameError

BUILTIN_DISTRIBUTION = "aprendiz"
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """A built-in: one line about it and where it lives (`module:attribute`, imported by `Registry.get` alone)."""

    target: str
    summary: str
    paper: str = ""


@dataclass(frozen=True)
class Description:
    """What can be said about a name without importing it; `file` is `agents/dqn.py`, or the module of a plugin."""

    name: str
    summary: str
    paper: str
    file: str
    distribution: str
    target: str


class Registry:
    """Names of one kind (`agents`, `envs`, ...), of `things`. Hyphens equal underscores, capitals do not matter."""

    def __init__(
        self, kind: str, builtins: Mapping[str, Entry] | Callable[[], Mapping[str, Entry]], things: str = ""
    ) -> None:
        self.kind, self._things = kind, things or kind
        self._builtins = builtins
        self._cached: tuple[tuple[str, ...], dict[str, list[Description]]] | None = None

    def names(self) -> list[str]:
        """Every registered name, sorted; a name in conflict is among them."""
        return sorted(self._table())

    def canonical(self, name: str) -> str:
        """The name as it is listed; `module:attribute` stays as it is. Raises UnknownNameError with close matches."""
        if ":" in name:
            return name
        key, table = _canonical(name), self._table()
        if key in table:
            return key
        close = difflib.get_close_matches(key, table, n=3, cutoff=0.5)
        close = close or [other for other in sorted(table) if key and (key in other or other in key)][:3]
        hint = f"closest: {', '.join(close)}; " if close else ""
        raise UnknownNameError(f"unknown name {name!r} among the {len(table)} {self._things}; {hint}--list shows all")

    def get(self, name: str) -> Any:
        """Import what `name` or `package.module:attribute` stands for. Raises UnknownNameError, PluginError."""
        if ":" in name:
            return _load(name, f"{self.kind} {name!r}")
        description = self.describe(name)
        if description.distribution == BUILTIN_DISTRIBUTION:
            return _import(description.target)
        origin = f"plugin {description.name!r} of distribution {description.distribution!r}"
        return _load(description.target, f"{self.kind} {origin}")

    def describe(self, name: str) -> Description:
        """What is known about `name`, without importing it. Raises UnknownNameError, or PluginError on a conflict."""
        if ":" in name:
            return Description(name, "", "", name.partition(":")[0], "", name)
        found = self._table()[self.canonical(name)]
        if len(found) > 1:
            way_out = "uninstall one, or name package.module:Class"
            raise PluginError(f"{self.kind} name {found[0].name!r} is {_conflict(found)}; {way_out}")
        return found[0]

    def describe_all(self) -> list[Description]:
        """One description a name, sorted; a conflict is told in its summary."""
        return [
            found[0] if len(found) == 1 else Description(name, f"conflict: {_conflict(found)}", "", "", "", "")
            for name, found in sorted(self._table().items())
        ]

    def _table(self) -> dict[str, list[Description]]:
        path = tuple(sys.path)
        if self._cached is None or self._cached[0] != path:
            table: dict[str, list[Description]] = {}
            builtins = self._builtins() if callable(self._builtins) else self._builtins
            ours = (_builtin(name, entry) for name, entry in builtins.items())
            for description in (*ours, *_plugins(f"aprendiz.{self.kind}")):
                table.setdefault(description.name, []).append(description)
            self._cached = (path, table)
        return self._cached[1]


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _conflict(found: list[Description]) -> str:
    return f"registered by {' and '.join(sorted({one.distribution for one in found}))}"


def _builtin(name: str, entry: Entry) -> Description:
    path = entry.target.partition(":")[0].replace(".", "/")
    file = f"{path}/__init__.py" if (_ROOT / path).is_dir() else f"{path}.py"
    return Description(_canonical(name), entry.summary, entry.paper, file, BUILTIN_DISTRIBUTION, entry.target)


def _plugins(group: str) -> Iterator[Description]:
    import importlib.metadata  # 40 ms: only those who ask for names pay

    for point in importlib.metadata.entry_points(group=group):
        distribution = point.dist.name if point.dist else "unknown"
        summary = (point.dist.metadata["Summary"] or "" if point.dist else "").splitlines()
        target = point.value.partition("[")[0].strip()
        described = (_canonical(point.name), summary[0] if summary else "", "", target.partition(":")[0])
        yield Description(*described, distribution, target)


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def _load(target: str, what: str) -> Any:
    try:
        return _import(target)
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = "importlib" in last.filename or last.filename == __file__
        reason = " ".join(str(error).split()) + ("" if ours else f" ({last.filename}, line {last.lineno})")
        raise PluginError(f"{what} cannot be loaded: {type(error).__name__}: {reason}") from error
