"""What every benchmark shares: the machine in words, files of results, and tables."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from aprendiz import provenance

RESULTS = Path(__file__).parent / "results"
PEERS = ("stable-baselines3", "opencv-python-headless")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
"""Instructions that decide how fast float32 and bfloat16 are."""


def machine() -> dict[str, Any]:
    """The machine and the software that ran, with what else kept it busy."""
    model, flags = processor()
    return {
        "cpu": model,
        "cores": cores(),
        "flags": {flag: flag in flags for flag in FLAGS},
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": _system(),
        "python": platform.python_version(),
        "versions": provenance.versions() | {package: _version(package) for package in PEERS},
        "torch_threads": torch.get_num_threads(),
        "load_average_1_minute": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What every benchmark has."""

    results: Path = RESULTS
    """Folder of the file of results."""


def write_result(
    name: str, options: BenchmarkOptions, result: Mapping[str, Any], machine_before: Mapping[str, Any]
) -> Path:
    """Writes `<name>.json`: options, result, the machine as `machine()` found it at the start, commit and time."""
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{name}.json"
    asked = {key: value for key, value in dataclasses.asdict(options).items() if not isinstance(value, Path)}
    content = {
        "benchmark": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": provenance.git_commit(),
        "machine": dict(machine_before),
        "options": asked,
        **result,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nwritten: {path}")
    return path


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of repeated measurements."""
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned text; the first row is the heading, the first column is left-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]), flush=True)


def processor() -> tuple[str, set[str]]:
    """Its name, and the instructions that it has where the system tells."""
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "model name":
                model = value
            elif name == "flags":
                flags = set(value.split())
    return model, flags


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def made_by() -> dict[str, Any]:
    """What each row of a series says of itself, since one that was stopped may go on elsewhere and later: the
    processor, and the commit of the code."""
    return {"cpu": processor()[0], "git_commit": provenance.git_commit()}


def _system() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}"
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}, {platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
