"""Files with one JSON object a line, appended to while others read; a kill or a full disk may tear the last line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from aprendiz import checkpoint


def read(path: Path, required: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The objects of the whole lines that have the `required` keys; nothing where there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text) if text.endswith(b"\n") else None
                if isinstance(line, dict) and all(key in line for key in required):
                    yield line


def newest(path: Path, key: str, tail: int = 65536) -> Any:
    """The `key` of the newest whole line that has one, among the last `tail` bytes; None where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - tail))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for text in reversed(lines[:-1]):  # what follows the last line's end is torn
        with contextlib.suppress(ValueError):  # as the first may be
            line = json.loads(text)
            if isinstance(line, dict) and key in line:
                return line[key]
    return None


def open_for_append(path: Path) -> IO[bytes]:
    """Open at the end, after cutting off a torn last line. Raises OSError."""
    file = path.open("r+b" if path.exists() else "w+b")
    position = end = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        file.truncate(position)
    file.seek(position)
    return file


def keep_up_to(path: Path, key: str, limit: int) -> None:
    """Drop every line whose `key` is above `limit`, in one rename. Raises OSError; the file then stays as it was."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w") as file:
            file.writelines(json.dumps(line) + "\n" for line in read(path, (key,)) if line[key] <= limit)
        checkpoint.sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
