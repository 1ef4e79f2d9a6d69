"""Final evaluations of groups of runs: what each is worth, with what certainty, and which is likely better.

Statistics are those of Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264); see `aprendiz.report.scores`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aprendiz.report import scores
from aprendiz.report.core import RunData, natural
from aprendiz.report.finals import SCORE, Final
from aprendiz.report.grouping import Group

LOWER_IS_BETTER = (
    "loss", "error", "fid", "nats", "bits", "perplexity", "distance", "divergence", "gap", "deviation", "wasserstein",
)  # fmt: skip
"""Words in a metric's name that say so, as whole parts of it."""
NO_QUALITY = (
    "kl", "asked", "unknown", "pairs", "standard", "d", "g", "stage", "length", "norm", "partition", "energy",
    "activation", "active", "hidden", "penalty",
)  # fmt: skip
"""Words in the names of what is counted or looked at, and neither good nor bad."""
PER_TOKEN = {"token", "perplexity"}
"""Words in the names of what depends on how a text was cut into tokens."""
BESIDE = ("floor_", "ngram_")
"""Beginnings of the names of what something else scores: training images in place of samples, n-grams."""
MOST_COMPARED = 12
"""Groups in a table of probabilities of improvement."""


@dataclass(frozen=True)
class Row:
    """A metric of a group."""

    group: int
    metric: str
    values: tuple[float, ...]
    """One of each run that has it."""
    mean: float
    iqm: float
    interval: tuple[float, float] | None
    """95%, of the interquartile mean; None for one run whose games nobody kept: it says nothing of its spread."""
    over: str
    """What the interval is over: "3 runs", or "30 games" of the only run."""
    human_normalized: float | None = None
    """Mean over runs; 0 is random play and 1 a human's."""
    human_interval: tuple[float, float] | None = None
    source: str = "evaluation"
    compares: tuple = ()
    """What must be equal for rows of a task and a metric to compare."""


@dataclass(frozen=True)
class Improvement:
    """Probability that a run of `better` scores higher than one of `worse`."""

    better: str
    worse: str
    probability: float
    interval: tuple[float, float] | None
    """95%; None where both have a single run of every task: it says nothing of other seeds."""


@dataclass(frozen=True)
class Aggregate:
    """Human-normalised scores of a label over all the tasks that are compared."""

    label: str
    runs: int
    mean: float
    median: float
    iqm: float
    optimality_gap: float
    intervals: Mapping[str, tuple[float, float]]


@dataclass
class Comparison:
    """All tables of a family."""

    rows: list[Row] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    improvements: list[Improvement] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    """Labels in the table of improvements."""
    tasks: list[str] = field(default_factory=list)
    """Tasks that the improvements are over."""
    human_tasks: list[str] = field(default_factory=list)
    """Tasks that the aggregates are over."""
    metric: str = SCORE
    """What the improvements are of."""
    notes: list[str] = field(default_factory=list)


def higher_is_better(metric: str) -> bool:
    """What its name says. An entropy is that of classes, the higher the more even they are; a cross entropy is a
    loss. Of a rank correlation the name begins with that of a file."""
    parts = metric.rpartition("/")[2].split("_")
    if parts[-1] == "spearman":
        return True
    if "entropy" in parts:
        return "cross" not in parts
    return not any(part in LOWER_IS_BETTER for part in parts)


def tells_quality(metric: str) -> bool:
    """Whether one value of a metric is better than another, and the model's own."""
    name = metric.rpartition("/")[2]
    if name.endswith("_spearman"):
        return True
    return not name.startswith(BESIDE) and not any(part in NO_QUALITY for part in name.split("_"))


def compare(kind: str, runs: Sequence[RunData], groups: Sequence[Group], ends: Sequence[Final | None]) -> Comparison:
    """The tables of one family. `groups` are all groups, of which those of `kind` count."""
    result = Comparison()
    chosen = [(index, one) for index, one in enumerate(groups) if one.kind == kind]
    for index, one in chosen:
        result.rows += _rows(index, one, ends, runs[one.runs[0]].config)
    _note_protocols(result, chosen, ends, runs)
    _across_tasks(result, chosen, ends)
    order = {
        name: place for place, name in enumerate(dict.fromkeys([result.metric, *(row.metric for row in result.rows)]))
    }
    tasks = {name: place for place, name in enumerate(dict.fromkeys(one.task for _, one in chosen))}
    result.rows.sort(
        key=lambda row: (tasks[groups[row.group].task], row.metric.startswith(BESIDE), order[row.metric], row.group)
    )
    return result


def _rows(index: int, one: Group, ends: Sequence[Final | None], config: Mapping[str, Any]) -> list[Row]:
    known = [end for run in one.runs if (end := ends[run]) is not None]
    if any(end.source == "evaluation" for end in known):  # scores of training do not mix with those of evaluations
        known = [end for end in known if end.source == "evaluation"]
    measured = list(dict.fromkeys(name for end in known for name in end.values))
    rows = []
    for metric in measured:
        having = [end for end in known if metric in end.values]
        values = [end.values[metric] for end in having]
        games = having[0].games if metric == SCORE else ()
        single = len(values) == 1 and len(games) > 1
        sample = games if single else values
        over = f"{len(games)} games of one run" if single else f"{len(values)} run{'s' if len(values) > 1 else ''}"
        human = [end.human_normalized for end in having if end.human_normalized is not None]
        normalized = metric == SCORE and len(human) == len(values)
        rows.append(
            Row(
                group=index,
                metric=metric,
                values=tuple(values),
                mean=float(np.mean(values)),
                iqm=float(scores.interquartile_mean([np.asarray(sample)])),
                interval=scores.interval([sample]) if len(sample) > 1 else None,
                over=over,
                human_normalized=float(np.mean(human)) if normalized else None,
                human_interval=scores.interval([human], scores.mean) if normalized and len(human) > 1 else None,
                source=having[0].source,
                compares=(having[0].source, *_compares(metric, measured, config)),
            )
        )
    return rows


def _compares(metric: str, measured: Sequence[str], config: Mapping[str, Any]) -> tuple:
    """`score` stands for something else in models that are measured by other things (of a GAN minus its FID, of a VAE a
    bound of the likelihood), and in texts of other tokens, as everything does that is told for each token."""
    text = config.get("text")
    spec = text.get("spec") if isinstance(text, Mapping) else None
    tokens = (str(spec.get("level")), str(spec.get("vocabulary_size"))) if isinstance(spec, Mapping) else ()
    if metric == SCORE:
        return (*sorted(measured), *tokens)
    return tokens if not PER_TOKEN.isdisjoint(metric.split("_")) else ()


def _note_protocols(
    result: Comparison, chosen: Sequence[tuple[int, Group]], ends: Sequence[Final | None], runs: Sequence[RunData]
) -> None:
    members: dict[str, list[int]] = defaultdict(list)
    for _, one in chosen:
        members[one.task] += one.runs
    for task, indices in members.items():
        protocols: dict[str, set[str]] = defaultdict(set)  # who measures something else does not compare anyway
        for index in indices:
            if (end := ends[index]) is not None and end.protocol:
                for metric in filter(tells_quality, end.values):
                    protocols[metric].add(end.protocol)
        most = max(map(len, protocols.values()), default=0)
        if most > 1:
            result.notes.append(
                f"{task}: not all runs were evaluated alike ({most} protocols: games, seeds, checkpoint); "
                "evaluate them together for numbers that compare"
            )
        if runs[indices[0]].kind in ("agents", "generative", "language"):
            missing = [runs[i] for i in indices if (end := ends[i]) is None or end.source != "evaluation"]
            _note_missing(result, task, missing, len(indices))


def _note_missing(result: Comparison, task: str, missing: Sequence[RunData], count: int) -> None:
    never = [run for run in missing if not run.evaluations]
    if never:
        result.notes.append(
            f"{task}: {len(never)} of {count} runs have no evaluation, so {'its' if len(never) == 1 else 'their'} last "
            f"score of training stands in where there is one; evaluate with: python -m {never[0].kind}.evaluate "
            f"{' '.join(run.name for run in never[:3])}{' ...' if len(never) > 3 else ''}"
        )
    without = [run for run in missing if run.evaluations]
    if without:
        said = without[0].evaluations[-1].get("notes")
        why = f" ({'; '.join(map(str, said))})" if isinstance(said, list) and said else ""
        names = f"{natural([run.name for run in without], 3)} {'was' if len(without) == 1 else 'were'}"
        result.notes.append(f"{task}: nothing was measured when {names} evaluated{why}")


def _across_tasks(result: Comparison, chosen: Sequence[tuple[int, Group]], ends: Sequence[Final | None]) -> None:
    """Improvements between labels, and aggregates of human-normalised scores where there are several tasks."""
    result.metric, comparable = _main_metric(result, {index: one.task for index, one in chosen})
    rows = {(row.group, row.metric): row for row in result.rows if row.group in comparable}
    table: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    normalized: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for index, one in chosen:
        row = rows.get((index, result.metric))
        if row is not None:
            table[one.label][one.task] = row.values
        known = [end.human_normalized for run in one.runs if (end := ends[run]) is not None]
        human = [value for value in known if value is not None]
        if human:
            normalized[one.label][one.task] = human
    tasks = list(dict.fromkeys(one.task for _, one in chosen if one.task in _tasks_of_several(table)))
    labels = [label for label in table if any(task in table[label] for task in tasks)]
    complete = [label for label in labels if all(task in table[label] for task in tasks)]
    if len(complete) < 2:  # no task has them all: compare where most are
        count = Counter(task for label in labels for task in table[label])
        tasks = [max(tasks, key=lambda task: count[task])] if tasks else []
        complete = [label for label in labels if all(task in table[label] for task in tasks)]
    if len(complete) < len(labels):
        result.notes.append(
            f"compared over {', '.join(tasks)}: {len(labels) - len(complete)} of {len(labels)} are not there"
        )
    result.tasks = tasks
    sign = 1.0 if higher_is_better(result.metric) else -1.0
    places = dict.fromkeys(complete, 0)  # tasks differ in scale: the places of means are added up, not the means
    for task in tasks:
        in_order = sorted(complete, key=lambda label: -sign * float(np.mean(table[label][task])))
        for place, label in enumerate(in_order):
            places[label] += place
    ranked = sorted(complete, key=lambda label: places[label])
    if len(ranked) > MOST_COMPARED:
        result.notes.append(f"the table of improvements has the {MOST_COMPARED} best of {len(ranked)} groups")
    result.compared = ranked[:MOST_COMPARED] if len(ranked) > 1 else []
    for better in result.compared:
        for worse in result.compared:
            if better != worse:
                x = [sign * np.asarray(table[better][task]) for task in tasks]
                y = [sign * np.asarray(table[worse][task]) for task in tasks]
                several = any(len(row) > 1 for row in (*x, *y))
                interval = scores.improvement_interval(x, y) if several else None
                result.improvements.append(
                    Improvement(better, worse, scores.probability_of_improvement(x, y), interval)
                )
    _aggregate(result, normalized)


def _tasks_of_several(table: Mapping[str, Mapping[str, Any]]) -> set[str]:
    count = Counter(task for row in table.values() for task in row)
    return {task for task, number in count.items() if number > 1}


def _shared(tasks: Sequence[str], table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [task for task in tasks if all(task in row for row in table.values())]


def _aggregate(result: Comparison, normalized: Mapping[str, Mapping[str, list[float]]]) -> None:
    tasks = list(dict.fromkeys(task for row in normalized.values() for task in row))
    compared = dict(normalized)
    shared = _shared(tasks, compared)
    while compared and len(shared) < 2:  # who played least leaves
        del compared[min(compared, key=lambda label: len(compared[label]))]
        shared = _shared(tasks, compared)
    if not compared:
        return
    if len(compared) < len(normalized):
        result.notes.append(
            f"human-normalised scores are taken together for {len(compared)} of {len(normalized)} groups: the others "
            "were not evaluated on the same tasks"
        )
    result.human_tasks = shared
    if len(shared) < len(tasks):
        result.notes.append(
            f"human-normalised scores are taken together over the {len(shared)} of {len(tasks)} tasks that all have"
        )
    sizes = {len(row[task]) for row in compared.values() for task in shared}
    if len(sizes) > 1:
        result.notes.append(
            "tasks have different numbers of runs: in interquartile mean and optimality gap those with more weigh more"
        )
    for label, row in compared.items():
        values = [row[task] for task in shared]
        made = {
            "mean": scores.mean,
            "median": scores.median,
            "iqm": scores.interquartile_mean,
            "optimality_gap": scores.optimality_gap,
        }
        rows = scores.checked(values)
        result.aggregates.append(
            Aggregate(
                label=label,
                runs=sum(len(one) for one in values),
                **{name: float(function(rows)) for name, function in made.items()},
                intervals={name: scores.interval(values, function) for name, function in made.items()},
            )
        )


def _main_metric(result: Comparison, tasks: Mapping[int, str]) -> tuple[str, set[int]]:
    """The metric by which most groups compare, and those groups. Final evaluations and scores of training do not.

    tasks: of each group.
    """
    evaluated = {row.group for row in result.rows if row.source == "evaluation"}
    every = {row.group for row in result.rows}
    usable = evaluated if len(evaluated) > 1 else max(evaluated, every - evaluated, key=len)
    found: dict[str, set[int]] = {}
    for metric in dict.fromkeys(row.metric for row in result.rows if tells_quality(row.metric)):
        kinds: dict[str, dict[tuple, set[int]]] = defaultdict(lambda: defaultdict(set))
        for row in result.rows:
            if row.metric == metric and row.group in usable:
                kinds[tasks[row.group]][row.compares].add(row.group)
        found[metric] = set().union(*(max(alike.values(), key=len) for alike in kinds.values()))
    metric = max(found, key=lambda name: (len(found[name]), name == SCORE), default=SCORE)
    comparable = found.get(metric, set())
    if 0 < len(comparable) < len(usable):
        others = len(usable) - len(comparable)
        result.notes.append(
            f"unequal metrics: {others} of {len(usable)} groups are not measured by {metric}, and not compared"
        )
    return metric, comparable
