"""Who judges samples: its features, its file, and how it comes about."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from aprendiz import data
from aprendiz.data.build import finish, from_arrays
from aprendiz.data.core import Dataset
from aprendiz.errors import CheckpointError, ConfigError
from generative import train_classifier
from generative.metrics import Judge, classifier, judge, judge_for
from generative.metrics.classifier import Classifier, ClassifierConfig, distort

QUICK = functools.partial(
    ClassifierConfig,
    epochs=1,
    least_updates=60,
    batch_size=16,
    dropout=0.0,
    average=0.8,
    shift=0.0,
    rotation_degrees=0.0,
)


def stripes(name: str = "stripes", *, labelled: bool = True, seed: int = 0) -> Dataset:
    """240 noisy pictures of 8x8 with a bright stripe high, in the middle or low."""
    generator = np.random.default_rng(seed)
    labels = np.arange(240) % 3
    images = generator.integers(0, 60, (240, 8, 8), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 2] += 190
    classes = ("high", "middle", "low")
    return finish(from_arrays(name, images, labels if labelled else None, classes=classes if labelled else ()))


def images_of(dataset: Dataset) -> torch.Tensor:
    return dataset.test.pixels(slice(None)).float() / 255


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APRENDIZ_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "ClassifierConfig", QUICK)
    return tmp_path / "cache" / "classifiers"


@pytest.fixture(scope="module")
def shipped() -> Judge:
    return Judge("mnist", classifier.load(judge.WEIGHTS / "mnist.safetensors", judge.MNIST_SHA256))


def test_features_are_the_input_of_the_last_layer(shipped):
    images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    features, logits = shipped.look(images)
    assert features.dtype == torch.float32 and features.shape == (20, classifier.FEATURES)
    assert features.min() == 0 and features.max() > 0  # after the rectifier
    head = shipped._classifier.head
    torch.testing.assert_close(features @ head.weight.T + head.bias, logits)
    assert torch.equal(features, shipped.features(images)) and torch.equal(logits, shipped.logits(images))


def test_what_an_image_looks_like_does_not_depend_on_its_company(shipped):
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(shipped.features(images)[30:33], shipped.features(images[30:33]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(4, 1, 28, 28) * 2 - 1, r"judges images in \[0, 1\], got values from -"),
        (torch.full((4, 1, 28, 28), 255.0), "to 255; turn what a model draws into pixels"),
        (torch.full((4, 1, 28, 28), torch.nan), "not a number"),
        (torch.zeros(4, 1, 28, 28, dtype=torch.uint8), "float images"),
        (torch.zeros(4, 3, 28, 28), r"shape \[1, 28, 28\], got \[3, 28, 28\]"),
    ],
)
def test_images_that_are_not_pixels_between_0_and_1_are_refused(shipped, images, message):
    with pytest.raises(ConfigError, match=message):
        shipped.features(images)


def test_the_shipped_file_is_small_and_its_json_tells_of_the_same_file():
    path = judge.WEIGHTS / "mnist.safetensors"
    said = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size < 500_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() == judge.MNIST_SHA256 == said["sha256"]
    assert said["accuracy"]["validation"] >= 0.992 and said["accuracy"]["test"] >= 0.992
    assert said["command"].startswith("python -m generative.train_classifier mnist")
    assert said["config"] == json.loads(json.dumps(vars(ClassifierConfig())))


def test_a_changed_file_is_refused(tmp_path):
    whole = bytearray((judge.WEIGHTS / "mnist.safetensors").read_bytes())
    whole[-1] ^= 1
    path = tmp_path / "mnist.safetensors"
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"was changed: its SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}"):
        classifier.load(path, judge.MNIST_SHA256)
    with pytest.raises(CheckpointError, match="damaged: its weights are not those of its header"):
        classifier.load(path)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        classifier.load(tmp_path / "gone.safetensors")


def test_mnist_is_not_judged_by_a_changed_file(monkeypatch, tmp_path):
    whole = (judge.WEIGHTS / "mnist.safetensors").read_bytes()
    (tmp_path / "mnist.safetensors").write_bytes(whole.replace(b'{"__meta', b' {"__meta', 1))
    monkeypatch.setattr(judge, "WEIGHTS", tmp_path)
    monkeypatch.setattr(judge, "is_mnist", lambda dataset: True)
    with pytest.raises(CheckpointError, match="was changed"):
        judge_for(stripes())


@pytest.mark.skipif("APRENDIZ_TEST_DATA" not in os.environ, reason="wants MNIST under APRENDIZ_TEST_DATA")
def test_the_shipped_classifier_judges_mnist_and_names_its_test_images():
    mnist = data.load("mnist", folder=str(Path(os.environ["APRENDIZ_TEST_DATA"], "mnist")))
    found = judge_for(mnist)
    assert found is not None and found.sha256 == judge.MNIST_SHA256
    logits = found.look_at(mnist.test, torch.arange(0, 10_000, 10))[1]
    assert (logits.argmax(1) == mnist.test.labels[::10]).float().mean() >= 0.988  # 99.2% less a standard error of 0.3
    assert mnist.fingerprint == found.provenance["data"]["fingerprint"]  # it learned from the same training images


def test_other_labelled_images_get_a_classifier_of_their_own_once(cache, monkeypatch, capsys):
    dataset = stripes()
    first = judge_for(dataset)
    assert first is not None and first.accuracy["validation"] > 0.9
    assert len(list(cache.iterdir())) == 1
    assert "training what judges the samples" in capsys.readouterr().err
    monkeypatch.setattr(judge, "train", None)
    again = judge_for(stripes())
    assert again is not None and again.sha256 == first.sha256
    assert torch.equal(first.features(images_of(dataset)), again.features(images_of(dataset)))


def test_other_images_of_the_same_name_get_another_classifier(cache):
    first, second = judge_for(stripes()), judge_for(stripes(seed=1))
    assert first is not None and second is not None and first.sha256 != second.sha256
    assert len(list(cache.iterdir())) == 2


def test_scaling_changes_nothing_for_the_judge(cache):
    dataset = stripes()
    scaled = finish(dataset, scaling="standard")
    first, second = judge_for(dataset), judge_for(scaled)
    assert first is not None and second is not None and first.sha256 == second.sha256


def test_a_damaged_file_in_the_cache_is_made_again(cache, capsys):
    first = judge_for(stripes())
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:1_000])
    second = judge_for(stripes())
    assert first is not None and second is not None
    assert torch.equal(first.features(images_of(stripes())), second.features(images_of(stripes())))
    assert "it is trained again" in capsys.readouterr().err
    classifier.load(path)


def test_a_cache_that_cannot_be_written_to_costs_only_time(cache, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert judge_for(stripes()) is not None
    assert "the classifier is not kept" in capsys.readouterr().err


def test_images_without_labels_have_no_judge():
    assert judge_for(stripes(labelled=False)) is None


def test_a_folder_called_mnist_is_not_mnist():
    assert not judge.is_mnist(stripes("mnist"))
    images = np.zeros((40, 28, 28), np.uint8)
    assert not judge.is_mnist(from_arrays("mnist", images, np.arange(40) % 10, classes=tuple("0123456789")))


def test_a_file_has_the_same_hash_whenever_it_is_written(tmp_path):
    trained = classifier.train(stripes(), QUICK())
    first, second = (classifier.save(trained, tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert first.sha256 == second.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


def test_training_twice_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = classifier.train(stripes(), QUICK()), classifier.train(stripes(), QUICK())
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.classifier.parameters(), second.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_looks_at_no_test_image():
    dataset = stripes()
    blind = Dataset(dataset.spec, dataset.train, dataset.validation, None, dataset.scaling)
    assert set(classifier.train(blind, QUICK()).provenance["accuracy"]) == {"validation"}


def test_images_larger_than_memory_are_learned_from_in_part(monkeypatch):
    monkeypatch.setattr(classifier, "MEMORY", 64 * 50)
    pixels, labels = classifier._in_memory(stripes().train, (8, 8), 0)
    assert pixels.shape == (50, 1, 8, 8) and labels.shape == (50,)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (3, 5, 9), (1, 28, 28), (3, 64, 64), (3, 200, 90)])
def test_images_of_any_size_are_classified(shape):
    network = Classifier(shape, 4).eval()
    images = torch.rand(2, *shape)
    assert network.features(images).shape == (2, classifier.FEATURES)
    assert network(images).shape == (2, 4)
    assert sum(parameter.numel() for parameter in network.parameters()) < 500_000


def test_images_are_distorted_within_bounds():
    images = torch.zeros(50, 1, 21, 21)
    images[:, :, 10, 10] = 1
    generator = torch.Generator().manual_seed(0)
    still = ClassifierConfig(shift=0, rotation_degrees=0, zoom=0)
    torch.testing.assert_close(distort(images, still, generator), images)
    moved = distort(images, ClassifierConfig(shift=0.1, rotation_degrees=0, zoom=0), generator)
    weights, place = moved.sum((1, 2)), torch.arange(21.0)
    centre = (weights * place).sum(1) / weights.sum(1)
    assert (centre - 10).abs().max() <= 2.1 and centre.std() > 0.5


def test_the_command_writes_weights_and_tells_where_they_came_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda name: stripes(name))
    out = tmp_path / "s.safetensors"
    train_classifier.command(["stripes", "--test", "--least-updates", "40", "--epochs", "1", "--out", str(out)])
    said = json.loads(out.with_suffix(".json").read_text())
    assert classifier.load(out, said["sha256"]).provenance["accuracy"] == said["accuracy"]
    assert set(said["accuracy"]) == {"validation", "test"} and said["config"]["epochs"] == 1
    assert said["sha256"] in capsys.readouterr().out


def test_a_file_of_another_kind_is_refused_before_training():
    with pytest.raises(ConfigError, match="must end with .safetensors, got x.pt"):
        train_classifier.command(["digits", "--out", "x.pt"])
