"""Agents by name: `AGENTS.get("dqn")`. One algorithm a file; `python -m agents.train --list` shows them all."""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__all__ = ["AGENTS"]

AGENTS = Registry(
    "agents",
    {
        "dqn": Entry(
            "agents.dqn:DQN",
            "deep Q-network: experience replay, target network, Huber loss",
            "Mnih et al. 2015, Nature 518:529",
        ),
        "q-learning": Entry(
            "agents.q_learning:QLearning",
            "tabular Q-learning, step size decaying with visits",
            "Watkins and Dayan 1992, Machine Learning 8:279",
        ),
    },
)
"""A name stands for a subclass of `agents.core.Agent`."""
