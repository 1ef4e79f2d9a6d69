"""What words learn from each other in word2vec: the compiled steps of all its objectives.

Papers: Mikolov et al., "Efficient estimation of word representations in vector space", ICLR workshop 2013; Mikolov et
al., "Distributed representations of words and phrases and their compositionality", NIPS 2013 (equations 1, 3, 4, 5).
Threads without locks: Recht et al., "Hogwild!", NIPS 2011. Negatives shared by a window: Ji et al., "Parallelizing
word2vec in shared and distributed memory", IEEE TPDS 30, 2019.

An *example* is a centre word with the words of its window. For skip-gram the vectors of the context words X [M, D]
each predict the centre; for CBOW their mean does, M = 1. What is predicted is one of K output vectors Y [K, D]: the
centre and its negatives, or the inner nodes on the way to the centre, or all words.

    logits = X Y^T                                                    [M, K]
    errors = factor * (label - sigmoid(logits)),  or label - softmax(logits)
    X += rate * errors Y,   Y += rate * errors^T X                    both of the old X and Y: the sums of M * K pairs

Who meets whom, and in which order the draws are made, is in `word2vec_draws`.

Shared and approximate, on purpose:
- an example's negatives are shared by all words of its window (`share_negatives=False` draws them for each pair, as
  the paper does);
- the pairs of an example are one small batch: its gradients are summed at the old vectors, not taken one pair after
  the other;
- threads write to the same vectors without locks, and now and then one overwrites what another has just added;
- in float32 the sigmoid's relative error is below 1e-5, and logits beyond 16 count as 16. In float64 it is exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, int64, njit
from numba.extending import overload

from language.lanes import (
    LANES,
    add,
    divide,
    greater,
    lesser,
    load,
    multiply,
    multiply_add,
    prefetch,
    spread,
    store,
    subtract,
    totals,
    zeros_like,
)
from language.word2vec_draws import LINE_END

GROUP = 6
"""Output vectors that are worked on at once: a centre and five negatives."""
LOSS_EVERY = 64
"""The loss is measured at the examples whose place is a multiple of this."""


@njit(cache=True, forceinline=True)
def _quick_logistic(x):
    """1 / (1 + exp(-x)) of float32 lanes; exp(-x) = exp(-x / 64)^64, a polynomial and six squares."""
    one = spread(np.float32(1))
    x = lesser(greater(x, spread(np.float32(-16))), spread(np.float32(16)))
    x = multiply(x, spread(np.float32(-1 / 64)))
    power = multiply_add(x, spread(np.float32(1 / 720)), spread(np.float32(1 / 120)))
    power = multiply_add(x, power, spread(np.float32(1 / 24)))
    power = multiply_add(x, power, spread(np.float32(1 / 6)))
    power = multiply_add(x, power, spread(np.float32(1 / 2)))
    power = multiply_add(x, multiply_add(x, power, one), one)
    for _ in range(6):
        power = multiply(power, power)
    return divide(one, add(one, power))


def _logistic_errors(logits, m, groups, labels, scales):
    """logits = scale * (label - sigmoid(logits)), in place. logits [m, groups, LANES], labels and scales [groups,
    LANES]."""
    raise NotImplementedError("for compiled code")


@overload(_logistic_errors)
def _logistic_errors_compiled(logits, m, groups, labels, scales):
    if logits.dtype == float32:

        def quick(logits, m, groups, labels, scales):
            for i in range(m):
                for o in range(0, groups * LANES, LANES):
                    probability = _quick_logistic(load(logits, i * groups * LANES + o))
                    error = multiply(subtract(load(labels, o), probability), load(scales, o))
                    store(logits, i * groups * LANES + o, error)

        return quick

    def exact(logits, m, groups, labels, scales):
        for i in range(m):
            for o in range(groups * LANES):
                place = i * groups * LANES + o
                logits[place] = scales[o] * (labels[o] - 1.0 / (1.0 + math.exp(-logits[place])))

    return exact


@njit(cache=True, nogil=True, forceinline=True)
def _place(j):
    """Where the j-th of K numbers is in [groups, LANES]: GROUP of them in each."""
    return j // GROUP * LANES + j % GROUP


@njit(cache=True, nogil=True, forceinline=True)
def _products(x, m, outputs, rows, groups, size, logits):
    """logits [m, groups, LANES] = x [m, size] . outputs[rows [groups * GROUP] :]; zeros in the unused lanes."""
    for i in range(m):
        for g in range(groups):
            j = g * GROUP
            r0, r1, r2, r3, r4, r5 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3], rows[j + 4], rows[j + 5]
            s0, s1, s2 = zeros_like(x), zeros_like(x), zeros_like(x)
            s3, s4, s5 = zeros_like(x), zeros_like(x), zeros_like(x)
            for d in range(0, size, LANES):
                v = load(x, i * size + d)
                s0 = multiply_add(v, load(outputs, r0 + d), s0)
                s1 = multiply_add(v, load(outputs, r1 + d), s1)
                s2 = multiply_add(v, load(outputs, r2 + d), s2)
                s3 = multiply_add(v, load(outputs, r3 + d), s3)
                s4 = multiply_add(v, load(outputs, r4 + d), s4)
                s5 = multiply_add(v, load(outputs, r5 + d), s5)
            store(logits, (i * groups + g) * LANES, totals(s0, s1, s2, s3, s4, s5))


@njit(cache=True, nogil=True, forceinline=True)
def _move(x, m, targets, places, outputs, rows, groups, size, errors):
    """targets[places[i] :] += sum_j errors[i, j] outputs[rows[j] :], and outputs[rows[j] :] += sum_i errors[i, j] x[i].

    No two rows may be the same, but for those whose errors are all 0.
    """
    for d in range(0, size, LANES):
        for g in range(groups):
            j = g * GROUP
            r0, r1, r2, r3, r4, r5 = (
                rows[j] + d, rows[j + 1] + d, rows[j + 2] + d, rows[j + 3] + d, rows[j + 4] + d, rows[j + 5] + d,
            )  # fmt: skip
            y0, y1, y2 = load(outputs, r0), load(outputs, r1), load(outputs, r2)
            y3, y4, y5 = load(outputs, r3), load(outputs, r4), load(outputs, r5)
            s0, s1, s2 = zeros_like(x), zeros_like(x), zeros_like(x)
            s3, s4, s5 = zeros_like(x), zeros_like(x), zeros_like(x)
            for i in range(m):
                o = (i * groups + g) * LANES
                v = load(x, i * size + d)
                moved = load(targets, places[i] + d)
                e = spread(errors[o])
                moved, s0 = multiply_add(e, y0, moved), multiply_add(e, v, s0)
                e = spread(errors[o + 1])
                moved, s1 = multiply_add(e, y1, moved), multiply_add(e, v, s1)
                e = spread(errors[o + 2])
                moved, s2 = multiply_add(e, y2, moved), multiply_add(e, v, s2)
                e = spread(errors[o + 3])
                moved, s3 = multiply_add(e, y3, moved), multiply_add(e, v, s3)
                e = spread(errors[o + 4])
                moved, s4 = multiply_add(e, y4, moved), multiply_add(e, v, s4)
                e = spread(errors[o + 5])
                moved, s5 = multiply_add(e, y5, moved), multiply_add(e, v, s5)
                store(targets, places[i] + d, moved)
            # Read again: a row without errors may be one of the others, and another thread may have been here.
            store(outputs, r0, add(load(outputs, r0), s0))
            store(outputs, r1, add(load(outputs, r1), s1))
            store(outputs, r2, add(load(outputs, r2), s2))
            store(outputs, r3, add(load(outputs, r3), s3))
            store(outputs, r4, add(load(outputs, r4), s4))
            store(outputs, r5, add(load(outputs, r5), s5))


@njit(cache=True, nogil=True, forceinline=True)
def _gather(inputs, example, sizes, contexts, size, cbow, mean, x, places):
    """Copies an example's inputs into x, and says in `places` what they move. Returns how many inputs predict.

    Skip-gram: x [m, size], which move the vectors that they came from. CBOW: x [1, size] is the sum or mean, and moves
    the row after it, which is zero now.
    """
    m = sizes[example]
    if not cbow:
        for i in range(m):
            places[i] = int64(contexts[example, i]) * size
            for d in range(0, size, LANES):
                store(x, i * size + d, load(inputs, places[i] + d))
        return m
    weight = spread(x.dtype.type(1.0 / m if mean else 1.0))
    for i in range(m):
        places[i] = int64(contexts[example, i]) * size
    for d in range(0, size, LANES):
        s = zeros_like(x)
        for i in range(m):
            s = add(s, load(inputs, places[i] + d))
        store(x, d, multiply(weight, s))
        store(x, size + d, zeros_like(x))
    places[0] = size
    return 1


@njit(cache=True, nogil=True, forceinline=True)
def _scatter(inputs, example, sizes, contexts, size, share, x):
    """CBOW: moves each of the context's vectors as the mean has to move, or by its share of that."""
    m = sizes[example]
    weight = spread(x.dtype.type(1.0 / m if share else 1.0))
    for i in range(m):
        place = int64(contexts[example, i]) * size
        for d in range(0, size, LANES):
            store(inputs, place + d, multiply_add(weight, load(x, size + d), load(inputs, place + d)))


@njit(cache=True, nogil=True)
def _cross_entropy(logits, m, groups, labels, factors):
    """Sum of -factor * log p(label), with p(1) = sigmoid(logit), of logits that are not yet errors."""
    loss = 0.0
    for i in range(m):
        for o in range(groups * LANES):
            if factors[o] > 0.0:
                x = float(logits[i * groups * LANES + o])
                x = x if labels[o] > 0.5 else -x
                loss += factors[o] * (max(-x, 0.0) + math.log1p(math.exp(-abs(x))))
    return loss


@njit(cache=True, nogil=True, forceinline=True)
def _step(
    inputs, outputs, size, example, sizes, contexts, cbow, mean, exact, rows, groups, labels, factors, rate, measure, x,
    places, errors, scales,
):  # fmt: skip
    """One example of negative sampling or hierarchical softmax. Returns the loss if asked for, and how many predict.

    rows [groups * GROUP], labels and factors [groups, LANES]; x, places, errors and scales are room to work in.
    """
    m = _gather(inputs, example, sizes, contexts, size, cbow, mean, x, places)
    _products(x, m, outputs, rows, groups, size, errors)
    loss = _cross_entropy(errors, m, groups, labels, factors) if measure else 0.0
    rates = spread(x.dtype.type(rate))
    for o in range(0, groups * LANES, LANES):
        store(scales, o, multiply(rates, load(factors, o)))
    _logistic_errors(errors, m, groups, labels, scales)
    _move(x, m, x if cbow else inputs, places, outputs, rows, groups, size, errors)
    if cbow:
        _scatter(inputs, example, sizes, contexts, size, exact and mean, x)
    return loss, m


@njit(cache=True, forceinline=True)
def _rate(start, slope, decay_tokens, place):
    """The learning rate falls linearly from the first token to the last of all epochs."""
    return start + slope * min(float(place), decay_tokens)


@njit(cache=True, nogil=True, forceinline=True)
def _prefetch_row(table, row, size):
    for d in range(0, size, 64 // table.itemsize):
        prefetch(table, row + d)


@njit(cache=True, nogil=True)
def learn_negative(
    inputs, outputs, size, n, places, centres, sizes, contexts, noise, cbow, mean, exact, rate_start, rate_end,
    decay_tokens, every,
):  # fmt: skip
    """Learns n examples with negative sampling, Mikolov et al. 2013b, equation 4.

    inputs [V * size] and outputs [(V + 1) * size], whose last row stands for none and stays as it is; size is a
    multiple of LANES. A negative that is the centre does not count; one that was drawn twice counts twice. The loss is
    measured at examples whose place is a multiple of `every`, a power of two. Returns (loss, predictions) of those.
    """
    drawn = noise.shape[1]
    groups = (drawn + GROUP) // GROUP
    width = contexts.shape[1]
    slope = (rate_end - rate_start) / decay_tokens
    x = np.empty(max(width, 2) * size, dtype=inputs.dtype)
    at = np.empty(max(width, 1), dtype=np.int64)
    errors = np.empty(width * groups * LANES, dtype=inputs.dtype)
    rows = np.full(groups * GROUP, len(outputs) - size, dtype=np.int64)
    labels = np.zeros(groups * LANES, dtype=inputs.dtype)
    factors = np.zeros(groups * LANES, dtype=inputs.dtype)
    scales = np.zeros(groups * LANES, dtype=inputs.dtype)
    labels[0] = 1
    factors[0] = 1
    loss = 0.0
    predictions = 0
    for example in range(n):
        if example + 1 < n:  # while this one is worked on, the next one's vectors are on their way
            _prefetch_row(outputs, int64(centres[example + 1]) * size, size)
            for j in range(drawn):
                _prefetch_row(outputs, int64(noise[example + 1, j]) * size, size)
            _prefetch_row(inputs, int64(contexts[example + 1, sizes[example + 1] - 1]) * size, size)
        rows[0] = int64(centres[example]) * size
        for j in range(drawn):
            row = int64(noise[example, j]) * size
            rows[1 + j] = row
            same = 0
            while rows[same] != row:
                same += 1
            factors[_place(1 + j)] = 0
            if same > 0:
                factors[_place(same)] += 1
        measure = places[example] & (every - 1) == 0
        part, count = _step(
            inputs, outputs, size, example, sizes, contexts, cbow, mean, exact, rows, groups, labels, factors,
            _rate(rate_start, slope, decay_tokens, places[example]), measure, x, at, errors, scales,
        )  # fmt: skip
        if measure:
            loss += part
            predictions += count
    return loss, predictions


@njit(cache=True, nogil=True)
def learn_hierarchical(
    inputs, outputs, size, n, places, centres, sizes, contexts, lengths, nodes, bits, cbow, mean, exact, rate_start,
    rate_end, decay_tokens, every,
):  # fmt: skip
    """Learns n examples with hierarchical softmax, Mikolov et al. 2013b, equation 3: a turn 0 counts as label 1.

    lengths [V], nodes and bits [V, L]: `huffman.HuffmanTree`. outputs [(inner nodes + 1) * size], the last one for
    none.
    """
    most = (nodes.shape[1] + GROUP - 1) // GROUP
    width = contexts.shape[1]
    none = int64(len(outputs) - size)
    slope = (rate_end - rate_start) / decay_tokens
    x = np.empty(max(width, 2) * size, dtype=inputs.dtype)
    at = np.empty(max(width, 1), dtype=np.int64)
    errors = np.empty(width * most * LANES, dtype=inputs.dtype)
    rows = np.empty(most * GROUP, dtype=np.int64)
    labels = np.zeros(most * LANES, dtype=inputs.dtype)
    factors = np.zeros(most * LANES, dtype=inputs.dtype)
    scales = np.zeros(most * LANES, dtype=inputs.dtype)
    loss = 0.0
    predictions = 0
    for example in range(n):
        centre = centres[example]
        steps = lengths[centre]
        groups = (steps + GROUP - 1) // GROUP
        for j in range(groups * GROUP):
            inside = j < steps
            rows[j] = int64(nodes[centre, j]) * size if inside else none
            labels[_place(j)] = 1 - bits[centre, j] if inside else 0
            factors[_place(j)] = 1 if inside else 0
        measure = places[example] & (every - 1) == 0
        part, count = _step(
            inputs, outputs, size, example, sizes, contexts, cbow, mean, exact, rows, groups, labels, factors,
            _rate(rate_start, slope, decay_tokens, places[example]), measure, x, at, errors, scales,
        )  # fmt: skip
        if measure:
            loss += part
            predictions += count
    return loss, predictions


@njit(cache=True, nogil=True)
def learn_softmax(
    inputs, outputs, size, n, places, centres, sizes, contexts, cbow, mean, exact, rate_start, rate_end, decay_tokens,
    every,
):  # fmt: skip
    """Learns n examples with the softmax over all words, Mikolov et al. 2013b, equation 2. Arguments as above."""
    first = LINE_END + 1
    vocabulary = len(inputs) // size - first
    groups = (vocabulary + GROUP - 1) // GROUP
    width = contexts.shape[1]
    slope = (rate_end - rate_start) / decay_tokens
    x = np.empty(max(width, 2) * size, dtype=inputs.dtype)
    at = np.empty(max(width, 1), dtype=np.int64)
    errors = np.empty(width * groups * LANES, dtype=inputs.dtype)
    rows = np.full(groups * GROUP, len(outputs) - size, dtype=np.int64)
    for j in range(vocabulary):
        rows[j] = (j + first) * size
    loss = 0.0
    predictions = 0
    for example in range(n):
        m = _gather(inputs, example, sizes, contexts, size, cbow, mean, x, at)
        _products(x, m, outputs, rows, groups, size, errors)
        rate = _rate(rate_start, slope, decay_tokens, places[example])
        label = _place(centres[example] - first)
        measure = places[example] & (every - 1) == 0
        for i in range(m):
            o = i * groups * LANES
            highest = float(errors[o])
            for j in range(vocabulary):
                highest = max(highest, float(errors[o + _place(j)]))
            mass = 0.0
            for j in range(vocabulary):
                mass += math.exp(errors[o + _place(j)] - highest)
            if measure:
                loss += math.log(mass) + highest - errors[o + label]
                predictions += 1
            for j in range(groups * GROUP):
                place = o + _place(j)
                errors[place] = -rate * math.exp(errors[place] - highest) / mass if j < vocabulary else 0.0
            errors[o + label] += rate
        _move(x, m, x if cbow else inputs, at, outputs, rows, groups, size, errors)
        if cbow:
            _scatter(inputs, example, sizes, contexts, size, exact and mean, x)
    return loss, predictions
