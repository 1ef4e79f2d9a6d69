"""Codes, filters and scores of saved runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aprendiz import data
from aprendiz.run import Run
from generative import encode, evaluate, filters
from generative.grid import make_grid, normalised, png
from generative.saved import open_model
from generative.train import run_command
from tests.training_runs import refused_by

MODEL = "linear_autoencoder:LinearAutoencoder"
QUICK = ("--pictures", "0", "--validations", "0", "--wandb", "disabled", "--device", "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs"), MODEL, "--images", "300")


def train(folder: Path, *arguments: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(folder))
        assert run_command([*arguments, *QUICK]) == 0
        return Run.open("latest")


# Codes


def codes_of(run: Run, tmp_path: Path, *words: str) -> np.ndarray:
    encode.command([str(run.path), *words, "--out", str(tmp_path / "codes.npy")])
    return np.load(tmp_path / "codes.npy")


def test_without_images_the_run_s_own_are_encoded(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = codes_of(run, tmp_path)
    assert codes.shape == (1_797, 8) and codes.dtype == np.float32
    assert f"codes of 1,797 images of digits (all): float32 [1,797, 8] in {tmp_path}" in capsys.readouterr().out
    saved = open_model(run)
    expected = saved.model.encode(saved.dataset.test.scaled(slice(0, 5)))
    np.testing.assert_allclose(codes_of(run, tmp_path, "digits", "--part", "test")[:5], expected, atol=1e-6)
    np.testing.assert_allclose(codes[-180:-175], expected, atol=1e-6)


def test_pictures_arrays_and_folders_are_prepared_as_in_training(run: Run, tmp_path: Path) -> None:
    test = open_model(run).dataset.test
    pixels = test.pixels(slice(0, 3))[:, 0].numpy()  # uint8 [3, H, W]
    expected = codes_of(run, tmp_path, "--part", "test")[:3]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).convert("RGB").save(folder / f"{index}.png")
    np.save(tmp_path / "bytes.npy", pixels)
    np.save(tmp_path / "floats.npy", (pixels / 255)[:, None].astype(np.float32))
    files = [str(folder / f"{index}.png") for index in range(3)]
    for words in ([str(folder)], files, [str(tmp_path / "bytes.npy")], [str(tmp_path / "floats.npy")]):
        np.testing.assert_allclose(codes_of(run, tmp_path, *words), expected, atol=1e-6)
    Image.fromarray(pixels[0]).resize((16, 16), Image.Resampling.NEAREST).save(folder / "large.png")
    np.testing.assert_allclose(codes_of(run, tmp_path, str(folder / "large.png"))[0], expected[0], atol=0.5)


def test_a_file_that_is_no_picture_is_left_out_of_a_folder_with_a_warning(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 8), 100).save(folder / "one.png")
    (folder / "two.png").write_text("no picture")
    assert codes_of(run, tmp_path, str(folder)).shape == (1, 8)
    assert "1 files" in (warning := capsys.readouterr().err) and "two.png (no picture)" in warning


def test_a_folder_that_is_there_is_meant_though_the_run_s_has_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, count in (("mine", 12), ("hers", 3)):
        (tmp_path / place / "holiday").mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), 20 * number).save(tmp_path / place / "holiday" / f"{number}.png")
    run = train(tmp_path / "runs", MODEL, "--data", f"folder:{tmp_path / 'mine' / 'holiday'}", "--images", "50")
    monkeypatch.chdir(tmp_path / "hers")
    assert len(codes_of(run, tmp_path, "holiday")) == 3
    monkeypatch.chdir(tmp_path)
    assert len(codes_of(run, tmp_path, "holiday")) == 12


def test_numbers_are_shown_with_five_digits_and_seeds_whole() -> None:
    shown = [evaluate._number(value) for value in (23.02412, 1_535_341_212.0, 0.0, -1e-7, None, 1e300)]
    assert shown == ["23.024", "1535341212", "0", "-1e-07", "not finite", "1e+300"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.png"], "there is no file or folder nowhere.png"),
        (
            ["digts"],
            "no file or folder digts, nor a data set: unknown name 'digts' among the 4 datasets; closest: digits",
        ),
        (["empty"], "no picture in empty can be read"),
        (["letter.png"], "letter.png cannot be read as a picture"),
        (["wide.npy"], "wide.npy holds an array (2, 9, 9); the model reads (N, 1, 8, 8)"),
        (["bright.npy"], "bright.npy must hold uint8, or floats between 0 and 1"),
        (["letter.npy"], "letter.npy is no .npy array that can be read"),
        (["digits", "--part", "half"], "--part cannot be 'half'"),
        (["digits", "--out", "codes.csv"], "--out codes.csv is not an .npy file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_images_that_there_are_not_are_refused(
    run: Run,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.png").write_text("no picture")
    (tmp_path / "letter.npy").write_text("no array")
    np.save("wide.npy", np.zeros((2, 9, 9), np.uint8))
    np.save("bright.npy", np.full((2, 8, 8), 3.0))
    assert said in refused_by(encode.command, capsys, str(run.path), *words)


def test_a_data_set_of_another_size_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, **_: load("digits", patch=4, patches=50))
    assert "images of mnist are 4x4 in grey" in refused_by(encode.command, capsys, str(run.path), "mnist")


# Filters


def test_filters_are_a_grid_and_an_array(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters.command([str(run.path), "--out", str(tmp_path / "filters.png"), "--scale", "2", "--columns", "4"])
    filters.command([str(run.path), "--out", str(tmp_path / "filters.npy"), "--count", "3"])
    assert "8 of 8 filters" in (said := capsys.readouterr().out) and "3 of 8 filters" in said
    array = np.load(tmp_path / "filters.npy")
    assert array.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(np.linalg.norm(array.reshape(3, -1), axis=1), 1.0, rtol=1e-4)
    assert Image.open(tmp_path / "filters.png").size == (4 * 17 + 1, 2 * 17 + 1)


def test_a_hundred_hidden_units_are_ten_by_ten(tmp_path: Path) -> None:
    run = train(tmp_path / "runs", "denoising", "--images", "200", "--hidden", "100", "--patch", "4")
    filters.command([str(run.path), "--out", str(tmp_path / "filters.png"), "--scale", "1"])
    assert Image.open(tmp_path / "filters.png").size == (10 * 5 + 1, 10 * 5 + 1)


def test_contrast_is_each_filter_s_own_or_shared_and_zero_is_grey() -> None:
    weights = torch.tensor([[[[1.0, -2.0]]], [[[0.5, 0.0]]]])  # [2, 1, 1, 2]
    assert normalised(weights, "each").flatten().tolist() == [0.75, 0.0, 1.0, 0.5]
    assert normalised(weights, "shared").flatten().tolist() == [0.75, 0.0, 0.625, 0.5]


def test_models_without_filters_are_refused_with_those_that_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "runs", "ns-gan", "--images", "128", "--patch", "4")
    line = refused_by(filters.command, capsys, str(run.path), "--out", str(tmp_path / "filters.png"))
    assert "filters needs a model that can show filters; ns-gan cannot" in line and "denoising" in line


# Scores


def test_scores_are_printed_and_kept_with_their_protocol(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.command([str(run.path), str(run.path), "--samples", "200", "--seed", "5"])
    printed = capsys.readouterr().out
    for part in ("reconstruction error", "probe accuracy", "fid", "180 test images", "200 samples, seed 5", "sha256"):
        assert part in printed
    first, second = run.evaluations()
    assert first["metrics"] == second["metrics"]
    assert first["protocol"]["split"] == "test" and first["protocol"]["seed"] == 5
    assert first["protocol"]["samples"] == 200 and len(first["protocol"]["extractor_sha256"]) == 64
    assert (first["checkpoint_step"], first["which"], first["model"]) == (300, "last", MODEL)


def test_the_validation_images_can_be_scored_instead(run: Run) -> None:
    evaluate.command([str(run.path), "--samples", "0", "--split", "validation"])
    last = run.evaluations()[-1]
    assert last["protocol"]["split"] == "validation" and "fid" not in last["metrics"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which run?"),
        (["nowhere"], "there is no run 'nowhere'"),
        (["RUN", "--samples", "-1"], "samples must be 0 (no metrics of samples) or more"),
        (["RUN", "--samples", "2"], "samples must be 0 (no metrics of samples) or 4 or more"),
        (["RUN", "--split", "train"], "--split cannot be 'train'"),
        (["RUN", "--seed", "-1"], "seed must be 0 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_in_one_line(
    run: Run, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run.path) if word == "RUN" else word for word in arguments]
    assert said in refused_by(evaluate.command, capsys, *words)


def test_a_run_that_is_none_of_this_family_or_damaged_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run.path, tmp_path / "other"))
    info = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(info | {"kind": "agents"}))
    damaged = Path(shutil.copytree(run.path, tmp_path / "damaged"))
    for tensors in damaged.rglob("tensors.safetensors"):
        tensors.write_bytes(tensors.read_bytes()[:-50])
    for command in (encode.command, filters.command, evaluate.command):
        assert "is a run of agents" in refused_by(command, capsys, str(other))
        assert "damaged: tensors.safetensors is truncated" in refused_by(command, capsys, str(damaged))


# Pictures


def test_a_grid_puts_images_in_rows_with_lines_between_them() -> None:
    images = torch.stack([torch.full((1, 2, 3), value) for value in (0.0, 0.5, 1.0)])  # [3, 1, 2, 3]
    grid = make_grid(images, columns=2, scale=1)
    assert grid.shape == (2 * 3 + 1, 2 * 4 + 1) and grid.dtype == np.uint8
    assert grid[1:3, 1:4].tolist() == [[0] * 3] * 2 and grid[1:3, 5:8].tolist() == [[128] * 3] * 2
    assert grid[4:6, 1:4].tolist() == [[255] * 3] * 2
    assert (grid[[0, 3, 6]] == 255).all() and (grid[:, [0, 4, 8]] == 255).all()


def test_a_grid_is_square_coloured_and_large_enough_to_see() -> None:
    grid = make_grid(torch.rand(9, 3, 8, 8))
    assert grid.shape == (3 * 129 + 1, 3 * 129 + 1, 3)
    assert make_grid(torch.rand(100, 1, 28, 28)).shape[0] == 10 * 57 + 1
    assert make_grid(torch.rand(1, 1, 700, 700)).shape == (702, 702)


def test_values_outside_the_range_are_cut_off_and_nan_is_black() -> None:
    image = torch.tensor([-1.0, 2.0, float("nan"), float("inf")]).reshape(1, 1, 1, 4)
    assert make_grid(image, scale=1)[1, 1:5].tolist() == [0, 255, 0, 255]


def test_a_picture_has_the_same_bytes_every_time() -> None:
    picture = make_grid(torch.rand(4, 1, 8, 8))
    assert png(picture) == png(picture) and png(picture)[:4] == b"\x89PNG"
