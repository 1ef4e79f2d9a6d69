"""Runs in W&B's offline format, runs at W&B (a stand-in of its API), and the report that would be made there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from report_runs import make_run

from aprendiz.errors import ConfigError, RunError
from aprendiz.report import build, media, offline, online, publish, reading
from aprendiz.report.core import Medium
from aprendiz.tracking import Tracker

CONFIG = {"kind": "agents", "task": "pong", "learner": "c51", "seed": 5, "device": "cpu", "versions": {"torch": "2"}}
CONFIG |= {"agent": {"name": "c51"}, "cadence": {"step_name": "env_steps"}}


@pytest.fixture(scope="module")
def offline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What W&B itself leaves behind of an offline run."""
    folder = tmp_path_factory.mktemp("tracked")
    tracker = Tracker(
        folder, mode="offline", run_id="abcd1234", name="pong-c51", config=CONFIG, step_metric="env_steps"
    )
    for place in range(1, 4):
        tracker.log(100 * place, {"eval/score": 1.5 * place, "train/updates": 10 * place, "train/loss": float("nan")})
        tracker.flush()
    tracker.log(400, {"padding": "x" * 100_000})  # longer than a block: in several pieces
    tracker.flush()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "grid.png")
    tracker.image("sample/images", folder / "grid.png", 500)
    tracker.finish()
    wandb.teardown()  # W&B's service may write on after the run has ended, but not after its own end
    (found,) = (folder / "wandb").glob("offline-run-*")
    return found


@pytest.mark.xdist_group("wandb")
def test_an_offline_run_is_read_as_it_was_logged(offline_folder: Path) -> None:
    run = reading.read_run(offline_folder)
    assert (run.name, run.kind, run.task, run.learner, run.seed) == ("pong-c51", "agents", "pong", "c51", 5)
    assert (run.origin, run.state, run.wandb_id, run.unit) == ("W&B offline", "finished", "abcd1234", "env_steps")
    curve = run.metrics.curves["eval/score"]
    assert curve.step.tolist() == [100, 200, 300] and curve.value.tolist() == [1.5, 3.0, 4.5]
    assert curve.updates.tolist() == [10, 20, 30] and (np.diff(curve.seconds) >= 0).all()
    assert run.config["agent"] == {"name": "c51"} and "_wandb" not in run.config


@pytest.mark.xdist_group("wandb")
def test_pictures_of_an_offline_run_are_found(offline_folder: Path) -> None:
    (picture,) = reading.read_run(offline_folder).media
    assert picture.kind == "image" and picture.path.is_file() and picture.step == 500


@pytest.mark.xdist_group("wandb")
def test_an_offline_run_that_is_cut_off_is_read_up_to_there(offline_folder: Path, tmp_path: Path) -> None:
    (file,) = offline_folder.glob("*.wandb")
    data = file.read_bytes()
    whole = list(offline.records(file))
    for cut in (len(data) - 1, len(data) // 2, 5000):
        (tmp_path / file.name).write_bytes(data[:cut])
        part = list(offline.records(tmp_path / file.name))
        assert 0 < len(part) < len(whole) and part == whole[: len(part)]
    assert reading.read_run(tmp_path).state == "running"


@pytest.mark.xdist_group("wandb")
def test_a_flipped_bit_ends_the_records(offline_folder: Path, tmp_path: Path) -> None:
    (file,) = offline_folder.glob("*.wandb")
    data = bytearray(file.read_bytes())
    whole = len(list(offline.records(file)))
    data[40_000] ^= 1  # within the long record
    (tmp_path / file.name).write_bytes(data)
    assert 0 < len(list(offline.records(tmp_path / file.name))) < whole


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run-x.wandb").write_bytes(b"hello, this is no log")
    with pytest.raises(RunError, match="no file of W&B's offline format"):
        reading.read_run(tmp_path)


@pytest.mark.xdist_group("wandb")
def test_a_folder_of_offline_runs_means_all_of_them(offline_folder: Path, tmp_path: Path) -> None:
    for name in ("offline-run-1", "offline-run-2"):
        shutil.copytree(offline_folder, tmp_path / "wandb" / name)
    assert len(reading.find([str(tmp_path / "wandb")])[0]) == 2


def named(folder: Path, kind: str, path: str) -> list[tuple[str, str]]:
    found = offline._media({"_step": 5, "x": {"_type": kind, "path": path}}, folder / "files")
    return [(one.kind, one.path.name) for one in found]


def test_a_row_shows_no_file_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "files" / "media").mkdir(parents=True)
    (tmp_path / "files" / "media" / "a.html").write_text("x")
    (tmp_path / "secret.html").write_text("x")
    assert named(tmp_path, "html-file", "media/a.html") == [("text", "a.html")]
    for path in ("../secret.html", "media/../../secret.html", str(tmp_path / "secret.html"), "\0", ""):
        assert named(tmp_path, "html-file", path) == []


def test_texts_and_films_of_wandb_are_shown_as_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.html").write_text("<pre>if a &lt; b:\n  &quot;ñ&quot;</pre>")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.gif")
    (folder / "a.webm").write_bytes(b"x")
    assert named(tmp_path, "video-file", "a.gif") == [("image", "a.gif")]
    kinds = {"a.html": "text", "a.gif": "image", "a.webm": "video"}
    text, picture, film = (media._content(Medium(kind, folder / name, 5)) for name, kind in kinds.items())
    assert text == 'if a < b:\n  "ñ"' and picture.startswith("data:image/gif") and film.startswith("data:video/webm")


class FakeRun:
    name, state, created_at = "swift-fox-3", "running", "2026-01-02T03:04:05Z"
    config = CONFIG | {"_wandb": {"x": 1}}
    metadata = {"program": "-m agents.train", "args": ["pong", "--agent", "c51"]}  # noqa: RUF012

    def scan_history(self, page_size: int) -> Any:
        for place in range(1, 4):
            yield {
                "_step": place,
                "_runtime": 2.0 * place,
                "env_steps": 100 * place,
                "eval/score": place,
                "other": None,
            }


class FakeApi:
    def __init__(self, timeout: int) -> None:
        pass

    def run(self, path: str) -> FakeRun:
        if path != "me/atari/abc":
            raise ValueError(f"could not find run <Run {path} (not found)>\n")
        return FakeRun()


@pytest.fixture
def at_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setattr(wandb, "Api", FakeApi)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)


@pytest.mark.usefixtures("at_wandb")
def test_a_run_is_pulled_from_wandb_beside_local_ones(tmp_path: Path) -> None:
    local = make_run(tmp_path, task="pong")
    runs, _ = reading.read_all([local.path, "me/atari/abc"])
    pulled = runs[1]
    assert (pulled.name, pulled.origin, pulled.state, pulled.learner) == ("swift-fox-3", "W&B", "running", "c51")
    assert pulled.command_line == "python -m agents.train pong --agent c51" and pulled.wandb_path == "me/atari"
    assert pulled.metrics.curves["eval/score"].step.tolist() == [100, 200, 300]
    assert pulled.metrics.curves["eval/score"].seconds.tolist() == [2, 4, 6]
    assert [one.label for one in build.build(runs).groups] == ["dqn", "c51"]


@pytest.mark.usefixtures("at_wandb")
def test_a_run_that_is_not_at_wandb_is_one_line() -> None:
    with pytest.raises(RunError, match="cannot pull me/atari/xyz from W&B: could not find run") as caught:
        online.read_online("me/atari/xyz")
    assert "\n" not in str(caught.value)


def test_without_a_key_a_path_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_key(monkeypatch, tmp_path)
    with pytest.raises(RunError, match="wandb login"):
        online.read_online("me/atari/abc")


def without_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.mark.xdist_group("wandb")
def test_sessions_of_an_offline_run_are_one_run(offline_folder: Path, tmp_path: Path) -> None:
    for name in ("offline-run-1", "offline-run-2"):
        shutil.copytree(offline_folder, tmp_path / "wandb" / name)
    (run,), notes = reading.read_all(reading.find([str(tmp_path / "wandb")])[0])
    assert run.metrics.curves["eval/score"].step.tolist() == [100, 200, 300] and notes == []


@pytest.mark.usefixtures("at_wandb")
def test_a_run_that_is_here_does_not_count_again_as_one_at_wandb(tmp_path: Path) -> None:
    local = make_run(tmp_path)
    local.info["wandb_id"] = "abc"
    local.save_config()
    (run,), notes = reading.read_all(["me/atari/abc", local.path])
    assert run.origin == "local" and notes == [f"passed over swift-fox-3 (W&B): it is {local.name}, which is here"]


@pytest.mark.usefixtures("at_wandb")
def test_a_run_that_wandb_does_not_give_is_left_out_of_the_report_of_the_others(tmp_path: Path) -> None:
    local = make_run(tmp_path)
    (run,), (note,) = reading.read_all(["me/atari/xyz", local.path])
    assert run.name == local.name and note.startswith("passed over me/atari/xyz: cannot pull me/atari/xyz from W&B")
    with pytest.raises(RunError, match="cannot pull me/atari/xyz"):
        reading.read_all(["me/atari/xyz"])


def test_a_run_of_another_program_has_wandb_s_own_steps() -> None:
    rows = [{"_step": step, "_runtime": 1.0 * step, "loss": 2.0, "_timestamp": 9.0} for step in range(3)]
    facts = {"id": "zz", "project": "mine"}
    run = offline.from_wandb({"lr": 0.1}, facts, rows, origin="W&B", points=100)
    assert (run.kind, run.task, run.learner, run.unit, run.seed) == ("W&B", "mine", "mine", "steps", None)
    assert run.metrics.curves["loss"].step.tolist() == [0, 1, 2] and list(run.metrics.curves) == ["loss"]


# The report at W&B


@pytest.fixture
def report(tmp_path: Path) -> build.Report:
    runs = [make_run(tmp_path, seed=seed, games=[5.0, 6.0]) for seed in (1, 2)]
    runs += [make_run(tmp_path, learner="c51", games=[7.0, 8.0])]
    (runs[0].videos / "step-000000000300.mp4").write_bytes(b"x")
    return build.build([reading.read_run(run.path) for run in runs])


def test_the_report_s_specification_is_one_of_the_package_s_own_model(report: build.Report) -> None:
    reports = pytest.importorskip("wandb_workspaces.reports.v2")
    internal = pytest.importorskip("wandb_workspaces.reports.v2.internal")
    made = publish.specification(report, "me", "aprendiz")
    sent = made._to_model().model_dump(by_alias=True, exclude_none=True)
    read = internal.ReportViewspec.model_validate(json.loads(json.dumps(sent, default=str)))
    again = reports.Report._from_model(read)
    assert again.title == report.title and len(again.blocks) == len(made.blocks)
    grid = next(block for block in again.blocks if isinstance(block, reports.PanelGrid))
    assert [one.name for one in grid.runsets] == ["dqn", "c51"]
    lines = [panel for panel in grid.panels if isinstance(panel, reports.LinePlot)]
    assert lines[0].title == "eval/score" and len(lines) == len(report.sections[0].metrics)
    assert any(isinstance(panel, reports.MediaBrowser) for panel in grid.panels)


def test_a_run_set_has_exactly_the_runs_of_its_group(report: build.Report) -> None:
    pytest.importorskip("wandb_workspaces.reports.v2")
    text = publish.specification(report, "me", "aprendiz")._to_model().model_dump_json(by_alias=True)
    grids = [block for block in json.loads(text)["spec"]["blocks"] if block["type"] == "panel-grid"]
    chosen = [one["filters"]["filters"][0] for one in grids[0]["metadata"]["runSets"]]
    assert [one["value"] for one in chosen] == [
        [report.runs[0].wandb_id, report.runs[1].wandb_id], [report.runs[2].wandb_id],
    ]  # fmt: skip
    assert all(one["key"] == {"section": "run", "name": "name"} and one["op"] == "IN" for one in chosen)
    axes = {panel["config"].get("xAxis") for panel in grids[0]["metadata"]["panelBankSectionConfig"]["panels"]}
    assert "env_steps" in axes


def test_without_a_key_one_line_says_so(
    report: build.Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    without_key(monkeypatch, tmp_path)
    assert publish.publish(report) is None
    assert capsys.readouterr().err == "wandb: no report at W&B: no key is configured; `wandb login` stores one\n"


def test_without_a_network_one_line_says_so(
    report: build.Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    import wandb

    def unreachable(timeout: int) -> None:
        raise ConnectionError("Network error (ConnectionError),\n entering retry loop")

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(wandb, "Api", unreachable)
    assert publish.publish(report) is None
    errors = capsys.readouterr().err
    assert errors.startswith("wandb: no report at W&B: Network error") and errors.count("\n") == 1


def test_a_saved_report_prints_its_address(
    report: build.Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    asked: list[tuple[str, str]] = []

    class Saved:
        url = "https://wandb.ai/me/aprendiz/reports/x--abc"

        def save(self) -> None:
            asked.append(("save", ""))

    def specification(_: build.Report, entity: str, project: str) -> Saved:
        asked.append((entity, project))
        return Saved()

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(publish, "specification", specification)
    assert publish.publish(report, "me/atari") == Saved.url
    assert asked == [("me", "atari"), ("save", "")] and f"W&B: {Saved.url}" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["a/b/c", "/", "a/", ""])
def test_a_project_that_is_none_is_refused(report: build.Report, wrong: str) -> None:
    with pytest.raises(ConfigError, match="--wandb-project"):
        publish.publish(report, wrong)


def test_runs_that_were_never_logged_are_no_report_at_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    run = make_run(tmp_path, wandb="disabled")
    assert publish.publish(build.build([reading.read_run(run.path)])) is None
    assert capsys.readouterr().err == "wandb: no report at W&B: none of these runs was ever logged there\n"


def test_every_session_that_was_not_uploaded_yet_is_named(tmp_path: Path) -> None:
    run = reading.read_run(make_run(tmp_path).path)
    assert run.path is not None
    for session in (1, 2, 3):
        folder = run.path / "wandb" / f"offline-run-{session}-{run.wandb_id}"
        folder.mkdir(parents=True)
        (folder / f"run-{run.wandb_id}.wandb").touch()
    (folder / f"run-{run.wandb_id}.wandb.synced").touch()
    assert [path.name[:13] for path in publish._not_uploaded(run)] == ["offline-run-1", "offline-run-2"]
