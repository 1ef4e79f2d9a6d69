"""Our recurrent models beside nanoGPT's recipe for CPUs, on tiny Shakespeare: seconds of training, nats a character.

nanoGPT (github.com/karpathy/nanoGPT) runs as its README says for a CPU, in a process of its own, from a checkout that
`--peer` names: block 64, batches of 12, 4 layers, 4 heads, 128 embedding, 2,000 iterations, dropout 0. It is asked for
no evaluation but the one before its first step, whose seconds are taken off. Its model is then scored as ours is.

The same for both: the split (the last tenth of the characters is the test part, scored once, at the end), the protocol
(random windows of 256 characters, each from no context; nanoGPT, whose block is 64, reads each window in stretches that
overlap, so that every character but the first 64 has at least 32 before it), the number of cores, and nothing else
running. Each budget has two runs of ours. The first learns from eight tenths of the text and looks at the ninth, by
which everything was chosen, to tell when 1.50 and 1.46 were reached; it is not charged for the seconds that looking
takes, and the schedule is that of the budget, so that such a time is that of a run planned for it. (The ninth tenth is
easier than the last: n-grams have 1.49 nats there and 1.69 on the test part.) The second run learns from nine tenths as
nanoGPT does, looks at nothing, and is scored on the test part.

    python -m benchmarks.char_rnn --peer PATH/TO/nanoGPT --minutes 1 5
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import let_idle_threads_sleep, main, parse

ASKED = os.environ.get("OMP_WAIT_POLICY")
let_idle_threads_sleep()  # as `python -m language.train` does

import numpy as np  # noqa: E402
import torch  # noqa: E402

from aprendiz import session, text  # noqa: E402
from aprendiz.config import to_json  # noqa: E402
from aprendiz.device import keep_freed_memory  # noqa: E402
from aprendiz.errors import ConfigError  # noqa: E402
from aprendiz.text.core import TextData, Tokens  # noqa: E402
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result  # noqa: E402
from language import LANGUAGE  # noqa: E402
from language.core import Purpose, derived_seed, torch_generator  # noqa: E402
from language.held_out import windows  # noqa: E402

MARKS = (1.50, 1.46)
"""Nats a character of the validation part whose time is told."""
PUBLISHED = 1.88
"""What nanoGPT's README says of its recipe."""
PEER_FLAGS = {"block_size": 64, "batch_size": 12, "n_layer": 4, "n_head": 4, "n_embd": 128, "max_iters": 2000} | {
    "lr_decay_iters": 2000,
    "dropout": 0.0,
    "device": "cpu",
    "compile": False,
    "eval_iters": 1,
    "eval_interval": 1_000_000,
    "log_interval": 100,
}
"""The README's command, but for how often it evaluates."""


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """Recurrent models beside nanoGPT's recipe for CPUs."""

    peer: Path | None = None
    """A checkout of nanoGPT; None: ours alone."""
    data: str = "tiny-shakespeare"
    """The text: its name, or file:PATH."""
    model: str = "gru"
    """Which of ours."""
    presets: tuple[str, ...] = ("fast", "large")
    """Its hyperparameters for each budget; a single one for all."""
    set: tuple[str, ...] = ()
    """Others, as `units=384`."""
    minutes: tuple[float, ...] = (1.0, 5.0)
    """Budgets, each a run of its own."""
    looks: int = 30
    """Looks at the validation part in each run."""
    seed: int = 1
    """Of ours; nanoGPT has its own."""
    threads: int = 2
    """Threads of both."""
    test: bool = True
    """Whether the test part is scored at the end. Off while anything is still being chosen."""

    def __post_init__(self) -> None:
        if len(self.presets) not in (1, len(self.minutes)):
            raise ConfigError("--presets wants one for all --minutes, or one for each")
        if not self.minutes or min(self.minutes) <= 0 or self.looks < 1 or self.threads < 1:
            raise ConfigError("--minutes, --looks and --threads must be above 0")
        if self.peer is not None and not (self.peer / "train.py").is_file():
            raise ConfigError(f"--peer {self.peer} holds no train.py; clone github.com/karpathy/nanoGPT")


def hyperparameters(options: Options, preset: str, model_class: Any, data: TextData) -> Any:
    """The preset with what `--set` changes. Raises ConfigError."""
    presets = model_class.presets(data.spec)
    if preset not in presets:
        raise ConfigError(f"--presets must be of {', '.join(presets)}, got {preset}")
    changes: dict[str, Any] = {}
    for one in options.set:
        name, _, value = one.partition("=")
        try:
            changes[name] = json.loads(value.lower())
        except ValueError as error:
            raise ConfigError(f"--set {one}: give name=number") from error
    try:
        return dataclasses.replace(presets[preset], **changes)
    except TypeError as error:
        raise ConfigError(f"--set {' '.join(options.set)}: {error}") from error


def nine_tenths(data: TextData) -> TextData:
    """The text with its validation part as more to learn from."""
    parts = (data.train, data.validation)
    ids = np.concatenate([part.ids for part in parts])
    return dataclasses.replace(data, train=Tokens(ids, sum(part.characters for part in parts)))


def ours(options: Options, preset: str, data: TextData, minutes: float, *, looks: int) -> dict[str, Any]:
    """One run of so many minutes of training; looking at the validation part takes none of them."""
    model_class = LANGUAGE.get(options.model)
    chosen = hyperparameters(options, preset, model_class, data)
    rates: dict[str, float] = {}

    def build(config: Any, precision: str) -> tuple[Any, Any]:
        model = model_class(config, data.spec, data.vocabulary, seed=options.seed, precision=precision)
        return model, model.make_source(data, seed=derived_seed(options.seed, Purpose.DATA))

    size = {"train_tokens": len(data.train)}
    for precision in model_class.precisions:
        rates[precision] = session.rate_of(
            *build(model_class.resolve(chosen, data.spec, budget_tokens=10**6, **size), precision)
        )
    precision, rate = session.fastest(rates)
    planned = session.round_plan(int(rate * 60 * minutes))
    config = model_class.resolve(chosen, data.spec, budget_tokens=planned, **size)
    model, source = build(config, precision)
    curve: list[dict[str, float]] = []
    tokens, seconds, next_look = 0, 0.0, 1
    started = time.perf_counter()
    while seconds < 60 * minutes and tokens < planned:
        work = source.next(planned - tokens)
        if work.batch is not None:
            model.update(work.batch)
        tokens += work.units
        now = seconds + time.perf_counter() - started
        ended = now >= 60 * minutes or tokens >= planned
        if ended or (looks and tokens >= next_look * planned / looks):
            seconds, next_look = now, next_look + 1
            if not looks:
                break
            generator = torch_generator(options.seed, Purpose.VALIDATION)
            found = windows(model, data.validation.ids, generator, count=200)["windows_nats_per_token"]
            curve.append({"seconds": seconds, "tokens": tokens, "validation_nats": found})
            print(f"  {seconds:6.1f} s  {tokens:12,} characters  validation {found:.4f}", flush=True)
            started = time.perf_counter()
    result: dict[str, Any] = {
        "minutes": minutes,
        "preset": preset,
        "hyperparameters": to_json(config),
        "precision": precision,
        "characters_per_second_by_precision": rates,
        "planned_characters": planned,
        "characters": tokens,
        "seconds": seconds,
    }
    if looks:
        result["curve"] = curve
        result["validation_seconds_to"] = {str(mark): _first(curve, mark) for mark in MARKS}
    else:
        result["test"] = model.evaluate(data, "test", torch_generator(options.seed, Purpose.EVALUATION))
    return result


def _first(curve: list[dict[str, float]], mark: float) -> float | None:
    return next((point["seconds"] for point in curve if point["validation_nats"] <= mark), None)


def peer(options: Options, data: TextData) -> dict[str, Any]:
    """nanoGPT's recipe on training and validation part together, scored on the windows that ours is scored on."""
    assert options.peer is not None
    folder = options.peer.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for path in folder.iterdir():
            if path.suffix == ".py":
                (work / path.name).write_bytes(path.read_bytes())
        (work / "config").mkdir()
        (work / "config" / "train_shakespeare_char.py").write_bytes(
            (folder / "config" / "train_shakespeare_char.py").read_bytes()
        )
        place = work / "data" / "shakespeare_char"
        place.mkdir(parents=True)
        train = np.concatenate([np.asarray(part.ids, np.uint16) for part in (data.train, data.validation)])
        train.tofile(place / "train.bin")
        np.asarray(data.validation.ids, np.uint16).tofile(place / "val.bin")  # nothing is chosen by it
        (work / "request.json").write_text(
            json.dumps(
                {
                    "vocabulary_size": data.spec.vocabulary_size,
                    "threads": options.threads,
                    "flags": [f"--{name}={value}" for name, value in PEER_FLAGS.items()],
                }
            )
        )
        starts = torch.randint(
            len(data.test) - 256, (400,), generator=torch_generator(options.seed, Purpose.EVALUATION)
        ).numpy()
        stretches = np.stack([np.asarray(data.test.ids[start : start + 257], np.int64) for start in starts])
        np.save(work / "windows.npy", stretches)
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        if ASKED is None:
            del environment["OMP_WAIT_POLICY"]  # nanoGPT knows nothing of it
        command = [sys.executable, str(Path(__file__).with_name("nanogpt_peer.py")), str(work)]
        subprocess.run(command, check=True, env=environment, cwd=work)
        return json.loads((work / "result.json").read_text())


def run(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.char_rnn", description=__doc__ or "")
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    before = machine()
    loaded = text.load(options.data, level="char")
    assert isinstance(loaded, TextData)
    result: dict[str, Any] = {"text": loaded.spec.name, "fingerprint": loaded.fingerprint, "published_peer": PUBLISHED}
    rows = [["", "seconds", "nats (windows of 256)", "carried", "s to 1.50", "s to 1.46"]]
    runs = result["ours"] = []
    presets = options.presets * (len(options.minutes) if len(options.presets) == 1 else 1)
    for preset, minutes in zip(presets, options.minutes, strict=True):
        print(f"{options.model}, {preset}, {minutes:g} minutes", flush=True)
        found = ours(options, preset, loaded, minutes, looks=options.looks)
        entry = {"minutes": minutes, "eight_tenths": found}
        runs.append(entry)
        reached = [found["validation_seconds_to"][str(mark)] for mark in MARKS]
        last = found["curve"][-1]["validation_nats"]
        times = ["-" if value is None else f"{value:.0f}" for value in reached]
        rows.append([f"{options.model}, validation", f"{found['seconds']:.0f}", f"{last:.4f}", "-", *times])
        if options.test:
            found = entry["nine_tenths"] = ours(options, preset, nine_tenths(loaded), minutes, looks=0)
            nats = [f"{found['test'][name]:.4f}" for name in ("windows_nats_per_token", "nats_per_token")]
            rows.append([f"{options.model}, test", f"{found['seconds']:.0f}", *nats, "-", "-"])
    if options.peer is not None:
        theirs = result["peer"] = peer(options, loaded)
        rows.append(["nanoGPT, CPU recipe", f"{theirs['seconds']:.0f}", f"{theirs['nats']:.4f}", "-", "-", "-"])
        result["seconds_ratio"] = [theirs["seconds"] / run["eight_tenths"]["seconds"] for run in runs]
    print_table(rows)
    kind, separator, path = options.data.partition(":")
    shown = dataclasses.replace(options, data=f"{kind}{separator}{Path(path).name}")
    names = ["char_rnn"] + ([] if options.model == "gru" else [options.model])
    names += [] if loaded.spec.name.replace("-", "") == "tinyshakespeare" else [loaded.spec.name]
    write_result("_".join(names), shown, result, before)
    return 0


if __name__ == "__main__":
    main(run)
