"""Texts for tests, made up here."""

from __future__ import annotations

import io

import numpy as np

from aprendiz.text import build
from aprendiz.text.core import RawText, TextData
from aprendiz.text.encode import Encoding

ARTICLES, KINDS, THINGS = ("the", "a"), ("old", "red", "little"), ("king", "queen", "fox", "bird", "tree", "house")
DOES, JOINS = ("sees", "finds", "follows", "leaves"), ("and", "then", "while", "because")
ORDER = (ARTICLES, KINDS, THINGS, DOES, ARTICLES, THINGS)


def sentences(count: int, seed: int = 0) -> str:
    """Lines of a small made-up language: an article, a noun, a verb, an article, a noun, and now and then more."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        words = []
        while True:
            words += [str(random.choice(choices)) for choices in ORDER]
            if random.random() < 0.7:
                break
            words.append(str(random.choice(JOINS)))
        lines.append(" ".join(words))
    return ".\n".join(lines) + ".\n"


def data_of(
    text: str, level: str = "char", *, held_out: float = 0.1, validation: float = 0.1, name: str = "small"
) -> TextData:
    """A text as models learn from it."""
    raw = RawText(name=name, pieces=lambda: [text])
    encoding = Encoding(level=level)  # type: ignore[arg-type]
    return build.text_data(raw, encoding, held_out=held_out, validation=validation, options={})


def small(level: str = "char", count: int = 200) -> TextData:
    """Sentences, as models learn from them."""
    return data_of(sentences(count), level)


def piped(content: bytes) -> io.TextIOWrapper:
    """Standard input that comes from another program."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
