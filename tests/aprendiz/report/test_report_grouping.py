from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import make_run

from aprendiz.errors import ConfigError
from aprendiz.report import build, grouping, reading
from aprendiz.report.core import RunData


def read(*runs) -> list[RunData]:
    return [reading.read_run(run.path) for run in runs]


def labels(*runs, by: tuple[str, ...] = ()) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.label, one.runs) for one in grouping.group(read(*runs), by)]


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path) -> None:
    assert labels(*(make_run(tmp_path, seed=seed) for seed in (1, 2, 3))) == [("dqn", (0, 1, 2))]


def test_learners_are_told_apart_by_name(tmp_path: Path) -> None:
    found = labels(make_run(tmp_path), make_run(tmp_path, learner="c51"), make_run(tmp_path, seed=2))
    assert found == [("dqn", (0, 2)), ("c51", (1,))]


def test_the_setting_that_differs_is_the_label(tmp_path: Path) -> None:
    found = labels(make_run(tmp_path), make_run(tmp_path, changes={"learning_rate": 0.01}))
    assert found == [("dqn, learning_rate 0.001", (0,)), ("dqn, learning_rate 0.01", (1,))]


def test_another_learner_s_settings_are_no_part_of_a_label(tmp_path: Path) -> None:
    found = labels(make_run(tmp_path), make_run(tmp_path, learner="c51", changes={"atoms": 51}))
    assert [label for label, _ in found] == ["dqn", "c51"]


def test_the_same_learner_has_the_same_label_on_every_task(tmp_path: Path) -> None:
    found = labels(make_run(tmp_path), make_run(tmp_path, task="acrobot", changes={"batch_size": 128}))
    assert found == [("dqn", (0,)), ("dqn", (1,))]


@pytest.mark.parametrize(
    "incidental",
    [
        {"budget": {"env_steps": 500, "minutes": None}},
        {"cadence": {"step_name": "env_steps", "log_every_units": 7}},
        {"wandb": "offline"},
        {"torch_threads": 4},
        {"precision": "bf16"},
        {"device": "cuda"},
    ],
)
def test_how_long_and_where_a_run_ran_does_not_tell_it_apart(tmp_path: Path, incidental: dict) -> None:
    assert len(labels(make_run(tmp_path), make_run(tmp_path, **incidental))) == 1


def test_a_precision_that_was_asked_for_does(tmp_path: Path) -> None:
    words = ["python -m agents.train", "cartpole", "--precision", "bf16"]
    found = labels(make_run(tmp_path, precision="fp32"), make_run(tmp_path, precision="bf16", command=words))
    assert len(found) == 2


def test_numbers_derived_from_the_clock_do_not_tell_runs_of_the_same_words_apart(tmp_path: Path) -> None:
    words = ["python -m agents.train", "cartpole", "--minutes", "5"]
    first, second = (
        make_run(
            tmp_path,
            seed=seed,
            command=[*words, "--seed", str(seed)],
            changes={"exploration_env_steps": 1000 + seed},
            budget={"minutes": 5.0},
        )
        for seed in (1, 2)
    )
    other = make_run(tmp_path, command=[*words, "--learning-rate", "0.1"], budget={"minutes": 5.0})
    assert [runs for _, runs in labels(first, second, other)] == [(0, 1), (2,)]


def test_what_was_given_on_the_command_line_comes_first_in_a_label(tmp_path: Path) -> None:
    words = ["python -m agents.train", "cartpole", "--learning-rate", "0.01"]
    found = labels(
        make_run(tmp_path, changes={"batch_size": 32}),
        make_run(tmp_path, changes={"batch_size": 64, "learning_rate": 0.01}, command=words),
    )
    assert found[1][0] == "dqn, learning_rate 0.01, ..."


def test_a_setting_can_decide_alone(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, changes={"learning_rate": rate, "batch_size": size})
        for rate, size in ((1, 8), (1, 9), (2, 8))
    ]
    assert labels(*runs, by=("learning_rate",)) == [("learning_rate 1", (0, 1)), ("learning_rate 2", (2,))]
    assert [runs for _, runs in labels(*runs, by=("learner",))] == [(0, 1, 2)]


def test_tasks_are_never_put_together(tmp_path: Path) -> None:
    assert len(labels(make_run(tmp_path), make_run(tmp_path, task="acrobot"), by=("learner",))) == 2


def test_an_unknown_setting_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run has a setting 'learning_rat' .*learning_rate"):
        labels(make_run(tmp_path), by=("learning_rat",))


def test_settings_that_differ_have_the_value_of_every_run(tmp_path: Path) -> None:
    runs = read(make_run(tmp_path), make_run(tmp_path, seed=2, changes={"atoms": 51}))
    assert grouping.differing(runs) == {
        "seed": ["1", "2"],
        "agent.hyperparameters.atoms": [grouping.MISSING, "51"],
    }


def test_settings_that_only_some_have_come_behind_those_that_all_have(tmp_path: Path) -> None:
    runs = read(make_run(tmp_path), make_run(tmp_path, changes={"batch_size": 64, "atoms": 51, "zeta": 1.0}))
    assert list(grouping.differing(runs)) == [
        "agent.hyperparameters.batch_size", "agent.hyperparameters.atoms", "agent.hyperparameters.zeta",
    ]  # fmt: skip
    runs = read(make_run(tmp_path, aa={"x": 1}), make_run(tmp_path, changes={"learning_rate": 3.0}))
    assert list(grouping.differing(runs)) == ["agent.hyperparameters.learning_rate", "aa.x"]


def test_families_are_not_compared_setting_by_setting(tmp_path: Path) -> None:
    runs = read(make_run(tmp_path), make_run(tmp_path, kind="language", learner="lstm", text={"level": "char"}))
    assert "text.level" not in grouping.differing(runs)


def test_settings_that_differ_in_their_seventh_digit_are_two(tmp_path: Path) -> None:
    found = labels(make_run(tmp_path, changes={"x": 1234567.0}), make_run(tmp_path, changes={"x": 1234568.0}))
    assert [label for label, _ in found] == ["dqn, x 1234567", "dqn, x 1234568"]


def test_runs_of_the_same_seed_and_settings_are_noted(tmp_path: Path) -> None:
    first, again = make_run(tmp_path), make_run(tmp_path)
    runs = read(first, again, make_run(tmp_path, seed=2), make_run(tmp_path, changes={"batch_size": 64}))
    assert grouping.repeated(runs) == [[0, 1]]
    (note,) = build.build(runs).notes
    assert first.name in note and again.name in note and "too narrow" in note
