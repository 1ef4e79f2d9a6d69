"""Playing whole games with an agent that does not learn: for evaluation, and to choose the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.core import Agent, Purpose
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from gymnasium import Space

    from envs.core import Env

_COINS_PER_DRAW = 256


@dataclass(frozen=True)
class Games:
    """G finished games, in the order of their seeds."""

    scores: NDArray[np.float64]
    """[G] unclipped return of each whole game."""
    lengths: NDArray[np.int64]
    """[G] steps of each whole game."""
    seeds: list[int]
    """[G] what each game was a function of, beside the agent."""


def game_seeds(seed: int, count: int, purpose: Purpose) -> list[int]:
    """`count` distinct seeds of 31 bits; the first ones are the same whatever the count.

    Games that choose a checkpoint (SELECTION) have even seeds and games that are reported (EVALUATION) odd ones, so
    that no game is ever used for both, whatever the two `seed`s. Raises ConfigError for a negative seed.
    """
    if purpose not in (Purpose.SELECTION, Purpose.EVALUATION):
        raise ValueError(f"{purpose!r} is not a purpose of whole games")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative; give 0 or more")
    generator = np.random.default_rng([seed, purpose])
    odd = int(purpose == Purpose.EVALUATION)
    found: dict[int, None] = {}
    while len(found) < count:
        found[2 * int(generator.integers(2**30)) + odd] = None
    return list(found)


class Explorer:
    """The random actions of N games, each drawn from the game's own seed: one number a step, needed or not, and as many
    more as a continuous action has where one is taken."""

    def __init__(self, seeds: Sequence[int], explore: float, actions: int | Space) -> None:
        """`explore`: probability of a uniformly random action among `actions`: their number, or a Box. Raises
        ConfigError outside 0 to 1."""
        if not 0.0 <= explore <= 1.0:
            raise ConfigError(f"explore is {explore}; it is a probability: 0.0 (greedy) to 1.0")
        self.explore, self.actions = explore, actions if isinstance(actions, int) else 0
        self._box: Any = actions
        self._generators = [np.random.default_rng([seed, Purpose.ACTING]) for seed in seeds]
        self._drawn = np.empty((0, 0))
        self._next = 0

    def next(self) -> NDArray[np.int64]:
        """int64 [N]: a random action in games that explore at this step, -1 in the others. For numbered actions."""
        coins = self._coins()
        if self.explore == 0.0:
            return np.full(len(coins), -1)
        # Below `explore`, what is left of the number is uniform again, and picks the action.
        return np.where(coins < self.explore, coins / self.explore * self.actions, -1.0).astype(np.int64)

    def next_continuous(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """bool [N]: which games explore at this step; float32 [N, ...]: a random action there, zero in the others."""
        exploring = self._coins() < self.explore
        box = self._box
        actions = np.zeros((len(exploring), *box.shape), np.float32)
        for game in np.flatnonzero(exploring):
            actions[game] = self._generators[game].uniform(box.low, box.high)
        return exploring, actions

    def _coins(self) -> NDArray[np.float64]:
        """[N] in [0, 1)"""
        if self._next == self._drawn.shape[-1]:
            self._drawn = np.stack([generator.random(_COINS_PER_DRAW) for generator in self._generators])
            self._next = 0
        self._next += 1
        return self._drawn[:, self._next - 1]


def play_games(
    agent: Agent,
    make_env: Callable[[int], Env],
    seeds: Sequence[int],
    *,
    explore: float,
    lanes: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> Games:
    """Play one whole game for each seed, at most `lanes` at a time, and return what they were worth.

    Each game has a lane of its own and is played to its end, so that short games count no more than long ones; its
    environment and its random actions are functions of its seed alone, whatever else is played beside it. The agent
    acts greedily but for a share `explore` of uniformly random actions, without which a greedy agent may go round in
    circles for ever; actions that the protocol forces are obeyed. `make_env(n)` makes n games.
    `on_progress(finished, total)` is called as games end. Raises ConfigError for `explore` outside 0 to 1, ValueError
    without seeds.
    """
    if not len(seeds):
        raise ValueError("no seeds: there is no game to play")
    scores, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    env: Env | None = None
    finished = 0
    try:
        for games in np.array_split(np.arange(len(seeds)), -(-len(seeds) // lanes)):
            if env is None or env.num_envs != len(games):
                if env is not None:
                    env.close()
                env = make_env(len(games))
            for game, score, length in _play(agent, env, [int(seeds[game]) for game in games], explore):
                scores[games[game]], lengths[games[game]] = score, length
                finished += 1
                if on_progress is not None:
                    on_progress(finished, len(seeds))
    finally:
        if env is not None:
            env.close()
    return Games(scores, lengths, [int(seed) for seed in seeds])


def _play(agent: Agent, env: Env, seeds: list[int], explore: float) -> Iterator[tuple[int, float, int]]:
    """Yields (lane, score, length) of the first game of every lane, as they end."""
    spec = env.spec
    explorer = Explorer(seeds, explore, spec.action_space if spec.continuous else spec.num_actions)
    player = agent.player(len(seeds))
    observation = env.reset(seeds)
    forced = env.forced_action
    playing = np.ones(len(seeds), np.bool_)
    while playing.any():
        actions: NDArray[Any]
        if spec.continuous:
            exploring, actions = explorer.next_continuous()
            ask = np.flatnonzero(playing & ~exploring)
        else:
            actions = np.where(forced >= 0, forced, explorer.next())
            ask = np.flatnonzero(playing & (actions < 0))
            actions[actions < 0] = 0  # where the game is over anything will do
        chosen = player.act(observation, ask)
        if len(ask):
            actions[ask] = chosen
        step = env.step(actions)
        observation, forced = step.observation, step.forced_action
        for lane in np.flatnonzero(step.ended & playing):
            yield int(lane), float(step.score[lane]), int(step.length[lane])
        player.begin(step.ended)
        playing &= ~step.ended
