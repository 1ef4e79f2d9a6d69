"""n-grams: counts, smoothing, and the model, against numbers worked out by hand and plain Python."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from small_texts import data_of, sentences, small

from aprendiz.errors import ConfigError
from language.kneser_ney import FALLBACK, discounts
from language.ngram import NGram, NGramConfig
from language.ngram_counts import count, merge, nothing
from language.ngram_tables import before_any_token, distribution, scan, tables

SMOOTHINGS = ("modified-kneser-ney", "kneser-ney", "add-k", "maximum-likelihood")


def random_ids(size: int = 2_000, symbols: int = 9, seed: int = 0) -> np.ndarray:
    """Ids from 1 on, the next one depending on the two before; 0 never occurs."""
    random = np.random.default_rng(seed)
    ids = [1, 2]
    for _ in range(size - 2):
        usual = 1 + (3 * ids[-1] + ids[-2]) % (symbols - 1)
        ids.append(usual if random.random() < 0.6 else int(random.integers(1, symbols)))
    return np.array(ids)


def plain_counts(ids: Any, order: int) -> list[Counter[tuple[int, ...]]]:
    return [Counter(tuple(ids[i : i + n].tolist()) for i in range(len(ids) - n + 1)) for n in range(1, order + 1)]


def as_dict(counts: Any, level: int) -> dict[tuple[int, ...], int]:
    """n-grams written out."""
    grams: list[tuple[int, ...]] = [()]
    for n in range(1, level + 1):
        pairs = zip(counts.prefixes(n).tolist(), counts.last_tokens(n).tolist(), strict=True)
        grams = [(*grams[prefix], token) for prefix, token in pairs]
    return dict(zip(grams, counts.counts[level - 1].tolist(), strict=True))


def trained(data: Any, **options: Any) -> NGram:
    config = NGram.resolve(
        NGramConfig(**options), data.spec, train_tokens=len(data.train), budget_tokens=len(data.train)
    )
    model = NGram(config, data.spec, data.vocabulary, seed=1)
    source = model.make_source(data, seed=1)
    while (work := source.next()).batch is not None:
        model.update(work.batch)
    return model


# Counting


@pytest.mark.parametrize("sizes", [[2_000], [1, 1, 1, 7, 500, 1_490], [3] * 700])
def test_chunks_of_any_size_count_every_n_gram_once(sizes: list[int]) -> None:
    ids, order, symbols = random_ids(), 5, 9
    counts, position = nothing(order, symbols), 0
    for size in sizes:
        seen, end = min(order - 1, position), min(position + size, len(ids))
        counts, position = merge(counts, count(ids[position - seen : end], seen, order, symbols)), end
    expected = plain_counts(ids, order)
    assert counts.tokens == len(ids)
    for level in range(1, order + 1):
        assert as_dict(counts, level) == expected[level - 1]


def test_n_grams_of_a_large_vocabulary_and_a_high_order_need_no_room_in_a_number() -> None:
    ids = np.random.default_rng(0).integers(0, 1_000_000, 300)
    ids = np.concatenate([ids, ids])
    counts = count(ids, 0, 30, 1_000_000)  # 10 ** 180 possible n-grams
    assert as_dict(counts, 30) == plain_counts(ids, 30)[-1]


def test_suffixes_are_the_n_grams_without_their_first_token() -> None:
    counts = count(random_ids(), 0, 4, 9)
    for level, suffixes in enumerate(counts.suffixes()[1:], start=2):
        grams, shorter = list(as_dict(counts, level)), list(as_dict(counts, level - 1))
        assert [shorter[place] for place in suffixes] == [gram[1:] for gram in grams]


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="token 9 is none of a vocabulary of 9"):
        count(np.array([1, 9, 2]), 0, 2, 9)


# Smoothing


def test_discounts_by_hand() -> None:
    counts = np.array([1] * 6 + [2] * 3 + [3] * 2 + [4] * 1 + [0] * 5 + [9])
    y = 6 / (6 + 2 * 3)
    np.testing.assert_allclose(discounts(counts, modified=False), [0, y, y, y])
    np.testing.assert_allclose(
        discounts(counts, modified=True), [0, 1 - 2 * y * 3 / 6, 2 - 3 * y * 2 / 3, 3 - 4 * y / 2]
    )


@pytest.mark.parametrize("counts", [[5, 6, 7], [1, 1, 9], [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]])
@pytest.mark.parametrize("modified", [False, True])
def test_discounts_that_cannot_be_estimated_are_still_discounts(counts: list[int], modified: bool) -> None:
    found = discounts(np.array(counts), modified=modified)
    assert found[0] == 0 and (found[1:] > 0).all() and (found <= [0, 1, 2, 3]).all()
    if counts == [5, 6, 7]:
        assert tuple(found[1:]) == FALLBACK


def by_hand(ids: np.ndarray, order: int, smoothing: str, symbols: int, k: float, floor: float) -> Any:
    """p(w | context) by dictionaries, after the equations."""
    counted = plain_counts(ids, order)
    ends: list[dict[tuple[int, ...], int]] = []  # in how many longer n-grams each is the end
    for level in range(1, order):
        left: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for gram in counted[level]:
            left[gram[1:]].add(gram[0])
        ends.append({gram: len(left[gram]) for gram in counted[level - 1]})

    def number(gram: tuple[int, ...], longest: bool) -> int:
        kneser_ney = "kneser" in smoothing and not longest
        return (ends if kneser_ney else counted)[len(gram) - 1].get(gram, 0)

    def chance(token: int, context: tuple[int, ...], longest: bool = True) -> float:
        n = len(context) + 1
        of_context = {w: number((*context, w), longest) for w in range(symbols)}
        total = sum(of_context.values())
        if smoothing == "add-k":
            return (of_context[token] + k) / (total + k * symbols)
        below = chance(token, context[1:], False) if context else 1 / symbols
        if smoothing == "maximum-likelihood":
            return of_context[token] / total if total else below
        if not total:
            return below
        level = np.array([number(gram, longest) for gram in counted[n - 1]])
        d = discounts(level, modified=smoothing == "modified-kneser-ney")
        taken = {w: d[min(c, 3)] for w, c in of_context.items()}
        return (of_context[token] - taken[token]) / total + sum(taken.values()) / total * below

    def floored(token: int, context: tuple[int, ...]) -> float:
        share = floor if smoothing == "maximum-likelihood" else 0.0
        return (1 - share) * chance(token, context) + share / symbols

    return floored


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_probabilities_are_those_of_the_equations(smoothing: Any, order: int) -> None:
    ids, symbols = np.concatenate([[9], random_ids(300)]), 10
    expected = by_hand(ids, order, smoothing, symbols, 0.5, 1e-3)
    table = tables(count(ids, 0, 4, symbols), smoothing, k=0.5, floor=1e-3)
    text = np.concatenate([ids[1:6], [0, 3, 3, 0, 0, 8, 9, 1, 9, 3], ids[90:100], [8, 8, 8, 8, 1, 7]])
    state = before_any_token(4)
    found = scan(table, text, state, order, order)[:, 0]
    contexts = [tuple(text[max(0, t - order + 1) : t].tolist()) for t in range(len(text))]
    np.testing.assert_allclose(
        found[order:], [expected(int(w), h) for w, h in zip(text, contexts, strict=True)][order:]
    )


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_distributions_sum_to_1_after_seen_unseen_and_short_contexts(smoothing: Any) -> None:
    ids, symbols, order = np.concatenate([[9], random_ids()]), 10, 5  # nothing ever comes before the 9
    table = tables(count(ids, 0, order, symbols), smoothing, k=0.1, floor=1e-5)
    random = np.random.default_rng(1)
    contexts = [random.integers(0, symbols, length) for length in (0, 1, 2, 3, 4, 9) for _ in range(20)]
    contexts += [ids[start : start + 6] for start in range(0, 500, 25)] + [
        ids[-7:],
        ids[:3],
        np.array([3, 9]),
        np.array([3, 9, 1]),
    ]
    for context in contexts:
        for n in range(1, order + 1):
            state = before_any_token(order)
            scan(table, context, state, n, n)
            dense = distribution(table, state, n)
            assert dense.sum() == pytest.approx(1.0, abs=1e-12)
            assert (dense > 0).all()  # 0 never occurred, and still has a floor
            each = [scan(table, np.array([w]), state.copy(), n, n)[0, 0] for w in range(symbols)]
            np.testing.assert_allclose(dense, each, rtol=1e-12)


def test_kneser_ney_asks_after_how_many_words_a_word_comes_and_not_how_often() -> None:
    """`francisco` (2) is as frequent as `glasses` (3), but only ever follows `san` (1)."""
    ids = np.array([4, 1, 2, 5, 1, 2, 6, 1, 2, 7, 1, 2, 4, 3, 5, 3, 6, 3, 7, 3] * 5)
    table = tables(count(ids, 0, 2, 9), "kneser-ney", k=0, floor=0)
    state = before_any_token(2)
    scan(table, np.array([8]), state, 1, 1)  # a context that never occurred
    chances = distribution(table, state, 2)
    assert chances[3] > 1.5 * chances[2]


def test_counts_of_lower_orders_would_make_kneser_ney_worse() -> None:
    text = sentences(400)
    data = data_of(text, "word")
    losses = {}
    for smoothing in SMOOTHINGS:
        model = trained(data, smoothing=smoothing, order=3)
        losses[smoothing] = model.surprisals(data.test.ids).mean()
    assert losses["kneser-ney"] < losses["add-k"] and losses["kneser-ney"] < losses["maximum-likelihood"]


# The model


def test_the_order_is_the_best_one_on_the_validation_part() -> None:
    data = data_of("".join(chr(96 + one) for one in random_ids(3_000).tolist()))  # two letters decide the next
    model = trained(data)
    losses = {}
    for order in range(1, 11):
        losses[order] = trained(data, order=order).surprisals(data.validation.ids).sum()
    assert model.chosen == min(losses, key=losses.__getitem__) == 3  # the training part would choose the longest
    assert model.counts.order == model.chosen  # what is longer is not kept


def test_the_test_part_has_no_part_in_choosing() -> None:
    data = small()
    other = dataclasses.replace(data, test=dataclasses.replace(data.test, ids=data.test.ids[::-1].copy()))
    assert trained(data).chosen == trained(other).chosen


def test_without_a_validation_part_the_order_is_the_usual_one() -> None:
    assert trained(data_of(sentences(50), "word", validation=0.0)).chosen == 3


def test_a_validation_part_of_one_token_has_nothing_to_score_and_the_training_part_stands_in() -> None:
    data = data_of("abcdefghabcd")
    assert len(data.validation) == 1
    metrics = trained(data).validate(data, torch.Generator())
    assert metrics["score"] == -metrics["training_nats_per_token"] and "nats_per_token" not in metrics


def test_surprisals_are_minus_log_of_what_logits_say() -> None:
    data = small()
    model = trained(data)
    ids = data.test.ids[:40]
    state, expected = model.start(2), []
    for now, following in itertools.pairwise(ids):
        logits, state = model.logits(torch.tensor([int(now), 3]), state)
        assert logits.shape == (2, data.spec.vocabulary_size) and logits.dtype == torch.float32
        expected.append(-float(logits[0, int(following)]))
    np.testing.assert_allclose(model.surprisals(ids), expected, rtol=1e-5)


def test_reading_a_token_leaves_the_old_state_as_it_was() -> None:
    model = trained(small())
    state = model.start(1)
    kept = state.copy()
    model.logits(torch.tensor([4]), state)
    np.testing.assert_array_equal(state, kept)


def test_a_whole_text_is_scored_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small()
    model = trained(data)
    whole = model.surprisals(data.test.ids)
    monkeypatch.setattr("language.ngram.BLOCK", 7)
    np.testing.assert_array_equal(model.surprisals(data.test.ids), whole)


@pytest.mark.parametrize("level", ["char", "byte", "word"])
def test_n_grams_learn_characters_bytes_and_words(level: str) -> None:
    data = small(level)
    model = trained(data)
    loss = model.surprisals(data.test.ids).mean()
    counts = np.bincount(data.train.ids, minlength=data.spec.vocabulary_size) + 1.0
    unigram = -np.log(counts / counts.sum())[data.test.ids].mean()
    assert loss < 0.6 * unigram and model.chosen >= 2


def test_a_run_that_was_stopped_in_the_middle_counts_to_the_same_end() -> None:
    data = small()
    config = NGram.resolve(NGramConfig(), data.spec, train_tokens=len(data.train), budget_tokens=len(data.train))
    whole = trained(data)
    first = NGram(config, data.spec, data.vocabulary, seed=1)
    source = first.make_source(data, seed=1)
    first.update(source.next(777).batch)
    second = NGram(config, data.spec, data.vocabulary, seed=2)
    second.load_state_dict(first.state_dict())
    again = second.make_source(data, seed=2)
    again.load_state_dict(source.state_dict())
    second.update(again.next().batch)
    assert again.next().units == 0
    for level in range(1, whole.counts.order + 1):
        assert as_dict(second.counts, level) == as_dict(whole.counts, level)
    np.testing.assert_array_equal(second.surprisals(data.test.ids), whole.surprisals(data.test.ids))


def test_counts_of_another_vocabulary_are_refused() -> None:
    model = trained(small())
    other = small("word")
    with pytest.raises(ValueError, match="counts of"):
        NGram(NGramConfig(), other.spec, other.vocabulary, seed=1).load_state_dict(model.state_dict())


def test_an_unknown_symbol_costs_much_but_not_everything() -> None:
    for smoothing in SMOOTHINGS:
        model = trained(small(), smoothing=smoothing)
        surprise = model.surprisals(np.array([3, 0]))[0]
        assert 4.0 < surprise < 30.0 and math.isfinite(surprise)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smoothing": "laplace"}, "smoothing must be one of modified-kneser-ney"),
        ({"order": 0}, "order must be from 1 to 100, got 0"),
        ({"max_order": 101}, "max_order must be from 1 to 100"),
        ({"k": 0.0}, "k must be a number above 0"),
        ({"floor": 0.0}, "floor must be between 0 and 1"),
        ({"floor": 1.0}, "floor must be between 0 and 1"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        NGramConfig(**options)
