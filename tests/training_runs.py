"""What the tests of all training commands share: stopping and killing them, and looking at what they leave behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import cli
from aprendiz.run import Run

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[[list[str]], Any]


def refused_by(command: Command, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main(command)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# Stopping


def stop_at(units: int, command: Command, arguments: Sequence[str], number: signal.Signals, *sources: type) -> Run:
    """Runs the command, which gets a signal as soon as so many units came out of its source; returns the run."""
    resumed = Run.open(arguments[1]) if arguments[0] == "--resume" else None
    seen, sent = [resumed.load()["loop"]["units"] if resumed else 0], []

    def interrupted(following: Callable[..., Any]) -> Callable[..., Any]:
        def following_until(source: Any, limit: int | None = None) -> Any:
            if seen[0] >= units and not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
            work = following(source, limit)
            seen[0] += work.units
            return work

        return following_until

    with pytest.MonkeyPatch.context() as patch:
        for source in sources:
            patch.setattr(source, "next", interrupted(source.next))  # type: ignore[attr-defined]
        assert command(list(arguments)) == 128 + number
    return Run.open("latest" if resumed is None else resumed.path)


_DRIVER = """
import importlib, json, os, signal, sys, traceback

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
module, arguments, resumed, kill_after = json.loads(sys.argv[1])
run_command, root = importlib.import_module(module).run_command, os.environ["APRENDIZ_RUNS"]

def run(arguments, kill_after=None):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout = open(os.devnull, "w")
    if kill_after is not None:
        left = [kill_after]
        def hook(event, given):
            if event in EVENTS and root in str(given[0]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
    code = 1
    try:
        code = run_command(arguments)
    except BaseException:
        traceback.print_exc()
    os._exit(code)

assert run_command(arguments) == 0  # what is imported now need not be imported by every process to come
for accesses in kill_after:
    before = set(os.listdir(root))
    assert run(arguments, accesses) == -signal.SIGKILL, accesses
    (made,) = set(os.listdir(root)) - before
    assert run(["--resume", made, *resumed], accesses // 3) == -signal.SIGKILL, accesses
    assert run(["--resume", made, *resumed]) == 0, accesses
"""


def killed_and_resumed(
    module: str, arguments: Sequence[str], resumed: Sequence[str], kill_after: Sequence[int], *paths: Path
) -> tuple[Run, list[Run]]:
    """Trains once to the end; then again and again, killed at one of its accesses to a file, twice, and then to the
    end. Returns the first run, and the others.

    `module` has the command, `resumed` are further arguments of those that go on, `paths` hold modules to import.
    """
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, json.dumps([module, list(arguments), list(resumed), list(kill_after)])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths))), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    made = (Run.open(path) for path in Path(os.environ["APRENDIZ_RUNS"]).iterdir())
    whole, *killed = sorted(made, key=lambda run: run.info["created"])
    assert len(killed) == len(kill_after)
    return whole, killed


@contextlib.contextmanager
def full_disk(flushes: int) -> Iterator[None]:
    """A disk that is full after so many flushes."""
    sync, left = os.fsync, [flushes]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


# What they leave behind


def plain(value: Any) -> Any:
    """Tensors as arrays, so that numpy can compare everything."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def lines(run: Run) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    return [
        {name: value for name, value in line.items() if name != "time" and not name.startswith("speed/")}
        for line in run.metrics()
    ]


def assert_same_run(left: Run, right: Run, *, but: Sequence[str] = ()) -> None:
    """Number for number: networks, optimisers, generators, place in the data, and every line of metrics. `but` names
    parts of a checkpoint that may differ."""
    ours, theirs = left.load(), right.load()
    for state in (ours, theirs):
        del state["loop"]["elapsed_seconds"]
        for part in but:
            del state[part]
    np.testing.assert_equal(plain(ours), plain(theirs))
    assert lines(left) == lines(right)


def record_tracking(monkeypatch: pytest.MonkeyPatch, units: str) -> list[Any]:
    """The trackers that are made from here on: what each was given, and what came to it."""
    made: list[Any] = []

    class Recorder:
        def __init__(self, folder: Path, **given: Any) -> None:
            self.given, self.logged, self.media, self.ended = SimpleNamespace(**given), [], [], []
            made.append(self)

        def log(self, step: int, metrics: Any) -> None:
            self.logged.append(step)

        def text(self, key: str, text: str, step: int) -> None:
            assert text
            self.media.append(key)

        def image(self, key: str, image: Path, step: int, caption: str | None = None) -> None:
            assert image.exists()
            self.media.append(key)

        def summary(self, values: Any) -> None:
            self.ended.append(values[units])

        def finish(self, exit_code: int = 0) -> None:
            self.ended.append(f"finished with {exit_code}")

    monkeypatch.setattr("aprendiz.tracking.Tracker", Recorder)
    return made


# Damage


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        info = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(info | changes))

    return change


def forget(entry: str) -> Callable[[Path], None]:
    """Takes an entry out of a run's config."""

    def forget_it(folder: Path) -> None:
        info = json.loads((folder / "config.json").read_text())
        del info["config"][entry]
        (folder / "config.json").write_text(json.dumps(info))

    return forget_it


def truncate_the_tensors(folder: Path) -> None:
    for tensors in folder.rglob("tensors.safetensors"):
        os.truncate(tensors, 1_000)
