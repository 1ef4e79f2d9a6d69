"""Write text with a saved model, as it is generated.

python -m language.sample RUN --prompt "ROMEO:" --length 500
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from aprendiz.text.core import Vocabulary

PROG = "python -m language.sample"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`."""
    prompt: str = ""
    """What the text begins with. None: the beginning of a line."""
    length: int = 500
    """Tokens that are written: characters, bytes or words, as the model learned them."""
    temperature: float = 0.8
    """Divides the logits: below 1 the text is more usual, above 1 more varied; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Choose among so many of the likeliest tokens only."""
    top_p: float | None = None
    """Choose among the likeliest tokens that together have this probability (Holtzman et al. 2020)."""
    seed: int = 1
    """The same seed writes the same text."""
    out: Path | None = None
    """A file for the text, instead of the terminal."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"length must be at least 1, got {self.length}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Write text with a saved language model.")
    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from language.core import Purpose, torch_generator
    from language.generation import generate
    from language.saved import open_model

    run = Run.open(options.run, "language")
    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    saved.require("predict", "sample")
    ids = prompt_ids(saved.vocabulary, options.prompt)
    new = generate(
        saved.model,
        ids,
        options.length,
        torch_generator(options.seed, Purpose.SAMPLING),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    before = int(ids[-1]) if options.prompt else None
    spaced = saved.vocabulary.level == "word"  # the next word brings its own space along
    pieces = [options.prompt.rstrip(" ") if spaced else options.prompt], decoded(saved.vocabulary, new, before)
    if options.out is None:
        write(pieces)
        return
    try:
        with options.out.open("w", encoding="utf-8") as file:
            for part in pieces:
                file.writelines(part)
    except OSError as error:
        raise StorageError(f"cannot write {options.out}: {error.strerror}") from error
    print(f"{options.length:,} tokens of {run.name}, checkpoint {saved.step:,}: {options.out}")


def prompt_ids(vocabulary: Vocabulary, prompt: str) -> Any:
    """Ids int64 [T] of a prompt, T >= 1; a line's end where there is none. Warns of what the model does not know."""
    import numpy as np

    from aprendiz.text.core import UNKNOWN
    from language.samples import opening

    ids = np.asarray(vocabulary.encode(prompt), np.int64)
    if len(ids) == 0:
        return opening(vocabulary)
    if vocabulary.level != "byte" and (unknown := int((ids == UNKNOWN).sum())):
        what = {"char": "characters", "word": "words"}[vocabulary.level]
        print(f"warning: {unknown} of the {len(ids)} {what} of the prompt are unknown to the model", file=sys.stderr)
    return ids


def decoded(vocabulary: Vocabulary, ids: Iterable[int], before: int | None = None) -> Iterator[str]:
    """The text of ids, piece by piece as they come: together what `vocabulary.decode` makes of the whole.

    `before`: the token that they continue. A character of several bytes comes when its last byte has.
    """
    if vocabulary.level == "byte":
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for one in ids:
            yield decoder.decode(bytes([one]))
        yield decoder.decode(b"", final=True)
    elif vocabulary.level == "char":
        for one in ids:
            yield vocabulary.decode([one])
    else:  # whether there is a space depends on the word before
        for one in ids:
            known = [] if before is None else [before]
            yield vocabulary.decode([*known, one]).removeprefix(vocabulary.decode(known))
            before = one


def write(parts: Iterable[Iterable[str]]) -> None:
    """Writes pieces to standard output as they come. Raises BrokenPipeError where nobody reads any more."""
    stream = sys.stdout
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that cannot show a character shows something else
    for part in parts:
        for piece in part:
            if piece:
                stream.write(piece)
                stream.flush()
    stream.write("\n")
    stream.flush()


if __name__ == "__main__":
    cli.main(command)
