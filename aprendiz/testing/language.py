"""Whether a language model keeps the contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from aprendiz.testing.common import difference, form, global_random_state_left_alone, require
from aprendiz.testing.training import (
    ModelChecks,
    check_choices,
    check_configs,
    check_constructor,
    check_metric_names,
    check_metrics,
    check_model_class,
    refuses,
    state_left_alone,
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
        _Checks(model_class, data, config).run(tokens, seed)


class _Checks(ModelChecks):
    """Checks of a model that learns from a text."""

    units = "tokens"
    other_words = "the same weights say something else in another object"

    def __init__(self, model_class: Any, data: Any, config: Any) -> None:
        self.model_class, self.data, self.config, self.seeded = model_class, data, config, model_class.seeded

    def new_model(self, seed: int) -> Any:
        return self.model_class(self.config, self.data.spec, self.data.vocabulary, seed=seed)

    def new_source(self, model: Any, seed: int) -> Any:
        return model.make_source(self.data, seed=seed)

    def check_class(self, model: Any) -> None:
        cls, config, data = self.model_class, self.config, self.data
        check_constructor(cls, "config, spec, vocabulary", config, data.spec, data.vocabulary)
        check_model_class(cls, model, config, data.spec, ABILITIES)
        kept = model.vocabulary is data.vocabulary
        require(kept, "model.vocabulary is not the vocabulary that it was made with")
        check_choices(cls, "levels", LEVELS)
        require(data.spec.level in cls.levels, f"the text is of level {data.spec.level}, not one of its levels")

    def check_looking(self, model: Any, seed: int) -> None:
        data = self.data
        with state_left_alone(model, "predicting or validating"):
            for name in ABILITIES:
                if name not in model.abilities:
                    _check_refusal(model, name, data)
            if "predict" in model.abilities:
                _check_predicting(model, data)
            if "vectors" in model.abilities:
                _check_vectors(model)
            if "classify" in model.abilities:
                _check_classifying(model, data)
            _check_metrics(model, data, seed)

    def check_record(self, record: list[Any]) -> None:
        check_metric_names(record)

    def say(self, model: Any, seed: int) -> Any:
        return _say(model, self.data)


def _check_configs(model_class: Any, data: Any, config: Any, budget_tokens: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""
    train_tokens = len(data.train.ids)

    def check_usual(name: str, one: Any) -> None:
        usual = model_class.default_tokens(one, data.spec, train_tokens)
        require(type(usual) is int and usual > 0, f"default_tokens of {name} are {usual!r}; give an int above 0")

    def resolve(one: Any, budget: int) -> Any:
        return model_class.resolve(one, data.spec, train_tokens=train_tokens, budget_tokens=budget)

    presets = lambda: model_class.presets(data.spec)  # noqa: E731
    return check_configs(model_class.Config, presets, config, resolve, budget_tokens, check_usual)


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
        refused = refuses(model, method, arguments)
        require(refused, f"{name} is not among the abilities, and {method} raises no ConfigError")


def _check_metrics(model: Any, data: Any, seed: int) -> None:
    import torch

    def validate() -> dict[str, float]:
        return model.validate(data, torch.Generator().manual_seed(seed))

    def evaluate() -> dict[str, float]:
        return model.evaluate(data, "validation", torch.Generator().manual_seed(seed))

    check_metrics(validate, "validate")
    check_metrics(evaluate, "evaluate")


def _ids(data: Any, count: int) -> np.ndarray:
    ids = data.validation.ids if len(data.validation.ids) >= count else data.train.ids
    return np.array(ids[:count])


def _texts(data: Any, count: int) -> list[np.ndarray]:
    """Texts of different lengths."""
    part = data.train
    return [np.array(part.ids[part.offsets[i] : part.offsets[i + 1]]) for i in range(min(count, len(part)))]
