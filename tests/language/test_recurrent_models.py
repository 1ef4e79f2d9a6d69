"""RNN, LSTM and GRU as language models: what they learn from, that they learn, and that they go on exactly."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_texts import data_of, sentences, small

from aprendiz.errors import ConfigError
from aprendiz.text.core import TextData
from aprendiz.text.streams import StreamBatch
from language.generation import generate
from language.held_out import window_surprisals
from language.recurrent import GRU, LSTM, RNN, RecurrentConfig
from language.vector_files import write
from language.word_tasks import WordTable

MODELS = (RNN, LSTM, GRU)
SMALL = RecurrentConfig(units=12, embedding=0, streams=4, length=6, dropout=0.25, learning_rate=5e-3)


@pytest.fixture(scope="module")
def data() -> TextData:
    return small()


def make(data: TextData, cls: Any = LSTM, seed: int = 1, budget: int = 24 * 50, **options: Any) -> Any:
    config = dataclasses.replace(SMALL, **{key: value for key, value in options.items() if key != "precision"})
    config = cls.resolve(config, data.spec, train_tokens=len(data.train), budget_tokens=budget)
    return cls(config, data.spec, data.vocabulary, seed=seed, precision=options.get("precision", "fp32"))


def train(model: Any, source: Any, updates: int) -> list[float]:
    return [float(model.update(source.next().batch).metrics["nats_per_token"]) for _ in range(updates)]


def stream(tokens: Any, starts: Any) -> StreamBatch:
    return StreamBatch(torch.as_tensor(tokens), torch.as_tensor(starts))


def weights(model: Any) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.network.parameters()])


@pytest.mark.parametrize("cls", MODELS)
def test_a_run_that_was_saved_goes_on_exactly(cls: Any, data: TextData) -> None:
    model = make(data, cls)
    source = model.make_source(data, seed=1)
    train(model, source, 10)
    saved = copy.deepcopy({"model": model.state_dict(), "source": source.state_dict()})
    other = make(data, cls, seed=99)
    there = other.make_source(data, seed=1)
    other.load_state_dict(saved["model"])
    there.load_state_dict(saved["source"])
    assert train(other, there, 10) == train(model, source, 10)
    assert torch.equal(weights(other), weights(model))
    assert np.array_equal(other.surprisals(data.validation.ids), model.surprisals(data.validation.ids))


def test_what_learned_on_a_gpu_is_read_on_a_cpu(data: TextData) -> None:
    model = make(data)
    train(model, model.make_source(data, seed=1), 3)
    state = model.state_dict() | {"generator": torch.arange(16, dtype=torch.uint8)}  # the form that a GPU's has
    other = make(data, seed=9)
    other.load_state_dict(state)
    assert np.array_equal(other.surprisals(data.validation.ids), model.surprisals(data.validation.ids))


def test_one_seed_gives_one_training_and_another_seed_another(data: TextData) -> None:
    losses = []
    for seed in (1, 1, 2):
        model = make(data, seed=seed)
        losses.append(train(model, model.make_source(data, seed=seed), 5))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("cls", MODELS)
def test_the_state_is_carried_from_batch_to_batch_as_if_they_were_one(cls: Any, data: TextData) -> None:
    """Two batches of half the length lose what one of the whole length does, while nothing is learned."""
    tokens = torch.from_numpy(np.asarray(data.train.ids[: 4 * 13], np.int64)).view(4, 13)
    whole, halves = (make(data, cls, dropout=0.0, learning_rate=1e-30, weight_decay=0.0) for _ in range(2))
    expected = float(whole.update(stream(tokens, [True] * 4)).metrics["nats_per_token"])
    first = float(halves.update(stream(tokens[:, :7], [True] * 4)).metrics["nats_per_token"])
    second = float(halves.update(stream(tokens[:, 6:], [False] * 4)).metrics["nats_per_token"])
    assert (first + second) / 2 == pytest.approx(expected, abs=1e-6)


def test_a_stream_that_wraps_begins_without_a_memory_and_the_others_keep_theirs(data: TextData) -> None:
    tokens = torch.from_numpy(np.asarray(data.train.ids[: 4 * 7], np.int64)).view(4, 7)
    model = make(data, dropout=0.0)
    model.update(stream(tokens, [True] * 4))
    carried = model._state[0].clone()
    state = model._state_for(stream(tokens, [False, True, False, False]))
    assert torch.equal(state[0][:, [0, 2, 3]], carried[:, [0, 2, 3]])
    assert not state[0][:, 1].any() and not state[1][:, 1].any()


def test_so_many_stretches_begin_with_an_empty_memory(data: TextData) -> None:
    """The share asked for, drawn stream by stream; the same again after a checkpoint."""
    model = make(data, dropout=0.0, reset=0.25)
    tokens = torch.from_numpy(np.asarray(data.train.ids[: 200 * 7], np.int64)).view(200, 7)
    goes_on = torch.zeros(200, dtype=torch.bool)
    model.update(stream(tokens, ~goes_on))
    carried = model._state[0].clone()
    assert carried.any(dim=2).all()
    saved = copy.deepcopy(model.state_dict())
    seen = [model._state_for(stream(tokens, goes_on))[0] for _ in range(20)]
    emptied = torch.stack([~state.any(dim=2)[0] for state in seen])  # [20, 200]
    assert 0.22 < emptied.float().mean() < 0.28
    assert 0 < emptied[:, 0].sum() < 20
    for state, empty in zip(seen, emptied, strict=True):
        assert torch.equal(state[:, ~empty], carried[:, ~empty])
    other = make(data, seed=9, dropout=0.0, reset=0.25)
    other.load_state_dict(saved)
    assert torch.equal(other._state_for(stream(tokens, goes_on))[0], seen[0])


def test_gradients_do_not_reach_into_the_batch_before(data: TextData) -> None:
    model = make(data)
    source = model.make_source(data, seed=1)
    train(model, source, 3)
    assert all(not tensor.requires_grad for tensor in model._state)


def test_the_gradient_of_all_weights_together_is_clipped(data: TextData) -> None:
    model = make(data, clip_norm=1e-3)
    outcome = model.update(model.make_source(data, seed=1).next().batch)
    norm = math.sqrt(sum(float(weight.grad.square().sum()) for weight in model._weights))
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert float(outcome.metrics["gradient_norm"]) > 0.01, "what is told is the norm before"


def test_the_step_size_rises_straight_and_falls_along_half_a_cosine(data: TextData) -> None:
    model = make(data, warmup_tokens=24 * 4, decay_tokens=24 * 24, final_learning_rate_share=0.1)
    peak = model.config.learning_rate
    found = []
    for update in range(30):
        model._tokens = 24 * update
        found.append(model.learning_rate() / peak)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[14] == pytest.approx(0.1 + 0.9 / 2)
    assert found[24:] == pytest.approx([0.1] * 6)


def test_schedules_and_averages_are_laid_out_over_the_budget_and_stay_there(data: TextData) -> None:
    config = LSTM.resolve(SMALL, data.spec, train_tokens=1000, budget_tokens=10_000)
    assert (config.warmup_tokens, config.decay_tokens, config.average_tokens) == (200, 10_000, 500)
    assert LSTM.resolve(config, data.spec, train_tokens=1000, budget_tokens=77) == config


def test_a_budget_without_a_single_update_is_refused(data: TextData) -> None:
    with pytest.raises(ConfigError, match="of each of 4 streams, and the budget is 3: give more --tokens"):
        make(data, budget=3)


def averaged(model: Any) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in model.average.network.parameters()])


def test_the_average_of_the_weights_reaches_over_so_many_tokens_and_predicts(data: TextData) -> None:
    model = make(data, average_tokens=24)
    source = model.make_source(data, seed=1)
    by_hand = weights(model)
    for update in range(20):
        train(model, source, 1)
        decay = min(math.exp(-1), (1 + update) / (10 + update))  # an update sees 24 tokens
        by_hand = decay * by_hand + (1 - decay) * weights(model)
    torch.testing.assert_close(averaged(model), by_hand)
    before = model.surprisals(data.validation.ids)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.zero_()
    assert np.array_equal(model.surprisals(data.validation.ids), before)


def test_without_an_average_the_weights_themselves_predict(data: TextData) -> None:
    model = make(data, average_tokens=0)
    train(model, model.make_source(data, seed=1), 3)
    assert torch.equal(averaged(model), weights(model))


@pytest.mark.parametrize("cls", MODELS)
def test_surprisals_carry_the_state_over_the_pieces_in_which_they_are_computed(
    cls: Any, data: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(data, cls)
    train(model, model.make_source(data, seed=1), 3)
    ids = data.validation.ids[:200]
    whole = model.surprisals(ids)
    one_by_one = window_surprisals(model, torch.from_numpy(np.asarray(ids, np.int64)).unsqueeze(0))[0].numpy()
    np.testing.assert_allclose(whole, one_by_one, atol=1e-5)
    monkeypatch.setattr("language.recurrent._LOGITS", 7 * data.spec.vocabulary_size)
    np.testing.assert_allclose(model.surprisals(ids), whole, atol=1e-5)


def test_what_dropout_hides_while_learning_is_there_when_predicting(data: TextData) -> None:
    model = make(data, dropout=0.9)
    ids = data.validation.ids[:50]
    assert np.array_equal(model.surprisals(ids), model.surprisals(ids))


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_cell_learns_a_small_language(cls: Any, precision: str, data: TextData) -> None:
    """Three letters in a fixed round are certain once they are learned; knowing shares alone would leave 1.1 nats."""
    rounds = data_of("abc" * 400)
    model = make(rounds, cls, budget=24 * 150, dropout=0.0, learning_rate=2e-2, precision=precision)
    train(model, model.make_source(rounds, seed=1), 150)
    assert model.surprisals(rounds.test.ids).mean() < 0.1
    text = list(generate(model, rounds.vocabulary.encode("a"), 6, torch.Generator(), temperature=0.0))
    assert rounds.vocabulary.decode(text) == "bcabca"


def test_an_lstm_learns_more_of_sentences_than_the_shares_of_letters(data: TextData) -> None:
    model = make(data, units=48, streams=8, length=24, learning_rate=1e-2, budget=8 * 24 * 150, dropout=0.0)
    train(model, model.make_source(data, seed=1), 150)
    shares = np.bincount(data.train.ids) / len(data.train)
    known = shares[np.asarray(data.test.ids, np.int64)]
    entropy = -np.log(known[known > 0]).mean()
    metrics = model.evaluate(data, "test", torch.Generator().manual_seed(1))
    assert metrics["nats_per_token"] < 0.55 * entropy
    assert metrics["windows_nats_per_token"] == pytest.approx(metrics["nats_per_token"], rel=0.2)


def test_words_are_learned_with_a_tied_embedding() -> None:
    words = data_of(sentences(150), "word")
    model = make(words, units=16, embedding=16, tied=True, budget=24 * 120, learning_rate=2e-2)
    losses = train(model, model.make_source(words, seed=1), 120)
    assert model.network.output.weight is model.network.embedding.weight
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert model.validate(words, torch.Generator())["windows_perplexity"] < words.spec.vocabulary_size


def test_pretrained_vectors_are_where_words_begin_and_stay_where_they_are_fixed(tmp_path: Path) -> None:
    words = data_of(sentences(150), "word")
    known = [symbol for symbol in words.vocabulary.symbols if symbol != "fox"]
    vectors = np.random.default_rng(0).normal(size=(len(known), 8)).astype(np.float32)
    write(tmp_path / "some.bin", WordTable(tuple(known), vectors))
    rows = [words.vocabulary.id_of(one) for one in known[2:]]
    for fixed in (True, False):
        model = make(words, embedding=8, vectors=str(tmp_path / "some.bin"), fixed_vectors=fixed, average_tokens=0)
        source = model.make_source(words, seed=1)
        train(model, source, 3)
        for network in (model.network, model.average.network):
            moved = (network.embedding.weight[rows] - torch.from_numpy(vectors[2:])).abs().max()
            assert (moved == 0) if fixed else (0 < moved < 0.1)


@pytest.mark.parametrize(
    "options", [{}, {"embedding": 8}, {"embedding": 8, "layers": 2, "input_dropout": 0.2}, {"layer_norm": True}]
)
def test_one_hot_and_learned_inputs_stacked_and_normalised_all_train(options: dict[str, Any], data: TextData) -> None:
    model = make(data, **options)
    losses = train(model, model.make_source(data, seed=1), 40)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_loss_s_gradient_is_that_of_differences(data: TextData) -> None:
    model = make(data, units=3, embedding=2, layers=2, dropout=0.0)
    network = model.network.double()
    tokens = torch.from_numpy(np.asarray(data.train.ids[:10], np.int64)).view(5, 2)
    parameters = dict(network.named_parameters())

    def loss(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(parameters, values, strict=True))
        logits, _ = torch.func.functional_call(network, given, (tokens[:-1], network.recurrent.start(2)))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()), eps=1e-5, atol=1e-5, rtol=1e-3)


def test_the_random_state_of_the_process_is_left_alone(data: TextData) -> None:
    before = torch.get_rng_state()
    model = make(data)
    train(model, model.make_source(data, seed=1), 3)
    model.validate(data, torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"reset": -0.1}, "reset must be at least 0 and below 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"tied": True}, "got --embedding 64 and --units 256: give both the same number, or --no-tied"),
        ({"vectors": "x.txt", "embedding": 0}, "vectors need an embedding"),
        ({"fixed_vectors": True}, "needs --vectors"),
        ({"input_dropout": 0.1, "embedding": 0}, "input_dropout needs an embedding"),
        ({"average_tokens": -1}, "average_tokens must be 0 or more"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecurrentConfig(**options)


def test_a_text_shorter_than_a_stretch_is_one_clear_line(data: TextData) -> None:
    with pytest.raises(ConfigError, match="use a longer text, or shorter stretches"):
        make(data, length=100_000).make_source(data, seed=1)
