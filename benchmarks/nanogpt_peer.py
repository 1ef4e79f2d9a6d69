"""Runs nanoGPT's own train.py in a folder that benchmarks/char_rnn.py prepares, and scores its model there.

    python nanogpt_peer.py FOLDER       (a process of its own, started in that folder)

FOLDER has a copy of its Python files, the data, `request.json` and `windows.npy` int64 [N, 257]. Writes `result.json`.
Only train.py's clock is ours: seconds from its first batch to the end of its loop, less those of its evaluations.
"""

from __future__ import annotations

import json
import pickle
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

STRETCH, STEP = 64, 32
"""nanoGPT's block, and by how much the stretches move on that cover a window."""


class _Clock:
    """Seconds since it was made, but for those spent inside what it wraps."""

    def __init__(self) -> None:
        self.started, self.off = time.perf_counter(), 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self.started - self.off


def main(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    torch.set_num_threads(request["threads"])
    with (folder / "data" / "shakespeare_char" / "meta.pkl").open("wb") as file:  # train.py reads it
        pickle.dump({"vocab_size": request["vocabulary_size"]}, file)
    sys.path.insert(0, str(folder))
    sys.argv = ["train.py", "config/train_shakespeare_char.py", *request["flags"]]
    from model import GPT  # type: ignore[import-not-found]

    clock = _Clock()
    evaluating = GPT.eval

    def timed_eval(model: Any) -> Any:
        model.evaluation_started = time.perf_counter()
        return evaluating(model)

    training = GPT.train

    def timed_train(model: Any, mode: bool = True) -> Any:
        if mode and (started := getattr(model, "evaluation_started", None)) is not None:
            clock.off += time.perf_counter() - started
            model.evaluation_started = None
        return training(model, mode)

    GPT.eval, GPT.train = timed_eval, timed_train
    found = runpy.run_path(str(folder / "train.py"))
    seconds = clock.seconds()
    windows = torch.from_numpy(np.load(folder / "windows.npy"))
    nats = score(found["model"].eval(), windows)
    result = {
        "seconds": seconds,
        "nats": nats,
        "iterations": found["iter_num"] - 1,
        "threads": torch.get_num_threads(),
        "parameters": sum(weight.numel() for weight in found["model"].parameters()),
    }
    (folder / "result.json").write_text(json.dumps(result))


@torch.no_grad()
def score(model: Any, windows: torch.Tensor) -> float:
    """Mean -log p of all but the first token of windows int64 [N, 257]: each is covered by stretches of 64 tokens that
    overlap by half, and a token is scored in the stretch that shows most of what is before it."""
    total, count = 0.0, 0
    for chunk in windows.split(50):
        inputs, targets = chunk[:, :-1], chunk[:, 1:]
        for start in range(0, inputs.shape[1] - STRETCH + 1, STEP):
            stop = start + STRETCH
            # With targets it returns the logits of every place.
            logits, _ = model(inputs[:, start:stop].contiguous(), targets[:, start:stop].contiguous())
            skip = 0 if start == 0 else STRETCH - STEP
            surprisals = torch.nn.functional.cross_entropy(
                logits[:, skip:].flatten(0, 1).float(), targets[:, start + skip : stop].flatten(), reduction="sum"
            )
            total, count = total + float(surprisals), count + targets[:, start + skip : stop].numel()
    return total / count


if __name__ == "__main__":
    main(Path(sys.argv[1]))
