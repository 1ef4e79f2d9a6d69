"""What tabular agents are configured with: schedules of exploration, first values, numbers that cannot be."""

from __future__ import annotations

import gymnasium
import pytest

import envs
from aprendiz.errors import ConfigError
from tests.agents.test_tabular import KINDS, make, transition


@pytest.mark.parametrize("name", ["sarsa", "expected-sarsa"])
def test_on_policy_agents_explore_less_and_less_but_never_stop(name):
    kind = KINDS[name]
    config = kind.resolve(kind.Config(), 1_000_000)
    agent = kind(config, gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2), seed=0)
    at = [agent.exploration(steps) for steps in (0, 1_000_000, 10_000_000, 10**12)]
    assert at[:2] == pytest.approx([0.005, 0.0005])
    assert at[0] > at[1] > at[2] > at[3] > 0.0
    # Harmonic: from 10^k to 10^(k+1) steps about the same number of random actions, without end.
    actions = [sum(agent.exploration(steps) for steps in range(10**k, 10 ** (k + 1), 10**k)) * 10**k for k in (7, 8, 9)]
    assert actions[1] == pytest.approx(actions[2], rel=0.02)


def test_initial_visits_make_the_initial_value_count():
    agent = make("q-learning", 1, 1, initial_value=1.0, initial_visits=3, step_size_exponent=1.0)
    agent.update(transition(0, 0, 0.0, 0, 0.0))
    assert agent.q[0, 0] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("sarsa", {"step_size": 0.0}, "step_size must be above 0"),
        ("sarsa", {"initial_visits": -1}, "initial_visits must be 0 or more"),
        ("sarsa", {"exploration_end": 0.0}, "exploration_end must be above 0"),
        ("sarsa", {"exploration_end": 0.9}, "at most exploration_start"),
        ("q-learning", {"exploration_shape": "round"}, "exploration_shape must be linear or harmonic"),
        ("q-lambda", {"trace_decay": 1.1}, "trace_decay must be at least 0 and at most 1"),
        ("q-lambda", {"trace_cutoff": 0.0}, "trace_cutoff must be above 0"),
        ("q-lambda", {"trace_decay": 1.0, "discount": 1.0}, "traces never fade"),
    ],
)
def test_config_names_the_field_that_is_out_of_range(name, wrong, said):
    with pytest.raises(ConfigError, match=said):
        KINDS[name].Config(**wrong)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("q-learning", {"step_size": 0.1, "step_size_exponent": 0.8}, "step_size_exponent 0.8 does nothing"),
        ("sarsa", {"step_size": 0.1, "initial_visits": 3}, "initial_visits 3 does nothing with a constant step_size"),
        ("q-learning", {"exploration_end": 1.0, "exploration_env_steps": 9}, "exploration is 1 throughout"),
    ],
)
def test_what_would_do_nothing_is_refused(name, wrong, said):
    with pytest.raises(ConfigError, match=said):
        KINDS[name].Config(**wrong).check_new()


@pytest.mark.parametrize("name", KINDS)
def test_a_constant_step_size_alone_is_none_of_that(name):
    KINDS[name].Config(step_size=0.1).check_new()


@pytest.mark.parametrize("name", KINDS)
def test_what_a_table_cannot_learn_is_refused_by_name(name):
    with pytest.raises(
        ConfigError, match=f"^{name} needs discrete observations; cartpole has vectors; use --agent dqn$"
    ):
        KINDS[name].presets(envs.make("cartpole", 1).spec)
