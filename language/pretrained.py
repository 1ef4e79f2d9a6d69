"""Vectors of words that were learned elsewhere, for the embedding of another model: out of a file of word2vec's formats
(text or binary), or out of a run of a model that has vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from aprendiz.errors import ConfigError, RunError

if TYPE_CHECKING:
    from aprendiz.text.core import Vocabulary
    from language.word_tasks import WordTable


def checked(source: str, dimensions: int) -> str:
    """The absolute path of a file or of a run's folder, which is what a run keeps: `latest` is soon another one. Raises
    ConfigError where there is neither, or dimensions differ, DataError for a file that is none or is not there."""
    where = _path(source)
    check_dimensions(source, read(where).vectors.shape[1], dimensions)
    return where


def read(source: str) -> WordTable:
    """Words and their vectors, of a file's path or of a run (a folder or a name). Raises DataError for a file that is
    none, ConfigError where `source` is neither, or a run without vectors."""
    from language.saved import open_words

    return open_words(_path(source), device="cpu", what="--vectors")[0]


def embedding_for(vocabulary: Vocabulary, source: str, dimensions: int, generator: torch.Generator) -> torch.Tensor:
    """float32 [V, dimensions] for the symbols of a vocabulary.

    Words that the source lacks are looked up in lower case; those that it lacks even so get normal noise of the mean
    and spread of the others, drawn by the generator. Raises ConfigError where dimensions differ, or no word is known.
    """
    words, vectors = read(source)
    check_dimensions(source, vectors.shape[1], dimensions)
    rows = {word: row for row, word in enumerate(words)}
    found = [rows.get(symbol, rows.get(symbol.lower(), -1)) for symbol in vocabulary.symbols]
    known = np.array(found) >= 0
    if not known.any():
        raise ConfigError(
            f"vectors {source!r} hold none of the {len(found):,} words of this text: are they of another language?"
        )
    chosen = np.asarray(vectors, np.float32)[np.array(found)[known]]
    table = torch.randn(len(found), dimensions, generator=generator) * float(chosen.std()) + float(chosen.mean())
    table[torch.from_numpy(known)] = torch.from_numpy(chosen)
    return table


def check_dimensions(source: str, found: int, wanted: int) -> None:
    """Raises ConfigError where vectors do not fit an embedding."""
    if found != wanted:
        raise ConfigError(
            f"vectors {source!r} have {found} dimensions, and the embedding {wanted}: give --embedding {found}"
        )


def _path(source: str) -> str:
    from aprendiz.run import Run
    from language import vector_files

    if (path := vector_files.named(source)) is not None:
        return str(path)

    try:
        return str(Run.open(source, "language").path.resolve())
    except RunError as error:
        raise ConfigError(f"vectors {source!r} are neither a file nor a run that is there: {error}") from error
