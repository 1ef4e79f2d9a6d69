"""What is checked alike of everything that learns from data: configs, classes, and how it trains."""

from __future__ import annotations

import contextlib
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aprendiz.errors import ConfigError
from aprendiz.testing.common import Training, difference, form, require, scalars, through_a_checkpoint

PRECISIONS = ("fp32", "bf16")


class ModelChecks:
    """Checks of a model of one kind. A subclass tells how it is made and what else it has to keep."""

    units: str
    """What it counts: `images`."""
    seeded = True
    """Whether the seed decides anything of what it learns."""
    other_words: str
    """What is wrong where the same weights do not say the same in another object."""

    def new_model(self, seed: int) -> Any:
        raise NotImplementedError

    def new_source(self, model: Any, seed: int) -> Any:
        raise NotImplementedError

    def check_class(self, model: Any) -> None:
        """Its constructor, its attributes."""
        raise NotImplementedError

    def check_looking(self, model: Any, seed: int) -> None:
        """Everything but learning; none of it may leave a trace."""
        raise NotImplementedError

    def check_record(self, record: list[Any]) -> None:
        """Units, safe points and metrics of all pieces of work."""
        raise NotImplementedError

    def say(self, model: Any, seed: int) -> Any:
        """What a model has to say that its weights alone decide."""
        raise NotImplementedError

    def run(self, units: int, seed: int) -> None:
        """All of it: trains to `units`, looks, trains as many again, and does that anew in other objects."""
        first = self._new_training(seed)
        self.check_class(first.learner)
        untrained = through_a_checkpoint(first.learner.state_dict())
        where = difference(untrained, through_a_checkpoint(self.new_model(seed).state_dict()))
        require(not where, f"one seed gives two different new models: {where}")
        record = first.train(units)
        with tempfile.TemporaryDirectory() as folder:
            saved = first.save(Path(folder))
            self.check_looking(first.learner, seed)
            record += first.train(2 * units)
            self._check_learning(first, record, untrained)
            self._check_same_training(first, record, units, seed)
            self._check_resuming(first, saved, Path(folder), record, units, seed)
        _close(first)

    def _new_training(self, seed: int, source_seed: int | None = None) -> Training:
        model = self.new_model(seed)
        return Training(model, self.new_source(model, seed if source_seed is None else source_seed), overshoot=1)

    def _check_learning(self, training: Training, record: list[Any], untrained: Mapping[str, Any]) -> None:
        require(training.updates > 1, f"there were {training.updates} updates within {training.units} {self.units}")
        learned = difference(untrained, through_a_checkpoint(training.learner.state_dict()))
        require(bool(learned), f"{training.updates} updates left the model's state as it was")
        self.check_record(record)
        check_source_metrics(training.source, "train")

    def _check_same_training(self, first: Training, record: list[Any], units: int, seed: int) -> None:
        """Other objects with the same seed; the first one was looked at on the way, and these are not."""
        second, other = self._new_training(seed), self._new_training(seed + 1)
        repeated = second.train(units) + second.train(2 * units)
        where = difference(record, repeated) or difference(_state(first), _state(second))
        require(not where, f"one seed gives two different trainings, or looking at a model changes it: {where}")
        other.train(units)
        other.train(2 * units)
        learners = [_state(training)["learner"] for training in (first, other)]
        require(bool(difference(*learners)) or not self.seeded, "two seeds give one and the same training")
        _close(second)
        _close(other)

    def _check_resuming(
        self, whole: Training, saved: Mapping[str, Any], folder: Path, record: list[Any], units: int, seed: int
    ) -> None:
        """A checkpoint goes on in a fresh model, of another seed so that nothing comes from that; only the source keeps
        it, since the order of the data comes from it."""
        resumed = self._new_training(seed + 2, seed)
        resumed.load(saved, folder)
        where = difference(saved["learner"], through_a_checkpoint(resumed.learner.state_dict()))
        require(not where, f"the model's state is another after loading it: {where}")
        continued = resumed.train(2 * units)
        where = difference(record[-len(continued) :], continued) or difference(_state(whole), _state(resumed))
        require(not where, f"a resumed training is not the one that was not stopped: {where}")
        where = difference(self.say(whole.learner, seed), self.say(resumed.learner, seed))
        require(not where, self.other_words)
        _close(resumed)


def check_configs(
    kind: Any,
    presets: Callable[[], Mapping[str, Any]],
    config: Any,
    resolve: Callable[[Any, int], Any],
    budget: int,
    check_one: Callable[[str, Any], None] | None = None,
) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved.

    `check_one(name, config)` looks at what else hangs on a config, `resolve(config, budget)` resolves it.
    """
    from aprendiz.config import from_json, to_json

    parameters = getattr(kind, "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    require(frozen, f"Config {kind.__name__} is not a frozen dataclass")
    named = presets()
    require(list(named)[:1] == ["default"], f"the first preset is not called default: {list(named)}")
    configs = {f"preset {name}": preset for name, preset in named.items()}
    configs |= {} if config is None else {"config": config}
    for name, one in configs.items():
        require(isinstance(one, kind), f"{name} is a {type(one).__name__}, not a {kind.__name__}")
        if check_one is not None:
            check_one(name, one)
        resolved = resolve(one, budget)
        require(isinstance(resolved, kind), f"resolve made {name} a {type(resolved).__name__}, not a {kind.__name__}")
        again = resolve(resolved, 10 * budget)
        require(again == resolved, f"{name}: resolving a resolved config with another budget moves it")
        for variant in (one, resolved):
            try:
                back = from_json(kind, json.loads(json.dumps(to_json(variant))))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name} is not JSON-able: {error}") from error
            require(back == variant, f"{name} comes back from JSON as {back}, not as {variant}")
    return resolve(configs.get("config", named["default"]), budget)


def check_constructor(cls: Any, takes: str, *arguments: Any) -> None:
    """Whether it can be called with `arguments`, a seed, a device and a precision."""
    try:
        inspect.signature(cls).bind(*arguments, seed=1, device="cpu", precision="fp32")
    except TypeError as error:
        raise AssertionError(f"the constructor does not take ({takes}, *, seed, device, precision): {error}") from error


def check_choices(cls: Any, name: str, allowed: Sequence[str]) -> None:
    """Whether an attribute is a tuple of some of what is allowed."""
    value = getattr(cls, name)
    right = isinstance(value, tuple) and set(value) <= set(allowed) and len(value) > 0
    require(right, f"{name} are {value!r}; give a tuple of {', '.join(allowed)}")


def check_modules(learner: Any) -> None:
    import torch

    for name, module in learner.modules().items():
        require(isinstance(module, torch.nn.Module), f"modules()[{name!r}] is a {type(module).__name__}")


def check_model_class(cls: Any, model: Any, config: Any, spec: Any, abilities: Sequence[str]) -> None:
    """What all models have: what they were made with, and attributes that name what they can do."""
    require(model.config is config or model.config == config, "model.config is not the config that it was made with")
    require(model.spec == spec, "model.spec is not the spec that it was made with")
    unknown = sorted(set(model.abilities) - set(abilities))
    require(not unknown, f"unknown abilities {unknown}; there are {', '.join(abilities)}")
    check_choices(cls, "precisions", PRECISIONS)
    check_choices(cls, "devices", ("cpu", "cuda", "mps"))
    check_modules(model)


def check_metric_names(record: list[Any]) -> None:
    """Whether all updates give metrics of the same names."""
    named = {tuple(sorted(metrics)) for _, _, metrics in record if metrics}
    require(len(named) == 1, f"updates give metrics of changing names: {sorted(named)}")


def check_source_metrics(source: Any, family: str) -> None:
    """Whether a source's metrics are scalars that name their family, such as train/epoch."""
    for name in scalars(source.metrics(), "the source"):
        require("/" in name, f"the source's metric {name!r} belongs to no family, such as {family}/{name}")


def check_metrics(measure: Callable[[], Any], what: str, *, thorough: bool = True) -> None:
    """Whether what a model measures are named numbers and, where `thorough`, finite and the same the second time."""
    metrics = measure()
    require(isinstance(metrics, dict), f"{what} gave a {type(metrics).__name__}, not a dict")
    for name, value in metrics.items():
        right = isinstance(name, str) and type(value) in (int, float)
        require(right, f"{what} gave {name!r}: {form(value)}, no number")
    if not thorough:
        return
    scalars(metrics, what)
    if what == "validate":
        require("score" in metrics, f"validate gave no score: {sorted(metrics)}")
    again = measure()
    require(metrics == again, f"the same generator gives other metrics the second time: {metrics} and {again}")


def refuses(model: Any, method: str, arguments: Sequence[Any]) -> bool:
    """Whether a method of a model raises ConfigError."""
    try:
        getattr(model, method)(*arguments)
    except ConfigError:
        return True
    return False


@contextlib.contextmanager
def state_left_alone(model: Any, doing: str) -> Iterator[None]:
    """Raises where the model's state is another afterwards; `doing` is what may have changed it."""
    before = through_a_checkpoint(model.state_dict())
    yield
    where = difference(before, through_a_checkpoint(model.state_dict()))
    require(not where, f"{doing} changed the model's state: {where}")


def _state(training: Training) -> dict[str, Any]:
    return through_a_checkpoint(training.state())


def _close(training: Training) -> None:
    close = getattr(training.source, "close", None)
    if close is not None:
        close()
