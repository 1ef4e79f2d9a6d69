"""Whether a language model keeps the contract."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aprendiz.errors import ConfigError
from aprendiz.testing.common import (
    Training,
    difference,
    form,
    global_random_state_left_alone,
    require,
    scalars,
    through_a_checkpoint,
)

ABILITIES = ("predict", "vectors", "classify")
LEVELS = ("char", "byte", "word")


def check_language_model(
    model_class: Any, data: Any, *, config: Any = None, tokens: int = 2_000, seed: int = 7
) -> None:
    """Train a model for a moment and raise AssertionError, saying what is wrong, where it breaks the contract.

    `model_class` is a subclass of `language.core.LanguageModel`, `data` an `aprendiz.text.core.TextData`
    (LabelledTexts where the model learns from labels), and `config` what it is checked with (the preset `default`
    unless given; give a small batch where that one is large). It sees `tokens` training tokens, is saved, and sees as
    many again: of a model of one pass the text has to have as many.

    Checked: presets, their JSON, and that `resolve` moves nothing twice; the constructor; the source's units; finite
    scalar metrics; that learning changes the state; that one seed gives one training and another seed another (unless
    it says that the seed decides nothing); that a checkpoint loaded into a fresh model goes on exactly and predicts
    the same; shapes, dtypes and range of everything that it can do: that logits make a distribution, that surprisals
    are those of the logits, with the state carried, and that neither depends on the texts beside, on the future, or on
    what was read in another state; a ConfigError for everything that it cannot; that looking at a model changes
    nothing of it; and that the global random states of Python, NumPy and torch are left alone.
    """
    with global_random_state_left_alone():
        config = _check_configs(model_class, data, config, 2 * tokens)
        make = _Maker(model_class, data, config)
        first = make(seed)
        _check_class(model_class, first.learner, config, data)
        untrained = through_a_checkpoint(first.learner.state_dict())
        where = difference(untrained, through_a_checkpoint(make(seed).learner.state_dict()))
        require(not where, f"one seed gives two different new models: {where}")
        record = first.train(tokens)
        with tempfile.TemporaryDirectory() as folder:
            saved = first.save(Path(folder))
            _check_looking(first.learner, data, seed)
            record += first.train(2 * tokens)
            _check_learning(first, record, untrained)
            _check_same_training(make, first, record, tokens, seed)
            _check_resuming(make, first, saved, Path(folder), record, tokens, seed)
        _close(first)


class _Maker:
    """Makes trainings of one kind."""

    def __init__(self, model_class: Any, data: Any, config: Any) -> None:
        self.model_class, self.data, self.config = model_class, data, config

    def __call__(self, seed: int) -> Training:
        model = self.model_class(self.config, self.data.spec, self.data.vocabulary, seed=seed)
        return Training(model, model.make_source(self.data, seed=seed), overshoot=1)


def _check_configs(model_class: Any, data: Any, config: Any, budget_tokens: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""
    from aprendiz.config import from_json, to_json

    kind = model_class.Config
    parameters = getattr(kind, "__dataclass_params__", None)
    require(parameters is not None and parameters.frozen, f"Config {kind.__name__} is not a frozen dataclass")
    presets = model_class.presets(data.spec)
    require(list(presets)[:1] == ["default"], f"the first preset is not called default: {list(presets)}")
    configs = {f"preset {name}": preset for name, preset in presets.items()}
    configs |= {} if config is None else {"config": config}
    train_tokens = len(data.train.ids)
    for name, one in configs.items():
        require(isinstance(one, kind), f"{name} is a {type(one).__name__}, not a {kind.__name__}")
        usual = model_class.default_tokens(one, data.spec, train_tokens)
        require(type(usual) is int and usual > 0, f"default_tokens of {name} are {usual!r}; give an int above 0")
        resolved = model_class.resolve(one, data.spec, train_tokens=train_tokens, budget_tokens=budget_tokens)
        require(isinstance(resolved, kind), f"resolve made {name} a {type(resolved).__name__}, not a {kind.__name__}")
        again = model_class.resolve(resolved, data.spec, train_tokens=train_tokens, budget_tokens=10 * budget_tokens)
        require(again == resolved, f"{name}: resolving a resolved config with another budget moves it")
        for variant in (one, resolved):
            try:
                back = from_json(kind, json.loads(json.dumps(to_json(variant))))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name} is not JSON-able: {error}") from error
            require(back == variant, f"{name} comes back from JSON as {back}, not as {variant}")
    chosen = configs.get("config", presets["default"])
    return model_class.resolve(chosen, data.spec, train_tokens=train_tokens, budget_tokens=budget_tokens)


def _check_class(model_class: Any, model: Any, config: Any, data: Any) -> None:
    import torch

    try:
        inspect.signature(model_class).bind(config, data.spec, data.vocabulary, seed=1, device="cpu", precision="fp32")
    except TypeError as error:
        takes = "(config, spec, vocabulary, *, seed, device, precision)"
        raise AssertionError(f"the constructor does not take {takes}: {error}") from error
    require(model.config is config or model.config == config, "model.config is not the config that it was made with")
    require(model.spec == data.spec, "model.spec is not the spec that it was made with")
    require(model.vocabulary is data.vocabulary, "model.vocabulary is not the vocabulary that it was made with")
    unknown = sorted(set(model.abilities) - set(ABILITIES))
    require(not unknown, f"unknown abilities {unknown}; there are {', '.join(ABILITIES)}")
    for name, allowed in (
        ("precisions", ("fp32", "bf16")),
        ("devices", ("cpu", "cuda", "mps")),
        ("levels", LEVELS),
    ):
        value = getattr(model_class, name)
        right = isinstance(value, tuple) and set(value) <= set(allowed) and len(value) > 0
        require(right, f"{name} are {value!r}; give a tuple of {', '.join(allowed)}")
    require(data.spec.level in model_class.levels, f"the text is of level {data.spec.level}, not one of its levels")
    for name, module in model.modules().items():
        require(isinstance(module, torch.nn.Module), f"modules()[{name!r}] is a {type(module).__name__}")


def _check_learning(training: Training, record: list[Any], untrained: dict[str, Any]) -> None:
    require(training.updates > 1, f"there were {training.updates} updates within {training.units} tokens")
    learned = difference(untrained, through_a_checkpoint(training.learner.state_dict()))
    require(bool(learned), f"{training.updates} updates left the model's state as it was")
    named = {tuple(sorted(metrics)) for _, _, metrics in record if metrics}
    require(len(named) == 1, f"updates give metrics of changing names: {sorted(named)}")
    for name in scalars(training.source.metrics(), "the source"):
        require("/" in name, f"the source's metric {name!r} belongs to no family, such as train/{name}")


def _check_same_training(make: _Maker, first: Training, record: list[Any], tokens: int, seed: int) -> None:
    """Other objects with the same seed; the first one was looked at on the way, and these are not."""
    second, other = make(seed), make(seed + 1)
    repeated = second.train(tokens) + second.train(2 * tokens)
    where = difference(record, repeated) or difference(_state(first), _state(second))
    require(not where, f"one seed gives two different trainings, or looking at a model changes it: {where}")
    other.train(tokens)
    other.train(2 * tokens)
    learners = _state(first)["learner"], _state(other)["learner"]
    seeded = make.model_class.seeded
    require(bool(difference(*learners)) or not seeded, "two seeds give one and the same training")
    _close(second)
    _close(other)


def _check_resuming(
    make: _Maker, whole: Training, saved: dict[str, Any], folder: Path, record: list[Any], tokens: int, seed: int
) -> None:
    """A checkpoint goes on in a fresh model, of another seed so that nothing comes from that; only the source keeps
    it, since the order of the text comes from it."""
    resumed = make(seed + 2)
    _close(resumed)
    resumed.source = resumed.learner.make_source(make.data, seed=seed)
    resumed.load(saved, folder)
    where = difference(saved["learner"], through_a_checkpoint(resumed.learner.state_dict()))
    require(not where, f"the model's state is another after loading it: {where}")
    continued = resumed.train(2 * tokens)
    where = difference(record[-len(continued) :], continued) or difference(_state(whole), _state(resumed))
    require(not where, f"a resumed training is not the one that was not stopped: {where}")
    where = difference(_say(whole.learner, make.data), _say(resumed.learner, make.data))
    require(not where, "the same weights say something else in another object")
    _close(resumed)


def _check_looking(model: Any, data: Any, seed: int) -> None:
    """Everything but learning; none of it may leave a trace."""
    before = through_a_checkpoint(model.state_dict())
    for name in ABILITIES:
        if name not in model.abilities:
            _check_refusal(model, name, data)
    if "predict" in model.abilities:
        _check_predicting(model, data)
    if "vectors" in model.abilities:
        _check_vectors(model)
    if "classify" in model.abilities:
        _check_classifying(model, data)
    for what in ("validate", "evaluate"):
        _check_metrics(model, data, what, seed)
    where = difference(before, through_a_checkpoint(model.state_dict()))
    require(not where, f"predicting or validating changed the model's state: {where}")


def _say(model: Any, data: Any) -> dict[str, Any]:
    """What a model has to say, of each kind."""
    said: dict[str, Any] = {}
    if "predict" in model.abilities:
        said["surprisals"] = model.surprisals(_ids(data, 50))
    if "vectors" in model.abilities:
        said["vectors"] = model.vectors()
    if "classify" in model.abilities:
        said["classes"] = model.classify(_texts(data, 3))
    return said


def _check_predicting(model: Any, data: Any) -> None:
    import torch

    ids = _ids(data, 24)
    others = ids[::-1].copy()
    pair = _read(model, [ids, others]), _read(model, [ids, others])
    require(not difference(*pair), "reading the same text twice gives other logits")
    logits = pair[0][:, 0]  # [T, V]
    alone = _read(model, [ids])[:, 0]
    require(np.allclose(logits, alone, rtol=1e-3, atol=1e-3), "logits of a text depend on the texts beside it")
    state = model.start(1)
    now = torch.tensor([int(ids[0])])
    _, after = model.logits(now, state)
    once, _ = model.logits(now, state)
    require(np.allclose(once.numpy()[0], alone[0], rtol=1e-3, atol=1e-3), "reading a token changes the state before it")
    model.logits(torch.tensor([int(ids[5])]), after)  # another way on from here
    next_one, _ = model.logits(torch.tensor([int(ids[1])]), after)
    same = np.allclose(next_one.numpy()[0], alone[1], rtol=1e-3, atol=1e-3)
    require(same, "reading a token changes the state before it")
    surprises = model.surprisals(ids)
    right = isinstance(surprises, np.ndarray) and surprises.shape == (len(ids) - 1,)
    require(
        right and surprises.dtype == np.float64,
        f"surprisals gave {form(surprises)}; they must be float64 [{len(ids) - 1}]",
    )
    require(bool(np.isfinite(surprises).all()), "surprisals are not finite")
    require(bool((surprises >= -1e-6).all()), f"a surprisal is below 0: {surprises.min()}")
    chances = torch.from_numpy(alone).double().log_softmax(dim=1).numpy()
    expected = -chances[np.arange(len(ids) - 1), ids[1:]]
    where = np.abs(surprises - expected).argmax()
    require(
        np.allclose(surprises, expected, rtol=1e-2, atol=1e-2),
        f"the surprisal of token {where + 1} is {surprises[where]:.4f}, and by the logits {expected[where]:.4f}",
    )
    begun = model.surprisals(ids[:12])
    require(np.allclose(surprises[:11], begun, rtol=1e-3, atol=1e-3), "surprisals depend on what comes after")


def _read(model: Any, texts: list[Any]) -> np.ndarray:
    """Logits float32 [T, B, V] of texts side by side, with everything about them checked."""
    import torch

    state, rows = model.start(len(texts)), []
    size = model.spec.vocabulary_size
    for tokens in np.stack(texts, axis=1).astype(np.int64):
        given = torch.from_numpy(tokens)
        logits, state = model.logits(given, state)
        right = isinstance(logits, torch.Tensor) and tuple(logits.shape) == (len(texts), size)
        require(
            right and logits.dtype == torch.float32 and logits.device.type == "cpu",
            f"logits gave {form(logits)}; they must be float32 {(len(texts), size)} on the CPU",
        )
        require(bool(torch.isfinite(logits).all()), "logits are not finite")
        require(not logits.requires_grad, "logits carry a gradient")
        require(np.array_equal(given.numpy(), tokens), "the tokens that were given were written to")
        rows.append(logits.numpy().copy())
    return np.stack(rows)


def _check_vectors(model: Any) -> None:
    vectors = model.vectors()
    size = model.spec.vocabulary_size
    right = isinstance(vectors, np.ndarray) and vectors.ndim == 2 and len(vectors) == size
    require(right and vectors.dtype == np.float32, f"vectors gave {form(vectors)}; they must be float32 [{size}, D]")
    require(bool(np.isfinite(vectors).all()), "vectors are not finite")
    require(bool((vectors != 0).any()), "all vectors are zero")
    kept = vectors.copy()
    if vectors.flags.writeable:
        vectors[:] = 0.0
        require(np.array_equal(model.vectors(), kept), "who changes what `vectors` gave changes the model")


def _check_classifying(model: Any, data: Any) -> None:
    import torch

    texts = _texts(data, 4)
    logits = model.classify(texts)
    size = (len(texts), len(model.spec.classes))
    right = isinstance(logits, torch.Tensor) and tuple(logits.shape) == size and logits.dtype == torch.float32
    require(right, f"classify gave {form(logits)}; it must be float32 {size}")
    require(bool(torch.isfinite(logits).all()), "classify gave what is not finite")
    alone = torch.cat([model.classify([one]) for one in texts])
    same = torch.allclose(logits, alone, rtol=1e-3, atol=1e-3)
    require(same, "the class of a text depends on the texts beside it (is what fills up short ones left out?)")


def _check_refusal(model: Any, name: str, data: Any) -> None:
    import torch

    calls: dict[str, list[tuple[str, tuple[Any, ...]]]] = {
        "predict": [
            ("start", (1,)),
            ("logits", (torch.zeros(1, dtype=torch.int64), None)),
            ("surprisals", (_ids(data, 5),)),
        ],
        "vectors": [("vectors", ())],
        "classify": [("classify", ([_ids(data, 5)],))],
    }
    for method, arguments in calls[name]:
        try:
            getattr(model, method)(*arguments)
        except ConfigError:
            continue
        raise AssertionError(f"{name} is not among the abilities, and {method} raises no ConfigError")


def _check_metrics(model: Any, data: Any, what: str, seed: int) -> None:
    import torch

    def measure() -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        if what == "validate":
            return model.validate(data, generator)
        return model.evaluate(data, "validation", generator)

    metrics = measure()
    require(isinstance(metrics, dict), f"{what} gave a {type(metrics).__name__}, not a dict")
    for name, value in metrics.items():
        require(
            isinstance(name, str) and type(value) in (int, float), f"{what} gave {name!r}: {form(value)}, no number"
        )
    scalars(metrics, what)
    if what == "validate":
        require("score" in metrics, f"validate gave no score: {sorted(metrics)}")
    again = measure()
    require(metrics == again, f"the same generator gives other metrics the second time: {metrics} and {again}")


def _ids(data: Any, count: int) -> np.ndarray:
    ids = data.validation.ids if len(data.validation.ids) >= count else data.train.ids
    return np.array(ids[:count])


def _texts(data: Any, count: int) -> list[np.ndarray]:
    """Texts of different lengths."""
    part = data.train
    return [np.array(part.ids[part.offsets[i] : part.offsets[i + 1]]) for i in range(min(count, len(part)))]


def _state(training: Training) -> dict[str, Any]:
    return through_a_checkpoint(training.state())


def _close(training: Training) -> None:
    close = getattr(training.source, "close", None)
    if close is not None:
        close()
