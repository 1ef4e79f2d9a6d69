"""How long does a large text take to become ids, and how much memory?

A text of `--megabytes` is made by repeating Python's own (or `--file`), once with its lines and once as a single line.
Each is loaded in a process of its own, twice: the first time it is read, numbered and cached, the second time it is
found. Processor time and peak memory are those of the process, imports and compilation of the scanner among them.

    python -m benchmarks.text_encoding
    python -m benchmarks.text_encoding --megabytes 1000 --file english.txt
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result

WORK = (
    {"level": "char"},
    {"level": "byte"},
    {"level": "word"},
    {"level": "word", "tokens": "whitespace", "min_count": 5, "held_out": 0.0, "validation": 0.0},
)
_CHILD = """
import json, resource, sys, time
name, options = sys.argv[1], json.loads(sys.argv[2])
start, used = time.perf_counter(), time.process_time()
from aprendiz.text import load
data = load(name, **options)
try:  # getrusage counts what the process was before it became this one
    peak = 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "processor_seconds": time.process_time() - used,
    "peak_mb": peak / 1e6,
    "tokens": len(data.train) + len(data.validation) + len(data.test),
    "symbols": len(data.vocabulary),
}))
"""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Time and memory of encoding a large text."""

    megabytes: int = 1_000
    """Size of the text with lines; the single line has a fifth of it."""
    file: Optional[Path] = None  # noqa: UP045 (tyro's help reads better)
    """A text in UTF-8 to repeat, instead of Python's own."""

    def __post_init__(self) -> None:
        if self.megabytes < 20:
            raise ConfigError(f"--megabytes must be at least 20, got {self.megabytes}")


def repeated(path: Path, content: bytes, size: int) -> None:
    """Writes the content over and over, until there are so many bytes."""
    with path.open("wb") as file:
        for _ in range(-(-size // len(content))):
            file.write(content)


def measured(path: Path, options: dict[str, Any], cache: Path) -> dict[str, Any]:
    """What one process says that loads the text. Raises CalledProcessError where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, f"file:{path}", json.dumps(options)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "APRENDIZ_DATA": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.text_encoding", description=__doc__ or "")
    before = machine()
    if options.file is not None:
        content = options.file.read_bytes()
    else:
        from pydoc_data.topics import topics

        content = "\n".join(topics[name] for name in sorted(topics)).encode()
    rows, result = [("text, level", "processor s", "s", "peak MB", "s the second time")], {}
    with tempfile.TemporaryDirectory() as folder:
        texts = {
            "lines": (content.rstrip(b"\n") + b"\n", options.megabytes * 10**6),
            "one line": (b" ".join(content.split()) + b" ", options.megabytes * 10**6 // 5),
        }
        for name, (repeat, size) in texts.items():
            path = Path(folder, f"{name.replace(' ', '-')}.txt")
            repeated(path, repeat, size)
            time.sleep(3)  # a file that has just been changed is read again, whatever the cache holds
            for work in WORK:
                what = f"{name}, {path.stat().st_size / 1e6:,.0f} MB, {', '.join(map(str, work.values()))}"
                first, second = (measured(path, work, Path(folder, "cache")) for _ in range(2))
                result[what] = {"first": first, "second": second}
                rows.append(
                    (
                        what,
                        f"{first['processor_seconds']:.1f}",
                        f"{first['seconds']:.1f}",
                        f"{first['peak_mb']:.0f}",
                        f"{second['seconds']:.2f}",
                    )
                )
            path.unlink()
    print_table(rows)
    write_result("text_encoding", options, result, before)
    return 0


if __name__ == "__main__":
    main(run_command)
