"""Everything that is said of a saved model, for models whose samples are known to be good or bad."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aprendiz import data
from aprendiz.data.build import finish
from aprendiz.data.core import Dataset
from aprendiz.data.images import ArrayImages
from aprendiz.errors import ConfigError
from generative.core import GenerativeModel
from generative.metrics import fid, judge_for, report
from generative.metrics.evaluation import floor

pytestmark = pytest.mark.skipif("APRENDIZ_TEST_DATA" not in os.environ, reason="wants MNIST under APRENDIZ_TEST_DATA")


class Copier(GenerativeModel):
    """Draws `images` (float [N, C, H, W] in model space), one after the other, over and over."""

    abilities = frozenset({"encode", "classify"})

    def __init__(self, images, dataset=None):
        self.images, self.device, self.place = images, torch.device("cpu"), 0
        self.judge = None if dataset is None else judge_for(dataset)

    def evaluate(self, data, images, generator, judge=None):
        return {"own": 1.5, "diverged": float("inf"), "seen": float(len(images))}

    def sample(self, count, generator, labels=None):
        chosen = torch.arange(self.place, self.place + count) % len(self.images)
        self.place += count
        return self.images[chosen]

    def encode(self, images):
        return images.flatten(1)[:, ::7]

    def classify(self, images):
        return self.judge.logits(images) if self.judge else torch.eye(10)[[0]].repeat(len(images), 1)


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    """A small part of it, with the shipped judge."""
    whole = data.load("mnist", folder=str(Path(os.environ["APRENDIZ_TEST_DATA"], "mnist")))
    parts = (
        ArrayImages(whole.spec, part.pixels(slice(count)), part.labels[:count])
        for part, count in ((whole.train, 3_000), (whole.validation, 500), (whole.test, 400))
    )
    return finish(Dataset(whole.spec, *parts, whole.scaling))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("generative.metrics.evaluation.LARGEST", 300)
    monkeypatch.setattr("generative.metrics.probe.STRENGTHS", (0.01,))
    monkeypatch.setattr("generative.metrics.judge.is_mnist", lambda dataset: True)


def scores(model: GenerativeModel, dataset: Dataset, **options) -> dict:
    saved = SimpleNamespace(model=model, dataset=dataset, spec=dataset.spec, scaling=dataset.scaling, step=7, which=7)
    return report(saved, **{"samples": 500, "split": "validation", **options})


def held_out(dataset: Dataset) -> torch.Tensor:
    return dataset.validation.scaled(slice(None))


def test_copies_of_the_held_out_images_are_perfect(mnist):
    found = scores(Copier(held_out(mnist)), mnist)
    metrics = found["metrics"]
    assert metrics["fid"] == pytest.approx(0, abs=1e-6)
    assert metrics["precision"] == metrics["recall"] == 1
    shares = mnist.validation.labels.bincount() / 500
    assert list(found["class_shares"].values()) == pytest.approx(shares.tolist(), abs=0.01)
    assert metrics["class_entropy_nats"] > 2.27 and metrics["confident_share"] > 0.95


def test_samples_are_turned_back_into_pixels_whatever_the_scaling(mnist):
    standard = finish(mnist, scaling="standard")
    images = held_out(standard)
    assert images.min() < 0 and images.max() > 1
    metrics = scores(Copier(images), standard)["metrics"]
    assert metrics["fid"] == pytest.approx(0, abs=1e-3) and metrics["recall"] > 0.99


def test_the_floor_compares_training_images_with_the_held_out_ones(mnist):
    metrics = scores(Copier(held_out(mnist)), mnist)["metrics"]
    judge = judge_for(mnist)
    assert judge is not None
    real = judge.look_at(mnist.validation)[0]
    assert 0.3 < metrics["floor_fid"] < 30  # other images: not 0, and far from what bad samples get
    assert 0.7 < metrics["floor_recall"] < 1
    assert metrics["floor_fid"] == pytest.approx(floor(judge, mnist.train, real, 500, 0)["fid"])
    assert floor(judge, mnist.train, real, 500, 1)["fid"] != metrics["floor_fid"]
    assert floor(judge, mnist.validation, real, 500, 0)["fid"] == pytest.approx(0, abs=1e-6)


def test_a_model_that_has_learned_the_training_images_by_heart_scores_as_the_floor_and_no_better(mnist):
    images = mnist.train.scaled(torch.arange(0, 3_000, 6))
    metrics = scores(Copier(images), mnist)["metrics"]
    assert metrics["fid"] == pytest.approx(metrics["floor_fid"], rel=0.5) and metrics["recall"] < 1


def test_the_real_images_are_those_of_the_split_that_was_asked_for(mnist):
    copies = {"test": mnist.test.scaled(slice(None)), "validation": held_out(mnist)}
    for split, images in copies.items():
        found = scores(Copier(images), mnist, split=split, samples=len(images))
        assert found["protocol"]["images"] == found["metrics"]["seen"] == len(images)
        assert found["metrics"]["fid"] == pytest.approx(0, abs=1e-6)
    assert scores(Copier(copies["validation"]), mnist, split="test")["metrics"]["fid"] > 0.3


def test_a_collapsed_model_has_one_class_and_covers_nothing(mnist):
    found = scores(Copier(held_out(mnist)[:1]), mnist)
    metrics = found["metrics"]
    assert metrics["class_deviation"] == pytest.approx(9) and metrics["class_entropy_nats"] == pytest.approx(0)
    assert sorted(found["class_shares"].values()) == [0] * 9 + [1]
    assert metrics["recall"] <= 0.004 and metrics["precision"] == 1
    assert metrics["fid"] > 20 * metrics["floor_fid"]


def test_a_model_that_draws_half_of_the_digits_has_half_of_the_recall(mnist):
    images = held_out(mnist)[mnist.validation.labels < 5]
    found = scores(Copier(images), mnist)
    assert 0.45 < found["metrics"]["recall"] < 0.65 and found["metrics"]["precision"] == 1
    assert found["metrics"]["class_deviation"] >= 1
    assert sum(list(found["class_shares"].values())[5:]) < 0.02
    assert found["metrics"]["fid"] > 5 * found["metrics"]["floor_fid"]


def test_noise_covers_nothing_and_is_far_away(mnist):
    noise = torch.rand(500, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    metrics = scores(Copier(noise), mnist)["metrics"]
    assert metrics["recall"] < 0.1 and metrics["class_deviation"] > 2
    assert metrics["fid"] > 20 * metrics["floor_fid"]


def test_the_report_is_json_and_says_how_it_was_made(mnist):
    found = scores(Copier(held_out(mnist)), mnist, samples=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["metrics"]["own"] == 1.5 and found["metrics"]["diverged"] is None
    judge = judge_for(mnist)
    assert judge is not None
    assert found["protocol"] == {
        "split": "validation",
        "images": 500,
        "samples": 100,
        "seed": 0,
        "data_fingerprint": mnist.fingerprint,
        "extractor": judge.name,
        "extractor_sha256": judge.sha256,
        "extractor_accuracy": judge.accuracy,
    }
    assert any("FID from as few as 100 images" in note for note in found["notes"])


def test_classes_and_codes_are_scored_on_the_split(mnist):
    metrics = scores(Copier(held_out(mnist), mnist), mnist, samples=0)["metrics"]
    assert 0 <= metrics["classification_error"] < 0.02
    assert 0.6 < metrics["probe_accuracy"] < 0.95
    always_0 = scores(Copier(held_out(mnist)), mnist, samples=0)["metrics"]
    assert always_0["classification_error"] == pytest.approx(1 - float((mnist.validation.labels == 0).float().mean()))
    assert "fid" not in metrics


class Obedient(Copier):
    abilities = frozenset({"labels"})

    def __init__(self, dataset, obeys=10):
        super().__init__(held_out(dataset))
        self.by_class = [self.images[dataset.validation.labels == label] for label in range(10)]
        self.obeys, self.asked = obeys, []

    def sample(self, count, generator, labels=None):
        self.asked.append(labels)
        return torch.stack([self.by_class[int(label) % self.obeys][place % 20] for place, label in enumerate(labels)])


def test_a_model_that_takes_labels_is_asked_for_equally_many_of_each(mnist):
    model = Obedient(mnist)
    assert scores(model, mnist)["metrics"]["label_accuracy"] > 0.97
    assert torch.cat(model.asked).bincount().tolist() == [50] * 10
    assert scores(Obedient(mnist, obeys=5), mnist)["metrics"]["label_accuracy"] == pytest.approx(0.5, abs=0.03)


def test_nothing_is_claimed_of_samples_without_labels(mnist):
    for part in (unlabelled := replace_labels(mnist)).train, unlabelled.validation, unlabelled.test:
        assert part.labels is None
    found = scores(Copier(held_out(mnist)), unlabelled)
    assert set(found["metrics"]) == {"own", "diverged", "seen"} and found["class_shares"] is None
    assert found["protocol"]["extractor"] is None and found["protocol"]["samples"] == 0
    assert found["notes"] == ["nothing is claimed of the samples: the images have no labels that a judge could learn"]


def replace_labels(dataset: Dataset) -> Dataset:
    spec = replace(dataset.spec, classes=())
    parts = (ArrayImages(spec, part.pixels(slice(0, 50))) for part in (dataset.train, dataset.validation, dataset.test))
    return Dataset(spec, *parts, dataset.scaling)


def test_a_model_that_cannot_encode_after_all_is_noted(mnist):
    class Shy(Copier):
        def encode(self, images):
            raise ConfigError("it has no codes yet")

    found = scores(Shy(held_out(mnist)), mnist, samples=0)
    assert found["notes"] == ["no linear classifier on the codes: it has no codes yet"]


def test_samples_that_are_drawn_by_the_same_seed_score_the_same(mnist):
    class Noisy(Copier):
        def sample(self, count, generator, labels=None):
            noise = torch.rand(count, 1, 28, 28, generator=generator)
            return (self.images[:count] + 0.5 * noise).clamp(0, 1)

    first, second, other = (
        scores(Noisy(held_out(mnist)), mnist, samples=200, seed=seed)["metrics"]["fid"] for seed in (1, 1, 2)
    )
    assert first == second != other


@pytest.mark.parametrize("options", [{"split": "train"}, {"samples": 2}, {"samples": -1}])
def test_what_cannot_be_is_refused_in_words(mnist, options):
    with pytest.raises(ConfigError, match="must be"):
        scores(Copier(held_out(mnist)), mnist, **options)


def test_features_of_the_report_are_those_of_fid(mnist):
    judge = judge_for(mnist)
    assert judge is not None
    images = mnist.train.scaled(slice(500))
    expected = fid(judge.look_at(mnist.validation)[0], judge.features(images))
    assert scores(Copier(images), mnist)["metrics"]["fid"] == pytest.approx(expected, rel=1e-6)
