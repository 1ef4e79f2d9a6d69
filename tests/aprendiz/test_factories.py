"""What a registered factory takes, by its signature."""

from __future__ import annotations

from typing import Any, Literal

from aprendiz.factories import defaults, own_options, types_of


def folder(path: str, *, size: int | None = None, mode: Literal["grey", "colour"] = "grey") -> None:
    """A factory of ours."""


def anything(path: str, **options: Any) -> None:
    """A factory that does not say what it takes."""


def unannotated(size=3, name=None, *, wrong: NoSuchType = 1.5):  # type: ignore[no-untyped-def] # noqa: F821
    """A factory of a third party."""


def test_options_are_those_that_the_name_does_not_fix() -> None:
    assert own_options(folder, {"path": "holiday"}) == {"size": None, "mode": "grey"}
    assert own_options(folder, {}) == {"path": None, "size": None, "mode": "grey"}
    assert own_options(anything, {}) is None
    assert defaults(anything) == {"path": None}


def test_types_are_annotated_or_those_of_the_defaults() -> None:
    known = own_options(folder, {"path": "holiday"})
    assert known is not None
    assert types_of(known, folder) == {"size": int | None, "mode": Literal["grey", "colour"]}
    assert types_of(defaults(unannotated), unannotated) == {"size": int, "name": str | None, "wrong": float}
