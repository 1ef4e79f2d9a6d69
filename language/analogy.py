"""What is to one word as another is to a third: man is to king as woman is to ...

python -m language.analogy RUN man king woman
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m language.analogy"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`; or a file of vectors."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Three words: the first is to the second as the third is to the answer."""
    n: int = 5
    """Answers, the best first."""
    restrict: int = 30_000
    """Only among so many of the most frequent words."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("restrict", 4)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options, argv, prog=PROG, description="The word nearest to b - a + c, for words a, b and c, by cosine."
    )
    if len(options.words) != 3:
        given = f"got {len(options.words)}: {' '.join(options.words)}" if options.words else "got none"
        raise ConfigError(f"an analogy takes three words, {given}; as in `{PROG} {options.run} man king woman`")
    from language.neighbors import print_words
    from language.saved import open_words
    from language.word_tasks import analogy

    a, b, c = options.words
    table, _ = open_words(options.run, options.checkpoint)
    answers = analogy(table.vectors, table.words, a, b, c, options.n, limit=options.restrict)
    print_words(f"{a} is to {b} as {c} is to", answers)


if __name__ == "__main__":
    cli.main(command)
