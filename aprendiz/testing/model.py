"""Whether a generative model keeps the contract."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

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

METHODS = ("encode", "reconstruct", "decode", "latents", "filters", "classify", "log_likelihood")
"""What a model may be able to do besides `sample`."""


def check_generative_model(
    model_class: Any, dataset: Any, *, config: Any = None, images: int = 300, seed: int = 7
) -> None:
    """Train a model for a moment and raise AssertionError, saying what is wrong, where it breaks the contract.

    `model_class` is a subclass of `generative.core.GenerativeModel`, `dataset` an `aprendiz.data.core.Dataset` that it
    can learn from, and `config` what it is checked with (the preset `default` unless given; give a small batch where
    that one is large). It sees `images` training images, is saved, and sees as many again.

    Checked: presets, their JSON, and that `resolve` moves nothing twice; the constructor; the source's units; finite
    scalar metrics; that learning changes weights; that one seed gives one training and another seed another; that a
    checkpoint loaded into a fresh model goes on exactly and draws the same images; that the generator and the weights
    alone decide what is drawn; shapes, dtypes and range of everything that it can do, and a ConfigError for everything
    that it cannot; that looking at a model changes nothing of it; and that the global random states of Python, NumPy
    and torch are left alone.
    """
    with global_random_state_left_alone():
        config = _check_configs(model_class, dataset, config, 2 * images)
        make = _Maker(model_class, dataset, config)
        first = make(seed)
        _check_class(model_class, first.learner, config, dataset.spec)
        untrained = through_a_checkpoint(first.learner.state_dict())
        where = difference(untrained, through_a_checkpoint(make(seed).learner.state_dict()))
        require(not where, f"one seed gives two different new models: {where}")
        record = first.train(images)
        with tempfile.TemporaryDirectory() as folder:
            saved = first.save(Path(folder))
            _check_looking(first.learner, dataset, seed)
            record += first.train(2 * images)
            _check_learning(first, record, untrained)
            _check_same_training(make, first, record, images, seed)
            _check_resuming(make, first, saved, Path(folder), record, images, seed)
        _close(first)


class _Maker:
    """Makes trainings of one kind."""

    def __init__(self, model_class: Any, dataset: Any, config: Any) -> None:
        self.model_class, self.dataset, self.config = model_class, dataset, config

    def __call__(self, seed: int) -> Training:
        model = self.model_class(self.config, self.dataset.spec, seed=seed)
        return Training(model, model.make_source(self.dataset, seed=seed), overshoot=1)


def _check_configs(model_class: Any, dataset: Any, config: Any, budget_images: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""
    from aprendiz.config import from_json, to_json

    kind = model_class.Config
    parameters = getattr(kind, "__dataclass_params__", None)
    require(parameters is not None and parameters.frozen, f"Config {kind.__name__} is not a frozen dataclass")
    presets = model_class.presets(dataset.spec)
    require(list(presets)[:1] == ["default"], f"the first preset is not called default: {list(presets)}")
    configs = {f"preset {name}": preset for name, preset in presets.items()}
    configs |= {} if config is None else {"config": config}
    sizes = {"train_images": len(dataset.train)}
    for name, one in configs.items():
        require(isinstance(one, kind), f"{name} is a {type(one).__name__}, not a {kind.__name__}")
        epochs = model_class.default_epochs(one, dataset.spec)
        require(type(epochs) is int and epochs > 0, f"default_epochs of {name} are {epochs!r}; give an int above 0")
        resolved = model_class.resolve(one, dataset.spec, budget_images=budget_images, **sizes)
        require(isinstance(resolved, kind), f"resolve made {name} a {type(resolved).__name__}, not a {kind.__name__}")
        again = model_class.resolve(resolved, dataset.spec, budget_images=10 * budget_images, **sizes)
        require(again == resolved, f"{name}: resolving a resolved config with another budget moves it")
        for variant in (one, resolved):
            try:
                back = from_json(kind, json.loads(json.dumps(to_json(variant))))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name} is not JSON-able: {error}") from error
            require(back == variant, f"{name} comes back from JSON as {back}, not as {variant}")
    chosen = configs.get("config", presets["default"])
    return model_class.resolve(chosen, dataset.spec, budget_images=budget_images, **sizes)


def _check_class(model_class: Any, model: Any, config: Any, spec: Any) -> None:
    import torch

    try:
        inspect.signature(model_class).bind(config, spec, seed=1, device="cpu", precision="fp32")
    except TypeError as error:
        takes = "(config, spec, *, seed, device, precision)"
        raise AssertionError(f"the constructor does not take {takes}: {error}") from error
    require(model.config is config or model.config == config, "model.config is not the config that it was made with")
    require(model.spec == spec, "model.spec is not the spec that it was made with")
    known = {*METHODS, "labels"}
    unknown = sorted(set(model.abilities) - known)
    require(not unknown, f"unknown abilities {unknown}; there are {', '.join(sorted(known))}")
    for name, allowed in (("precisions", {"fp32", "bf16"}), ("devices", {"cpu", "cuda", "mps"})):
        value = getattr(model_class, name)
        right = isinstance(value, tuple) and set(value) <= allowed and len(value) > 0
        require(right, f"{name} are {value!r}; give a tuple of {', '.join(sorted(allowed))}")
    for name, module in model.modules().items():
        require(isinstance(module, torch.nn.Module), f"modules()[{name!r}] is a {type(module).__name__}")


def _check_learning(training: Training, record: list[Any], untrained: dict[str, Any]) -> None:
    require(training.updates > 1, f"there were {training.updates} updates within {training.units} images")
    learned = difference(untrained, through_a_checkpoint(training.learner.state_dict()))
    require(bool(learned), f"{training.updates} updates left the model's state as it was")
    require(all(safe for _, safe, _ in record), "a source of images has pieces of work that are no safe point")
    for name in scalars(training.source.metrics(), "the source"):
        require("/" in name, f"the source's metric {name!r} belongs to no family, such as train/{name}")


def _check_same_training(make: _Maker, first: Training, record: list[Any], images: int, seed: int) -> None:
    """Other objects with the same seed; the first one was looked at on the way, and these are not."""
    second, other = make(seed), make(seed + 1)
    repeated = second.train(images) + second.train(2 * images)
    where = difference(record, repeated) or difference(_state(first), _state(second))
    require(not where, f"one seed gives two different trainings, or looking at a model changes it: {where}")
    other.train(images)
    other.train(2 * images)
    learners = [_state(training)["learner"] for training in (first, other)]
    require(bool(difference(*learners)), "two seeds give one and the same training")
    _close(second)
    _close(other)


def _check_resuming(
    make: _Maker, whole: Training, saved: dict[str, Any], folder: Path, record: list[Any], images: int, seed: int
) -> None:
    """A checkpoint goes on in a fresh model, of another seed so that nothing comes from that; only the source keeps
    it, since the order of the images comes from it."""
    resumed = make(seed + 2)
    resumed.source = resumed.learner.make_source(make.dataset, seed=seed)
    resumed.load(saved, folder)
    where = difference(saved["learner"], through_a_checkpoint(resumed.learner.state_dict()))
    require(not where, f"the model's state is another after loading it: {where}")
    continued = resumed.train(2 * images)
    where = difference(record[-len(continued) :], continued) or difference(_state(whole), _state(resumed))
    require(not where, f"a resumed training is not the one that was not stopped: {where}")
    drawn = [_draw(training.learner, seed) for training in (whole, resumed)]
    require(not difference(*drawn), "the same weights and the same generator draw other images in another object")
    _close(resumed)


def _check_looking(model: Any, dataset: Any, seed: int) -> None:
    """Everything but learning; none of it may leave a trace."""
    import torch

    before = through_a_checkpoint(model.state_dict())
    batch = dataset.validation.scaled(slice(0, min(7, len(dataset.validation)))).to(model.device)
    kept = batch.clone()
    _check_samples(model, seed)
    _check_abilities(model, batch, seed)
    for what in ("validate", "evaluate"):
        _check_metrics(model, dataset, what, seed)
    require(torch.equal(batch, kept), "the images that were given were written to")
    where = difference(before, through_a_checkpoint(model.state_dict()))
    require(not where, f"sampling, encoding or validating changed the model's state: {where}")


def _draw(model: Any, seed: int, count: int = 6) -> Any:
    import torch

    labels = None
    if "labels" in model.abilities:
        labels = torch.arange(count) % len(model.spec.classes)
    return model.sample(count, torch.Generator().manual_seed(seed), labels)


def _check_samples(model: Any, seed: int) -> None:
    import torch

    spec = model.spec
    drawn = _draw(model, seed)
    _check_images(drawn, (6, *spec.shape), "sample", spec.unit_interval)
    require(drawn.device.type == "cpu", f"sample gave images on {drawn.device}; they must be on the CPU")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1_000)  # who listens to the global state now draws something else
        again = _draw(model, seed)
    require(torch.equal(drawn, again), "the same generator draws other images the second time")
    require(not torch.equal(drawn, _draw(model, seed + 1)), "another generator draws the very same images")
    different = (drawn[0] - drawn[1:]).abs().flatten(1).amax(dim=1)
    require(bool((different > 0).any()), "all samples are one and the same image")
    if "labels" in model.abilities:
        free = model.sample(2, torch.Generator().manual_seed(seed))
        _check_images(free, (2, *spec.shape), "sample without labels", spec.unit_interval)


def _check_abilities(model: Any, images: Any, seed: int) -> None:
    import torch

    spec, count = model.spec, len(images)
    for name in METHODS:
        if name not in model.abilities:
            _check_refusal(model, name, images, seed)
    with torch.no_grad():
        if "encode" in model.abilities:
            codes = model.encode(images)
            _check_tensor(codes, (count, None), "encode")
            require(torch.equal(codes, model.encode(images)), "encode gives other codes the second time")
            alone = model.encode(images[:1])
            same = torch.allclose(codes[:1], alone, rtol=1e-3, atol=1e-4)
            require(same, "the code of an image depends on the images beside it")
            if "decode" in model.abilities:
                _check_images(model.decode(codes), (count, *spec.shape), "decode", spec.unit_interval)
        if "latents" in model.abilities:
            latents = [model.latents(5, torch.Generator().manual_seed(one)) for one in (seed, seed, seed + 1)]
            _check_tensor(latents[0], (5, None), "latents")
            require(torch.equal(latents[0], latents[1]), "latents are other ones the second time")
            require(not torch.equal(latents[0], latents[2]), "another generator draws the very same latents")
            decoded = model.decode(latents[0].to(model.device))
            _check_images(decoded, (5, *spec.shape), "decode of latents", spec.unit_interval)
        if "reconstruct" in model.abilities:
            _check_images(model.reconstruct(images), (count, *spec.shape), "reconstruct", spec.unit_interval)
        if "classify" in model.abilities:
            _check_tensor(model.classify(images), (count, len(spec.classes)), "classify")
        if "log_likelihood" in model.abilities:
            likely = [model.log_likelihood(images, torch.Generator().manual_seed(seed)) for _ in range(2)]
            _check_tensor(likely[0], (count,), "log_likelihood")
            require(torch.equal(*likely), "the same generator gives another log_likelihood the second time")
    if "filters" in model.abilities:
        filters = model.filters()
        _check_tensor(filters, (None, *spec.shape), "filters")
        norms = filters.flatten(1).norm(dim=1)
        dead = norms < 1e-6  # a unit that nothing excites
        require(bool(((norms - 1).abs() < 1e-3)[~dead].all()), f"filters have norms {norms.tolist()[:5]}..., not 1")
        require(bool((~dead).any()), "all filters are zero")


def _check_refusal(model: Any, name: str, images: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    arguments: dict[str, tuple[Any, ...]] = {
        "decode": (torch.zeros(1, 2),),
        "latents": (2, generator),
        "filters": (),
        "log_likelihood": (images, generator),
    }
    try:
        getattr(model, name)(*arguments.get(name, (images,)))
    except ConfigError:
        return
    raise AssertionError(f"{name} is not among the abilities, and raises no ConfigError")


def _check_metrics(model: Any, dataset: Any, what: str, seed: int) -> None:
    import torch

    def measure() -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        if what == "validate":
            return model.validate(dataset.validation, generator)
        return model.evaluate(dataset, dataset.validation, generator)

    metrics = measure()
    require(isinstance(metrics, dict), f"{what} gave a {type(metrics).__name__}, not a dict")
    for name, value in metrics.items():
        require(
            isinstance(name, str) and type(value) in (int, float), f"{what} gave {name!r}: {form(value)}, no number"
        )
    if what == "validate":
        scalars(metrics, what)
        require("score" in metrics, f"validate gave no score: {sorted(metrics)}")
        again = measure()
        require(metrics == again, f"the same generator gives other metrics the second time: {metrics} and {again}")


def _check_images(images: Any, shape: tuple[int | None, ...], what: str, unit_interval: bool) -> None:
    _check_tensor(images, shape, what)
    if unit_interval:
        low, high = float(images.min()), float(images.max())
        require(
            low >= -1e-4 and high <= 1 + 1e-4, f"{what} gave values from {low:.3g} to {high:.3g}; images are in 0..1"
        )


def _check_tensor(value: Any, shape: tuple[int | None, ...], what: str) -> None:
    import torch

    require(isinstance(value, torch.Tensor), f"{what} gave a {type(value).__name__}, not a tensor")
    right = value.ndim == len(shape) and all(want in (None, has) for want, has in zip(shape, value.shape, strict=True))
    wanted = ", ".join("?" if size is None else str(size) for size in shape)
    require(right and value.dtype == torch.float32, f"{what} gave {form(value)}; it must be float32 [{wanted}]")
    require(bool(torch.isfinite(value).all()), f"{what} gave values that are not finite")


def _state(training: Training) -> dict[str, Any]:
    return through_a_checkpoint(training.state())


def _close(training: Training) -> None:
    close = getattr(training.source, "close", None)
    if close is not None:
        close()
