"""What viewers set, and what who plays waits for."""

from __future__ import annotations

import threading
import time

import pytest

from agents.live_controls import Controls
from aprendiz.live.view import RefusedError


def controls(**options) -> Controls:
    """Watched by one."""
    made = Controls(pace=1_000.0, explore=0.1, **options)
    made.viewers_changed(1)
    return made


def ask(made: Controls, what: str, value=None, viewer: int = 1) -> None:
    made.request(viewer, {"do": what, "value": value})


class Waiting:
    """Somebody who waits in a thread of his own."""

    def __init__(self, made: Controls, due: float = 0.0) -> None:
        self.answers: list[str] = []
        self.thread = threading.Thread(target=lambda: self.answers.append(made.wait(due)), daemon=True)
        self.thread.start()

    def waits(self) -> bool:
        self.thread.join(0.15)
        return self.thread.is_alive()

    def answer(self) -> str:
        self.thread.join(20)
        return self.answers[0]


def test_the_game_goes_on_when_it_is_due():
    made = controls()
    begin = time.monotonic()
    assert made.wait(begin + 0.05) == "go" and time.monotonic() - begin >= 0.05


def test_while_nobody_looks_the_game_stands_still():
    made = controls()
    made.viewers_changed(0)
    waiting = Waiting(made)
    assert waiting.waits()
    made.viewers_changed(1)
    assert waiting.answer() == "go"


def test_pause_holds_the_game_and_each_step_lets_one_decision_through():
    made = controls()
    ask(made, "pause", True)
    assert made.wait(0.0) == "redraw"  # what is shown is the moment at which it stopped
    waiting = Waiting(made)
    assert waiting.waits()
    ask(made, "step")
    assert waiting.answer() == "go"
    waiting = Waiting(made)
    assert waiting.waits()
    ask(made, "pause", False)
    assert waiting.answer() == "go"


def test_a_step_pauses_a_game_that_runs():
    made = controls()
    ask(made, "step")
    assert made.paused and made.wait(0.0) == "go" and Waiting(made).waits()


def test_speed_scales_the_pace_and_none_is_as_fast_as_it_goes():
    made = controls()
    now = time.monotonic()
    assert made.due(now) == pytest.approx(now + 0.001, abs=1e-6)
    ask(made, "speed", 0.25)
    assert made.due(now + 5) == pytest.approx(now + 5.004, abs=1e-6)
    ask(made, "speed")
    assert made.due(now) == -float("inf")


def test_what_was_missed_is_not_caught_up_on():
    made = controls()
    assert made.due(time.monotonic() - 60.0) >= time.monotonic() - 0.01


def test_one_viewer_plays_at_a_time_and_hands_back_by_leaving():
    made = controls()
    ask(made, "drive", True, viewer=1)
    with pytest.raises(RefusedError, match="somebody else"):
        ask(made, "drive", True, viewer=2)
    with pytest.raises(RefusedError, match="take over first"):
        ask(made, "keys", ["a"], viewer=2)
    made.viewer_left(2)
    assert made.driver == 1
    made.viewer_left(1)
    assert made.driver is None and made.keys() is None


def test_a_key_that_was_only_tapped_counts_once():
    made = controls()
    ask(made, "drive", True)
    ask(made, "keys", ["a"])
    ask(made, "keys", [])
    assert made.keys() == {"a"} and made.keys() == frozenset()


def test_a_held_key_counts_until_it_is_let_go():
    made = controls()
    ask(made, "drive", True)
    ask(made, "keys", ["a"])
    assert [made.keys(), made.keys()] == [{"a"}, {"a"}]


def test_keys_of_the_last_player_do_not_play_on():
    made = controls()
    ask(made, "drive", True)
    ask(made, "keys", ["a"])
    made.viewer_left(1)
    ask(made, "drive", True, viewer=2)
    assert made.keys() == frozenset()


def test_a_game_that_needs_a_key_waits_for_it_when_played_by_hand():
    made = controls(needs_key=lambda keys: not keys)
    ask(made, "drive", True)
    waiting = Waiting(made)
    assert waiting.waits()
    ask(made, "keys", ["x"])
    assert waiting.answer() == "go"


def test_a_game_that_is_over_waits_for_no_key():
    made = controls(needs_key=lambda keys: True)
    ask(made, "drive", True)
    assert made.wait(0.0, at_end=True) == "go"


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("explore", 1.5, "from 0 to 1"),
        ("explore", "much", "from 0 to 1"),
        ("explore", True, "from 0 to 1"),
        ("explore", float("nan"), "from 0 to 1"),
        ("speed", 1e9, "speed is one of"),
        ("speed", [], "speed is one of"),
        ("overlay", "x-ray", "has the overlays"),
        ("dance", None, "no such button"),
    ],
)
def test_what_cannot_be_is_refused_in_words(what, value, words):
    made = controls()
    with pytest.raises(RefusedError, match=words):
        ask(made, what, value)
    assert made.explore == 0.1 and made.speed == 1.0 and made.overlay == "off"


def test_an_overlay_that_the_next_agent_does_not_have_is_off():
    told: list[dict] = []
    made = controls(overlays=("off", "gradient", "perturbation"), changed=lambda: told.append(made.state()))
    ask(made, "overlay", "gradient")
    made.offer(("off", "perturbation"))
    assert made.overlay == "off" and told[-1]["overlays"] == ["off", "perturbation"]
    ask(made, "overlay", "perturbation")
    made.offer(("off", "perturbation"))
    assert made.overlay == "perturbation"


def test_the_end_and_a_new_game_wake_who_waits():
    made = controls()
    ask(made, "pause", True)
    made.wait(0.0)
    waiting = Waiting(made)
    ask(made, "restart")
    assert waiting.answer() == "restart"
    waiting = Waiting(made)
    made.end()
    assert waiting.answer() == "end"


def test_every_change_is_told():
    told: list[dict] = []
    made = controls(changed=lambda: told.append(made.state()))
    ask(made, "explore", 0.5)
    ask(made, "pause", True)
    assert [one["explore"] for one in told] == [0.5, 0.5] and [one["paused"] for one in told] == [False, True]
