"""What a registered factory (of a data set, of a text) takes, read from its signature."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any


def own_options(factory: Callable[..., Any], fixed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Option to default, but for those that are `fixed`; None where the factory takes anything."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {key: value for key, value in defaults(factory).items() if key not in fixed}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Option to default; None where it has none."""
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = (parameter for parameter in parameters if parameter.kind not in variable)
    return {one.name: None if one.default is one.empty else one.default for one in named}


def types_of(options: Mapping[str, Any], *functions: Callable[..., Any]) -> dict[str, Any]:
    """The type of each option, for the command line: as the last function annotates it, else that of its default."""
    hints: dict[str, Any] = {}
    for function in functions:
        with contextlib.suppress(NameError, TypeError):  # annotations that cannot be looked up
            hints |= typing.get_type_hints(function)
    return {
        option: hints.get(option) or (str | None if default is None else type(default))
        for option, default in options.items()
    }
