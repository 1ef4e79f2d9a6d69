"""MNIST with few labels: layers pre-trained on all training images, beside random initialisation of the same network.

For each model (a stacked denoising autoencoder, a deep belief network) and each number of labels:

1. The layers are pre-trained on the 50,000 training images without their labels, once for each seed.
2. Both arms, pre-trained and random, are given one search: the same candidates (learning rate, dropout, noise, length,
   decay), each fine-tuned on the labelled subset of a seed that is reported nowhere, and scored at its end on the
   10,000 validation images. Each arm keeps its own best candidate. There is no early stopping: the last weights count.
3. With it each arm is fine-tuned for every reported seed (another subset, other weights), and scored once on the
   10,000 test images.

The network, its first weights, the labelled images and the order of the batches are the same in both arms. `--labels 0`
stands for all 50,000 labels: there nothing is searched, both arms take ALL_LABELS, which was published for fine-tuning
with dropout, and "random" is the MLP without pre-training. What is done already is kept in `--work` and not done again,
so that an interrupted benchmark goes on: delete the folder to start anew.

    python -m benchmarks.few_labels --folder PATH_OF_THE_IDX_FILES [--labels 100 1000] [--models stacked dbn]
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aprendiz import checkpoint
from aprendiz.cli import main, parse
from aprendiz.config import to_json
from aprendiz.data import load
from aprendiz.data.core import Dataset
from aprendiz.device import keep_freed_memory
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result
from generative.dbn import DBN, DBNConfig
from generative.fine_tuning import StagedConfig, accuracy_metrics
from generative.stacked import StackedAutoencoder, StackedConfig

MODELS: dict[str, Any] = {"stacked": StackedAutoencoder, "dbn": DBN}
NETWORKS: dict[str, StagedConfig] = {
    "stacked": StackedConfig(hidden=(1000, 1000, 1000), fine_tune="classify"),
    "dbn": DBNConfig(hidden=(1000, 1000, 1000), fine_tune="classify"),
}
"""Network and pre-training, chosen beforehand by looking at validation errors."""
MARKS = {100: 18.3, 1_000: 6.4}
"""Test errors in per cent that pre-training should not exceed."""
PUBLISHED_RANDOM = {100: 24.0, 1_000: 11.29}
"""Test errors in per cent that were published for random initialisation."""
ARMS = ("pretrained", "random")

SPACE: dict[str, tuple[Any, ...]] = {
    "fine_tune_learning_rate": (3e-4, 1e-3, 3e-3),
    "dropout": (0.3, 0.5),
    "input_dropout": (0.2, 0.5),
    "input_noise": (0.0, 0.3),
    "lower_layers_share": (0.1, 1.0),
    "fine_tune_images": (50_000, 100_000),
    "weight_decay": (0.0, 1.0),
}
"""What is searched with few labels."""
ALL_LABELS: dict[str, Any] = {
    "fine_tune_learning_rate": 1.5e-3,
    "fine_tune_batch_size": 250,
    "dropout": 0.5,
    "input_dropout": 0.2,
    "max_norm": 3.0,
}
"""Fine-tuning with all labels: dropout and norm of Srivastava et al. 2014, section 6.1.1, for `all_labels_epochs`."""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    folder: Path | None = None
    """The folder of MNIST's four IDX files; None: the cache, or a download."""
    models: tuple[str, ...] = ("stacked", "dbn")
    """Which models."""
    labels: tuple[int, ...] = (100, 1_000)
    """Numbers of labelled images; 0 for all."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds that are reported: of the weights, the labelled subset and the order of the images."""
    search_seed: int = 101
    """The seed of the search."""
    candidates: int = 12
    """Candidates of each search with few labels."""
    pretrain_epochs: int = 20
    """Passes over the training images for each layer."""
    all_labels_epochs: int = 40
    """Passes of fine-tuning with all labels."""
    precision: str = "bf16"
    """Of the networks; machines learn in fp32 whatever it says."""
    threads: int = 1
    """Threads of PyTorch."""
    work: Path = Path("runs/few-labels")
    """Folder of what is done already."""
    search_only: bool = False
    """Stop before the test images are looked at."""


def candidates(labels: int, options: Options) -> list[dict[str, Any]]:
    """What both arms are given to choose from."""
    if labels == 0:
        images = options.all_labels_epochs * 50_000
        return [ALL_LABELS | {"fine_tune_images": images}]
    everything = [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]
    chosen = np.random.default_rng(0).choice(len(everything), min(options.candidates, len(everything)), replace=False)
    return [everything[i] for i in chosen]


class Laboratory:
    """Pre-trained layers and finished measurements, on disk."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.data: Dataset = load("mnist", folder=None if options.folder is None else str(options.folder))
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.record = self.work / "measurements.jsonl"
        self.done: dict[str, dict[str, Any]] = {}
        if self.record.exists():
            for line in self.record.read_text().splitlines():
                entry = json.loads(line)
                self.done[entry["key"]] = entry

    def pretrained(self, model: str, seed: int) -> dict[str, Any]:
        """The state of a model whose layers have been trained, and nothing else."""
        options, network = self.options, NETWORKS[model]
        images = options.pretrain_epochs * len(self.data.train)
        config = dataclasses.replace(network, pretrain_images=images, fine_tune_images=1)
        folder = self.work / f"{model}-{seed}-{options.pretrain_epochs}-{_digest(config)}"
        if not folder.exists():
            learner = MODELS[model](config, self.data.spec, seed=seed, precision=options.precision)
            total, started = images * len(config.hidden), time.perf_counter()  # type: ignore[attr-defined]
            learn(learner, learner.make_source(self.data, seed=seed), total)
            seconds = time.perf_counter() - started
            print(f"{model}: layers of seed {seed} trained on {total:,} images in {seconds:.0f} s", flush=True)
            checkpoint.save(folder, {"state": learner.state_dict(), "seconds": seconds})
        return checkpoint.load(folder)

    def fine_tuned(self, model: str, labels: int, arm: str, seed: int, chosen: dict[str, Any], part: str) -> float:
        """Error in per cent on the images of `part` ("validation" or "test") at the end of fine-tuning."""
        options = self.options
        config = dataclasses.replace(
            NETWORKS[model],
            pretrain=arm == "pretrained",
            pretrain_images=0,
            labels=labels or None,
            **chosen,
        )
        epochs = options.pretrain_epochs if arm == "pretrained" else 0
        key = f"{model}-{arm}-{seed}-{part}-{epochs}-{_digest(config)}"
        if key not in self.done:
            learner = MODELS[model](config, self.data.spec, seed=seed, precision=options.precision)
            if arm == "pretrained":
                take_layers(learner, self.pretrained(model, seed)["state"])
            started = time.perf_counter()
            assert config.fine_tune_images is not None
            learn(learner, learner.make_source(self.data, seed=seed), config.fine_tune_images)
            images = self.data.validation if part == "validation" else self.data.test
            found = accuracy_metrics(learner.classify, images, len(images))
            seconds = time.perf_counter() - started
            entry = {"key": key, "error": 100.0 - 100.0 * found["accuracy"], "seconds": seconds, "chosen": chosen}
            self.done[key] = entry
            with self.record.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(f"{key}: {entry['error']:.2f}% in {seconds:.0f} s, {chosen}", flush=True)
        return float(self.done[key]["error"])

    def searched(self, model: str, labels: int, arm: str) -> list[float]:
        """Validation errors of all candidates; none is measured where there is no choice."""
        seed, choice = self.options.search_seed, candidates(labels, self.options)
        if len(choice) == 1:
            return [float("nan")]
        return [self.fine_tuned(model, labels, arm, seed, one, "validation") for one in choice]


def learn(learner: Any, source: Any, images: int) -> None:
    """A plain training loop."""
    seen = 0
    while seen < images:
        work = source.next(images - seen)
        seen += work.units
        if work.batch is not None:
            learner.update(work.batch)


def take_layers(learner: Any, state: dict[str, Any]) -> None:
    """Gives a new model the layers of a pre-trained one, whose fine-tuning may have other hyperparameters."""
    for name, module in learner.modules().items():
        if name != "classifier":
            module.load_state_dict(state[name])


def _digest(config: StagedConfig) -> str:
    return hashlib.blake2b(json.dumps(to_json(config), sort_keys=True).encode(), digest_size=6).hexdigest()


def run(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.few_labels", description=__doc__ or "")
    before = machine()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    laboratory = Laboratory(options)
    results: dict[str, Any] = {"networks": {}, "results": []}
    rows = [["model", "labels", "arm", "validation (search)", "test, each seed", "mean", "mark"]]
    for model in options.models:
        results["networks"][model] = to_json(NETWORKS[model])
        for labels, arm in itertools.product(options.labels, ARMS):
            errors = laboratory.searched(model, labels, arm)
            best = int(np.argmin(errors))  # 0 where there is only one
            chosen = candidates(labels, options)[best]
            entry: dict[str, Any] = {
                "model": model,
                "labels": labels,
                "arm": arm,
                "search": [
                    {"validation_error": error} | one
                    for error, one in zip(errors, candidates(labels, options), strict=True)
                    if not np.isnan(error)
                ],
                "chosen": chosen,
                "mark": MARKS.get(labels) if arm == "pretrained" else None,
                "published": PUBLISHED_RANDOM.get(labels) if arm == "random" else None,
            }
            if not options.search_only:
                test = [laboratory.fine_tuned(model, labels, arm, seed, chosen, "test") for seed in options.seeds]
                entry |= {"test_errors": test, "mean_test_error": float(np.mean(test))}
            results["results"].append(entry)
            tested: list[float] = entry.get("test_errors", [])
            rows.append(
                [
                    model,
                    str(labels or "all"),
                    arm,
                    "" if np.isnan(errors[best]) else f"{errors[best]:.2f}",
                    " ".join(f"{error:.2f}" for error in tested),
                    f"{entry['mean_test_error']:.2f}" if tested else "",
                    str(entry["mark"] or ""),
                ]
            )
    print_table(rows)
    if not options.search_only:
        results["ratios"] = ratios(results["results"])
        write_result("few_labels", options, results, before)
    return 0


def ratios(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean test error after pre-training over that of random initialisation."""
    means = {(one["model"], one["labels"], one["arm"]): one["mean_test_error"] for one in entries}
    return [
        {"model": model, "labels": labels, "ratio": mean / means[model, labels, "random"]}
        for (model, labels, arm), mean in means.items()
        if arm == "pretrained"
    ]


if __name__ == "__main__":
    main(run)
