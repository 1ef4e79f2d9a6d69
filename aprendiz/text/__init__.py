"""Texts by name: `load("pydoc")`, `load("file:holmes.txt", level="word", min_count=5)`, `load("tsv:reviews.tsv")`.

Importing this package, and `load`, import no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from aprendiz import TEXTS
from aprendiz.errors import ConfigError, DataError
from aprendiz.factories import defaults, own_options, types_of

if TYPE_CHECKING:
    from aprendiz.text.core import LabelledTexts, TextData, Vocabulary

__all__ = ["canonical", "keep", "kept", "load", "names", "option_types", "options"]

_WITH_PATH = ("file", "folder", "tsv")
"""Names that are followed by a path."""


def _common(
    *,
    level: Literal["char", "byte", "word"] = "char",
    held_out: float = 0.1,
    validation: float = 0.1,
    min_count: int = 1,
    vocabulary_limit: Optional[int] = None,  # noqa: UP045 (tyro's help reads better)
    tokens: Literal["words-and-marks", "whitespace"] = "words-and-marks",
    lower: bool = False,
) -> None:
    """Options of every text, whoever made it; documented in docs/text.md."""


def load(name: str, *, vocabulary: Vocabulary | None = None, **given: Any) -> TextData | LabelledTexts:
    """The text `name` (registered, `file:PATH`, `folder:PATH`, `tsv:PATH`, `-` or `package.module:factory`), as ids.

    `options(name)` tells what it takes. A `vocabulary` is used instead of one made from the training part: to judge a
    model on another text than its own; it decides level, tokens and lower then. Raises UnknownNameError, PluginError,
    ConfigError for an option that it does not have or a value that the option cannot have, DataError where the text
    cannot be had or is none, StorageError where the disk has no room for the ids of a large one.
    """
    factory, fixed = _factory(name)
    own, common = own_options(factory, fixed), defaults(_common)
    known = {**(own or {}), **common}
    for option in given:
        if own is not None and option not in known:
            raise ConfigError(f"text {name} has no option {option!r}; it has: {', '.join(known)}")
    taken = set(common) - set(own or {})
    chosen = {key: given.get(key, default) for key, default in common.items() if key in taken}
    if vocabulary is not None:
        chosen |= {"level": vocabulary.level} | {
            key: getattr(vocabulary, key) for key in ("tokens", "lower") if hasattr(vocabulary, key)
        }
    _check(chosen)
    raw = factory(**fixed, **{key: value for key, value in given.items() if key not in taken})

    from aprendiz.text import build
    from aprendiz.text.core import LabelledRows, RawText
    from aprendiz.text.encode import Encoding

    if not isinstance(raw, (RawText, LabelledRows)):
        raise DataError(f"text {name!r} is a {type(raw).__name__}; its factory must return RawText or LabelledRows")
    kept_options = {key: value for key, value in {**raw.options, **chosen}.items() if key not in fixed}
    shares = {key: chosen.pop(key) for key in ("held_out", "validation")}
    make: Callable[..., Any] = build.text_data if isinstance(raw, RawText) else build.labelled_texts
    return make(raw, Encoding(**chosen), **shares, options=kept_options, given=vocabulary)


def names() -> list[str]:
    """All registered names; `file`, `folder` and `tsv` want a path after a colon."""
    return TEXTS.names()


def options(name: str) -> dict[str, Any]:
    """The options that `load(name, ...)` takes, with their defaults; loads nothing. Raises as `load`."""
    factory, fixed = _factory(name)
    return {**(own_options(factory, fixed) or {}), **defaults(_common)}


def option_types(name: str) -> dict[str, Any]:
    """The annotated type of each of `options(name)`, for the command line; without one, that of its default."""
    factory, _ = _factory(name)
    return types_of(options(name), _common, factory)


def canonical(name: str) -> str:
    """The name as a run saves it: as it is listed, and of files and folders the absolute path."""
    kind, path = _path_of(name)
    if path is None:
        return TEXTS.canonical(name)
    return f"{kind}:{Path(path).expanduser().resolve()}"


def keep(data: TextData, folder: Path) -> None:
    """Writes the ids of a text and its vocabulary into a new folder, whole or not at all, for a run whose text cannot
    be had again (standard input); `kept` opens them. Raises StorageError."""
    from aprendiz.text import build

    build.keep(data, folder)


def kept(folder: Path, name: str, options: dict[str, Any]) -> TextData:
    """The text that `keep` wrote, mapped into memory. Raises DataError where it is missing or damaged."""
    from aprendiz.text import build

    return build.kept(folder, name, options)


def _path_of(name: str) -> tuple[str, str | None]:
    """(`file`, PATH) of `file:PATH`; no path where the name has none."""
    kind, colon, path = name.partition(":")
    return (kind, path) if colon and kind in _WITH_PATH else (name, None)


def _factory(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes the text, and the arguments that the name itself gives."""
    kind, path = _path_of(name)
    if path == "" or (path is None and name in _WITH_PATH):
        raise ConfigError(f"{kind} wants a path, as in {kind}:PATH")
    if path is None and name not in names() and ":" not in name and _exists(name):
        raise ConfigError(
            f"{name} is no text's name; for your own use {'folder' if Path(name).is_dir() else 'file'}:{name}"
        )
    factory = TEXTS.get(kind)
    if not callable(factory):
        raise DataError(f"text {name!r} is a {type(factory).__name__}; give a callable factory(**options)")
    return factory, {} if path is None else {"path": path}


def _exists(path: str) -> bool:
    """Whether there is such a file or folder; no where nobody can tell."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _check(chosen: dict[str, Any]) -> None:
    """Values from the command line or a file: their types."""
    for key in ("held_out", "validation"):
        if key in chosen and not isinstance(chosen[key], (int, float)):
            raise ConfigError(f"{key} is {chosen[key]!r}, not a number")
    for key in ("min_count", "vocabulary_limit"):
        if chosen.get(key) is not None and type(chosen[key]) is not int:
            raise ConfigError(f"{key} is {chosen[key]!r}, not a whole number")
