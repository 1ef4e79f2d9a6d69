"""Playing with agents of the DQN line: what they think of an observation is what they act on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from agents import AGENTS
from agents.core import Player
from agents.value_based import ValueAgent
from agents.value_player import ValuePlayer

VECTOR = Box(-1.0, 1.0, (4,), np.float32)
ALL = np.arange(3)


def make_agent(name: str = "dqn", kind: type[ValueAgent] | None = None) -> Any:
    cls = kind or AGENTS.get(name)
    return cls(cls.resolve(cls.preset_table["vector"]["default"], 1_000), VECTOR, Discrete(5), seed=1)


def observations(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize("name", ["dqn", "noisy-dqn", "c51", "qr-dqn", "iqn", "rainbow"])
def test_it_acts_and_thinks_as_the_agent_does(name):
    agent = make_agent(name)
    player = agent.player(3)
    for seed in range(4):
        shown = observations(seed)
        assert (player.act(shown, ALL) == agent.act(shown, 0.0, np.random.default_rng(0))).all()
        thought, known = player.inspect(shown), agent.inspect(shown)
        assert thought.keys() == known.keys() and all((thought[key] == known[key]).all() for key in known)


def test_looking_into_the_network_asks_it_no_second_time(monkeypatch):
    agent = make_agent()
    player = agent.player(3)
    asked = []
    distribution = agent.distribution
    monkeypatch.setattr(agent, "distribution", lambda shown: asked.append(len(shown)) or distribution(shown))
    player.act(observations(1), ALL)
    player.inspect(observations(1))
    assert asked == [3]


@pytest.mark.parametrize("ask", [[], [1], [0, 2]])
def test_where_not_all_games_were_asked_it_thinks_of_all_the_same(ask):
    agent = make_agent()
    player = agent.player(3)
    player.act(observations(1), ALL)
    shown = observations(2)
    found = player.act(shown, np.array(ask, np.int64))
    assert (found == agent.act(shown, 0.0, np.random.default_rng(0))[ask]).all()
    assert (player.inspect(shown)["q_values"] == agent.inspect(shown)["q_values"]).all()


def test_a_subclass_that_acts_in_its_own_way_is_asked_itself():
    class Stubborn(AGENTS.get("dqn")):
        def act(self, observations, explore, generator):
            return np.full(len(observations), 4)

    player = make_agent(kind=Stubborn).player(3)
    assert type(player) is Player and (player.act(observations(1), ALL) == 4).all()
    assert type(make_agent().player(3)) is ValuePlayer
