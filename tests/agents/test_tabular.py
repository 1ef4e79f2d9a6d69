"""The tabular agents beside Q-learning: updates by hand, kernels against plain Python, exact resume."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json

import gymnasium
import numpy as np
import pytest

import envs
from agents import AGENTS
from agents.double_q_learning import DoubleQLearning
from agents.expected_sarsa import ExpectedSarsa
from agents.q_lambda import QLambda, QLambdaConfig, trace_length
from agents.q_learning import QLearning
from agents.sarsa import Sarsa
from agents.step_source import StepSource, Transitions
from agents.tabular import TabularAgent
from aprendiz.errors import CheckpointError
from tests.agents.test_q_learning import Corridor, make_chunk, make_source, make_table, random_table, train

KINDS: dict[str, type[TabularAgent]] = {
    kind.name: kind for kind in (QLearning, Sarsa, ExpectedSarsa, DoubleQLearning, QLambda)
}
OTHERS = [name for name in KINDS if name != "q-learning"]
EVEN = {"exploration_shape": "linear", "exploration_start": 1.0, "exploration_end": 0.1, "initial_value": 0.0}


def make(name: str, states: int, actions: int, **overrides) -> TabularAgent:
    kind = KINDS[name]
    settings = {"exploration_env_steps": 1000, "initial_visits": 0, **EVEN, **overrides}
    spaces = gymnasium.spaces.Discrete(states), gymnasium.spaces.Discrete(actions)
    return kind(kind.Config(**settings), *spaces, seed=0)


def transition(state, action, reward, next_state, discount, **more) -> Transitions:
    arrays = {name: np.array([value]) for name, value in more.items() if name != "explore"}
    return Transitions(
        observation=np.array([state]),
        action=np.array([action]),
        reward=np.array([reward]),
        next_observation=np.array([next_state]),
        discount=np.array([discount]),
        explore=more.get("explore", 0.0),
        **arrays,
    )


def test_every_tabular_agent_is_registered_under_its_name():
    assert all(AGENTS.get(name) is kind for name, kind in KINDS.items())


# The update rules, by hand


def test_sarsa_follows_the_action_that_is_taken_next_not_the_best_one():
    agent = make("sarsa", 2, 2, step_size=0.5, discount=0.9)
    agent.table[:] = [[1.0, 0.0], [10.0, 2.0]]
    agent.update(transition(0, 0, 1.0, 1, 0.9, next_action=1))
    # target 1 + 0.9 * 2 = 2.8; 1 + 0.5 * 1.8 = 1.9. With the best action it would be 1 + 0.5 * 9 = 5.5.
    assert agent.q[0, 0] == pytest.approx(1.9)
    agent.update(transition(1, 0, 4.0, 1, 0.0, next_action=0))
    assert agent.q[1, 0] == pytest.approx(7.0)  # 10 + (4 - 10) / 2: nothing follows


def test_expected_sarsa_takes_the_mean_over_the_epsilon_greedy_policy():
    agent = make("expected-sarsa", 2, 2, step_size=0.5, discount=0.9)
    agent.table[:] = [[1.0, 0.0], [10.0, 2.0]]
    agent.update(transition(0, 0, 1.0, 1, 0.9, explore=0.4))
    # 0.6 * 10 + 0.4 * (10 + 2) / 2 = 8.4; target 1 + 0.9 * 8.4 = 8.56; 1 + 0.5 * 7.56 = 4.78
    assert agent.q[0, 0] == pytest.approx(4.78)
    agent.update(transition(1, 0, 4.0, 1, 0.0, explore=0.4))
    assert agent.q[1, 0] == pytest.approx(7.0)


@pytest.mark.parametrize("coin", [0.49, 0.5])
def test_double_q_learning_judges_the_choice_of_one_table_by_the_other(coin):
    agent = make("double-q-learning", 2, 2, step_size=0.5, discount=0.9)
    agent.table[0] = [[1.0, 0.0], [10.0, 2.0]]
    agent.table[1] = [[3.0, 0.0], [4.0, 20.0]]
    agent.update(transition(0, 0, 1.0, 1, 0.9, uniforms=[coin]))
    if coin < 0.5:  # the first chooses action 0, worth 4 to the second: 1 + 0.5 * (1 + 3.6 - 1) = 2.8
        assert agent.table[:, 0, 0].tolist() == pytest.approx([2.8, 3.0])
        assert agent.visits[:, 0, 0].tolist() == [1, 0]
    else:  # the second chooses action 1, worth 2 to the first: 3 + 0.5 * (1 + 1.8 - 3) = 2.9
        assert agent.table[:, 0, 0].tolist() == pytest.approx([1.0, 2.9])
        assert agent.visits[:, 0, 0].tolist() == [0, 1]
    assert agent.q[0, 0] == pytest.approx(agent.table[:, 0, 0].mean())


def test_double_q_learning_is_not_fooled_by_noise():
    # From state 0: out with 0, or to state 1, where each of eight actions pays -0.1 on average, with a spread of 1
    # (Sutton and Barto 2018, example 6.7). Q-learning believes that going there is worth something.
    generator = np.random.default_rng(0)
    found = {}
    for name in ("q-learning", "double-q-learning"):
        values = []
        for _ in range(200):
            agent = make(name, 2, 8, step_size=0.1, discount=1.0)
            for _ in range(80):
                noise = float(generator.normal(-0.1, 1.0))
                last = transition(1, int(generator.integers(8)), noise, 0, 0.0, uniforms=[generator.random()])
                agent.update(last)
                agent.update(transition(0, 0, 0.0, 1, 1.0, uniforms=[generator.random()]))
            values.append(agent.q[0, 0])
        found[name] = np.mean(values)
    assert found["q-learning"] > 0.2 and found["double-q-learning"] < 0.05


def lane(state, action, reward, next_state, discount, ended=False) -> Transitions:
    return transition(state, action, reward, next_state, discount, lane=0, ended=ended)


def test_q_lambda_teaches_the_steps_that_led_there_and_traces_fade():
    agent = make("q-lambda", 4, 1, step_size=0.5, discount=0.9, trace_decay=0.5)
    agent.update(lane(0, 0, 0.0, 1, 0.9))
    agent.update(lane(1, 0, 0.0, 2, 0.9))
    agent.update(lane(2, 0, 8.0, 3, 0.0, ended=True))
    # The error 8 moves state 2 by 4, state 1 by 0.45 of that, state 0 by 0.45^2.
    assert agent.q[:, 0].tolist() == pytest.approx([0.81, 1.8, 4.0, 0.0])


def test_q_lambda_cuts_traces_at_the_end_of_a_game():
    agent = make("q-lambda", 4, 1, step_size=0.5, discount=0.9, trace_decay=0.5)
    agent.update(lane(0, 0, 0.0, 1, 0.9, ended=True))  # cut off by the clock
    agent.update(lane(2, 0, 8.0, 3, 0.0, ended=True))
    assert agent.q[:, 0].tolist() == [0.0, 0.0, 4.0, 0.0]


def test_q_lambda_cuts_traces_before_an_exploratory_action_and_not_before_a_best_one():
    for second, expected in ((1, 1.8), (0, 0.0)):
        agent = make("q-lambda", 3, 2, step_size=0.5, discount=0.9, trace_decay=0.5)
        agent.table[1] = [-1.0, 0.0]  # action 1 is the best one
        agent.update(lane(0, 0, 0.0, 1, 0.9))
        before, error = (0.0, 8.0) if second == 1 else (-1.0, 9.0)
        agent.update(lane(1, second, 8.0, 2, 0.0, ended=True))
        assert agent.q[0, 0] == pytest.approx(expected)
        assert agent.q[1, second] == pytest.approx(before + error / 2)


def test_a_replacing_trace_counts_a_pair_once():
    agent = make("q-lambda", 2, 1, step_size=0.5, discount=0.9, trace_decay=1.0)
    agent.update(lane(0, 0, 0.0, 0, 0.9))
    agent.update(lane(0, 0, 8.0, 1, 0.0, ended=True))
    assert agent.q[0, 0] == pytest.approx(4.0)  # accumulating traces would make it 4 + 3.6


def test_traces_of_several_environments_are_kept_apart():
    agent = make("q-lambda", 4, 1, step_size=0.5, discount=0.9, trace_decay=0.5)
    both = [(0, 0, 0.0, 1, 0.9, False), (2, 0, 0.0, 3, 0.9, False)]
    for first, second in (both, [(1, 0, 8.0, 0, 0.0, True), (3, 0, 0.0, 0, 0.0, True)]):
        columns = [np.array(column) for column in zip(first, second, strict=True)]
        observation, action, reward, following, discount, ended = columns
        agent.update(
            Transitions(
                observation=observation,
                action=action,
                reward=reward,
                next_observation=following,
                discount=discount,
                lane=np.arange(2),
                ended=ended,
            )
        )
    assert agent.q[:, 0].tolist() == pytest.approx([1.8, 4.0, 0.0, 0.0])


def test_q_lambda_forgets_its_traces_where_other_games_have_begun():
    agent = make("q-lambda", 4, 1, step_size=0.5, discount=0.9, trace_decay=0.5)
    agent.update(lane(0, 0, 0.0, 1, 0.9))
    last = lane(2, 0, 8.0, 0, 0.0, ended=True)
    last.restarted = True
    agent.update(last)
    assert agent.q[:, 0].tolist() == [0.0, 0.0, 4.0, 0.0]


@pytest.mark.parametrize("restorable", [True, False])
def test_only_the_first_steps_of_other_games_say_so(restorable):
    env = envs.make("gridworld", 2)
    env.table = lambda: None
    env.spec = dataclasses.replace(env.spec, restorable=restorable)
    agent = make("sarsa", 12, 4)
    source = agent.make_source(env, seed=0)
    assert not source.next().batch.restarted
    source.load_state_dict(copy.deepcopy(source.state_dict()))
    assert (source.actions is None) != restorable
    assert [source.next().batch.restarted for _ in range(2)] == [not restorable, False]


def test_traces_are_dropped_below_the_cutoff():
    assert trace_length(QLambdaConfig(discount=0.9, trace_decay=0.0)) == 1
    assert trace_length(QLambdaConfig(discount=0.5, trace_decay=1.0, trace_cutoff=0.2)) == 3  # 1, 0.5, 0.25
    agent = make("q-lambda", 6, 1, step_size=0.5, discount=0.5, trace_decay=1.0, trace_cutoff=0.2)
    for state in range(4):
        agent.update(lane(state, 0, 0.0, state + 1, 0.5))
    agent.update(lane(4, 0, 16.0, 5, 0.0, ended=True))
    assert agent.q[:, 0].tolist() == [0.0, 0.0, 2.0, 4.0, 8.0, 0.0]


# Compiled chunks against plain Python


def draw(distribution, uniform):
    possible = [(index, p) for index, p in enumerate(distribution.tolist()) if p > 0]
    total = 0.0
    for index, p in possible:
        total += p
        if uniform < total:
            return index
    return possible[-1][0]


def in_plain_python(name, agent, chunk):
    """The same chunk, written a second time after the boxes of the book; eligibilities as a full table."""
    config, rules = agent.config, chunk.table
    tables = agent.table.reshape(-1, *agent.table.shape[-2:]).tolist()
    visits = agent.visits.reshape(-1, *agent.visits.shape[-2:]).tolist()
    states, actions = len(tables[0]), len(tables[0][0])
    state, elapsed, score, action, finished = chunk.state, chunk.elapsed, chunk.score, chunk.action, []
    eligibility = [[0.0] * actions for _ in range(states)]
    rate = [[0.0] * actions for _ in range(states)]

    def choose(where, coin, choice):
        values = [sum(table[where][a] for table in tables) for a in range(actions)]
        best = [a for a in range(actions) if values[a] == max(values)]
        candidates = range(actions) if coin < epsilon else best
        return candidates[int(choice * len(candidates))]

    for number, row in enumerate(chunk.uniforms.tolist()):
        fraction = (chunk.env_steps + number) / config.exploration_env_steps
        start, end = config.exploration_start, config.exploration_end
        epsilon = start + (end - start) * min(1.0, fraction)
        if name != "sarsa":
            action = choose(state, row[0], row[1])
        elif action < 0:
            action = choose(state, row[4], row[5])
        k = draw(rules.probability[state, action], row[2])
        arrays = (rules.next_state, rules.reward, rules.terminated)
        following, reward, terminated = (array[state, action, k].item() for array in arrays)
        next_action, learner = -1, 0
        if name == "sarsa":
            next_action = choose(following, row[0], row[1])
            value = tables[0][following][next_action]
        elif name == "expected-sarsa":
            value = (1 - epsilon) * max(tables[0][following]) + epsilon * sum(tables[0][following]) / actions
        elif name == "double-q-learning":
            learner = 0 if row[4] < 0.5 else 1
            value = tables[1 - learner][following][tables[learner][following].index(max(tables[learner][following]))]
        else:
            value = max(tables[0][following])
        q = tables[learner]
        error = reward + (0.0 if terminated else config.discount * value) - q[state][action]
        visits[learner][state][action] += 1
        step_size = 1.0 / visits[learner][state][action] ** config.step_size_exponent
        if name == "q-lambda":
            greedy = q[state][action] == max(q[state])
            decay = config.discount * config.trace_decay if greedy else 0.0
            eligibility = [[one * decay for one in line] for line in eligibility]
            eligibility[state][action], rate[state][action] = 1.0, step_size
            for s in range(states):
                for a in range(actions):
                    if eligibility[s][a] >= config.trace_cutoff:
                        q[s][a] += rate[s][a] * error * eligibility[s][a]
        else:
            q[state][action] += step_size * error
        state, elapsed, score, action = following, elapsed + 1, score + reward, next_action
        if terminated or elapsed == rules.time_limit:
            finished.append((score, elapsed))
            state, elapsed, score, action = draw(rules.initial, row[3]), 0, 0.0, -1
            eligibility = [[0.0] * actions for _ in range(states)]
    return tables, visits, (state, elapsed, action), finished


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OTHERS)
def test_a_chunk_equals_plain_python(name, seed):
    table = random_table(seed, time_limit=None if seed == 2 else 7)
    agent = make(name, 6, 3, exploration_env_steps=1500, exploration_end=0.05)
    uniforms = np.random.default_rng(seed).random((2500, 4 + agent.extra_uniforms))
    chunk = make_chunk(table, uniforms, state=1)
    tables, visits, place, finished = in_plain_python(name, agent, chunk)
    agent.update(chunk)
    np.testing.assert_allclose(agent.table.reshape(np.shape(tables)), tables, rtol=1e-9, atol=1e-12)
    assert agent.visits.reshape(np.shape(visits)).tolist() == visits
    assert (chunk.state, chunk.elapsed, chunk.action) == place
    assert chunk.finished_lengths.tolist() == [length for _, length in finished]
    np.testing.assert_allclose(chunk.finished_scores, [score for score, _ in finished], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OTHERS)
def test_chunks_bootstrap_at_the_time_limit_and_not_where_the_game_is_over(name):
    values = {}
    for terminated in (False, True):
        table = make_table([[[0]]], [[[1.0]]], [[[terminated]]], time_limit=1)
        agent = make(name, 1, 1, discount=0.9)
        agent.update(make_chunk(table, np.random.default_rng(0).random((4000, 4 + agent.extra_uniforms))))
        values[terminated] = agent.q[0, 0]
    assert values[True] == pytest.approx(1.0)
    assert values[False] > 5.0  # on the way to 1 / (1 - 0.9)


@pytest.mark.parametrize("name", OTHERS)
def test_the_size_of_the_chunks_changes_nothing(name):
    agents = [make(name, 6, 3), make(name, 6, 3)]
    extra = agents[0].extra_uniforms
    for agent, size in zip(agents, (300, 7), strict=True):
        train(agent, make_source(agent, random_table(1), chunk_env_steps=size, extra_uniforms=extra), 2000)
    np.testing.assert_array_equal(agents[0].table, agents[1].table)


@pytest.mark.parametrize("name", OTHERS)
def test_resuming_gives_the_same_numbers_as_not_having_stopped(name):
    def start(seed):
        agent = make(name, 6, 3)
        options = {"chunk_env_steps": 130, "extra_uniforms": agent.extra_uniforms}
        return agent, make_source(agent, random_table(2), seed=seed, **options)

    whole, whole_source = start(5)
    train(whole, whole_source, 1300)
    first, first_source = start(5)
    train(first, first_source, 650)
    while first_source.elapsed < 2:  # the case worth testing is a game in progress
        train(first, first_source, 1)
    done = first_source.env_steps
    saved = json.loads(json.dumps(first_source.state_dict())), copy.deepcopy(first.state_dict())
    train(first, first_source, 100)  # what happens after the save must not leak into it
    second, second_source = start(99)
    second_source.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    train(second, second_source, 1300 - done)
    np.testing.assert_array_equal(second.table, whole.table)
    assert second_source.state_dict() == whole_source.state_dict()


def test_a_checkpoint_of_another_environment_is_refused():
    with pytest.raises(CheckpointError, match="resume with the environment"):
        make("double-q-learning", 6, 3).load_state_dict(make("double-q-learning", 7, 3).state_dict())


# Step by step


def test_sarsa_takes_the_action_that_it_learned_from():
    agent = make("sarsa", 4, 2)
    source = StepSource(agent, Corridor(), discount=0.9, seed=0, on_policy=True)
    batches = [source.next().batch for _ in range(12)]
    for before, after in itertools.pairwise(batches):
        going = ~before.ended
        np.testing.assert_array_equal(before.next_action[going], after.action[going])


def test_sarsa_at_the_time_limit_asks_for_the_action_in_the_state_that_was_cut_off():
    class Scripted(Sarsa):
        def act(self, observations, explore, generator):
            return np.where(np.asarray(observations) == 3, 1, 0)  # state 3 is only ever seen when the clock stops

    agent = Scripted(
        Sarsa.Config(exploration_env_steps=1), gymnasium.spaces.Discrete(4), gymnasium.spaces.Discrete(2), seed=0
    )
    source = StepSource(agent, Corridor(), discount=0.9, seed=0, on_policy=True)
    batch = [source.next().batch for _ in range(3)][-1]
    assert batch.next_observation.tolist() == [3, 3] and batch.discount.tolist() == [0.0, 0.9]
    assert batch.next_action[1] == 1 and source.actions.tolist() == [0, 0]


@pytest.mark.parametrize("name", OTHERS)
def test_single_steps_resume_exactly(name):
    def start(seed):
        env = envs.make("gridworld", 3)
        env.table = lambda: None
        agent = make(name, 12, 4)
        return agent, agent.make_source(env, seed=seed)

    whole, whole_source = start(5)
    assert isinstance(whole_source, StepSource)
    train(whole, whole_source, 900)
    first, first_source = start(5)
    train(first, first_source, 450)
    saved = copy.deepcopy((first.state_dict(), first_source.state_dict()))
    second, second_source = start(6)
    second.load_state_dict(saved[0])
    second_source.load_state_dict(saved[1])
    train(second, second_source, 450)
    np.testing.assert_array_equal(second.table, whole.table)
