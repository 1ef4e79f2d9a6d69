"""Learners out of saved runs, of all families: what config.json says of them, where they live, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from aprendiz.device import choose_device
from aprendiz.errors import CheckpointError, ConfigError, RunError
from aprendiz.loop import Learner
from aprendiz.registry import BUILTIN_DISTRIBUTION, Registry

if TYPE_CHECKING:
    from aprendiz.run import Run


def mapping_of(run: Run, parent: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of a run's config. Raises RunError where it is missing."""
    part = parent.get(name)
    if not isinstance(part, dict):
        raise RunError(f"{run.name}: config.json does not say which {name} it had; choose another run")
    return part


def text_of(run: Run, part: dict[str, Any], key: str, owners: str) -> str:
    """Text in a part of a run's config; `owners` are what it may belong to: "model or data". Raises RunError where it
    is missing."""
    value = part.get(key)
    if not isinstance(value, str):
        raise RunError(f"{run.name}: config.json lacks the {key} of its {owners}; choose another run")
    return value


def precision_on(run: Run, device: torch.device) -> str:
    """The precision that a run learned in where the device is of the same kind, and fp32 elsewhere."""
    return str(run.config.get("precision", "fp32")) if _trained_on(run) == device.type else "fp32"


def home_of(run: Run, devices: Sequence[str], device: str) -> tuple[torch.device, str]:
    """Where a model of `devices` lives that is asked to live on `device`, and the precision that it computes in there.

    `auto` means the CPU for what learned there. Raises ConfigError where there is no such device, or it is none of
    `devices`.
    """
    if device == "auto" and _trained_on(run) == "cpu":
        device = "cpu"  # what learned there is no faster elsewhere, and the numbers are those of training
    chosen = choose_device(device)
    if device == "auto" and chosen.type not in devices:
        chosen = torch.device("cpu")
    if chosen.type not in devices:
        raise ConfigError(f"{run.learner} lives on {', '.join(devices)}, not on {chosen.type}")
    return chosen, precision_on(run, chosen)


def load_learner(run: Run, learner: Learner, which: str | int) -> int:
    """Gives a learner what a checkpoint (`last`, `best` or a number) has of it; returns the units that it has seen.

    Raises RunError where there is no such checkpoint, CheckpointError where it is damaged or does not fit.
    """
    state = run.load(which)
    try:
        learner.load_state_dict(state["learner"])
        return int(state["loop"]["units"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"checkpoint {which} of {run.name} does not fit its own config.json ({reason}); choose another checkpoint"
        ) from error


def restore_threads(run: Run) -> None:
    """Gives PyTorch as many threads as a run learned with, so that the same seed makes the same thing."""
    if isinstance(threads := run.config.get("torch_threads"), int):
        torch.set_num_threads(threads)


def models_with(registry: Registry, ability: str) -> str:
    """Which of the models that are ours have an ability, in a sentence. Imports them."""
    names = []
    for found in registry.describe_all():
        if found.distribution != BUILTIN_DISTRIBUTION:
            continue  # a plugin that does not import must not hide what was wrong
        if ability in registry.get(found.name).abilities:
            names.append(found.name)
    return f"{', '.join(names)} can" if names else "no model here can"


def _trained_on(run: Run) -> str:
    return str(run.config.get("device", "cpu")).partition(":")[0]
