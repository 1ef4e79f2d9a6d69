"""A run that is trained, followed from its folder."""

from __future__ import annotations

import os

import pytest

from aprendiz.errors import AprendizError
from aprendiz.live.__main__ import command
from aprendiz.live.streams import unpack
from aprendiz.live.training import TrainingView
from aprendiz.run import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(
        kind="generative", task="digits", learner="vae", seed=1, config={}, command=["x"], device="cpu", root=tmp_path
    )


def newest(view: TrainingView, channel: str):
    """What is newest in a channel, None where nothing is."""
    message = view.streams[channel].newest
    return None if message is None else unpack(message.packed())[0][channel]


def test_curves_grow_while_the_run_writes(run):
    view = TrainingView(run)
    view.look()
    assert newest(view, "curves") is None
    run.log(5, {"train/loss": 2.0}, seconds=1.5)
    view.look()
    assert newest(view, "curves") == {"train/loss": [[5, 1.5, 2.0]]}
    first = view.streams["curves"].newest
    view.look()
    assert view.streams["curves"].newest is first, "nothing new, nothing sent"
    run.log(6, {"train/loss": 1.0}, seconds=1.6)
    view.look()
    assert newest(view, "curves") == {"train/loss": [[5, 1.5, 2.0], [6, 1.6, 1.0]]}


def test_it_says_whether_the_run_is_trained_now_was_killed_or_has_ended(run):
    view = TrainingView(run)
    states = []
    with run.lock():
        view.look()
        states.append(newest(view, "status")["state"])
    view.look()
    states.append(newest(view, "status")["state"])
    run.set_status("finished", step=7)
    view.look()
    states.append(newest(view, "status")["state"])
    assert states == ["training", "interrupted", "finished"] and newest(view, "status")["step"] == 7


def test_the_step_that_it_is_at_is_the_last_one_however_few_points_of_long_curves_are_shown(run):
    with (run.path / "metrics.jsonl").open("w") as file:
        file.writelines(f'{{"step": {step}, "time": 0.0, "train/loss": 1.0}}\n' for step in range(2_003))
    view = TrainingView(run)
    view.look()
    assert newest(view, "status")["step"] == 2_002


def test_the_newest_video_picture_and_text_are_shown(run):
    def write(path, content, age):
        path.write_bytes(content)
        os.utime(path, (1_000_000_000 - age,) * 2)

    write(run.samples / "images-1.png", b"old", 50)
    write(run.samples / "images-2.png", b"new", 20)
    write(run.samples / "curves.png", b"curves", 1)
    write(run.samples / "text-1.txt", b"To be", 5)
    write(run.videos / "step-1.mp4", b"video", 5)
    write(run.videos / ".step-2.tmp-1.mp4", b"half", 1)
    view = TrainingView(run)
    view.look()
    media = newest(view, "media")
    assert {kind: one["name"] for kind, one in media.items()} == {
        "video": "videos/step-1.mp4",
        "picture": "samples/images-2.png",
        "text": "samples/text-1.txt",
    }
    assert media["text"]["text"] == "To be"
    files = view.files()
    assert files["samples/images-1.png"].read_bytes() == b"old" and "config.json" not in files
    write(run.samples / "images-3.png", b"newer", 0)
    view.look()
    assert newest(view, "media")["picture"]["name"] == "samples/images-3.png"


def test_damaged_evaluations_and_missing_folders_leave_the_rest_standing(run):
    (run.path / "evaluations.json").write_text("[{")
    run.log(1, {"train/loss": 1.0})
    view = TrainingView(run)
    view.look()
    assert newest(view, "status")["evaluation"] is None and newest(view, "media") == {}


def test_nobody_looks_nothing_is_read(run):
    view = TrainingView(run)
    view.start()
    run.log(1, {"train/loss": 1.0})
    view.stop()
    assert view.streams["curves"].newest is None


@pytest.mark.parametrize(("words", "expected"), [([], "which run"), (["nothing-like-it"], "no run 'nothing-like-it'")])
def test_the_command_needs_a_run(tmp_path, monkeypatch, words, expected):
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    with pytest.raises(AprendizError, match=expected) as raised:
        command(words)
    assert "\n" not in str(raised.value)
