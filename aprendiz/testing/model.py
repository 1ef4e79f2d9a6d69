"""Whether a generative model keeps the contract."""

from __future__ import annotations

from typing import Any

from aprendiz.testing.common import form, global_random_state_left_alone, require
from aprendiz.testing.training import (
    ModelChecks,
    check_configs,
    check_constructor,
    check_metrics,
    check_model_class,
    refuses,
    state_left_alone,
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
        _Checks(model_class, dataset, config).run(images, seed)


class _Checks(ModelChecks):
    """Checks of a model that learns from images."""

    units = "images"
    other_words = "the same weights and the same generator draw other images in another object"

    def __init__(self, model_class: Any, dataset: Any, config: Any) -> None:
        self.model_class, self.dataset, self.config = model_class, dataset, config

    def new_model(self, seed: int) -> Any:
        return self.model_class(self.config, self.dataset.spec, seed=seed)

    def new_source(self, model: Any, seed: int) -> Any:
        return model.make_source(self.dataset, seed=seed)

    def check_class(self, model: Any) -> None:
        check_constructor(self.model_class, "config, spec", self.config, self.dataset.spec)
        check_model_class(self.model_class, model, self.config, self.dataset.spec, (*METHODS, "labels"))

    def check_looking(self, model: Any, seed: int) -> None:
        import torch

        dataset = self.dataset
        with state_left_alone(model, "sampling, encoding or validating"):
            batch = dataset.validation.scaled(slice(0, min(7, len(dataset.validation)))).to(model.device)
            kept = batch.clone()
            _check_samples(model, seed)
            _check_abilities(model, batch, seed)
            _check_metrics(model, dataset, seed)
            require(torch.equal(batch, kept), "the images that were given were written to")

    def check_record(self, record: list[Any]) -> None:
        require(all(safe for _, safe, _ in record), "a source of images has pieces of work that are no safe point")

    def say(self, model: Any, seed: int) -> Any:
        return _draw(model, seed)


def _check_configs(model_class: Any, dataset: Any, config: Any, budget_images: int) -> Any:
    """Checks every preset, and `config` where one is given; returns what to train with, resolved."""

    def check_epochs(name: str, one: Any) -> None:
        epochs = model_class.default_epochs(one, dataset.spec)
        require(type(epochs) is int and epochs > 0, f"default_epochs of {name} are {epochs!r}; give an int above 0")

    def resolve(one: Any, budget: int) -> Any:
        return model_class.resolve(one, dataset.spec, train_images=len(dataset.train), budget_images=budget)

    presets = lambda: model_class.presets(dataset.spec)  # noqa: E731
    return check_configs(model_class.Config, presets, config, resolve, budget_images, check_epochs)


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
        refused = name in model.abilities or _refuses(model, name, images, seed)
        require(refused, f"{name} is not among the abilities, and raises no ConfigError")
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


def _refuses(model: Any, name: str, images: Any, seed: int) -> bool:
    import torch

    generator = torch.Generator().manual_seed(seed)
    arguments: dict[str, tuple[Any, ...]] = {
        "decode": (torch.zeros(1, 2),),
        "latents": (2, generator),
        "filters": (),
        "log_likelihood": (images, generator),
    }
    return refuses(model, name, arguments.get(name, (images,)))


def _check_metrics(model: Any, dataset: Any, seed: int) -> None:
    import torch

    def validate() -> dict[str, float]:
        return model.validate(dataset.validation, torch.Generator().manual_seed(seed))

    def evaluate() -> dict[str, float]:
        return model.evaluate(dataset, dataset.validation, torch.Generator().manual_seed(seed))

    check_metrics(validate, "validate")
    check_metrics(evaluate, "evaluate", thorough=False)


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
