"""What every environment is: a batch of N games, stepped together, each starting again in the step in which it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aprendiz.errors import ConfigError, EnvError

if TYPE_CHECKING:
    from gymnasium import Space


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """What is known about an environment before a game starts."""

    name: str
    """As it is typed on the command line: `breakout`, `cartpole`, `gym:Blackjack-v1`."""
    observation_kind: str
    """`image` (uint8 [C, H, W]), `vector` (float32 [D]) or `discrete` (int64 [], from 0)."""
    observation_space: Space
    """Of one environment."""
    action_space: Space
    """Of one environment: Discrete from 0, or a Box of float32 with finite bounds."""
    frame_stack: int = 1
    """C is made of this many frames, newest last; 1 is no stacking."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """What is played, JSON-able: frames a step, no-ops, sticky actions, time limit in steps, ..."""
    reward_scale: float | None = None
    """Factor that brings rewards to about [-1, 1], for those who learn from pictures without clipping them. None: not
    known."""
    options: dict[str, Any] = field(default_factory=dict)
    """Values of options that stand for themselves where others may be typed, such as the rows of a map for the name of
    its file: what a run keeps, so that it plays the same when the file has changed."""
    default_env_steps: int
    """A sensible training budget, in environment steps summed over the lanes."""
    random_score: float | None = None
    """Published mean score of uniformly random play."""
    human_score: float | None = None
    """Published mean score of a human player."""
    score_source: str = ""
    """Where the two scores come from."""
    solved_score: float | None = None
    """Mean score from which the environment's authors call it solved."""
    overlapped: bool = False
    """`send` returns before the step is done, so that work can be done until `recv`."""
    restorable: bool = False
    """`state_dict` holds games in progress exactly; otherwise loading it starts new games."""

    @property
    def num_actions(self) -> int:
        """Number of actions A; they are 0 to A - 1. Raises EnvError where actions are continuous."""
        if self.continuous:
            raise EnvError(f"{self.name} has no numbered actions: {self.action_space}")
        return int(self.action_space.n)  # type: ignore[attr-defined]

    @property
    def continuous(self) -> bool:
        """Whether actions are arrays of float32, a Box, instead of numbers."""
        return not hasattr(self.action_space, "n")


@dataclass(slots=True)
class Step:
    """What one step of N games gives; every array has the leading axis N and belongs to the receiver."""

    observation: np.ndarray
    """[N, ...] what is acted on next: where a game ended, already the first observation of the next one."""
    reward: np.ndarray
    """float32 [N], never clipped."""
    terminated: np.ndarray
    """bool [N]: the game is over, nothing follows."""
    truncated: np.ndarray
    """bool [N]: stopped by the time limit, so that a value can still be bootstrapped. Never both: terminated wins."""
    final_observation: np.ndarray
    """[N, ...] the last observation of games that ended; equal to `observation` in the other lanes (it may be the same
    array)."""
    life_lost: np.ndarray
    """bool [N]: a life was lost and the game goes on."""
    forced_action: np.ndarray
    """int64 [N]: -1, or the action that the protocol presses next whatever the agent wants; send it and store it.
    Always -1 where actions are continuous."""
    score: np.ndarray
    """float64 [N]: the unclipped return of the whole game; valid where it ended."""
    length: np.ndarray
    """int64 [N]: steps of the whole game; valid where it ended."""

    @property
    def ended(self) -> np.ndarray:
        """bool [N]: terminated or truncated."""
        return self.terminated | self.truncated

    def learned_reward(self, clip: bool) -> np.ndarray:
        """float32 [N]: what is learned from, clipped to [-1, 1] where asked (Mnih et al. 2015)."""
        return np.clip(self.reward, -1.0, 1.0) if clip else self.reward

    def no_bootstrap(self, life_loss_ends_value: bool) -> np.ndarray:
        """bool [N]: nothing of value follows: the game is over or, where asked, a life lost. Not at a time limit."""
        return self.terminated | self.life_lost if life_loss_ends_value else self.terminated


class Env:
    """N games of one kind, in lanes 0 to N - 1. Subclasses define `reset`, `send`, `recv`, and saving and loading."""

    spec: EnvSpec
    num_envs: int

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        """Start a new game in every lane and return the first observations [N, ...].

        An int gives lane i a stream of its own derived from (seed, i); with a sequence of N ints lane i's games are a
        function of seeds[i] alone. Raises ConfigError where the seeds do not fit.
        """
        raise NotImplementedError

    @property
    def forced_action(self) -> np.ndarray:
        """int64 [N]: as `Step.forced_action` of the last step; -1 after a reset."""
        return np.full(self.num_envs, -1, np.int64)

    @property
    def lives(self) -> np.ndarray | None:
        """int [N]: lives that are left, None where nobody counts them."""
        return None

    def step(self, actions: np.ndarray) -> Step:
        """Play one action a lane, int64 [N], or float32 [N, ...] where they are continuous; `send` and `recv` in
        one."""
        self.send(actions)
        return self.recv()

    def send(self, actions: np.ndarray) -> None:
        """Start a step with actions int64 [N], or float32 [N, ...] where they are continuous. Raises EnvError for an
        action that does not exist."""
        raise NotImplementedError

    def recv(self) -> Step:
        """Wait for the step that `send` started and return it."""
        raise NotImplementedError

    def table(self) -> TransitionTable | None:
        """The transition probabilities, where the environment exposes them."""
        return None

    def render(self, lane: int = 0) -> np.ndarray:
        """A colour picture of what `observation` shows in a lane, uint8 [H, W, 3]; needs `render=True` when made."""
        raise EnvError(f"{self.spec.name} has no picture")

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON-able values and numpy arrays, to be taken between steps."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        """Take up a saved state and return the observations [N, ...].

        Restorable environments continue exactly the games that were in progress. The others start new games, from seeds
        derived from what was saved, so that loading one state twice gives the same games.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back windows, threads and memory. More than once does no harm."""


@dataclass(frozen=True)
class TransitionTable:
    """The dynamics of a finite environment: for each state and action K outcomes, padded with probability 0."""

    next_state: np.ndarray
    """int64 [S, A, K]."""
    probability: np.ndarray
    """float64 [S, A, K], summing to 1 over K."""
    reward: np.ndarray
    """float64 [S, A, K]."""
    terminated: np.ndarray
    """bool [S, A, K]."""
    initial: np.ndarray
    """float64 [S]: distribution of the first state."""
    time_limit: int | None
    """Steps after which a game is truncated."""


def lane_seeds(seed: int | Sequence[int], num_envs: int) -> list[int]:
    """One seed of 31 bits a lane: from an int by `np.random.SeedSequence`, from a sequence as they are.

    Lane i's seed does not depend on how many lanes there are. Raises ConfigError for negative seeds and wrong counts.
    """
    if isinstance(seed, (int, np.integer)):
        if seed < 0:
            raise ConfigError(f"seed {seed} is negative; give 0 or more")
        return [int(word) >> 1 for word in np.random.SeedSequence([int(seed)]).generate_state(num_envs)]
    seeds = [int(one) for one in seed]
    if len(seeds) != num_envs:
        raise ConfigError(f"{len(seeds)} seeds given for {num_envs} games; give one seed a game, or one int for all")
    if any(not 0 <= one < 2**31 for one in seeds):
        raise ConfigError(f"seeds {seeds} are not all between 0 and {2**31 - 1}")
    return seeds


def check_num_envs(num_envs: int) -> int:
    """`num_envs`, or ConfigError where it is not a whole number above 0."""
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
        raise ConfigError(f"num_envs is {num_envs!r}; it must be a whole number of at least 1")
    return int(num_envs)


def check_actions(actions: np.ndarray, num_envs: int, num_actions: int, name: str) -> list[int]:
    """`actions` as a list, or EnvError where they are not `num_envs` numbers from 0 to `num_actions` - 1."""
    chosen = actions.tolist()
    if len(chosen) != num_envs or min(chosen) < 0 or max(chosen) >= num_actions:
        raise EnvError(f"actions {chosen} do not fit {name}; give {num_envs} numbers from 0 to {num_actions - 1}")
    return chosen


def check_box_actions(actions: np.ndarray, num_envs: int, space: Any, name: str) -> np.ndarray:
    """`actions` as float32 [N, ...] within the bounds of a Box, EnvError where they have another shape or are no
    numbers.

    What lies beyond the bounds is moved onto them, as the mean or the noise of a Gaussian policy often is.
    """
    chosen = np.asarray(actions, np.float32)
    if chosen.shape != (num_envs, *space.shape):
        raise EnvError(f"actions of shape {chosen.shape} do not fit {name}; give {(num_envs, *space.shape)}")
    if not np.isfinite(chosen).all():
        raise EnvError(f"actions for {name} are not all finite numbers")
    return np.clip(chosen, space.low, space.high)


def check_lanes(state: dict[str, Any], key: str, env: Env) -> None:
    """EnvError where a saved state has another number of lanes than `env`."""
    if len(state[key]) != env.num_envs:
        raise EnvError(
            f"the saved state of {env.spec.name} holds {len(state[key])} games and this environment {env.num_envs}; "
            f"make it with num_envs={len(state[key])}"
        )
