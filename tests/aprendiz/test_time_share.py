"""What is shown while a learner trains keeps to its share of the time."""

from __future__ import annotations

import pytest

from aprendiz import time_share
from aprendiz.time_share import TimeShare


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time_share.time, "perf_counter", lambda: now[0])
    return now


def test_the_first_time_is_always_due_and_the_next_once_there_is_time_for_as_much_again(clock: list[float]) -> None:
    share = TimeShare()
    assert share.due(0.0)
    with share.measured():
        clock[0] += 2.0
    assert not share.due(79.0)  # 2 seconds and as many again are a twentieth of 80
    assert share.due(80.0)


def test_what_once_took_long_is_asked_of_the_last_time_too(clock: list[float]) -> None:
    share = TimeShare()
    for seconds in (4.0, 1.0):
        with share.measured():
            clock[0] += seconds
    assert not share.due(119.0)
    assert share.due(120.0)
