"""What every agent is: a learner that also acts, and that can be looked into."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Source
from aprendiz.optim import linear_schedule, set_learning_rate
from aprendiz.seeds import derived_seed

if TYPE_CHECKING:
    from gymnasium import Space

    from envs.core import Env, EnvSpec

__all__ = [
    "Agent",
    "Player",
    "Purpose",
    "check_actions_fit",
    "derived_seed",
    "epsilon_greedy",
    "follow_learning_rate",
    "linear_exploration",
    "warmup_steps",
]


class Agent:
    """Base of all agents. A subclass names its frozen `Config`, and defines what raises NotImplementedError here."""

    Config: ClassVar[type]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    """Precisions that it can learn in; the fastest on this machine is chosen when a run is created."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    """Kinds of device that it can live on."""

    replay_on_gpu: ClassVar[bool] = True
    """Whether a replay memory lives on a GPU with room for it."""

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    """Kinds of actions that it can take: `discrete`, numbered ones, and `continuous`, a Box of float32."""

    config: Any

    def __init__(
        self,
        config: Any,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        """`seed` decides the initial parameters. Raises ConfigError for spaces that it cannot learn in."""
        raise NotImplementedError

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        """Configs by name for this kind of environment, `default` first. Raises ConfigError where none fits."""
        raise NotImplementedError

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        """The config with every fraction of the budget turned into a number of environment steps."""
        return config

    @classmethod
    def replay_bytes(cls, config: Any, spec: EnvSpec, num_envs: int, transitions: int) -> int:
        """Memory that so many remembered transitions take, of agents whose config has a `replay_capacity`."""
        from aprendiz.replay import Replay

        space, n_step = spec.observation_space, getattr(config, "n_step", 1)
        return Replay.bytes_needed(transitions, num_envs, space.shape or (), space.dtype, spec.frame_stack, n_step)

    def make_source(self, env: Env, *, seed: int) -> Source:
        """Where its batches come from while it trains in `env`."""
        raise NotImplementedError

    def exploration(self, env_steps: int) -> float:
        """How much to explore after so many environment steps: what `act` takes as `explore`."""
        return 0.0

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions int64 [N] for observations [N, ...], or float32 [N, ...] where they are continuous. `explore` is the
        probability of a uniformly random action (0 is greedy), one coin an environment."""
        raise NotImplementedError

    def act_in_training(
        self, observations: NDArray[Any], env_steps: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Actions int64 [N] while it learns, after so many environment steps. Agents that explore by more than random
        actions say here how; whatever is random comes from `generator`."""
        return self.act(observations, self.exploration(env_steps), generator)

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """What it thinks, for watching: `q_values` [N, A], or where single actions have none `value` [N], and whatever
        else it has."""
        raise NotImplementedError

    def differentiable_values(self, observations: torch.Tensor) -> torch.Tensor:
        """Values [N, A] of float32 observations [N, ...], through which gradients flow; for saliency maps. Raises
        NotImplementedError where it has none to show."""
        raise NotImplementedError

    def frames_read(self, stack: int) -> int:
        """How many of the frames of a stack it reads at a time, the newest ones; for watching."""
        return stack

    def player(self, count: int) -> Player:
        """What plays `count` games with it, for evaluating and watching. Agents that remember more of a game than they
        are shown give a player of their own; to them `act` and `inspect` show the first observations of games."""
        return Player(self)

    def update(self, batch: Any) -> Outcome:
        """One step of learning."""
        raise NotImplementedError

    def modules(self) -> dict[str, nn.Module]:
        """Its networks by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError


class Player:
    """Plays N games with an agent that does not learn; this one remembers nothing from step to step.

    Each step calls `act` once, with what all the games show, then whoever wants to know `inspect`, and `begin` where
    new games began.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._generator = np.random.default_rng(0)  # greedy actions need no random numbers

    def act(self, observations: NDArray[Any], ask: NDArray[np.int64]) -> NDArray[Any]:
        """Greedy actions [K] of the games `ask` (int64 [K], K may be 0) of all that are played, whose observations are
        [N, ...]: also where an action is random or forced there is something to remember."""
        if not len(ask):
            return np.empty(0, np.int64)
        return self.agent.act(observations[ask], 0.0, self._generator)

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """What the agent thinks of the observations [N, ...] that `act` was just given, as `Agent.inspect`."""
        return self.agent.inspect(observations)

    def imagine(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """What the agent would think of each of the observations [K, ...], had the only game that is played shown it
        instead of the one that `act` was just given; as `Agent.inspect`."""
        return self.agent.inspect(observations)

    def begin(self, games: NDArray[np.bool_]) -> None:
        """Where `games` (bool [N]) holds a new game has begun: what was remembered of the old one is forgotten."""


def check_actions_fit(agent_class: type[Agent], name: str, spec: EnvSpec) -> None:
    """ConfigError where agent `name` cannot take the actions of an environment."""
    kind = "continuous" if spec.continuous else "discrete"
    if kind not in agent_class.action_kinds:
        able = {"continuous": "sb3-sac or sb3-ppo, for instance", "discrete": "dqn, for instance"}[kind]
        raise ConfigError(f"{name} cannot take the {kind} actions of {spec.name}; choose an agent that can: {able}")


class Purpose(IntEnum):
    """What a random generator of a run is for; each is derived from the run's one seed."""

    NETWORK = 1
    ENVIRONMENT = 2
    ACTING = 3
    REPLAY = 4
    SELECTION = 5
    """Games that choose the checkpoint called `best`."""
    EVALUATION = 6
    """Games that are reported."""


def warmup_steps(env_steps: int | None, budget_env_steps: int) -> int:
    """Environment steps before the first update: those that were given, else a fiftieth of the budget, at most 80,000
    (CleanRL's number for Atari)."""
    return min(80_000, budget_env_steps // 50) if env_steps is None else env_steps


def linear_exploration(config: Any, env_steps: int) -> float:
    """Probability of a random action after so many environment steps: from `exploration_start` linearly down to
    `exploration_end` within `exploration_env_steps`, fields of a config that `resolve` has made absolute."""
    assert config.exploration_env_steps is not None, "resolve() comes first"
    start, end = config.exploration_start, config.exploration_end
    return linear_schedule(start, end, config.exploration_env_steps, env_steps)


def follow_learning_rate(optimizer: torch.optim.Optimizer, config: Any, env_steps: int) -> None:
    """Sets an optimiser's step size to what it is after so many environment steps: from `learning_rate` linearly down
    to `learning_rate_end` within `learning_rate_env_steps`, fields of a config that `resolve` has made absolute.
    Without an end the step size is left alone."""
    if config.learning_rate_end is None:
        return
    assert config.learning_rate_env_steps is not None, "resolve() comes first"
    ends = config.learning_rate_end, config.learning_rate_env_steps
    set_learning_rate(optimizer, linear_schedule(config.learning_rate, *ends, env_steps))


def epsilon_greedy(
    greedy: Any, count: int, actions: int, explore: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Actions int64 [N]: `greedy()` [N], with probability `explore` replaced by a uniform one, one coin an environment.

    Coins and random actions are always drawn, so that what is consumed does not depend on what is decided; `greedy` is
    not called when nobody needs it.
    """
    coins = generator.random(count) < explore
    random_actions = generator.integers(0, actions, count)
    if coins.all():
        return random_actions
    return np.where(coins, random_actions, greedy())
