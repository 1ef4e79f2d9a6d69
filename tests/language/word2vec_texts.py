"""Small texts of words, made for a purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.text.core import LINE_END, TextData, TextSpec, Tokens
from aprendiz.text.vocabulary import WordVocabulary

TOPICS, WORDS = 8, 10


def text_of(ids: Any, size: int | None = None, validation: int = 0) -> TextData:
    """A text of ids from LINE_END + 1 on, called w2, w3, ...; counts are of all of it."""
    ids = np.asarray(ids, np.uint16)
    size = int(ids.max()) + 1 if size is None else size
    vocabulary = WordVocabulary([f"w{number}" for number in range(2, size)], np.bincount(ids, minlength=size))
    spec = TextSpec(name="made", level="word", vocabulary_size=size)
    cut = len(ids) - validation
    return TextData(spec, vocabulary, Tokens(ids[:cut], cut), Tokens(ids[cut:], validation), Tokens(ids[:0], 0))


def topics(lines: int, seed: int = 0) -> TextData:
    """Lines of ten words, all of one topic: word w is of topic (w - 2) // WORDS."""
    generator = np.random.default_rng(seed)
    topic = generator.integers(TOPICS, size=(lines, 1))
    words = 2 + topic * WORDS + generator.integers(WORDS, size=(lines, 10))
    return text_of(np.column_stack([words, np.full(lines, LINE_END)]).reshape(-1), size=2 + TOPICS * WORDS)


def topic_agreement(vectors: NDArray[np.float32]) -> float:
    """Part of the words whose nearest word is of their topic."""
    vectors = vectors[2:] / np.linalg.norm(vectors[2:], axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return float((cosines.argmax(1) // WORDS == np.arange(len(vectors)) // WORDS).mean())
