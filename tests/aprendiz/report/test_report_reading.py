from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from report_runs import make_run

from aprendiz.errors import RunError
from aprendiz.report import reading
from aprendiz.report.media import choose


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("APRENDIZ_RUNS", raising=False)


def found(*texts: str) -> list[str]:
    return [one if isinstance(one, str) else one.name for one in reading.find(texts)[0]]


def test_a_run_is_read_with_all_that_it_says_of_itself(tmp_path: Path) -> None:
    made = make_run(tmp_path, seed=4, games=[5.0, 7.0])
    run = reading.read_run(made.path)
    assert (run.kind, run.task, run.learner, run.seed, run.state) == ("agents", "cartpole", "dqn", 4, "finished")
    assert run.command_line == "python -m agents.train cartpole --seed 4" and run.unit == "env_steps"
    assert run.evaluations[0]["scores"] == [5.0, 7.0] and run.metrics.seconds == 3.0
    assert (run.units_per_second, run.memory_mb) == (50.0, 103.0)


def test_a_name_a_folder_and_a_folder_of_runs_mean_runs_each_once(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "runs"), make_run(tmp_path / "runs", seed=2)
    assert found(first.name) == found(str(first.path)) == [first.name]
    assert sorted(found("runs", first.name)) == sorted([first.name, second.name])


def test_files_and_folders_beside_runs_are_passed_over_with_a_note(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    (tmp_path / "runs" / "README.md").write_text("about runs")
    (tmp_path / "empty").mkdir()
    runs, notes = reading.find([str(run.path), "runs/README.md", "empty"])
    assert len(runs) == 1 and [note.split(":")[0] for note in notes] == [
        "passed over runs/README.md",
        "passed over empty",
    ]


def test_a_name_that_no_run_answers_to_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    with pytest.raises(RunError, match="no run 'breakuot'"):
        reading.find([run.name, "breakuot"])


def test_nothing_but_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(RunError, match=r"no run in a\.txt"):
        reading.find(["a.txt"])


@pytest.mark.parametrize(
    "text",
    [
        "me/atari/abc123",
        "wandb:me/atari/abc123",
        "https://wandb.ai/me/atari/runs/abc123",
        "https://wandb.ai/me/atari/runs/abc123/overview?nw=nwuserme",
        "https://forge.coreweave.com/wandb/me/atari/runs/abc123",
    ],
)
def test_three_parts_that_are_no_folder_are_a_run_at_wandb(text: str) -> None:
    assert found(text) == ["me/atari/abc123"]


def test_a_folder_of_that_name_comes_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "me" / "atari")
    assert found(f"me/atari/{run.name}") == [run.name]


def test_a_run_that_is_still_writing_is_read_as_far_as_it_got(tmp_path: Path) -> None:
    run = make_run(tmp_path, state="running")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 400, "time": 4.0, "eval/sc')
    (run.path / "evaluations.json").write_text('[{"mean": 1')
    (run.path / "status.json").unlink()
    found = reading.read_run(run.path)
    assert found.state == "unknown" and len(found.metrics.curves["eval/score"].value) == 3
    assert found.evaluations == [] and "evaluations.json" in found.notes[0]


def test_a_run_without_metrics_is_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, scores=[])
    (run.path / "metrics.jsonl").unlink(missing_ok=True)
    assert reading.read_run(run.path).metrics.curves == {}


def test_a_run_that_cannot_be_read_does_not_spoil_the_others(tmp_path: Path) -> None:
    good, bad = make_run(tmp_path), make_run(tmp_path, seed=2)
    (bad.path / "config.json").write_text('{"kind":')
    runs, notes = reading.read_all([good.path, bad.path])
    assert [run.name for run in runs] == [good.name] and "half-written" in notes[0]
    with pytest.raises(RunError, match="half-written"):
        reading.read_all([bad.path])


def test_several_processes_read_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [make_run(tmp_path, seed=seed, scores=[1.0] * (9 - 4 * seed)).path for seed in range(3)]
    alone = reading.read_all(paths)[0]
    monkeypatch.setattr(reading, "ALONE_BYTES", 0)
    monkeypatch.setattr(reading, "WORKER_BYTES", 1)
    together = reading.read_all(paths, workers=2)[0]
    assert [run.name for run in together] == [run.name for run in alone] == [path.name for path in paths]
    assert [run.metrics.lines for run in together] == [run.metrics.lines for run in alone] == [18, 10, 2]


def test_media_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for name in (
        "images-000000002000.png",
        "images-000000000100.png",
        "curves.png",
        "filters.png",
        "notes.bin",
        "text-000000000300.txt",
    ):
        (run.samples / name).write_bytes(b"x")
    (run.videos / "step-000000000700.mp4").write_bytes(b"x")
    (run.videos / ".step-000000000900.tmp-123.mp4").write_bytes(b"x")  # is being written
    media = reading.find_media(run.path)
    assert [(one.kind, one.step) for one in media] == [
        ("image", 100), ("text", 300), ("video", 700), ("image", 2000), ("image", None),
    ]  # fmt: skip


def test_of_many_pictures_the_first_the_last_and_some_between_are_chosen(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step in range(100, 1100, 100):
        (run.samples / f"images-{step:012d}.png").write_bytes(b"x")
    media = reading.find_media(run.path)
    assert [one.step for one in choose(media, "image", 4)] == [100, 400, 700, 1000]
    assert [one.step for one in choose(media, "image", 1)] == [1000]


def test_a_link_to_a_run_in_a_folder_of_runs_is_not_read_twice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    (tmp_path / "runs" / "newest").symlink_to(run.path)
    assert found("runs") == [run.name]


def test_config_files_of_newer_versions_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    info = json.loads((run.path / "config.json").read_text()) | {"format_version": 99}
    (run.path / "config.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="newer aprendiz"):
        reading.read_all([run.path])


def test_a_folder_that_is_called_as_a_run_does_not_hide_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    (tmp_path / "dqn").mkdir()
    assert found("dqn") == [run.name]


def test_a_link_to_a_run_that_lies_elsewhere_is_that_run(tmp_path: Path) -> None:
    here, elsewhere = make_run(tmp_path / "runs"), make_run(tmp_path / "large", seed=2)
    (tmp_path / "runs" / "a-link").symlink_to(elsewhere.path)
    (tmp_path / "runs" / "b-link").symlink_to(here.path)
    assert found("runs") == [here.name, "a-link"]


def test_a_folder_that_cannot_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "runs")
    (tmp_path / "closed").mkdir()
    iterdir = Path.iterdir

    def refuses(path: Path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuses)
    runs, notes = reading.find(["closed", str(run.path)])
    assert len(runs) == 1 and notes == ["passed over closed: Permission denied"]


def test_a_run_whose_process_is_gone_is_not_shown_as_running(tmp_path: Path) -> None:
    run = make_run(tmp_path, state="running")
    for name in ("status.json", "metrics.jsonl"):
        os.utime(run.path / name, (1e9, 1e9))
    assert reading.read_run(run.path).state == "killed"
    with run.lock():
        assert reading.read_run(run.path).state == "running"


def test_a_run_that_goes_away_meanwhile_is_passed_over(tmp_path: Path) -> None:
    kept, gone = make_run(tmp_path), make_run(tmp_path, seed=2)
    shutil.rmtree(gone.path)
    (run,), (note,) = reading.read_all([kept.path, gone.path])
    assert run.name == kept.name and note.startswith(f"passed over {gone.path}")
