"""The sequence classifier: word order, padding, pretrained vectors, going on exactly."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import text
from aprendiz.errors import ConfigError, DataError
from aprendiz.text.core import LabelledTexts
from language import pretrained
from language.classifier import (
    ClassifierNetwork,
    SequenceClassifier,
    SequenceClassifierConfig,
    last_states,
    mean_over_time,
)
from language.vector_files import write
from language.word_tasks import WordTable

CONFIG = SequenceClassifierConfig(units=24, embedding=16, dropout=0.1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def negation() -> LabelledTexts:
    """A made-up language in which `not` turns round what follows it."""
    data: Any = text.load("negation", texts=1500, level="word")
    return data


def make(data: LabelledTexts, epochs: float = 1, seed: int = 1, **options: Any) -> SequenceClassifier:
    config = dataclasses.replace(CONFIG, **options)
    tokens = len(data.train.ids)
    config = SequenceClassifier.resolve(config, data.spec, train_tokens=tokens, budget_tokens=int(epochs * tokens))
    return SequenceClassifier(config, data.spec, data.vocabulary, seed=seed)


def train(model: SequenceClassifier, data: LabelledTexts, epochs: float) -> float:
    """Accuracy on the test part."""
    source = model.make_source(data, seed=1)
    while source.metrics()["train/epoch"] < epochs:
        model.update(source.next().batch)
    return model.evaluate(data, "test", torch.Generator())["accuracy"]


def test_word_order_is_seen_by_the_recurrent_network_and_not_by_a_bag_of_words(negation: LabelledTexts) -> None:
    assert train(make(negation, 3), negation, 3) >= 0.95
    assert train(make(negation, 3, reader="bag-of-words"), negation, 3) < 0.75


def test_logits_do_not_depend_on_the_texts_beside(negation: LabelledTexts) -> None:
    for options in (
        {},
        {"bidirectional": False},
        {"pooling": "last"},
        {"pooling": "max", "cell": "gru"},
        {"layers": 2},
        {"reader": "bag-of-words"},
    ):
        model = make(negation, **options)
        texts = [np.array([3, 4, 5, 6, 7]), np.array([8]), np.array([4, 3, 9])]
        together = model.classify(texts)
        alone = torch.cat([model.classify([one]) for one in texts])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
        assert together.shape == (3, len(negation.spec.classes)) and together.dtype == torch.float32


def test_the_last_states_are_those_at_each_text_s_own_end_and_beginning() -> None:
    features = torch.arange(24.0).view(3, 2, 4)  # [T, B, F]
    found = last_states(features, torch.tensor([3, 1]), bidirectional=True)
    assert found.tolist() == [[16.0, 17.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    assert last_states(features, torch.tensor([3, 1]), bidirectional=False)[1].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_a_mean_is_over_a_text_s_own_tokens() -> None:
    features = torch.tensor([[[1.0], [5.0]], [[3.0], [100.0]]])
    inside = torch.tensor([[True, True], [True, False]])
    assert mean_over_time(features, inside, torch.tensor([2, 1])).tolist() == [[2.0], [5.0]]


def test_the_classifier_s_gradient_is_that_of_differences() -> None:
    torch.manual_seed(0)
    network = ClassifierNetwork(dataclasses.replace(CONFIG, units=2, embedding=2), 5, 2).double()
    tokens, lengths = torch.tensor([[1, 2], [3, 4], [2, 0]]), torch.tensor([3, 2])
    parameters = dict(network.named_parameters())

    def loss(*values: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(network, dict(zip(parameters, values, strict=True)), (tokens, lengths))
        return torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))

    # Pooling is computed in float32 while learning; here the whole way is taken in float64.
    network._pooled = lambda features, *rest: ClassifierNetwork._pooled(network, features.double(), *rest)  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(loss, tuple(parameters.values()), eps=1e-4, atol=1e-3, rtol=1e-2)


def test_a_classifier_that_was_saved_goes_on_exactly(negation: LabelledTexts) -> None:
    model = make(negation)
    source = model.make_source(negation, seed=1)
    for _ in range(5):
        model.update(source.next().batch)
    saved, place = copy.deepcopy(model.state_dict()), source.state_dict()
    other = make(negation, seed=9)
    there = other.make_source(negation, seed=1)
    other.load_state_dict(saved)
    there.load_state_dict(place)
    for _ in range(5):
        ours, theirs = model.update(source.next().batch), other.update(there.next().batch)
        assert ours.metrics == theirs.metrics
    texts = [np.array([3, 4, 5])]
    assert torch.equal(model.classify(texts), other.classify(texts))


def test_what_learned_on_a_gpu_is_read_on_a_cpu(negation: LabelledTexts) -> None:
    model, other, texts = make(negation), make(negation, seed=9), [np.array([3, 4, 5])]
    other.load_state_dict(model.state_dict() | {"generator": torch.arange(16, dtype=torch.uint8)})
    assert torch.equal(model.classify(texts), other.classify(texts))


def test_validation_says_how_many_were_right(negation: LabelledTexts) -> None:
    metrics = make(negation).validate(negation, torch.Generator())
    assert 0.0 <= metrics["accuracy"] <= 1.0 and metrics["score"] <= metrics["accuracy"]


def test_dropout_between_layers_is_for_learning_alone(negation: LabelledTexts) -> None:
    model, texts = make(negation, layers=2, dropout=0.5), [np.array([3, 4, 5, 6, 7])]
    first = model.classify(texts)
    assert torch.equal(model.classify(texts), first)
    assert model.validate(negation, torch.Generator())["accuracy"] > 0.0
    batch = model.make_source(negation, seed=1).next().batch
    assert batch is not None
    drawn = [model.network(batch.tokens, batch.lengths, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_validation_looks_at_all_classes_of_a_file_that_is_sorted_by_them(
    negation: LabelledTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,200 documents, 600 of each class one after the other, 10 are looked at."""
    order = np.argsort(negation.train.labels, kind="stable")
    texts = [negation.train.ids[negation.train.offsets[i] : negation.train.offsets[i + 1]] for i in order]
    offsets = np.cumsum([0, *map(len, texts)])
    documents = dataclasses.replace(
        negation.train, ids=np.concatenate(texts), offsets=offsets, labels=negation.train.labels[order]
    )
    model = make(negation)
    monkeypatch.setattr("language.classifier.VALIDATION_DOCUMENTS", 10)
    monkeypatch.setattr(model, "_judge", lambda chosen: torch.tensor([[1.0, 0.0]]).repeat(len(chosen), 1))
    found = model.validate(dataclasses.replace(negation, validation=documents), torch.Generator())
    assert found["accuracy"] == 0.5


def test_evaluation_tells_each_class(negation: LabelledTexts) -> None:
    found = make(negation).evaluate(negation, "test", torch.Generator())
    assert {f"accuracy_{name}" for name in negation.spec.classes} < set(found)


def test_pretrained_vectors_are_where_learning_begins(negation: LabelledTexts, tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    words = (negation.vocabulary.symbols[5], "elsewhere", negation.vocabulary.symbols[7])
    vectors = np.arange(3 * 16, dtype=np.float32).reshape(3, 16)
    write(path, WordTable(words, vectors))
    model = make(negation, vectors=str(path), fixed_vectors=True)
    model.update(model.make_source(negation, seed=1).next().batch)
    table = model.network.embedding.weight
    assert torch.equal(table[5], torch.from_numpy(vectors[0])) and torch.equal(table[7], torch.from_numpy(vectors[2]))
    assert not torch.equal(table[6], table[8])
    other = make(negation, vectors=str(path), fixed_vectors=True)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    path.unlink()  # a model that has learned needs no vectors
    other.update(other.make_source(negation, seed=1).next().batch)


def test_vectors_that_do_not_fit_are_refused_before_a_run_begins(negation: LabelledTexts, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file .*missing.txt"):
        make(negation, vectors=str(tmp_path / "missing.txt"))
    with pytest.raises(ConfigError, match="neither a file nor a run"):
        make(negation, vectors="missing")
    path = str(tmp_path / "some.txt")
    write(path, WordTable(("arbre",), np.zeros((1, 7), np.float32)))
    with pytest.raises(ConfigError, match="--embedding 7"):
        make(negation, vectors=path)
    with pytest.raises(ConfigError, match="none of the"):
        pretrained.embedding_for(negation.vocabulary, path, 7, torch.Generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "tree"}, "reader must be one of recurrent, bag-of-words"),
        ({"cell": "elman"}, "cell must be one of"),
        ({"pooling": "sum"}, "pooling must be one of"),
        ({"units": 0}, "units must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"fixed_vectors": True}, "needs --vectors"),
    ],
)
def test_hyperparameters_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SequenceClassifierConfig(**options)


def test_texts_without_labels_and_without_tokens_are_refused(negation: LabelledTexts) -> None:
    spec = dataclasses.replace(negation.spec, classes=())
    with pytest.raises(ConfigError, match="labelled texts"):
        SequenceClassifier(CONFIG, spec, negation.vocabulary, seed=1)
    with pytest.raises(ConfigError, match="without any token"):
        make(negation).classify([np.array([], np.int32)])
    empty = dataclasses.replace(negation.test, offsets=negation.test.offsets[:1], labels=negation.test.labels[:0])
    with pytest.raises(DataError, match="no test part"):
        make(negation).evaluate(dataclasses.replace(negation, test=empty), "test", torch.Generator())
