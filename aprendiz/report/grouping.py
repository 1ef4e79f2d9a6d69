"""Which runs are the same but for their seed, and what tells the others apart."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aprendiz.errors import ConfigError
from aprendiz.report.core import RunData
from aprendiz.report.reading import as_text

MISSING = "\u2013"
"""What is shown of a setting that a run does not have."""
INCIDENTAL = ("seed", "wandb", "torch_threads", "cadence", "budget", "evaluation", "samples", "pictures")
"""Parts of a configuration that say how long and how a run was measured, and not what it is."""
ON_REQUEST = ("device", "precision")
"""Chosen by measuring the machine; they tell runs apart only where the command named them."""
LABEL_SETTINGS = 4
"""Settings in a label, where so many do."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds."""

    label: str
    """What tells it from the other groups of its task; the same on every task, so that tasks can be put together."""
    kind: str
    task: str
    learner: str
    runs: tuple[int, ...]
    """Places in the list of runs."""
    settings: Mapping[str, str]
    """The settings that differ among all groups, with this one's values."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as dotted names and values in words; lists are values."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = as_text(value)
    return found


def settings(run: RunData) -> dict[str, str]:
    """Everything that was set for a run, its family, task, learner and seed included."""
    about = {"kind": run.kind, "task": run.task, "learner": run.learner, "seed": as_text(run.seed)}
    return about | flatten(run.config)


def differing(runs: Sequence[RunData]) -> dict[str, list[str]]:
    """Names of the settings in which runs of the same family differ, with every run's value.

    Settings that only some learners have come behind those that all have, and what was only measured otherwise (how
    long, how often) comes last. Runs of several families have hardly a setting in common; that a word model has no
    discount is no difference.
    """
    every = [settings(run) for run in runs]
    found: dict[str, bool] = {}  # by name, whether some of a family do not have it
    for kind in dict.fromkeys(run.kind for run in runs):
        of_kind = [one for one in every if one["kind"] == kind]
        for name in dict.fromkeys(name for one in of_kind for name in one):
            if len({one.get(name, MISSING) for one in of_kind}) > 1:
                found[name] = found.get(name, False) or any(name not in one for one in of_kind)
    ordered = sorted(found, key=lambda name: (name.partition(".")[0] in INCIDENTAL, found[name]))
    return {name: [one.get(name, MISSING) for one in every] for name in ordered}


def group(runs: Sequence[RunData], by: Sequence[str] = ()) -> list[Group]:
    """Groups of runs, in the order of their first runs.

    Without `by`, runs are together that share family, task, learner and all of their configuration but how long they
    ran and how they were measured. Of runs whose budget was minutes, numbers are derived from the speed of the machine;
    those that the same words started, but for the seed, are together as well. With `by`, family, task and the settings
    named (whole, or by their last parts) decide alone. Raises ConfigError for a setting that no run has.
    """
    every = [settings(run) for run in runs]
    members: dict[tuple, list[int]] = defaultdict(list)
    if by:
        names = {name: _named(name, every) for name in by}
        for index, one in enumerate(every):
            found = (next((one[name] for name in names[given] if name in one), MISSING) for given in by)
            members[(one["kind"], one["task"], *found)].append(index)
        made = []
        for (kind, task, *values), indices in members.items():
            chosen = dict(zip(by, values, strict=True))
            label = ", ".join(value if name == "learner" else f"{name} {value}" for name, value in chosen.items())
            made.append(Group(label, kind, task, every[indices[0]]["learner"], tuple(indices), chosen))
        return made
    for index, (run, one) in enumerate(zip(runs, every, strict=True)):
        members[_signature(run, one)].append(index)
    return _labelled([tuple(indices) for indices in members.values()], runs, every)


def repeated(runs: Sequence[RunData]) -> list[list[int]]:
    """Places of runs that are the same in everything, their seed included, each set of them together."""
    members: dict[tuple, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        if run.seed is not None:
            members[(run.seed, *_signature(run, settings(run)))].append(index)
    return [indices for indices in members.values() if len(indices) > 1]


def _named(given: str, every: Sequence[Mapping[str, str]]) -> list[str]:
    """The full names that `given` means."""
    wanted = given.replace("-", "_")
    known = dict.fromkeys(name for one in every for name in one)
    found = [name for name in known if name == wanted] or [name for name in known if name.endswith(f".{wanted}")]
    if not found:
        lasts = {name.rpartition(".")[2] for name in known}
        close = difflib.get_close_matches(wanted, [*known, *lasts], 3)
        hint = f"closest: {', '.join(close)}" if close else f"there are {', '.join(list(lasts)[:8])} and more"
        raise ConfigError(f"no run has a setting {given!r} to group by; {hint}")
    return found


def _counts(name: str, run: RunData) -> bool:
    first = name.partition(".")[0]
    if first in ON_REQUEST:
        return any(word.partition("=")[0] == f"--{first}" for word in run.command)
    return first not in INCIDENTAL


def _signature(run: RunData, one: Mapping[str, str]) -> tuple:
    budget = run.config.get("budget")
    if isinstance(budget, Mapping) and budget.get("minutes") is not None and run.command:
        return (run.kind, run.task, run.learner, *_words(run.command))
    return tuple(sorted((name, value) for name, value in one.items() if _counts(name, run)))


def _words(command: Sequence[str]) -> list[str]:
    """The words of a command without its seed and what changes nothing that is learned."""
    kept, skip = [], False
    for word in command:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in ("--seed", "--wandb"):
            skip = not equals
        else:
            kept.append(word)
    return kept


def _labelled(
    found: Sequence[tuple[int, ...]], runs: Sequence[RunData], every: Sequence[dict[str, str]]
) -> list[Group]:
    """Groups with their labels: the learner, and what differs among those of the same learner on the same task."""
    rivals: dict[tuple, list[tuple[int, ...]]] = defaultdict(list)
    for indices in found:
        run = runs[indices[0]]
        rivals[(run.kind, run.task, run.learner)].append(indices)
    labels: dict[tuple[int, ...], tuple[str, dict[str, str]]] = {}
    for (_, _, learner), several in rivals.items():
        firsts = [indices[0] for indices in several]
        names = [
            name
            for name in dict.fromkeys(name for first in firsts for name in every[first])
            if _counts_any(name, runs, firsts) and len({every[first].get(name, MISSING) for first in firsts}) > 1
        ]
        short = _short(names)
        telling = _telling(names, [every[first] for first in firsts], [runs[first] for first in firsts])
        taken: dict[str, int] = defaultdict(int)
        for indices, first in zip(several, firsts, strict=True):
            shown = [f"{short[name]} {every[first].get(name, MISSING)}" for name in telling]
            label = ", ".join([learner, *shown, *(["..."] if len(names) > len(telling) else [])])
            taken[label] += 1
            differ = {short[name]: every[first].get(name, MISSING) for name in names}
            labels[indices] = (f"{label} ({taken[label]})" if taken[label] > 1 else label, differ)
    return [
        Group(
            labels[indices][0],
            runs[indices[0]].kind,
            runs[indices[0]].task,
            runs[indices[0]].learner,
            indices,
            labels[indices][1],
        )
        for indices in found
    ]


def _telling(names: Sequence[str], every: Sequence[Mapping[str, str]], runs: Sequence[RunData]) -> list[str]:
    """Of settings that differ those that a label needs: what somebody gave on the command line, and of the rest, which
    often follows from that, only what still tells groups apart."""
    asked = {word.partition("=")[0].lstrip("-").replace("-", "_") for run in runs for word in run.command}
    given = [name for name in names if name.rpartition(".")[2] in asked]
    chosen = given[:LABEL_SETTINGS]

    def kinds(some: Sequence[str]) -> int:
        return len({tuple(one.get(name, MISSING) for name in some) for one in every})

    for name in (*given[LABEL_SETTINGS:], *(name for name in names if name not in given)):
        if kinds(chosen) == len(every):
            break
        if kinds([*chosen, name]) > kinds(chosen):
            chosen.append(name)
    return chosen


def _counts_any(name: str, runs: Sequence[RunData], indices: Sequence[int]) -> bool:
    return any(_counts(name, runs[index]) for index in indices)


def _short(names: Sequence[str]) -> dict[str, str]:
    """Each name by its last part, or more of it where another one ends alike."""
    lasts = [name.rpartition(".")[2] for name in names]
    return {name: last if lasts.count(last) == 1 else name for name, last in zip(names, lasts, strict=True)}
