from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from aprendiz.config import check_above_zero, check_at_least, check_share, field_docs, from_json, to_json
from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 0
    """Seed of every generator."""


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Config(Base):
    """An agent."""

    learning_rate: float = 1e-4
    """Step size of Adam
    (Mnih et al. 2015)."""
    double: bool = False
    loss: Literal["huber", "mse"] = "huber"
    """Loss."""
    limit: Optional[int] = None  # noqa: UP045 both spellings are in use
    betas: tuple[float, float] = (0.9, 0.999)
    channels: tuple[int, ...] = (32, 64)
    ceiling: float | None = math.inf
    folder: Path | None = None
    inner: Inner = Inner()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0")


def test_round_trip_through_json_text() -> None:
    config = Config(
        seed=3,
        learning_rate=1,
        limit=7,
        channels=(1, 2, 3),
        folder=Path("a/b"),
        inner=Inner(depth=2),
        options={"sticky": 0.25},
    )
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(Config, json.loads(text)) == config
    assert from_json(Config, {}) == Config()


def test_infinity_and_nan_survive() -> None:
    data = json.loads(json.dumps(to_json(Config(ceiling=math.nan)), allow_nan=False))
    assert math.isnan(from_json(Config, data).ceiling)
    assert from_json(Config, json.loads(json.dumps(to_json(Config())))).ceiling == math.inf


def test_an_int_serves_as_a_float_and_becomes_one() -> None:
    assert isinstance(from_json(Config, {"learning_rate": 1}).learning_rate, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"learning_rat": 1.0}, r"Config has no field 'learning_rat'; did you mean 'learning_rate'\?"),
        ({"learning_rate": "fast"}, r"Config.learning_rate is 'fast' \(str\); it takes float"),
        ({"seed": 1.5}, r"Config.seed is 1.5 \(float\); it takes int"),
        ({"seed": True}, r"Config.seed is True \(bool\); it takes int"),
        ({"double": 1}, r"Config.double is 1 \(int\); it takes bool"),
        ({"loss": "l1"}, r"Config.loss is 'l1' \(str\); it takes one of 'huber', 'mse'"),
        ({"limit": "x"}, r"Config.limit is 'x' \(str\); it takes int or None"),
        ({"betas": [0.9]}, r"Config.betas is \[0.9\] \(list\); it takes tuple\[float, float\]"),
        ({"channels": [1, "x"]}, r"Config.channels is 'x' \(str\); it takes int"),
        ({"inner": {"depht": 1}}, r"Inner has no field 'depht'"),
        ({"learning_rate": -1}, "learning_rate is -1.0; it must be above 0"),
    ],
)
def test_errors_name_field_value_and_type(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Config, data)


def test_a_missing_field_is_named() -> None:
    cls = dataclasses.make_dataclass("Needy", [("steps", int)], kw_only=True)
    with pytest.raises(ConfigError, match=r"Needy needs a value for 'steps' \(int\)"):
        from_json(cls, {})


def test_field_docs_come_from_the_source_with_those_of_the_bases() -> None:
    docs = field_docs(Config)
    assert docs["seed"] == "Seed of every generator."
    assert docs["learning_rate"] == "Step size of Adam (Mnih et al. 2015)."
    assert docs["double"] == "" and docs["loss"] == "Loss."
    assert list(docs) == [field.name for field in dataclasses.fields(Config)]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    number: float | None = None


@pytest.mark.parametrize(
    ("check", "inside", "outside", "said"),
    [
        (lambda config: check_at_least(config, 1, "number"), (1, 5), (0, math.inf, math.nan), "must be at least 1"),
        (lambda config: check_at_least(config, 0, "number"), (0, 5), (-1, math.inf), "must be 0 or more"),
        (lambda config: check_share(config, "number"), (0.0, 1.0), (-0.1, 1.1, math.nan), "must lie between 0 and 1"),
        (lambda config: check_above_zero(config, "number"), (1e-9, 7), (0.0, math.inf, math.nan), "must be above 0"),
    ],
    ids=["at least 1", "0 or more", "share", "above 0"],
)
def test_numbers_are_checked_by_name(check: Any, inside: Any, outside: Any, said: str) -> None:
    for number in (*inside, None):  # None: not given
        check(Numbers(number=number))
    for number in outside:
        with pytest.raises(ConfigError, match=f"^number {said}, got"):
            check(Numbers(number=number))
