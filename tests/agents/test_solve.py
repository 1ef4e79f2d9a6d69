"""`python -m agents.solve`, and the value table that it and `agents.watch` draw."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import envs
from agents import solve, watch
from agents.saved import load_saved
from agents.value_iteration import greedy_policy, policy_evaluation, policy_value, value_iteration
from agents.value_table import LISTED_STATES, best_actions, known_states, layout, save_picture, show, signs_of
from aprendiz.errors import AprendizError, ConfigError
from tests.agents.saved_runs import make_run

MAPPED = (
    "gridworld",
    "slippery-gridworld",
    "frozen-lake",
    "frozen-lake-8x8",
    "cliff-walking",
    "taxi",
    "blackjack-cards",
)


def shown(spec, q, width=140, **options) -> str:
    text = io.StringIO()
    show(spec, q, console=Console(file=text, width=width, color_system=None), **options)
    return text.getvalue()


def optimal(task: str, **options):
    env = envs.make(task, 1, **options)
    return env.spec, value_iteration(env.table(), 0.99)[1]


# Policy evaluation


@pytest.mark.parametrize("task", ["gridworld", "frozen-lake", "taxi"])
def test_a_policy_that_is_certain_is_worth_what_its_actions_are_worth(task):
    table = envs.make(task, 1).table()
    states, actions, _ = table.next_state.shape
    policy = np.random.default_rng(0).integers(actions, size=states)
    values, q = policy_evaluation(table, np.eye(actions)[policy], 0.99)
    np.testing.assert_allclose(values, policy_value(table, policy, 0.99), atol=1e-9)
    np.testing.assert_allclose(q[np.arange(states), policy], values, atol=1e-9)


def test_the_random_policy_by_hand():
    # Two steps to a goal: each action goes there (+1) or stays, at random: v = 0.5 * 1 + 0.5 * 0.9 v.
    table = envs.make("gridworld", 1, map="SG", slip=0.0, step_reward=0.0).table()
    values, _ = policy_evaluation(table, np.full((2, 4), 0.25), 0.9)
    assert values[0] == pytest.approx(0.25 / (1 - 0.9 * 0.75))
    with pytest.raises(ConfigError, match="must be a distribution"):
        policy_evaluation(table, np.full((2, 4), 0.3), 0.9)


# Drawing


@pytest.mark.parametrize("task", MAPPED)
def test_a_map_shows_every_state_at_most_once(task):
    env = envs.make(task, 1)
    states = np.concatenate([panel.states[panel.states >= 0] for panel in layout(env.spec)])
    assert len(set(states.tolist())) == len(states) and states.max() < env.spec.observation_space.n
    table = env.table()
    for panel in layout(env.spec):  # what is marked is an end: no decision is ever made there
        for state in panel.marks:
            assert table.initial[state] == 0.0


def test_the_gridworld_is_drawn_as_the_book_prints_it():
    lines = [line for line in shown(*optimal("gridworld")).splitlines() if "0." in line]
    assert [sum(line.count(arrow) for arrow in "↑→↓←") for line in lines] == [3, 2, 4]
    assert lines[0].count("→") == 3 and "G" in lines[0] and "█" in lines[1] and "P" in lines[1]
    assert "0.915" in lines[0] and "0.660" in lines[2]


def test_a_narrow_terminal_gets_arrows_only():
    text = shown(*optimal("cliff-walking"), width=60)
    assert "-12" not in text and text.count("→") > 20 and max(map(len, text.splitlines())) <= 60


def test_states_that_were_never_visited_are_dots():
    spec, q = optimal("gridworld")
    known = np.arange(12) != 0
    assert shown(spec, q).count("·") == 0 and shown(spec, q, known=known).count("·") == 1


def test_taxi_has_a_grid_for_each_errand():
    text = shown(*optimal("taxi"))
    assert text.count("to red") == 4 and "on board, to blue" in text
    assert text.count("P") == 12 and text.count("D") == 4  # one place to pick up or to drop off in each


def test_what_has_no_map_is_a_list():
    spec = envs.make("gym:Blackjack-v1", 1).spec
    assert layout(spec) == [] and signs_of(spec) == ["S", "H"]
    text = shown(spec, np.random.default_rng(0).normal(size=(704, 2)))
    assert "best action" in text and f"the first {LISTED_STATES} of 704" in text


def test_all_best_actions_are_found_up_to_rounding():
    assert best_actions(np.array([[1.0, 1.0 + 1e-13, 0.9], [0.0, 0.0, -1.0]])).tolist() == [[True, True, False]] * 2


@pytest.mark.parametrize("task", ["gridworld", "taxi", "blackjack-cards"])
def test_pictures_are_written(task, tmp_path):
    env = envs.make(task, 1)
    q = np.random.default_rng(0).normal(size=(int(env.spec.observation_space.n), env.spec.num_actions))
    path = save_picture(env.spec, q, tmp_path / "new" / "out.png", known=np.arange(len(q)) % 7 != 0)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50 and max(picture.shape) < 3000


def test_a_picture_with_one_value_alone_is_drawn(tmp_path):
    spec = envs.make("gridworld", 1).spec
    assert save_picture(spec, np.zeros((12, 4)), tmp_path / "out.png").exists()
    other = envs.make("gym:Blackjack-v1", 1).spec  # without a map: squares in the order of the states
    assert save_picture(other, np.zeros((704, 2)), tmp_path / "other.png", known=np.arange(704) < 30).exists()
    with pytest.raises(ConfigError, match=r"end in \.png"):
        save_picture(spec, np.zeros((12, 4)), tmp_path / "out.jpg")


# The commands


def test_solve_prints_the_value_and_the_map(capsys, tmp_path):
    assert solve.command(["gridworld", "--slip", "0", "--picture", str(tmp_path / "a.png")]) == 0
    printed = capsys.readouterr().out
    assert "12 states, 4 actions, discount 0.99" in printed and "a new game is worth 0.764556" in printed
    assert printed.splitlines()[-1] == str(tmp_path / "a.png") and (tmp_path / "a.png").exists()


def test_solve_evaluates_the_random_policy(capsys):
    solve.command(["frozen-lake", "--policy", "random"])
    assert "random policy: a new game is worth 0.0123561" in capsys.readouterr().out


def test_the_values_of_the_random_policy_are_drawn_and_not_those_of_a_better_one(capsys, tmp_path):
    world = ["gridworld", "--map", "SG", "--slip", "0", "--step-reward", "0", "--discount", "0.9"]
    solve.command([*world, "--policy", "random", "--picture", str(tmp_path / "random.png")])
    (drawn,) = [line for line in capsys.readouterr().out.splitlines() if "→" in line]
    assert "0.769" in drawn  # 0.25 / (1 - 0.75 * 0.9); the better first step is worth 1
    solve.command([*world, "--picture", str(tmp_path / "optimal.png")])
    assert (tmp_path / "random.png").read_bytes() != (tmp_path / "optimal.png").read_bytes()


@pytest.mark.parametrize("learner", ["q-learning", "double-q-learning"])
def test_solve_evaluates_what_a_run_has_learned(capsys, tmp_path, learner):
    run = make_run(tmp_path, "gridworld", learner)
    solve.command(["--run", str(run.path)])
    printed = capsys.readouterr().out
    agent, table = load_saved(run).agent, envs.make("gridworld", 1).table()
    learned = table.initial @ policy_value(table, greedy_policy(agent.q), 0.99)  # type: ignore[attr-defined]
    assert f"{learner}'s greedy policy: {learned:.6g}" in printed and "below" in printed


def test_solve_evaluates_a_run_that_discounts_nothing(capsys, tmp_path):
    run = make_run(tmp_path, "cliff-walking", "q-learning")
    saved = run.path / "config.json"
    saved.write_text(saved.read_text().replace('"discount": 0.99', '"discount": 1.0'))
    solve.command(["--run", str(run.path)])
    printed = capsys.readouterr().out
    assert "discount 1, worked out with 0.999999" in printed
    assert "optimal policy: a new game is worth -12.9999" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name an environment first"),
        (["cartpole"], "nothing to solve"),
        (["gridworld", "--discount", "1"], "below 1"),
        (["gridworld", "--picture", "a.gif"], "end in .png"),
        (["gridworld", "--run", "x"], "not both"),
        (["--run", "x", "--policy", "random"], "--policy does nothing with --run"),
        (["--run", "x", "--discount", "0.9"], "--discount does nothing with --run"),
        (["gridworld", "--checkpoint", "best"], "--checkpoint does nothing without --run"),
        (["gridwrold"], "gridworld"),
    ],
)
def test_solve_says_in_one_line_what_is_wrong(arguments, said):
    with pytest.raises(AprendizError, match=said) as caught:
        solve.command(arguments)
    assert "\n" not in str(caught.value)


def test_watch_draws_the_table_of_a_tabular_agent(capsys, tmp_path):
    run = make_run(tmp_path, "gridworld", "sarsa")
    watch.command([str(run.path), "--table"])
    printed = capsys.readouterr().out
    assert "gridworld   sarsa   100 steps" in printed and "G" in printed and not list(run.videos.glob("*"))
    watch.command([str(run.path), "--picture", str(tmp_path / "q.png")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "q.png") and (tmp_path / "q.png").exists()


def test_watch_draws_no_table_where_there_is_none(tmp_path):
    run = make_run(tmp_path, "cartpole", "dqn")
    with pytest.raises(ConfigError, match="--picture draws tables of values, and dqn") as caught:
        watch.command([str(run.path), "--picture", str(Path("q.png"))])
    assert "\n" not in str(caught.value)


def test_visited_states_are_known():
    spec = envs.make("gridworld", 1).spec
    for name in ("sarsa", "double-q-learning"):
        from agents import AGENTS

        cls = AGENTS.get(name)
        agent = cls(cls.resolve(cls.Config(), 10), spec.observation_space, spec.action_space, seed=0)
        assert not known_states(agent).any()
        agent.visits[..., 5, 2] += 1
        assert np.flatnonzero(known_states(agent)).tolist() == [5]
