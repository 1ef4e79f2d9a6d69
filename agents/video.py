"""Watching an agent play: moments of its games, and videos of them (H.264, which every browser plays)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.core import Agent, Purpose
from agents.picture import Painter
from agents.play import Explorer, game_seeds
from aprendiz.errors import ConfigError, EnvError, StorageError

if TYPE_CHECKING:
    from agents.saved import MakeEnv
    from envs.core import Env, EnvSpec

MAX_FPS = 60.0
"""Of videos."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to see when the agent has decided and the game has not yet moved, or when it has just ended."""

    picture: NDArray[np.uint8]
    """[H, W, 3] the game in colour; of the last decision, where it has ended."""
    observation: NDArray[Any]
    """Of one environment: exactly what the agent was given, or the last observation of an ended game."""
    q_values: NDArray[np.float32] | None
    """[A], where the agent has them."""
    action: int | NDArray[np.float32]
    """Its number, or the numbers of a continuous one."""
    why: str
    """`greedy`, `random` or `forced`."""
    score: float
    """So far, unclipped."""
    step: int
    """Steps played so far."""
    game: int
    ended: str = ""
    """Empty while the game goes on, then `game over` or `time limit`."""


def moments(
    agent: Agent, env: Env, seeds: Sequence[int], *, explore: float, max_steps: int | None = None
) -> Iterator[Moment]:
    """Play a game for each seed in `env` (one lane, made with `render=True`): one moment a decision, one at the end.

    A game is the one that `play_games` plays with the same seed and `explore`. After `max_steps` it is left off,
    without a moment of its end. Raises ConfigError for `explore` outside 0 to 1, EnvError where there is no picture.
    """
    assert env.num_envs == 1, "one game is watched at a time"
    for game, seed in enumerate(seeds):
        spec = env.spec
        explorer = Explorer([seed], explore, spec.action_space if spec.continuous else spec.num_actions)
        player = agent.player(1)
        observation, forced = env.reset([seed]), env.forced_action
        score, step_number, ended = 0.0, 0, ""
        while not ended and step_number != max_steps:
            action: Any = None
            if spec.continuous:
                exploring, actions = explorer.next_continuous()
                action, why = (actions[0], "random") if exploring[0] else (None, "greedy")
            else:
                action, why = int(forced[0]), "forced"
                random_action = int(explorer.next()[0])
                if action < 0:
                    action, why = random_action, "random"
                if action < 0:
                    action, why = None, "greedy"
            # Also what it does not decide it sees, where it has a memory.
            chosen = player.act(observation, np.flatnonzero([why == "greedy"]))
            if why == "greedy":
                action = chosen[0] if spec.continuous else int(chosen[0])
            q_values = player.inspect(observation).get("q_values")
            row = None if q_values is None else q_values[0]
            picture = env.render().copy()
            yield Moment(picture, observation[0].copy(), row, action, why, score, step_number, game)
            step = env.step(np.array([action]))
            step_number += 1
            score += float(step.reward[0])
            observation, forced = step.observation, step.forced_action
            if step.ended[0]:
                ended = "game over" if step.terminated[0] else "time limit"
                last, score = step.final_observation[0], float(step.score[0])
                yield Moment(picture, last, row, action, why, score, step_number, game, ended)


def has_display() -> bool:
    """Whether a window can be opened: macOS and Windows have their desktop, others say so in the environment."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def decisions_per_second(spec: EnvSpec) -> float:
    """How fast it looks right: the console's 60 frames a second, 30 decisions where things move, 4 on a board."""
    if "frames_per_step" in spec.protocol:
        return 60.0 / float(spec.protocol["frames_per_step"])
    return 4.0 if spec.observation_kind == "discrete" else 30.0


def record_video(
    agent: Agent,
    make_env: MakeEnv,
    path: Path | str,
    *,
    seed: int = 1000,
    explore: float = 0.01,
    max_steps: int | None = 3_000,
    title: str = "",
    episodes: int = 1,
    fps: float | None = None,
) -> Path:
    """Write a video of whole games to `path`, whose name ends in .mp4, and return it; about 1 MB a minute.

    The games are the first ones of an evaluation with the same `seed`, each cut off after `max_steps`. One picture a
    decision, `fps` of them a second (None: as fast as the game is played), and the end of each game held for a second.
    The file appears when it is whole. Raises ConfigError for the name or numbers, EnvError where the environment has no
    picture, StorageError where the video cannot be written.
    """
    path = check_video_path(path)
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or the pictures of some environments come with complaints
    env = make_env(1, render=True)
    try:
        rate = fps if fps is not None else decisions_per_second(env.spec)
        if not 0.0 < rate <= MAX_FPS:
            raise ConfigError(f"fps is {rate:g}; a video has more than 0 and at most {MAX_FPS:g} pictures a second")
        painter = Painter(env.spec, title, frames=agent.frames_read(env.spec.frame_stack))
        seeds = game_seeds(seed, episodes, Purpose.EVALUATION)
        pictures = (
            (painter.paint(moment), max(1, round(rate)) if moment.ended else 1)
            for moment in moments(agent, env, seeds, explore=explore, max_steps=max_steps)
        )
        write_mp4(path, pictures, rate)
    finally:
        env.close()
    return path


def check_video_path(path: Path | str) -> Path:
    """The path, or ConfigError where its name does not end in .mp4 or it is a folder."""
    path = Path(path)
    if path.suffix.lower() != ".mp4" or path.is_dir():
        raise ConfigError(f"the video's name {str(path)!r} must be that of a file and end in .mp4")
    return path


def write_mp4(path: Path, pictures: Iterator[tuple[NDArray[np.uint8], int]], fps: float) -> None:
    """Write pictures uint8 [H, W, 3] of even height and width, each with the number of its repetitions.

    H.264 in yuv420p, which browsers need, with the index at the front, so that it plays while it loads. Raises
    StorageError where it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}.mp4")
    encoder: subprocess.Popen[bytes] | None = None
    messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for picture, repetitions in pictures:
            if encoder is None:
                encoder = _start_encoder(temporary, picture, fps, messages)
            assert encoder.stdin is not None
            for _ in range(repetitions):
                encoder.stdin.write(picture.tobytes())
        if encoder is None:
            raise EnvError("there is nothing to show: no game was played")
        encoder.communicate()
        if encoder.returncode:
            raise OSError(f"the encoder ended with code {encoder.returncode}")
        temporary.replace(path)
    except OSError as error:
        messages.seek(0)
        said = " ".join(messages.read().decode(errors="replace").split())[-200:]
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {path}: {reason}{': ' if said else ''}{said}; make room, or name a file elsewhere"
        ) from error
    finally:
        messages.close()
        if encoder is not None and encoder.poll() is None:
            encoder.kill()
            encoder.communicate()
        with contextlib.suppress(OSError):
            temporary.unlink()


def _start_encoder(path: Path, first: NDArray[np.uint8], fps: float, messages: IO[bytes]) -> subprocess.Popen[bytes]:
    """ffmpeg, reading raw pictures of the size of the first from its standard input."""
    import imageio_ffmpeg

    height, width, _ = first.shape
    assert height % 2 == 0 and width % 2 == 0, "yuv420p halves both sides"
    what = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    how = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "23", "-preset", "medium", "-movflags", "+faststart"]
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *what, *how, str(path)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages)
