"""Drawing from saved runs: the same picture in every process, the forms it can take, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_autoencoder import LinearAutoencoder
from PIL import Image

from aprendiz.run import Run
from generative import GENERATIVE
from generative.sample import along_sphere, class_number, command, draw, interpolate
from generative.saved import SavedModel, open_model
from generative.train import run_command
from tests.training_runs import refused_by

ROOT = Path(__file__).resolve().parents[2]
MODEL = "linear_autoencoder:LinearAutoencoder"
NAMES = [one.name for one in GENERATIVE.describe_all() if one.distribution == "aprendiz"]
QUICK = ("--pictures", "0", "--validations", "0", "--wandb", "disabled", "--device", "cpu")


def train(folder: Path, *arguments: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(folder))
        assert run_command([*arguments, *QUICK]) == 0
        return Run.open("latest")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("linear"), MODEL, "--images", "300")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("conditional"), "conditional-gan", "--images", "128")


@pytest.fixture(scope="module")
def every_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("models")
    patches = ("--patch", "4", "--patches", "200")  # which have no labels
    return {
        name: train(folder, name, "--images", "150", *(() if GENERATIVE.get(name).needs_labels else patches))
        for name in NAMES
    }


EVERYWHERE = """
import sys
from generative.sample import command
for run in sys.argv[2:]:
    command([run, "--n", "9", "--seed", "5", "--out", f"{sys.argv[1]}/{run.rpartition('/')[2]}.png"])
"""


def test_one_seed_draws_the_same_picture_byte_for_byte_in_another_process(
    every_model: dict[str, Run], tmp_path: Path
) -> None:
    """Of every registered model; the other process starts with another number of threads."""
    paths = [str(run.path) for run in every_model.values()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", EVERYWHERE, str(tmp_path / "there"), *paths], env=env, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.decode()
    for name, run in every_model.items():
        here = tmp_path / "here.png"
        command([str(run.path), "--n", "9", "--seed", "5", "--out", str(here)])
        assert here.read_bytes() == (tmp_path / "there" / f"{run.name}.png").read_bytes(), name
        command([str(run.path), "--n", "9", "--seed", "6", "--out", str(here)])
        assert here.read_bytes() != (tmp_path / "there" / f"{run.name}.png").read_bytes(), name


def test_every_model_with_latent_vectors_or_codes_is_interpolated(every_model: dict[str, Run]) -> None:
    walked = []
    for name, run in every_model.items():
        saved = open_model(run)
        if "decode" in saved.model.abilities:
            images = interpolate(saved, "1", "2", 4)
            assert images.shape == (4, *saved.spec.shape) and bool(torch.isfinite(images).all()), name
            walked.append(name)
    assert {"vae", "ns-gan", "wgan-gp", "dcgan", "autoencoder", "rbm"} <= set(walked)


def test_a_grid_an_array_and_a_folder_hold_the_same_images(run: Run, tmp_path: Path) -> None:
    for out in ("grid.png", "array.npy", "folder"):
        command([str(run.path), "--n", "6", "--columns", "3", "--scale", "2", "--out", str(tmp_path / out)])
    array = np.load(tmp_path / "array.npy")
    assert array.shape == (6, 1, 8, 8) and array.dtype == np.float32 and 0 <= array.min() <= array.max() <= 1
    pixels = np.rint(array[:, 0] * 255).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 17 + 1, 3 * 17 + 1)
    np.testing.assert_array_equal(grid[18:34, 18:34], pixels[4])
    files = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in files] == [f"0000{index}.png" for index in range(6)]
    np.testing.assert_array_equal(np.asarray(Image.open(files[4])), pixels[4])


def test_what_was_scaled_is_drawn_as_pixels(tmp_path: Path) -> None:
    run = train(tmp_path / "runs", MODEL, "--images", "600", "--scaling", "standard")
    saved = open_model(run)
    assert float(draw(saved, 64, seed=1)[0].min()) < 0  # as the model sees them
    command([str(run.path), "--out", str(tmp_path / "array.npy")])
    array = np.load(tmp_path / "array.npy")
    assert array.min() >= 0 and array.max() <= 1 and 0.1 < array.mean() < 0.6


def test_many_samples_are_drawn_piece_by_piece(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = LinearAutoencoder.sample

    def sample(self: Any, count: int, *more: Any) -> Any:
        sizes.append(count)
        return original(self, count, *more)

    monkeypatch.setattr(LinearAutoencoder, "sample", sample)
    images, _ = draw(open_model(run), 1_100, seed=1)
    assert len(images) == 1_100 and sizes == [500, 500, 100]


# Labels


def test_a_label_draws_one_class_and_all_draws_a_column_of_each(
    conditional: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[torch.Tensor] = []
    cls = GENERATIVE.get("conditional-gan")
    original = cls.sample

    def sample(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
        given.append(labels)
        return original(self, count, generator, labels)

    monkeypatch.setattr(cls, "sample", sample)
    command([str(conditional.path), "--label", "3", "--n", "5", "--out", str(tmp_path / "three.png")])
    command([str(conditional.path), "--label", "all", "--scale", "1", "--out", str(tmp_path / "all.png")])
    assert given[0].tolist() == [3] * 5
    assert len(given[1]) == 80 and given[1].reshape(8, 10).tolist() == [list(range(10))] * 8
    assert Image.open(tmp_path / "all.png").size == (10 * 9 + 1, 8 * 9 + 1)


def test_classes_have_numbers_and_names() -> None:
    classes = ("cat", "dog", "7")
    assert [class_number(text, classes) for text in ("cat", "1", "7")] == [0, 1, 2]


# Interpolation


def test_the_way_between_two_seeds_starts_and_ends_with_their_own_images(run: Run) -> None:
    saved = open_model(run)
    images = interpolate(saved, "3", "8", 5)
    for index, seed in ((0, "3"), (-1, "8")):
        assert torch.allclose(images[index], interpolate(saved, seed, seed, 2)[0], atol=1e-5)
    assert not torch.equal(images[0], images[-1])


def test_the_way_between_two_test_images_starts_and_ends_with_their_reconstructions(run: Run) -> None:
    saved = open_model(run)
    images = interpolate(saved, "test:3", "test:8", 5)
    expected = saved.model.reconstruct(saved.dataset.test.scaled(torch.tensor([3, 8])))
    assert torch.allclose(images[[0, -1]], expected, atol=1e-6)
    middle = saved.model.decode(saved.model.encode(saved.dataset.test.scaled(torch.tensor([3, 8]))).mean(0)[None])
    assert torch.allclose(images[2], middle[0], atol=1e-6)


def test_the_way_may_lead_from_picture_to_picture(run: Run, tmp_path: Path) -> None:
    saved = open_model(run)
    for index in (3, 8):
        Image.fromarray(saved.dataset.test.pixels(torch.tensor([index]))[0, 0].numpy()).save(tmp_path / f"{index}.png")
    walked = interpolate(saved, str(tmp_path / "3.png"), str(tmp_path / "8.png"), 5)
    assert torch.equal(walked, interpolate(saved, "test:3", "test:8", 5))


def test_between_gaussian_vectors_the_way_keeps_their_length() -> None:
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.allclose(along_sphere(start, end, 0.5), torch.tensor([0.5, 0.5]).sqrt())
    assert torch.allclose(along_sphere(start, end, 1 / 3), torch.tensor([0.75**0.5, 0.5]))
    assert torch.equal(along_sphere(start, start, 0.7), start)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n", "0"], "n must be at least 1, got 0"),
        (["--steps", "1"], "steps must be at least 2"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--out", "grid.gif"], "--out grid.gif is not a .png file or an .npy file or a folder"),
        (["--out", "/proc/nothing/grid.png"], "cannot write /proc/nothing/grid.png"),
        (["--label", "3"], "--label needs a model that can take labels; linear_autoencoder:LinearAutoencoder cannot"),
        (["--label", "3", "--interpolate", "1", "2"], "give --label or --interpolate, not both"),
        (["--interpolate", "1"], "--interpolate"),
        (["--interpolate", "test:1", "test:9999"], "digits has test images 0 to 179"),
        (["--interpolate", "here.png", "there.png"], "here.png: neither a number nor a picture file"),
        (["--interpolate", "1", "there.png"], "there.png: neither a number nor a picture file"),
        (["--checkpoint", "9"], "has no checkpoint at step 9; there are 300"),
        (["--checkpoint", "newest"], "checkpoint 'newest' is not last, best or a step"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_in_one_line(
    run: Run, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert said in refused_by(command, capsys, str(run.path), *arguments)
        assert list(tmp_path.iterdir()) == []


def test_a_label_that_there_is_not_is_refused(conditional: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = "--label '10' is no class: 0 to 9 (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), or all"
    assert said in refused_by(command, capsys, str(conditional.path), "--label", "10")


def test_what_a_model_cannot_is_said_with_those_that_can(every_model: dict[str, Run]) -> None:
    pixelcnn: SavedModel = open_model(every_model["pixelcnn"])
    with pytest.raises(Exception, match=r"pixelcnn cannot \(it can: .*sample\); autoencoder, .*vae.* can"):
        interpolate(pixelcnn, "1", "2", 3)
