"""Runs for tests, made without training."""

from __future__ import annotations

import numpy as np

import envs
from agents import AGENTS
from aprendiz.config import to_json
from aprendiz.run import Run


def make_run(root, task: str, learner: str, *, steps: tuple[int, ...] = (100,), best: int | None = None, **options):
    """A run of an untrained agent with checkpoints at `steps`; tables are filled with random values."""
    env = envs.make(task, 1, **options)
    cls = AGENTS.get(learner)
    config = cls.resolve(cls.presets(env.spec)["default"], 1_000)
    run = Run.create(
        kind="agents",
        task=task,
        learner=learner,
        seed=1,
        config={
            "environment": {"name": task, "options": options},
            "agent": {"name": learner, "preset": "default", "hyperparameters": to_json(config)},
            "device": "cpu",
            "precision": "fp32",
        },
        command=["test"],
        device="cpu",
        root=root,
    )
    agent = cls(config, env.spec.observation_space, env.spec.action_space, seed=1)
    for step in steps:
        if hasattr(agent, "q"):
            agent.q[:] = np.random.default_rng(step).normal(size=agent.q.shape)
        state = {"learner": agent.state_dict(), "source": {}, "loop": {"units": step}, "bulk": None}
        run.save(step, state, keep=True, best=step == best)
    return run
