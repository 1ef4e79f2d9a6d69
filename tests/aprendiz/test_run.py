from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import checkpoint
from aprendiz.errors import CheckpointError, RunError, StorageError
from aprendiz.run import Run


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("APRENDIZ_RUNS", raising=False)


def create(task: str = "breakout", learner: str = "dqn", kind: str = "agents", **changes: Any) -> Run:
    given: dict[str, Any] = {"seed": 3, "config": {"steps": 10, "agent": {"learning_rate": 1e-4}}}
    given |= {"command": ["agents.train", task], "device": "cpu"} | changes
    return Run.create(kind=kind, task=task, learner=learner, **given)


def test_a_new_run_has_a_folder_that_says_everything(tmp_path: Path) -> None:
    run = create()
    assert re.fullmatch(r"breakout-dqn-s3-\d{8}-\d{6}-[a-z]{4}", run.name)
    assert run.path.resolve() == tmp_path / "runs" / run.name
    info = json.loads((run.path / "config.json").read_text())
    assert info["config"] == {"steps": 10, "agent": {"learning_rate": 1e-4}} == run.config
    assert (info["kind"], info["task"], info["learner"], info["seed"]) == ("agents", "breakout", "dqn", 3)
    assert set(info["versions"]) == {"aprendiz", "torch", "numpy", "gymnasium", "ale-py", "wandb"}
    assert info["versions"]["torch"] == importlib.metadata.version("torch")
    assert re.fullmatch("[a-z0-9]{8}", info["wandb_id"])
    assert run.status()["state"] == "running"


def test_names_are_made_safe_for_a_folder() -> None:
    run = create("gym:ALE/Pong-v5", "my.package:Agent")
    assert run.name.startswith("gym-ALE-Pong-v5-my.package-Agent-s3-")
    assert Run.open("gym:ALE/Pong-v5").name == run.name


def test_the_environment_variable_moves_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "elsewhere"))
    run = create()
    assert run.path.parent == tmp_path / "elsewhere"
    assert Run.open(run.name).path == run.path


def test_open_finds_by_folder_name_task_learner_and_latest() -> None:
    first, pong, newest = create(), create("pong", "double_dqn"), create(seed=4)
    assert Run.open(first.path).name == Run.open(str(first.path)).name == Run.open(first.name).name == first.name
    assert Run.open(f"{first.path}/").config == first.config
    assert Run.open("breakout").name == Run.open("dqn").name == Run.open("Breakout-DQN").name == newest.name
    assert Run.open("double-dqn").name == Run.open("pong").name == pong.name
    assert Run.open("latest").name == newest.name


def test_open_counts_only_runs_of_the_commands_kind() -> None:
    agent, model = create("digits", "dqn"), create("digits", "dcgan", kind="generative")
    assert Run.open("latest", "agents").name == Run.open("digits", "agents").name == agent.name
    assert Run.open("digits").name == model.name
    for text in (model.name, str(model.path), "dcgan"):
        with pytest.raises(
            RunError, match=r"digits-dcgan-\S* is a run of generative; use python -m generative.evaluate"
        ):
            Run.open(text, "agents")


def test_errors_of_open_say_what_to_do() -> None:
    with pytest.raises(RunError, match=r"there is no run at all in runs; start one with python -m agents.train"):
        Run.open("latest", "agents")
    names = [create(seed=seed).name for seed in range(7)]
    with pytest.raises(RunError, match=r"there is no run 'pong' in runs; the newest: (\S+, ){4}\S+$") as caught:
        Run.open("pong")
    assert names[-1] in str(caught.value) and names[0] not in str(caught.value)
    with pytest.raises(RunError, match="runs is no run's folder: it has no config.json"):
        Run.open("runs")
    Path("empty").mkdir()
    with pytest.raises(RunError, match="empty is no run's folder: it is empty"):
        Run.open("empty")


def test_a_damaged_config_is_one_line() -> None:
    run = create()
    path = run.path / "config.json"
    whole = path.read_text()
    for text, message in (
        (whole[:50], "config.json is half-written or no JSON"),
        ("[]", "config.json is half-written or no JSON"),
        ('{"format_version": 1}', "lacks config, created, kind, "),
        (
            json.dumps(json.loads(whole) | {"format_version": 9}),
            "a newer aprendiz: format 9, this one reads up to 1; up",
        ),
    ):
        path.write_text(text)
        for name in (run.name, str(run.path)):
            with pytest.raises(RunError, match=message):
                Run.open(name)
    create()
    assert Run.open("breakout").name != run.name  # the damaged one hides no other


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("config", [1], "a JSON object"),
        ("seed", "3", "a whole number"),
        ("seed", True, "a whole number"),
        ("format_version", "1", "a whole number"),
        ("task", None, "text"),
        ("wandb_id", 7, "text"),
    ],
)
def test_a_config_of_other_types_is_one_line(field: str, value: Any, wanted: str) -> None:
    run = create()
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(RunError, match=f"config.json: {field} is .*, and must be {wanted}; put back a copy"):
        Run.open(run.path)


def test_status() -> None:
    run = create()
    run.set_status("stopped", step=7, score=math.nan)
    assert Run.open(run.name).status() | {"time": ""} == {"state": "stopped", "step": 7, "score": None, "time": ""}
    (run.path / "status.json").write_text("{")
    assert run.status() == {"state": "unknown"}


def test_metrics_are_flushed_line_by_line() -> None:
    run = create()
    run.log(10, {"train/loss": torch.tensor(0.5), "train/count": np.int64(3), "note": "x"}, seconds=1.5)
    run.log(20, {"train/loss": math.nan, "eval/score": -math.inf})
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {"step": 10, "time": 1.5, "train/loss": 0.5, "train/count": 3, "note": "x"}
    assert lines[1] | {"time": 0} == {"step": 20, "time": 0, "train/loss": None, "eval/score": None}
    assert 1.5 <= lines[1]["time"] < 60  # measured onwards from the last time given
    assert run.metrics() == lines


def test_time_goes_on_in_the_next_session() -> None:
    create().log(10, {}, seconds=100.0)
    run = Run.open("latest")
    run.log(20, {})
    assert 100 <= run.metrics()[1]["time"] < 160


@pytest.mark.parametrize("torn", [b'{"step": 30, "ti', b"x" * 200_000, b"{"])
def test_a_torn_last_line_is_ignored_and_cut_when_appending(torn: bytes) -> None:
    run = create()
    for step in (10, 20):
        run.log(step, {"loss": 1}, seconds=step)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    again = Run.open(run.name)
    assert [line["step"] for line in again.metrics()] == [10, 20]
    again.log(40, {"loss": 1}, seconds=40)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 40]


def test_metrics_are_cut_back_to_the_checkpoint() -> None:
    run = create()
    run.truncate_metrics(5)
    for step in (10, 20, 20, 30):
        run.log(step, {"loss": float(step)}, seconds=step)
    run.truncate_metrics(20)
    run.log(25, {}, seconds=None)
    assert [line["step"] for line in run.metrics()] == [10, 20, 20, 25]
    assert 20 <= run.metrics()[-1]["time"] < 30
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "metrics.jsonl", "status.json"]


def test_last_best_before_and_kept_checkpoints_stay() -> None:
    run = create()
    for step, options in ((1, {"keep": True}), (2, {}), (3, {"best": True}), (4, {}), (5, {}), (6, {})):
        run.save(step, {"step": step, "weights": torch.full((2,), float(step))}, **options)
    assert run.steps() == [1, 3, 5, 6]
    run = Run.open(run.name)
    assert run.load()["step"] == 6 and run.load("best")["step"] == 3 and run.load(5)["step"] == 5
    assert run.load("5")["step"] == 5
    assert run.checkpoint("last").name == "step-000000000006"
    assert torch.equal(run.load(1)["weights"], torch.ones(2))


def test_saving_a_step_again_keeps_the_one_before() -> None:
    run = create()
    for step in (1, 2, 2, 2):
        run.save(step, {"step": step})
    assert run.steps() == [1, 2]


def test_what_killed_saves_left_behind_goes() -> None:
    run = create()
    run.save(10, {"step": 10}, best=True)
    folder = run.path / "checkpoints"
    for name in ("step-000000000005.old-1", "step-000000000005.tmp-1", "step-000000000010.old-1"):
        (folder / name).mkdir()
    run.save(20, {"step": 20})
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-000000000010", "step-000000000020"]


def test_the_only_copy_of_the_best_checkpoint_is_no_leftover() -> None:
    run = create()
    run.save(10, {"step": 10}, best=True)
    folder = run.checkpoint("best")
    folder.rename(folder.with_name(f"{folder.name}.old-1"))
    run.save(20, {"step": 20})
    assert run.load("best") == {"step": 10}


def make_five() -> Run:
    run = create()
    for step in (1, 2, 3, 4, 5):
        run.save(step, {"step": step}, keep=step != 2, best=step in (1, 4))
    return run


def test_going_back_makes_an_older_checkpoint_the_last_one() -> None:
    run = make_five()
    run.go_back_to(3, 1)
    assert run.steps() == [1, 3] and run.load("last")["step"] == 3 and run.load("best")["step"] == 1
    run.save(6, {"step": 6})
    assert run.steps() == [1, 3, 6]
    run.save(7, {"step": 7})
    assert run.steps() == [1, 3, 6, 7]


@pytest.mark.parametrize("best", [None, 2, 4])
def test_going_back_without_a_best_checkpoint_that_is_still_there_leaves_none(best: int | None) -> None:
    run = make_five()
    run.go_back_to(3, best)
    assert run.best_step() is None
    with pytest.raises(RunError, match="has no best checkpoint"):
        run.load("best")


def test_going_back_to_what_is_not_there_changes_nothing() -> None:
    run = make_five()
    with pytest.raises(RunError, match="has no checkpoint at step 2; there are 1, 3, 4, 5"):
        run.go_back_to(2, None)
    assert run.steps() == [1, 3, 4, 5] and run.best_step() == 4 and run.load()["step"] == 5


@pytest.mark.parametrize("calls", range(9))
def test_going_back_can_be_cut_off_anywhere(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    class Killed(BaseException):
        pass

    run, left = make_five(), [calls]

    def counted(function: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*given, **more)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(checkpoint, "write_json", counted(checkpoint.write_json))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        for name in ("rename", "unlink"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        run.go_back_to(3, 1)
    again = Run.open(run.path)
    assert again.load("last")["step"] in (3, 5)
    assert again.load("best")["step"] == (1 if calls else 4)
    for step in again.steps():
        assert again.load(step)["step"] == step
    again.go_back_to(3, 1)
    again.save(4, {"step": 4})
    assert again.steps() == [1, 3, 4] and not list((run.path / "checkpoints").glob("*.tmp-*"))


def test_missing_checkpoints_are_named() -> None:
    run = create()
    with pytest.raises(RunError, match="has no checkpoint yet"):
        run.load()
    run.save(10, {})
    run.save(20, {})
    with pytest.raises(RunError, match="has no checkpoint at step 15; there are 10, 20"):
        run.load(15)
    with pytest.raises(RunError, match="has no best checkpoint; use last, or a step: there are 10, 20"):
        run.load("best")
    with pytest.raises(RunError, match="checkpoint 'first' of run .*: name last, best or a step; there are 10, 20"):
        run.checkpoint("first")


def test_a_damaged_last_checkpoint_names_the_older_one() -> None:
    run = create()
    for step in (10, 20):
        run.save(step, {"weights": torch.zeros(10)})
    path = run.checkpoint() / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for method in (run.checkpoint, run.load):
        with pytest.raises(CheckpointError, match="is truncated .*; the one at step 10 is whole: --checkpoint 10$"):
            method("last")
    (run.path / "checkpoints" / "step-000000000010" / "state.json").write_text("")
    with pytest.raises(CheckpointError, match="no other checkpoint of this run is whole"):
        run.load("last")


def test_lost_or_damaged_pointers_fall_back_to_the_highest_step() -> None:
    run = create()
    for step in (10, 20):
        run.save(step, {"step": step})
    (run.path / "checkpoints" / "last.json").write_text('{"st')
    assert run.load()["step"] == 20


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint() -> None:
    code = """
import torch
from aprendiz.run import Run
run = Run.create(kind="agents", task="t", learner="l", seed=0, config={}, command=[], device="cpu")
step = 0
while True:
    step += 1
    run.log(step, {"loss": 1.0})
    run.save(step, {"step": step, "weights": torch.full((20_000,), float(step))}, best=step % 3 == 0)
    print(step, flush=True)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    rng = np.random.default_rng(0)
    for _ in range(3):
        process.stdout.readline()
    time.sleep(float(rng.uniform(0.0, 0.2)))
    process.send_signal(signal.SIGKILL)
    saved = [int(line) for line in process.stdout.read().splitlines()]
    process.wait(timeout=30)
    run = Run.open("latest")
    state = run.load("last")
    assert state["step"] >= max([3, *saved]) and bool((state["weights"] == state["step"]).all())
    run.load("best")
    assert [line["step"] for line in run.metrics()] == list(range(1, len(run.metrics()) + 1))
    run.save(10_000, {"step": 10_000})
    assert not list((run.path / "checkpoints").glob("*.tmp-*"))


def test_what_a_killed_process_left_half_written_goes_with_the_next_checkpoint() -> None:
    run = create()
    run.save(1, {"step": 1})
    left = [run.path / "checkpoints" / name for name in ("last.json.tmp-1", "best.json.tmp-1", "kept.json.tmp-1")]
    left.append(run.path / "status.json.tmp-1")
    for half in left:
        half.write_text("{")
    run.save(2, {"step": 2})
    assert not any(half.exists() for half in left)
    assert run.load("last")["step"] == 2


def test_evaluations_are_appended_by_several_at_once() -> None:
    run = create()
    assert run.evaluations() == []

    def add(number: int) -> None:
        Run.open(run.name).add_evaluation({"step": number, "scores": np.array([1.0, np.nan]), "mean": np.float64(2)})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    evaluations = run.evaluations()
    assert sorted(one["step"] for one in evaluations) == list(range(8))
    assert evaluations[0]["scores"] == [1.0, None] and evaluations[0]["mean"] == 2.0
    (run.path / "evaluations.json").write_text("[{")
    with pytest.raises(RunError, match="is no JSON list"):
        run.add_evaluation({})


@pytest.mark.parametrize("name", ["checkpoints", "videos", "samples"])
def test_a_folder_that_cannot_be_made_is_a_storage_error(name: str) -> None:
    run = create()
    (run.path / name).write_text("a file is in the way, as a read-only folder would be")
    make = {"checkpoints": lambda: run.save(1, {}), "videos": lambda: run.videos, "samples": lambda: run.samples}
    with pytest.raises(StorageError, match=f"cannot make .*{name}: "):
        make[name]()


def test_a_folder_that_is_gone_is_a_storage_error() -> None:
    run = create()
    shutil.rmtree(run.path)
    run.path.write_text("")  # now a temporary file can be neither written nor deleted
    with pytest.raises(StorageError, match="cannot write .*status.json"):
        run.set_status("running")
    with pytest.raises(StorageError, match="cannot lock .*training.lock"), run.lock():
        pass


@pytest.mark.skipif(os.name == "nt", reason="locks of Unix")
def test_one_process_trains_a_run_at_a_time() -> None:
    run = create()
    code = f"from aprendiz.run import Run\nwith Run.open({str(run.path.resolve())!r}).lock(): print('held')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    with run.lock():
        assert f"RunError: run {run.name} is being trained by another process" in other().stderr
        with pytest.raises(RunError, match="is being trained by another process"), Run.open(run.path).lock():
            pass
        run.add_evaluation({"mean": 1.0})  # while it is trained it can be evaluated
    assert other().stdout == "held\n"


def test_folders_of_pictures_are_made_when_asked_for() -> None:
    run = create()
    assert run.videos.is_dir() and run.samples.is_dir()
