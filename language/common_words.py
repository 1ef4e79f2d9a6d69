"""Pairs of common words, of which analogies are made where nobody gives a file of them.

They are few and easy, in small letters, of what prose and pages about programs have in common: enough to see whether
vectors have learned something, and to compare runs on a text. Published numbers are those of questions-words.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from language.word_tasks import Questions

PAIRS = {
    "family": (
        "man woman, king queen, boy girl, brother sister, father mother, son daughter, husband wife, he she, his her"
    ),
    "opposites": (
        "true false, left right, before after, open close, same different, first last, high low, good bad, up down"
    ),
    "numbers": "one first, two second, three third, four fourth, five fifth, six sixth, seven seventh, eight eighth",
    "gram1-plural": (
        "argument arguments, class classes, expression expressions, function functions, instance instances, "
        "item items, key keys, method methods, name names, number numbers, object objects, operator operators, "
        "sequence sequences, statement statements, type types, value values, year years, word words, house houses"
    ),
    "gram2-past": (
        "call called, define defined, pass passed, raise raised, return returned, use used, contain contained, "
        "start started, look looked, ask asked, seem seemed, live lived"
    ),
    "gram3-third-person": (
        "call calls, contain contains, define defines, pass passes, raise raises, return returns, use uses, "
        "come comes, make makes, take takes, give gives, follow follows"
    ),
    "gram4-participle": (
        "call calling, contain containing, define defining, pass passing, raise raising, use using, make making, "
        "take taking, follow following, look looking, begin beginning, be being"
    ),
    "gram5-comparative": (
        "great greater, large larger, low lower, long longer, small smaller, high higher, old older, strong stronger"
    ),
    "gram6-adverb": (
        "direct directly, explicit explicitly, implicit implicitly, normal normally, general generally, usual usually, "
        "similar similarly, exact exactly, complete completely, automatic automatically"
    ),
}
"""By kind; those that begin with `gram` are syntactic, as in questions-words."""


def questions() -> Questions:
    """Every pair with every other one of its kind: a is to b as c is to d."""
    found = {}
    for kind, text in PAIRS.items():
        pairs = [(a, b) for a, b in (pair.split() for pair in text.split(", "))]
        found[kind] = [(a, b, c, d) for (a, b), (c, d) in itertools.permutations(pairs, 2)]
    return found
