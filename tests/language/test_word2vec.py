from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from word2vec_texts import text_of, topic_agreement, topics

from aprendiz import loop
from aprendiz.errors import ConfigError, DataError
from aprendiz.text.core import TextData, TextSpec, Tokens
from language import token_chunks
from language.core import Purpose, derived_seed
from language.token_chunks import TokenChunk, TokenChunks
from language.word2vec import Word2Vec, Word2VecConfig

SMALL = Word2VecConfig(dimensions=24, subsampling=0.0, learning_rate=0.05, threads=1, batch_examples=64)


def trained(data: TextData, config: Word2VecConfig, epochs: int, *, seed: int = 1, device: str = "cpu") -> Word2Vec:
    tokens = epochs * len(data.train)
    config = Word2Vec.resolve(config, data.spec, train_tokens=len(data.train), budget_tokens=tokens)
    model = Word2Vec(config, data.spec, data.vocabulary, seed=seed, device=device)
    learn(model, model.make_source(data, seed=seed), tokens)
    return model


def learn(model: Word2Vec, source: loop.Source, tokens: int) -> list[dict[str, float]]:
    metrics = []
    while tokens > 0:
        work = source.next(tokens)
        outcome = model.update(work.batch)
        source.feedback(work.batch, outcome)
        metrics.append({name: float(value) for name, value in outcome.metrics.items()})
        tokens -= work.units
    return metrics


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "cbow"},
        {"share_negatives": False},
        {"objective": "hierarchical"},
        {"objective": "hierarchical", "architecture": "cbow"},
        {"objective": "softmax"},
        {"objective": "softmax", "architecture": "cbow"},
        {"architecture": "cbow", "cbow_gradient": "exact", "learning_rate": 0.2},
        {"backend": "torch"},
        {"backend": "torch", "architecture": "cbow"},
        {"backend": "torch", "share_negatives": False},
        {"backend": "torch", "objective": "hierarchical"},
        {"backend": "torch", "objective": "hierarchical", "architecture": "cbow"},
        {"backend": "torch", "objective": "softmax"},
        {"backend": "torch", "objective": "softmax", "architecture": "cbow"},
    ],
    ids=str,
)
def test_words_of_one_topic_come_to_lie_side_by_side(options: dict[str, Any]) -> None:
    data = topics(800)
    assert topic_agreement(Word2Vec(SMALL, data.spec, data.vocabulary, seed=1).vectors()) < 0.3
    model = trained(data, dataclasses.replace(SMALL, **options), 6)
    assert topic_agreement(model.vectors()) > 0.95


def test_one_seed_and_one_thread_give_the_same_bits_and_another_seed_others() -> None:
    data = topics(100)
    first, second, other = (trained(data, SMALL, 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in ("input", "output"))
    assert not torch.equal(first["output"], other["output"])


def test_the_size_of_chunks_changes_nothing() -> None:
    data = topics(100)
    sizes = [trained(data, dataclasses.replace(SMALL, chunk_tokens=size), 2) for size in (7, 10_000)]
    assert torch.equal(sizes[0].network.input, sizes[1].network.input)


def test_a_run_that_was_interrupted_goes_on_exactly() -> None:
    data = topics(100)
    config = Word2Vec.resolve(SMALL, data.spec, train_tokens=1100, budget_tokens=2200)
    whole, before, after = (Word2Vec(config, data.spec, data.vocabulary, seed=1) for _ in range(3))
    learn(whole, whole.make_source(data, seed=1), 2200)
    source = before.make_source(data, seed=1)
    learn(before, source, 1300)
    resumed = after.make_source(data, seed=1)
    resumed.load_state_dict(source.state_dict())
    after.load_state_dict(before.state_dict())
    learn(after, resumed, 900)
    for name in ("input", "output"):
        assert torch.equal(whole.state_dict()[name], after.state_dict()[name])


def test_the_step_size_falls_over_all_epochs_not_within_each() -> None:
    data = topics(100)
    config = Word2Vec.resolve(SMALL, data.spec, train_tokens=1100, budget_tokens=4400)
    model = Word2Vec(dataclasses.replace(config, chunk_tokens=1100), data.spec, data.vocabulary, seed=1)
    rates = [metrics["learning_rate"] for metrics in learn(model, model.make_source(data, seed=1), 4400)]
    assert rates == pytest.approx([0.05, 0.037525, 0.02505, 0.012575])
    assert model.rate(10**9) == pytest.approx(SMALL.final_learning_rate)


def test_output_vectors_start_at_zero_and_input_vectors_within_a_dth() -> None:
    data = topics(10)
    model = Word2Vec(SMALL, data.spec, data.vocabulary, seed=1)
    assert not model.network.output.any()
    limit = 1.0 / SMALL.dimensions
    assert float(model.network.input.abs().max()) <= limit
    assert float(model.network.input.std()) == pytest.approx(limit / 3**0.5, rel=0.1)


def test_several_threads_learn_from_the_one_text() -> None:
    data = topics(4000)
    model = trained(data, dataclasses.replace(SMALL, threads=2, chunk_tokens=44_000), 2)
    assert topic_agreement(model.vectors()) > 0.95


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_what_is_learned_falls_over_all_epochs_not_within_each(backend: Any) -> None:
    """The schedule ends with the second of three epochs, at nothing."""
    data = topics(40)
    schedule = {"final_learning_rate": 0.0, "decay_tokens": 880, "chunk_tokens": 440, "batch_examples": 1}
    config = dataclasses.replace(SMALL, backend=backend, **schedule)
    model = Word2Vec(config, data.spec, data.vocabulary, seed=1)
    source, moves = model.make_source(data, seed=1), []
    for _ in range(3):
        before = model.state_dict()["output"]
        learn(model, source, 440)
        moves.append(float((model.state_dict()["output"] - before).abs().max()))
    assert min(moves[:2]) > 1e-3 and moves[2] < 1e-9


@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative", "hierarchical", "softmax"])
def test_torch_learns_from_the_same_draws_and_gets_the_same_vectors_in_steps_of_one(
    objective: Any, architecture: Any
) -> None:
    data = topics(20)
    config = dataclasses.replace(SMALL, objective=objective, architecture=architecture, batch_examples=1)
    compiled, torch_ = (trained(data, dataclasses.replace(config, backend=one), 1) for one in ("compiled", "torch"))
    torch.testing.assert_close(compiled.network.input, torch_.network.input, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(compiled.network.output, torch_.network.output, rtol=1e-3, atol=1e-5)
    assert float(compiled.network.output.abs().max()) > 0.003


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns() -> None:
    model = trained(topics(800), SMALL, 6, device="cuda")
    assert not model.compiled and topic_agreement(model.vectors()) > 0.95


def test_the_loss_is_the_one_that_falls() -> None:
    data = topics(400)
    config = Word2Vec.resolve(SMALL, data.spec, train_tokens=4400, budget_tokens=44_000)
    model = Word2Vec(dataclasses.replace(config, chunk_tokens=44), data.spec, data.vocabulary, seed=1)
    losses = [metrics["loss"] for metrics in learn(model, model.make_source(data, seed=1), 44_000)]
    assert losses[0] == pytest.approx(6 * np.log(2), rel=0.05)  # all six sigmoids are a half at first
    assert np.mean(losses[-100:]) < 0.7 * losses[0]


def test_validation_measures_the_validation_part_and_leaves_the_model_alone() -> None:
    data = topics(300)
    cut = Tokens(data.train.ids[-550:], 1)
    data = dataclasses.replace(data, train=Tokens(data.train.ids[:-550], 1), validation=cut)
    model = trained(data, SMALL, 5)
    before = model.state_dict()
    scores = [model.validate(data, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert scores[0] == scores[1] and scores[0]["score"] == -scores[0]["nats_per_prediction"]
    assert torch.equal(before["input"], model.state_dict()["input"])
    whole = model.evaluate(data, "validation", torch.Generator().manual_seed(3))
    assert whole["nats_per_prediction"] < 6 * np.log(2)


def test_vectors_come_by_id_and_have_no_padding() -> None:
    data = topics(10)
    model = Word2Vec(SMALL, data.spec, data.vocabulary, seed=1)
    assert model.vectors().shape == (82, 24) and model.vectors().dtype == np.float32


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_mapped_text_that_is_gone_through_does_not_stay_in_memory(tmp_path: Path) -> None:
    def mapped_megabytes() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssFile:")[2].split()[0]) / 1024

    np.full(2**24, 2, np.uint16).tofile(tmp_path / "ids")
    source = TokenChunks(Tokens(np.memmap(tmp_path / "ids", np.uint16, "r"), 0), 2**20)
    before = mapped_megabytes()
    for _ in range(16):
        batch = source.next().batch
        assert isinstance(batch, TokenChunk) and int(batch.ids[batch.start : batch.stop].sum()) == 2 * 2**20
        assert mapped_megabytes() - before > 1.5
        source.feedback(batch, loop.Outcome({}))
        assert mapped_megabytes() - before < 1.5


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([2, 1, 3, 1], False),
        ([2, 0, 1, 0, 3], False),
        ([], False),
        ([1, 0, 0], False),
        ([2, 0, 3], True),
        ([2, 2], True),
    ],
    ids=str,
)
@pytest.mark.parametrize("block", [1, 2, 100])
def test_words_side_by_side_are_looked_for(
    ids: list[int], found: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_chunks, "_BLOCK", block)
    assert token_chunks.has_neighbours(np.array(ids, np.uint8)) is found


def test_a_text_without_two_words_in_a_line_is_refused() -> None:
    data = text_of([2, 1, 3, 1, 0, 2])
    model = Word2Vec(SMALL, data.spec, data.vocabulary, seed=1)
    with pytest.raises(DataError, match="no line of made has two words of the vocabulary"):
        model.make_source(data, seed=1)


def test_the_seed_of_the_draws_is_the_learner_s_own() -> None:
    data = topics(10)
    model = Word2Vec(SMALL, data.spec, data.vocabulary, seed=5)
    assert model.draws.seed == derived_seed(5, Purpose.LEARNING)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"window": 1_001}, "window must be at most 1,000, got 1001"),
        ({"objective": "nce"}, "objective must be one of negative, hierarchical, softmax, got 'nce'"),
        ({"architecture": "glove"}, "architecture must be one of skip-gram, cbow, got 'glove'"),
        ({"subsampling": 1.0}, "subsampling must be at least 0 and below 1, got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": 1e-5}, "final_learning_rate 0.0001 must be at most learning_rate 1e-05"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_a_wrong_hyperparameter_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Word2VecConfig(**options)


def test_texts_of_characters_and_of_one_word_are_refused() -> None:
    spec = TextSpec(name="made", level="char", vocabulary_size=9)
    with pytest.raises(ConfigError, match="use --level word"):
        Word2Vec.presets(spec)
    data = text_of([2, 2, 2])
    with pytest.raises(ConfigError, match="at least 2 words, made has 1"):
        Word2Vec(SMALL, data.spec, data.vocabulary, seed=1)


def test_a_chunk_without_a_single_pair_is_no_trouble() -> None:
    data = text_of([2, 1, 3, 1, 0, 0, 2])
    model = Word2Vec(SMALL, data.spec, data.vocabulary, seed=1)
    assert model.update(TokenChunk(data.train.ids, 0, 4, 0)).metrics["loss"] == 0.0


def test_small_runs_use_one_thread_and_the_budget_decides_the_schedule_once() -> None:
    data = topics(10)
    small = Word2Vec.resolve(Word2VecConfig(), data.spec, train_tokens=110, budget_tokens=1100)
    assert (small.threads, small.decay_tokens) == (1, 1100)
    assert Word2Vec.resolve(small, data.spec, train_tokens=110, budget_tokens=9900) == small
    assert (Word2Vec.resolve(Word2VecConfig(), data.spec, train_tokens=10**8, budget_tokens=10**8).threads or 0) >= 1
