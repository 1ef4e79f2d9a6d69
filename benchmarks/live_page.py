"""What does the live page cost the agent, and do its viewers hold each other up?

An untrained DQN plays Pong as fast as it goes (its speed is a trained one's), by turns:
    alone       acting and stepping in the same environment, with its colour picture, and no page at all
    1 viewer    on the page, at up to 60 pictures a second, each with frames, values and the game in colour
    20 viewers  the same for twenty, one of whom never says that it has drawn anything
    paced       at 60 decisions a second with one viewer: whether agent and page keep that pace (the end of a game is
                shown for a second, which is counted in)
The cost is the share of its decisions a second that the agent loses, of each round; the crowd's share is what the least
of its viewers gets of what a single viewer gets.

Networks compute in one thread, with and without the page, as they do in `python -m agents.watch --web`. Viewers are a
process of their own, which takes what comes and decodes nothing: a browser on the same machine takes processor time of
its own. The saliency overlay is off, as it is when the page opens.

    python -m benchmarks.live_page
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import envs
from agents import AGENTS
from agents.live import GameOptions, GameView
from agents.saved import load_saved
from aprendiz.cli import main, parse
from aprendiz.config import to_json
from aprendiz.errors import ConfigError
from aprendiz.live.server import serving
from aprendiz.run import Run
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result

CROWD = 20
PACE = 60.0
WATCHED = ("viewer", "crowd")


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Cost of the live page, and speed of many viewers."""

    game: str = "pong"
    """Atari game; one that lasts, whoever plays: the page shows each end for a second."""
    seconds: float = 15.0
    """Of each turn."""
    rounds: int = 5
    """Turns of each kind."""

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.rounds < 1:
            raise ConfigError("--seconds and --rounds must be at least 1")


def untrained_run(game: str, root: Path) -> Run:
    """A run with a checkpoint of an agent that has learned nothing."""
    env = envs.make(game, 1)
    cls = AGENTS.get("dqn")
    config = cls.resolve(cls.presets(env.spec)["default"], 1_000_000)
    agent = cls(config, env.spec.observation_space, env.spec.action_space, seed=1)
    env.close()
    described = {"name": "dqn", "preset": "default", "hyperparameters": to_json(config)}
    run = Run.create(
        kind="agents",
        task=game,
        learner="dqn",
        seed=1,
        config={"environment": {"name": game, "options": {}}, "agent": described, "device": "cpu"},
        command=["benchmark"],
        device="cpu",
        root=root,
    )
    run.save(0, {"learner": agent.state_dict(), "source": {}, "loop": {"units": 0}, "bulk": None})
    return run


def alone(run: Run, seconds: float) -> float:
    """Decisions a second without a page."""
    saved = load_saved(run, device="cpu")
    env = saved.make_env(1, render=True)
    player = saved.agent.player(1)
    observation, forced, lane = env.reset([1]), env.forced_action, np.array([0])
    steps, begin = 0, 0.0
    while True:
        action = player.act(observation, lane)
        step = env.step(np.where(forced >= 0, forced, action))
        observation, forced = step.observation, step.forced_action
        steps += 1
        if steps == 50:
            begin = time.perf_counter()
        elif steps > 50 and time.perf_counter() - begin > seconds:
            env.close()
            return (steps - 50) / (time.perf_counter() - begin)


def watch(address: str, viewers: int, slow: int, seconds: float, result: Any) -> None:
    """Looks on with so many viewers, of whom `slow` never answer; puts the pictures a second of each of the others."""
    import websockets

    async def one(answers: bool) -> float:
        pictures, begin = 0, 0.0
        async with websockets.connect(f"ws://{address}/socket", max_size=None, compression=None, proxy=None) as socket:
            while True:
                data = await socket.recv()
                if not isinstance(data, bytes):
                    continue
                if answers:
                    await socket.send('{"type": "drawn"}')
                now = time.perf_counter()
                if b'"channel": "moment"' in data[: 4 + int.from_bytes(data[:4], "little")]:
                    begin = begin or now
                    pictures += 1
                if begin and now - begin > seconds:
                    return pictures / (now - begin)

    async def everybody() -> list[float]:
        crowd = [one(True) for _ in range(viewers - slow)]
        idle = [asyncio.create_task(one(False)) for _ in range(slow)]
        rates = await asyncio.gather(*crowd)
        for task in idle:
            task.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        return rates

    result.put(asyncio.run(everybody()))


def on_page(run: Run, seconds: float, *, viewers: int, slow: int = 0, pace: float | None = None) -> dict[str, Any]:
    """Decisions a second of the agent, and pictures a second of the least and the middle viewer."""
    view = GameView(run, GameOptions(explore=0.0, pace=pace, device="cpu"))
    context = multiprocessing.get_context("spawn")
    with serving([view]) as address:
        if pace is None:
            view.control(0, {"do": "speed", "value": None})
        result = context.Queue()
        process = context.Process(target=watch, args=(address, viewers, slow, seconds + 2.0, result))
        process.start()
        while view.streams["moment"].newest is None or not view.controls.watched:
            time.sleep(0.01)
        time.sleep(2.0)  # viewers that come later than the first
        decisions, begin = view.decisions, time.perf_counter()
        time.sleep(seconds)
        rate = (view.decisions - decisions) / (time.perf_counter() - begin)
        pictures = sorted(result.get(timeout=seconds + 60.0))
        process.join()
    return {"decisions": rate, "least_pictures": pictures[0], "median_pictures": float(np.median(pictures))}


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.live_page", description=__doc__ or "")
    torch.set_num_threads(1)
    before = machine()
    rounds: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="live-") as folder,
        patch.dict(os.environ, {"APRENDIZ_RUNS": folder, "SDL_VIDEODRIVER": "dummy"}),
    ):
        run = untrained_run(options.game, Path(folder))
        for number in range(options.rounds):
            one: dict[str, Any] = {"alone": alone(run, options.seconds)}
            one["viewer"] = on_page(run, options.seconds, viewers=1)
            one["crowd"] = on_page(run, options.seconds, viewers=CROWD, slow=1)
            one["paced"] = on_page(run, options.seconds, viewers=1, pace=PACE)
            rounds.append(one)
            print(f"round {number + 1}: {json.dumps(one)}", flush=True)
    cost, crowd_cost = (spread([1.0 - one[key]["decisions"] / one["alone"] for one in rounds]) for key in WATCHED)
    share = spread([one["crowd"]["least_pictures"] / one["viewer"]["least_pictures"] for one in rounds])
    lost = spread([max(0.0, 1.0 - one["paced"]["decisions"] / PACE) for one in rounds])
    rows = [("", "decisions a second", "cost", "pictures a second, least viewer")]
    rows.append(("alone", f"{spread([one['alone'] for one in rounds])['median']:.1f}", "", ""))
    for name, key, paid in (
        ("1 viewer", "viewer", cost),
        (f"{CROWD} viewers", "crowd", crowd_cost),
        ("paced", "paced", lost),
    ):
        decisions, pictures = (
            spread([one[key][of] for one in rounds])["median"] for of in ("decisions", "least_pictures")
        )
        rows.append((name, f"{decisions:.1f}", f"{paid['median']:.1%}", f"{pictures:.1f}"))
    print()
    print_table(rows)
    print(f"the least of {CROWD} viewers gets {share['median']:.1%} of the pictures that a single one gets")
    result = {"cost": cost, "crowd_cost": crowd_cost, "crowd_share": share, "paced_cost": lost, "rounds": rounds}
    write_result("live_page", options, result, before)
    return 0


if __name__ == "__main__":
    main(run_command)
