"""Every registered language model keeps the contract, and `check_language_model` finds what it is there to find."""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import text
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Work
from aprendiz.run import Run
from aprendiz.testing import check_language_model
from language import LANGUAGE, evaluate, sample
from language.train import run_command
from tests.threads import one_thread  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "language"))
from bigram import Bigram  # noqa: E402
from small_texts import sentences, small  # noqa: E402

BUILTINS = [one.name for one in LANGUAGE.describe_all() if one.distribution == "aprendiz"]
SMALL = {"units": 16, "layers": 1, "streams": 4, "length": 16, "batch_size": 4, "dimensions": 8}
"""Sizes that decide how long a moment of training takes, by the names that they have in configs."""
COMMON = ("--wandb", "disabled", "--device", "cpu", "--precision", "fp32")


def reduced(config: Any) -> dict[str, Any]:
    """What to change of a config so that a moment of training takes no longer."""
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes = {name: size for name, size in SMALL.items() if type(known.get(name)) is int and known[name] > size}
    if known.get("tied"):
        changes["embedding"] = changes["units"]
    return changes | ({"threads": 1} if "threads" in known else {})  # two threads do not give the same numbers twice


@functools.cache
def text_for(name: str, level: str) -> Any:
    """A small text that a model can learn from."""
    model = LANGUAGE.get(name)
    if model.needs_labels:
        return text.load("negation", level=level, texts=300)
    return small(level, 400)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_keeps_the_contract_at_all_its_levels(name: str) -> None:
    model = LANGUAGE.get(name)
    for level in model.levels:
        data = text_for(name, level)
        config = model.presets(data.spec)["default"]
        tokens = min(500, len(data.train.ids) // 2)
        check_language_model(model, data, config=dataclasses.replace(config, **reduced(config)), tokens=tokens)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_has_its_paper_and_one_line(name: str) -> None:
    found = LANGUAGE.describe(name)
    assert found.summary and found.paper


# From the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    (tmp_path / "text.txt").write_text(sentences(300))
    return tmp_path


def train(name: str, folder: Path, *arguments: str) -> Run:
    """Trains a small version of a model in a moment."""
    model = LANGUAGE.get(name)
    spec = text_for(name, {**model.text_defaults}.get("level", model.levels[0])).spec
    changes = reduced(model.presets(spec)["default"])
    options = [word for key, value in changes.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    data = ("--data", "negation", "--texts", "300") if model.needs_labels else ("--data", f"file:{folder / 'text.txt'}")
    few = () if model.one_pass else ("--tokens", "1_000")
    minimum = ("--min-count", "1") if "min_count" in model.text_defaults else ()
    assert run_command([name, *data, *options, *few, *minimum, "--validations", "2", *COMMON, *arguments]) == 0
    return Run.open("latest")


def command(folder: Path, module: str, *arguments: str) -> str:
    """What another process prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_is_trained_saved_and_used_from_the_command_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(name, folder)
    able = LANGUAGE.get(name).abilities
    assert run.status()["state"] == "finished" and (run.samples / "curves.png").exists()
    if "predict" in able:
        words = (run.name, "--length", "40", "--prompt", "the ", "--seed", "3")
        capsys.readouterr()
        sample.command(list(words))
        here = capsys.readouterr().out
        assert here.startswith("the ") and len(here.split()) > 3
        assert command(folder, "language.sample", *words) == here
    if "vectors" in able:
        assert "queen" in command(folder, "language.neighbors", run.name, "king", "--n", "30")
    if "classify" in able:
        (line,) = command(folder, "language.classify", run.name, "our meal is not very dull").splitlines()
        assert line.split("\t")[0] in run.config["text"]["spec"]["classes"]
    evaluate.command([run.name])
    (result,) = run.evaluations()
    assert result["checkpoint_step"] == (run.best_step() or run.steps()[-1])


def test_metrics_and_texts_go_to_weights_and_biases_offline(folder: Path) -> None:
    run = train("ngram", folder, "--wandb", "offline")
    (kept,) = (run.path / "wandb").glob("offline-run-*")
    assert list(kept.glob("*.wandb"))
    assert list((kept / "files" / "media" / "html").rglob("*.html"))


# The unspoilt and the spoilt


def check_spoilt(**spoilt: Any) -> None:
    model = type("Spoilt", (Bigram,), spoilt)
    check_language_model(model, small(), tokens=310)


def test_the_unspoilt_one_passes() -> None:
    check_spoilt()


def seed_torch(self: Any, *arguments: Any, **options: Any) -> None:
    torch.manual_seed(options["seed"])
    Bigram.__init__(self, *arguments, **options)


def draw_from_python(self: Any, batch: Any) -> Outcome:
    random.random()
    return Bigram.update(self, batch)


def start_anyhow(self: Any, *arguments: Any, **options: Any) -> None:
    Bigram.__init__(self, *arguments, **options)
    with torch.no_grad():
        self.table.weight.add_(float(np.random.default_rng().normal()))


def forget_the_config(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
    Bigram.__init__(self, config, *arguments, **options)
    self.config = dataclasses.replace(config, noise=0.5)


def keep_another_vocabulary(self: Any, config: Any, spec: Any, vocabulary: Any, **options: Any) -> None:
    Bigram.__init__(self, config, spec, vocabulary, **options)
    self.vocabulary = small().vocabulary


def predict_by_chance(self: Any, tokens: Any, state: Any) -> Any:
    logits, state = Bigram.logits(self, tokens, state)
    return logits + torch.randn(logits.shape, generator=self.generator), state


def look_at_the_others(self: Any, tokens: Any, state: Any) -> Any:
    logits, state = Bigram.logits(self, tokens, state)
    return logits - logits.mean(dim=0), state


def give_one_row(self: Any, tokens: Any, state: Any) -> Any:
    logits, state = Bigram.logits(self, tokens, state)
    return logits[:1], state


def keep_the_gradient(self: Any, tokens: Any, state: Any) -> Any:
    return self.table(tokens), state


def give_doubles(self: Any, tokens: Any, state: Any) -> Any:
    logits, state = Bigram.logits(self, tokens, state)
    return logits.double(), state


def start_with_a_place(self: Any, count: int) -> Any:
    return torch.zeros(count, 1)


def count_in_place(self: Any, tokens: Any, state: Any) -> Any:
    state += 1.0  # where it was read from is lost
    return Bigram.logits(self, tokens, None)[0] * (1 + state), state


def surprise_of_nothing_before(self: Any, ids: Any) -> Any:
    return np.concatenate([[1.0], Bigram.surprisals(self, ids)])


def surprise_of_another_token(self: Any, ids: Any) -> Any:
    return np.roll(Bigram.surprisals(self, ids), 1)


def surprise_in_bits(self: Any, ids: Any) -> Any:
    return Bigram.surprisals(self, ids) / np.log(2)


def surprise_in_single_precision(self: Any, ids: Any) -> Any:
    return Bigram.surprisals(self, ids).astype(np.float32)


def learn_while_validating(self: Any, data: Any, generator: Any) -> Any:
    with torch.no_grad():
        self.table.weight.mul_(0.9)
    return Bigram.validate(self, data, generator)


def draw_while_validating(self: Any, data: Any, generator: Any) -> Any:
    torch.randn(1, generator=self.generator)
    return Bigram.validate(self, data, generator)


def give_no_score(self: Any, data: Any, generator: Any) -> Any:
    return {"nats_per_token": 1.0}


def score_by_chance(self: Any, data: Any, generator: Any) -> Any:
    return {"score": float(np.random.default_rng().normal())}


def evaluate_nothing_finite(self: Any, data: Any, part: str, generator: Any) -> Any:
    return {"nats_per_token": float("inf")}


def learn_nothing(self: Any, batch: Any) -> Outcome:
    return Outcome({"loss": 0.0})


def measure_nothing_finite(self: Any, batch: Any) -> Outcome:
    return Outcome({**Bigram.update(self, batch).metrics, "loss": float("nan")})


def forget_the_generator(self: Any) -> dict[str, Any]:
    state = Bigram.state_dict(self)
    del state["generator"]
    return state


def load_without_the_generator(self: Any, state: Any) -> None:
    Bigram.load_state_dict(self, {**state, "generator": self.generator.get_state()})


def save_an_object(self: Any) -> dict[str, Any]:
    return {**Bigram.state_dict(self), "config": self.config}


def do_more_than_it_says(self: Any) -> Any:
    return self.table.weight.detach().numpy()


def lend_the_weights(self: Any) -> Any:
    return self.table.weight.detach().numpy()


@classmethod  # type: ignore[misc]
def resolve_twice(cls: Any, config: Any, spec: Any, *, train_tokens: int, budget_tokens: int) -> Any:
    return dataclasses.replace(config, learning_rate=1.0 / budget_tokens)


@classmethod  # type: ignore[misc]
def have_no_default(cls: Any, spec: Any) -> dict[str, Any]:
    return {"fast": cls.Config()}


@classmethod  # type: ignore[misc]
def want_no_tokens(cls: Any, config: Any, spec: Any, train_tokens: int) -> Any:
    return 0.5 * train_tokens


def hand_out_more_than_is_left(self: Any, data: Any, *, seed: int) -> Any:
    source = Bigram.make_source(self, data, seed=seed)
    source.next, following = lambda limit=None: following(), source.next
    return source


def hand_out_nothing(self: Any, data: Any, *, seed: int) -> Any:
    source = Bigram.make_source(self, data, seed=seed)
    source.next = lambda limit=None: Work(None, 1, True)
    return source


def forget_the_place(self: Any, data: Any, *, seed: int) -> Any:
    source = Bigram.make_source(self, data, seed=seed)
    source.state_dict, source.load_state_dict = dict, lambda state: None
    return source


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"__init__": seed_torch}, "global random state of torch"),
        ({"update": draw_from_python}, "global random state of Python"),
        ({"__init__": start_anyhow}, "one seed gives two different new models"),
        ({"__init__": forget_the_config}, "model.config is not the config"),
        ({"__init__": keep_another_vocabulary}, "model.vocabulary is not the vocabulary"),
        ({"logits": predict_by_chance}, "twice gives other logits"),
        ({"logits": look_at_the_others}, "depend on the texts beside it"),
        ({"logits": give_one_row}, "logits gave Tensor torch.float32"),
        ({"logits": give_doubles}, "logits gave Tensor torch.float64"),
        ({"logits": keep_the_gradient}, "logits carry a gradient"),
        ({"start": start_with_a_place, "logits": count_in_place}, "changes the state before it"),
        ({"surprisals": surprise_of_nothing_before}, "surprisals gave ndarray float64"),
        ({"surprisals": surprise_in_single_precision}, "surprisals gave ndarray float32"),
        ({"surprisals": surprise_of_another_token}, "the surprisal of token .* by the logits"),
        ({"surprisals": surprise_in_bits}, "the surprisal of token .* by the logits"),
        ({"validate": learn_while_validating}, "other metrics the second time|changed the model's state"),
        ({"validate": draw_while_validating}, "changed the model's state: /generator"),
        ({"validate": give_no_score}, "validate gave no score"),
        ({"validate": score_by_chance}, "other metrics the second time"),
        ({"evaluate": evaluate_nothing_finite}, "metric nats_per_token of evaluate is inf"),
        ({"update": learn_nothing}, "left the model's state as it was"),
        ({"update": measure_nothing_finite}, "metric loss of update is nan"),
        ({"load_state_dict": load_without_the_generator}, "another after loading it: /generator"),
        (
            {"state_dict": forget_the_generator, "load_state_dict": load_without_the_generator},
            "not the one that was not stopped",
        ),
        ({"state_dict": save_an_object}, "cannot be saved.*BigramConfig"),
        ({"vectors": do_more_than_it_says}, "vectors is not among the abilities, and vectors raises no ConfigError"),
        ({"abilities": frozenset({"predict", "dream"})}, "unknown abilities .*dream"),
        ({"abilities": frozenset({"predict", "vectors"}), "vectors": lend_the_weights}, "changes the model"),
        ({"precisions": ("fp64",)}, "precisions are"),
        ({"levels": ("syllable",)}, "levels are"),
        ({"levels": ("word",)}, "the text is of level char"),
        ({"resolve": resolve_twice}, "another budget moves it"),
        ({"presets": have_no_default}, "not called default"),
        ({"default_tokens": want_no_tokens}, "default_tokens of preset default are"),
        ({"make_source": hand_out_more_than_is_left}, "the source went on to"),
        ({"make_source": hand_out_nothing}, "there were 0 updates"),
        ({"make_source": forget_the_place}, "not the one that was not stopped"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(next(iter(value.values())), "__name__", "attribute"),
)
def test_a_spoilt_model_is_found(spoilt: dict[str, Any], said: str) -> None:
    with pytest.raises((AssertionError, ConfigError), match=said):
        check_spoilt(**spoilt)


def test_another_constructor_is_found() -> None:
    class Named(Bigram):
        def __init__(self, config: Any, spec: Any, vocabulary: Any, *, seed: int) -> None:
            super().__init__(config, spec, vocabulary, seed=seed)

    with pytest.raises(AssertionError, match="the constructor does not take .* 'device'"):
        check_language_model(Named, small())
