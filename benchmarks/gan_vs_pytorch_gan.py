"""Our DCGAN beside the DCGAN script of PyTorch-GAN (github.com/eriklindernoren/PyTorch-GAN) on MNIST.

Two questions, each on all cores that PyTorch uses by itself:

throughput   training images a second by turns. Ours learns the script's own network (described again below, with its
             batch normalisation of epsilon 0.8, dropout and upsampling), at its batch size of 64 and 32x32 pixels, with
             its Adam, through our source, losses, average of weights and loop.
fid          both learn for the same minutes, the script as it stands, ours by `generative.train dcgan`. Then 10,000
             samples of each are compared with the 10,000 test images through the classifier that comes with aprendiz.
             The script draws 32x32: its samples are resized to 28x28, and compared both with the test images and with
             test images that went through 32x32 too; it draws with statistics of the batch, or with running ones. The
             best of these four numbers counts as the script's. The floor is that of 10,000 training images.

    python -m benchmarks.gan_vs_pytorch_gan --peer PATH/TO/PyTorch-GAN
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz import data, session
from aprendiz.cli import main, parse
from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset, ImageSpec
from aprendiz.device import keep_freed_memory
from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result
from benchmarks.generative_throughput import learn
from benchmarks.pytorch_gan_peer import SCRIPT
from generative.core import Purpose, torch_generator
from generative.dcgan import DCGAN, DCGANConfig
from generative.gan_networks import initialise
from generative.metrics import class_balance, fid, judge_for

SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """DCGAN beside PyTorch-GAN's script."""

    peer: Path
    """A checkout of PyTorch-GAN."""
    what: tuple[Literal["throughput", "fid"], ...] = ("throughput", "fid")
    """Which of the two questions."""
    rounds: int = 5
    """Rounds of the throughput; in each both learn once."""
    seconds: float = 30.0
    """Length of each turn."""
    minutes: float = 10.0
    """How long each learns before its samples are compared."""
    seed: int = 1
    """Of ours; the script draws its own."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.seconds > 0 or not self.minutes > 0:
            raise ConfigError("--rounds, --seconds and --minutes must be above 0")
        if not (self.peer / SCRIPT).is_file():
            raise ConfigError(f"--peer {self.peer} holds no {SCRIPT}; clone github.com/eriklindernoren/PyTorch-GAN")


class PeerGenerator(nn.Module):
    """The script's generator: a dense layer to 8x8, twice upsampled by repetition and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(100, 128 * 8 * 8)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.BatchNorm2d(128, eps=0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64, eps=0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        grid = self.project(latent).view(-1, 128, 8, 8)
        return self.layers(grid.contiguous(memory_format=torch.channels_last))


class PeerDiscriminator(nn.Module):
    """The script's discriminator, up to its logit."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Dropout2d(0.25)]
            layers += [nn.BatchNorm2d(after, eps=0.8)] if before > 1 else []
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Linear(128 * 2 * 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layers(images.contiguous(memory_format=torch.channels_last))
        return self.logit(hidden.flatten(1)).squeeze(1)


class PeerDCGAN(DCGAN):
    """Our DCGAN with the script's networks."""

    def _networks(self, config: DCGANConfig, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        networks = PeerGenerator(), PeerDiscriminator()
        for network in networks:
            initialise(network)
        return networks


def peer(options: Options, images: np.ndarray, seconds: float, samples: int = 0) -> dict[str, Any]:
    """What the script did in so many seconds: the arrays that benchmarks/pytorch_gan_peer.py writes."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        command = [sys.executable, "-m", "benchmarks.pytorch_gan_peer", str(options.peer.resolve())]
        command += [
            f"{folder}/images.npy",
            str(seconds),
            f"{folder}/out.npz",
            str(torch.get_num_threads()),
            str(samples),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with np.load(Path(folder) / "out.npz") as saved:
            return dict(saved)


def enlarged(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Images uint8 [N, H, W] resized as the script does, uint8 [N, size, size]."""
    from PIL import Image

    kind = Image.Resampling.BILINEAR
    return np.stack([np.array(Image.fromarray(image).resize((size, size), kind)) for image in images])


def throughput(options: Options, images: np.ndarray) -> dict[str, Any]:
    dataset = from_arrays("mnist-32", enlarged(images))
    config = DCGANConfig(  # as the script's; our average of weights comes on top of it
        latent_dimensions=100,
        batch_size=64,
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        final_learning_rate=1.0,
        adam_beta1=0.5,
        adam_beta2=0.999,
        gradient_penalty=0.0,
    )

    def model(precision: str) -> PeerDCGAN:
        return PeerDCGAN(config, dataset.spec, seed=options.seed, precision=precision)

    rates = {}
    for precision in DCGAN.precisions:
        trial = model(precision)
        rates[precision] = session.rate_of(trial, trial.make_source(dataset, seed=options.seed))
    precision, _ = session.fastest(rates)
    ours, theirs = [], []
    for number in range(options.rounds):
        for turn in (0, 1) if number % 2 else (1, 0):
            if turn == 0:
                learner = model(precision)
                ours.append(learn(learner, learner.make_source(dataset, seed=options.seed), options.seconds))
            else:
                found = peer(options, images, options.seconds)
                theirs.append(float(found["images"]) / float(found["seconds"]))
        print(f"throughput {number + 1}: ours {ours[-1]:,.0f}, theirs {theirs[-1]:,.0f} images/s", flush=True)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "precision": precision,
        "images_per_second_by_precision": rates,
        "ours_images_per_second": spread(ours),
        "peer_images_per_second": spread(theirs),
        "ratio": spread(ratios),
    }


def ours_trained(options: Options, folder: Path) -> tuple[Tensor, dict[str, Any]]:
    """Samples [SAMPLES, 1, 28, 28] of a run of the command, and what is to be told of it."""
    from aprendiz.run import Run
    from generative.saved import open_model

    command = [sys.executable, "-m", "generative.train", "dcgan", "--data", "mnist", "--wandb", "disabled"]
    command += ["--minutes", str(options.minutes), "--seed", str(options.seed)]
    done = subprocess.run(
        command, env=os.environ | {"APRENDIZ_RUNS": str(folder)}, check=True, stdout=subprocess.PIPE, text=True
    )
    found = re.search(rf"{re.escape(str(folder))}/\S+", done.stdout)
    assert found is not None, done.stdout
    run = Run.open(found.group().rstrip(":"))
    saved = open_model(run, "last", "cpu")
    samples = saved.model.sample(SAMPLES, torch_generator(options.seed, Purpose.EVALUATION))
    told = {"command": " ".join(command[1:]), "images": saved.step, "precision": run.config["precision"]}
    return samples, told


def small(images: Tensor) -> Tensor:
    """Images [N, 1, 32, 32] in [0, 1] as [N, 1, 28, 28]."""
    return F.interpolate(images, (28, 28), mode="bilinear", antialias=True).clamp(0, 1)


def quality(options: Options, mnist: Dataset, images: np.ndarray) -> dict[str, Any]:
    judge = judge_for(mnist)
    assert judge is not None
    test = mnist.test.pixels(slice(0, SAMPLES))
    real = judge.features(test.float() / 255)
    through = torch.from_numpy(enlarged(test[:, 0].numpy())).unsqueeze(1).float() / 255
    round_trip = judge.features(small(through))
    chosen = torch.randperm(len(mnist.train), generator=torch.Generator().manual_seed(options.seed))[:SAMPLES]
    floor = fid(judge.features(mnist.train.pixels(chosen).float() / 255), real)
    with tempfile.TemporaryDirectory() as folder:
        samples, told = ours_trained(options, Path(folder))
    mine = fid(judge.features(samples), real)
    print(f"ours: FID {mine:.2f} after {told['images']:,} images; floor {floor:.2f}", flush=True)
    found = peer(options, images, 60 * options.minutes, SAMPLES)
    numbers: dict[str, float] = {}
    balances: dict[str, Any] = {"ours": class_balance(judge.logits(samples))._asdict()}
    for how in ("as_trained", "running_statistics"):
        drawn = small((torch.from_numpy(found[how]).float() + 1) / 2)
        features = judge.features(drawn)
        numbers[f"{how}_against_test"] = fid(features, real)
        numbers[f"{how}_against_resized_test"] = fid(features, round_trip)
        balances[f"peer_{how}"] = class_balance(judge.logits(drawn))._asdict()
    best = min(numbers.values())
    print(f"theirs: FID {best:.2f} after {int(found['images']):,} images", flush=True)
    return {
        "extractor": {"name": judge.name, "sha256": judge.sha256},
        "samples": SAMPLES,
        "floor": floor,
        "ours": {"fid": mine, "fid_over_floor": mine / floor, **told},
        "peer": {"fid": best, "by_how": numbers, "images": int(found["images"])},
        "class_balance": balances,
        "fid_ratio": mine / best,
    }


def run(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.gan_vs_pytorch_gan", description=__doc__ or "")
    keep_freed_memory()
    before = machine()
    mnist = data.load("mnist")
    images = np.concatenate([part.pixels(slice(None))[:, 0].numpy() for part in (mnist.train, mnist.validation)])
    result: dict[str, Any] = {}
    rows = [["", "ours", "PyTorch-GAN", "ratio"]]
    if "throughput" in options.what:
        found = result["throughput"] = throughput(options, images)
        ours, theirs = found["ours_images_per_second"]["median"], found["peer_images_per_second"]["median"]
        rows.append(["its network, images/s", f"{ours:,.0f}", f"{theirs:,.0f}", f"{found['ratio']['median']:.2f}"])
    if "fid" in options.what:
        found = result["fid"] = quality(options, mnist, images)
        numbers = found["ours"]["fid"], found["peer"]["fid"], found["fid_ratio"]
        rows.append([f"FID after {options.minutes:g} minutes", *(f"{number:.2f}" for number in numbers)])
    print_table(rows)
    write_result("gan_vs_pytorch_gan", options, result, before)
    return 0


if __name__ == "__main__":
    main(run)
