"""How many environment steps a second does our DQN learn from, beside the DQN of Stable-Baselines3 (SB3)?

Both learn Breakout with the Nature network and the same numbers, those of our Atari preset: batch 32, one update per 4
environment steps, Adam with 1e-4, a new target network every 1,000 steps. Exploration is 0.01 throughout. What is timed
comes after the warm-up: acting, storing, sampling and learning, without evaluations and checkpoints.

Each learner is left as a user would run it:
    ours    the precision is measured and chosen as `python -m agents.train` does it, 8 games;
    SB3     `make_atari_env` and `VecFrameStack`, CnnPolicy, every other option at its default; the number of
            environments (1, 4 or 8, in one process or in one each) is tried first and the fastest taken;
            `train_freq` and `gradient_steps` keep one update per 4 steps. Its replay buffer holds 50,000
            transitions, for the default of 1,000,000 needs 56 GB; ours holds as many here.

Each lives in a process of its own with PyTorch's own number of threads, and keeps its games and memory throughout. They
take turns: in each round both learn for some seconds, the other one waiting. The result is the median of the rounds'
ratios.

    python -m benchmarks.dqn_throughput
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple, Protocol

import envs
from agents import training
from agents.dqn import DQN, DQNConfig
from agents.train import TrainOptions
from aprendiz.cli import main, parse
from aprendiz.device import choose_device
from aprendiz.errors import ConfigError
from aprendiz.loop import LoopState, accumulate
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result

GAME, GYMNASIUM_GAME = "breakout", "ale_py:BreakoutNoFrameskip-v4"
EXPLORATION = 0.01


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Environment steps a second while learning, beside Stable-Baselines3."""

    rounds: int = 7
    """Rounds; in each both learn once."""
    seconds: float = 30.0
    """Length of each turn."""
    trial_seconds: float = 15.0
    """How long each number of environments of SB3 is tried."""
    warmup_steps: int = 5_000
    """Environment steps stored before learning starts; not timed."""
    replay_capacity: int = 50_000
    """Transitions that each replay memory holds."""
    device: str = "auto"
    """auto, cpu, cuda or mps, for both."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Ours; SB3 has float32 only."""
    peer_envs: tuple[str, ...] = ("1", "4", "8", "4p", "8p")
    """Numbers of environments of SB3 to try; with a p in as many processes (SubprocVecEnv)."""
    peers: Literal["sb3", "none"] = "sb3"
    """none: ours alone."""
    seed: int = 1
    """Of games and networks."""

    def __post_init__(self) -> None:
        for name in ("rounds", "seconds", "trial_seconds", "warmup_steps", "replay_capacity"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        for text in self.peer_envs:
            count = text.removesuffix("p")
            if not count.isdigit() or not (count == "1" or (int(count) > 0 and int(count) % 4 == 0)):
                raise ConfigError(f"--peer-envs {text}: 1 or a multiple of 4, with a p for processes, as in 8p")


class Turn(NamedTuple):
    """What a learner did in its turn."""

    env_steps: int
    updates: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.env_steps / self.seconds


class Contestant(Protocol):
    """A learner past its warm-up."""

    facts: dict[str, Any]
    env: Any

    def learn(self, seconds: float) -> Turn: ...


class Ours:
    """What `agents.training.create` sets up, and what the loop does between two log lines."""

    def __init__(self, options: Options) -> None:
        device = choose_device(options.device)
        make_env: Callable[..., envs.Env] = lambda count, **more: envs.make(GAME, count, **more)  # noqa: E731
        self.env = make_env(DQNConfig().num_envs)
        spec = self.env.spec
        threads = training.set_threads(None, spec, device)
        config = dataclasses.replace(
            DQNConfig(),
            replay_capacity=options.replay_capacity,
            warmup_env_steps=options.warmup_steps,
            exploration_start=EXPLORATION,
            exploration_end=EXPLORATION,
            exploration_env_steps=0,
        )
        asked = TrainOptions(agent="dqn", device=options.device, precision=options.precision, seed=options.seed)
        precision, _ = training.measure(DQN, config, make_env, config.num_envs, spec.default_env_steps, device, asked)
        self.agent = DQN(
            config, spec.observation_space, spec.action_space, seed=options.seed, device=device, precision=precision
        )
        self.source = self.agent.make_source(self.env, seed=options.seed)
        self.state = LoopState()
        self.facts = {
            "precision": precision,
            "device": str(device),
            "num_envs": config.num_envs,
            "torch_threads": threads,
            "batch_size": config.batch_size,
            "train_period_env_steps": config.train_period_env_steps,
            "target_period_env_steps": config.target_period_env_steps,
            "learning_rate": config.learning_rate,
        }
        while self.state.updates == 0:
            self._work()

    def _work(self) -> tuple[int, bool]:
        work = self.source.next()
        if work.batch is not None:
            outcome = self.agent.update(work.batch)
            self.source.feedback(work.batch, outcome)
            self.state.updates += 1
            accumulate(self.state, outcome.metrics)
        return work.units, work.safe_point

    def learn(self, seconds: float) -> Turn:
        updates, env_steps = self.state.updates, 0
        start = time.perf_counter()
        while True:
            units, safe_point = self._work()
            env_steps += units
            if safe_point and time.perf_counter() - start >= seconds:
                for total in self.state.sums.values():  # on a GPU: wait until it is done
                    float(total)
                return Turn(env_steps, self.state.updates - updates, time.perf_counter() - start)


class StableBaselines3:
    """SB3's DQN with our numbers. `num_envs` as in `Options.peer_envs`."""

    def __init__(self, options: Options, num_envs: str) -> None:
        import torch
        from stable_baselines3 import DQN as SB3DQN
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

        count = int(num_envs.removesuffix("p"))
        vec_env_cls = SubprocVecEnv if num_envs.endswith("p") else DummyVecEnv
        config = DQNConfig()
        period = config.train_period_env_steps
        self.env = VecFrameStack(
            make_atari_env(GYMNASIUM_GAME, n_envs=count, seed=options.seed, vec_env_cls=vec_env_cls), n_stack=4
        )
        self.model = SB3DQN(
            "CnnPolicy",
            self.env,
            learning_rate=config.learning_rate,
            buffer_size=options.replay_capacity,
            learning_starts=options.warmup_steps,
            batch_size=config.batch_size,
            gamma=config.discount,
            train_freq=max(period // count, 1),  # steps of all environments at once
            gradient_steps=max(count // period, 1),
            target_update_interval=config.target_period_env_steps,
            exploration_initial_eps=EXPLORATION,
            exploration_final_eps=EXPLORATION,
            seed=options.seed,
            device=options.device,
        )
        self.facts = {
            "num_envs": count,
            "vector_environment": vec_env_cls.__name__,
            "device": str(self.model.device),
            "torch_threads": torch.get_num_threads(),
        }
        self.rollout = count * max(period // count, 1)
        self._rate = 0.0
        self._learn(options.warmup_steps + 4 * self.rollout)
        self._rate = self._learn(10 * self.rollout).rate  # a first guess of how much fits into a turn

    def _learn(self, env_steps: int) -> Turn:
        steps, updates = self.model.num_timesteps, self.model._n_updates
        start = time.perf_counter()
        self.model.learn(env_steps, reset_num_timesteps=False)
        return Turn(self.model.num_timesteps - steps, self.model._n_updates - updates, time.perf_counter() - start)

    def learn(self, seconds: float) -> Turn:
        """`learn` counts steps, so that a turn is as many of them as the last turn's speed makes of the seconds."""
        turn = self._learn(max(int(self._rate * seconds) // self.rollout, 1) * self.rollout)
        self._rate = turn.rate
        return turn


class Room:
    """A process in which a learner lives, and waits while it is not its turn."""

    def __init__(self, make: Callable[[], Contestant]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(make, theirs))
        self._process.start()
        theirs.close()
        self.facts: dict[str, Any] = self._receive()

    def learn(self, seconds: float) -> Turn:
        self._connection.send(seconds)
        return self._receive()

    def close(self) -> None:
        self._connection.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise ConfigError("a learner's process ended early; what it printed says why") from None


def _live(make: Callable[[], Contestant], connection: Connection) -> None:
    contestant = make()
    connection.send(contestant.facts)
    while True:
        try:
            seconds = connection.recv()
        except EOFError:
            break
        connection.send(contestant.learn(seconds))
    contestant.env.close()


def fastest_peer(options: Options) -> tuple[Room, dict[str, float]]:
    """SB3 with the number of environments that suits it best, and the steps a second of each number tried."""
    rates: dict[str, float] = {}
    best: Room | None = None
    for num_envs in options.peer_envs:
        room = Room(functools.partial(StableBaselines3, options, num_envs))
        rates[num_envs] = room.learn(options.trial_seconds).rate
        print(f"SB3, environments {num_envs}: {rates[num_envs]:,.0f} steps/s", flush=True)
        worse = room
        if best is None or rates[num_envs] == max(rates.values()):
            best, worse = room, best
        if worse is not None:
            worse.close()
    assert best is not None
    return best, rates


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.dqn_throughput", description=__doc__ or "")
    with_peer = options.peers == "sb3"
    if with_peer:
        for module, fix in (("stable_baselines3", "pip install -e ."), ("cv2", 'pip install -e ".[bench]"')):
            if importlib.util.find_spec(module) is None:
                raise ConfigError(f"the peer needs the package {module}: {fix}, or --peers none")
    before = machine()
    rooms: dict[str, Room] = {}
    tried: dict[str, float] = {}
    try:
        if with_peer:
            rooms["sb3"], tried = fastest_peer(options)
        rooms["ours"] = Room(functools.partial(Ours, options))
        for room in rooms.values():  # a turn that does not count
            room.learn(min(options.seconds, 5.0))
        turns: dict[str, list[Turn]] = {name: [] for name in rooms}
        for number in range(options.rounds):
            # Who begins changes, so that a machine that slows down or warms up favours nobody.
            for name in sorted(rooms, reverse=bool(number % 2)):
                turns[name].append(rooms[name].learn(options.seconds))
            said = ", ".join(f"{name} {turns[name][-1].rate:,.0f} steps/s" for name in sorted(rooms))
            print(f"round {number + 1} of {options.rounds}: {said}", flush=True)
    finally:
        for room in rooms.values():
            room.close()
    report(options, before, {name: room.facts for name, room in rooms.items()}, turns, tried)
    return 0


def report(
    options: Options,
    before: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    turns: dict[str, list[Turn]],
    tried: dict[str, float],
) -> None:
    """Prints the table and writes the file."""
    rows: list[tuple[str, ...]] = [("", "steps/s", "lowest", "highest", "steps per update", "environments", "threads")]
    result: dict[str, Any] = {}
    for name in sorted(turns):
        rates = spread([turn.rate for turn in turns[name]])
        steps_per_update = sum(t.env_steps for t in turns[name]) / max(sum(t.updates for t in turns[name]), 1)
        result[name] = {
            **facts[name],
            "steps_per_second": rates,
            "env_steps_per_update": steps_per_update,
            "rounds": [turn._asdict() for turn in turns[name]],
        }
        rows.append(
            (
                f"{name} ({facts[name].get('precision', 'fp32')})",
                *(f"{rates[key]:,.0f}" for key in ("median", "min", "max")),
                f"{steps_per_update:.2f}",
                str(facts[name]["num_envs"]),
                str(facts[name]["torch_threads"]),
            )
        )
    print()
    print_table(rows)
    if "sb3" in turns:
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(turns["ours"], turns["sb3"], strict=True)]
        result["sb3"]["steps_per_second_by_environments"] = tried
        result["ratio"] = spread(ratios)
        ratio, low, high = (result["ratio"][key] for key in ("median", "min", "max"))
        print(f"\nours / SB3: {ratio:.2f} (median of {len(ratios)} rounds, {low:.2f} to {high:.2f})")
    write_result("dqn_throughput", options, result, before)


if __name__ == "__main__":
    main(run_command)
