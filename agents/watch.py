"""Watch a saved agent play: in a window where there is a display, else in a video. What a tabular agent has learned is
drawn too: values and best actions on the map of its environment.

python -m agents.watch RUN [--video out.mp4] [--table] [--picture out.png]
python -m agents.watch RUN [RUN ...] --web [--port 8420] [--host 127.0.0.1]

The games are those that agents.evaluate plays; a network's ties can fall differently there, with another number of
games played together.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.saved import SavedAgent
    from agents.video import Moment
    from aprendiz.run import Run

PROG = "python -m agents.watch"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The run's folder, its name, an environment or agent (its newest run), or `latest`. With --web several, side by
    side."""
    web: bool = False
    """Show it on a page in the browser: what the agent sees and thinks, pause, speed, saliency, playing oneself; and,
    of runs that are being trained, the curves. There the games go on until Ctrl-C."""
    port: int | None = None
    """Of the page; 0 takes any that is free. None: 8420."""
    host: str | None = None
    """Of the page. None: 127.0.0.1, this machine alone; 0.0.0.0 lets every machine of the network look on and
    play."""
    video: Path | None = None
    """Write this .mp4 instead of opening a window. Where there is no display: into the run's folder."""
    episodes: int = 1
    """Games to show; the page goes on for ever."""
    seed: int = 1000
    """Which games: the first ones that agents.evaluate plays with the same seed. A network's ties can fall differently
    there, where many games are played together."""
    checkpoint: str | None = None
    """`last`, `best` or a step. None: best where there is one, else last."""
    explore: float = 0.01
    """Probability of a random action, at each step."""
    max_steps: int | None = None
    """Steps after which a game is left off. None: 3,000 in a video, no limit in a window."""
    table: bool = False
    """Of a tabular agent: print values and best actions, and play no game. In a terminal they are printed anyway."""
    picture: Path | None = None
    """Of a tabular agent: draw values and best actions into this .png, and play no game."""
    fps: float | None = None
    """Decisions shown a second. None: as the game is played (Atari: 15)."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        for name in ("episodes", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if not 0.0 <= self.explore <= 1.0:
            raise ConfigError(f"explore is a probability from 0 to 1, got {self.explore}")
        if not self.web:
            for name in ("port", "host"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} is for the page in the browser: --web")
            if len(self.runs) > 1:
                raise ConfigError(f"{len(self.runs)} runs side by side need the page in the browser: --web")
        elif self.video is not None or self.picture is not None or self.table:
            raise ConfigError("--web goes without --video, --table and --picture; leave the one or the others away")
        if self.fps is not None and not 0.0 < self.fps < float("inf"):
            raise ConfigError(f"fps must be above 0, got {self.fps}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Watch a saved agent play.")
    if not options.runs:
        raise ConfigError(f"which run? give its folder, its name, an environment or `latest`; {PROG} --help")
    if options.web:
        _on_page(options)
        return
    from aprendiz.run import Run

    run = Run.open(options.runs[0], "agents")
    from agents.video import check_video_path, has_display

    if options.video is not None:
        check_video_path(options.video)
    if options.picture is not None:
        from agents.value_table import check_picture_path

        check_picture_path(options.picture)
    from agents.saved import load_saved
    from aprendiz.session import chosen_checkpoint

    saved = load_saved(run, chosen_checkpoint(run, options.checkpoint), options.device)
    title = f"{run.task}   {run.learner}   {saved.step:,} steps"
    if _table(saved, options, run, title) and options.video is None:
        return
    if options.video is None and has_display() and _in_window(saved, options, title):
        return
    _into_video(run, saved, options, title)


def _on_page(options: Options) -> None:
    """Serve a page until Ctrl-C: a game of each run of agents, and the curves of each run of any family."""
    from aprendiz.live.server import DEFAULT_HOST, DEFAULT_PORT, require_extra, serve
    from aprendiz.live.training import TrainingView
    from aprendiz.live.view import View
    from aprendiz.run import Run
    from aprendiz.session import checkpoint_choice

    require_extra()
    checkpoint_choice(options.checkpoint)  # said at once, also of runs that only show their curves
    # Any family's curves can be followed, but the newest run is that of this command's family.
    runs = [Run.open(text, "agents" if text == "latest" else None) for text in options.runs]
    views: list[View] = []
    for run in runs:
        if run.kind == "agents":
            from agents.live import GameOptions, GameView

            _one_thread_each()
            game = GameOptions(
                seed=options.seed,
                explore=options.explore,
                checkpoint=options.checkpoint,
                pace=options.fps,
                max_steps=options.max_steps,
                device=options.device,
            )
            views.append(GameView(run, game))
        views.append(TrainingView(run))
    port = DEFAULT_PORT if options.port is None else options.port
    serve(views, host=options.host or DEFAULT_HOST, port=port, title=", ".join(run.name for run in runs))


def _one_thread_each() -> None:
    """A network that is asked for one action gains little from more threads, and takes them from the other games, from
    the server and from the browser."""
    import torch

    torch.set_num_threads(1)


def _table(saved: SavedAgent, options: Options, run: Run, title: str) -> bool:
    """Draw the table of a tabular agent where it is asked for, and in a terminal; whether it was asked for."""
    asked = options.table or options.picture is not None
    q = getattr(saved.agent, "q", None)
    if q is None:
        if asked:
            flag = "--table" if options.table else "--picture"
            raise ConfigError(f"{flag} draws tables of values, and {run.learner} of {run.name} has none; leave it away")
        return False
    if not (asked or sys.stdout.isatty()):
        return False
    from agents.value_table import known_states, save_picture, show

    known = known_states(saved.agent)
    if options.table or not asked:
        print(title)
        show(saved.spec, q, known=known)
    if options.picture is not None:
        print(save_picture(saved.spec, q, options.picture, known=known, title=title))
    return asked


def _into_video(run: Run, saved: SavedAgent, options: Options, title: str) -> None:
    from agents.video import record_video

    path = options.video
    if path is None:
        name = f"{saved.which}-" if isinstance(saved.which, str) else ""
        path = run.videos / f"{name}step-{saved.step:012d}-seed-{options.seed}.mp4"
    path = record_video(
        saved.agent,
        saved.make_env,
        path,
        seed=options.seed,
        explore=options.explore,
        max_steps=options.max_steps or 3_000,
        title=title,
        episodes=options.episodes,
        fps=options.fps,
    )
    print(path)


def _in_window(saved: SavedAgent, options: Options, title: str) -> bool:
    """Show the games in a window until they are over or it is closed; False where no window can be opened."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError:
        print("no window: pygame is not installed (pip install pygame); writing a video instead", file=sys.stderr)
        return False
    from agents.core import Purpose
    from agents.picture import Painter
    from agents.play import game_seeds
    from agents.video import decisions_per_second, moments

    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
        if driver in ("dummy", "offscreen") and driver != os.environ.get("SDL_VIDEODRIVER"):
            raise pygame.error("the display cannot be reached")  # and SDL would have drawn where nobody sees it
    except pygame.error as error:
        pygame.display.quit()
        print(f"no window ({error}); writing a video instead", file=sys.stderr)
        return False
    env = saved.make_env(1, render=True)
    try:
        seeds = game_seeds(options.seed, options.episodes, Purpose.EVALUATION)
        played = moments(saved.agent, env, seeds, explore=options.explore, max_steps=options.max_steps)
        painter = Painter(env.spec, title, frames=saved.agent.frames_read(env.spec.frame_stack))
        _show(pygame, played, painter, options.fps or decisions_per_second(env.spec), title)
    finally:
        pygame.display.quit()
        env.close()
    return True


def _show(pygame: Any, played: Iterator[Moment], painter: Any, fps: float, title: str) -> None:
    """Draw `fps` moments a second, and the end of a game for a second; q, Esc and closing the window end it."""
    clock, screen = pygame.time.Clock(), None
    for moment in played:
        picture = painter.paint(moment)  # [H, W, 3]
        if screen is None:
            screen = pygame.display.set_mode(picture.shape[1::-1])
            pygame.display.set_caption(f"{title}   (q closes)")
        screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))  # pygame wants [W, H, 3]
        pygame.display.flip()
        for _ in range(max(1, round(fps)) if moment.ended else 1):
            for event in pygame.event.get():
                pressed = event.key if event.type == pygame.KEYDOWN else None
                if event.type == pygame.QUIT or pressed in (pygame.K_q, pygame.K_ESCAPE):
                    return
            clock.tick(fps)
        if moment.ended:
            print(f"game {moment.game + 1}: score {moment.score:g} in {moment.step:,} steps", flush=True)


if __name__ == "__main__":
    cli.main(command)
