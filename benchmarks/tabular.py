"""The tabular agents: updates a second on one core, and how close their greedy policies come to value iteration.

Speed: chunks over the environment's own transition table, compiled before the clock starts, random numbers included;
the median of several rounds, agents by turns. Quality: `agents.train TASK --agent AGENT --seed S` as a user types it,
then the greedy policy of the last table is evaluated exactly (a linear solve) and compared with value iteration. The
file of results is written after every run, and what stands in it is not run again.

    python -m benchmarks.tabular [--seeds 5] [--rounds 5] [--no-commands]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aprendiz.cli import main, parse
from benchmarks.agent_runs import against_the_optimum, finished, train
from benchmarks.common import BenchmarkOptions, machine, made_by, print_table, spread, write_result

AGENTS = ("q-learning", "sarsa", "expected-sarsa", "double-q-learning", "q-lambda")
TASKS: dict[str, tuple[str, ...]] = {
    "gridworld": ("gridworld", "--slip", "0"),
    "gridworld, slippery": ("gridworld",),
    "slippery-gridworld": ("slippery-gridworld",),
    "frozen-lake": ("frozen-lake",),
    "frozen-lake-8x8": ("frozen-lake-8x8",),
    "taxi": ("taxi",),
    "cliff-walking": ("cliff-walking",),
}
SPEED_TASKS = ("frozen-lake", "taxi", "cliff-walking")
MEASURED_ENV_STEPS = 1_000_000


def updates_per_second(agent_name: str, task: str, rounds: int) -> dict[str, list[float]]:
    """Of one agent in one environment, on one thread: by the clock, and by the processor's time, which other programs
    hardly touch."""
    import envs
    from agents import AGENTS as REGISTRY

    cls = REGISTRY.get(agent_name)
    env = envs.make(task, 1)
    config = cls.resolve(cls.presets(env.spec)["default"], env.spec.default_env_steps)
    agent = cls(config, env.spec.observation_space, env.spec.action_space, seed=0)
    source = agent.make_source(env, seed=0)

    def learn(env_steps: int) -> None:
        while env_steps > 0:
            work = source.next(env_steps)
            source.feedback(work.batch, agent.update(work.batch))
            env_steps -= work.units

    learn(20_000)  # compiles
    rates: dict[str, list[float]] = {"clock": [], "processor": []}
    for _ in range(rounds):
        started = time.perf_counter(), time.process_time()
        learn(MEASURED_ENV_STEPS)
        rates["clock"].append(MEASURED_ENV_STEPS / (time.perf_counter() - started[0]))
        rates["processor"].append(MEASURED_ENV_STEPS / (time.process_time() - started[1]))
    return rates


def trained(agent_name: str, task: str, seed: int) -> dict[str, Any]:
    """One run through the command, and what its greedy policy is worth."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*TASKS[task], "--agent", agent_name, "--seed", str(seed), "--no-video"]
        path, seconds = train(words, Path(folder))
        took = {"seconds": seconds} | made_by()
        return {"agent": agent_name, "task": task, "seed": seed} | against_the_optimum(path) | took


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    seeds: int = 5
    """Runs of each agent and task, with seeds 1, 2, ..."""
    rounds: int = 5
    """Rounds of 1,000,000 steps for the speed."""
    agents: tuple[str, ...] = AGENTS
    """Which agents."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Which tasks, for the quality; the speed is measured in frozen-lake, taxi and cliff-walking."""
    commands: bool = True
    """Whether to train through the command; without, only the speed is measured."""


def run(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    options: Options = parse(Options, argv, prog="python -m benchmarks.tabular", description=__doc__ or "")
    before, content = machine(), finished("tabular", options, ("rounds",))
    speed: dict[str, dict[str, Any]] = content.get("updates_per_second", {})
    runs: list[dict[str, Any]] = content.get("runs", [])
    for name in options.agents:
        if name in speed:
            continue
        rates = {task: updates_per_second(name, task, options.rounds) for task in SPEED_TASKS}
        speed[name] = {task: {kind: spread(values) for kind, values in rate.items()} for task, rate in rates.items()}
        write_result("tabular", options, {"updates_per_second": speed, "runs": runs}, before)
    show_speed(speed)
    for name in options.agents if options.commands else ():
        for task in options.tasks:
            for seed in range(1, options.seeds + 1):
                if not any((one["agent"], one["task"], one["seed"]) == (name, task, seed) for one in runs):
                    runs.append(trained(name, task, seed))
                    write_result("tabular", options, {"updates_per_second": speed, "runs": runs}, before)
            found = [one for one in runs if (one["agent"], one["task"]) == (name, task)]
            worst, slowest = max(one["gap"] for one in found), max(one["seconds"] for one in found)
            print(f"{name}, {task}: greatest gap {worst:.2%} of {len(found)}, at most {slowest:.1f} s", flush=True)
    return 0


def show_speed(speed: dict[str, dict[str, Any]]) -> None:
    rows = [("million updates a second", *SPEED_TASKS, "the same of processor time", "", "")]
    for name, measured in speed.items():
        kinds = [measured[task][kind]["median"] for kind in ("clock", "processor") for task in SPEED_TASKS]
        rows.append((name, *(f"{median / 1e6:.2f}" for median in kinds)))
    print_table(rows)


if __name__ == "__main__":
    main(run)
