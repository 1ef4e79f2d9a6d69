"""`python -m agents.evaluate`: what it prints, what it saves, and that the same seed gives the same games."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from agents import evaluate
from agents.evaluate import command
from agents.play import Games
from agents.saved import load_saved
from aprendiz.errors import AprendizError, ConfigError, RunError, StorageError
from aprendiz.run import Run
from aprendiz.statistics import human_normalized, summarize
from tests.agents.saved_runs import make_run


@pytest.fixture
def lake(tmp_path, monkeypatch) -> Run:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path))
    return make_run(tmp_path, "frozen-lake", "q-learning", steps=(100, 200, 300), best=200)


def test_it_saves_scores_seeds_and_protocol_and_what_follows_from_them(lake, capsys):
    command([str(lake.path), "--episodes", "20", "--explore", "0.1"])
    (saved,) = lake.evaluations()
    summary = summarize(saved["scores"])
    assert len(saved["scores"]) == len(saved["lengths"]) == len(set(saved["seeds"])) == 20
    assert [saved[key] for key in ("mean", "median", "iqm")] == [summary[key] for key in ("mean", "median", "iqm")]
    assert saved["interval"] == summary["mean_interval"]
    assert saved["protocol"]["id"] == "FrozenLake-v1" and saved["explore"] == 0.1 and saved["seed"] == 1000
    assert saved["human_normalized"] is None
    printed = capsys.readouterr().out
    for words in (lake.name, f"{summary['mean']:.2f}", "95% interval", "IQM", "FrozenLake-v1", "no published random"):
        assert words in printed


def test_the_same_seed_gives_the_same_games_and_another_seed_others(lake):
    for seed in ("1", "1", "2"):
        command(["frozen-lake", "--episodes", "10", "--seed", seed])
    first, again, other = lake.evaluations()
    assert first == again
    assert first["seeds"] != other["seeds"] and first["lengths"] != other["lengths"]


def test_the_best_checkpoint_is_taken_unless_another_is_asked_for(lake):
    for arguments in ([], ["--checkpoint", "last"], ["--checkpoint", "100"]):
        command(["latest", "--episodes", "2", *arguments])
    assert [(one["which"], one["checkpoint_step"]) for one in lake.evaluations()] == [
        ("best", 200), ("last", 300), (100, 100),
    ]  # fmt: skip
    tables = [load_saved(lake, which).agent.q for which in ("best", "last", 100)]
    assert not np.array_equal(tables[0], tables[1]) and not np.array_equal(tables[1], tables[2])


def test_a_run_that_was_never_evaluated_gives_its_last_checkpoint(tmp_path):
    run = make_run(tmp_path, "gridworld", "q-learning", steps=(100, 300))
    command([str(run.path), "--episodes", "1"])
    assert (run.evaluations()[0]["which"], run.evaluations()[0]["checkpoint_step"]) == ("last", 300)


def test_options_of_the_environment_are_those_of_training(tmp_path):
    run = make_run(tmp_path, "gridworld", "q-learning", map="S..../....G", time_limit_steps=7)
    command([str(run.path), "--episodes", "5"])
    (saved,) = run.evaluations()
    assert saved["protocol"]["map"] == "S..../....G" and max(saved["lengths"]) <= 7


def test_games_that_were_played_are_shown_even_where_they_cannot_be_saved(lake, monkeypatch, capsys):
    def refuse(run, result):
        raise StorageError("cannot write")

    monkeypatch.setattr(Run, "add_evaluation", refuse)
    with pytest.raises(StorageError):
        command(["frozen-lake", "--episodes", "3"])
    printed = capsys.readouterr().out
    assert "95% interval" in printed and "saved in" not in printed


def test_several_runs_are_all_evaluated(lake, tmp_path, capsys):
    other = make_run(tmp_path, "cartpole", "dqn")
    command([lake.name, other.name, "--episodes", "3"])
    assert len(lake.evaluations()) == len(other.evaluations()) == 1
    assert lake.name in (printed := capsys.readouterr().out) and other.name in printed


def test_cheap_environments_are_played_more_often(lake):
    command(["frozen-lake"])
    assert lake.evaluations()[0]["episodes"] == 100


def test_atari_is_judged_by_thirty_games_of_their_own_seeds_with_one_random_action_in_a_hundred(tmp_path, monkeypatch):
    pytest.importorskip("ale_py")
    run = make_run(tmp_path, "breakout", "dqn", time_limit_steps=20)
    asked = []

    def play(agent, make_env, seeds, *, explore, on_progress):
        asked.append((len(set(seeds)), explore))
        return Games(np.zeros(len(seeds)), np.ones(len(seeds), np.int64), list(seeds))

    monkeypatch.setattr("agents.play.play_games", play)
    command([str(run.path), "--device", "cpu"])
    assert asked == [(30, 0.01)]


def test_atari_scores_are_normalised_by_published_ones_with_their_source(tmp_path, capsys):
    pytest.importorskip("ale_py")
    run = make_run(tmp_path, "breakout", "dqn", time_limit_steps=20)
    command([str(run.path), "--episodes", "2", "--device", "cpu"])
    (saved,) = run.evaluations()
    expected = human_normalized(saved["mean"], saved["random_score"], saved["human_score"])
    assert saved["human_normalized"] == expected and saved["score_source"]
    assert saved["score_source"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which run?"),
        (["frozen-lake", "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["frozen-lake", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["frozen-lake", "--explore", "1.5"], "explore is a probability from 0 to 1, got 1.5"),
        (["frozen-lake", "--checkpoint", "newest"], "checkpoint 'newest' is not last, best or a step"),
        (["frozen-lake", "--checkpoint", "150"], "no checkpoint at step 150"),
        (["frozen-lake", "--epsiodes", "3"], "--episodes"),
        (["frozen-lake", "--device", "abacus"], "unknown device 'abacus'"),
        (["nowhere"], "no run 'nowhere'"),
    ],
)
def test_wrong_input_is_one_line(lake, arguments, words):
    with pytest.raises(AprendizError, match=words.replace("?", r"\?")) as raised:
        command(arguments)
    assert "\n" not in str(raised.value)
    assert lake.evaluations() == []


def test_a_run_without_an_agent_in_its_config_is_refused(tmp_path):
    run = Run.create(
        kind="agents", task="x", learner="y", seed=0, config={}, command=[], device="cpu", root=tmp_path
    )  # fmt: skip
    with pytest.raises(RunError, match="does not say which agent"):
        command([str(run.path)])


NO_TORCH = """
import atexit, sys
from aprendiz.cli import main
from agents.{} import command
atexit.register(lambda: print("torch" in sys.modules))
main(command)
"""


@pytest.mark.parametrize("name", ["evaluate", "watch"])
def test_help_needs_no_torch(name):
    code = NO_TORCH.format(name)
    shown = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "ties can fall differently" in " ".join(shown.stdout.replace("│", " ").split())
    assert "--explore" in shown.stdout and shown.stdout.endswith("False\n")


@pytest.mark.parametrize("name", ["evaluate", "watch"])
def test_errors_leave_with_one_line_and_exit_code_2(tmp_path, name):
    words = [sys.executable, "-m", f"agents.{name}", str(tmp_path)]
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


def test_options_name_the_value():
    with pytest.raises(ConfigError, match="-3"):
        evaluate.Options(episodes=-3)
