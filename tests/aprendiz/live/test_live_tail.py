"""metrics.jsonl read while it grows."""

from __future__ import annotations

import itertools
import json

from aprendiz.live.tail import MOST_POINTS, Curve, MetricsTail


def line(step: int, **metrics) -> str:
    return json.dumps({"step": step, "time": step / 10, **metrics}) + "\n"


def values(tail: MetricsTail, name: str) -> list[tuple[int, float]]:
    return [(step, value) for step, _, value in tail.curves[name].shown()]


def test_each_look_reads_what_was_added(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert not tail.look()
    path.write_text(line(1, **{"train/loss": 3.0}))
    assert tail.look() and not tail.look()
    with path.open("a") as file:
        file.write(line(2, **{"train/loss": 2.0, "eval/score": 5}))
    assert tail.look()
    assert values(tail, "train/loss") == [(1, 3.0), (2, 2.0)] and values(tail, "eval/score") == [(2, 5.0)]


def test_a_half_written_line_is_read_when_it_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = line(1, **{"train/loss": 3.0})
    tail = MetricsTail(path)
    path.write_text(whole + whole[:20])
    assert tail.look() and values(tail, "train/loss") == [(1, 3.0)]
    path.write_text(whole + line(2, **{"train/loss": 2.0}))
    assert tail.look() and values(tail, "train/loss") == [(1, 3.0), (2, 2.0)]


def test_a_file_that_was_cut_back_is_read_from_the_start(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1, **{"a/b": 1.0}) + line(2, **{"a/b": 2.0}))
    tail = MetricsTail(path)
    tail.look()
    other = tmp_path / "new"
    other.write_text(line(1, **{"a/b": 1.0}) + line(2, **{"a/b": 7.0}) + line(3, **{"a/b": 3.0}))
    other.replace(path)  # as a resumed run does
    assert tail.look() and values(tail, "a/b") == [(1, 1.0), (2, 7.0), (3, 3.0)]
    path.write_text(line(1, **{"a/b": 9.0}))
    assert tail.look() and values(tail, "a/b") == [(1, 9.0)]


def test_lines_that_are_no_metrics_and_values_that_are_no_numbers_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rubbish = ["\x00\x00\n", "[1]\n", '{"step": "x", "time": 0}\n', "{}\n", "\n"]
    huge = "1" + 400 * "0"
    strange = [("1e999", 0, 1), ("NaN", 0, 1), (1, "NaN", 1), (1, "Infinity", 1), (1, "true", 1), (1, 0, huge)]
    rubbish += [f'{{"step": {step}, "time": {time}, "b/a": {value}}}\n' for step, time, value in strange]
    rubbish.append(100_000 * "[" + "\n")
    path.write_text("".join(rubbish) + line(1, **{"a/b": None, "a/c": "text", "a/d": True, "a/e": 1.5, "plain": 2.0}))
    tail = MetricsTail(path)
    tail.look()
    assert list(tail.curves) == ["a/e"]


def test_long_curves_stay_short_evenly_spaced_and_complete_at_the_end():
    curve = Curve()
    for step in range(10_007):
        curve.add(step, 0.0, float(step))
    steps = [step for step, _, _ in curve.shown()]
    assert len(steps) <= MOST_POINTS + 1 and steps[0] == 0 and steps[-1] == 10_006
    assert len({after - before for before, after in itertools.pairwise(steps[:-1])}) == 1
