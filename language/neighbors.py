"""The words nearest to given ones.

python -m language.neighbors RUN king ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "python -m language.neighbors"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`; or a file of vectors."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The words."""
    n: int = 10
    """Neighbours of each."""
    limit: int | None = None
    """Only among so many of the most frequent words. None: all."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""

    def __post_init__(self) -> None:
        for name in ("n", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="The words nearest to given ones, by cosine.")
    if not options.words:
        raise ConfigError(f"which word? as in `{PROG} {options.run} king`")
    from language.saved import open_words
    from language.word_tasks import neighbours

    table, _ = open_words(options.run, options.checkpoint)
    table.require(options.words)
    for word in options.words:
        print_words(word, neighbours(table.vectors, table.words, word, options.n, limit=options.limit))


def print_words(title: str, found: Sequence[tuple[str, float]]) -> None:
    """Words and their cosines, one a line, below a title."""
    width = max((len(word) for word, _ in found), default=0)
    print(title)
    for word, cosine in found:
        print(f"  {word:<{width}}  {cosine:.3f}", flush=True)


if __name__ == "__main__":
    cli.main(command)
