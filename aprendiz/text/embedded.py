"""Texts that every Python brings along, so that models can be tried out without a network.

They are those of the Python that runs: another version of it has another text, and runs keep its fingerprint.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from aprendiz.errors import DataError
from aprendiz.text.core import RawText

_LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "pydoc_data"},
)
"""Folders of tests, of packages that are not the standard library's, and the text of `pydoc`."""


def pydoc() -> RawText:
    """The topics that `help()` knows (`help("LAMBDAS")`): chapters of Python's language reference, in plain English.

    Some 450 to 700 kB, in the order of the topics' names. Raises DataError where Python comes without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            f"this Python ({sys.executable}) comes without pydoc_data.topics; use --data stdlib or a file"
        ) from error

    def pieces() -> Iterator[str]:
        for name in sorted(topics):
            yield topics[name].strip("\n") + "\n\n\n"

    return RawText(name="pydoc", pieces=pieces)


def stdlib() -> RawText:
    """Source code of the standard library's modules, without its tests, in the order of their paths.

    Some 10 MB. Raises DataError where Python comes without its source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = _modules(root)
    if not paths:
        raise DataError(f"there is no source code in {root}; use --data pydoc or a file")

    def pieces() -> Iterator[str]:
        for path in paths:
            try:
                with tokenize.open(path) as file:  # as its first lines say
                    source = file.read()
            except (OSError, SyntaxError, UnicodeDecodeError) as error:
                raise DataError(f"{path} cannot be read: {error}") from error
            if "\0" not in source and source.strip():
                yield source.rstrip("\n") + "\n\n\n"

    return RawText(name="stdlib", pieces=pieces)


def _modules(root: Path) -> list[Path]:
    """Modules of the standard library: those that Python itself names, whatever else a system puts beside them."""
    known = sys.stdlib_module_names
    found = []
    for here, folders, files in os.walk(root):
        folder = Path(here).relative_to(root).parts
        folders[:] = [one for one in folders if one not in _LEFT_OUT and (folder or one in known)]
        for one in files:
            parts = (*folder, one)
            if one.endswith(".py") and parts[0].removesuffix(".py") in known and not _is_generated(parts):
                found.append((parts, root.joinpath(*parts)))
    return [path for _, path in sorted(found)]


def _is_generated(parts: tuple[str, ...]) -> bool:
    """Configuration that differs from machine to machine: `_sysconfigdata_...py` is one long dict."""
    return parts[-1].startswith(("_sysconfigdata", "__phello__"))
