"""Whether a text keeps the contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from aprendiz.testing.common import difference, form, global_random_state_left_alone, require

LEVELS = ("char", "byte", "word")
_PARTS = ("train", "validation", "test")
_SPECIAL = {"char": 1, "byte": 0, "word": 2}
"""Symbols with a meaning of their own."""


def check_text(make: Callable[..., Any]) -> None:
    """Look at a text from all sides and raise AssertionError, saying what is wrong, where it breaks the contract.

    `make(level=...)` returns a new `aprendiz.text.core.TextData` or `LabelledTexts`, the same each time: for a
    registered name `functools.partial(aprendiz.text.load, "rhymes")`. Checked at each level: the description, the
    options and their JSON; that ids are of the narrowest type and within the vocabulary; that the vocabulary and its
    counts are those of the training part and survive a save; that decoding and encoding agree; that characters, bytes
    and words are cut into parts at the same places; labels and offsets of labelled texts; that making it again gives
    the same ids and the same fingerprint, and another level another one; and that the global random states of Python,
    NumPy and torch are left alone.
    """
    make()  # out here, where what it imports for the first time may do as it likes
    with global_random_state_left_alone():
        levels = {level: make(level=level) for level in LEVELS}
        for level, data in levels.items():
            _check_description(level, data)
            _check_vocabulary(level, data)
            for name in _PARTS:
                _check_part(level, name, data)
            _check_again(level, data, make(level=level))
        prints = {data.fingerprint for data in levels.values()}
        require(len(prints) == len(LEVELS), "two levels have one fingerprint")
        _check_levels(levels)


def _check_description(level: str, data: Any) -> None:
    spec = data.spec
    require(isinstance(spec.name, str) and bool(spec.name.strip()), f"the name is {spec.name!r}")
    require(spec.level == level == data.vocabulary.level, f"asked for level {level}, it is {spec.level}")
    require(
        spec.vocabulary_size == len(data.vocabulary) == len(data.vocabulary.symbols),
        f"the description counts {spec.vocabulary_size} symbols, the vocabulary has {len(data.vocabulary)}",
    )
    require(
        isinstance(spec.classes, tuple) and all(isinstance(one, str) for one in spec.classes),
        f"classes is {spec.classes!r}, not a tuple of text",
    )
    require(len(set(spec.classes)) == len(spec.classes), "two classes have one name")
    try:
        json.dumps([dataclasses.asdict(spec), dict(data.options)])
    except TypeError as error:
        raise AssertionError(f"description and options must be what JSON can hold: {error}") from error
    require(isinstance(data.fingerprint, str) and bool(data.fingerprint), "there is no fingerprint")


def _check_vocabulary(level: str, data: Any) -> None:
    from aprendiz.text.vocabulary import from_json, to_json

    vocabulary, train = data.vocabulary, np.asarray(data.train.ids)
    counts = np.bincount(train, minlength=len(vocabulary))
    require(
        np.array_equal(vocabulary.counts, counts),
        f"counts of the {level} vocabulary are not those of the training part",
    )
    unused = [one for one in range(_SPECIAL[level], len(vocabulary)) if not counts[one]] if level != "byte" else []
    require(not unused, f"{len(unused)} symbols of the {level} vocabulary do not occur in the training part")
    again = from_json(json.loads(json.dumps(to_json(vocabulary))))
    same = again.symbols == vocabulary.symbols and np.array_equal(again.counts, vocabulary.counts)
    require(same, f"the {level} vocabulary is another one when it was saved")
    ids = train[:2_000]
    if level != "byte" and not (ids == 0).any():
        written = again.encode(vocabulary.decode(ids))
        require(np.array_equal(written, ids), f"encoding what was decoded gives other {level} ids")


def _check_part(level: str, name: str, data: Any) -> None:
    from aprendiz.text.vocabulary import narrowest

    part, ids = getattr(data, name), getattr(data, name).ids
    require(
        isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype == narrowest(data.spec.vocabulary_size),
        f"ids of {name} are {form(ids)}, not {narrowest(data.spec.vocabulary_size)} [T] for "
        f"{data.spec.vocabulary_size} symbols",
    )
    require(len(ids) > 0, f"{name} is empty")
    require(int(ids.max()) < data.spec.vocabulary_size, f"ids of {name} leave the vocabulary")
    if not data.spec.classes:
        require(len(part) == len(ids), f"{name} has {len(ids)} ids and says {len(part)}")
        if level == "char":
            require(part.characters == len(ids), f"{name} has {len(ids)} characters and says {part.characters}")
        return
    offsets, labels = part.offsets, part.labels
    require(
        labels.dtype == offsets.dtype == np.int64 and offsets.shape == (len(labels) + 1,) and len(part) == len(labels),
        f"offsets {form(offsets)} and labels {form(labels)} of {name} must be int64 [N + 1] and [N]",
    )
    require(
        offsets[0] == 0 and offsets[-1] == len(ids) and bool((np.diff(offsets) > 0).all()),
        f"offsets of {name} do not divide its {len(ids)} ids into documents of one token or more",
    )
    low, high = int(labels.min()), int(labels.max())
    inside = low >= 0 and high < len(data.spec.classes)
    require(inside, f"labels of {name} run from {low} to {high}; there are {len(data.spec.classes)} classes")


def _check_again(level: str, data: Any, again: Any) -> None:
    require(data.fingerprint == again.fingerprint, f"made again at level {level}, the fingerprint is another")
    for name in _PARTS:
        one, other = getattr(data, name), getattr(again, name)
        fields = [field.name for field in dataclasses.fields(one)]
        where = difference(
            {field: getattr(one, field) for field in fields}, {field: getattr(other, field) for field in fields}
        )
        require(not where, f"made again at level {level}, {name} is another{where}")


def _check_levels(levels: dict[str, Any]) -> None:
    """Characters, bytes and words of one text are judged on the same stretches."""
    char, byte, word = (levels[level] for level in LEVELS)
    for name in _PARTS:
        letters, octets = getattr(char, name), getattr(byte, name)
        written = byte.vocabulary.decode(octets.ids)
        known = np.asarray(char.vocabulary.encode(written))
        require(np.array_equal(known, letters.ids), f"{name} holds another text as bytes than as characters")
        if not char.spec.classes:
            require(letters.characters == octets.characters, f"characters of {name} are counted in two ways")
            away = abs(getattr(word, name).characters - letters.characters)
            require(away <= 2_000, f"words and characters are cut into parts {away} characters apart")
        else:
            same = all(np.array_equal(getattr(levels[level], name).labels, letters.labels) for level in LEVELS)
            require(same, f"labels of {name} depend on the level")
