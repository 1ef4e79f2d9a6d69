"""Playing with the keyboard on the live page, in a real browser; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

from agents.live import GameOptions, GameView
from aprendiz.live.server import serving
from tests.agents.live_browser import MARKS, begin_anew, play_to_the_right
from tests.agents.saved_runs import make_run
from tests.aprendiz.live.serving import eventually

pytestmark = MARKS


@pytest.fixture
def lake(tmp_path) -> Iterator[tuple[str, GameView]]:
    """The address of a board game that waits for keys when it is played by hand, and its view."""
    view = GameView(make_run(tmp_path, "frozen-lake", "q-learning", is_slippery=False), GameOptions(explore=0.001))
    with serving([view]) as address:
        yield address, view


def test_keys_play_on_after_a_setting_was_chosen(lake, visit):
    page = visit(lake[0])
    page.click("button.take-over")
    page.wait_for_selector(".view-game.driven")
    page.select_option("select.speed", label="4")
    begin_anew(page)
    page.wait_for_selector(".tables tr:nth-child(1) td:nth-child(1).here")
    page.focus("select.speed")
    page.select_option("select.speed", label="2")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".tables tr:nth-child(2) td:nth-child(1).here")
    assert page.input_value("select.speed") == "2"


def test_keys_are_let_go_whatever_else_is_held_by_then(lake, visit):
    address, view = lake
    page = visit(address)
    page.click("button.take-over")
    page.wait_for_selector(".view-game.driven")
    for key, other in (("d", "Control"), ("1", "Shift")):
        page.keyboard.down(key)
        eventually(lambda key=key: view.controls._held == {key})
        page.keyboard.down(other)
        page.keyboard.up(key)
        page.keyboard.up(other)
        eventually(lambda: not view.controls._held)


def test_escape_hands_back_and_a_key_held_then_plays_again_the_next_time(lake, visit):
    address, view = lake
    page = visit(address)
    page.click("button.take-over")
    page.wait_for_selector(".view-game.driven")
    page.keyboard.down("ArrowRight")
    page.keyboard.press("Escape")
    page.wait_for_selector(".view-game:not(.driven)")
    assert view.controls.driver is None
    page.keyboard.up("ArrowRight")
    play_to_the_right(page)


def test_a_small_epsilon_is_said_as_it_is(lake, visit):
    page = visit(lake[0])
    page.wait_for_function("() => document.querySelector('.controls output').textContent === '0.001'")
