"""Which class a saved classifier sees in texts: those of the command line, or the lines of standard input.

python -m language.classify RUN "not a bad film" ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError, DataError

if TYPE_CHECKING:
    from language.saved import SavedModel

PROG = "python -m language.classify"
BATCH = 64
"""Texts that are looked at together; 1 where somebody types them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, its name, a text or model (its newest run), or `latest`."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The texts. None: each line of standard input is one."""
    all: bool = False
    """Show the probability of every class, instead of the likeliest one's."""
    checkpoint: str | None = None
    """`last`, `best` or a number of tokens. None: best where there is one, else last."""
    device: str = "auto"
    """`auto` (where it learned, or the CPU), `cpu`, `cuda` or `mps`."""


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(Options, argv, prog=PROG, description="Name the class of texts with a saved model.")
    from aprendiz.run import Run
    from aprendiz.session import chosen_checkpoint
    from language.saved import open_model

    run = Run.open(options.run, "language")
    saved = open_model(run, chosen_checkpoint(run, options.checkpoint), options.device)
    saved.require("classify", "classify")
    typed = sys.stdin is not None and sys.stdin.isatty()
    texts: Iterable[str] = options.texts or _lines()
    for batch in batches(texts, 1 if typed and not options.texts else BATCH):
        for text, shares in zip(batch, probabilities(saved, batch), strict=True):
            print(line(saved.spec.classes, shares, text, everything=options.all), flush=True)


def probabilities(saved: SavedModel, texts: list[str]) -> list[list[float]]:
    """Of each class, for each text. Raises ConfigError for a text without any token."""
    import torch

    ids = [saved.vocabulary.encode(text) for text in texts]
    for text, one in zip(texts, ids, strict=True):
        if len(one) == 0:
            raise ConfigError(f"the text {text!r} holds nothing to classify")
    with torch.no_grad():
        return saved.model.classify(ids).float().softmax(dim=1).tolist()


def line(classes: tuple[str, ...], shares: list[float], text: str, *, everything: bool) -> str:
    """The likeliest class, its probability and the text, with tabs between; or all classes with theirs."""
    best = max(range(len(shares)), key=shares.__getitem__)
    if everything:
        of_each = "\t".join(f"{name} {share:.4f}" for name, share in zip(classes, shares, strict=True))
        return f"{classes[best]}\t{of_each}\t{text}"
    return f"{classes[best]}\t{shares[best]:.4f}\t{text}"


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most `size` texts."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines() -> Iterator[str]:
    """Lines of standard input that are not empty. Raises DataError where it is not UTF-8, or has none."""
    if sys.stdin is None or sys.stdin.closed:
        raise ConfigError(f"which text? give it behind the run, or pipe lines in; {PROG} --help")
    found = False
    try:
        for one in sys.stdin:
            if one.strip():
                found = True
                yield one.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not {error.encoding.upper()}: give it a text in that encoding") from error
    if not found:
        raise DataError("standard input holds no text: pipe in lines, or give texts behind the run")


if __name__ == "__main__":
    cli.main(command)
