"""`python -m agents.train breakout`: train an agent in an environment; `--resume RUN` continues one.

A run is task + agent + preset + overrides. All of it is resolved once, when the run is created, and saved: fractions of
the budget become numbers of steps, and what is chosen by measuring the machine (precision, memory) is written down, so
that continuing a run never moves anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Optional

from aprendiz import BACKBONES
from aprendiz.cli import Section, given, main, print_list, registry_section
from aprendiz.errors import ConfigError
from aprendiz.train_command import TrainCommand, preset_of

if TYPE_CHECKING:
    from envs.core import EnvSpec

PROG = "python -m agents.train"
DESCRIPTION = (
    "Train an agent. `<environment> --help` adds the hyperparameters of the agent and the options of the environment; "
    "--list shows environments, agents, presets and backbones; --resume RUN continues a run."
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What every training run has. Steps are decisions of the agent, summed over its environments."""

    agent: Optional[str] = None  # noqa: UP045 (tyro's help reads better)
    """Agent by its registered name. Unset: dqn; q-learning where observations and actions are both discrete; sb3-sac
    where actions are continuous."""
    preset: str = "default"
    """Named hyperparameters of the agent for this kind of environment."""
    steps: Optional[int] = None  # noqa: UP045
    """Environment steps of the whole run. Unset: the environment's own number, or until the clock ends the run."""
    minutes: Optional[float] = None  # noqa: UP045
    """Wall-clock minutes of training, interruptions not counted, after which the run ends."""
    seed: int = 1
    """Decides everything random: initial parameters, games, exploration, batches."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of forward passes; auto measures on this machine, once, and writes the faster one down."""
    wandb: Optional[Literal["online", "offline", "disabled"]] = None  # noqa: UP045
    """Weights & Biases. Unset: WANDB_MODE, else online where a key is configured, else offline."""
    evaluations: int = 20
    """How often the agent is evaluated on the way, to choose the checkpoint called best; 0 never."""
    evaluation_games: Optional[int] = None  # noqa: UP045
    """Whole games of each such evaluation, other ones than agents.evaluate plays. Unset: 10 of images, 30 elsewhere."""
    checkpoint_minutes: float = 10.0
    """Wall-clock minutes between checkpoints."""
    save_replay: bool = True
    """Keep the replay memory in checkpoints, so that resuming is exact; without it, it is filled anew."""
    video: bool = True
    """Film a game of the best checkpoint when training ends; in a long training now and then also of the agent that was
    just evaluated."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Continue a run. Everything that is not given here stays as it was."""

    resume: str
    """The run: its folder, its name, a task or an agent (the newest run of it), or latest."""
    steps: Optional[int] = None  # noqa: UP045
    """New total of environment steps."""
    minutes: Optional[float] = None  # noqa: UP045
    """New total of wall-clock minutes, those before included."""
    checkpoint: str = "last"
    """Continue from another checkpoint than the last: best, or a step. Later ones are then deleted."""
    device: Optional[str] = None  # noqa: UP045
    """Another device than before (numbers may then differ in the last digits)."""
    wandb: Optional[Literal["online", "offline", "disabled"]] = None  # noqa: UP045
    """Weights & Biases, as before unless given."""
    video: bool = True
    """Film a game of the best checkpoint when training ends; in a long training now and then also of the agent that was
    just evaluated."""


COMMAND = TrainCommand(
    prog=PROG,
    description=DESCRIPTION,
    subject="environment",
    example="breakout",
    options=TrainOptions,
    resume_options=ResumeOptions,
)


def run_command(argv: list[str]) -> int:
    """The command. Returns the exit code: 0, or 128 + the signal that stopped it."""
    return COMMAND.run(argv, show_lists=show_lists, create=_create, resume=_resume)


def _create(argv: list[str]) -> int:
    task, options, hyperparameters, env_options = parse_task(argv)
    from agents import training

    return training.create(task, options, hyperparameters, env_options, command=[PROG, *argv])


def _resume(options: ResumeOptions) -> int:
    from agents import training

    return training.resume(options)


def parse_task(argv: list[str]) -> tuple[str, TrainOptions, Any, dict[str, Any]]:
    """The environment's name, the common options, the agent's config and the environment's options.

    Which hyperparameters there are, and their defaults, is the business of the agent, its preset and the environment:
    those three are looked up first, then everything is parsed together.
    """
    import envs
    from agents import AGENTS

    task, rest = argv[0], argv[1:]
    known = envs.options(task)  # also where an unknown name ends, with the closest ones
    agent_name, preset = given(rest, "agent"), given(rest, "preset") or "default"
    if agent_name is not None:
        agent_name = agent_name if ":" in agent_name else AGENTS.canonical(agent_name)
    spec = _spec(task, _early_env_options(known, rest))
    agent_name = agent_name or default_agent(spec)
    agent = AGENTS.get(agent_name)
    from agents.core import check_actions_fit

    check_actions_fit(agent, agent_name, spec)
    config = preset_of(agent.presets(spec), preset, agent_name, spec.name)
    parsed = COMMAND.parse_new(
        rest,
        f"Train {agent_name} in {spec.name}.",
        task,
        hyperparameters=(f"{agent_name}, preset {preset}", config),
        environment=(f"environment {spec.name}", envs.options_class(task)()),
    )
    common = dataclasses.replace(parsed.common, agent=agent_name)
    _check(common)
    if hasattr(parsed.hyperparameters, "check_new"):
        parsed.hyperparameters.check_new(config)
    return spec.name, common, parsed.hyperparameters, dataclasses.asdict(parsed.environment)


def default_agent(spec: EnvSpec) -> str:
    """`q-learning` where a table fits, `sb3-sac` where actions are continuous, else `dqn`."""
    if spec.continuous:
        return "sb3-sac"
    return "q-learning" if spec.observation_kind == "discrete" else "dqn"


def show_lists() -> None:
    """Environments, agents, presets and backbones, with where they come from. Imports no algorithm."""
    import envs
    from agents import AGENTS

    presets = [
        ("default", "the agent's well-tried hyperparameters for this kind of environment"),
        ("fast", "larger batches, less often: meant to score sooner on the clock (agents that have one)"),
        ("paper", "the hyperparameters of the agent's paper (agents that have one)"),
        ("sb3", "the library's own defaults (sb3-* agents)"),
        ("like-dqn", "the settings of our dqn, to compare with it (sb3-dqn, images)"),
        ("pendulum", "RL Baselines3 Zoo's settings for pendulum (those of the sb3-* agents that have it)"),
    ]
    gym = [
        ("gym:<id>", "any Gymnasium id with numbered or bounded continuous actions, such as gym:Blackjack-v1"),
        ("minigrid:<id>", "any MiniGrid id, such as minigrid:LockedRoom"),
    ]
    print_list(
        [
            registry_section("environments", envs.ENVS),
            Section("more environments", ("name", "summary"), gym),
            registry_section("agents", AGENTS),
            Section("presets", ("name", "summary"), presets),
            registry_section("backbones", BACKBONES),
        ]
    )


def _early_env_options(known: dict[str, Any], argv: list[str]) -> dict[str, Any]:
    """The environment's own options, which decide what it shows and which actions it takes, and with them which presets
    and agents fit. What cannot be read is left to the parser of the whole command, which says so."""
    found: dict[str, Any] = {}
    argv = [_dashed(word) for word in argv]
    for name, default in known.items():
        flag = name.replace("_", "-")
        if isinstance(default, bool):
            said = [word for word in argv if word in (f"--{flag}", f"--no-{flag}")]
            if said:
                found[name] = said[-1] == f"--{flag}"
            continue
        text = given(argv, flag)
        if text is None:
            continue
        if default is None or isinstance(default, str):
            found[name] = text
        elif isinstance(default, (int, float)):
            with contextlib.suppress(ValueError):
                found[name] = type(default)(text)
    return found


def _dashed(word: str) -> str:
    """A flag as it is written in help, `--tile-pixels` for `--tile_pixels`; other words as they are."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _spec(task: str, env_options: dict[str, Any]) -> EnvSpec:
    import envs

    env = envs.make(task, 1, **env_options)
    try:
        return env.spec
    finally:
        env.close()


def _check(options: TrainOptions) -> None:
    from aprendiz.session import check_not_negative, check_positive

    if options.steps is not None and options.steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {options.steps}")
    check_positive(options, "minutes", "checkpoint_minutes")
    check_not_negative(options, "seed")
    if options.evaluations < 0 or (options.evaluation_games is not None and options.evaluation_games < 1):
        raise ConfigError("--evaluations must be 0 or more and --evaluation-games at least 1")


if __name__ == "__main__":
    main(run_command)
