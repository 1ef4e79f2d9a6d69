"""Sarsa, expected Sarsa and Q-learning beside the cliff: Sutton and Barto's example 6.6, many runs of 500 games.

Prints the numbers of docs/cliff-walking.md and draws its picture: reward during learning, and the paths learned.

    python -m benchmarks.cliff_walking [--runs 200]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import envs
from agents.expected_sarsa import ExpectedSarsa, ExpectedSarsaConfig
from agents.q_learning import QLearning, QLearningConfig
from agents.sarsa import Sarsa, SarsaConfig
from agents.tabular import TabularAgent
from aprendiz.cli import main, parse
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result

GAMES = 500
SETTINGS = {
    "discount": 1.0,
    "step_size": 0.5,
    "exploration_start": 0.1,
    "exploration_end": 0.1,
    "exploration_shape": "linear",
    "exploration_env_steps": 0,
    "initial_value": 0.0,
    "initial_visits": 0,
}
"""Example 6.6: undiscounted, epsilon 0.1. The book prints no step size; 0.5 is ours."""
AGENTS: dict[str, tuple[type[TabularAgent], type]] = {
    "Sarsa": (Sarsa, SarsaConfig),
    "Q-learning": (QLearning, QLearningConfig),
    "expected Sarsa": (ExpectedSarsa, ExpectedSarsaConfig),
}
START, GOAL = 36, 47
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "cliff-walking.png"


def learn(name: str, seed: int, games: int = GAMES) -> tuple[np.ndarray, TabularAgent]:
    """Rewards of the first `games` games, and the agent that played them."""
    env = envs.make("cliff-walking", 1)
    kind, config = AGENTS[name]
    agent = kind(
        config(**SETTINGS, chunk_env_steps=2_000), env.spec.observation_space, env.spec.action_space, seed=seed
    )
    source = agent.make_source(env, seed=seed)
    scores: list[float] = []
    while len(scores) < games:
        work = source.next()
        source.feedback(work.batch, agent.update(work.batch))
        scores += work.batch.finished_scores.tolist()
    return np.array(scores[:games]), agent


def path(q: np.ndarray) -> list[int]:
    """States of greedy play from the start, at most 60."""
    table = envs.make("cliff-walking", 1).table()
    assert table is not None
    states = [START]
    while states[-1] != GOAL and len(states) < 60:
        states.append(int(table.next_state[states[-1], q[states[-1]].argmax(), 0]))
    return states


def summary(rewards: np.ndarray, paths: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Of many runs: mean reward [runs, games] of the last 100 games with its standard error, and the greedy paths."""
    last = rewards[:, -100:].mean(axis=1)
    finished = [len(states) - 1 for states in paths if states[-1] == GOAL]
    along_the_edge = [sum(states.count(cell) for cell in range(25, 35)) > 5 for states in paths]
    return {
        "mean_reward": float(last.mean()),
        "standard_error": float(last.std(ddof=1) / np.sqrt(len(last))),
        "runs": len(paths),
        "runs_that_arrive": len(finished),
        "median_steps": float(np.median(finished)) if finished else None,
        "runs_along_the_edge": int(np.sum(along_the_edge)),
    }


def draw(rewards: dict[str, np.ndarray], common: dict[str, Sequence[int]], target: Path) -> None:
    """Curves of the mean reward, and by agent the path that most of its runs learned."""
    figure = plt.figure(figsize=(7.6, 5.6), dpi=100, layout="constrained")
    curves, world = figure.subplots(2, 1, height_ratios=(3, 1.7))
    world.set(xlim=(-0.5, 11.5), ylim=(3.5, -0.5), aspect="equal", xticks=[], yticks=[])
    world.set_title("the path learned most often", fontsize=11)
    world.fill([0.5, 10.5, 10.5, 0.5], [2.5, 2.5, 3.5, 3.5], color="#555555")
    world.text(5.5, 3, "the cliff", color="white", ha="center", va="center")
    for x in np.arange(0.5, 11):
        world.axvline(x, color="#dddddd", lw=0.7, zorder=0)
    for y in np.arange(0.5, 3):
        world.axhline(y, color="#dddddd", lw=0.7, zorder=0)
    for number, (name, scores) in enumerate(rewards.items()):
        smooth = np.convolve(scores.mean(axis=0), np.full(10, 0.1), mode="valid")
        line = curves.plot(np.arange(len(smooth)) + 10, smooth, label=name)[0]
        rows, columns = np.divmod(np.array(common[name]), 12)
        shift = (number - 1) * 0.1
        world.plot(columns + shift, rows + shift, "-", color=line.get_color(), lw=2.2)
    for state, letter in ((START, "S"), (GOAL, "G")):
        world.text(state % 12, state // 12, letter, ha="center", va="center", fontsize=13, weight="bold")
    curves.set(xlabel="games", ylabel="sum of rewards during a game", ylim=(-100, -15))
    runs = len(next(iter(rewards.values())))
    curves.set_title(f"epsilon 0.1, step size 0.5; mean of {runs} runs and 10 games", fontsize=11)
    curves.grid(alpha=0.3)
    curves.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    plt.close(figure)


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Sutton and Barto's example 6.6."""

    runs: int = 200
    """Independent runs that are averaged, with seeds 1, 2, ..."""
    picture: Path = PICTURE
    """Where the picture is drawn."""


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.cliff_walking", description=__doc__ or "")
    before = machine()
    rewards: dict[str, np.ndarray] = {}
    common: dict[str, Sequence[int]] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in AGENTS:
        played = [learn(name, seed) for seed in range(1, options.runs + 1)]
        rewards[name] = np.stack([scores for scores, _ in played])
        paths = [tuple(path(agent.q)) for _, agent in played]
        common[name] = max(set(paths), key=paths.count)
        found[name] = summary(rewards[name], paths) | {"steps_of_the_commonest": len(common[name]) - 1}
    rows = [("agent", "mean reward of the last 100 games", "arrive", "of", "median steps", "along the edge")]
    for name, one in found.items():
        mean = f"{one['mean_reward']:.1f} +- {one['standard_error']:.1f}"
        counts = (one["runs_that_arrive"], one["runs"], one["median_steps"], one["runs_along_the_edge"])
        rows.append((name, mean, *map(str, counts)))
    print_table(rows)
    draw(rewards, common, options.picture)
    write_result("cliff_walking", options, {"agents": found}, before)
    return 0


if __name__ == "__main__":
    main(run_command)
