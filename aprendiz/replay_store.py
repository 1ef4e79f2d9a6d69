"""A replay memory on disk: append-only compressed segments and a manifest.

A filled slot stays as it is, so that a save writes only the slots that were filled since the one before, a few thousand
at a time (memory stays flat). Consecutive frames differ in few pixels: each is stored as its difference (exclusive or)
from the one before, and compressed with Zstandard, whose checksum guards the content. Priorities change everywhere
between two saves: they are written whole each time, 8 bytes a slot, into a file of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray

from aprendiz.checkpoint import sync
from aprendiz.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from aprendiz.replay import Replay
    from aprendiz.replay_priorities import Priorities

SEGMENT_BYTES = 16 * 2**20
"""Uncompressed size of a segment, at most."""
COLUMNS = ("action", "reward", "flags", "age")


class SegmentStore:
    """Knows which slots of which lane lie in which file."""

    def __init__(self, num_envs: int) -> None:
        self.saved_until = np.zeros(num_envs, np.int64)
        self.segments: list[dict[str, Any]] = []
        self.token = secrets.token_hex(3)
        """In the names of this store's files: two branches of one run never overwrite each other's."""
        self.priorities: dict[str, Any] | None = None
        """The file of the priorities: {"file", "bytes"}."""
        self.previous: set[str] = set()
        """Files of the manifest before the last one: the checkpoint to fall back on needs them."""

    def append(self, folder: Path, replay: Replay) -> dict[str, Any]:
        """Writes what is new; returns the manifest {"segments": [{"file", "lane", "start", "end", "bytes"}]}, and
        {"priorities": {"file", "bytes"}} where the draw is prioritised."""
        before = self._files()
        oldest = replay.oldest()
        frame_bytes = max(replay.frames[0].nbytes, 1)
        size = max(SEGMENT_BYTES // (frame_bytes + 8), 1)
        for lane in range(replay.num_envs):
            start, end = max(int(self.saved_until[lane]), int(oldest[lane])), int(replay.head[lane])
            for begin in range(start, end, size):
                stop = min(begin + size, end)
                name = f"lane{lane:04}-{begin:012}-{stop:012}-{self.token}.zst"
                written = self._write(folder / name, replay, lane, np.arange(begin, stop))
                self.segments.append({"file": name, "lane": lane, "start": begin, "end": stop, "bytes": written})
            self.saved_until[lane] = end
        self.segments = [segment for segment in self.segments if segment["end"] > oldest[segment["lane"]]]
        if replay.priorities is not None:
            self._append_priorities(folder, replay.priorities)
        if self._files() != before:  # saved twice at one point, the checkpoint to fall back on is still the older one
            self.previous = before
        segments = {"segments": [dict(segment) for segment in self.segments]}
        return segments | ({} if self.priorities is None else {"priorities": dict(self.priorities)})

    def _append_priorities(self, folder: Path, priorities: Priorities) -> None:
        leaves = np.ascontiguousarray(priorities.tree.leaves).data
        # Named after its content: saved twice at one point it is one file.
        name = f"priorities-{hashlib.blake2b(leaves, digest_size=8).hexdigest()}-{self.token}.zst"
        if self.priorities is not None and self.priorities["file"] == name:
            return
        written = write_compressed(folder / name, [leaves])
        self.priorities = {"file": name, "bytes": written}

    def write_again(self, lanes: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Slots of `lanes` from `positions` on have changed: the next save writes them again. Later segments win."""
        self.saved_until[lanes] = np.minimum(self.saved_until[lanes], positions)

    def prune(self, folder: Path) -> None:
        needed = self.previous | self._files()
        for pattern in ("lane*", "priorities*"):
            for path in folder.glob(pattern):
                if path.name not in needed:
                    path.unlink(missing_ok=True)

    def read(self, folder: Path, manifest: Mapping[str, Any], replay: Replay) -> None:
        """Fills `replay` with what the manifest lists. Other files (another checkpoint's, or left by a save that was
        cut off) stay until the next `prune`."""
        self.segments = [dict(segment) for segment in manifest["segments"]]
        self.priorities = dict(manifest["priorities"]) if "priorities" in manifest else None
        self.previous = self._files()
        for segment in self.segments:
            lane, positions = segment["lane"], np.arange(segment["start"], segment["end"])
            columns, frames = _read_segment(folder / segment["file"], len(positions), replay)
            slots = positions % replay.slots
            for name, column in zip(COLUMNS, columns, strict=True):
                getattr(replay, name)[lane, slots] = column
            rows = torch.from_numpy(lane * replay.slots + slots).to(replay.storage)
            replay.frames[rows] = torch.from_numpy(frames).to(replay.storage)
            self.saved_until[lane] = max(self.saved_until[lane], segment["end"])
        if replay.priorities is not None:
            if self.priorities is None:
                raise CheckpointError(f"the replay memory in {folder} was saved without priorities")
            tree, path = replay.priorities.tree, folder / self.priorities["file"]
            tree.fill(_read_array(path, np.dtype(np.float64), tree.capacity))

    def _files(self) -> set[str]:
        files = {segment["file"] for segment in self.segments}
        return files if self.priorities is None else files | {self.priorities["file"]}

    def _write(self, path: Path, replay: Replay, lane: int, positions: NDArray[np.int64]) -> int:
        """Returns the size of the file in bytes."""
        slots = positions % replay.slots
        rows = torch.from_numpy(lane * replay.slots + slots).to(replay.storage)
        frames = replay.frames.index_select(0, rows).cpu().numpy()
        raw = frames.reshape(len(frames), -1).view(np.uint8)
        raw[1:] ^= raw[:-1].copy()
        columns = [np.ascontiguousarray(getattr(replay, name)[lane, slots]).data for name in COLUMNS]
        return write_compressed(path, [*columns, raw.data])


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every segment of a manifest is there, in its full size."""
    files = [*manifest["segments"], *([manifest["priorities"]] if "priorities" in manifest else [])]
    for entry in files:
        path = folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return False
    return True


def write_compressed(path: Path, parts: Sequence[memoryview]) -> int:
    """Writes a whole file or none; returns its size in bytes. Raises StorageError."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
            with compressor.stream_writer(file, closefd=False) as stream:
                for part in parts:
                    stream.write(part)
            file.flush()
            os.fsync(file.fileno())
            written = file.tell()
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot save the replay memory to {path.parent}: {error.strerror}; free some space, or train with "
            "--no-save-replay"
        ) from error
    return written


@contextlib.contextmanager
def told_as_checkpoint_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"the replay memory's segment {path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"the replay memory's segment {path} cannot be read ({error.strerror})") from None
    except (zstandard.ZstdError, ValueError) as error:
        raise CheckpointError(f"the replay memory's segment {path} is damaged ({error})") from None


def _read_array(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    with told_as_checkpoint_errors(path):
        array = np.frombuffer(read_compressed(path), dtype)
        if len(array) != count:
            raise ValueError(f"it holds {len(array)} numbers, not {count}")
        return array


def read_compressed(path: Path) -> bytes:
    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def _read_segment(path: Path, count: int, replay: Replay) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    frame_dtype = replay.frames[:0].cpu().numpy().dtype
    columns: list[NDArray[Any]] = []
    with told_as_checkpoint_errors(path):
        data = read_compressed(path)
        offset = 0
        for name in COLUMNS:
            dtype = getattr(replay, name).dtype
            columns.append(np.frombuffer(data, dtype, count, offset))
            offset += count * dtype.itemsize
        raw = np.frombuffer(data, np.uint8, -1, offset).reshape(count, -1)
        frames = np.bitwise_xor.accumulate(raw, axis=0).view(frame_dtype).reshape(count, *replay.frame_shape)
    return columns, frames
