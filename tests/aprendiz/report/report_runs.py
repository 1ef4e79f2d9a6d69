"""Runs for tests of reports, made without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aprendiz.run import Run

AGENT = {"name": "dqn", "preset": "default", "hyperparameters": {"learning_rate": 1e-3, "batch_size": 32}}


def make_run(
    root: Path,
    *,
    task: str = "cartpole",
    learner: str = "dqn",
    seed: int = 1,
    kind: str = "agents",
    scores: Sequence[float] = (10.0, 20.0, 30.0),
    games: Sequence[float] | None = None,
    human: float | None = None,
    state: str = "finished",
    command: Sequence[str] | None = None,
    every: int = 100,
    offset: float = 0.0,
    changes: dict[str, Any] | None = None,
    **more: Any,
) -> Run:
    """A run that logged `scores` every `every` steps, a second each, with 2 updates a step in between.

    `games`: scores of its final evaluation, none without. `changes`: hyperparameters; `more`: entries of its config.
    """
    agent = AGENT | {"name": learner, "hyperparameters": AGENT["hyperparameters"] | (changes or {})}
    config = {"agent": agent, "cadence": {"step_name": "env_steps"}, "budget": {"minutes": None}} | more
    words = command or ["python -m agents.train", task, "--seed", str(seed)]
    run = Run.create(
        kind=kind, task=task, learner=learner, seed=seed, config=config, command=words, device="cpu", root=root
    )
    for place, score in enumerate(scores, 1):
        step = place * every
        training = {"train/loss": 1.0 / place + offset, "train/updates": 2 * step}
        speed = {"speed/units_per_second": 50.0, "speed/memory_mb": 100.0 + place}
        run.log(step, training | speed, seconds=float(place))
        run.log(step, {"eval/score": score, "eval/length": score}, seconds=float(place))
    run.close()
    run.set_status(state, step=len(scores) * every)
    if games is not None:
        run.add_evaluation(evaluation(task, games, human))
    return run


def evaluation(task: str, games: Sequence[float], human: float | None = None, **changes: Any) -> dict[str, Any]:
    """What agents.evaluate adds to a run."""
    base = {"environment": task, "which": "best", "checkpoint_step": 300, "episodes": len(games), "seed": 1000}
    scored = {"mean": sum(games) / len(games), "scores": list(games), "human_normalized": human}
    return base | {"explore": 0.01} | scored | changes


def write_lines(path: Path, lines: Sequence[dict[str, Any]], end: str = "\n") -> None:
    """A file of metrics."""
    path.write_text("\n".join(json.dumps(line) for line in lines) + end)
