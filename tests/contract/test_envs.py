"""Representative environments of every backend keep the contract."""

from __future__ import annotations

from typing import Any

import pytest

import envs
from aprendiz.testing import check_env

ATARI = ("breakout", "pong")
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("breakout", {}),
    ("pong", {"sticky": 0.25}),
    ("cartpole", {}),
    ("acrobot", {}),
    ("mountain-car", {}),
    ("frozen-lake", {}),
    ("taxi", {}),
    ("cliff-walking", {}),
    ("gridworld", {}),
    ("gridworld", {"map": "S..G/.#.P/....", "slip": 0.0, "time_limit_steps": 7}),
    ("gym:Blackjack-v1", {}),
    ("frozen-lake-8x8", {}),
    ("slippery-gridworld", {}),
    ("blackjack-cards", {}),
    ("pendulum", {}),
    ("minigrid-empty-5x5", {"time_limit_steps": 20}),
]


@pytest.mark.parametrize(
    ("name", "options"), TASKS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_environments_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    check_env(lambda num_envs: envs.make(name, num_envs, **options), steps=60 if name in ATARI else 200)
