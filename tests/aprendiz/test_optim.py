"""Schedules by hand."""

from __future__ import annotations

import pytest

from aprendiz.optim import cosine_schedule, linear_schedule


@pytest.mark.parametrize(("at", "value"), [(0, 2.0), (25, 1.75), (50, 1.5), (100, 1.0), (150, 1.0)])
def test_a_linear_schedule_ends_where_it_is_told_and_stays_there(at: int, value: float) -> None:
    assert linear_schedule(2.0, 1.0, 100, at) == pytest.approx(value)


@pytest.mark.parametrize(("at", "value"), [(0, 3.0), (25, 2 + 0.5**0.5), (50, 2.0), (75, 2 - 0.5**0.5), (100, 1.0)])
def test_a_cosine_schedule_falls_slowly_fast_and_slowly_again(at: int, value: float) -> None:
    assert cosine_schedule(3.0, 1.0, 100, at) == pytest.approx(value)


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_a_schedule_without_a_duration_is_over_at_once(schedule) -> None:
    assert schedule(2.0, 1.0, 0, 0) == 1.0
    assert schedule(2.0, 1.0, 10, 11) == 1.0
