"""A nested state on disk: tensors as safetensors, everything else as JSON. Nothing is pickled, loading runs no code.

A checkpoint is a folder with `tensors.safetensors` and `state.json`. It is written under a temporary name, flushed to
the disk and renamed, so that a folder under its own name is whole.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aprendiz.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Format version -> function that turns a decoded state of that version into one of the next version."""

_STATE, _TENSORS = "state.json", "tensors.safetensors"


class NewerFormatError(CheckpointError):
    """Written by a newer aprendiz than this one."""


def save(folder: Path, state: Mapping[str, Any], *, format_version: int = FORMAT_VERSION) -> None:
    """Write `state` as the folder `folder`, whole or not at all; an older folder of that name is replaced.

    `state` is made of dict, list, tuple, str, bytes, int of any size, float (also infinite or NaN), bool, None, torch
    tensors on any device, numpy arrays and numpy scalars. Raises StorageError where the disk is full or read-only,
    after removing what was written; TypeError naming the place of anything else in the state.
    """
    import safetensors
    import safetensors.torch

    tensors: dict[str, torch.Tensor] = {}
    encoded = _Encoder(tensors).encode(state, "")
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    aside = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    try:
        _recover(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        safetensors.torch.save_file(tensors, temporary / _TENSORS)
        body = {"format_version": format_version, "tensors_sha256": _sha256(temporary / _TENSORS), "state": encoded}
        (temporary / _STATE).write_text(json.dumps({"checksum": _checksum(body), **body}, allow_nan=False))
        for path in (temporary / _TENSORS, temporary / _STATE, temporary):
            sync(path)
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
        sync(folder.parent)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or (isinstance(error, safetensors.SafetensorError) and "os error" in str(error)):
            reason = getattr(error, "strerror", None) or error
            message = f"cannot write {folder}: {reason}; make room or set APRENDIZ_RUNS to a folder elsewhere"
            raise StorageError(message) from error
        raise


def load(folder: Path) -> dict[str, Any]:
    """What `save` was given; tensors are on the CPU. Raises CheckpointError as `verify` does."""
    import safetensors
    import safetensors.torch

    body = verify(folder)
    try:
        tensors = safetensors.torch.load_file(folder / _TENSORS)
        state = _decode(body["state"], tensors)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {type(error).__name__} {error}") from error
    for version in range(body["format_version"], FORMAT_VERSION):
        state = MIGRATIONS[version](state)
    return state


def verify(folder: Path) -> dict[str, Any]:
    """Check every byte of a checkpoint against its checksums; return what its JSON holds.

    Raises CheckpointError where a file is missing, truncated or changed, and NewerFormatError where the format is newer
    than FORMAT_VERSION.
    """
    try:
        _recover(folder)
        if not folder.is_dir():
            raise CheckpointError(f"there is no checkpoint {folder}")
        body = json.loads((folder / _STATE).read_text())
        version, stated = body["format_version"], body.pop("checksum")
        if isinstance(version, int) and version > FORMAT_VERSION:
            reads = f"this one reads up to {FORMAT_VERSION}; upgrade aprendiz"
            raise NewerFormatError(f"checkpoint {folder} was written by a newer aprendiz: format {version}, {reads}")
        if _checksum(body) != stated:
            raise CheckpointError(f"checkpoint {folder} is damaged: {_STATE} was changed after it was written")
        if _sha256(folder / _TENSORS) != body["tensors_sha256"]:
            raise CheckpointError(f"checkpoint {folder} is damaged: {_TENSORS} is truncated or was changed")
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {Path(error.filename).name} is missing") from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {_STATE} is truncated or no JSON of ours") from error
    return body


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that `path` holds the old or the new text whole, whatever happens. Raises StorageError."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        message = f"cannot write {path}: {error.strerror}; make room or set APRENDIZ_RUNS to a folder elsewhere"
        raise StorageError(message) from error


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows has no handle for a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _recover(folder: Path) -> None:
    """Take back what `save` had moved aside when it was killed between its two renames."""
    for aside in sorted(folder.parent.glob(f"{folder.name}.old-*")):
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(folder)


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Encoder:
    """Turns a state into JSON, in which `{"$kind": ...}` stands for what JSON lacks, and collects its tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self._names: dict[tuple[Any, ...], str] = {}
        self._storages: set[tuple[Any, ...]] = set()
        self._alive: list[torch.Tensor] = []  # so that no address is used twice while we compare addresses

    def encode(self, value: Any, place: str) -> Any:
        import numpy as np
        import torch

        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": str(value)}
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._add(value, place)}
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(value, place)
        if isinstance(value, Mapping):
            items = [(key, self.encode(item, f"{place}/{key}")) for key, item in value.items()]
            if all(type(key) is str and not key.startswith("$") for key in value):
                return dict(items)
            return {"$dict": [[self.encode(key, f"{place}/key"), item] for key, item in items]}
        if isinstance(value, (list, tuple)):
            encoded = [self.encode(item, f"{place}/{index}") for index, item in enumerate(value)]
            return encoded if isinstance(value, list) else {"$tuple": encoded}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        raise TypeError(f"a checkpoint cannot hold the {type(value).__name__} at {place or '/'}")

    def _add(self, tensor: torch.Tensor, place: str) -> str:
        """The name under which a tensor is stored; the same memory seen twice the same way is stored once."""
        tensor = tensor.detach()
        storage = (str(tensor.device), tensor.untyped_storage().data_ptr())
        key = (*storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in self._names:
            return self._names[key]
        name = place.strip("/") or "tensor"
        while name in self.tensors:
            name += "+"
        shared = (
            storage in self._storages or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
        )
        plain = tensor.cpu().contiguous()
        self.tensors[name] = plain.clone() if shared and plain.data_ptr() == tensor.data_ptr() else plain
        self._storages.add(storage)
        self._names[key] = name
        self._alive.append(tensor)
        return name

    def _array(self, value: Any, place: str) -> dict[str, Any]:
        import numpy as np
        import torch

        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"a checkpoint cannot hold the array of objects at {place}")
        descr = np.lib.format.dtype_to_descr(array.dtype)
        form = {"dtype": descr, "shape": list(array.shape), "scalar": isinstance(value, np.generic)}
        if array.dtype.kind in "biuf" and array.dtype.isnative and array.dtype.itemsize <= 8:
            tensor = torch.from_numpy(array.copy())
        else:  # what torch or safetensors lack, such as text, goes as bytes
            tensor = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        return {"$array": self._add(tensor, place), **form}


def _descr(stored: Any) -> Any:
    """A dtype's description as numpy wants it: JSON has made lists of its tuples."""
    if isinstance(stored, str):
        return stored
    return [(field[0], _descr(field[1]), *(tuple(shape) for shape in field[2:])) for field in stored]


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$array" in value:
        import numpy as np

        array = tensors[value["$array"]].numpy()
        dtype = np.lib.format.descr_to_dtype(_descr(value["dtype"]))
        if array.dtype != dtype:
            array = np.frombuffer(array.tobytes(), dtype).reshape(value["shape"]).copy()
        return array[()] if value["scalar"] else array
    if "$tuple" in value:
        return tuple(_decode(item, tensors) for item in value["$tuple"])
    if "$float" in value:
        return float(value["$float"])
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$dict" in value:
        return {_decode(key, tensors): _decode(item, tensors) for key, item in value["$dict"]}
    return {key: _decode(item, tensors) for key, item in value.items()}
