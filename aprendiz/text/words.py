"""Which stretches of a text are words: one rule, written down once, for reading and for writing.

`words-and-marks`: a word is a run of letters, digits, underscores and the marks that combine with them, with
apostrophes inside (`don't`); every other character that is no white space is a token by itself. `whitespace`: whatever
stands between white space, as word2vec and most published texts have it. Either way a line's end is a token.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

from aprendiz.errors import ConfigError

TokenRule = Literal["words-and-marks", "whitespace"]
TOKEN_RULES: tuple[str, ...] = get_args(TokenRule)
LONGEST_WORD = 1_000
"""Characters after which a word is cut and another one begins: text without any white space must end somewhere."""
APOSTROPHES = "'\u2019"
JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts write inside of words."""

_OPENING, _CLOSING = frozenset("([{"), frozenset(",.;:!?)]}%")


def check_rule(rule: str) -> None:
    """Raises ConfigError for a rule that there is not."""
    if rule not in TOKEN_RULES:
        raise ConfigError(f"tokens is {rule!r}; it can be {' or '.join(TOKEN_RULES)}")


def split(text: str, rule: str = "words-and-marks") -> list[str]:
    """The tokens of a text, a line's end being `"\\n"`."""
    tokens = _pattern(rule).findall(text)
    if rule == "words-and-marks" and max(map(len, tokens), default=0) > LONGEST_WORD:
        cut = _cutting_pattern()
        tokens = [part for token in tokens for part in (cut.findall(token) if len(token) > LONGEST_WORD else (token,))]
    return tokens


def join(tokens: Iterable[str], rule: str = "words-and-marks") -> str:
    """A text that `split` takes apart into the same tokens: spaces between words, none before a comma."""
    pieces: list[str] = []
    before = "\n"
    for token in tokens:
        glued = rule == "words-and-marks" and (token in _CLOSING or before in _OPENING)
        if before != "\n" and token != "\n" and not glued:
            pieces.append(" ")
        pieces.append(token)
        before = token
    return "".join(pieces)


def safe_end(text: str, rule: str) -> int:
    """How much of the beginning of a text can be split by itself, whatever comes after `text`."""
    space = max(text.rfind(" "), text.rfind("\n"))
    if space >= 0 and len(text) - space <= 64 * LONGEST_WORD:
        return space + 1
    pattern = _cutting_pattern() if rule == "words-and-marks" else _pattern(rule)
    start = before = 0
    for match in pattern.finditer(text):
        start, before = match.start(), start
    return before if text[start:] in tuple(APOSTROPHES) else start  # a letter may follow


def part_end(text: str, at: int) -> int:
    """The first place at or after `at` that cuts no word: after or before white space, or LONGEST_WORD further on."""
    if at <= 0 or at >= len(text) or text[at - 1].isspace():
        return max(0, min(at, len(text)))
    for place in range(at, min(len(text), at + LONGEST_WORD)):
        if text[place].isspace():
            return place
    return min(len(text), at + LONGEST_WORD)


@functools.cache
def word_characters() -> str:
    """Inside of a character class of `re`: what words are made of."""
    return rf"\w{_ranges(_combining())}{JOINERS}"


@functools.cache
def _pattern(rule: str) -> re.Pattern[str]:
    check_rule(rule)
    if rule == "whitespace":
        return re.compile(rf"\n|\S{{1,{LONGEST_WORD}}}")
    word = f"[{word_characters()}]"
    return re.compile(rf"\n|{word}+(?:[{APOSTROPHES}]{word}+)*|\S")


@functools.cache
def _cutting_pattern() -> re.Pattern[str]:
    """The same as words-and-marks, cutting long words; slower."""
    word = f"[{word_characters()}]"
    return re.compile(rf"\n|{word}(?:{word}|[{APOSTROPHES}](?={word})){{0,{LONGEST_WORD - 1}}}|\S")


def _combining() -> list[int]:
    """Code points of combining marks, all of which lie in these two stretches of Unicode."""
    stretches = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
    return [point for stretch in stretches for point in stretch if unicodedata.category(chr(point))[0] == "M"]


def _ranges(points: list[int]) -> str:
    """`a-cx` for [a, b, c, x]."""
    starts = [point for point, before in zip(points, [-1, *points], strict=False) if point != before + 1]
    ends = [point for point, after in zip(points, [*points[1:], -1], strict=True) if point != after - 1]
    return "".join(f"{re.escape(chr(one))}-{re.escape(chr(two))}" for one, two in zip(starts, ends, strict=True))
