"""A picture of words, those of like meaning near each other.

python -m language.map RUN --n 300 --out map.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError

PROG = "python -m language.map"
SHORTEST = 3
"""The most frequent words of fewer letters say little, and are left out of the default."""
SHOWN = 40
"""Characters without a glyph that are named."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`; or a file of vectors."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The words. None: the most frequent ones."""
    n: int = 200
    """How many of the most frequent words, where none are given."""
    method: Literal["t-sne", "pca"] = "t-sne"
    """t-sne keeps neighbours together (Van der Maaten and Hinton 2008); pca shows the two directions of most
    variance."""
    seed: int = 1
    """Decides what t-sne draws."""
    out: Path = Path("map.png")
    """The picture: a .png, .svg or .pdf file."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""

    def __post_init__(self) -> None:
        if self.n < 3:
            raise ConfigError(f"n must be at least 3, got {self.n}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if 0 < len(self.words) < 3:
            raise ConfigError(f"a map takes at least three words, got {len(self.words)}")
        if self.out.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--out must be a .png, .svg or .pdf file, got {self.out}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="A picture of word vectors, by t-SNE or PCA.")
    from language.saved import open_words
    from language.word_map import coordinates, draw

    table, name = open_words(options.run, options.checkpoint)
    if options.words:
        places = list(dict.fromkeys(table.require(options.words)))
    else:
        telling = [place for place, word in enumerate(table.words) if len(word) >= SHORTEST and word[0].isalpha()]
        places = telling[: options.n]
    if len(places) < 3:
        raise ConfigError(f"{name} has only {len(places)} such words; a map takes at least three")
    words = [table.words[place] for place in places]
    where = coordinates(table.vectors[places], options.method, seed=options.seed)
    drawn = draw(words, where, options.out, title=f"{name}, {options.method}")
    note = f" ({drawn.left_out} names left out, to keep the others legible)" if drawn.left_out else ""
    print(f"{len(words):,} words of {name}: {options.out}{note}")
    if drawn.without_glyph:
        missing = [one if one.isprintable() else ascii(one)[1:-1] for one in drawn.without_glyph]
        shown = " ".join(missing[:SHOWN]) + (" ..." if len(missing) > SHOWN else "")
        print(f"boxes stand for what no font of this machine has ({len(missing):,}): {shown}")


if __name__ == "__main__":
    cli.main(command)
