"""Metrics of samples and of codes, and who judges them. Importing this package imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generative.metrics.balance import Balance, class_balance
    from generative.metrics.evaluation import report
    from generative.metrics.frechet import fid, frechet_distance
    from generative.metrics.judge import Judge, judge_for
    from generative.metrics.neighbours import PrecisionRecall, precision_recall
    from generative.metrics.probe import Probe, linear_probe

__all__ = [
    "Balance",
    "Judge",
    "PrecisionRecall",
    "Probe",
    "class_balance",
    "fid",
    "frechet_distance",
    "judge_for",
    "linear_probe",
    "precision_recall",
    "report",
]

# No module has the name of a function: importing it would put the module in the function's place.
_WHERE = {
    "Balance": "balance",
    "Judge": "judge",
    "PrecisionRecall": "neighbours",
    "Probe": "probe",
    "class_balance": "balance",
    "fid": "frechet",
    "frechet_distance": "frechet",
    "judge_for": "judge",
    "linear_probe": "probe",
    "precision_recall": "neighbours",
    "report": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
