"""A game on the live page: what is played, what is published of it, and what viewers change."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.core import Purpose
from agents.live import GameOptions, GameView
from agents.play import game_seeds
from agents.saved import load_saved, make_env_of
from agents.video import moments
from agents.watch import command
from aprendiz.errors import AprendizError, RunError
from aprendiz.live.streams import unpack
from aprendiz.run import Run
from tests.agents.saved_runs import make_run
from tests.aprendiz.live.serving import eventually


class Watching:
    """A viewer of a game without a page: pauses it, then steps through it."""

    def __init__(self, run: Run, **options: Any) -> None:
        self.view = GameView(run, GameOptions(pace=1_000.0, device="cpu", **options))
        self.view.start()
        self.ask("pause", True)
        self.view.viewers_changed(1)
        self.now()

    def ask(self, what: str, value: Any = None, viewer: int = 1) -> None:
        self.view.control(viewer, {"do": what, "value": value})

    def content(self, channel: str = "moment") -> tuple[dict[str, Any], list[bytes]]:
        message = eventually(lambda: self.view.streams[channel].newest)
        words, blobs = unpack(message.packed())
        return words, list(blobs)

    def now(self) -> dict[str, Any]:
        return self.content()[0]

    def step(self) -> dict[str, Any]:
        """The words of the next moment."""

        def place() -> tuple[Any, ...]:
            words = self.now()
            return words["decision"], words["game"], words["ended"]

        before = place()
        self.ask("step")
        eventually(lambda: place() != before)
        return self.now()

    def again(self, what: str, value: Any = None) -> tuple[dict[str, Any], list[bytes]]:
        """The moment as it is published anew after a request."""
        time.sleep(0.1)  # what was asked for before is done
        before = self.view.streams["moment"].newest
        self.ask(what, value)
        eventually(lambda: self.view.streams["moment"].newest is not before)
        return self.content()

    def stop(self) -> None:
        self.view.stop()


@pytest.fixture
def watch(tmp_path) -> Iterator[Any]:
    """Makes a run and watches it."""
    open_ones: list[Watching] = []

    def make(task: str, learner: str, *, explore: float = 0.3, seed: int = 7, **options: Any) -> Watching:
        made = Watching(make_run(tmp_path, task, learner, **options), explore=explore, seed=seed)
        open_ones.append(made)
        return made

    yield make
    for one in open_ones:
        one.stop()


def test_the_games_on_the_page_are_those_that_are_evaluated(watch, tmp_path):
    watched = watch("frozen-lake", "q-learning")
    saved = load_saved(watched.view.run)
    env = saved.make_env(1, render=True)
    expected = moments(saved.agent, env, game_seeds(7, 3, Purpose.EVALUATION), explore=0.3)
    words = watched.now()
    for moment in expected:
        assert words["state"] == int(moment.observation) and words["score"] == moment.score
        assert (words["action"], words["why"]) == (moment.action, moment.why)
        assert (words["game"], words["step"], words["ended"]) == (moment.game, moment.step, moment.ended)
        words = watched.step()
    env.close()


def test_what_is_sent_is_what_the_agent_sees_and_thinks_pixel_by_pixel(watch):
    pytest.importorskip("ale_py")
    watched = watch("breakout", "dqn", explore=0.0)
    saved = load_saved(watched.view.run)
    env = saved.make_env(1, render=True)
    played = moments(saved.agent, env, game_seeds(7, 1, Purpose.EVALUATION), explore=0.0, max_steps=6)
    for moment in played:
        words, (picture, frames) = watched.content()
        assert (np.asarray(Image.open(io.BytesIO(picture))) == moment.picture).all()
        assert (np.asarray(Image.open(io.BytesIO(frames))) == np.concatenate(list(moment.observation), axis=1)).all()
        assert words["q"] == pytest.approx(moment.q_values.tolist(), rel=1e-4) and words["lives"] == 5
        assert words["value"] == pytest.approx(float(moment.q_values.max()), rel=1e-4)
        watched.step()
    env.close()


def test_tabular_agents_show_their_table_on_the_map(watch):
    watched = watch("frozen-lake", "q-learning")
    table = watched.content("table")[0]["table"]
    assert np.shape(table["panels"][0]["states"]) == (4, 4) and table["panels"][0]["marks"]["15"] == "G"
    q = load_saved(watched.view.run).agent.q
    assert table["values"] == pytest.approx(q.max(axis=1).tolist(), rel=1e-5)
    assert table["best"][0] == "←↓→↑"[q[0].argmax()]


@pytest.mark.parametrize("learner", ["c51", "qr-dqn", "iqn"])
def test_distributions_are_sent_as_histograms_around_their_means(watch, learner):
    watched = watch("cartpole", learner)
    words = watched.step()
    shown, mass = words["histogram"], np.array(words["histogram"]["mass"])
    centres = np.linspace(shown["low"], shown["high"], 2 * mass.shape[1] + 1)[1::2]
    width = (shown["high"] - shown["low"]) / mass.shape[1]
    assert mass.shape[0] == 2
    assert (mass @ centres) / mass.sum(axis=1) == pytest.approx(words["q"], abs=max(2 * width, 1e-3))


def test_continuous_actions_are_shown_and_played_by_hand(watch):
    watched = watch("pendulum", "sb3-sac")
    assert len(watched.now()["action"]) == 1 and watched.view.describe()["bounds"] == [[-2.0], [2.0]]
    watched.ask("drive", True)
    watched.ask("keys", ["ArrowRight"])
    watched.step()
    assert watched.step()["action"] == [2.0]


@pytest.mark.parametrize("overlay", ["gradient", "perturbation"])
def test_saliency_is_added_where_it_is_asked_for(watch, overlay):
    pytest.importorskip("ale_py")
    watched = watch("breakout", "dqn")
    eventually(lambda: overlay in watched.view.controls.overlays)
    words, blobs = watched.again("overlay", overlay)
    shown = np.asarray(Image.open(io.BytesIO(blobs[2])))
    assert words["saliency"] and shown.shape == (84, 84) and shown.max() == 255
    words, blobs = watched.again("overlay", "off")
    assert not words["saliency"] and len(blobs) == 2


def test_an_agent_with_a_memory_is_perturbed_with_what_it_remembers(watch):
    pytest.importorskip("ale_py")
    watched = watch("breakout", "drqn")
    eventually(lambda: watched.view.controls.overlays == ("off", "perturbation"))
    for _ in range(3):
        watched.step()
    player = load_saved(watched.view.run).agent.player(1)
    shown = np.random.default_rng(1).integers(0, 256, (3, 1, 4, 84, 84), dtype=np.uint8)
    for one in shown:
        player.act(one, np.array([0]))
    remembered = player.imagine(np.repeat(shown[-1], 5, axis=0))["q_values"]
    assert remembered == pytest.approx(np.repeat(player.inspect(shown[-1])["q_values"], 5, axis=0), abs=1e-5)
    assert watched.again("overlay", "perturbation")[0]["saliency"]


def test_of_an_agent_that_reads_one_frame_at_a_time_one_frame_is_shown(watch):
    pytest.importorskip("ale_py")
    watched = watch("breakout", "drqn")
    words, blobs = watched.content()
    shown = np.asarray(Image.open(io.BytesIO(blobs[1])))
    assert words["frames"] == load_saved(watched.view.run).agent.config.frames == 1 and shown.shape == (84, 84)


def test_keys_play_while_somebody_drives_and_the_agent_goes_on_afterwards(watch):
    watched = watch("frozen-lake", "q-learning", explore=0.0, is_slippery=False)
    watched.ask("drive", True)
    agent_would = watched.now()["action"]
    key, action, state = ("ArrowDown", 1, 4) if agent_would == 2 else ("ArrowRight", 2, 1)
    watched.ask("keys", [key])
    words = watched.step()
    assert words["state"] == state and (words["why"], words["action"]) == ("by hand", action)
    watched.ask("keys", [])
    watched.ask("drive", False)
    assert watched.step()["why"] == "greedy"


def test_a_step_without_a_key_is_the_agent_s_and_said_to_be(watch):
    watched = watch("gridworld", "q-learning", explore=0.0, time_limit_steps=1)
    agent_would = watched.now()["action"]
    watched.ask("drive", True)
    words = watched.step()
    assert words["ended"] and (words["why"], words["action"]) == ("greedy", agent_would)


def test_settings_are_sent_as_they_are_when_they_are_sent(watch):
    watched = watch("gridworld", "q-learning")
    watched.view._publish_controls()
    watched.view.controls.explore = 0.75  # by another thread, which has not published it yet, or has lost the race to
    assert watched.content("controls")[0]["controls"]["explore"] == 0.75


def test_epsilon_takes_effect_at_the_next_decision(watch):
    watched = watch("cartpole", "dqn", explore=0.0)
    watched.ask("explore", 1.0)
    assert [watched.step()["why"] for _ in range(8)][1:] == ["random"] * 7


def test_the_next_game_can_be_asked_for(watch):
    watched = watch("cartpole", "dqn")
    words, _ = watched.again("restart")
    assert (words["game"], words["step"]) == (1, 0)


def test_finished_games_are_counted(watch):
    watched = watch("gridworld", "q-learning", time_limit_steps=2)
    ends = [watched.step() for _ in range(9)]
    assert [one["ended"] for one in ends if one["ended"]][:2] == ["time limit", "time limit"]
    assert len(ends[-1]["finished"]) == 3


def test_late_viewers_are_told_of_the_values_so_far(watch):
    watched = watch("cartpole", "dqn")
    values = [watched.now()["value"]] + [watched.step()["value"] for _ in range(3)]
    assert [value for _, value, _ in watched.view.describe()["history"]][-4:] == values


def test_a_newer_checkpoint_is_taken_up_when_the_next_game_begins(watch):
    watched = watch("frozen-lake", "q-learning")
    run = watched.view.run
    assert "100 steps" in watched.content("notice")[0]["notice"]
    saved = load_saved(run)
    saved.agent.q[:] = 5.0
    run.save(900, {"learner": saved.agent.state_dict(), "source": {}, "loop": {"units": 900}, "bulk": None})
    assert watched.step()["q"] != [5.0] * 4, "the game that is played goes on with the old one"
    words, _ = watched.again("restart")
    assert words["q"] == [5.0] * 4 and "900 steps" in watched.content("notice")[0]["notice"]


def test_a_checkpoint_that_was_asked_for_stays(tmp_path):
    run = make_run(tmp_path, "frozen-lake", "q-learning", steps=(100, 200))
    watched = Watching(run, checkpoint="100")
    assert "100 steps" in watched.content("notice")[0]["notice"]
    watched.again("restart")
    assert "100 steps" in watched.content("notice")[0]["notice"]
    watched.stop()


def test_a_run_that_is_trained_is_waited_for_until_it_has_a_checkpoint(tmp_path):
    done = make_run(tmp_path, "frozen-lake", "q-learning")
    state = done.load()
    run = Run.create(
        **{key: done.info[key] for key in ("kind", "task", "learner", "config", "command", "device")},
        seed=2,
        root=tmp_path,
    )
    view = GameView(run, GameOptions(pace=1_000.0))
    with run.lock():
        view.start()
        view.viewers_changed(1)
        notice = eventually(lambda: view.streams["notice"].newest)
        assert "waiting for the first checkpoint" in unpack(notice.packed())[0]["notice"]
        run.save(50, state)
        eventually(lambda: view.streams["moment"].newest)
    view.stop()


def test_a_game_that_is_stopped_while_it_is_made_ends(tmp_path, monkeypatch):
    began, go_on = threading.Event(), threading.Event()

    def slow(run: Run) -> Any:
        began.set()
        go_on.wait(60)
        return make_env_of(run)

    monkeypatch.setattr("agents.live.make_env_of", slow)
    view = GameView(make_run(tmp_path, "gridworld", "q-learning"), GameOptions())
    starting, stopping = (threading.Thread(target=one, daemon=True) for one in (view.start, view.stop))
    starting.start()
    assert began.wait(60)
    stopping.start()
    time.sleep(0.2)  # it has looked for what there is to end, and waits
    go_on.set()
    stopping.join(60)
    starting.join(60)
    assert not stopping.is_alive() and not starting.is_alive()


def test_a_run_without_checkpoints_that_nobody_trains_is_one_line(tmp_path):
    done = make_run(tmp_path, "frozen-lake", "q-learning", steps=())
    with pytest.raises(RunError, match="has no checkpoint yet") as raised:
        GameView(done, GameOptions()).start()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which run"),
        (["nothing-like-it", "--web"], "no run 'nothing-like-it'"),
        (["RUN", "--port", "8000"], "--web"),
        (["RUN", "--host", "0.0.0.0"], "--web"),
        (["RUN", "RUN"], "side by side need the page in the browser"),
        (["RUN", "--web", "--video", "a.mp4"], "--web goes without"),
        (["RUN", "--web", "--port", "99999"], "port 99999 does not exist"),
        (["RUN", "--web", "--port", "0", "--checkpoint", "5"], "no checkpoint at step 5"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, arguments, words):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    run = make_run(tmp_path, "gridworld", "q-learning")
    with pytest.raises(AprendizError, match=words) as raised:
        command([str(run.path) if word == "RUN" else word for word in arguments])
    assert "\n" not in str(raised.value)


def test_the_latest_run_is_the_newest_of_agents_whatever_was_trained_since(tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    run = make_run(tmp_path, "gridworld", "q-learning")
    about = {"seed": 1, "config": {}, "command": ["x"], "device": "cpu", "root": tmp_path}
    Run.create(kind="generative", task="digits", learner="vae", **about)
    shown = []
    monkeypatch.setattr("aprendiz.live.server.serve", lambda views, **_: shown.extend(view.run for view in views))
    command(["latest", "--web"])
    assert {one.name for one in shown} == {run.name}


def test_without_the_extra_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(AprendizError, match=r'pip install "aprendiz\[web\]"'):
        command([str(make_run(tmp_path, "gridworld", "q-learning").path), "--web"])


def test_ctrl_c_ends_the_command_quietly_whoever_looks_on(tmp_path):
    client = pytest.importorskip("websockets.sync.client")
    run = make_run(tmp_path, "gridworld", "q-learning")
    words = [sys.executable, "-m", "agents.watch", str(run.path), "--web", "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://(127\.0\.0\.1:\d+)/", server.stdout.readline())
    assert found
    with client.connect(f"ws://{found[1]}/socket", max_size=None, proxy=None) as one:
        for _ in range(3):
            one.recv(timeout=60)
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=60)
    assert server.returncode == 0 and complaints == ""
