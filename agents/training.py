"""What `python -m agents.train` does once its words are understood: create a run or open one, and train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import envs
from agents import AGENTS
from agents.core import Agent, Purpose
from agents.films import Films
from agents.play import game_seeds, play_games
from agents.saved import make_env_of, new_agent, spec_of
from agents.table_source import TableSource
from aprendiz import session
from aprendiz.config import to_json
from aprendiz.device import available_memory, choose_device
from aprendiz.errors import ConfigError
from aprendiz.loop import Cadence, LoopState, Source, TrainResult
from aprendiz.run import Run
from aprendiz.tracking import resolve_mode

if TYPE_CHECKING:
    import torch

    from agents.train import ResumeOptions, TrainOptions
    from envs.core import Env, EnvSpec

UNIT = session.Unit("env_steps", "steps", "--steps", "environment steps")
EVALUATION_EXPLORE = 0.01
"""Random actions while evaluating: a greedy agent can loop for ever in a deterministic game."""
MEMORY_SHARE = 0.8
"""Part of the free memory that a replay memory may take."""
GPU_MEMORY_SHARE = 0.7
"""The same of a GPU: less than what lets it be put there, since measuring the machine has taken some by then."""


def create(
    task: str, options: TrainOptions, hyperparameters: Any, env_options: dict[str, Any], *, command: list[str]
) -> int:
    """Makes a run and trains it. Returns the exit code."""
    assert options.agent is not None
    resolve_mode(options.wandb)
    agent_class = AGENTS.get(options.agent)
    num_envs = getattr(hyperparameters, "num_envs", 1)
    make_env: Callable[..., Env] = lambda count, **more: envs.make(task, count, **env_options, **more)  # noqa: E731
    env = make_env(num_envs)
    spec = env.spec
    device = _device(options.device, options.agent, spec)
    threads = set_threads(None, spec, device)
    hyperparameters = _fit_memory(agent_class, hyperparameters, spec, num_envs, device)
    # A first guess of the budget is good enough to try how fast this machine is.
    guess = options.steps or spec.default_env_steps
    precision, rate = measure(agent_class, hyperparameters, make_env, num_envs, guess, device, options)
    planned = session.planned_units(rate, options.minutes, options.steps, spec.default_env_steps, num_envs)
    hyperparameters = agent_class.resolve(hyperparameters, planned)
    evaluate_every = max(planned // options.evaluations, 1) if options.evaluations else None
    cadence = Cadence(
        log_every_units=max(planned // 1000, num_envs),
        evaluate_every_units=evaluate_every,
        checkpoint_every_minutes=options.checkpoint_minutes,
        save_bulk=options.save_replay,
    )
    games = options.evaluation_games or (10 if spec.observation_kind == "image" else 30)
    unlimited = options.minutes is not None and options.steps is None
    config = {
        "environment": {"name": task, "options": env_options | spec.options, "protocol": spec.protocol},
        "agent": {"name": options.agent, "preset": options.preset, "hyperparameters": to_json(hyperparameters)},
        "num_envs": num_envs,
        "budget": {
            "env_steps": None if unlimited else planned if options.minutes is None else options.steps,
            "minutes": options.minutes,
            "planned_env_steps": planned,
        },
        "cadence": dataclasses.asdict(cadence),
        "device": str(device),
        "precision": precision,
        "torch_threads": threads,
        "wandb": options.wandb,
        "evaluation": {"games": games, "explore": EVALUATION_EXPLORE},
    }
    agent = agent_class(
        hyperparameters,
        spec.observation_space,
        spec.action_space,
        seed=options.seed,
        device=device,
        precision=precision,
    )
    run = Run.create(
        kind="agents",
        task=task,
        learner=options.agent,
        seed=options.seed,
        config=config,
        command=command,
        device=str(device),
    )
    _announce(run, config, rate)
    with run.lock():
        return _train(run, agent, env, LoopState(), wandb=options.wandb, video=options.video, resumed_from=None)


def resume(options: ResumeOptions) -> int:
    """Continues a run exactly where its checkpoint stands. Returns the exit code."""
    run = Run.open(options.resume, kind="agents")
    with run.lock():
        return _resume(run, options)


def _resume(run: Run, options: ResumeOptions) -> int:
    config = run.config
    session.check_positive(options, "steps", "minutes")
    resolve_mode(options.wandb or config.get("wandb"))
    expected = ("environment", "agent", "num_envs", "budget", "cadence", "device", "precision", "evaluation")
    session.require_entries(run, (*expected, "torch_threads", "wandb"))
    session.extend_budget(config["budget"], UNIT, options.steps, options.minutes)
    which = session.checkpoint_choice(options.checkpoint)
    session.check_unfinished(run, which, UNIT, new_total=options.steps is not None)
    device, spec = config["device"], spec_of(run)
    if options.device is not None:
        device = str(_device(options.device, run.learner, spec))
    set_threads(config["torch_threads"], spec, choose_device(device))  # before there are networks, as in a new run
    agent, _, make_env = new_agent(run, device)
    if options.device is not None:
        config |= {"device": device, "precision": getattr(agent, "precision", "fp32")}
    env = make_env(config["num_envs"])
    source = agent.make_source(env, seed=run.seed)
    state, whole = session.go_on(run, agent, source, which, UNIT)
    if not whole and source.bulky:
        print("its replay memory was not kept: it is filled anew before learning goes on")
    if not env.spec.restorable and not isinstance(source, TableSource):
        print("the games that were in progress cannot be restored: new ones begin; everything else goes on exactly")
    _say_where_learning_ends(agent.config, config["budget"], state)
    wandb = options.wandb or config["wandb"]
    return _train(run, agent, env, state, wandb=wandb, video=options.video, resumed_from=source)


def _say_where_learning_ends(config: Any, budget: dict[str, Any], state: LoopState) -> None:
    """Schedules stay where they were when a run is extended: one that ends at a learning rate of 0 ends learning."""
    over = None
    if getattr(config, "learning_rate_end", None) == 0.0:
        over = getattr(config, "learning_rate_env_steps", None)
    elif getattr(config, "learning_rate_falls", False):
        over = getattr(config, "schedule_env_steps", None)
    total = budget["env_steps"]
    if over is not None and (total is None or max(state.units, total) > over):
        print(f"the learning rate is 0 from step {over:,} on, where its schedule ends: nothing is learned after it")


def _device(name: str, agent: str, spec: EnvSpec) -> torch.device:
    """The device asked for, for an agent by its registered name."""
    return session.device_for(name, AGENTS.get(agent).devices, agent, small=spec.observation_kind != "image")


def set_threads(saved: int | None, spec: EnvSpec, device: torch.device) -> int:
    """Sets and returns PyTorch's threads: what the run had, else one where observations are no images."""
    return session.set_threads(saved, device, small=spec.observation_kind != "image")


def _train(
    run: Run, agent: Agent, env: Env, state: LoopState, *, wandb: str | None, video: bool, resumed_from: Any
) -> int:
    config = run.config
    source = resumed_from if resumed_from is not None else agent.make_source(env, seed=run.seed)
    run.track(wandb, step_metric="env_steps", resumed=resumed_from is not None)
    make_env = make_env_of(run)
    evaluation = config["evaluation"]
    seeds = game_seeds(run.seed, evaluation["games"], Purpose.SELECTION)
    films = Films(run, make_env, explore=EVALUATION_EXPLORE) if video else None

    def evaluate(env_steps: int) -> dict[str, float]:
        games = play_games(agent, make_env, seeds, explore=evaluation["explore"])
        if films is not None:
            films.on_the_way(agent, env_steps)
        return {"score": float(games.scores.mean()), "length": float(games.lengths.mean())}

    def finish(result: TrainResult) -> None:
        _finish(run, result, films)

    def advice() -> str:
        rate = config["agent"]["hyperparameters"].get("learning_rate")
        return "" if rate is None else f" (--learning-rate, which is {rate:g})"

    return session.train_run(
        run, agent, source, state, UNIT, evaluate=evaluate, finish=finish, close=env.close, advice=advice
    )


def _finish(run: Run, result: TrainResult, films: Films | None) -> None:
    state = result.state
    session.print_pace(run, state, UNIT)
    if state.best_units is not None:
        print(f"best checkpoint: step {state.best_units:,}, mean score {state.best_score:.1f} on its selection games")
    if films is not None and result.reason in ("finished", "clock"):
        films.of_the_best()
    if run.tracker is not None:
        run.tracker.summary(session.summary_of(state, UNIT))
    if result.reason in ("finished", "clock"):
        print(f"evaluate it: python -m agents.evaluate {run.name}")
        print(f"watch it:    python -m agents.watch {run.name}")
    else:
        print(f"stopped by {result.reason}; go on with: python -m agents.train --resume {run.name}")


def _announce(run: Run, config: dict[str, Any], rate: float) -> None:
    budget, agent = config["budget"], config["agent"]
    ends = session.either(
        f"{budget['env_steps']:,} environment steps" if budget["env_steps"] else "",
        f"{budget['minutes']:g} minutes" if budget["minutes"] else "",
    )
    print(f"{agent['name']} ({agent['preset']}) in {config['environment']['name']}, seed {run.seed}, for {ends}")
    if rate:
        session.print_machine(config, rate, UNIT)
    resolved = agent["hyperparameters"]
    shown = ("num_envs", "warmup_env_steps", "exploration_env_steps", "replay_capacity")
    text = ", ".join(f"{name} {resolved[name]:,}" for name in shown if isinstance(resolved.get(name), int))
    print(f"  planned for {budget['planned_env_steps']:,} steps: {text}")
    if (resolved.get("warmup_env_steps") or 0) >= budget["planned_env_steps"]:
        print("  nothing will be learned: the warm-up is as long as the run; give --warmup-env-steps, or more steps")
    print(f"  {run.path}", flush=True)


def _fit_memory(
    agent_class: type[Agent], hyperparameters: Any, spec: EnvSpec, num_envs: int, device: torch.device
) -> Any:
    """The config with a replay memory that fits into this machine; a smaller one is announced."""
    capacity = getattr(hyperparameters, "replay_capacity", None)
    if capacity is None:
        return hyperparameters

    def needed(transitions: int) -> int:
        return agent_class.replay_bytes(hyperparameters, spec, num_envs, transitions)

    import torch

    allowed = int(MEMORY_SHARE * available_memory(torch.device("cpu")))
    if device.type == "cuda" and agent_class.replay_on_gpu:
        allowed = max(allowed, int(GPU_MEMORY_SHARE * available_memory(device)))
    if needed(capacity) <= allowed:
        return hyperparameters
    smaller = int(capacity * allowed / needed(capacity)) // 1000 * 1000
    if smaller < getattr(hyperparameters, "batch_size", 1):
        raise ConfigError(f"{allowed / 1e6:.0f} MB of free memory hold no replay memory for {spec.name}")
    print(
        f"replay memory: {capacity:,} transitions need {needed(capacity) / 1e9:.1f} GB and {allowed / 1e9:.1f} GB may "
        f"be taken here: {smaller:,} are kept"
    )
    return dataclasses.replace(hyperparameters, replay_capacity=smaller)


def measure(
    agent_class: type[Agent],
    hyperparameters: Any,
    make_env: Callable[..., Env],
    num_envs: int,
    budget: int,
    device: torch.device,
    options: TrainOptions,
) -> tuple[str, float]:
    """The precision to learn in, and environment steps a second (0 where nobody needs to know).

    Where there is a choice of precision, or a clock to plan for, the real thing is run for a moment with each.
    """
    import torch

    env = make_env(num_envs)
    try:
        small = env.spec.observation_kind != "image"
        owner = str(options.agent)
        candidates = session.precisions_to_try(options.precision, agent_class.precisions, owner, small=small)
        if len(candidates) == 1 and options.minutes is None:
            return candidates[0], 0.0
        changes: dict[str, Any] = {}
        if hasattr(hyperparameters, "warmup_env_steps"):
            changes = {"warmup_env_steps": 0, "replay_capacity": min(hyperparameters.replay_capacity, 20_000)}
        trial = agent_class.resolve(dataclasses.replace(hyperparameters, **changes), budget)
        if hasattr(trial, "exploration_env_steps"):  # the network acts, as it will most of the time
            trial = dataclasses.replace(trial, exploration_env_steps=0)

        def make(precision: str) -> tuple[Agent, Source]:
            agent = agent_class(
                trial,
                env.spec.observation_space,
                env.spec.action_space,
                seed=options.seed,
                device=device,
                precision=precision,
            )
            return agent, agent.make_source(env, seed=options.seed)

        return session.fastest_of(candidates, make, options.minutes)
    finally:
        env.close()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the replay memory wants it
