"""What the pages of the agents say they reach, written anew from the files of results that benchmarks leave.

    python docs/agents/tables.py [--check]

Fills the tables of comparison.md and of environments.md and the part `measured` of each agent's page, all between
comments of their names, and the last cell of the agents' rows in the README. `--check` writes nothing and fails where a
page says something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "agents"
RESULTS = ROOT / "benchmarks" / "results"
ROOM = "minigrid-empty-random-6x6"
PRESET_IN_ROOM = {"sb3-dqn": " --preset like-dqn"}
"""Agent to the words of its preset in the room of pixels, where it is not the default."""


@dataclass(frozen=True, kw_only=True)
class Options:
    check: bool = False
    """Write nothing; fail where a page is not what the results say."""


def results(name: str) -> dict[str, Any]:
    """A file of results, {} where it was not made."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heading), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def linked(agent: str, folder: str = "") -> str:
    return f"[`{agent}`]({folder}{agent.split()[0]}.md)"


def interval_of(row: dict[str, Any], digits: int = 1, key: str = "interval") -> str:
    """The interval of a row in words."""
    low, high = row[key]
    return f"{low:.{digits}f} to {high:.{digits}f}"


def processors(runs: Iterable[dict[str, Any]], content: dict[str, Any]) -> str:
    """Where the runs of a file were made."""
    return ", ".join(sorted({one.get("cpu", content["machine"]["cpu"]) for one in runs}))


# ---------------------------------------------------------------- the tables


def cartpole_table() -> str:
    content = results("cartpole")
    if not content:
        return "Not measured yet."
    rows = []
    for agent in filter(content["summary"].get, (DQN_LINE[0], ONE_STEP, *DQN_LINE[1:])):
        found = content["summary"][agent]
        least = min(one["greedy_mean"] for one in content["runs"] if one["agent"] == agent)
        means = ", ".join(f"{mean:.1f}" for mean in found["means"])
        rows.append(
            (linked(agent), f"{found['solved_greedily']} of {found['runs']}", f"{least:.1f}", means, _seconds(found))
        )
    heading = ("agent", "solved", "least mean", "means with 1% random actions", "longest command, s")
    return f"{table(heading, rows)}\n\n{_made(content, content['runs'])}"


def _seconds(found: dict[str, Any]) -> str:
    return f"{found['seconds']:.0f}"


def _made(content: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    jobs = content["options"].get("jobs", 1)
    side = f", {jobs} runs at a time on one core each" if jobs > 1 else ""
    return f"Made on {content['machine']['cores']} cores ({processors(runs, content)}){side}."


def pixel_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for agent, row in sorted(found.items(), key=lambda item: -item[1]["mean"]):
        seconds, steps = row["seconds_to_goal"], row["env_steps_to_goal"]
        rows.append(
            (
                linked(agent),
                f"{row['mean']:.3f}",
                interval_of(row, 3),
                f"{row['reached']} of {row['runs']}",
                "-" if seconds is None else f"{seconds:.0f}",
                "-" if steps is None else f"{steps:,.0f}",
                f"{row['env_steps']:,.0f}",
            )
        )
    return rows


def pixel_table() -> str:
    content = results("pixel_task")
    if not content:
        return "Not measured yet."
    goal = f"{content['options']['goal']:g} reached"
    heading = ("agent", "mean", "95% interval", goal, "after s", "after steps", "steps in all")
    parts = [f"After {content['options']['minutes']:g} minutes:", table(heading, pixel_rows(content["clock"]))]
    parts += [f"After {content['options']['steps']:,} steps, at equal settings:"]
    parts += [table(heading, pixel_rows(content["steps"])), _made(content, content["runs"])]
    return "\n\n".join(parts)


def atari_table() -> str:
    content = results("atari-breakout-20")
    if not content:
        return "Not measured yet."
    rows = []
    for one in sorted(content["runs"], key=lambda one: -one["mean"]):
        human, steps = f"{one['human_normalized']:.0%}", f"{one['env_steps']:,}"
        rows.append((one["row"], f"{one['mean']:.1f}", interval_of(one), f"{one['median']:.1f}", human, steps))
    heading = ("agent", "mean", "95% interval", "median", "human-normalised", "steps")
    return f"{table(heading, rows)}\n\n{_made(content, content['runs'])}"


def learned_table() -> str:
    content = results("environments")
    if not content:
        return "Not measured yet."
    rows = []
    for one in sorted(content["runs"], key=lambda one: one["environment"]):
        digits = 1 if abs(one["mean"]) >= 10 else 2
        chance = f"{one['random_mean']:.{digits}f} ({interval_of(one, digits, 'random_interval')})"
        numbers = f"{one['mean']:.{digits}f}", interval_of(one, digits), f"{one['median']:.{digits}f}", chance
        rows.append(
            (f"`{one['environment']}`", linked(one["agent"], "agents/"), *numbers, f"{one['checkpoint_step']:,}")
        )
    heading = ("environment", "agent", "mean", "95% interval", "median", "random actions", "step of the checkpoint")
    minutes = f"After {content['options']['minutes']:g} minutes, one seed:"
    return f"{minutes}\n\n{table(heading, rows)}\n\n{_made(content, content['runs'])}"


def task_table(agent: str) -> str:
    """What the greedy policies of a tabular agent are worth, task by task."""
    content = results("tabular")
    runs = [one for one in content["runs"] if one["agent"] == agent]
    rows = []
    for task in dict.fromkeys(one["task"] for one in runs):
        own = [one for one in runs if one["task"] == task]
        gap, seconds = max(one["gap"] for one in own), max(one["seconds"] for one in own)
        rows.append((task, f"{own[0]['optimal']:.4f}", f"{gap:.3%}", f"{seconds:.1f}"))
    heading = ("task", "value iteration", f"greatest gap of {content['options']['seeds']} seeds", "longest command, s")
    return f"{table(heading, rows)}\n\n{_made(content, runs)}"


# ---------------------------------------------------------------- what one agent reaches


def on_cartpole(agent: str) -> tuple[str, str] | None:
    """A sentence for its page, words for the README; None where it was not measured."""
    content = results("cartpole")
    found = content.get("summary", {}).get(agent)
    if found is None:
        return None
    jobs = f" --jobs {content['options']['jobs']}" if content["options"]["jobs"] > 1 else ""
    solved = f"{found['solved_greedily']} of {found['runs']}"
    means = ", ".join(f"{mean:.1f}" for mean in found["means"])
    return (
        f"CartPole, 50,000 steps (`python -m benchmarks.cartpole{jobs}`): {solved} seeds solve it (500 on average over "
        "100 fresh games of the checkpoint called `best`, played greedily); with 1% random actions the means are "
        f"{means}.",
        f"CartPole solved by {solved} seeds",
    )


def on_pixels(agent: str) -> tuple[str, str] | None:
    content = results("pixel_task")
    row = content.get("clock", {}).get(agent)
    if row is None:
        return None
    words = f"{ROOM} --actions move{PRESET_IN_ROOM.get(agent, '')}"
    return (
        f"`{words}`, {content['options']['minutes']:g} minutes (`python -m benchmarks.pixel_task --jobs 2`): the last "
        f"checkpoint has {row['mean']:.3f} over 100 fresh games (95% interval over {row['runs']} seeds "
        f"{interval_of(row, 3)}).",
        f"room of pixels {row['mean']:.2f}",
    )


def beside_one_step(agent: str) -> tuple[str, str] | None:
    """Of the agent whose difference the presets have, too: what is without it."""
    found = results("cartpole").get("summary", {}).get(ONE_STEP), results("pixel_task").get("clock", {}).get(ONE_STEP)
    if None in found:
        return None
    solved = f"{found[0]['solved_greedily']} of {found[0]['runs']}"
    return (
        "In both it is the same agent as `dqn`, whose presets sum rewards there too. Returns over one step "
        f"(`{ONE_STEP}`) solve CartPole with {solved} seeds, and have {found[1]['mean']:.3f} "
        f"({interval_of(found[1], 3)}) in the room.",
        f"the same agent as `dqn` there; with one step {solved} and {found[1]['mean']:.2f}",
    )


def on_breakout(agent: str) -> tuple[str, str] | None:
    def of(minutes: int) -> list[dict[str, Any]]:
        return [one for one in results(f"atari-breakout-{minutes}").get("runs", ()) if one["row"] == agent]

    sentences, words = [], []
    for minutes, length in ((20, "20 minutes"), (60, "an hour")):
        if not (runs := of(minutes)):
            continue
        found = [
            f"{one['mean']:.1f} with seed {one['seed']} (95% interval {interval_of(one)}, median {one['median']:.1f}, "
            f"{one['env_steps']:,} steps)"
            for one in runs
        ]
        options = "" if minutes == 20 else f" --rows {agent} --minutes {minutes} --seeds {len(runs)}"
        sentences.append(
            f"Breakout, {length} of `--preset fast` on two cores (`python -m benchmarks.atari{options}`), the "
            f"checkpoint called `best` over 30 fresh games: {' and '.join(found)}."
        )
        means = " and ".join(f"{one['mean']:.1f}" for one in runs)
        words.append(f"{means} after {length}")
    return (" ".join(sentences), f"Breakout {', '.join(words)} of `fast`") if sentences else None


def in_tables(agent: str) -> tuple[str, str] | None:
    content = results("tabular")
    runs = [one for one in content.get("runs", ()) if one["agent"] == agent]
    if not runs:
        return None
    tasks, close = len({one["task"] for one in runs}), sum(one["gap"] <= 0.01 for one in runs)
    speeds = [rate["clock"]["median"] / 1e6 for rate in content["updates_per_second"][agent].values()]
    slowest = max(one["seconds"] for one in runs)
    return (
        f"{close} of {len(runs)} runs ({tasks} tasks, seeds 1 to {max(one['seed'] for one in runs)}) end with a greedy "
        f"policy that is worth what value iteration's is, within 1%; the longest command took {slowest:.0f} s. One "
        f"core makes {min(speeds):.1f} to {max(speeds):.1f} million updates a second.",
        f"within 1% of the optimum in {close} of {len(runs)} runs of {tasks} tasks",
    )


def in_environments(agent: str) -> tuple[str, str] | None:
    content = results("environments")
    own = [one for one in content.get("runs", ()) if one["agent"] == agent]
    if not own:
        return None
    minutes = f"{content['options']['minutes']:g} minutes"
    said = [
        f"`{one['environment']}`: {one['mean']:.1f} (95% interval {interval_of(one)}; random actions "
        f"{one['random_mean']:.1f})"
        for one in own
    ]
    words = [f"{one['environment']} {one['mean']:.0f}" for one in own]
    return (
        f"After {minutes}, one seed, 30 fresh games: {'; '.join(said)}.",
        f"after {minutes}: {', '.join(words)}",
    )


MEASURES: dict[Callable[[str], tuple[str, str] | None], str] = {
    on_cartpole: "CartPole over five seeds",
    on_pixels: "the small task of pixels",
    beside_one_step: "returns over one step beside it",
    on_breakout: "Breakout with the preset `fast`",
    in_tables: "the tabular tasks",
    in_environments: "continuous tasks",
}
DQN_LINE = (
    *("dqn", "double-dqn", "dueling-dqn", "prioritized-dqn", "n-step-dqn", "noisy-dqn", "c51", "qr-dqn", "iqn"),
    *("munchausen-dqn", "rainbow", "btr", "drqn", "pqn"),
)
ONE_STEP = "dqn --n-step 1"
"""What `n-step-dqn` is to be compared with where DQN's preset sums rewards too."""
ON_ATARI = ("dqn", "c51", "qr-dqn", "iqn", "rainbow", "btr", "pqn")
OF_AGENT: dict[str, tuple[Callable[[str], tuple[str, str] | None], ...]] = (
    dict.fromkeys(DQN_LINE, (on_cartpole, on_pixels))
    | dict.fromkeys(ON_ATARI, (on_cartpole, on_pixels, on_breakout))
    | dict.fromkeys(["sb3-dqn", "sb3-qrdqn", "sb3-ppo", "sb3-a2c"], (on_pixels,))
    | {"n-step-dqn": (on_cartpole, on_pixels, beside_one_step)}
    | {"sb3-sac": (in_environments,)}
    | dict.fromkeys(["q-learning", "sarsa", "expected-sarsa", "double-q-learning", "q-lambda"], (in_tables,))
)
"""Agent to what it is measured by."""
BESIDE = {
    "dqn": "Breakout 30.9 after an hour of preset `default`",
    "drqn": "wins a game of memory that DQN cannot",
}
"""What else the README says of an agent; its page tells how it was measured."""


def measured(agent: str) -> tuple[str, str]:
    """What is known of an agent: for its page, and for the README."""
    found = {measure: measure(agent) for measure in OF_AGENT[agent]}
    there = [said for said in found.values() if said is not None]
    missing = [MEASURES[measure] for measure, said in found.items() if said is None]
    lines = [sentence for sentence, _ in there]
    if missing:
        lines.append(f"Not measured yet: {', '.join(missing)}.")
    if in_tables in found:
        lines[-1] += " `python -m benchmarks.tabular` measures it."
    elif in_environments in found:
        lines[-1] += " `python -m benchmarks.environments --jobs 2` measures it."
    else:
        lines[-1] += " [All agents side by side](comparison.md)."
    said = "\n".join(f"- {line}" for line in lines)
    if found.get(in_tables):
        said += f"\n\n{task_table(agent)}"
    words = [*([BESIDE[agent]] if agent in BESIDE else []), *(words for _, words in there)]
    return said, "; ".join(words) or "not yet measured"


# ---------------------------------------------------------------- writing


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between the comments of a name replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(f"a page has not both of {begin.strip()} and {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n\n{end}{rest.split(end)[1]}"


def pages() -> dict[Path, str]:
    """Every page that says what was measured, as it should be."""
    comparison = PAGES / "comparison.md"
    text = comparison.read_text()
    for name, content in (("cartpole", cartpole_table()), ("pixels", pixel_table()), ("atari", atari_table())):
        text = between(text, name, content)
    environments = ROOT / "docs" / "environments.md"
    written = {comparison: text, environments: between(environments.read_text(), "learned", learned_table())}
    readme = (ROOT / "README.md").read_text()
    for agent in OF_AGENT:
        said, words = measured(agent)
        page = PAGES / f"{agent}.md"
        written[page] = between(page.read_text(), "measured", said)
        row = rf"^(\| `{re.escape(agent)}` \|.*\| )[^|]*( \|)$"
        readme = re.sub(
            row, rf"\g<1>{words} ([more](docs/agents/{agent}.md))\g<2>", readme, count=1, flags=re.MULTILINE
        )
    return written | {ROOT / "README.md": readme}


def run(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python docs/agents/tables.py", description=__doc__ or "")
    changed = {path: text for path, text in pages().items() if path.read_text() != text}
    for path, text in changed.items():
        print(f"{path.relative_to(ROOT)}{' is not what the results say' if options.check else ''}")
        if not options.check:
            path.write_text(text)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    main(run)
