"""Characters, bytes and words to ids and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aprendiz.errors import DataError
from aprendiz.text.vocabulary import (
    ByteVocabulary,
    CharacterVocabulary,
    WordVocabulary,
    from_json,
    narrowest,
    read,
    save,
    to_json,
)

CHARACTERS = CharacterVocabulary("\nab😀", [1, 2, 3, 4, 5])
BYTES = ByteVocabulary([0] * 256)
WORDS = WordVocabulary(["the", ",", "don't"], [7, 6, 5, 4, 3])


def test_characters_come_and_go() -> None:
    ids = CHARACTERS.encode("a😀\nxb")
    assert ids.dtype == np.int32 and ids.tolist() == [2, 4, 1, 0, 3]
    assert CHARACTERS.decode(ids) == "a😀\n\ufffdb"
    assert CHARACTERS.id_of("b") == 3 and CHARACTERS.id_of("x") is None and CHARACTERS.id_of("ab") is None


def test_bytes_are_those_of_utf_8() -> None:
    assert BYTES.encode("é\n").tolist() == [0xC3, 0xA9, 10]
    assert BYTES.decode([0xC3, 0xA9, 10]) == "é\n"
    assert BYTES.decode([0x41, 0xC3]) == "A\ufffd"
    assert BYTES.id_of("A") == 65 and BYTES.id_of("\xff") == 255 and BYTES.id_of("中") is None


def test_words_come_and_go() -> None:
    ids = WORDS.encode("the fox, the\ndon't")
    assert ids.dtype == np.int32 and ids.tolist() == [2, 0, 3, 2, 1, 4]
    assert WORDS.decode(ids) == "the <unk>, the\ndon't"
    assert WORDS.id_of("the") == 2 and WORDS.id_of("The") is None and WORDS.id_of("fox") is None


def test_a_vocabulary_in_lower_case_knows_capitals() -> None:
    lower = WordVocabulary(["the"], [0, 0, 1], lower=True)
    assert lower.encode("The THE").tolist() == [2, 2] and lower.id_of("THE") == 2


def test_what_stands_for_unknown_in_published_texts_is_unknown() -> None:
    published = WordVocabulary(["a"], [0, 0, 1], tokens="whitespace")
    assert published.encode("a <unk> </s>").tolist() == [2, 0, 1]


@pytest.mark.parametrize("vocabulary", [CHARACTERS, BYTES, WORDS], ids=lambda one: one.level)
def test_a_vocabulary_survives_its_file(vocabulary: CharacterVocabulary, tmp_path) -> None:
    save(tmp_path / "vocabulary.json", vocabulary)
    again = read(tmp_path / "vocabulary.json")
    assert type(again) is type(vocabulary) and again.symbols == vocabulary.symbols
    assert again.counts.tolist() == vocabulary.counts.tolist()
    assert again.encode("the\na'b 😀").tolist() == vocabulary.encode("the\na'b 😀").tolist()


def test_how_words_are_cut_survives_the_file_too() -> None:
    one = WordVocabulary(["a,"], [0, 0, 1], tokens="whitespace", lower=True)
    again = from_json(json.loads(json.dumps(to_json(one))))
    assert again.encode("A, b").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no vocabulary of ours"),
        ({"format_version": 1, "level": "bpe"}, "its level is 'bpe'"),
        ({"format_version": 2, "level": "byte"}, "a newer aprendiz"),
        ({"format_version": 1, "level": "char", "characters": "ab", "counts": [1]}, "3 symbols has 1 counts"),
        ({"format_version": 1, "level": "char", "characters": "ba", "counts": [1, 1, 1]}, "sorted by code point"),
    ],
)
def test_something_else_is_no_vocabulary(data: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_json(data)


def test_ids_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match="run from -1 to 7; the vocabulary has 5"):
        WORDS.decode([7, -1])


def test_ids_take_the_narrowest_type_that_holds_the_vocabulary() -> None:
    assert [narrowest(size).name for size in (256, 257, 65_536, 65_537)] == ["uint8", "uint16", "uint16", "uint32"]
