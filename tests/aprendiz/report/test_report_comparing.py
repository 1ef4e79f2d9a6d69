from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_runs import evaluation, make_run

from aprendiz.report import comparing, finals, grouping, reading
from aprendiz.report.comparing import Comparison
from aprendiz.run import Run


def compare(*runs, kind: str = "agents") -> Comparison:
    data = [reading.read_run(run.path) for run in runs]
    return comparing.compare(kind, data, grouping.group(data), finals.finals(data))


def seeds(root: Path, means: list[float], **more) -> list:
    return [make_run(root, seed=seed, games=[mean, mean], **more) for seed, mean in enumerate(means, 1)]


def test_a_group_is_worth_the_mean_of_its_runs_means(tmp_path: Path) -> None:
    (row,) = compare(*seeds(tmp_path, [1, 2, 3, 10])).rows
    assert (row.mean, row.iqm, row.values, row.over) == (4.0, 2.5, (1, 2, 3, 10), "4 runs")
    assert row.interval is not None and 1 <= row.interval[0] < row.iqm < row.interval[1] <= 10


def test_the_interval_of_a_single_run_is_over_its_games_and_says_so(tmp_path: Path) -> None:
    (row,) = compare(make_run(tmp_path, games=[1.0, 2.0, 3.0, 100.0])).rows
    assert row.over == "4 games of one run" and row.mean == 26.5 and row.iqm == 2.5
    assert row.interval is not None and row.interval[0] < row.interval[1]


def test_a_single_number_has_no_interval(tmp_path: Path) -> None:
    (row, *_) = compare(make_run(tmp_path)).rows
    assert row.interval is None and row.over == "1 run"


def test_human_normalised_scores_are_means_over_runs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed=seed, games=[5.0], human=human) for seed, human in ((1, 0.2), (2, 0.6))]
    (row,) = compare(*runs).rows
    assert row.human_normalized == pytest.approx(0.4) and row.human_interval == pytest.approx((0.2, 0.6))


def test_the_interval_of_a_mean_is_that_of_a_mean(tmp_path: Path) -> None:
    human = [0.0, 0.0, 0.0, 0.0, 1.0]  # whose interquartile mean is 0 in most resamples
    runs = [make_run(tmp_path, seed=seed, games=[5.0], human=value) for seed, value in enumerate(human)]
    (row,) = compare(*runs).rows
    assert row.human_normalized == pytest.approx(0.2) and row.human_interval == (0.0, pytest.approx(0.6))


def test_groups_are_ranked_by_their_places_and_not_by_the_task_with_the_largest_scores(tmp_path: Path) -> None:
    runs = []
    for learner, small, medium, large in (("a", 1, 1, 9000), ("b", 3, 3, 8000), ("c", 2, 2, 1)):
        for task, mean in (("t1", small), ("t2", medium), ("t3", large)):
            runs += seeds(tmp_path, [mean], task=task, learner=learner)
    assert compare(*runs).compared == ["b", "a", "c"]


def test_without_evaluations_the_last_score_of_training_stands_in_and_a_note_says_how_to_evaluate(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path, scores=[10.0, 30.0, 20.0])
    found = compare(run)
    assert found.rows[0].values == (20.0,) and found.rows[0].source == finals.SELECTION
    assert f"python -m agents.evaluate {run.name}" in found.notes[0]


def test_scores_of_training_are_not_averaged_with_evaluations(tmp_path: Path) -> None:
    (row,) = compare(make_run(tmp_path, games=[7.0, 7.0]), make_run(tmp_path, seed=2, scores=[999.0])).rows
    assert row.values == (7.0,)


def test_the_newest_evaluation_of_the_commonest_protocol_counts(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path, seed=seed, games=[1.0, 1.0]) for seed in (1, 2))
    first.add_evaluation(evaluation("cartpole", [2.0, 2.0]))
    first.add_evaluation(evaluation("cartpole", [50.0] * 9))  # other games, as nobody else played them
    (row,) = compare(first, second).rows
    assert row.values == (2.0, 1.0)


def test_runs_that_were_evaluated_otherwise_are_noted(tmp_path: Path) -> None:
    found = compare(make_run(tmp_path, games=[1.0]), make_run(tmp_path, seed=2, games=[1.0, 2.0]))
    assert any("not all runs were evaluated alike" in note for note in found.notes)


def test_learners_are_compared_pair_by_pair(tmp_path: Path) -> None:
    found = compare(*seeds(tmp_path, [1, 3]), *seeds(tmp_path, [2, 2], learner="c51"))
    table = {(pair.better, pair.worse): pair.probability for pair in found.improvements}
    assert table == {("dqn", "c51"): 0.5, ("c51", "dqn"): 0.5}


def test_one_run_each_gives_a_probability_and_no_interval(tmp_path: Path) -> None:
    alone = [*seeds(tmp_path, [1]), *seeds(tmp_path, [2], learner="c51")]
    assert [(pair.probability, pair.interval) for pair in compare(*alone).improvements] == [(1.0, None), (0.0, None)]
    more = [*alone, *seeds(tmp_path, [9, 3], learner="dqn", task="cartpole")]
    assert all(pair.interval is not None for pair in compare(*more).improvements)


def test_over_several_tasks_only_those_count_that_all_have(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, [1]), *seeds(tmp_path, [2], learner="c51")]
    runs += [*seeds(tmp_path, [9], task="acrobot"), *seeds(tmp_path, [0], task="acrobot", learner="c51")]
    found = compare(*runs)
    assert found.tasks == ["cartpole", "acrobot"]
    assert [pair.probability for pair in found.improvements] == [0.5, 0.5]


def test_human_normalised_scores_are_aggregated_over_tasks(tmp_path: Path) -> None:
    runs = []
    for task, human in (("breakout", 0.5), ("pong", 2.0)):
        runs += [make_run(tmp_path, task=task, seed=seed, games=[1.0], human=human + seed) for seed in (0, 1)]
    (one,) = compare(*runs).aggregates
    assert (one.runs, one.mean, one.median, one.iqm) == (4, 1.75, 1.75, pytest.approx((1.5 + 2.0) / 2))
    assert one.optimality_gap == pytest.approx(0.5 / 4)


def test_human_normalised_scores_are_taken_together_over_the_tasks_that_all_groups_have(tmp_path: Path) -> None:
    played = [("breakout", "dqn", 1.0), ("breakout", "c51", 1.0), ("pong", "dqn", 1.0), ("pong", "c51", 1.0)]
    played.append(("seaquest", "dqn", 9.0))
    found = compare(
        *(make_run(tmp_path, task=task, learner=learner, games=[1.0], human=human) for task, learner, human in played)
    )
    assert found.human_tasks == ["breakout", "pong"] and [one.mean for one in found.aggregates] == [1.0, 1.0]
    assert any("2 of 3 tasks" in note for note in found.notes)


def test_models_of_unequal_metrics_are_compared_by_what_they_share(tmp_path: Path) -> None:
    def model(learner: str, seed: int, **metrics: float):
        run = make_run(tmp_path, kind="generative", task="mnist", learner=learner, seed=seed, scores=[])
        run.add_evaluation({"which": "best", "metrics": metrics})
        return run

    # Minus the FID of one model, and a bound of another: their scores are no two of a kind.
    runs = [model("dcgan", 1, score=-9.0, fid=9.0), model("vae", 1, score=-90.0, elbo=-90.0, fid=50.0)]
    found = compare(*runs, kind="generative")
    assert found.metric == "fid"
    assert {(pair.better, pair.worse): pair.probability for pair in found.improvements}[("dcgan", "vae")] == 1.0


def test_models_that_share_no_metric_are_not_compared_and_a_note_says_so(tmp_path: Path) -> None:
    def model(learner: str, metrics: dict):
        run = make_run(tmp_path, kind="language", task="pydoc", learner=learner, scores=[])
        run.add_evaluation({"which": "best", "metrics": metrics})
        return run

    runs = [model("lstm", {"score": -1.0, "bits": 2.0}), model("word2vec", {"score": 0.3, "accuracy": 0.3})]
    found = compare(*runs, kind="language")
    assert found.improvements == [] and any("unequal metrics" in note for note in found.notes)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("fid", False), ("eval/loss", False), ("bits_per_character", False), ("score", True), ("label_accuracy", True),
     ("classification_error", False), ("elbo", True), ("class_entropy_nats", True), ("grey_cross_entropy", False)],
)  # fmt: skip
def test_the_name_of_a_metric_says_what_is_better(metric: str, higher: bool) -> None:
    assert comparing.higher_is_better(metric) is higher


@pytest.mark.parametrize(
    ("metric", "tells"),
    [("fid", True), ("floor_fid", False), ("ngram_bits_per_character", False), ("kl", False), ("eval/d_loss", False),
     ("analogies_asked", False), ("analogies_semantic", True), ("windows_standard_error", False)],
)  # fmt: skip
def test_what_is_only_counted_or_of_something_else_is_neither_good_nor_bad(metric: str, tells: bool) -> None:
    assert comparing.tells_quality(metric) is tells


def test_a_run_without_anything_is_no_row(tmp_path: Path) -> None:
    assert compare(make_run(tmp_path, scores=[])).rows == []


def test_scores_that_are_not_finite_are_no_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path, scores=[])
    run.add_evaluation(evaluation("cartpole", [1.0]) | {"mean": float("nan")})
    run.log(100, {"eval/score": 5.0}, seconds=1.0)
    run.log(200, {"eval/score": float("nan")}, seconds=2.0)
    assert compare(run).rows[0].values == (5.0,) and np.isfinite(compare(run).rows[0].mean)


def test_the_last_score_of_training_is_the_last_one_and_no_mean_of_several(tmp_path: Path) -> None:
    run = make_run(tmp_path, scores=[float(place) for place in range(900)])  # more than a curve has points
    assert compare(run).rows[0].values == (899.0,)


def test_who_was_evaluated_is_not_compared_with_who_was_not(tmp_path: Path) -> None:
    evaluated, other = (make_run(tmp_path, kind="generative", task="mnist", learner=name) for name in ("a", "b"))
    for run in (evaluated, other):
        run.log(400, {"eval/fid": 50.0}, seconds=4.0)
        run.close()
    evaluated.add_evaluation({"which": "best", "metrics": {"fid": 60.0}})
    found = compare(evaluated, other, kind="generative")
    assert found.improvements == [] and {row.source for row in found.rows} == {"evaluation", finals.SELECTION}


def test_a_group_that_played_one_task_does_not_take_the_aggregates_away(tmp_path: Path) -> None:
    played = [(task, learner, 1.0) for task in ("breakout", "pong") for learner in ("dqn", "c51")]
    runs = [
        make_run(tmp_path, task=task, learner=learner, games=[1.0], human=human)
        for task, learner, human in [*played, ("pong", "sb3-dqn", 3.0)]
    ]
    found = compare(*runs)
    assert [one.label for one in found.aggregates] == ["dqn", "c51"] and found.human_tasks == ["breakout", "pong"]
    assert any("for 2 of 3 groups" in note for note in found.notes)


def words(root: Path, *evaluations: dict, seed: int = 1) -> Run:
    """A run of word2vec, with what language.evaluate adds to it."""
    run = make_run(root, kind="language", task="pydoc", learner="word2vec", seed=seed, scores=[])
    for one in evaluations:
        run.add_evaluation({"text": "pydoc", "which": "last", "checkpoint_step": 900, "notes": []} | one)
    return run


ANALOGIES = {"metrics": {"analogies": 0.4, "analogies_asked": 10}, "protocol": {"seed": 1000, "analogies": ["a"]}}
SIMILARITY = {"metrics": {"ws353_spearman": 0.6}, "protocol": {"seed": 1000, "similarity": ["ws353"]}}


def test_word_sets_that_were_given_one_at_a_time_are_one_evaluation(tmp_path: Path) -> None:
    one, two = words(tmp_path, ANALOGIES, SIMILARITY), words(tmp_path, SIMILARITY, ANALOGIES, seed=2)
    found = compare(one, two, kind="language")
    values = {row.metric: row.values for row in found.rows}
    assert values == {"analogies": (0.4, 0.4), "analogies_asked": (10, 10), "ws353_spearman": (0.6, 0.6)}
    assert found.notes == []


def test_numbers_of_other_conditions_or_of_another_checkpoint_are_not_put_together(tmp_path: Path) -> None:
    other = {"metrics": {"analogies": 0.9, "analogies_extra": 1.0}, "protocol": {"seed": 1000, "analogies": ["b"]}}
    earlier = SIMILARITY | {"checkpoint_step": 100}
    found = compare(words(tmp_path, other, earlier, ANALOGIES), kind="language")
    assert [row.metric for row in found.rows] == ["analogies", "analogies_asked"]


def test_an_evaluation_that_measured_nothing_is_told_with_what_it_said(tmp_path: Path) -> None:
    nothing = {"metrics": {}, "protocol": {"seed": 1000}, "notes": ["give --analogies FILE"]}
    run = words(tmp_path, nothing)
    (note,) = compare(run, kind="language").notes
    assert note == f"pydoc: nothing was measured when {run.name} was evaluated (give --analogies FILE)"


def test_who_measures_something_else_was_not_evaluated_otherwise(tmp_path: Path) -> None:
    lstm = make_run(tmp_path, kind="language", task="pydoc", learner="lstm", scores=[])
    lstm.add_evaluation({"which": "best", "metrics": {"bits_per_character": 2.0}, "protocol": {"split": "test"}})
    notes = compare(lstm, words(tmp_path, SIMILARITY), kind="language").notes
    assert not any("evaluated alike" in note for note in notes)


@pytest.mark.parametrize(
    ("metric", "higher"), [("sliced_wasserstein", False), ("log_likelihood", True), ("distance_pairs_spearman", True)]
)
def test_distances_are_better_where_they_are_small_whatever_they_are_called(metric: str, higher: bool) -> None:
    assert comparing.higher_is_better(metric) is higher and comparing.tells_quality(metric)


@pytest.mark.parametrize("metric", ["jacobian_norm", "log_partition", "free_energy_gap", "mean_activation"])
def test_what_describes_a_model_is_neither_good_nor_bad(metric: str) -> None:
    assert not comparing.tells_quality(metric)


def test_an_integer_of_400_digits_is_no_score(tmp_path: Path) -> None:
    run = make_run(tmp_path, scores=[3.0])
    (run.path / "evaluations.json").write_text(f'[{{"mean": {"9" * 400}, "metrics": {{"x": {"9" * 400}}}}}]')
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(f'{{"step": 200, "time": 2, "eval/score": {"9" * 400}}}\n')
    assert compare(run).rows[0].values == (3.0,)


def test_what_is_told_for_each_token_compares_among_the_same_tokens_alone(tmp_path: Path) -> None:
    runs = []
    for learner, level, nats in (("lstm", "char", 1.2), ("ngram", "word", 5.0)):
        text = {"spec": {"level": level, "vocabulary_size": 100}}
        runs.append(make_run(tmp_path, kind="language", task="pydoc", learner=learner, scores=[-nats], text=text))
    trained_only = compare(*runs, kind="language")
    assert trained_only.improvements == [] and trained_only.metric == "score"
    for run, nats, bits in zip(runs, (1.2, 5.0), (1.7, 1.5), strict=True):
        run.add_evaluation({"which": "best", "metrics": {"nats_per_token": nats, "bits_per_character": bits}})
    found = compare(*runs, kind="language")
    assert (found.metric, found.compared) == ("bits_per_character", ["ngram", "lstm"])
