from __future__ import annotations

import http.server
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aprendiz import tracking
from aprendiz.errors import ConfigError
from aprendiz.run import Run
from aprendiz.tracking import Tracker, resolve_mode


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]
    for name in [*configured, "NETRC"]:  # the service's address is W&B's own: put back later, it could be outdated
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_argument_then_the_environment_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode() == "disabled"
    assert resolve_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert resolve_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ConfigError, match="WANDB_MODE is 'sometimes'; choose from online, offline, disabled"):
        resolve_mode()


def test_a_configured_key_means_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert resolve_mode() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    (home / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    (home / ".netrc").chmod(0o600)
    assert resolve_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert resolve_mode() == "offline"  # that key is for another server
    monkeypatch.delenv("WANDB_BASE_URL")
    (home / ".netrc").write_text("machine api.forge.coreweave.com\n  login user\n  password secret\n")
    assert resolve_mode() == "online"  # the same server by another name, as newer versions store it
    (home / ".netrc").write_text("machine and nonsense {")
    assert resolve_mode() == "offline"
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\napi_key = secret\n")
    assert resolve_mode() == "online"


def test_online_without_a_key_never_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_mode("online") == "offline"
    assert capsys.readouterr().err == (
        "wandb: no W&B key is configured, so this run is logged offline; `wandb login` stores one\n"
    )


def test_disabled_does_nothing_and_does_not_import_wandb(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib
from aprendiz.tracking import Tracker
tracker = Tracker(pathlib.Path({str(tmp_path)!r}), mode="disabled", run_id="a", name="a", config={{}})
tracker.log(1, {{"train/loss": 1.0}})
tracker.summary({{}}); tracker.video("eval/video", pathlib.Path("absent.mp4"), 1); tracker.finish()
print(tracker.active, tracker.url, "wandb" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "None", "False"] and done.stderr == ""
    assert not (tmp_path / "wandb").exists()


def records(path: Path) -> Iterator[Any]:
    """The protocol buffers of a .wandb file, which is a LevelDB log with a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        rest = 32768 - position % 32768
        if rest < 7:
            position += rest
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def whole(path: Path) -> list[Any]:
    """All records of a finished run; W&B may write the last ones a moment after `finish` has returned."""
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        everything = list(records(path))
        if any(record.HasField("exit") for record in everything):
            return everything
        time.sleep(0.05)
    raise AssertionError(f"{path} never came to its end")


def history(path: Path) -> list[dict[str, Any]]:
    rows = [record.history for record in whole(path) if record.HasField("history")]
    return [{".".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in rows]


def test_an_offline_run_is_whole_in_its_own_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "game.mp4").write_bytes(b"\x00" * 100)
    tracker = Tracker(
        tmp_path,
        mode="offline",
        run_id="abcd1234",
        name="a-run",
        config={"agent": {"learning_rate": 0.5}},
        step_metric="frames",
    )
    tracker.log(10, {"train/loss": 2.0, "train/early": 1})
    for step in range(11, 21):
        tracker.log(step, {"train/loss": float(step), "rollout/score": step})
    tracker.flush()
    tracker.log(20, {"eval/score": 7.5})
    tracker.video("eval/video", tmp_path / "game.mp4", 15)
    tracker.image("sample/grid", np.zeros((4, 4, 3), np.uint8), 20)
    tracker.summary({"final/score": 3})
    tracker.finish()
    tracker.finish()

    printed = capfd.readouterr()
    assert printed.err == f"wandb: logged offline; upload with: wandb sync {tmp_path}/wandb/offline-run-*\n"
    assert printed.out == ""
    (file,) = tmp_path.glob("wandb/offline-run-*-abcd1234/run-abcd1234.wandb")
    everything = whole(file)
    (run,) = [record.run for record in everything if record.HasField("run")]
    assert (run.run_id, run.display_name, run.project) == ("abcd1234", "a-run", "aprendiz")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["agent"] == {"learning_rate": 0.5}
    metrics = {record.metric.glob_name: record.metric for record in everything if record.HasField("metric")}
    assert {"train/*", "rollout/*", "eval/*", "speed/*"} <= set(metrics)
    assert metrics["train/*"].step_metric == "frames"

    rows = history(file)
    assert rows[0] | {"_runtime": 0, "_timestamp": 0} == {
        "frames": 10, "train/loss": 2.0, "train/early": 1, "_step": 10, "_runtime": 0, "_timestamp": 0
    }  # fmt: skip
    merged = rows[1]
    assert (merged["frames"], merged["train/loss"], merged["rollout/score"]) == (20, 20.0, 20)
    assert any(row.get("eval/score") == 7.5 for row in rows)
    (video,) = [row["eval/video.path"] for row in rows if "eval/video.path" in row]
    assert (file.parent / "files" / video).read_bytes() == b"\x00" * 100
    assert any("sample/grid.path" in row for row in rows)
    summaries = [item for record in everything if record.HasField("summary") for item in record.summary.update]
    assert "3" in [item.value_json for item in summaries if "final/score" in (item.key, *item.nested_key)]


@pytest.mark.parametrize("code", [0, 1])
def test_a_crash_is_no_success(tmp_path: Path, capfd: pytest.CaptureFixture[str], code: int) -> None:
    tracker = Tracker(tmp_path, mode="offline", run_id="abcd1234", name="a", config={})
    tracker.finish(code)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-abcd1234.wandb")
    assert [record.exit.exit_code for record in whole(file) if record.HasField("exit")] == [code]
    assert "upload with: wandb sync" in capfd.readouterr().err and tracker.url is None


def test_rows_are_batched_to_about_one_a_second_and_cost_little(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, mode="offline", run_id="abcd1234", name="a", config={})
    metrics = {f"train/{index}": 0.5 for index in range(10)}
    tracker.log(0, metrics)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 2.2:
        count += 1
        tracker.log(count, metrics)
    tracker.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-abcd1234.wandb")
    assert 3 <= len(history(file)) <= 5
    assert count > 10_000  # 200 microseconds a call at the very most; 1 is usual


def test_a_resumed_offline_run_has_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    run = Run.create(kind="agents", task="t", learner="l", seed=0, config={"x": 1}, command=[], device="cpu")
    for step, resumed in ((10, False), (20, True)):
        run.track("offline", resumed=resumed)
        run.log(step, {"train/loss": float(step)}, seconds=1.0)
        assert run.tracker is not None
        run.tracker.finish()
    files = list(run.path.glob(f"wandb/offline-run-*-{run.info['wandb_id']}*/run-{run.info['wandb_id']}.wandb"))
    assert sorted(history(file)[0]["env_steps"] for file in files) == [10, 20]


class Server:
    """As much of a W&B server as one run needs; it can break."""

    def __init__(self) -> None:
        self.broken = False
        self.history: list[dict[str, Any]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                code, reply = (500, {}) if server.broken else (200, server.reply(self.path, body))
                content = json.dumps(reply).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 the library's names

            def log_message(self, *arguments: Any) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def reply(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            files = json.loads(body).get("files") or {}
            self.history += [json.loads(line) for line in files.get("wandb-history.jsonl", {}).get("content", [])]
        if not path.endswith("/graphql"):
            return {}
        asked = json.loads(body)
        project = {"id": "p", "name": "aprendiz", "entity": {"id": "e", "name": "e"}}
        bucket = {"id": "b", "name": "abcd1234", "displayName": "a", "config": "{}", "historyLineCount": 0}
        if "UpsertBucket" in asked["query"]:
            return {"data": {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": True}}}
        if "CreateRunFiles" in asked["query"]:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in asked["variables"]["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {"model": None}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    import wandb

    wandb.teardown()  # it remembers the environment of its first run
    server = Server()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 3.0)
    yield server
    server.broken = False
    wandb.teardown()
    server.http.shutdown()
    server.http.server_close()


def test_an_online_run_sends_everything(tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path, run_id="abcd1234", name="a", config={})
    assert tracker.mode == "online" and tracker.url is not None
    for step in range(5):
        tracker.log(step, {"train/loss": float(step)})
    tracker.finish()
    assert [row["train/loss"] for row in server.history] == [0.0, 4.0]
    assert capfd.readouterr() == ("", f"W&B: {tracker.url}\n")
    assert re.fullmatch(r"https?://\S+/abcd1234", tracker.url)


def test_losing_the_server_stops_neither_logging_nor_the_end(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(tmp_path, run_id="abcd1234", name="a", config={})
    tracker.log(0, {"train/loss": 0.0})
    server.broken = True
    slowest = 0.0
    for step in range(1, 20):
        started = time.perf_counter()
        tracker.log(step, {"train/loss": float(step)})
        tracker.flush()
        slowest = max(slowest, time.perf_counter() - started)
        time.sleep(0.02)
    assert slowest < 1.0
    started = time.perf_counter()
    tracker.finish()
    assert time.perf_counter() - started < 15
    assert capfd.readouterr().err == (
        f"W&B: {tracker.url}\nwandb: the upload is not complete; complete it with: wandb sync {tmp_path}/wandb/run-*\n"
    )
    (file,) = tmp_path.glob("wandb/run-*-abcd1234/run-abcd1234.wandb")
    assert len(history(file)) == 20  # nothing is lost


@pytest.mark.parametrize("how", ["broken", "absent"])
def test_a_server_that_does_not_answer_means_offline(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    server.broken = True
    if how == "absent":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    started = time.perf_counter()
    tracker = Tracker(tmp_path, run_id="abcd1234", name="a", config={})
    assert time.perf_counter() - started < 20
    assert tracker.mode == "offline" and tracker.active
    tracker.log(1, {"train/loss": 1.0})
    tracker.finish()
    lines = capfd.readouterr().err.splitlines()
    assert re.match("wandb: W&B cannot be reached, so this run is logged offline: ", lines[0]) and len(lines[0]) < 300
    assert lines[1].startswith("wandb: logged offline; upload with: wandb sync ")
    (file,) = tmp_path.glob("wandb/offline-run-*-abcd1234/run-abcd1234.wandb")
    assert history(file)[0]["train/loss"] == 1.0


def test_the_address_of_a_service_that_has_ended_is_forgotten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    wandb.teardown()
    os.environ["WANDB_SERVICE"] = f"3-{os.getpid()}-unix-{tmp_path / 'socket'}"  # as a child inherits it
    tracker = Tracker(tmp_path, mode="offline", run_id="abcd1234", name="a", config={})
    tracker.log(1, {"train/loss": 1.0})
    tracker.finish()
    assert "failed" not in capfd.readouterr().err
    (file,) = tmp_path.glob("wandb/offline-run-*-abcd1234/run-abcd1234.wandb")
    assert history(file)[0]["train/loss"] == 1.0


def test_a_failure_is_told_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(tmp_path, mode="offline", run_id="abcd1234", name="a", config={})
    run = tracker._run
    monkeypatch.setattr(run, "log", lambda *arguments, **options: 1 // 0)
    tracker.log(1, {"train/loss": 1.0})
    tracker.log(2, {"train/loss": 1.0})
    tracker.video("eval/video", tmp_path / "absent.mp4", 2)
    tracker.finish()
    run.finish()
    assert capfd.readouterr().err.splitlines() == [
        "wandb: W&B failed to log, tracking ends here and training goes on: integer division or modulo by zero",
        f"wandb: every metric is in {tmp_path / 'metrics.jsonl'}",
    ]
