"""`python -m generative.train` from end to end: what it leaves behind, stopping and going on, and what it refuses."""

from __future__ import annotations

import functools
import json
import math
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_autoencoder import LinearAutoencoder
from PIL import Image

from aprendiz.data.source import DataSource
from aprendiz.loop import Outcome
from aprendiz.run import Run
from generative.saved import open_model
from generative.train import parse_order, run_command
from tests import training_runs
from tests.training_runs import (
    assert_same_run,
    change_config,
    forget,
    full_disk,
    killed_and_resumed,
    lines,
    plain,
    record_tracking,
    refused_by,
    truncate_the_tensors,
)

COMMON = ("--wandb", "disabled", "--device", "cpu")
MODEL = "linear_autoencoder:LinearAutoencoder"
LINEAR = (MODEL, "--pictures", "4", "--validations", "4", *COMMON)
"""Small enough to be trained many times."""
refused = functools.partial(refused_by, run_command)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def train(*arguments: str) -> Run:
    """Trains to the end; returns the run."""
    assert run_command(list(arguments)) == 0
    return Run.open("latest")


def resume(run: Run, *arguments: str) -> Run:
    assert run_command(["--resume", str(run.path), *COMMON[:2], *arguments]) == 0
    return Run.open(run.path)


def stop_at(images: int, arguments: list[str], number: signal.Signals = signal.SIGTERM) -> Run:
    return training_runs.stop_at(images, run_command, arguments, number, DataSource)


# Stopping and going on


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(tmp_path_factory.mktemp("whole")))
        return train(*LINEAR, "--epochs", "2", "--shift-pixels", "1")


@pytest.mark.parametrize(
    ("stops", "number"),
    [
        ((100,), signal.SIGINT),
        ((700, 1_450), signal.SIGTERM),  # in the step before a validation, and just into the second epoch
        ((2_810,), signal.SIGTERM),  # just before the end
    ],
)
def test_interrupted_equals_uninterrupted(whole: Run, stops: tuple[int, ...], number: signal.Signals) -> None:
    run = stop_at(stops[0], [*LINEAR, "--epochs", "2", "--shift-pixels", "1"], number)
    assert run.status()["state"] == "stopped" and run.status()["step"] >= stops[0]
    for stop in stops[1:]:
        run = stop_at(stop, ["--resume", str(run.path), *COMMON[:2]], number)
    run = resume(run)
    assert run.status()["state"] == "finished"
    assert_same_run(run, whole)


@pytest.mark.parametrize("name", ["denoising", "stacked", "vae", "rbm", "dbn", "ns-gan", "wgan-gp", "pixelcnn"])
def test_families_of_models_go_on_exactly(name: str) -> None:
    """Averages, replayed images, chains, stages and several optimisers among them."""
    small = ("--images", "640", "--validations", "0", "--pictures", "0", "--patch", "4", "--patches", "200")
    arguments = (name, *small, *COMMON)
    assert_same_run(resume(stop_at(150, [*arguments])), train(*arguments))


def test_one_seed_gives_one_training_and_another_seed_another() -> None:
    one, two, other = (train(*LINEAR, "--images", "400", "--seed", seed) for seed in ("3", "3", "4"))
    assert_same_run(one, two)
    assert lines(one) != lines(other)


def test_a_finished_run_goes_on_to_a_larger_total_and_nothing_of_it_moves() -> None:
    settings = ("--validations", "0", "--pictures", "0")
    run = train(*LINEAR, *settings, "--images", "500")
    before = run.config
    run = resume(run, "--images", "1_000")
    assert run.config["budget"] == {"images": 1_000, "epochs": None, "minutes": None, "planned_images": 500}
    assert run.config | {"budget": 0} == before | {"budget": 0}
    other = train(*LINEAR, *settings, "--images", "1_000")
    np.testing.assert_equal(plain(run.load()["learner"]), plain(other.load()["learner"]))
    run = resume(run, "--epochs", "1")
    assert run.load()["loop"]["units"] == 1_437 == run.config["data"]["sizes"]["train"]


def test_a_run_that_has_seen_its_images_says_so_and_keeps_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(*LINEAR, "--images", "200")
    before = (run.path / "metrics.jsonl").read_bytes()
    assert "has already made 200 of 200 images; give a larger total" in refused(capsys, "--resume", str(run.path))
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_the_clock_ends_a_run_whose_schedules_were_planned_by_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aprendiz.session.MEASURE_SECONDS", 0.05)
    run = train(*LINEAR, "--minutes", "0.005")
    assert run.config["budget"]["images"] is None and run.config["budget"]["planned_images"] > 0
    assert run.status()["state"] == "finished"
    resume(run, "--images", str(run.load()["loop"]["units"] + 100))


def test_without_a_budget_the_model_decides() -> None:
    run = train(*LINEAR)
    assert run.load()["loop"]["units"] == 3 * 1_437
    assert run.config["budget"] == {"images": 4_311, "epochs": 3, "minutes": None, "planned_images": 4_311}


def test_an_older_checkpoint_can_be_gone_on_from(whole: Run, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(whole.path, tmp_path / "copy"))
    older = [step for step in run.steps() if step < 2_874]
    assert older
    assert_same_run(resume(run, "--checkpoint", str(older[-1])), whole)


def test_kill_9_at_any_moment_leaves_a_run_that_goes_on_exactly() -> None:
    often = ("--checkpoint-minutes", "1e-9", "--images", "500")
    words, module = (*LINEAR, *often), "generative.train"
    whole, killed = killed_and_resumed(module, words, COMMON[:2], range(60, 160, 33), Path(__file__).parent)
    for run in killed:
        assert_same_run(run, whole)


# What it leaves behind


def test_a_run_holds_pictures_curves_and_everything_that_decided_it(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(*LINEAR, "--epochs", "2", "--flip-horizontal", "--scaling", "min-max")
    printed = capsys.readouterr().out
    config = run.config
    assert (run.kind, run.task, run.learner) == ("generative", "digits", MODEL)
    assert config["data"]["name"] == "digits" and config["data"]["options"]["scaling"] == "min-max"
    assert config["data"]["sizes"] == {"train": 1_437, "validation": 180, "test": 180}
    assert config["data"]["augment"]["flip_horizontal"] is True and len(config["data"]["fingerprint"]) == 32
    assert config["data"]["spec"]["height"] == 8 and config["data"]["scaling"]["kind"] == "min-max"
    assert config["model"]["preset"] == "default" and config["model"]["hyperparameters"]["code_units"] == 8
    assert config["budget"] == {"images": 2_874, "epochs": 2, "minutes": None, "planned_images": 2_874}
    names = {path.name.partition("-")[0] for path in run.samples.iterdir()}
    assert names == {"images", "reconstructions", "curves.png"}
    with Image.open(run.samples / "images-000000002874.png") as picture:
        assert picture.mode == "L" and picture.size == (2 * (8 * 16 + 1) + 1,) * 2
    assert {"train/loss", "eval/score", "eval/reconstruction_error"} <= {
        name for line in run.metrics() for name in line
    }
    assert "for 2 epochs (2,874 images)" in printed and "1,437 train, 180 validation, 180 test" in printed
    for command in ("sample", "evaluate", "filters"):
        assert f"python -m generative.{command} {run.name}" in printed
    assert "best checkpoint: image" in printed


def test_pictures_show_the_same_latent_vectors_all_along() -> None:
    run = train(*LINEAR, "--images", "400", "--learning-rate", "1e-12")  # nothing moves, so neither do they
    drawn = sorted(run.samples.glob("images-*.png"))
    assert len(drawn) > 1 and len({path.read_bytes() for path in drawn}) == 1


def test_pictures_of_a_slow_model_are_drawn_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
        return (drawn.append(1), original(self, count, generator, labels))[1]

    drawn: list[int] = []
    original = LinearAutoencoder.sample
    monkeypatch.setattr(LinearAutoencoder, "sample", slow)
    monkeypatch.setattr("aprendiz.time_share.SHARE_OF_TIME", 0.0)
    run = train(*LINEAR, "--images", "400")
    assert len(drawn) == 2 and run.samples.joinpath("images-000000000400.png").exists()  # the first and the last


def test_a_model_that_only_encodes_is_trained_without_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LinearAutoencoder, "sample")
    monkeypatch.setattr(
        "generative.core.GenerativeModel.sample", lambda self, *_: (_ for _ in ()).throw(self._cannot("sample"))
    )
    run = train(*LINEAR, "--images", "100")
    assert {path.name.partition("-")[0] for path in run.samples.iterdir()} == {"reconstructions", "curves.png"}


def test_the_judge_is_asked_for_only_by_models_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("generative.metrics.judge.judge_for", lambda dataset, **_: asked.append(dataset.spec.name))
    train(*LINEAR, "--images", "100")
    assert asked == []
    monkeypatch.setattr(LinearAutoencoder, "wants_judge", True)
    train(*LINEAR, "--images", "100")
    assert asked == ["digits"]


def test_pictures_metrics_and_curves_go_to_weights_and_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    made = record_tracking(monkeypatch, "images")
    arguments = [word for word in LINEAR if word not in ("--wandb", "disabled")]
    run = stop_at(120, [*arguments, "--images", "300", "--wandb", "offline"])
    assert run_command(["--resume", run.name]) == 0
    first, second = made
    assert first.given.run_id == second.given.run_id == run.info["wandb_id"]
    assert (first.given.resumed, second.given.resumed) == (False, True)
    assert first.given.step_metric == "images" and first.given.config["model"]["name"] == MODEL
    assert first.logged[-1] <= 200 < second.logged[0]
    assert {"sample/images", "sample/reconstructions", "sample/curves"} == set(second.media)
    assert first.ended == [200, "finished with 0"] and second.ended == [300, "finished with 0"]


@pytest.mark.parametrize("backbone", ["mlp", "conv-encoder"])
def test_the_encoder_can_be_chosen_and_is_the_same_class_that_agents_use(backbone: str) -> None:
    from aprendiz import BACKBONES

    run = train("autoencoder", "--backbone", backbone, "--images", "100", "--pictures", "0", *COMMON)
    assert run.config["model"]["hyperparameters"]["backbone"] == backbone
    encoder = [type(one) for one in open_model(run).model.modules()["network"].modules()]
    assert BACKBONES.get(backbone) in encoder


# Losses that are no numbers


@pytest.fixture
def diverges_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def arrange(update: int) -> None:
        original, count = LinearAutoencoder.update, [0]

        def explode(self: Any, batch: Any) -> Outcome:
            outcome = original(self, batch)
            count[0] += 1
            if count[0] < update:
                return outcome
            with torch.no_grad():
                self.decoder.bias.fill_(math.nan)
            return Outcome({"loss": torch.tensor(math.nan)})

        monkeypatch.setattr(LinearAutoencoder, "update", explode)

    return arrange


def test_nan_losses_stop_the_run_keep_the_good_checkpoint_and_say_what_to_lower(
    diverges_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        diverges_at(8)  # the checkpoint before is that of the validation at 250 images
        line = refused(capsys, *LINEAR, "--images", "1_000")
        patch.undo()
    run = Run.open("latest")
    assert re.search(
        rf"{run.name} diverged: loss became nan between 350 and 400 images; checkpoint 250 is whole and kept; lower "
        rf"the learning rate \(learning_rate is 0\.001\) in a new run, or go on with .* --resume {run.name} "
        r"--learning-rate-factor 0\.1$",
        line,
    )
    assert (run.status()["state"], run.status()["step"]) == ("diverged", 250)
    assert run.steps() == [250]
    assert torch.isfinite(open_model(run).model.encode(torch.rand(2, 1, 8, 8))).all()


def test_a_run_that_diverged_goes_on_with_a_lower_learning_rate(
    diverges_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = LinearAutoencoder.update
    diverges_at(8)
    refused(capsys, *LINEAR, "--images", "1_000")
    monkeypatch.setattr(LinearAutoencoder, "update", original)
    run = resume(Run.open("latest"), "--learning-rate-factor", "0.1")
    assert run.status()["state"] == "finished" and run.load()["loop"]["units"] == 1_000
    assert run.config["model"]["hyperparameters"]["learning_rate"] == pytest.approx(1e-4)
    assert open_model(run).model.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_a_run_that_diverged_before_any_checkpoint_does_not_offer_to_go_on(
    diverges_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    diverges_at(1)
    line = refused(capsys, *LINEAR, "--images", "1_000")
    assert "no checkpoint had been saved before; lower the learning rate (learning_rate is 0.001)" in line
    assert "--resume" not in line


# The user's own pictures


def picture_folder(folder: Path, count: int = 12, size: int = 9) -> Path:
    generator = np.random.default_rng(0)
    for index in range(count):
        path = folder / ("a" if index % 2 else "b") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return folder


def test_a_folder_of_pictures_with_broken_ones_among_them_trains_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = picture_folder(tmp_path / "holiday")
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "letter.png").write_text("dear all")
    Image.new("CMYK", (20, 30), (10, 20, 30, 40)).save(folder / "b" / "print.jpg")
    Image.new("L", (1, 1), 7).save(folder / "b" / "dot.png")
    run = train(MODEL, "--data", f"folder:{folder}", "--size", "8", "--images", "100", "--pictures", "4", *COMMON)
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "cut.png" in warning and "letter.png" in warning and "2 of 16 files" in warning
    assert "2 can be used, but look odd: b/dot.png (1x1, enlarged), b/print.jpg (CMYK, " in warning
    assert run.task == "holiday" and run.name.startswith("holiday-")
    assert run.config["data"]["name"] == f"folder:{folder}"
    assert run.config["data"]["spec"]["channels"] == 3 and run.config["data"]["spec"]["classes"] == ["a", "b"]


def test_a_folder_is_found_again_from_elsewhere_and_one_that_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = picture_folder(tmp_path / "holiday")
    monkeypatch.chdir(tmp_path)
    run = train(MODEL, "--data", "folder:holiday", "--images", "50", *COMMON)
    monkeypatch.chdir("/")
    run = resume(run, "--images", "80")
    Image.new("RGB", (9, 9)).save(folder / "a" / "1.png")
    line = refused(capsys, "--resume", str(run.path), "--images", "120", *COMMON[:2])
    assert re.search(r"the images of folder:.*holiday have changed since .* began \(fingerprint \w+, now \w+\)", line)
    shutil.rmtree(folder)
    assert "there is no folder" in refused(capsys, "--resume", str(run.path), "--images", "120", *COMMON[:2])


def test_whether_pictures_fit_in_memory_is_decided_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--data", f"folder:{picture_folder(tmp_path / 'holiday')}", "--images", "50", *COMMON)
    run = train(MODEL, *options)
    kept = run.config["data"]["options"]
    assert kept["stream"] is False and kept["size"] == 9 and kept["colour"] == "rgb"
    monkeypatch.setattr("aprendiz.data.folder.available_memory", lambda device: 1)
    assert resume(run, "--images", "80").steps()[-1] == 80
    assert train(MODEL, *options).config["data"]["options"]["stream"] is True


@pytest.mark.parametrize(
    ("words", "stream"),
    [(["--stream"], True), (["--no-stream"], False), (["--stream", "False"], False), (["--stream", "None"], False)],
    ids=str,
)
def test_a_choice_that_may_be_left_open_is_a_flag_too(tmp_path: Path, words: list[str], stream: bool) -> None:
    folder = picture_folder(tmp_path / "holiday")
    order = parse_order([MODEL, "--data", f"folder:{folder}", *words, "--images", "50"])
    assert order.data_options["stream"] is stream and order.options.images == 50


# What it refuses: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["denosing"], "unknown name 'denosing'.* closest: denoising"),
        (["denoising", "--data", "mnits"], "unknown name 'mnits' among the .* datasets; closest: mnist"),
        (["denoising", "--data", "folder:/nowhere"], "there is no folder /nowhere"),
        ([], "name a model first"),
        (["--epochs", "5"], "name a model first"),
        (["denoising", "--epohcs", "5"], "unknown option --epohcs; closest: --epochs"),
        (["denoising", "more"], "unexpected argument more"),
        (["denoising", "--epochs"], "--epochs needs a value"),
        (["denoising", "--epochs", "0"], "--epochs must be above 0, got 0"),
        (["denoising", "--epochs", "many"], "--epochs takes INT or None, not 'many'"),
        (["denoising", "--epochs", "1", "--images", "5"], "give --epochs or --images, not both"),
        (["denoising", "--minutes", "nan"], "--minutes must be above 0"),
        (["denoising", "--seed", "-1"], "--seed must be 0 or more"),
        (["denoising", "--validations", "-1"], "--validations must be 0 or more"),
        (["denoising", "--pictures", "-1"], "--pictures must be 0 or more"),
        (["denoising", "--checkpoint-minutes", "0"], "--checkpoint-minutes must be above 0"),
        (["denoising", "--preset", "fsat"], "has no preset 'fsat' for digits; it has default"),
        (["denoising", "--backbone", "mpl"], "unknown name 'mpl' among the .* backbones; closest: mlp"),
        (["denoising", "--precision", "fp64"], "--precision cannot be 'fp64'"),
        (["denoising", "--device", "tpu"], "unknown device 'tpu': use auto, cpu, cuda or mps"),
        (["denoising", "--wandb", "maybe"], "--wandb cannot be 'maybe'"),
        (["denoising", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["denoising", "--patch", "99"], "patch"),
        (["denoising", "--patch", "big"], "--patch takes INT or None, not 'big'"),
        (["denoising", "--scaling", "upwards"], "scaling"),
        (["denoising", "--rotation-degrees", "999"], "rotation_degrees must be between 0 and 180"),
        (["--resume"], "--resume needs a value"),
        (["--resume", "nowhere"], "there is no run 'nowhere'"),
        (["--resume", "latest"], "there is no run at all"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, refused(capsys, *arguments))
    assert not runs.exists()


def test_labels_are_needed_by_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = picture_folder(tmp_path / "holiday")
    shutil.rmtree(folder / "a")
    said = refused(capsys, "conditional-gan", "--data", f"folder:{folder}", *COMMON)
    assert "conditional-gan learns from labelled images, and holiday has no labels" in said
    said = refused(capsys, "conditional-gan", "--patch", "4", *COMMON)
    assert "conditional-gan learns from labelled images, and patches of digits have no labels" in said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(tmp_path_factory.mktemp("finished")))
        return train(*LINEAR, "--images", "200", "--validations", "2")


def change_the_network(folder: Path) -> None:
    info = json.loads((folder / "config.json").read_text())
    info["config"]["model"]["hyperparameters"]["code_units"] = 3
    (folder / "config.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change_config(kind="agents"), "is a run of agents; use python -m agents"),
        (forget("data"), "config.json lacks data: it was cut"),
        (truncate_the_tensors, "damaged: tensors.safetensors .*no other checkpoint of this run is whole"),
        (change_the_network, "does not fit its own config.json"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__name__,
)
def test_a_run_that_cannot_be_resumed_says_why_in_one_line(
    finished: Run, damage: Callable[[Path], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished.path, tmp_path / "run"))
    damage(folder)
    assert re.search(said, refused(capsys, "--resume", str(folder), "--images", "400", *COMMON[:2]))


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_once_there_is_room(
    capsys: pytest.CaptureFixture[str],
) -> None:
    often = (*LINEAR, "--images", "500", "--checkpoint-minutes", "1e-9", "--pictures", "0")
    whole = train(*often)
    with full_disk(30):
        line = refused(capsys, *often)
    assert "No space left on device; " in line and "make room" in line
    run = Run.open("latest")
    assert 0 < run.load()["loop"]["units"] < 500
    assert_same_run(resume(run), whole)


def test_a_run_goes_on_on_another_kind_of_device_in_full_precision() -> None:
    run = train(*LINEAR, "--images", "200")
    change_config(config=run.config | {"device": "cuda", "precision": "bf16"})(run.path)
    config = resume(Run.open(run.path), "--images", "400", "--device", "cpu").config
    assert (config["device"], config["precision"]) == ("cpu", "fp32")
