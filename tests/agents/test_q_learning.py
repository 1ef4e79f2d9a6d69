"""Tabular Q-learning: hand-worked updates, the compiled kernel against plain Python, exact resume, learned optima."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import envs
from agents.q_learning import QLearning, QLearningConfig
from agents.step_source import StepSource, Transitions
from agents.table_source import TableChunk, TableSource
from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
from aprendiz.errors import CheckpointError, ConfigError, EnvError
from envs.core import EnvSpec, Step, TransitionTable

TASKS = ("gridworld", "frozen-lake", "taxi", "cliff-walking")


def make_learner(states: int, actions: int, **overrides) -> QLearning:
    config = QLearningConfig(**{"exploration_env_steps": 1000, **overrides})
    spaces = gymnasium.spaces.Discrete(states), gymnasium.spaces.Discrete(actions)
    return QLearning(config, *spaces, seed=0)


def make_table(next_state, reward, terminated, *, probability=None, initial=None, time_limit=None) -> TransitionTable:
    next_state = np.array(next_state, dtype=np.int64)
    states = len(next_state)
    return TransitionTable(
        next_state=next_state,
        probability=np.ones(next_state.shape) if probability is None else np.array(probability, dtype=np.float64),
        reward=np.array(reward, dtype=np.float64),
        terminated=np.array(terminated, dtype=np.bool_),
        initial=np.eye(states)[0] if initial is None else np.array(initial, dtype=np.float64),
        time_limit=time_limit,
    )


def random_table(seed: int, time_limit: int | None = 7) -> TransitionTable:
    generator = np.random.default_rng(seed)
    shape = (6, 3, 4)
    probability = generator.dirichlet(np.ones(3), size=shape[:2])
    return TransitionTable(
        next_state=generator.integers(6, size=shape),
        probability=np.concatenate([probability, np.zeros((6, 3, 1))], axis=2),  # the last outcome is padding
        reward=generator.normal(size=shape),
        terminated=generator.random(shape) < 0.1,
        initial=np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]),
        time_limit=time_limit,
    )


def make_chunk(table: TransitionTable, uniforms, state: int = 0, env_steps: int = 0) -> TableChunk:
    uniforms = np.asarray(uniforms, dtype=np.float64)
    return TableChunk(table=table, uniforms=uniforms, env_steps=env_steps, state=state, elapsed=0, score=0.0)


def make_source(learner: QLearning, table: TransitionTable, seed: int = 0, **options) -> TableSource:
    env = SimpleNamespace(table=lambda: table, spec=SimpleNamespace(name="a table"))
    return TableSource(learner, env, seed=seed, **options)


def train(learner: QLearning, source: TableSource, env_steps: int) -> None:
    while env_steps > 0:
        work = source.next(env_steps)
        source.feedback(work.batch, learner.update(work.batch))
        env_steps -= work.units


# The update rule, by hand


def test_updates_by_hand_and_no_bootstrap_from_a_terminal_state():
    learner = make_learner(2, 1, discount=0.5, step_size_exponent=1.0)
    transitions = Transitions(
        observation=np.array([0, 1, 0]),
        action=np.array([0, 0, 0]),
        reward=np.array([1.0, 2.0, 1.0]),
        next_observation=np.array([1, 0, 1]),
        discount=np.array([0.5, 0.0, 0.5]),
    )
    outcome = learner.update(transitions)
    # 1. q(0) <- 1 + 0.5 * 0 = 1. 2. Terminal: q(1) <- 2, not 2 + 0.5 * q(0). 3. The target is 1 + 0.5 * 2 = 2, the step
    # size of the second visit 1/2: q(0) <- 1 + (2 - 1) / 2 = 1.5.
    assert learner.q.tolist() == [[1.5], [2.0]]
    assert learner.visits.tolist() == [[2], [1]]
    assert outcome.metrics["td_error"] == pytest.approx((1 + 2 + 1) / 3)
    assert outcome.metrics["q_mean"] == pytest.approx((0 + 0 + 1) / 3)


def test_step_size_falls_with_the_visits_of_state_and_action():
    learner = make_learner(2, 2, step_size_exponent=0.7)
    for visit in range(1, 6):
        before = learner.q[0, 1]
        learner.update(
            Transitions(
                observation=np.array([0]),
                action=np.array([1]),
                reward=np.array([5.0]),
                next_observation=np.array([0]),
                discount=np.array([0.0]),
            )
        )
        assert learner.q[0, 1] == pytest.approx(before + (5.0 - before) / visit**0.7)
    assert learner.visits.tolist() == [[0, 5], [0, 0]]


def test_chunk_does_not_bootstrap_from_a_terminal_state():
    # One state; the game ends in it with reward 3. The table names state 0 as the next one: its value must not count.
    table = make_table([[[0]]], [[[3.0]]], [[[True]]])
    learner = make_learner(1, 1, discount=0.9)
    chunk = make_chunk(table, np.full((50, 4), 0.5))
    learner.update(chunk)
    assert learner.q[0, 0] == 3.0
    assert chunk.finished_scores.tolist() == [3.0] * 50
    assert chunk.finished_lengths.tolist() == [1] * 50


def test_chunk_bootstraps_at_the_time_limit():
    # One state, reward 1 for ever, and a limit of one step: 1, then 1 + (1 + 0.9 * 1 - 1) / 2 = 1.45. As a terminal
    # state the limit would keep the value at 1.
    table = make_table([[[0]]], [[[1.0]]], [[[False]]], time_limit=1)
    learner = make_learner(1, 1, discount=0.9, step_size_exponent=1.0)
    chunk = make_chunk(table, np.full((2, 4), 0.5))
    learner.update(chunk)
    assert learner.q[0, 0] == pytest.approx(1.45)
    assert chunk.finished_lengths.tolist() == [1, 1]
    assert (chunk.state, chunk.elapsed, chunk.score) == (0, 0, 0.0)


def test_termination_on_the_last_step_before_the_limit_wins():
    table = make_table([[[0]]], [[[1.0]]], [[[True]]], time_limit=1)
    learner = make_learner(1, 1, discount=0.9)
    learner.update(make_chunk(table, np.full((20, 4), 0.5)))
    assert learner.q[0, 0] == 1.0


def test_the_game_goes_on_across_chunks_and_restarts_from_the_start_distribution():
    # A corridor of four states that ends after the fourth; games start in state 0 or, with probability 1/4, in state 2.
    table = make_table(
        [[[1]], [[2]], [[3]], [[0]]],
        [[[1.0]], [[10.0]], [[100.0]], [[1000.0]]],
        [[[False]], [[False]], [[False]], [[True]]],
        initial=[0.75, 0.0, 0.25, 0.0],
    )
    learner = make_learner(4, 1)
    first = make_chunk(table, np.full((3, 4), 0.1))
    learner.update(first)
    assert (first.state, first.elapsed, first.score, len(first.finished_scores)) == (3, 3, 111.0, 0)
    second = dataclasses.replace(first, uniforms=np.full((2, 4), 0.8), env_steps=3)
    learner.update(second)
    assert second.finished_scores.tolist() == [1111.0]
    assert second.finished_lengths.tolist() == [4]
    assert (second.state, second.elapsed, second.score) == (3, 1, 100.0)


# The compiled kernel against plain Python


def play_in_plain_python(q, visits, chunk: TableChunk, config: QLearningConfig):
    """The same chunk, written a second time: lists, Python floats, no shared code."""
    q, visits = [list(map(float, row)) for row in q], [list(map(int, row)) for row in visits]
    table, finished = chunk.table, []
    state, elapsed, score = chunk.state, chunk.elapsed, chunk.score

    def draw(distribution, uniform):
        possible = [(index, p) for index, p in enumerate(distribution.tolist()) if p > 0]
        total = 0.0
        for index, p in possible:
            total += p
            if uniform < total:
                return index
        return possible[-1][0]

    for number, (coin, choice, luck, restart) in enumerate(chunk.uniforms.tolist()):
        fraction = min(1.0, (chunk.env_steps + number) / config.exploration_env_steps)
        epsilon = config.exploration_start + (config.exploration_end - config.exploration_start) * fraction
        best = [action for action, value in enumerate(q[state]) if value == max(q[state])]
        candidates = range(len(q[state])) if coin < epsilon else best
        action = candidates[int(choice * len(candidates))]
        k = draw(table.probability[state, action], luck)
        next_state, reward, terminated = (
            array[state, action, k].item() for array in (table.next_state, table.reward, table.terminated)
        )
        target = reward if terminated else reward + config.discount * max(q[next_state])
        visits[state][action] += 1
        q[state][action] += (target - q[state][action]) / visits[state][action] ** config.step_size_exponent
        state, elapsed, score = next_state, elapsed + 1, score + reward
        if terminated or elapsed == table.time_limit:
            finished.append((score, elapsed))
            state, elapsed, score = draw(table.initial, restart), 0, 0.0
    return q, visits, state, elapsed, score, finished


@pytest.mark.parametrize("seed", range(4))
def test_kernel_equals_plain_python_exactly(seed):
    table = random_table(seed, time_limit=None if seed == 3 else 7)
    learner = make_learner(6, 3, exploration_env_steps=1500, exploration_end=0.05)
    generator = np.random.default_rng(seed)
    state = 1
    for env_steps in (0, 1000, 2000):
        chunk = make_chunk(table, generator.random((1000, 4)), state, env_steps)
        expected = play_in_plain_python(learner.q, learner.visits, chunk, learner.config)
        learner.update(chunk)
        q, visits, state, elapsed, score, finished = expected
        assert learner.q.tolist() == q
        assert learner.visits.tolist() == visits
        assert (chunk.state, chunk.elapsed, chunk.score) == (state, elapsed, score)
        assert list(zip(chunk.finished_scores.tolist(), chunk.finished_lengths.tolist(), strict=True)) == finished


def test_a_chunk_and_the_same_transitions_one_by_one_learn_the_same():
    # A game with one outcome an action and no ending but the limit, played at random, can be replayed from outside.
    table = make_table(
        [[[1], [2]], [[2], [0]], [[0], [1]]], [[[1.0], [-1]], [[0.5], [2]], [[0], [3]]], [[[False]] * 2] * 3
    )
    options = {"exploration_start": 1.0, "exploration_end": 1.0}
    played, told = make_learner(3, 2, **options), make_learner(3, 2, **options)
    uniforms = np.random.default_rng(0).random((200, 4))
    actions = (uniforms[:, 1] * 2).astype(np.int64)
    states = [0]
    for action in actions:
        states.append(int(table.next_state[states[-1], action, 0]))
    states = np.array(states)
    played.update(make_chunk(table, uniforms))
    rewards = table.reward[states[:-1], actions, 0]
    told.update(
        Transitions(
            observation=states[:-1],
            action=actions,
            reward=rewards,
            next_observation=states[1:],
            discount=np.full(200, 0.99),
        )
    )
    np.testing.assert_array_equal(played.q, told.q)


# Acting


def test_exploration_falls_linearly_in_absolute_environment_steps():
    learner = make_learner(2, 2, exploration_start=1.0, exploration_end=0.1, exploration_env_steps=1000)
    assert [learner.exploration(steps) for steps in (0, 500, 1000, 5000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert make_learner(2, 2, exploration_env_steps=0).exploration(0) == 0.1


def test_greedy_acting_takes_the_first_maximum_and_leaves_the_generator_alone():
    learner = make_learner(3, 3)
    learner.q[:] = [[0, 1, 1], [2, 0, 0], [0, 0, 0]]
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    actions = learner.act(np.array([0, 1, 2, 0]), 0.0, generator)
    assert actions.tolist() == [1, 0, 0, 1]
    assert actions.dtype == np.int64
    assert generator.bit_generator.state == before
    assert learner.inspect(np.array([1, 0]))["q_values"].tolist() == [[2, 0, 0], [0, 1, 1]]


def test_exploring_throws_one_coin_for_each_environment_and_breaks_ties_at_random():
    learner = make_learner(1, 4)
    learner.q[:] = [[0, 5, 5, 0]]
    actions = learner.act(np.zeros(100_000, dtype=np.int64), 0.2, np.random.default_rng(0))
    # Random with probability 0.2, a quarter of it each; the rest is shared by the two best.
    shares = np.bincount(actions, minlength=4) / 100_000
    np.testing.assert_allclose(shares, [0.05, 0.45, 0.45, 0.05], atol=0.006)


# The source


@pytest.mark.parametrize("chunk_env_steps", [1, 7, 1000])
def test_the_size_of_the_chunks_changes_nothing(chunk_env_steps):
    learners = [make_learner(6, 3), make_learner(6, 3)]
    sources = [make_source(learners[0], random_table(1), chunk_env_steps=300)]
    sources.append(make_source(learners[1], random_table(1), chunk_env_steps=chunk_env_steps))
    for learner, source in zip(learners, sources, strict=True):
        train(learner, source, 2000)
    np.testing.assert_array_equal(learners[0].q, learners[1].q)
    assert sources[0].state_dict() == sources[1].state_dict()


def test_the_last_chunk_does_not_pass_the_limit():
    source = make_source(make_learner(6, 3), random_table(0), chunk_env_steps=100)
    work = source.next(30)
    assert (work.units, len(work.batch.uniforms), work.safe_point) == (30, 30, True)
    assert make_source(make_learner(6, 3, chunk_env_steps=40), random_table(0)).next().units == 40


def test_metrics_are_means_over_the_last_hundred_games():
    table = make_table([[[1]], [[0]]], [[[1.0]], [[2.0]]], [[[False]], [[True]]])
    learner = make_learner(2, 1, exploration_env_steps=1000)
    source = make_source(learner, table, chunk_env_steps=250)
    assert source.metrics() == {"rollout/exploration": 1.0, "rollout/games": 0.0}
    train(learner, source, 500)
    assert source.metrics() == {
        "rollout/exploration": pytest.approx(0.55),
        "rollout/games": 250.0,
        "rollout/score_mean": 3.0,
        "rollout/length_mean": 2.0,
    }
    assert len(source.recent_games.scores) == 100


def test_the_first_game_starts_from_the_start_distribution():
    starts = [make_source(make_learner(6, 3), random_table(0), seed=seed).state for seed in range(2000)]
    np.testing.assert_allclose(np.bincount(starts, minlength=6) / 2000, [0, 0.5, 0, 0.3, 0.2, 0], atol=0.035)


def test_resuming_gives_the_same_numbers_as_not_having_stopped():
    whole = make_learner(6, 3)
    whole_source = make_source(whole, random_table(2), seed=5, chunk_env_steps=130)
    train(whole, whole_source, 1300)

    first = make_learner(6, 3)
    first_source = make_source(first, random_table(2), seed=5, chunk_env_steps=130)
    train(first, first_source, 650)
    saved_source = json.loads(json.dumps(first_source.state_dict()))
    saved_learner = copy.deepcopy(first.state_dict())
    assert saved_source["elapsed"] > 0, "the case worth testing is a game in progress"
    train(first, first_source, 100)  # what happens after the save must not leak into it

    second = make_learner(6, 3)
    second_source = make_source(second, random_table(2), seed=99, chunk_env_steps=130)
    second.load_state_dict(saved_learner)
    second_source.load_state_dict(saved_source)
    train(second, second_source, 650)
    np.testing.assert_array_equal(second.q, whole.q)
    np.testing.assert_array_equal(second.visits, whole.visits)
    assert second_source.state_dict() == whole_source.state_dict()
    assert second_source.metrics() == whole_source.metrics()


def test_same_seed_same_table_and_another_seed_another():
    tables = []
    for seed in (3, 3, 4):
        learner = make_learner(6, 3)
        np.random.seed(len(tables))
        train(learner, make_source(learner, random_table(0), seed=seed), 2000)
        tables.append(learner.q)
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


def test_a_checkpoint_of_another_environment_is_refused():
    learner = make_learner(6, 3)
    with pytest.raises(CheckpointError, match="resume with the environment"):
        learner.load_state_dict(make_learner(7, 3).state_dict())
    source = make_source(learner, random_table(0))
    with pytest.raises(CheckpointError, match="6 states"):
        source.load_state_dict({**source.state_dict(), "state": 6})


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(EnvError, match="transition probabilities"):
        make_source(make_learner(6, 3), None)


# Step by step, where there is no table


class Corridor:
    """N lanes; state 0, 1, 2 and then the end (even lanes, reward 5) or the time limit (odd lanes, reward 5)."""

    num_envs = 2
    forced_action = np.full(2, -1)

    def reset(self, seed):
        self.state = np.zeros(2, dtype=np.int64)
        return self.state

    def step(self, actions):
        self.actions = actions
        ends = self.state == 2
        final = self.state + 1
        self.state = np.where(ends, 0, final)
        even = np.arange(2) % 2 == 0
        return Step(
            observation=self.state,
            reward=np.where(ends, 5.0, 0.0).astype(np.float32),
            terminated=ends & even,
            truncated=ends & ~even,
            final_observation=final,
            life_lost=np.zeros(2, dtype=np.bool_),
            forced_action=self.forced_action,
            score=np.where(ends, 5.0, 0.0),
            length=np.where(ends, 3, 0),
        )


def test_steps_have_a_zero_discount_at_the_end_and_the_true_last_state_at_the_limit():
    learner = make_learner(4, 2)
    source = StepSource(learner, Corridor(), discount=0.9, seed=0)
    batches = [source.next().batch for _ in range(4)]
    assert [batch.observation.tolist() for batch in batches] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    assert [batch.next_observation.tolist() for batch in batches] == [[1, 1], [2, 2], [3, 3], [1, 1]]
    assert [batch.discount.tolist() for batch in batches] == [[0.9, 0.9], [0.9, 0.9], [0.0, 0.9], [0.9, 0.9]]
    assert source.metrics()["rollout/games"] == 2
    assert source.metrics()["rollout/length_mean"] == 3
    assert source.env_steps == 8


def test_steps_press_what_the_protocol_presses():
    env = Corridor()
    env.forced_action = np.array([-1, 1])
    learner = make_learner(4, 2, exploration_end=0.0, exploration_env_steps=0)
    batch = StepSource(learner, env, discount=0.9, seed=0).next().batch
    assert batch.action.tolist() == env.actions.tolist() == [0, 1]


def without_table(task: str, lanes: int) -> envs.Env:
    env = envs.make(task, lanes)
    env.table = lambda: None
    return env


def test_steps_resume_exactly():
    def start(seed):
        env = without_table("gridworld", 3)
        learner = make_learner(int(env.spec.observation_space.n), int(env.spec.action_space.n))
        return learner, learner.make_source(env, seed=seed)

    whole, whole_source = start(5)
    train(whole, whole_source, 1500)
    first, first_source = start(5)
    train(first, first_source, 750)
    saved = copy.deepcopy((first.state_dict(), first_source.state_dict()))
    second, second_source = start(6)
    second.load_state_dict(saved[0])
    second_source.load_state_dict(saved[1])
    train(second, second_source, 750)
    assert isinstance(whole_source, StepSource)
    np.testing.assert_array_equal(second.q, whole.q)
    assert second_source.metrics() == whole_source.metrics()


def test_learns_gridworld_step_by_step():
    env = without_table("gridworld", 8)
    table, spec = envs.make("gridworld", 1).table(), env.spec
    learner = QLearning(
        QLearningConfig(exploration_env_steps=100_000), spec.observation_space, spec.action_space, seed=0
    )
    train(learner, learner.make_source(env, seed=0), 200_000)
    optimum = start_value(table, value_iteration(table, 0.99)[0])
    learned = start_value(table, policy_value(table, greedy_policy(learner.q), 0.99))
    assert learned >= optimum - 0.01 * abs(optimum)


# Configuration


def make_spec(name: str, kind: str, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> EnvSpec:
    return EnvSpec(
        name=name,
        observation_kind=kind,
        observation_space=observation_space,
        action_space=action_space,
        frame_stack=1,
        protocol={},
        default_env_steps=1000,
        random_score=None,
        human_score=None,
        score_source="",
        solved_score=None,
        overlapped=False,
        restorable=True,
    )


def test_presets_say_what_a_table_cannot_learn():
    discrete = gymnasium.spaces.Discrete(4)
    assert QLearning.presets(make_spec("grid", "discrete", discrete, discrete)) == {"default": QLearningConfig()}
    images = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(ConfigError) as error:
        QLearning.presets(make_spec("breakout", "image", images, discrete))
    assert str(error.value) == "q-learning needs discrete observations; breakout has images; use --agent dqn"
    vectors = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    with pytest.raises(ConfigError, match="cartpole has vectors; use --agent dqn"):
        QLearning.presets(make_spec("cartpole", "vector", vectors, discrete))
    with pytest.raises(ConfigError, match="needs discrete actions; pendulum has Box actions"):
        QLearning.presets(make_spec("pendulum", "discrete", discrete, vectors))


def test_resolve_makes_the_exploration_schedule_absolute_once():
    resolved = QLearning.resolve(QLearningConfig(), 2_000_000)
    assert resolved.exploration_env_steps == 1_000_000
    assert QLearning.resolve(resolved, 9_000_000) == resolved
    with pytest.raises(ConfigError, match="exploration_env_steps is not set"):
        QLearning(QLearningConfig(), gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"discount": 1.01},
        {"discount": -0.1},
        {"step_size_exponent": 0.5},
        {"step_size_exponent": 1.1},
        {"exploration_start": 1.5},
        {"exploration_end": -0.1},
        {"exploration_env_steps": -1},
        {"initial_value": float("nan")},
        {"chunk_env_steps": 0},
    ],
)
def test_config_names_the_field_that_is_out_of_range(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} must be"):
        QLearningConfig(**wrong)


def test_spaces_that_do_not_fit_are_refused():
    config = QLearningConfig(exploration_env_steps=1)
    discrete, box = gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(0, 1, (2,))
    for spaces in ((box, discrete), (discrete, box), (gymnasium.spaces.Discrete(2, start=1), discrete)):
        with pytest.raises(ConfigError, match="q-learning needs discrete"):
            QLearning(config, *spaces, seed=0)


# What it is for: the optimum of stochastic games


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
@pytest.mark.parametrize("task", TASKS)
def test_greedy_policy_is_within_one_per_cent_of_the_optimum(task, seed):
    env = envs.make(task, 1)
    table, spec = env.table(), env.spec
    config = QLearning.resolve(QLearning.presets(spec)["default"], spec.default_env_steps)
    learner = QLearning(config, spec.observation_space, spec.action_space, seed=seed)
    train(learner, learner.make_source(env, seed=seed), spec.default_env_steps)
    optimum = start_value(table, value_iteration(table, config.discount)[0])
    learned = start_value(table, policy_value(table, greedy_policy(learner.q), config.discount))
    assert learned >= optimum - 0.01 * abs(optimum)


def test_learns_a_million_steps_a_second():
    env = envs.make("taxi", 1)
    learner = make_learner(500, 6)
    source = TableSource(learner, env, seed=0)
    train(learner, source, 10_000)  # compiles, or loads what was compiled
    started = time.process_time()
    train(learner, source, 500_000)
    assert time.process_time() - started < 0.5
