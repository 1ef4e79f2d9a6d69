from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_runs import write_lines

from aprendiz.report import series


def lines(count: int) -> list[dict]:
    return [{"step": 10 * i, "time": i / 2, "train/loss": float(i), "train/updates": 3 * i} for i in range(count)]


def test_every_metric_becomes_a_curve_over_steps_seconds_and_updates(tmp_path: Path) -> None:
    write_lines(tmp_path / "m", lines(4))
    curve = series.read(tmp_path / "m").curves["train/loss"]
    assert curve.step.tolist() == [0, 10, 20, 30] and curve.seconds.tolist() == [0, 0.5, 1, 1.5]
    assert curve.updates.tolist() == [0, 3, 6, 9] and curve.value.tolist() == [0, 1, 2, 3]


def test_lines_that_count_no_updates_get_those_of_their_step(tmp_path: Path) -> None:
    evaluation = {"step": 15, "time": 0.8, "eval/score": 7.0}
    write_lines(tmp_path / "m", [*lines(2), evaluation, *lines(4)[2:]])
    assert series.read(tmp_path / "m").curves["eval/score"].updates.tolist() == [4.5]


def test_a_line_that_is_being_written_is_left_out_and_no_mistake(tmp_path: Path) -> None:
    write_lines(tmp_path / "m", lines(3), end='\n{"step": 30, "ti')
    found = series.read(tmp_path / "m")
    assert (found.lines, found.torn) == (3, 0) and len(found.curves["train/loss"].value) == 3


def test_torn_lines_in_the_middle_are_counted_and_their_neighbours_kept(tmp_path: Path) -> None:
    good = [json.dumps(line) for line in lines(4)]
    (tmp_path / "m").write_text(
        "\n".join([good[0], good[1][:20], "", "null", "[1]", good[2], '"text"', good[3]]) + "\n"
    )
    found = series.read(tmp_path / "m")
    assert found.curves["train/loss"].value.tolist() == [0, 2, 3] and found.torn == 4


def test_two_torn_halves_never_make_a_whole_line(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"step": 1, "time": 1, "a": 2\n"b": 5}\n{"step": 2, "time": 2, "a": 3}\n')
    found = series.read(tmp_path / "m")
    assert found.curves["a"].value.tolist() == [3] and "b" not in found.curves and found.torn == 2


def test_what_was_not_finite_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(
        '{"step": 1, "time": 1, "a": null}\n{"step": 2, "time": 1, "a": NaN}\n{"step": 3, "time": 1, "a": 1}\n'
    )
    assert np.isnan(series.read(tmp_path / "m").curves["a"].value).tolist() == [True, True, False]


def test_text_among_the_metrics_does_no_harm(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "m",
        [{"step": 1, "time": 1, "note": "hello", "a": 1.0}, {"step": 2, "time": 2, "note": [1], "a": 2.0}],
    )
    found = series.read(tmp_path / "m")
    assert found.curves["a"].value.tolist() == [1, 2] and "note" not in found.curves


def test_no_file_and_an_empty_file_have_no_curves(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    assert series.read(tmp_path / "m").curves == series.read(tmp_path / "none").curves == {}


def test_a_line_longer_than_a_block_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "BLOCK_BYTES", 50)
    write_lines(tmp_path / "m", lines(40))
    assert series.read(tmp_path / "m").curves["train/loss"].value.tolist() == list(range(40))


def test_thinned_curves_are_means_of_neighbours_at_their_mean_place(tmp_path: Path) -> None:
    write_lines(tmp_path / "m", lines(8))
    curve = series.read(tmp_path / "m", points=2).curves["train/loss"]
    assert curve.value.tolist() == [1.5, 5.5] and curve.step.tolist() == [15, 55]


def test_thinning_on_the_way_gives_the_same_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "m", lines(1000))
    monkeypatch.setattr(series, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(series, "PENDING", 64)
    curve = series.read(tmp_path / "m", points=4).curves["train/loss"]
    assert curve.value == pytest.approx(curve.step / 10)
    assert curve.value == pytest.approx([125, 375, 625, 875], abs=40)


def test_few_evaluations_between_many_lines_are_all_kept(tmp_path: Path) -> None:
    many = lines(5000)
    for step in (0, 2000, 4999):
        many.append({"step": 10 * step, "time": step / 2, "eval/score": float(step)})
    write_lines(tmp_path / "m", many)
    found = series.read(tmp_path / "m", points=10)
    assert found.curves["eval/score"].value.tolist() == [0, 2000, 4999] and len(found.curves["train/loss"].value) == 10


def test_a_mean_leaves_what_was_not_finite_out(tmp_path: Path) -> None:
    table = np.array([[0.0, 1, 2, 3], [1.0, np.nan, np.nan, np.nan], [1, 1, 1, 1]])
    made = series.thin(table, 2)
    assert made[0].tolist() == [0.5, 2.5] and made[1, 0] == 1 and np.isnan(made[1, 1])


def test_lines_that_go_back_are_put_in_order(tmp_path: Path) -> None:
    write_lines(tmp_path / "m", [*lines(4)[2:], *lines(2)])
    assert series.read(tmp_path / "m").curves["train/loss"].step.tolist() == [0, 10, 20, 30]


def test_the_highest_memory_is_not_averaged_away(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "m", [{"step": i, "time": i, "speed/memory_mb": 900.0 if i == 500 else 1.0} for i in range(1000)]
    )
    assert series.read(tmp_path / "m", points=5).peaks == {"speed/memory_mb": 900.0}


def test_of_a_very_long_file_every_second_line_is_read_but_every_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "LONG_LINES", 500)
    monkeypatch.setattr(series, "RARE_LINES", 20)
    many = []
    for place, line in enumerate(lines(1000)):
        many.append(line)
        if place % 100 == 50:
            many.append({"step": line["step"], "time": line["time"], "eval/score": float(place)})
    write_lines(tmp_path / "m", many)
    found = series.read(tmp_path / "m", points=50)
    assert 480 < found.lines < 560
    assert found.curves["eval/score"].value.tolist() == list(range(50, 1000, 100))
    curve = found.curves["train/loss"]
    assert curve.value == pytest.approx(curve.step / 10) and curve.value[-1] > 980


def test_sessions_of_a_run_are_one_curve_and_what_was_done_again_counts_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", lines(5))  # steps 0 to 40, seconds 0 to 2
    again = [line | {"time": line["time"] - 1.5, "train/loss": 9.0} for line in lines(7)[3:]]
    write_lines(tmp_path / "b", again)  # from step 30 on, with a clock of its own
    found = series.together([series.read(tmp_path / "a"), series.read(tmp_path / "b")])
    curve = found.curves["train/loss"]
    assert curve.step.tolist() == [0, 10, 20, 30, 40, 50, 60] and curve.value.tolist() == [0, 1, 2, 9, 9, 9, 9]
    assert curve.seconds.tolist() == [0, 0.5, 1, 2, 2.5, 3, 3.5] and (found.step, found.seconds) == (60, 3.5)
    assert curve.updates.tolist() == [0, 3, 6, 9, 12, 15, 18] and found.lines == 9
