"""What single runs were worth in the end: of each the evaluation that counts."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aprendiz.report.core import Evaluation, RunData

SCORE = "score"
SELECTION = "selection games"
CONDITIONS = ("environment", "which", "episodes", "seed", "explore", "protocol", "text", "data")
"""What must be equal for two evaluations to compare."""


@dataclass(frozen=True)
class Final:
    """What one run was worth in the end."""

    values: Mapping[str, float]
    """By the name of the metric; whole games have `score`."""
    source: str
    """"evaluation", or SELECTION for the last score of training itself."""
    which: str = ""
    """The checkpoint: best, last or a step."""
    step: float | None = None
    games: tuple[float, ...] = ()
    """Scores of single games."""
    human_normalized: float | None = None
    protocol: str = ""
    """Evaluations with the same one compare."""


def finals(runs: Sequence[RunData]) -> list[Final | None]:
    """The evaluation of each run that counts: the newest with the protocol that most runs of its task have, and what
    only other evaluations of the same checkpoint measured (word sets may be given one at a time).

    A run that was never evaluated has the last `eval/score` of training; None where there is none either.
    """
    common: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for run in runs:
        for protocol in {_text(_conditions(one)) for one in run.evaluations}:
            common[(run.kind, run.task)][protocol] += 1
    return [_final(run, common[(run.kind, run.task)]) for run in runs]


def values_of(evaluation: Evaluation) -> dict[str, float]:
    """The numbers of an evaluation; those that are not finite are none."""
    if _is_number(evaluation.get("mean")):
        return {SCORE: float(evaluation["mean"])}
    metrics = evaluation.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    return {str(name): float(value) for name, value in metrics.items() if _is_number(value)}


def _final(run: RunData, common: Counter[str]) -> Final | None:
    usable = [one for one in run.evaluations if values_of(one)]
    if not usable:
        last = run.metrics.last
        values = {name.removeprefix("eval/"): value for name, (_, value) in last.items()}
        step = max((step for step, _ in last.values()), default=None)
        return Final(values, SELECTION, "last", step) if SCORE in values else None
    by_protocol = {_text(_conditions(one)): (place, one) for place, one in enumerate(usable)}  # the newest of each
    chosen = max(by_protocol, key=lambda name: (common[name], by_protocol[name][0]))
    found = by_protocol[chosen][1]
    values, conditions = _with_others(found, usable)
    games = found.get("scores")
    human = found.get("human_normalized")
    return Final(
        values=values,
        source="evaluation",
        which=str(found.get("which", "")),
        step=found.get("checkpoint_step"),
        games=tuple(map(float, games)) if isinstance(games, list) and all(map(_is_number, games)) else (),
        human_normalized=float(human) if human is not None and _is_number(human) else None,
        protocol=_text(conditions),
    )


def _conditions(evaluation: Evaluation) -> dict[str, Any]:
    kept = {name: evaluation[name] for name in CONDITIONS if evaluation.get(name) is not None}
    protocol = kept.get("protocol")
    if isinstance(protocol, dict):
        # What an id is registered with follows from the id.
        kept |= {f"protocol.{name}": value for name, value in protocol.items() if name != "registered"}
        del kept["protocol"]
    return kept


def _text(conditions: Mapping[str, Any]) -> str:
    return json.dumps(conditions, sort_keys=True, default=str)


def _with_others(found: Evaluation, usable: Sequence[Evaluation]) -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers of an evaluation and of others of the same checkpoint under conditions that do not contradict, and
    all their conditions together."""
    values, conditions = values_of(found), _conditions(found)
    if "metrics" not in found:  # whole games
        return values, conditions
    for one in reversed(usable):
        others = _conditions(one)
        agree = all(conditions[name] == others[name] for name in conditions.keys() & others.keys() - {"which"})
        if agree and "metrics" in one and one.get("checkpoint_step") == found.get("checkpoint_step"):
            values = values | {name: value for name, value in values_of(one).items() if name not in values}
            conditions = others | conditions
    return values, conditions


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of 400 digits
        return False
