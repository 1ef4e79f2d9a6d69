from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aprendiz import runs
from aprendiz.errors import ConfigError, RunError
from aprendiz.run import Run


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("APRENDIZ_RUNS", raising=False)


def create(
    task: str = "cartpole", learner: str = "dqn", state: str = "finished", replay: int = 1000, **more: Any
) -> Run:
    run = Run.create(kind="agents", task=task, learner=learner, seed=1, config=more, command=["x"], device="cpu")
    (run.path / "replay").mkdir()
    (run.path / "replay" / "segment").write_bytes(b"x" * replay)
    run.set_status(state, step=500)
    with run.lock():
        pass
    return run


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    runs.command(list(words))
    return capsys.readouterr().out


def test_the_list_has_state_score_age_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    run = create(replay=2_000_000)
    run.log(100, {"eval/score": 7.0}, seconds=1.0)
    run.log(200, {"eval/score": 5.0}, seconds=2.0)
    run.close()
    row = next(line for line in printed(capsys).splitlines() if line.startswith(run.name))
    assert re.fullmatch(rf"{run.name}\s+agents\s+finished\s+500\s+7\s+\d+ s\s+2\.0 MB", row)


def test_the_mean_of_the_newest_evaluation_is_the_score() -> None:
    run = create()
    run.log(100, {"eval/score": 700.0}, seconds=1.0)
    for mean in (1.0, 2.0):
        run.add_evaluation({"mean": mean})
    assert runs.look_at(run).score == 2.0


def test_a_run_in_training_has_come_as_far_as_its_metrics_say() -> None:
    run = create(state="running")
    assert runs.look_at(run).step == 500
    run.log(1_200, {"train/loss": 7.0}, seconds=1.0)
    run.close()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 2.0}\nno metrics\n{"step": 90')
    assert runs.look_at(run).step == 1_200
    (run.path / "status.json").unlink()
    (run.path / "metrics.jsonl").unlink()
    assert runs.look_at(run).step is None


def test_a_torn_line_of_metrics_is_no_score() -> None:
    run = create()
    (run.path / "metrics.jsonl").write_text('{"step": 1, "eval/score": 3.0}\n{"eval/score": "x"}\n{"eval/score": 9')
    assert runs.look_at(run).score == 3.0


def test_newest_runs_come_first_and_other_orders_can_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = create(task="a", replay=5000), create(task="b")
    info = json.loads((first.path / "config.json").read_text()) | {"created": "2020-01-01T00:00:00+00:00"}
    (first.path / "config.json").write_text(json.dumps(info))
    order = lambda *words: re.findall(r"^(a|b)-", printed(capsys, *words), re.MULTILINE)  # noqa: E731
    assert order() == ["b", "a"] and order("--sort", "size") == ["a", "b"] == order("--sort", "name")
    assert order(second.name) == ["b"]


def test_a_run_that_cannot_be_read_is_said_and_the_others_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    (create(task="a").path / "config.json").write_text("{")
    create(task="b")
    runs.command([])
    said = capsys.readouterr()
    assert "b-" in said.out and "1 run," in said.out and re.match(r"passed over a-.*half-written", said.err)


def test_no_runs_and_no_such_run_are_one_line() -> None:
    with pytest.raises(RunError, match="there is no folder runs"):
        runs.command([])
    create()
    with pytest.raises(RunError, match="no run 'pong'"):
        runs.command(["pong"])


def old(run: Run) -> None:
    """As if nothing had been written for a day."""
    for name in ("status.json", "metrics.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            os.utime(run.path / name, (time.time() - 86400,) * 2)


def test_a_run_whose_process_is_gone_was_killed() -> None:
    run = create(state="running")
    assert runs.state_of(run) == "running elsewhere"  # written just now: perhaps by another machine
    old(run)
    assert runs.state_of(run) == "killed"


TRAIN = """
import sys, time
from aprendiz.run import Run
with Run.open(sys.argv[1]).lock():
    print("on", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def trained() -> Any:
    """A run that another process trains."""
    run = create(state="running", task="busy")
    old(run)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(run.path)], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None and process.stdout.readline() == b"on\n"
    yield run
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(os.name == "nt", reason="needs flock")
def test_a_run_that_is_trained_is_running_and_never_touched(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.state_of(trained) == "running"
    trained.set_status("finished")  # whatever it says
    for what in ("replay,checkpoints,wandb", "runs"):
        assert "nothing to free" in printed(capsys, "prune", trained.name, "--what", what, "--yes")
    assert (trained.path / "replay" / "segment").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs flock")
def test_a_run_that_starts_while_one_is_asked_is_left_alone(
    trained: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "state_of", lambda run: "finished")
    assert "freed 0 B" in printed(capsys, "prune", "--yes")
    assert (trained.path / "replay" / "segment").exists()


def test_prune_asks_and_deletes_nothing_without_a_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create()
    with pytest.raises(ConfigError, match="give --yes"):
        runs.command(["prune"])
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, stays in (("", True), ("n", True), ("y", False)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: asked.append(question) or answer)
        runs.command(["prune"])
        assert (run.path / "replay").exists() is stays
    assert asked[0] == "delete these 1.0 kB? [y/N] "


def test_prune_takes_replay_memories_and_spare_checkpoints_and_leaves_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = create()
    for step in (100, 200, 300, 400):
        run.save(step, {"x": step}, best=step == 200, keep=step == 100)
    run.add_evaluation({"mean": 1.0})
    text = printed(capsys, "prune", "--yes")
    assert "replay, 1 checkpoint" in text and "freed" in text
    assert run.steps() == [100, 200, 400] and not (run.path / "replay").exists()
    assert run.load("last")["x"] == 400 and run.load("best")["x"] == 200 and run.evaluations()
    assert list(run.path.glob("*pruned*")) == []


def test_whole_runs_go_only_by_name_age_or_state(capsys: pytest.CaptureFixture[str]) -> None:
    kept, killed = create(), create(state="running", task="b")
    old(killed)
    with pytest.raises(ConfigError, match="--what runs deletes everything"):
        runs.command(["prune", "--what", "runs", "--yes"])
    printed(capsys, "prune", "--what", "runs", "--state", "killed", "--yes")
    assert kept.path.exists() and not killed.path.exists()
    assert "nothing to free" in printed(capsys, "prune", "--what", "runs", "--older-than", "1", "--yes")
    printed(capsys, "prune", kept.name, "--what", "runs", "--yes")
    assert list(Path("runs").iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    run = create()
    (run.path / "replay" / "link").symlink_to(outside)
    printed(capsys, "prune", "--yes")
    assert (outside / "precious").exists() and not (run.path / "replay").exists()


@pytest.mark.parametrize(
    "words",
    [["--what", "all"], ["--what", ""], ["--older-than", "-1"], ["--older-than", "nan"], ["--state", "dead"]],
)
def test_a_wrong_word_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=words[0]):
        runs.command(["prune", *words])


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (7_100_000_000, "7.1 GB")]
)
def test_sizes_are_told_in_a_unit_that_suits_them(count: int, text: str) -> None:
    assert runs.size(count) == text


def link_to(run: Run, target: Path, name: str) -> Path:
    """Moves a folder of a run elsewhere, and leaves a link."""
    (run.path / name).rename(target / name)
    (run.path / name).symlink_to(target / name)
    return target / name


def test_what_a_link_leads_to_is_never_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, elsewhere = create(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for step in (100, 200):
        run.save(step, {"x": step})
    moved = [link_to(run, elsewhere, name) for name in ("replay", "checkpoints")]
    assert "nothing to free" in printed(capsys, "prune", "--yes")
    assert all(any(folder.iterdir()) for folder in moved) and (run.path / "replay").is_symlink()


def test_a_link_to_a_run_is_the_run_where_it_is_here_and_else_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create()
    (run.path.parent / "a-link").symlink_to(run.path.resolve())
    assert "1 run," in printed(capsys) and run.name in printed(capsys)
    outside = tmp_path / "outside"
    run.path.rename(outside)
    (run.path.parent / "a-link").unlink()
    run.path.symlink_to(outside)
    for words in (["--what", "replay"], [run.name, "--what", "runs"]):
        runs.command(["prune", *words, "--yes"])
        said = capsys.readouterr()
        assert "nothing to free" in said.out and "is a link, and left alone" in said.err
    assert (outside / "replay" / "segment").exists() and run.path.is_symlink()


@pytest.mark.parametrize("name", ["last.json", "best.json", "kept.json"])
def test_checkpoints_stay_where_nobody_can_read_which_are_needed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = create()
    for step in (100, 200, 300):
        run.save(step, {"x": step}, keep=step == 100)
    assert run.spare_steps() == [200]
    (run.path / "checkpoints" / name).write_text("{")
    assert "checkpoint" not in printed(capsys, "prune", "--yes") and run.steps() == [100, 200, 300]


def test_what_became_needed_while_the_question_stood_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create()
    for step in (100, 200, 300):
        run.save(step, {"x": step}, keep=step == 100)

    def answer(question: str) -> str:
        run.go_back_to(200, None)
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    runs.command(["prune", "--what", "checkpoints"])
    assert run.steps() == [100, 200] and run.load("last")["x"] == 200


def test_a_run_that_starts_on_another_machine_while_the_question_stands_is_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: run.set_status("running") or "y")
    runs.command(["prune"])
    assert "freed 0 B" in capsys.readouterr().out and (run.path / "replay" / "segment").exists()


def test_where_nobody_answers_nothing_is_deleted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create()

    def closed(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", closed)
    assert "nothing was deleted" in printed(capsys, "prune")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError, match="give --yes"):
        runs.command(["prune"])
    assert (run.path / "replay").exists()


def test_evaluations_that_are_none_are_no_score() -> None:
    run = create()
    (run.path / "evaluations.json").write_text('[{"mean": 2.0}, 5, null, {"mean": null}]')
    assert runs.look_at(run).score == 2.0


def test_a_folder_without_runs_is_one_line() -> None:
    Path("runs").mkdir()
    with pytest.raises(RunError, match="there is no run in runs"):
        runs.command([])
    runs.command(["prune"])


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = create()
    run.path.rename(run.path.parent / "[bold]x[red] :smile:")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert "[bold]x[red] :smile:" in printed(capsys)
