"""Models out of saved runs: the class by name, its hyperparameters, its weights, and the images it learned from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from aprendiz import data, saved
from aprendiz.config import from_json
from aprendiz.data.core import Dataset, ImageSpec
from aprendiz.data.scaling import Scaling
from aprendiz.errors import ConfigError, RunError
from generative import GENERATIVE
from generative.core import GenerativeModel

if TYPE_CHECKING:
    from aprendiz.run import Run


@dataclass
class SavedModel:
    """A model with the weights of a checkpoint, and what it learned from."""

    run: Run
    model: GenerativeModel
    spec: ImageSpec
    scaling: Scaling
    which: str | int
    """The checkpoint that was asked for: `last`, `best` or a number of images."""
    step: int
    """Training images that it has seen."""

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set of its run, opened when first asked for. Raises RunError where it has changed since."""
        return dataset_of(self.run)

    def require(self, ability: str, what: str) -> None:
        """Raises ConfigError where the model lacks an ability, naming the models that `what` can be done with."""
        if ability in self.model.abilities:
            return
        has = ", ".join(sorted({"sample", *self.model.abilities} - {"labels"})).replace("_", " ")
        doing = {"labels": "take labels", "filters": "show filters", "latents": "draw latent vectors"}
        raise ConfigError(
            f"{what} needs a model that can {doing.get(ability, ability.replace('_', ' '))}; {self.run.learner} cannot "
            f"(it can: {has}); {models_with(ability)}"
        )


def open_model(run: Run, which: str | int = "last", device: str = "auto") -> SavedModel:
    """The model of a run as it was at a checkpoint: `last`, `best` or a number of images.

    PyTorch gets as many threads as it learned with, so that the same seed draws the same pictures. Raises RunError or
    ConfigError where the run's config or the device does not fit, CheckpointError where the checkpoint is not there,
    damaged, or does not fit.
    """
    model = new_model(run, device)
    step = saved.load_learner(run, model, which)
    saved.restore_threads(run)
    return SavedModel(run, model, spec_of(run), scaling_of(run), which, step)


def new_model(run: Run, device: str = "auto") -> GenerativeModel:
    """The model of a run as it was before it learned.

    It computes in the precision that it learned in where the device is of the same kind, and in fp32 elsewhere.
    """
    part = saved.mapping_of(run, run.config, "model")
    cls = GENERATIVE.get(_text(run, part, "name"))
    home, precision = saved.home_of(run, cls.devices, device)
    config = from_json(cls.Config, part.get("hyperparameters", {}))
    return cls(config, spec_of(run), seed=run.seed, device=home, precision=precision)


def spec_of(run: Run) -> ImageSpec:
    """What the images of a run look like."""
    return from_json(ImageSpec, saved.mapping_of(run, _data(run), "spec"))


def scaling_of(run: Run) -> Scaling:
    """How the pixels of a run were scaled."""
    state = saved.mapping_of(run, _data(run), "scaling")
    tensors = {name: torch.tensor(state.get(name, 0.0), dtype=torch.float32) for name in ("offset", "spread")}
    return Scaling.from_state_dict({**state, **tensors})


def scaling_to_json(scaling: Scaling) -> dict[str, Any]:
    """What `scaling_of` reads."""
    state = scaling.state_dict()
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in state.items()}


def dataset_of(run: Run) -> Dataset:
    """The data set of a run. Raises DataError where it is gone, RunError where it is not the same any more."""
    part = _data(run)
    name = _text(run, part, "name")
    dataset = data.load(name, **dict(part.get("options") or {}))
    if dataset.fingerprint != part.get("fingerprint"):
        raise RunError(
            f"the images of {name} have changed since {run.name} began (fingerprint {part.get('fingerprint')}, now "
            f"{dataset.fingerprint}): put the old ones back, or start a new run"
        )
    return dataset


def models_with(ability: str) -> str:
    """Which of the registered models have an ability, in a sentence. Imports them."""
    return saved.models_with(GENERATIVE, ability)


def _data(run: Run) -> dict[str, Any]:
    return saved.mapping_of(run, run.config, "data")


def _text(run: Run, part: dict[str, Any], key: str) -> str:
    return saved.text_of(run, part, key, "model or data")
