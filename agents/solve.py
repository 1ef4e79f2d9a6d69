"""`python -m agents.solve frozen-lake`: the exact answer where an environment's probabilities are known.

Value iteration, or the evaluation of a policy that plays at random; `--run RUN` evaluates what a tabular agent has
learned, beside the optimum. The values are drawn on the environment's map, `--picture out.png` as a picture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import envs
from aprendiz.cli import flat, main, parse
from aprendiz.errors import ConfigError, EnvError
from envs import WITH_TABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from envs.core import EnvSpec, TransitionTable

PROG = "python -m agents.solve"
DESCRIPTION = (
    f"The exact values of an environment that exposes its transition probabilities ({', '.join(WITH_TABLE)}): value "
    "iteration, or policy evaluation."
)

DISCOUNT = 0.99
NEARLY_ONE = 0.999999
"""Stands for a discount of 1, for which a policy that never ends a game has no value."""


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """Options of the command."""

    policy: Optional[Literal["optimal", "random"]] = None  # noqa: UP045
    """Whose values: `optimal` is value iteration, `random` evaluates the policy that chooses uniformly. None:
    optimal."""
    discount: Optional[float] = None  # noqa: UP045
    """Discount per environment step. None: 0.99, the agents' own default."""
    run: Optional[str] = None  # noqa: UP045
    """Evaluate the greedy policy of this run's tabular agent instead, with its environment and discount."""
    checkpoint: Optional[str] = None  # noqa: UP045
    """Of the run: `last`, `best` or a step. None: last."""
    picture: Optional[Path] = None  # noqa: UP045
    """Draw values and policy into this .png."""


def command(argv: list[str]) -> int:
    """The whole command. Raises AprendizError for what the user can put right."""
    if not argv or argv[0].startswith("-"):
        options: SolveOptions = parse(SolveOptions, argv, prog=PROG, description=DESCRIPTION)
        if options.run is None:
            raise ConfigError(f"name an environment first, as in `{PROG} frozen-lake`, or --run RUN; {PROG} --help")
        for given in ("policy", "discount"):
            if getattr(options, given) is not None:
                raise ConfigError(f"--{given} does nothing with --run, which has its own; leave it away")
        return _solve_run(options)

    task, rest = argv[0], argv[1:]
    environment = envs.options_class(task)
    kind = make_dataclass(
        "Options",
        [
            ("common", Annotated[SolveOptions, flat("options")]),
            ("environment", Annotated[environment, flat(f"environment {task}")]),
        ],
        frozen=True,
        kw_only=True,
        namespace={"__doc__": DESCRIPTION},
    )
    default = kind(common=SolveOptions(), environment=environment())
    parsed: Any = parse(kind, rest, prog=f"{PROG} {task}", description=DESCRIPTION, default=default)
    if parsed.common.run is not None:
        raise ConfigError(f"give an environment or --run RUN, not both: a run knows its own; {PROG} --help")
    if parsed.common.checkpoint is not None:
        raise ConfigError("--checkpoint does nothing without --run; leave it away")
    spec, table = _table(task, asdict(parsed.environment))
    _solve(spec, table, parsed.common)
    return 0


def _table(task: str, options: dict[str, Any]) -> tuple[EnvSpec, TransitionTable]:
    env = envs.make(task, 1, **options)
    try:
        table = env.table()
        if table is None:
            raise EnvError(
                f"{env.spec.name} does not expose its transition probabilities, so that there is nothing to solve; "
                f"environments that do: {', '.join(WITH_TABLE)}"
            )
        return env.spec, table
    finally:
        env.close()


def _solve(spec: EnvSpec, table: TransitionTable, options: SolveOptions) -> None:
    import numpy as np

    from agents.value_iteration import policy_evaluation, start_value, value_iteration

    _check_picture(options.picture)
    states, actions, _ = table.next_state.shape
    discount = DISCOUNT if options.discount is None else options.discount
    values, q = value_iteration(table, discount)
    print(f"{spec.name}: {states} states, {actions} actions, discount {discount:g}")
    print(f"optimal policy: a new game is worth {start_value(table, values):.6g}")
    name = "value iteration"
    if options.policy == "random":
        values, q = policy_evaluation(table, np.full((states, actions), 1 / actions), discount)
        print(f"random policy: a new game is worth {start_value(table, values):.6g}")
        print("drawn are its values, and what would be best to do once before it goes on at random")
        name = "uniformly random policy"
    _draw(spec, q, options.picture, f"{spec.name}: {name}, discount {discount:g}", values=values)


def _solve_run(options: SolveOptions) -> int:
    from agents.saved import load_saved
    from agents.value_iteration import greedy_policy, policy_value, start_value, value_iteration
    from aprendiz.run import Run
    from aprendiz.session import checkpoint_choice

    _check_picture(options.picture)
    run = Run.open(str(options.run), "agents")
    saved = load_saved(run, checkpoint_choice(options.checkpoint), "cpu")
    q = getattr(saved.agent, "q", None)
    if q is None:
        raise ConfigError(f"{run.name} has no table of values: {run.learner} is not a tabular agent")
    spec, table = _table(run.task, dict(run.config["environment"].get("options") or {}))
    discount = min(saved.agent.config.discount, NEARLY_ONE)
    optimal = start_value(table, value_iteration(table, discount)[0])
    learned = start_value(table, policy_value(table, greedy_policy(q), discount))
    told = f"discount {discount:g}" if discount < NEARLY_ONE else f"discount 1, worked out with {NEARLY_ONE}"
    print(f"{run.name}, step {saved.step:,}: {len(q)} states, {told}")
    print(f"optimal policy: a new game is worth {optimal:.6g}")
    below = max(optimal - learned, 0.0)  # value iteration ends a little below what it approaches
    gap = f" ({below / abs(optimal):.3%} below)" if optimal else ""
    print(f"{run.learner}'s greedy policy: {learned:.6g}{gap}")
    from agents.value_table import known_states

    title = f"{run.learner} in {run.task}, {saved.step:,} steps"
    _draw(spec, q, options.picture, title, known=known_states(saved.agent))
    return 0


def _check_picture(path: Path | None) -> None:
    if path is not None:
        from agents.value_table import check_picture_path

        check_picture_path(path)


def _draw(
    spec: EnvSpec, q: NDArray[Any], picture: Path | None, title: str, *, values: Any = None, known: Any = None
) -> None:
    from agents.value_table import save_picture, show

    written = None if picture is None else save_picture(spec, q, picture, values=values, known=known, title=title)
    show(spec, q, values=values, known=known)
    if written is not None:
        print(written)


if __name__ == "__main__":
    main(command)
