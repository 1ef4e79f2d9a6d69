"""Follow runs of any family on a page in the browser while they are trained: curves, the newest video, picture or text.

python -m aprendiz.live RUN [RUN ...] [--port 8420] [--host 127.0.0.1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m aprendiz.live"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder, its name, a task or learner (its newest run), or `latest`."""
    host: str = "127.0.0.1"
    """Address to serve on. The default is this machine's own; 0.0.0.0 lets every machine of the network look on and
    press the buttons."""
    port: int = 8420
    """Port to serve on; 0 takes any that is free."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options, argv, prog=PROG, description="Follow runs on a page in the browser while they are trained."
    )
    if not options.runs:
        raise ConfigError(f"which run? give its folder, its name, a task, a learner or `latest`; {PROG} --help")
    from aprendiz.live.server import serve
    from aprendiz.live.training import TrainingView
    from aprendiz.run import Run

    runs = [Run.open(text) for text in options.runs]
    title = ", ".join(run.name for run in runs)
    serve([TrainingView(run) for run in runs], host=options.host, port=options.port, title=title)


if __name__ == "__main__":
    cli.main(command)
