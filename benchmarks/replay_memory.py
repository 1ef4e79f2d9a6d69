"""What does a replay memory of 1,000,000 Atari transitions cost: memory, sampling, saving and loading?

Eight synthetic games (sprites that move below a wall which crumbles, 84x84 grey, 4 frames an observation) fill a
`Replay` until every slot has been written. Measured:
    memory      growth of the process's resident memory, from before the replay is made until it is full;
    sampling    median time of a batch of 32 as tensors, beside Stable-Baselines3's `ReplayBuffer` with
                `optimize_memory_usage=False`, which holds fewer transitions (in its favour: less memory is touched)
                and whose bytes per transition are scaled to the same capacity;
    saving      a full save, then 50,000 more transitions and a save of what is new: time, bytes on disk, and by how
                much resident memory rises meanwhile, sampled in a thread;
    loading     time to read it all back into a new `Replay`, whose content must be the same byte for byte.

Bytes on disk depend on the game (these compress well), bytes in memory do not. The files go into a temporary folder,
which should lie on a disk (TMPDIR or --folder).

    python -m benchmarks.replay_memory
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.replay import ACTED, Batch, Replay
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result

NUM_ENVS = 8
FRAME_STACK = 4
FRAME = (84, 84)
ACTIONS = 4
BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Memory, sampling, saving and loading of a replay memory."""

    capacity: int = 1_000_000
    """Transitions that ours holds."""
    more: int = 50_000
    """Transitions between the two saves."""
    peer_capacity: int = 20_000
    """Transitions that Stable-Baselines3's buffer holds (56 kB each)."""
    batches: int = 2_000
    """Batches timed, of each."""
    folder: Path | None = None
    """Where the temporary folder is made. Unset: where temporary files go."""
    peers: Literal["sb3", "none"] = "sb3"
    """none: ours alone."""
    seed: int = 1
    """Of games and batches."""

    def __post_init__(self) -> None:
        for name in ("capacity", "more", "peer_capacity"):
            if getattr(self, name) < 100 * NUM_ENVS:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least {100 * NUM_ENVS}")
        if self.batches < 1:
            raise ConfigError(f"--batches must be at least 1, got {self.batches}")


class GameStep(NamedTuple):
    """One step of the N games, as `Replay.add` takes it."""

    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    life_lost: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    observation: NDArray[np.uint8]
    final_observation: NDArray[np.uint8]


class SyntheticGames:
    """Games that look like one of bat and ball and cost little: a game ends after 200 to 2,000 steps."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.lanes = np.arange(num_envs)
        self.walls = np.zeros((num_envs, *FRAME), np.uint8)
        self.stack = np.zeros((num_envs, FRAME_STACK, *FRAME), np.uint8)
        self.left = np.zeros(num_envs, np.int64)
        self.ball = np.zeros((num_envs, 2), np.int64)
        self.velocity = np.ones((num_envs, 2), np.int64)
        self.bat = np.full(num_envs, 40)
        self._begin(np.ones(num_envs, bool))
        self._draw()

    def _begin(self, which: NDArray[np.bool_]) -> None:
        count = int(which.sum())
        self.walls[which] = 0
        self.walls[which, 10:14] = 142  # border
        for row in range(6):
            self.walls[which, 24 + 3 * row : 27 + 3 * row] = 80 + 20 * row
        self.stack[which] = 0
        self.left[which] = self.generator.integers(200, 2_000, count)
        self.ball[which] = self.generator.integers(45, 70, (count, 2))
        self.velocity[which] = self.generator.choice((-2, -1, 1, 2), (count, 2))

    def _draw(self) -> None:
        self.stack[:, :-1] = self.stack[:, 1:]
        newest = self.stack[:, -1]
        newest[:] = self.walls
        for lane in self.lanes:
            y, x = self.ball[lane]
            newest[lane, y : y + 2, x : x + 2] = 200
            newest[lane, 78:80, self.bat[lane] : self.bat[lane] + 8] = 200
            newest[lane, 2:7, 30 : 34 + self.left[lane] % 20] = 142  # the score

    def step(self) -> GameStep:
        count = len(self.lanes)
        action = self.generator.integers(0, ACTIONS, count)
        self.bat = np.clip(self.bat + 3 * (action - 1), 0, 75)
        ahead = self.ball + self.velocity
        self.velocity = np.where((ahead < (14, 1)) | (ahead > (76, 81)), -self.velocity, self.velocity)
        self.ball += self.velocity
        y, x = self.ball.T
        hit = self.walls[self.lanes, y, x] > 0
        for lane in np.flatnonzero(hit):
            self.walls[lane, y[lane] // 3 * 3 : y[lane] // 3 * 3 + 3, x[lane] // 5 * 5 : x[lane] // 5 * 5 + 5] = 0
            self.velocity[lane, 0] *= -1
        self.left -= 1
        ended = self.left == 0
        life_lost = self.left % 400 == 0
        self._draw()
        final_observation = self.stack
        if ended.any():
            final_observation = self.stack.copy()
            self._begin(ended)
            self.stack[ended, -1] = self.walls[ended]
        return GameStep(action, hit.astype(np.float32), life_lost | ended, ended, self.stack, final_observation)


def fill(replay: Replay, games: SyntheticGames, steps: int) -> float:
    """Adds so many steps of every game, then returns the seconds spent in `Replay.add`."""
    seconds = 0.0
    for _ in range(steps):
        step = games.step()
        start = time.perf_counter()
        replay.add(*step)
        seconds += time.perf_counter() - start
    return seconds


def resident() -> int:
    return psutil.Process().memory_info().rss


@contextlib.contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Seconds that the block takes, and by how many MB resident memory rises at most meanwhile."""
    found: dict[str, float] = {}
    start_rss = peak = resident()
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - start
        over.set()
        thread.join()
        found["peak_memory_growth_mb"] = (max(peak, resident()) - start_rss) / 1e6


def median_milliseconds(sample: Callable[[], Any], batches: int) -> float:
    for _ in range(min(batches, 50)):
        sample()
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        sample()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def content(replay: Replay) -> str:
    """A digest of everything that can be sampled."""
    digest = hashlib.blake2b()
    for lane, (first, head) in enumerate(zip(replay.oldest(), replay.head, strict=True)):
        for begin in range(int(first), int(head), 2_000):
            slots = np.arange(begin, min(begin + 2_000, int(head))) % replay.slots
            for column in (replay.action, replay.reward, replay.flags, replay.age):
                digest.update(np.ascontiguousarray(column[lane, slots]).data)
            digest.update(replay.frames[torch.from_numpy(lane * replay.slots + slots)].numpy().data)
        current = lane * replay.slots + int(head) % replay.slots
        digest.update(replay.frames[current].numpy().data)
    return digest.hexdigest()


def transitions(replay: Replay) -> int:
    """How many actions the memory holds (the other slots hold last observations of games)."""
    return int(((replay.flags & ACTED) != 0).sum())


def new_replay(capacity: int) -> Replay:
    return Replay(capacity, NUM_ENVS, (FRAME_STACK, *FRAME), np.uint8, frame_stack=FRAME_STACK)


def use_once(games: SyntheticGames) -> None:
    """What is compiled, loaded or started on first use is not memory of the replay's."""
    replay = new_replay(100 * NUM_ENVS)
    replay.start(games.stack)
    fill(replay, games, 50)
    replay.sample(BATCH_SIZE, np.random.default_rng(0))


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def measure_ours(options: Options, folder: Path) -> dict[str, Any]:
    result, saved = measure_filled(options, folder)
    gc.collect()  # the first memory is gone before the second is made, which otherwise would need twice as much
    loaded = new_replay(options.capacity)
    start = time.perf_counter()
    loaded.load(folder, saved.manifest)
    loaded.load_state_dict(saved.state)
    seconds = time.perf_counter() - start
    batch = loaded.sample(BATCH_SIZE, np.random.default_rng(options.seed))
    same = content(loaded) == saved.content and all(
        torch.equal(getattr(batch, name), getattr(saved.batch, name))
        for name in ("observation", "action", "reward", "discount", "next_observation")
    )
    print(f"loaded in {seconds:.1f} s; the same content: {same}", flush=True)
    return {**result, "load": {"seconds": seconds, "same_content": same}}


class Saved(NamedTuple):
    """What is needed to load a memory and to see that it is the same."""

    manifest: dict[str, Any]
    state: dict[str, Any]
    content: str
    batch: Batch


def measure_filled(options: Options, folder: Path) -> tuple[dict[str, Any], Saved]:
    games = SyntheticGames(NUM_ENVS, options.seed)
    use_once(games)
    gc.collect()
    before = resident()
    replay = new_replay(options.capacity)
    replay.start(games.stack)
    add_seconds = fill(replay, games, replay.slots)  # the ends of games take slots too: by now all are written
    memory = resident() - before
    held = transitions(replay)
    print(f"{held:,} transitions in {memory / 1e9:.2f} GB", flush=True)
    generator = np.random.default_rng(options.seed)
    sample_milliseconds = median_milliseconds(lambda: replay.sample(BATCH_SIZE, generator), options.batches)
    with measured() as full:
        replay.save(folder)
    full["bytes"] = disk_bytes(folder)
    print(f"saved: {full['bytes'] / 1e6:,.1f} MB in {full['seconds']:.1f} s", flush=True)
    fill(replay, games, -(-options.more // NUM_ENVS))
    old = {path.name for path in folder.iterdir()}
    with measured() as increment:
        manifest = replay.save(folder)
    increment["bytes"] = sum(path.stat().st_size for path in folder.iterdir() if path.name not in old)
    replay.prune(folder)
    print(f"saved what is new: {increment['bytes'] / 1e6:,.1f} MB in {increment['seconds']:.2f} s", flush=True)
    batch = replay.sample(BATCH_SIZE, np.random.default_rng(options.seed))
    result = {
        "transitions": held,
        "memory_gb": memory / 1e9,
        "bytes_per_transition": memory / held,
        "add_microseconds_per_transition": 1e6 * add_seconds / (replay.slots * NUM_ENVS),
        "sample_milliseconds": sample_milliseconds,
        "full_save": full,
        "incremental_save": {"transitions": options.more, **increment},
    }
    return result, Saved(manifest, replay.state_dict(), content(replay), batch)


def measure_sb3(options: Options) -> dict[str, Any]:
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.buffers import ReplayBuffer

    buffer = ReplayBuffer(
        options.peer_capacity,
        Box(0, 255, (FRAME_STACK, *FRAME), np.uint8),
        Discrete(ACTIONS),
        device="cpu",
        n_envs=NUM_ENVS,
        optimize_memory_usage=False,
    )
    games = SyntheticGames(NUM_ENVS, options.seed)
    infos: list[dict[str, Any]] = [{} for _ in range(NUM_ENVS)]
    observation = games.stack.copy()
    seconds = 0.0
    while not buffer.full:
        step = games.step()
        start = time.perf_counter()
        buffer.add(observation, step.final_observation, step.action, step.reward, step.life_lost, infos)
        seconds += time.perf_counter() - start
        observation = step.observation.copy()
    arrays = (value for value in vars(buffer).values() if isinstance(value, np.ndarray))
    held = buffer.buffer_size * NUM_ENVS
    bytes_per_transition = sum(array.nbytes for array in arrays) / held
    return {
        "transitions": held,
        "bytes_per_transition": bytes_per_transition,
        "memory_gb_scaled_to_our_capacity": bytes_per_transition * options.capacity / 1e9,
        "add_microseconds_per_transition": 1e6 * seconds / held,
        "sample_milliseconds": median_milliseconds(lambda: buffer.sample(BATCH_SIZE), options.batches),
    }


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.replay_memory", description=__doc__ or "")
    before = machine()
    if options.peers == "sb3":
        try:
            import stable_baselines3  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"the peer is missing ({error}): pip install -e . or --peers none") from error
    with tempfile.TemporaryDirectory(prefix="replay-", dir=options.folder) as folder:
        ours = measure_ours(options, Path(folder))
    result: dict[str, Any] = {"ours": ours}
    peer = result["sb3"] = measure_sb3(options) if options.peers == "sb3" else {}

    def row(label: str, unit: str, mine: float, theirs: float | None) -> tuple[str, str, str]:
        return label, f"{mine:,.2f} {unit}", "" if theirs is None else f"{theirs:,.2f} {unit}"

    full, increment = ours["full_save"], ours["incremental_save"]
    print()
    print_table(
        [
            ("", "ours", "SB3" if peer else ""),
            row(
                f"memory for {options.capacity:,} transitions",
                "GB",
                ours["memory_gb"],
                peer.get("memory_gb_scaled_to_our_capacity"),
            ),
            row(
                "adding a transition",
                "us",
                ours["add_microseconds_per_transition"],
                peer.get("add_microseconds_per_transition"),
            ),
            row("sampling a batch of 32", "ms", ours["sample_milliseconds"], peer.get("sample_milliseconds")),
            row("full save", "s", full["seconds"], None),
            row("  on disk", "MB", full["bytes"] / 1e6, None),
            row("  memory meanwhile, at most", "MB", full["peak_memory_growth_mb"], None),
            row(f"save after {options.more:,} more", "s", increment["seconds"], None),
            row("  written", "MB", increment["bytes"] / 1e6, None),
            row("load", "s", ours["load"]["seconds"], None),
        ]
    )
    write_result("replay_memory", options, result, before)
    return 0 if ours["load"]["same_content"] else 1


if __name__ == "__main__":
    main(run_command)
