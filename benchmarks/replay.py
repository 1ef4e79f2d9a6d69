"""What does a batch of 32 cost, drawn uniformly and by priority, out of 1,000,000 Atari transitions?

Memories are filled with the same synthetic games (84x84 grey, 4 frames an observation) and timed in turns, so that they
meet the same machine. Two take turns at a time, as all of them would want more memory than most machines have:
    uniform       `Replay.sample`, beside either of the others
    prioritised   `Replay.sample` with importance weights, then `Replay.update_priorities` of that batch
    peer          Stable-Baselines3's `ReplayBuffer` with `optimize_memory_usage=False`, which holds a fifth of the
                  transitions (in its favour: what is touched lies closer together)
Tensors are what comes out of each. Wanted: prioritised at most 1.3 times uniform; uniform at least twice as fast as
Stable-Baselines3.

    python -m benchmarks.replay
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from aprendiz.cli import main, parse
from aprendiz.device import keep_freed_memory
from aprendiz.errors import ConfigError
from aprendiz.replay import Batch, Replay
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result
from benchmarks.replay_memory import FRAME, FRAME_STACK, NUM_ENVS, SyntheticGames, fill

TARGET_PRIORITISED, TARGET_PEER = 1.3, 2.0


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Time of a batch: uniform, prioritised, and Stable-Baselines3's."""

    capacity: int = 1_000_000
    """Transitions that each of ours holds."""
    peer_capacity: int = 200_000
    """Transitions that Stable-Baselines3's buffer holds (56 kB each)."""
    batch_size: int = 32
    """Transitions a batch."""
    batches: int = 300
    """Batches of each in a round."""
    rounds: int = 7
    """Rounds, in which all take turns."""
    peers: Literal["sb3", "none"] = "sb3"
    """none: ours alone."""
    seed: int = 1
    """Of games, priorities and batches."""

    def __post_init__(self) -> None:
        for name in ("capacity", "peer_capacity"):
            if getattr(self, name) < 100 * NUM_ENVS:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least {100 * NUM_ENVS}")
        for name in ("batch_size", "batches", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1")


def filled(options: Options, priority_exponent: float | None) -> Replay:
    """A full memory; with priorities spread over three powers of ten, as errors are."""
    replay = Replay(
        options.capacity,
        NUM_ENVS,
        (FRAME_STACK, *FRAME),
        np.uint8,
        frame_stack=FRAME_STACK,
        priority_exponent=priority_exponent,
    )
    games = SyntheticGames(NUM_ENVS, options.seed)
    replay.start(games.stack)
    fill(replay, games, replay.slots + FRAME_STACK)
    if replay.priorities is not None:
        generator = np.random.default_rng(options.seed)
        tree = replay.priorities.tree
        spread_out = 10.0 ** generator.uniform(-2, 1, tree.capacity)
        tree.fill(np.where(tree.leaves > 0, spread_out**0.6, 0.0))
    return replay


def uniform_sampler(options: Options) -> Callable[[], Any]:
    replay, generator = filled(options, None), np.random.default_rng(options.seed)
    return lambda: replay.sample(options.batch_size, generator)


def prioritised_sampler(options: Options) -> Callable[[], Any]:
    replay, generator = filled(options, 0.6), np.random.default_rng(options.seed)
    errors = np.random.default_rng(options.seed).random((64, options.batch_size))
    turn = 0

    def sample() -> Batch:
        nonlocal turn
        turn += 1
        batch = replay.sample(options.batch_size, generator, importance_exponent=0.5)
        assert batch.indices is not None
        replay.update_priorities(batch.indices, errors[turn % 64])
        return batch

    return sample


def peer_sampler(options: Options) -> Callable[[], Any]:
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.buffers import ReplayBuffer

    space = Box(0, 255, (FRAME_STACK, *FRAME), np.uint8)
    buffer = ReplayBuffer(
        options.peer_capacity, space, Discrete(4), device="cpu", n_envs=NUM_ENVS, optimize_memory_usage=False
    )
    games = SyntheticGames(NUM_ENVS, options.seed)
    infos: list[dict[str, Any]] = [{} for _ in range(NUM_ENVS)]
    while not buffer.full:
        before = games.stack.copy()
        step = games.step()
        buffer.add(before, step.final_observation, step.action[:, None], step.reward, step.ended, infos)
    np.random.seed(options.seed)  # the peer draws from the global generator
    return lambda: buffer.sample(options.batch_size)


def milliseconds(sample: Callable[[], Any], batches: int) -> float:
    """Median of so many calls."""
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        sample()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def by_turns(samplers: dict[str, Callable[[], Any]], options: Options) -> dict[str, list[float]]:
    """Milliseconds a batch of each sampler, one of every round."""
    for sample in samplers.values():  # compiled, and memory touched
        milliseconds(sample, 50)
    rounds: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(options.rounds):
        for name, sample in samplers.items():
            rounds[name].append(milliseconds(sample, options.batches))
    return rounds


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.replay", description=__doc__ or "")
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does, for all of them
    before = machine()
    uniform = uniform_sampler(options)
    rounds: dict[str, list[float]] = {}
    ratios: dict[str, dict[str, float]] = {}
    others = {"prioritised": prioritised_sampler, "stable-baselines3": peer_sampler}
    for name in others if options.peers == "sb3" else ("prioritised",):
        found = by_turns({"uniform": uniform, name: others[name](options)}, options)
        ratios[f"{name}_over_uniform".replace("-", "_")] = spread(
            [other / ours for other, ours in zip(found[name], found["uniform"], strict=True)]
        )
        rounds[f"uniform, beside {name}"] = found["uniform"]
        rounds[name] = found[name]
    rows: list[tuple[str, ...]] = [("memory", "ms a batch", "least", "greatest")]
    for name, times in rounds.items():
        of_rounds = spread(times)
        rows.append((name, *(f"{of_rounds[key]:.3f}" for key in ("median", "min", "max"))))
    print_table(rows)
    print(f"\nprioritised / uniform: {ratios['prioritised_over_uniform']['median']:.2f} (at most {TARGET_PRIORITISED})")
    if "stable_baselines3_over_uniform" in ratios:
        times_faster = ratios["stable_baselines3_over_uniform"]["median"]
        print(f"Stable-Baselines3 / uniform: {times_faster:.2f} (at least {TARGET_PEER})")
    result = {"milliseconds": {name: spread(times) for name, times in rounds.items()}, "ratios": ratios}
    write_result("replay", options, result, before)
    return 0


if __name__ == "__main__":
    main(run_command)
