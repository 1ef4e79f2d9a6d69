"""Configurations: frozen, keyword-only dataclasses, to and from JSON, with the docstrings of their fields."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aprendiz.errors import ConfigError

T = TypeVar("T")
_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass and of its bases, on one line; "" where there is none.

    Read from the source; a class without source (from `dataclasses.make_dataclass`) has none of its own.
    """
    docs = {field.name: "" for field in dataclasses.fields(cls)}
    for base in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, below in itertools.pairwise(body):
            if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
                continue
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and statement.target.id in docs:
                docs[statement.target.id] = " ".join(text.value.split())
    return docs


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as what JSON can hold: tuples become lists, and infinities and NaN their names."""
    return {field.name: _encode(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass `cls` from what `to_json` made of it.

    Fields hold int, float, bool, str, Literal, Path, None, tuple, list, dict or dataclasses; an int serves as a float.
    Raises ConfigError naming a field that is unknown, missing, or of another type; errors of `__post_init__` come out
    as they are.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            allowed = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(fields)}"
            raise ConfigError(f"{cls.__name__} has no field {name!r}; {allowed}")
    for name, field in fields.items():
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{cls.__name__} needs a value for {name!r} ({_type_name(hints[name])})")
    return cls(**{name: _decode(value, hints[name], f"{cls.__name__}.{name}") for name, value in data.items()})


# For `__post_init__`: a field that is None was not given, and passes.


def check_at_least(config: Any, least: int, *names: str) -> None:
    """Raises ConfigError where one of these fields is below `least`, or not finite."""
    bound = "0 or more" if least == 0 else f"at least {least}"
    for name, value in _given(config, names):
        if not least <= value < math.inf:
            raise ConfigError(f"{name} must be {bound}, got {value}")


def check_share(config: Any, *names: str) -> None:
    """Raises ConfigError where one of these fields does not lie between 0 and 1."""
    for name, value in _given(config, names):
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{name} must lie between 0 and 1, got {value}")


def check_above_zero(config: Any, *names: str) -> None:
    """Raises ConfigError where one of these fields is not above 0, or not finite."""
    for name, value in _given(config, names):
        if not 0.0 < value < math.inf:
            raise ConfigError(f"{name} must be above 0, got {value}")


def check_choices(config: Any) -> None:
    """Raises ConfigError where a field that is a Literal holds something else."""
    for name, allowed in _choices(typing.cast(Any, type(config))).items():
        if getattr(config, name) not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {getattr(config, name)!r}")


# For options that do nothing beside others. What nobody asked for is not refused: `preset`, a config of the same kind,
# is where the one that is checked started from (None: the defaults).


def check_counts(config: Any, preset: Any, switch: str, *names: str) -> None:
    """Raises ConfigError where one of these fields was changed although it does nothing: field `switch` is off."""
    if getattr(config, switch) is None or getattr(config, switch) is False:  # 0.0 is a value
        check_unchanged(config, preset, f"without {switch}", *names)


def check_unchanged(config: Any, preset: Any, where: str, *names: str) -> None:
    """Raises ConfigError where one of these fields was changed although it does nothing, `where` says when."""
    before = type(config)() if preset is None else preset
    for name in names:
        if getattr(config, name) != getattr(before, name):
            raise ConfigError(f"{name} {getattr(config, name)} does nothing {where}; leave it out")


def check_schedule(config: Any, preset: Any, what: str, share: str | None = None) -> None:
    """Raises ConfigError where steps were given for a schedule that ends where it starts: fields `what_start`,
    `what_end` and `what_env_steps`. `share` names the field that says what part of the budget those steps are, where
    there is one: it does nothing there either, nor beside the steps."""
    start, end, steps = (getattr(config, f"{what}_{part}") for part in ("start", "end", "env_steps"))
    shares = () if share is None else (share,)
    if start == end:
        given = () if steps is None else (f"{what}_env_steps",)
        check_unchanged(config, preset, f"where {what} is {start:g} throughout", *given, *shares)
    elif steps is not None:
        check_unchanged(config, preset, f"beside {what}_env_steps", *shares)


@functools.cache
def _choices(cls: type) -> dict[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(cls)
    literals = {name: kind for name, kind in hints.items() if typing.get_origin(kind) is typing.Literal}
    return {name: typing.get_args(kind) for name, kind in literals.items()}


def _given(config: Any, names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(name, value) for name in names if (value := getattr(config, name)) is not None]


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _decode(value: Any, kind: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is typing.Annotated:
        return _decode(value, arguments[0], name)
    if origin is typing.Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            return value
    elif origin in (typing.Union, types.UnionType):
        for option in sorted(arguments, key=lambda option: type(value) is not option):  # an exact type comes first
            try:
                return _decode(value, option, name)
            except ConfigError:
                continue
    elif kind is type(None):
        if value is None:
            return None
    elif (origin or kind) is tuple and isinstance(value, (list, tuple)):
        if not arguments or arguments[-1] is Ellipsis:
            return tuple(_decode(item, arguments[0] if arguments else Any, name) for item in value)
        if len(value) == len(arguments):
            return tuple(_decode(item, one, name) for item, one in zip(value, arguments, strict=True))
    elif (origin or kind) is list and isinstance(value, (list, tuple)):
        return [_decode(item, arguments[0] if arguments else Any, name) for item in value]
    elif (origin or kind) in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _decode(item, arguments[1] if arguments else Any, name) for key, item in value.items()}
    elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return from_json(typing.cast(type, kind), value)
    elif kind is float and (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return float(value)
    elif kind is float and isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    elif kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind in (bool, str) and isinstance(value, kind):
        return value
    raise ConfigError(f"{name} is {value!r} ({type(value).__name__}); it takes {_type_name(kind)}")


def _type_name(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(kind)))}"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_type_name(option) for option in typing.get_args(kind))
    if kind is type(None):
        return "None"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
