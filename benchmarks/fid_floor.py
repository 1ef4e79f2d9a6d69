"""What is the lowest FID, and the highest precision and recall, that a sampler of MNIST can be asked for?

10,000 training images, drawn by each seed, in place of samples, against the 10,000 test images, through the classifier
that comes with aprendiz; and the same for the validation images, which it did not learn from. Choose nothing by it: it
looks at the test images.

    python -m benchmarks.fid_floor
    python -m benchmarks.fid_floor --folder /path/to/the/four/idx/files
"""

from __future__ import annotations

from dataclasses import dataclass

from aprendiz import data
from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from benchmarks.common import BenchmarkOptions, machine, print_table, spread, write_result
from generative.metrics import judge_for
from generative.metrics.evaluation import SAMPLES, compare, floor

NAMES = ("fid", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """FID of training images against test images of MNIST."""

    seeds: int = 5
    """Draws of training images, from seed 0 on."""
    folder: str = ""
    """With MNIST's four IDX files; empty: the cache, or a download."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}")


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.fid_floor", description=__doc__ or "")
    before = machine()
    mnist = data.load("mnist", **({"folder": options.folder} if options.folder else {}))
    judge = judge_for(mnist)
    if judge is None or "of aprendiz" not in judge.name:
        raise ConfigError("these are not the published images of MNIST")
    real = judge.look_at(mnist.test)[0]
    draws = [floor(judge, mnist.train, real, SAMPLES, seed) for seed in range(options.seeds)]
    held_out = compare(real, judge.look_at(mnist.validation)[0], 0)
    trained_on = {name: spread([draw[name] for draw in draws]) for name in NAMES}
    rows = [["in place of samples", "FID", "precision", "recall"]]
    rows += [[f"training images, seed {seed}", *_row(draw)] for seed, draw in enumerate(draws)]
    rows += [["validation images", *_row(held_out)]]
    print(f"{judge.name}, sha256 {judge.sha256}")
    print(f"{len(real):,} test images against {SAMPLES:,} others\n")
    print_table(rows)
    result = {
        "judge": {"name": judge.name, "sha256": judge.sha256, "accuracy": judge.accuracy},
        "training_images": trained_on,
        "validation_images": held_out,
    }
    write_result("fid_floor", options, result, before)
    return 0


def _row(scores: dict[str, float]) -> list[str]:
    return [f"{scores['fid']:.3f}", f"{scores['precision']:.3f}", f"{scores['recall']:.3f}"]


if __name__ == "__main__":
    main(run_command)
