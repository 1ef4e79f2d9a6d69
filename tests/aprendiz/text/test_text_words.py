"""What is a word, and that cutting a text into stretches never changes it."""

from __future__ import annotations

import random

import pytest

from aprendiz.errors import ConfigError
from aprendiz.text import words
from aprendiz.text.word_scan import WordScanner

RULES = ["words-and-marks", "whitespace"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, O'Neill!", ["Don't", "stop", ",", "O'Neill", "!"]),
        ("'tis the dogs' x''y", ["'", "tis", "the", "dogs", "'", "x", "'", "'", "y"]),
        ("it\u2019s __init__ 3.14", ["it\u2019s", "__init__", "3", ".", "14"]),
        ("one\ntwo\n\n three", ["one", "\n", "two", "\n", "\n", "three"]),
        ("cafe\u0301 हिन्दी", ["cafe\u0301", "हिन्दी"]),
        ("a\u2003b\tc", ["a", "b", "c"]),
        ("中文。", ["中文", "。"]),
        ("", []),
    ],
)
def test_words_and_marks(text: str, expected: list[str]) -> None:
    assert words.split(text) == expected


def test_white_space_alone_divides_words_as_word2vec_has_them() -> None:
    assert words.split("Don't stop, (now)!\nyes", "whitespace") == ["Don't", "stop,", "(now)!", "\n", "yes"]


@pytest.mark.parametrize("rule", RULES)
def test_a_word_without_end_is_cut_into_words_of_a_thousand_characters(rule: str) -> None:
    assert [len(word) for word in words.split("x" * 2_500, rule)] == [1_000, 1_000, 500]


def test_joined_words_read_like_a_text_and_are_cut_into_the_same_words() -> None:
    text = "Well, (said he) it is 5%: don't!\nNo?"
    assert words.join(words.split(text)) == text
    odd = ["x", "'", "y", "\n", ",", "(", "'", "[", "a", "]", ".", "b"]
    assert words.split(words.join(odd)) == odd


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigError, match="'bpe'; it can be words-and-marks or whitespace"):
        words.split("x", "bpe")


def made_up(generator: random.Random, length: int) -> str:
    letters = [*"ab Z09_ \n '\u2019-.(\u0301\u200c\u2028\x0b\x1c😀中\ufeffé", "don't", "<unk>", "</s>"]
    return "".join(generator.choice(letters) for _ in range(length))


@pytest.mark.parametrize("rule", RULES)
def test_the_compiled_scanner_cuts_as_the_regular_expression_does(rule: str) -> None:
    generator = random.Random(0)
    scanner = WordScanner(rule, lower=False)
    texts = [made_up(generator, length) for length in [1, 2, 3, 5, 9] * 400]
    texts += ["x" * size + end + "y" * size for size in (999, 1_000, 1_001) for end in ("'", "''", "", " ")]
    for text in texts:
        numbers = scanner.feed(text, counting=True).tolist()
        found = ["\n" if number == 1 else scanner.words([number])[0] for number in numbers]
        assert found == words.split(text, rule)


def test_the_compiled_scanner_finds_each_of_many_words_again() -> None:
    scanner = WordScanner("whitespace", lower=False)
    text = " ".join(f"word{number}" for number in range(100_000))  # its tables grow three times
    first = scanner.feed(text, counting=True)
    assert first.tolist() == list(range(2, 100_002))
    assert (scanner.feed(text, counting=True) == first).all()
    assert (scanner.counts()[2:] == 2).all() and scanner.counts()[:2].tolist() == [0, 0]
    assert scanner.words([2, 100_001]) == ["word0", "word99999"]


@pytest.mark.parametrize("rule", RULES)
def test_a_beginning_that_can_stand_alone_is_cut_as_it_is_in_the_whole_text(rule: str) -> None:
    generator = random.Random(1)
    for _ in range(500):
        text = made_up(generator, 40).replace(" ", "").replace("\n", "")
        for stop in range(len(text)):
            end = words.safe_end(text[:stop], rule)
            assert words.split(text[:end], rule) + words.split(text[end:], rule) == words.split(text, rule)
