"""Files in a run's folder: config.json as it is read, JSON that may be missing, numbers that JSON can hold, locks."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aprendiz.errors import RunError, StorageError

FORMAT_VERSION = 1
_FIELDS: dict[str, type] = {
    "format_version": int,
    "kind": str,
    "task": str,
    "learner": str,
    "seed": int,
    "config": dict,
    "created": str,
    "wandb_id": str,
}
"""What config.json must hold, and as what."""
_TYPE_NAMES = {int: "a whole number", str: "text", dict: "a JSON object"}


def read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """config.json of a run's folder. Raises RunError where it is missing, damaged, from a newer aprendiz, or of another
    `kind` than the one asked for."""
    path = folder / "config.json"
    if not path.exists():
        try:
            what = "it has no config.json" if any(folder.iterdir()) else "it is empty"
        except OSError as error:  # it has just been deleted
            what = error.strerror or "it cannot be read"
        raise RunError(f"{folder} is no run's folder: {what}; name a folder that a training command made")
    info = read_json(path, dict)
    if info is None:
        raise RunError(
            f"{path} is half-written or no JSON; put back a copy, or delete the folder and start the run again"
        )
    version = info.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        reads = f"this one reads up to {FORMAT_VERSION}; upgrade aprendiz"
        raise RunError(f"run {folder} was written by a newer aprendiz: format {version}, {reads}")
    missing = _FIELDS.keys() - info.keys()
    if missing:
        raise RunError(
            f"{path} lacks {', '.join(sorted(missing))}; it was not written by aprendiz, or was changed since"
        )
    for name, wanted in _FIELDS.items():
        if type(info[name]) is not wanted:  # a bool is no number
            raise RunError(
                f"{path}: {name} is {json.dumps(info[name])[:60]}, and must be {_TYPE_NAMES[wanted]}; put back a copy, "
                "or start the run again"
            )
    if kind is not None and info["kind"] != kind:
        raise wrong_kind(folder, info["kind"])
    return info


def wrong_kind(folder: Path, kind: str) -> RunError:
    """What is raised where a run of `kind` is not what was asked for."""
    return RunError(f"{folder.name} is a run of {kind}; use python -m {kind}.evaluate and the other commands of {kind}")


def read_json(path: Path, kind: type) -> Any:
    """The file's value, or None where there is none of that type."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, kind) else None


def finite(value: Any) -> Any:
    """None in place of NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_able(value: Any) -> Any:
    """Arrays, numpy scalars and tensors as lists and numbers; NaN and infinity as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): json_able(item) for key, item in value.items()}
    return [json_able(item) for item in value] if isinstance(value, (list, tuple)) else finite(value)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, or of a file in a run's folder, where the system has one."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror}; the run's folder must be writable") from error
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)  # somebody may only have looked whether it is held: `is_locked`
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = path.parent.name
            raise RunError(f"run {name} is being trained by another process; wait for its end, or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock of a file, which need not be there; None where the system cannot say."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)
    return False
