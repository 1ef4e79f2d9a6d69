"""Models out of saved runs: the class by name, its hyperparameters, its weights, and the images it learned from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from aprendiz import data
from aprendiz.config import from_json
from aprendiz.data.core import Dataset, ImageSpec
from aprendiz.data.scaling import Scaling
from aprendiz.device import choose_device
from aprendiz.errors import CheckpointError, ConfigError, RunError
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
    state = run.load(which)
    try:
        model.load_state_dict(state["learner"])
        step = int(state["loop"]["units"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"checkpoint {which} of {run.name} does not fit its own config.json ({reason}); choose another checkpoint"
        ) from error
    if isinstance(threads := run.config.get("torch_threads"), int):
        torch.set_num_threads(threads)
    return SavedModel(run, model, spec_of(run), scaling_of(run), which, step)


def new_model(run: Run, device: str = "auto") -> GenerativeModel:
    """The model of a run as it was before it learned.

    It computes in the precision that it learned in where the device is of the same kind, and in fp32 elsewhere.
    """
    saved = _part(run, "model")
    trained_on = str(run.config.get("device", "cpu")).partition(":")[0]
    cls = GENERATIVE.get(_text(run, saved, "name"))
    if device == "auto" and trained_on == "cpu":
        device = "cpu"  # small networks are no faster elsewhere, and the numbers are those of training
    chosen = choose_device(device)
    if chosen.type not in cls.devices:
        raise ConfigError(f"{run.learner} lives on {', '.join(cls.devices)}, not on {chosen.type}")
    precision = str(run.config.get("precision", "fp32")) if trained_on == chosen.type else "fp32"
    config = from_json(cls.Config, saved.get("hyperparameters", {}))
    return cls(config, spec_of(run), seed=run.seed, device=chosen, precision=precision)


def spec_of(run: Run) -> ImageSpec:
    """What the images of a run look like."""
    return from_json(ImageSpec, _mapping(run, _part(run, "data"), "spec"))


def scaling_of(run: Run) -> Scaling:
    """How the pixels of a run were scaled."""
    saved = _mapping(run, _part(run, "data"), "scaling")
    tensors = {name: torch.tensor(saved.get(name, 0.0), dtype=torch.float32) for name in ("offset", "spread")}
    return Scaling.from_state_dict({**saved, **tensors})


def scaling_to_json(scaling: Scaling) -> dict[str, Any]:
    """What `scaling_of` reads."""
    state = scaling.state_dict()
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in state.items()}


def dataset_of(run: Run) -> Dataset:
    """The data set of a run. Raises DataError where it is gone, RunError where it is not the same any more."""
    saved = _part(run, "data")
    name = _text(run, saved, "name")
    dataset = data.load(name, **dict(saved.get("options") or {}))
    if dataset.fingerprint != saved.get("fingerprint"):
        raise RunError(
            f"the images of {name} have changed since {run.name} began (fingerprint {saved.get('fingerprint')}, now "
            f"{dataset.fingerprint}): put the old ones back, or start a new run"
        )
    return dataset


def models_with(ability: str) -> str:
    """Which of the registered models have an ability, in a sentence. Imports them."""
    names = []
    for found in GENERATIVE.describe_all():
        if found.distribution != "aprendiz":
            continue  # a plugin that does not import must not hide what was wrong
        if ability in GENERATIVE.get(found.name).abilities:
            names.append(found.name)
    return f"{', '.join(names)} can" if names else "no model here can"


def _part(run: Run, name: str) -> dict[str, Any]:
    return _mapping(run, run.config, name)


def _mapping(run: Run, parent: dict[str, Any], name: str) -> dict[str, Any]:
    part = parent.get(name)
    if not isinstance(part, dict):
        raise RunError(f"{run.name}: config.json does not say which {name} it had; choose another run")
    return part


def _text(run: Run, part: dict[str, Any], key: str) -> str:
    value = part.get(key)
    if not isinstance(value, str):
        raise RunError(f"{run.name}: config.json lacks the {key} of its model or data; choose another run")
    return value
