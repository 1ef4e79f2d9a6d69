"""Data sets of images by name: `load("mnist")`, `load("folder:holiday/", size=64)`, `load("digits", patch=4)`.

Importing this package imports no torch; `load` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aprendiz import DATASETS
from aprendiz.errors import ConfigError, DataError
from aprendiz.factories import defaults, own_options, types_of

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset

__all__ = ["canonical", "load", "option_types", "options"]

_FOLDER = "folder:"


def _common(
    *,
    scaling: str = "unit",
    scaling_per: str = "channel",
    patch: int | None = None,
    patches: int | None = None,
    patches_per_image: int = 4,
    patch_min_deviation: float = 0.1,
) -> None:
    """Options of every data set, whoever made it; documented in docs/data.md."""


def load(name: str, **options: Any) -> Dataset:
    """The data set `name` (registered, `folder:PATH` or `package.module:factory`): split, cut into patches and scaled.

    `options(name)` tells what it takes. Raises UnknownNameError, PluginError, ConfigError for an option that it does
    not have or a value that the option cannot have, and DataError where the images cannot be had.
    """
    factory, fixed = _factory(name)
    own, common = own_options(factory, fixed), defaults(_common)
    known = {**(own or {}), **common}
    for option in options:
        if own is not None and option not in known:
            raise ConfigError(f"data set {name} has no option {option!r}; it has: {', '.join(known)}")
    taken = set(common) - set(own or {})
    dataset = factory(**fixed, **{key: value for key, value in options.items() if key not in taken})

    from aprendiz.data.core import Dataset

    if not isinstance(dataset, Dataset):
        raise DataError(f"data set {name!r} is a {type(dataset).__name__}; its factory must return a Dataset")
    from aprendiz.data.build import finish

    given = {key: value for key, value in {**(own or {}), **options, **dataset.options}.items() if key not in fixed}
    chosen = {key: options.get(key, default) for key, default in common.items() if key in taken}
    return finish(replace(dataset, options=given), **chosen)


def options(name: str) -> dict[str, Any]:
    """The options that `load(name, ...)` takes, with their defaults; loads nothing. Raises as `load`."""
    factory, fixed = _factory(name)
    return {**(own_options(factory, fixed) or {}), **defaults(_common)}


def option_types(name: str) -> dict[str, Any]:
    """The annotated type of each of `options(name)`, for the command line; without one, that of its default."""
    factory, _ = _factory(name)
    return types_of(options(name), _common, factory)


def canonical(name: str) -> str:
    """The name as a run saves it: as it is listed, and of a folder the absolute path."""
    if name.startswith(_FOLDER):
        return _FOLDER + str(Path(name.removeprefix(_FOLDER)).expanduser().resolve())
    return DATASETS.canonical(name)


def _factory(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes the data set, and the arguments that the name itself gives."""
    if name.startswith(_FOLDER):
        return DATASETS.get("folder"), {"path": name.removeprefix(_FOLDER)}
    factory = DATASETS.get(name)
    if not callable(factory):
        raise DataError(f"data set {name!r} is a {type(factory).__name__}; give a callable factory(**options)")
    return factory, {}
