"""A replay memory on disk: append-only compressed segments and a manifest.

A filled slot stays as it is, so that a save writes only the slots that were filled since the one before, a few thousand
at a time (memory stays flat). Consecutive frames differ in few pixels: each is stored as its difference (exclusive or)
from the one before, and compressed with Zstandard, whose checksum guards the content.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
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
        self.previous: set[str] = set()
        """Files of the manifest before the last one: the checkpoint to fall back on needs them."""

    def append(self, folder: Path, replay: Replay) -> dict[str, Any]:
        """Writes what is new; returns the manifest {"segments": [{"file", "lane", "start", "end", "bytes"}]}."""
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
        if self._files() != before:  # saved twice at one point, the checkpoint to fall back on is still the older one
            self.previous = before
        return {"segments": [dict(segment) for segment in self.segments]}

    def write_again(self, lanes: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Slots of `lanes` from `positions` on have changed: the next save writes them again. Later segments win."""
        self.saved_until[lanes] = np.minimum(self.saved_until[lanes], positions)

    def prune(self, folder: Path) -> None:
        needed = self.previous | self._files()
        for path in folder.glob("lane*"):
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def read(self, folder: Path, manifest: Mapping[str, Any], replay: Replay) -> None:
        """Fills `replay` with what the manifest lists. Other files (another checkpoint's, or left by a save that was
        cut off) stay until the next `prune`."""
        self.segments = [dict(segment) for segment in manifest["segments"]]
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

    def _files(self) -> set[str]:
        return {segment["file"] for segment in self.segments}

    def _write(self, path: Path, replay: Replay, lane: int, positions: NDArray[np.int64]) -> int:
        """Returns the size of the file in bytes."""
        slots = positions % replay.slots
        rows = torch.from_numpy(lane * replay.slots + slots).to(replay.storage)
        frames = replay.frames.index_select(0, rows).cpu().numpy()
        raw = frames.reshape(len(frames), -1).view(np.uint8)
        raw[1:] ^= raw[:-1].copy()
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
                with compressor.stream_writer(file, closefd=False) as stream:
                    for name in COLUMNS:
                        stream.write(np.ascontiguousarray(getattr(replay, name)[lane, slots]).data)
                    stream.write(raw.data)
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


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every segment of a manifest is there, in its full size."""
    for segment in manifest["segments"]:
        path = folder / segment["file"]
        if not path.is_file() or path.stat().st_size != segment["bytes"]:
            return False
    return True


def _read_segment(path: Path, count: int, replay: Replay) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    frame_dtype = replay.frames[:0].cpu().numpy().dtype
    columns: list[NDArray[Any]] = []
    try:
        with open(path, "rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file).read()
        offset = 0
        for name in COLUMNS:
            dtype = getattr(replay, name).dtype
            columns.append(np.frombuffer(data, dtype, count, offset))
            offset += count * dtype.itemsize
        raw = np.frombuffer(data, np.uint8, -1, offset).reshape(count, -1)
        frames = np.bitwise_xor.accumulate(raw, axis=0).view(frame_dtype).reshape(count, *replay.frame_shape)
    except FileNotFoundError:
        raise CheckpointError(f"the replay memory's segment {path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"the replay memory's segment {path} cannot be read ({error.strerror})") from None
    except (zstandard.ZstdError, ValueError) as error:
        raise CheckpointError(f"the replay memory's segment {path} is damaged ({error})") from None
    return columns, frames
