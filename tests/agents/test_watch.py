"""`python -m agents.watch`: the agent sees there what it saw in training, and the video is one that browsers play."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import envs
from agents.core import Agent, Purpose
from agents.evaluate import evaluate
from agents.picture import Painter, action_names
from agents.play import game_seeds
from agents.saved import load_saved
from agents.video import Moment, moments, record_video, write_mp4
from agents.watch import command
from aprendiz.errors import AprendizError, ConfigError, StorageError
from tests.agents.saved_runs import make_run

SHORT = {"breakout": {"time_limit_steps": 40}, "cartpole": {}, "frozen-lake": {}}


class Scripted(Agent):
    """Plays a fixed sequence of actions and keeps every observation that it is given."""

    def __init__(self, actions: int) -> None:
        self.actions = actions
        self.generator = np.random.default_rng(0)
        self.seen: list[np.ndarray] = []
        self.inspected = 0

    def act(self, observations, explore, generator):
        self.seen.append(observations[0].copy())
        return self.generator.integers(self.actions, size=len(observations))

    def inspect(self, observations):
        self.inspected += 1
        return {"q_values": np.linspace(-1, 1, self.actions, dtype=np.float32)[None]}


def game(name: str):
    if name == "breakout":
        pytest.importorskip("ale_py")
    return lambda num_envs, *, render=False: envs.make(name, num_envs, render=render, **SHORT[name])


def play(name: str, seeds=(11,), max_steps=60) -> tuple[Scripted, list[Moment]]:
    env = game(name)(1, render=True)
    agent = Scripted(env.spec.num_actions)
    found = list(moments(agent, env, list(seeds), explore=0.2, max_steps=max_steps))
    env.close()
    return agent, found


@pytest.mark.parametrize("name", SHORT)
def test_what_the_agent_sees_equals_what_it_sees_in_training_byte_for_byte(name):
    agent, found = play(name)
    actions = [moment.action for moment in found if not moment.ended]
    training = game(name)(3)  # several games at once, without pictures, as in training
    observation = training.reset([5, 11, 7])
    for moment, action in zip(found, actions, strict=False):
        assert moment.observation.dtype == observation.dtype
        assert moment.observation.tobytes() == observation[1].tobytes()
        step = training.step(np.array([0, action, 0]))
        observation = step.observation
    if found[-1].ended:
        assert found[-1].observation.tobytes() == step.final_observation[1].tobytes()
    asked = [moment.observation for moment in found if moment.why == "greedy" and not moment.ended]
    assert [one.tobytes() for one in asked] == [one.tobytes() for one in agent.seen]
    training.close()


def test_the_colour_picture_shows_the_moment_that_the_agent_sees():
    _, found = play("breakout")
    for moment in found:
        grey = np.asarray(Image.fromarray(moment.picture).convert("L").resize((84, 84), Image.Resampling.BOX), int)
        # Below the bricks are ball and paddle alone, brighter than 100; another moment has them elsewhere.
        if not moment.ended:
            assert np.abs(grey - moment.observation[-1])[40:, 8:76].max() < 60


def test_the_game_that_is_watched_is_the_first_one_that_is_evaluated(tmp_path):
    saved = load_saved(make_run(tmp_path, "frozen-lake", "q-learning"))
    reported = evaluate(saved, episodes=4, seed=3, explore=0.3)
    env = saved.make_env(1, render=True)
    watched = list(moments(saved.agent, env, game_seeds(3, 4, Purpose.EVALUATION), explore=0.3))
    ends = [moment for moment in watched if moment.ended]
    assert [moment.score for moment in ends] == reported["scores"]
    assert [moment.step for moment in ends] == reported["lengths"]


def test_scores_and_steps_count_up_and_games_are_left_off():
    _, found = play("cartpole", seeds=(1, 2), max_steps=5)
    assert [(moment.game, moment.step, moment.score) for moment in found] == [
        (game, step, float(step)) for game in (0, 1) for step in range(5)
    ]


def test_forced_and_random_actions_are_told_apart(tmp_path):
    _, found = play("cartpole", seeds=range(6), max_steps=None)
    assert {moment.why for moment in found} == {"greedy", "random"}


def probe(path: Path) -> str:
    import imageio_ffmpeg

    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True, check=False
    ).stderr


def frames(path: Path) -> np.ndarray:
    """uint8 [T, H, W, 3]."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.mark.parametrize("name", SHORT)
def test_videos_play_in_browsers_have_a_picture_a_decision_and_are_not_black(name, tmp_path):
    env = game(name)(1, render=True)
    agent = Scripted(env.spec.num_actions)
    path = record_video(agent, game(name), tmp_path / "out.mp4", seed=1, explore=0.0, max_steps=30, title="a title")
    shown = probe(path)
    assert "Video: h264" in shown and re.search(r"yuv420p[ ,(]", shown) and "yuvj" not in shown
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first, so that it plays while it loads"
    rate = {"breakout": 15, "cartpole": 30, "frozen-lake": 4}[name]
    assert f" {rate} fps" in shown
    pictures = frames(path)
    one_second = rate if agent.inspected < 30 else 0  # of the end of the game, where there is one
    assert len(pictures) == agent.inspected + one_second
    assert pictures[0].shape[0] % 2 == 0 and pictures[0].shape[1] % 2 == 0
    game_part = pictures[:, 18:-18, 18:300]
    assert game_part.mean() > 20 and (pictures[0].astype(int) != pictures[-1]).any()
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_that_fails_leaves_nothing_behind_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")

    def pictures():
        yield np.zeros((64, 64, 3), np.uint8), 1
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_mp4(path, pictures(), 15)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_video_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_mp4(tmp_path / "file" / "out.mp4", iter([(np.zeros((64, 64, 3), np.uint8), 1)]), 15)


def test_an_encoder_that_fails_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text("#!/bin/sh\nexec 1>&2\ncat >/dev/null\necho No space left on device\nexit 228\n")
    encoder.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(encoder))
    with pytest.raises(StorageError, match="No space left on device; make room") as raised:
        write_mp4(tmp_path / "videos" / "out.mp4", iter([(np.zeros((64, 64, 3), np.uint8), 1)]), 15)
    assert "\n" not in str(raised.value) and not list((tmp_path / "videos").iterdir())


def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")


def test_without_a_display_it_writes_a_video_into_the_run_and_prints_its_path(tmp_path, monkeypatch, capsys):
    no_display(monkeypatch)
    run = make_run(tmp_path, "cartpole", "dqn", steps=(100, 200), best=100)
    command([str(run.path), "--max-steps", "5", "--device", "cpu"])
    path = Path(capsys.readouterr().out.strip())
    assert path == run.path / "videos" / "best-step-000000000100-seed-1000.mp4" and "h264" in probe(path)


def test_video_is_written_where_it_was_asked_for_display_or_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":0")
    run = make_run(tmp_path, "gridworld", "q-learning")
    command([str(run.path), "--video", str(tmp_path / "new" / "out.mp4"), "--max-steps", "5", "--fps", "10"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "out.mp4")
    assert " 10 fps" in probe(tmp_path / "new" / "out.mp4")


@pytest.fixture
def window(monkeypatch):
    """A window that nobody sees."""
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.quit()  # what another test has opened keeps its driver
    return pygame


def test_with_a_display_it_plays_in_a_window(tmp_path, window, monkeypatch, capsys):
    flips: list[np.ndarray] = []
    flip = window.display.flip

    def note():
        flips.append(window.surfarray.array3d(window.display.get_surface()))
        flip()

    monkeypatch.setattr(window.display, "flip", note)
    run = make_run(tmp_path, "gridworld", "q-learning", time_limit_steps=6)
    command([str(run.path), "--fps", "1000", "--episodes", "2"])
    printed = capsys.readouterr().out
    assert "game 1: score" in printed and "game 2: score" in printed
    assert 4 <= len(flips) <= 14 and flips[0].std() > 20
    assert not (run.path / "videos").exists()


@pytest.mark.parametrize("key", ["q", "escape", "close"])
def test_q_escape_and_closing_end_it(tmp_path, window, monkeypatch, capsys, key):
    event = window.event.Event(window.QUIT)
    if key != "close":
        event = window.event.Event(window.KEYDOWN, key=window.K_q if key == "q" else window.K_ESCAPE)
    monkeypatch.setattr(window.event, "get", lambda: [event])
    run = make_run(tmp_path, "gridworld", "q-learning")
    command([str(run.path), "--fps", "1000"])
    assert capsys.readouterr().out == ""


def test_a_display_that_cannot_be_reached_gives_a_video(tmp_path, window, monkeypatch, capsys):
    def fail():
        raise window.error("no such display")

    monkeypatch.setattr(window.display, "init", fail)
    run = make_run(tmp_path, "gridworld", "q-learning")
    command([str(run.path), "--max-steps", "3"])
    printed = capsys.readouterr()
    assert "no window (no such display)" in printed.err and Path(printed.out.strip()).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--video", "out.avi"], "end in .mp4"),
        (["--episodes", "0"], "episodes must be at least 1"),
        (["--max-steps", "-4"], "max_steps must be at least 1"),
        (["--fps", "0"], "fps must be above 0"),
        (["--video", "out.mp4", "--fps", "1000"], "at most 60"),
        (["--explore", "7"], "explore is a probability"),
        (["--checkpoint", "5"], "no checkpoint at step 5"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, arguments, words):
    run = make_run(tmp_path, "gridworld", "q-learning")
    with pytest.raises(AprendizError, match=words) as raised:
        command([str(run.path), *arguments])
    assert "\n" not in str(raised.value)


def test_actions_have_the_names_that_people_use():
    pytest.importorskip("ale_py")
    assert action_names(envs.make("cartpole", 1).spec) == ["left", "right"]
    assert action_names(envs.make("frozen-lake", 1, map_name="8x8").spec) == ["left", "down", "right", "up"]
    assert action_names(envs.make("breakout", 1).spec) == ["noop", "fire", "right", "left"]
    assert "up-right fire" in action_names(envs.make("seaquest", 1).spec)
    assert action_names(envs.make("gym:CliffWalking-v1", 1).spec) == ["up", "right", "down", "left"]


@pytest.mark.parametrize("name", ["gym:Blackjack-v1", "mountain-car", "acrobot", "taxi", "cliff-walking"])
def test_every_kind_of_environment_gives_pictures_of_one_even_size(name):
    env = envs.make(name, 1, render=True)
    agent, painter = Scripted(env.spec.num_actions), Painter(env.spec, "title")
    found = [painter.paint(one) for one in moments(agent, env, [1, 2], explore=0.5, max_steps=4)]
    assert len({picture.shape for picture in found}) == 1 and found[0].dtype == np.uint8
    assert found[0].shape[0] % 2 == 0 and found[0].shape[1] % 2 == 0
    env.close()


@pytest.mark.parametrize("q_values", [None, np.array([np.nan, np.inf], np.float32), np.zeros(2, np.float32)])
def test_values_that_are_missing_or_not_finite_are_drawn_all_the_same(q_values):
    spec = envs.make("cartpole", 1).spec
    moment = Moment(np.zeros((40, 60, 3), np.uint8), np.zeros(4, np.float32), q_values, 1, "greedy", 0.0, 0, 0)
    assert Painter(spec).paint(moment).shape[2] == 3


def test_an_agent_that_reads_one_frame_is_shown_reading_one():
    pytest.importorskip("ale_py")
    spec = envs.make("breakout", 1).spec
    stack = np.repeat(np.array([10, 20, 30, 251], np.uint8), 84 * 84).reshape(4, 84, 84)
    moment = Moment(np.zeros((210, 160, 3), np.uint8), stack, np.zeros(4, np.float32), 1, "greedy", 0.0, 0, 0)
    of_four, of_one = (Painter(spec, frames=frames).paint(moment) for frames in (None, 1))
    grey = [(np.all(of_four == level, axis=2).sum(), np.all(of_one == level, axis=2).sum()) for level in (10, 30, 251)]
    assert all(four >= 82 * 82 and one == 0 for four, one in grey[:2])
    assert grey[2][1] > 3 * grey[2][0]  # larger, where there is room


def test_a_folder_is_no_video(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(ConfigError, match="must be that of a file"):
        record_video(Scripted(2), game("cartpole"), tmp_path / "a.mp4")
