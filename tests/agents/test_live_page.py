"""The live page in a real browser; skipped where there is none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

from agents.live import GameOptions, GameView
from agents.video import write_mp4
from aprendiz.live.server import serving
from aprendiz.live.training import TrainingView
from tests.agents.live_browser import MARKS, play_to_the_right
from tests.agents.saved_runs import make_run
from tests.aprendiz.live.serving import eventually

pytestmark = MARKS


@pytest.fixture
def breakout(tmp_path) -> Iterator[str]:
    """The address of an untrained agent's game."""
    pytest.importorskip("ale_py")
    run = make_run(tmp_path, "breakout", "dqn")
    with serving([GameView(run, GameOptions(device="cpu")), TrainingView(run)]) as address:
        yield address


def decision(page: Any) -> int:
    return int(page.get_attribute(".view-game", "data-decision") or -1)


def wait_for_decision(page: Any, least: int) -> None:
    page.wait_for_function("least => Number(document.querySelector('.view-game').dataset.decision) >= least", arg=least)


def pixels(page: Any, canvas: str = "canvas.picture") -> list[int]:
    """What a canvas shows, as the red of every pixel."""
    return page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return Array.from(data).filter((_, i) => i % 4 === 0);
        }""",
        canvas,
    )


def bars(page: Any) -> list[str]:
    return page.eval_on_selector_all(".bars .bar", "rows => rows.map((row) => row.dataset.value)")


def settled(page: Any) -> int:
    """The decision at which a paused game stands."""
    page.wait_for_selector("button.pause[aria-pressed=true]")
    before = decision(page)
    while True:
        time.sleep(0.5)
        if decision(page) == before:
            return before
        before = decision(page)


def paddle(page: Any) -> float:
    """Where the middle of Breakout's paddle is, in pixels from the left."""
    row = pixels(page)[191 * 160 + 8 : 191 * 160 + 152]
    lit = [x for x, red in enumerate(row) if red > 100]
    assert lit, "the paddle is on the screen"
    return sum(lit) / len(lit)


def test_frames_move_and_bars_change_while_the_agent_plays(breakout, visit):
    page = visit(breakout)
    wait_for_decision(page, 1)
    frames, values = pixels(page, "canvas.frames"), bars(page)
    assert len(frames) == (4 * 84 + 3 * 4) * 84 and max(frames) > 100 and len(values) == 4
    wait_for_decision(page, 12)
    assert pixels(page, "canvas.frames") != frames and bars(page) != values
    assert page.inner_text(".view-game h2").split() == ["breakout", "dqn", "seed", "1"]


def test_pause_holds_the_picture_and_a_step_is_one_decision(breakout, visit):
    page = visit(breakout)
    wait_for_decision(page, 2)
    page.click("button.pause")
    at = settled(page)
    picture = pixels(page)
    time.sleep(0.5)
    assert decision(page) == at and pixels(page) == picture
    page.click("button.single-step")
    wait_for_decision(page, at + 1)
    time.sleep(0.3)
    assert decision(page) == at + 1
    page.click("button.pause")
    wait_for_decision(page, at + 4)


def test_a_key_moves_the_paddle_and_the_agent_takes_back(breakout, visit):
    page = visit(breakout)
    wait_for_decision(page, 2)
    page.click("button.take-over")
    page.wait_for_selector(".view-game.driven")
    ends = []
    for key in ("ArrowLeft", "ArrowRight"):
        page.keyboard.down(key)
        wait_for_decision(page, decision(page) + 25)
        ends.append(paddle(page))
        page.keyboard.up(key)
    assert ends[1] - ends[0] > 40
    page.click("button.take-over")
    page.wait_for_selector(".view-game:not(.driven)")
    page.wait_for_function("() => document.querySelector('.why').textContent !== 'by hand'")


def test_two_viewers_see_the_same_game_and_share_its_buttons(breakout, visit):
    first, second = visit(breakout), visit(breakout)
    wait_for_decision(first, 3)
    first.click("button.pause")
    at = settled(first)
    second.wait_for_selector("button.pause[aria-pressed=true]")
    wait_for_decision(second, at)
    assert pixels(first) == pixels(second) and bars(first) == bars(second)
    first.click("button.take-over")
    second.wait_for_selector("button.take-over:disabled")
    first.close()
    second.wait_for_selector("button.take-over:enabled")


def fitted(page: Any, selector: str) -> Any:
    """How a canvas lies on the page: its size in pixels, its box, and how the one is fitted into the other."""
    return page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const { left, top, width, height } = canvas.getBoundingClientRect();
            return [canvas.width, canvas.height, left, top, width, height, getComputedStyle(canvas).objectFit];
        }""",
        selector,
    )


def covered(page: Any, more_than: int) -> list[float]:
    """Of the pixels that the overlay covers by more than that (0 to 255): how many, their mean row and mean column."""
    return page.evaluate(
        """moreThan => {
            const canvas = document.querySelector("canvas.overlay");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let [count, rows, columns] = [0, 0, 0];
            for (let i = 3; i < data.length; i += 4) {
                if (data[i] <= moreThan) continue;
                const at = (i - 3) / 4;
                count += 1;
                rows += Math.floor(at / canvas.width);
                columns += at % canvas.width;
            }
            return [count, rows / count, columns / count];
        }""",
        more_than,
    )


def test_saliency_lies_over_the_place_that_it_is_about(breakout, visit, monkeypatch):
    def one_place(agent: Any, observation: Any) -> Any:
        found = np.zeros(observation.shape[1:], np.float32)
        found[20:24, 62:66] = 1.0  # of 84 x 84
        return found

    monkeypatch.setattr("agents.live.gradient", one_place)
    page = visit(breakout)
    wait_for_decision(page, 1)
    page.select_option("select.overlay", "gradient")
    eventually(lambda: covered(page, 100)[0])
    page.click("button.pause")
    settled(page)
    assert fitted(page, "canvas.overlay") == fitted(page, "canvas.picture")
    _, row, column = covered(page, 100)
    assert (row, column) == pytest.approx((22 * 210 / 84, 64 * 160 / 84), abs=2.0)
    page.select_option("select.overlay", "off")
    eventually(lambda: not covered(page, 0)[0])


def test_distributions_are_drawn(tmp_path, visit):
    run = make_run(tmp_path, "cartpole", "c51")
    with serving([GameView(run, GameOptions(device="cpu"))]) as address:
        page = visit(address)
        wait_for_decision(page, 1)
        page.wait_for_selector(".bars canvas.histogram")
        assert "distribution of the return" in page.inner_text(".view-game")
        before = bars(page)
        eventually(lambda: bars(page) != before)


def test_a_table_shows_where_the_game_stands(tmp_path, visit):
    run = make_run(tmp_path, "frozen-lake", "q-learning", is_slippery=False)
    with serving([GameView(run, GameOptions(explore=0.0))]) as address:
        page = visit(address)
        page.wait_for_selector(".tables td.here")
        assert page.locator(".tables td").count() == 16
        play_to_the_right(page)


def test_agents_play_side_by_side_each_with_its_own_buttons(tmp_path, visit):
    views = [GameView(make_run(tmp_path, "cartpole", name), GameOptions(device="cpu")) for name in ("dqn", "iqn")]
    with serving(views) as address:
        page = visit(address)
        decisions = "() => [...document.querySelectorAll('.view-game')].map((one) => Number(one.dataset.decision))"
        eventually(lambda: all(count > 3 for count in page.evaluate(decisions)))
        boxes = [one.bounding_box() for one in page.locator(".view-game").all()]
        assert len(boxes) == 2 and boxes[0]["y"] == boxes[1]["y"] and boxes[1]["x"] > boxes[0]["x"]
        page.locator("button.pause").nth(0).click()
        page.wait_for_selector(".run:nth-child(1) button.pause[aria-pressed=true]")
        before = page.evaluate(decisions)
        eventually(lambda: page.evaluate(decisions)[1] > before[1] + 5)
        assert page.evaluate(decisions)[0] <= before[0] + 1


def test_the_game_of_a_run_in_training_begins_with_its_first_checkpoint(tmp_path, visit):
    state = make_run(tmp_path, "gridworld", "q-learning").load()
    run = make_run(tmp_path, "gridworld", "q-learning", steps=())
    with run.lock(), serving([GameView(run, GameOptions()), TrainingView(run)]) as address:
        page = visit(address)
        page.wait_for_selector(".view-game .notice:text('waiting for the first checkpoint')")
        page.wait_for_selector(".view-training .notice[data-state=training]")
        run.save(100, state)
        wait_for_decision(page, 3)
        page.wait_for_selector(".view-game .notice:text('100 steps of training')")


def test_curves_and_pictures_of_a_training_run_appear_as_they_are_written(tmp_path, visit):
    from PIL import Image

    run = make_run(tmp_path, "gridworld", "q-learning")
    with run.lock(), serving([TrainingView(run)]) as address:
        page = visit(address)
        page.wait_for_selector(".notice[data-state=training]")
        for step in range(3):
            run.log(step, {"train/loss": 3.0 - step})
        page.wait_for_selector(".charts canvas[aria-label='train/loss']")
        page.wait_for_function("() => document.querySelector('.charts output').textContent === '1'")
        page.hover(".charts canvas", position={"x": 60, "y": 50})
        page.wait_for_function("() => / at 0 steps/.test(document.querySelector('.charts output').textContent)")
        Image.new("RGB", (8, 8), "red").save(run.samples / "images-1.png")
        page.wait_for_function("() => document.querySelector('.media img')?.naturalWidth === 8")


def test_the_newest_video_of_a_training_run_plays_and_gives_way_to_a_newer_one(tmp_path, visit):
    run = make_run(tmp_path, "gridworld", "q-learning")
    with run.lock(), serving([TrainingView(run)]) as address:
        page = visit(address)
        for number, side in enumerate((64, 96)):
            write_mp4(run.videos / f"step-{number}.mp4", iter([(np.full((side, side, 3), 90, np.uint8), 30)]), 15)
            page.wait_for_function("side => document.querySelector('.media video')?.videoWidth === side", arg=side)
            page.wait_for_function("() => document.querySelector('.media video').currentTime > 0.1")
        assert page.locator(".media video").count() == 1


def test_a_killed_server_is_said_and_the_page_recovers(tmp_path, visit):
    run = make_run(tmp_path, "gridworld", "q-learning")

    def start(port: int) -> tuple[subprocess.Popen[str], str]:
        words = [sys.executable, "-m", "agents.watch", str(run.path), "--web", "--port", str(port)]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        found = re.search(r"http://(\S+)/", server.stdout.readline())
        assert found
        return server, found[1]

    server, address = start(0)
    try:
        page = visit(address)
        wait_for_decision(page, 1)
        os.kill(server.pid, signal.SIGKILL)
        server.communicate()
        page.wait_for_selector('#connection[data-state="disconnected"]')
        assert page.inner_text("#connection") == "disconnected"
        server, _ = start(int(address.split(":")[1]))
        page.wait_for_selector('#connection[data-state="connected"]')
        wait_for_decision(page, 1)
    finally:
        server.kill()
        server.communicate()


def test_a_server_that_hangs_counts_as_disconnected(tmp_path, visit):
    run = make_run(tmp_path, "gridworld", "q-learning")
    words = [sys.executable, "-m", "agents.watch", str(run.path), "--web", "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        page = visit(re.search(r"http://(\S+)/", server.stdout.readline())[1])  # type: ignore[index]
        wait_for_decision(page, 1)
        server.send_signal(signal.SIGSTOP)
        page.wait_for_selector('#connection[data-state="disconnected"]')
        server.send_signal(signal.SIGCONT)
        page.wait_for_selector('#connection[data-state="connected"]')
        eventually(lambda: decision(page) >= 0)
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.communicate()
