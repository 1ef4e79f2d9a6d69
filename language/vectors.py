"""Word vectors of a run as a file that gensim and others open: word2vec's text or binary format.

python -m language.vectors RUN --out vectors.bin
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m language.vectors"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`; or a file of vectors, to change its
    format."""
    out: Path = Path("vectors.bin")
    """The file: binary where it ends in .bin, else text; compressed where it ends in .gz."""
    format: Literal["auto", "text", "binary"] = "auto"
    """The format, whatever the file is called."""
    n: int | None = None
    """Only so many of the most frequent words. None: all."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ConfigError(f"n must be at least 1, got {self.n}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Save word vectors in word2vec's formats.")
    from language import vector_files
    from language.saved import open_words
    from language.word_tasks import WordTable

    table, name = open_words(options.run, options.checkpoint)
    table = WordTable(table.words[: options.n], table.vectors[: options.n])
    renamed = vector_files.write(options.out, table, None if options.format == "auto" else options.format)
    note = f"; {renamed:,} words have spaces, written as underscores" if renamed else ""
    print(f"{len(table.words):,} vectors of {table.vectors.shape[1]} numbers of {name} in {options.out}{note}")


if __name__ == "__main__":
    cli.main(command)
