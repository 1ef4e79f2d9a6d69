"""Play whole games with saved agents and report what they are worth.

python -m agents.evaluate RUN [RUN ...] --episodes 30 --seed 1000
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aprendiz import cli
from aprendiz.errors import ConfigError
from aprendiz.evaluate_command import progress, show_and_keep

if TYPE_CHECKING:
    from agents.saved import SavedAgent
    from aprendiz.run import Run

PROG = "python -m agents.evaluate"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Each a run's folder, its name, an environment or agent (its newest run), or `latest`."""
    episodes: int | None = None
    """Games to play, all at once. None: 30 where observations are images, 100 elsewhere. A network's ties can fall
    differently with another number of games played together."""
    seed: int = 1000
    """Which games: the same seed gives the same games."""
    checkpoint: str | None = None
    """`last`, `best` or a step. None: best where there is one, else last."""
    explore: float = 0.01
    """Probability of a random action, at each step."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ConfigError(f"episodes must be at least 1, got {self.episodes}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if not 0.0 <= self.explore <= 1.0:
            raise ConfigError(f"explore is a probability from 0 to 1, got {self.explore}")


def command(argv: list[str]) -> None:
    """The whole command. Raises AprendizError for what the user can put right."""
    options: Options = cli.parse(
        Options, argv, prog=PROG, description="Play whole games with saved agents and report scores."
    )
    if not options.runs:
        raise ConfigError(f"which run? give its folder, its name, an environment or `latest`; {PROG} --help")
    from aprendiz.run import Run

    runs = [Run.open(text, "agents") for text in options.runs]
    for run in runs:
        evaluate_run(run, options)


def evaluate_run(run: Run, options: Options) -> dict[str, Any]:
    """Evaluate one run, print the result, add it to the run's evaluations.json, and return it.

    Raises StorageError where it cannot be added; it is printed all the same.
    """
    from agents.saved import load_saved
    from aprendiz.session import chosen_checkpoint

    saved = load_saved(run, chosen_checkpoint(run, options.checkpoint), options.device)
    with progress(run.name) as say:
        on_progress = (lambda finished, total: say(f"{finished} of {total} games")) if say else None
        result = evaluate(
            saved, episodes=options.episodes, seed=options.seed, explore=options.explore, on_progress=on_progress
        )
    show_and_keep(run, result, _rows(result), "steps", strong="mean")
    return result


def evaluate(
    saved: SavedAgent,
    *,
    episodes: int | None = None,
    seed: int = 1000,
    explore: float = 0.01,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Play `episodes` whole games and return what evaluations.json keeps of them, JSON-able.

    `human_normalized` is that of the mean score, None where no random and human scores are published (Mnih et al. 2015:
    0 is random play, 1 a human's). `interval` is the 95% bootstrap interval of the mean, `which` the checkpoint that
    was asked for. A game depends on its own seed alone, but for a network's ties: those can fall differently with
    another number of games played together, as its sums are then rounded otherwise.
    """
    from agents.core import Purpose
    from agents.play import game_seeds, play_games
    from aprendiz.statistics import human_normalized, summarize

    spec = saved.spec
    count = episodes or (30 if spec.observation_kind == "image" else 100)
    seeds = game_seeds(seed, count, Purpose.EVALUATION)
    games = play_games(saved.agent, saved.make_env, seeds, explore=explore, on_progress=on_progress)
    summary = summarize(games.scores)
    published = spec.random_score is not None and spec.human_score is not None and spec.random_score != spec.human_score
    return {
        "environment": spec.name,
        "which": saved.which,
        "checkpoint_step": saved.step,
        "episodes": count,
        "seed": seed,
        "explore": explore,
        "mean": summary["mean"],
        "median": summary["median"],
        "iqm": summary["iqm"],
        "interval": summary["mean_interval"],
        "iqm_interval": summary["iqm_interval"],
        "standard_deviation": summary["standard_deviation"],
        "min": summary["min"],
        "max": summary["max"],
        "human_normalized": human_normalized(summary["mean"], spec.random_score, spec.human_score)  # type: ignore[arg-type]
        if published
        else None,
        "random_score": spec.random_score,
        "human_score": spec.human_score,
        "score_source": spec.score_source,
        "protocol": spec.protocol,
        "seeds": games.seeds,
        "scores": games.scores.tolist(),
        "lengths": games.lengths.tolist(),
    }


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    low, high = result["interval"]
    iqm_low, iqm_high = result["iqm_interval"]
    lengths, seeds = result["lengths"], result["seeds"]
    if result["human_normalized"] is None:
        human = "none: no published random and human scores"
    else:
        human = (
            f"{result['human_normalized']:.1%}   (random {result['random_score']:g} = 0%, human "
            f"{result['human_score']:g} = 100%; {result['score_source']})"
        )
    shown = ", ".join(map(str, seeds[:3])) + (", ..." if len(seeds) > 3 else "")
    return [
        ("mean", f"{result['mean']:.2f}   (95% interval {low:.2f} to {high:.2f})"),
        ("median", f"{result['median']:.2f}"),
        ("IQM", f"{result['iqm']:.2f}   (95% interval {iqm_low:.2f} to {iqm_high:.2f})"),
        ("min, max", f"{result['min']:g}, {result['max']:g}"),
        ("game length", f"{sum(lengths) / len(lengths):,.0f} steps in the mean, at most {max(lengths):,}"),
        ("human-normalised", human),
        ("played", f"{len(seeds)} whole games, unclipped scores, random actions {result['explore']:g}"),
        ("protocol", ", ".join(_protocol(result["protocol"]))),
        ("seeds", f"{shown}   (from seed {result['seed']})"),
    ]


def _protocol(protocol: dict[str, Any]) -> Iterator[str]:
    for key, value in protocol.items():
        words = key.replace("_", " ")
        if isinstance(value, bool):
            yield words if value else f"no {words}"
        elif isinstance(value, (list, tuple)):
            yield f"{words} of {len(value)}"
        elif key in ("suite", "id"):
            yield str(value)
        elif value not in (None, {}):
            yield f"{words} {value:,}" if isinstance(value, int) else f"{words} {value}"


if __name__ == "__main__":
    cli.main(command)
