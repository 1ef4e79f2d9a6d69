"""Runs in the format in which W&B keeps them until they are uploaded: `wandb/offline-run-*/run-<id>.wandb`.

The file is a log of blocks of 32 KiB as LevelDB has them (a checksum, a length and a type before each piece of a
record), behind a header of seven bytes; each record is a protocol buffer of W&B's own, `wandb_internal.Record`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aprendiz.errors import RunError
from aprendiz.report import series
from aprendiz.report.core import Medium, RunData

BLOCK_BYTES = 32768
HEADER = b":W&B"
HEADER_BYTES, PIECE_BYTES = 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MEDIA = {"image-file": "image", "video-file": "video", "html-file": "text"}


def records(path: Path) -> Iterator[bytes]:
    """The whole records of a file. It ends at the first that is torn, as the last of a running program is.

    Raises RunError where it is no such file.
    """
    data = path.read_bytes()
    if data[: len(HEADER)] != HEADER:
        raise RunError(f"{path} is no file of W&B's offline format: it does not begin with {HEADER.decode()}")
    position = HEADER_BYTES
    parts: list[bytes] = []
    while True:
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < PIECE_BYTES:  # too little for another piece: zeros
            position += left
        if position + PIECE_BYTES > len(data):
            return
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        piece = data[position + PIECE_BYTES : position + PIECE_BYTES + length]
        if len(piece) < length or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return
        if zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            return
        position += PIECE_BYTES + length
        parts = [piece] if kind in (_FULL, _FIRST) else [*parts, piece]
        if kind in (_FULL, _LAST):
            yield b"".join(parts)


def read_offline(folder: Path, points: int = series.POINTS) -> RunData:
    """A run from W&B's offline folder. Raises RunError where there is nothing of one in it."""
    file = next(iter(sorted(folder.glob("run-*.wandb"))), None)
    if file is None:
        raise RunError(f"{folder} holds no run-<id>.wandb; name a folder as wandb/offline-run-...")
    # 0.5 s: only those who have such runs pay. What it holds is made when it is imported, so no type knows of it.
    make_record: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    config: dict[str, Any] = {}
    facts: dict[str, Any] = {"state": "running"}
    rows: list[dict[str, Any]] = []
    media: list[Medium] = []
    memory: list[float] = []
    for data in records(file):
        record = make_record()
        try:
            record.ParseFromString(data)
        except Exception:  # protobuf's own error; what comes after a broken record is no better
            break
        match record.WhichOneof("record_type"):
            case "run":
                facts |= {"id": record.run.run_id, "name": record.run.display_name, "project": record.run.project}
                facts |= {"entity": record.run.entity, "created": record.run.start_time.seconds}
                config |= _items(record.run.config.update)
            case "config":
                config |= _items(record.config.update)
            case "environment":
                about = record.environment  # comes again at the end, with what changed
                if about.program:
                    facts |= {"program": about.program, "args": list(about.args)}
                facts["created"] = about.started_at.seconds or facts.get("created")
            case "history":
                row = _items(record.history.item)
                rows.append(row)
                media += _media(row, folder / "files")
            case "stats":
                value = _items(record.stats.item).get("proc.memory.rssMB")
                if isinstance(value, (int, float)):
                    memory.append(float(value))
            case "exit":
                facts["state"] = "finished" if record.exit.exit_code == 0 else "failed"
    if "id" not in facts:
        raise RunError(f"{file} tells of no run: it was cut off at its beginning")
    return from_wandb(config, facts, rows, origin="W&B offline", points=points, media=media, memory=memory, path=folder)


def from_wandb(
    config: dict[str, Any],
    facts: Mapping[str, Any],
    rows: list[dict[str, Any]],
    *,
    origin: str,
    points: int,
    media: list[Medium] | None = None,
    memory: list[float] | None = None,
    path: Path | None = None,
) -> RunData:
    """A run as W&B knows it: its config, facts (id, name, project, entity, created, state, program, args), and rows of
    history. Runs of other programs have W&B's own step, and their project for a task."""
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    versions = config.pop("versions", None)
    ours = {name: config.pop(name, None) for name in ("kind", "task", "learner", "seed")}
    cadence = config.get("cadence")
    unit = cadence.get("step_name") if isinstance(cadence, dict) else None
    collector = series.Collector(points)
    collector.add([line for row in rows if (line := _line(row, unit)) is not None])
    metrics = collector.result()
    if memory:
        metrics.peaks.setdefault("speed/memory_mb", max(memory))
    created = facts.get("created")
    if isinstance(created, (int, float)):
        created = datetime.fromtimestamp(created, UTC).isoformat()
    program = str(facts.get("program") or "")
    program = f"python {program}" if program else ""
    run_id = str(facts["id"])
    return RunData(
        name=str(facts.get("name") or run_id),
        kind=str(ours["kind"] or "W&B"),
        task=str(ours["task"] or facts.get("project") or "unknown"),
        learner=str(ours["learner"] or facts.get("project") or "unknown"),
        seed=ours["seed"] if isinstance(ours["seed"], int) else None,
        config=config,
        metrics=metrics,
        origin=origin,
        path=path,
        command=[program, *map(str, facts.get("args") or [])] if program else [],
        state=str(facts.get("state") or "unknown"),
        created=str(created or ""),
        device=str(config.get("device") or ""),
        versions=versions if isinstance(versions, dict) else {},
        wandb_id=run_id,
        wandb_path="/".join(str(part) for part in (facts.get("entity"), facts.get("project")) if part),
        unit=unit or "steps",
        media=sorted(media or [], key=lambda one: one.step or 0),
    )


def _line(row: Mapping[str, Any], unit: str | None) -> dict[str, Any] | None:
    """A row of history as a line of metrics; None where it says nothing of when it was."""
    step = row.get(unit) if unit else None
    step = row.get("_step") if step is None else step
    if step is None:
        return None
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, (int, float)) and not name.startswith("_") and name not in (unit, "step", "time")
    }
    return {"step": step, "time": row.get("_runtime") or 0.0, **numbers}


def _items(items: Any) -> dict[str, Any]:
    """Keys and values of a record; a key of several parts is one of a dict in a dict."""
    found: dict[str, Any] = {}
    for item in items:
        *parts, name = [item.key] if item.key else item.nested_key
        place = found
        for part in parts:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        with contextlib.suppress(ValueError):
            place[name] = json.loads(item.value_json)
    return found


def _media(row: Mapping[str, Any], files: Path) -> list[Medium]:
    """The files that a row names, as far as they lie below `files`: a row of somebody else's may name any."""
    found = []
    for value in row.values():
        if isinstance(value, dict) and (kind := _MEDIA.get(str(value.get("_type")))):
            with contextlib.suppress(OSError, ValueError):
                file = (files / str(value.get("path", ""))).resolve()
                if file.is_file() and files.resolve() in file.parents:
                    step = row.get("_step")
                    kind = "image" if file.suffix.lower() == ".gif" else kind
                    found.append(Medium(kind, file, int(step) if isinstance(step, (int, float)) else None))
    return found
