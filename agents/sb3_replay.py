"""Stable-Baselines3's replay memory on disk, as arrays: never its pickles.

The library remembers a row for each step of all environments together. Rows stay as they are once they are filled, so
that a save writes only those that came since the one before, in compressed segments and a manifest, as our own replay
memory does (aprendiz/replay_store.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aprendiz.replay_store import read_compressed, told_as_checkpoint_errors, write_compressed

SEGMENT_BYTES = 16 * 2**20
"""Uncompressed size of a segment, at most."""
SMALL = ("actions", "rewards", "dones", "timeouts")


class RowStore:
    """Knows how many rows were ever added to a buffer of the library, and which of them lie in which file."""

    def __init__(self, buffer: Any) -> None:
        """buffer: a ReplayBuffer of Stable-Baselines3 that keeps the next observations; arrays [rows, N, ...]."""
        self.buffer = buffer
        self.rows = self.saved_until = 0
        self.segments: list[dict[str, Any]] = []
        self.token = secrets.token_hex(3)
        """In the names of this store's files: two branches of one run never overwrite each other's."""
        self.previous: set[str] = set()
        """Files of the manifest before the last one: the checkpoint to fall back on needs them."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the rows that are new; returns the manifest {"rows", "segments": [{"file", "start", "end", "bytes"}]}.

        Raises StorageError."""
        before = self._files()
        buffer, oldest = self.buffer, max(self.rows - self.buffer.buffer_size, 0)
        row_bytes = 2 * buffer.observations[0].nbytes + sum(getattr(buffer, name)[0].nbytes for name in SMALL)
        size = max(SEGMENT_BYTES // row_bytes, 1)
        start = max(self.saved_until, oldest)
        for begin in range(start, self.rows, size):
            end = min(begin + size, self.rows)
            name = f"rows-{begin:012}-{end:012}-{self.token}-{secrets.token_hex(2)}.zst"
            written = self._write(folder / name, np.arange(begin, end) % buffer.buffer_size)
            self.segments.append({"file": name, "start": begin, "end": end, "bytes": written})
        self.saved_until = self.rows
        self.segments = [segment for segment in self.segments if segment["end"] > oldest]
        if self._files() != before:
            self.previous = before
        return {"rows": self.rows, "segments": [dict(segment) for segment in self.segments]}

    def load(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Fills the buffer with what the manifest lists. Raises CheckpointError."""
        buffer = self.buffer
        self.segments = [dict(segment) for segment in manifest["segments"]]
        self.previous = self._files()
        for segment in self.segments:
            self._read(folder / segment["file"], np.arange(segment["start"], segment["end"]) % buffer.buffer_size)
        self.rows = self.saved_until = int(manifest["rows"])
        buffer.pos, buffer.full = self.rows % buffer.buffer_size, self.rows >= buffer.buffer_size

    def prune(self, folder: Path) -> None:
        """Deletes files that neither the last manifest nor the one before lists."""
        needed = self.previous | self._files()
        for path in folder.glob("rows-*"):
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def cut(self) -> None:
        """Says that the games in progress break off after the newest row: their values are still bootstrapped, and no
        return over several steps runs into the next game."""
        if self.rows:
            newest = (self.rows - 1) % self.buffer.buffer_size
            running = self.buffer.dones[newest] == 0
            self.buffer.dones[newest][running] = self.buffer.timeouts[newest][running] = 1
            self.saved_until = min(self.saved_until, self.rows - 1)  # written again; later segments win

    def _files(self) -> set[str]:
        return {segment["file"] for segment in self.segments}

    def _write(self, path: Path, slots: np.ndarray) -> int:
        buffer = self.buffer
        parts = [np.ascontiguousarray(getattr(buffer, name)[slots]) for name in SMALL]
        # Lane by lane, what was seen beside what came next: repetitions lie close together and cost next to nothing.
        pictures = np.stack([buffer.observations[slots], buffer.next_observations[slots]], axis=1)  # [R, 2, N, ...]
        parts.append(np.ascontiguousarray(np.moveaxis(pictures, 2, 0)))  # [N, R, 2, ...]
        return write_compressed(path, [part.reshape(-1).view(np.uint8).data for part in parts])

    def _read(self, path: Path, slots: np.ndarray) -> None:
        buffer = self.buffer
        with told_as_checkpoint_errors(path):
            data, offset = read_compressed(path), 0
            for name in SMALL:
                array = getattr(buffer, name)
                shape = (len(slots), *array.shape[1:])
                array[slots] = np.frombuffer(data, array.dtype, int(np.prod(shape)), offset).reshape(shape)
                offset += int(np.prod(shape)) * array.dtype.itemsize
            _, lanes, *shape_one = buffer.observations.shape
            seen = np.frombuffer(data, buffer.observations.dtype, -1, offset)
            pictures = np.moveaxis(seen.reshape(lanes, len(slots), 2, *shape_one), 0, 2)  # [R, 2, N, ...]
            buffer.observations[slots], buffer.next_observations[slots] = pictures[:, 0], pictures[:, 1]
