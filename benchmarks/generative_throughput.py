"""Training images a second of generative models, beside a plain PyTorch loop of the same model.

Ours is the real thing: batches from the shared source, the model's `update`, the shared loop with logging to a run's
folder. Beside it stands what one would write by hand: the images as one float tensor, shuffled by a permutation each
epoch, the same networks (new ones, with the same initial weights), optimiser, batch size, precision and memory layout,
and the loss written out. By turns, the order changing from round to round; the ratio is the median over rounds. Neither
evaluates nor saves.

    python -m benchmarks.generative_throughput [--models dcgan wgan-gp] [--data mnist]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aprendiz import data, session
from aprendiz.cli import main, parse
from aprendiz.device import autocast, keep_freed_memory
from aprendiz.errors import ConfigError
from aprendiz.loop import Budget, Cadence, train
from aprendiz.run import Run
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result
from generative import GENERATIVE

Loop = Callable[[Any, Tensor, Iterator[Tensor], float], tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Images a second while learning, beside a plain PyTorch loop."""

    models: tuple[str, ...] = ("ns-gan", "dcgan", "wgan-gp", "denoising")
    """Which models."""
    data: str = "mnist"
    """Data set."""
    rounds: int = 5
    """Rounds; in each both learn once."""
    seconds: float = 15.0
    """Length of each turn."""
    seed: int = 1
    """Of networks and data."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.seconds > 0:
            raise ConfigError("--rounds and --seconds must be above 0")
        if unknown := [name for name in self.models if name not in PLAIN]:
            raise ConfigError(f"--models {' '.join(unknown)}: there is a plain loop of {', '.join(PLAIN)}")


def new_model(name: str, dataset: data.core.Dataset, seed: int, precision: str) -> Any:
    cls = GENERATIVE.get(name)
    count = len(dataset.train)
    config = cls.resolve(
        cls.presets(dataset.spec)["default"], dataset.spec, train_images=count, budget_images=20 * count
    )
    return cls(config, dataset.spec, seed=seed, precision=precision)


def learn(model: Any, source: Any, seconds: float) -> float:
    """Images a second of the shared loop, which logs as often as a run of 20 epochs does."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(
            kind="generative", task="t", learner="m", seed=0, config={}, command=[], device="cpu", root=Path(folder)
        )
        cadence = Cadence(log_every_units=2_000, checkpoint_every_minutes=1e9, step_name="images")
        state = train(model, source, run, Budget(minutes=seconds / 60), cadence=cadence, progress=False).state
        run.close()
    return state.units / state.elapsed_seconds


def batches(images: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def average(model: Any) -> None:
    with torch.no_grad():
        for mine, theirs in zip(
            model.average.network.state_dict().values(), model.generator.state_dict().values(), strict=True
        ):
            mine.lerp_(theirs, 0.001) if mine.is_floating_point() else mine.copy_(theirs)


def plain_game(model: Any, real: Tensor, count: int) -> None:
    """Update number `count` of a game with cross-entropy, and R1 where it has it: ns-gan and dcgan."""
    ones, zeros, size = torch.ones(len(real)), torch.zeros(len(real)), model.config.latent_dimensions
    real = 2 * real - 1 if model.signed else real
    with autocast(model.device, model.precision):
        fake = model.generator(torch.randn(len(real), size))
        real_logits, fake_logits = model.discriminator(real), model.discriminator(fake.detach())
    d_loss = F.binary_cross_entropy_with_logits(real_logits.float(), ones)
    d_loss = d_loss + F.binary_cross_entropy_with_logits(fake_logits.float(), zeros)
    gamma, period = getattr(model.config, "gradient_penalty", 0.0), getattr(model.config, "penalty_period_updates", 1)
    if gamma and count % period == 0:
        points = real.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.discriminator(points).sum(), points, create_graph=True)
        d_loss = d_loss + period * gamma / 2 * gradient.flatten(1).square().sum(dim=1).mean()
    step(model.discriminator_optimizer, d_loss)
    with autocast(model.device, model.precision):
        if not getattr(model.config, "same_fakes", False):
            fake = model.generator(torch.randn(len(real), size))
        logits = model.discriminator(fake)
    step(model.generator_optimizer, F.binary_cross_entropy_with_logits(logits.float(), ones))
    average(model)


def plain_wgan_gp(model: Any, images: Tensor, count: int) -> None:
    """One update of wgan-gp: k steps of the critic, one of the generator."""
    config, critic, generator = model.config, model.discriminator, model.generator
    for part in (2 * images - 1).split(config.batch_size):
        size = len(part)
        with autocast(model.device, model.precision):
            with torch.no_grad():
                fake = generator(torch.randn(size, config.latent_dimensions)).float()
            difference = critic(fake).float().mean() - critic(part).float().mean()
            weights = torch.rand(size, 1, 1, 1)
            points = (weights * part + (1 - weights) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(points).float().sum(), points, create_graph=True)
        penalty = (gradient.flatten(1).float().norm(dim=1) - 1).square().mean()
        step(model.discriminator_optimizer, difference + config.penalty_weight * penalty)
    with autocast(model.device, model.precision):
        values = critic(generator(torch.randn(size, config.latent_dimensions)))
    step(model.generator_optimizer, -values.float().mean())
    average(model)


def plain_denoising(model: Any, images: Tensor, count: int) -> None:
    """One update of a denoising autoencoder with masking noise, the cross-entropy and weight decay."""
    kept = torch.rand(images.shape) >= model.config.noise_level
    with autocast(model.device, model.precision):
        logits = model.network.decode(model.network.encode(images * kept)).float()
    loss = F.binary_cross_entropy_with_logits(logits.flatten(1), images.flatten(1), reduction="none").sum(1).mean()
    weights = [module.weight for module in model.network.modules() if isinstance(module, torch.nn.Linear)]
    step(model.optimizer, loss + model.config.weight_decay / 2 * sum(weight.square().sum() for weight in weights))


PLAIN = {
    "ns-gan": plain_game,
    "dcgan": plain_game,
    "wgan-gp": plain_wgan_gp,
    "denoising": plain_denoising,
}
"""The update of each model, as one would write it out."""


def plain(name: str, model: Any, images: Tensor, seed: int, seconds: float) -> float:
    """Images a second of the plain loop."""
    size = model.config.batch_size * getattr(model.config, "discriminator_steps", 1)
    started = time.perf_counter()
    for count, batch in enumerate(batches(images, size, torch.Generator().manual_seed(seed))):
        PLAIN[name](model, batch, count)
        if (passed := time.perf_counter() - started) >= seconds:
            return (count + 1) * size / passed
    raise AssertionError("there is always another batch")


def measure(name: str, options: Options, dataset: data.core.Dataset) -> dict[str, Any]:
    images = dataset.train.scaled(slice(None))
    rates = {}
    for precision in GENERATIVE.get(name).precisions:  # as the command chooses it
        model = new_model(name, dataset, options.seed, precision)
        rates[precision] = session.rate_of(model, model.make_source(dataset, seed=options.seed))
    precision, _ = session.fastest(rates)
    ours, theirs = [], []
    for number in range(options.rounds + 1):
        turns: list[Callable[[], float]] = [
            lambda: learn(
                model := new_model(name, dataset, options.seed, precision),
                model.make_source(dataset, seed=options.seed),
                options.seconds,
            ),
            lambda: plain(
                name, new_model(name, dataset, options.seed, precision), images, options.seed, options.seconds
            ),
        ]
        order = (0, 1) if number % 2 else (1, 0)
        rate = {turn: turns[turn]() for turn in order}
        if number:  # the first round warms up
            ours.append(rate[0])
            theirs.append(rate[1])
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "precision": precision,
        "ours_images_per_second": spread(ours),
        "plain_images_per_second": spread(theirs),
        "ratio": spread(ratios),
    }


def run(argv: list[str]) -> int:
    options: Options = parse(
        Options, argv, prog="python -m benchmarks.generative_throughput", description=__doc__ or ""
    )
    keep_freed_memory()
    before = machine()
    dataset = data.load(options.data)
    results = {}
    rows = [["model", "precision", "ours, images/s", "plain, images/s", "ratio"]]
    for name in options.models:
        found = results[name] = measure(name, options, dataset)
        ours, theirs = found["ours_images_per_second"]["median"], found["plain_images_per_second"]["median"]
        ratio = found["ratio"]
        text = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        rows.append([name, found["precision"], f"{ours:,.0f}", f"{theirs:,.0f}", text])
        print(f"{name}: {text}", flush=True)
    print_table(rows)
    worst = min(float(np.float64(found["ratio"]["median"])) for found in results.values())
    write_result("generative_throughput", options, {"models": results, "worst_ratio": worst}, before)
    return 0


if __name__ == "__main__":
    main(run)
