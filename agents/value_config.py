"""Hyperparameters of the whole DQN line, and where presets come from.

Each agent's own Config says what is different there, with its paper; every improvement is a flag on every agent.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from agents.core import warmup_steps
from aprendiz.config import (
    check_above_zero,
    check_at_least,
    check_choices,
    check_counts,
    check_schedule,
    check_share,
    check_unchanged,
)
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from envs.core import EnvSpec

C = TypeVar("C", bound="ValueConfig")
Presets = Mapping[str, Mapping[str, Any]]
"""Kind of observation -> name -> config."""


NEEDS = {
    "noisy": ("noisy_sigma",),
    "munchausen": ("munchausen_scale", "munchausen_temperature", "munchausen_lowest"),
    "prioritized": ("priority_exponent", "importance_start", "importance_end", "importance_env_steps"),
    "learning_rate_end": ("learning_rate_env_steps",),
}
"""Hyperparameters that do nothing without another one."""


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """Hyperparameters of DQN and of what was built on it. Unless a line says otherwise, the defaults are those for
    Atari and come from CleanRL's dqn_atari.py. Steps are decisions of the agent (four frames on Atari), summed over the
    environments."""

    backbone: str = "nature-cnn"
    """Network that reads the observation, by its registered name (Mnih et al. 2015, Methods)."""
    backbone_width: int = 1
    """Factor of the channels of impala-cnn: 1 is IMPALA's network, 2 that of Beyond the Rainbow."""
    layer_norm: Literal["none", "last", "all"] = "none"
    """Layer normalisation before the network's last activation, or before all (Gallici et al. 2024); none in Mnih et
    al. 2015."""
    spectral_norm: bool = False
    """Divide the residual convolutions of impala-cnn by their largest singular value (Bjorck et al. 2021)."""
    max_pool: int = 0
    """Pool the last convolutions of impala-cnn to so many rows and columns (6 in Clark et al. 2024); 0: not at all."""
    num_envs: int = 8
    """Games played at once (CleanRL plays one; more fill the time that learning takes, and change no other number)."""
    discount: float = 0.99
    """Factor of future rewards, per environment step."""
    n_step: int = 1
    """Rewards summed before the value is bootstrapped, in environment steps (1 in Mnih et al. 2015; Sutton 1988)."""
    double: bool = False
    """Choose the next action by the online network, value it by the target network (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    trunk_gradient_scale: float = 1.0
    """Factor of what separate streams and noisy layers send back into the layers below (0.71 in Wang et al. 2016)."""
    noisy: bool = False
    """Noise in the dense layers that learns its own size explores, in place of random actions; set exploration to 0
    with it (Fortunato et al. 2018)."""
    noisy_sigma: float = 0.5
    """Initial size of that noise, over the root of a layer's inputs (Fortunato et al. 2018, section 3.2)."""
    munchausen: bool = False
    """Add the logarithm of the policy to the reward, bootstrap softly (Vieillard et al. 2020)."""
    munchausen_scale: float = 0.9
    """Factor alpha of the log-policy (Vieillard et al. 2020, appendix B)."""
    munchausen_temperature: float = 0.03
    """Temperature tau of the soft policy, in units of value (Vieillard et al. 2020, appendix B)."""
    munchausen_lowest: float = -1.0
    """The log-policy, times the temperature, is clipped here (l0 of Vieillard et al. 2020, appendix B)."""
    prioritized: bool = False
    """Draw transitions by how wrong they were (Schaul et al. 2016)."""
    priority_exponent: float = 0.6
    """alpha: 0 draws uniformly, 1 in proportion (Schaul et al. 2016, table 3, proportional)."""
    importance_start: float = 0.4
    """beta at first: how far importance weights undo the bias of the draw (Schaul et al. 2016, table 3)."""
    importance_end: float = 1.0
    """beta at the end of its schedule (Schaul et al. 2016, section 3.4)."""
    importance_env_steps: int | None = None
    """Environment steps over which beta rises linearly. None: the budget."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam (CleanRL, SB3) or centred RMSProp (Mnih et al. 2015)."""
    learning_rate: float = 1e-4
    """Step size of the optimiser."""
    learning_rate_end: float | None = None
    """Step size at the end of a linear schedule. None: it stays as it is."""
    learning_rate_env_steps: int | None = None
    """Environment steps over which the learning rate falls to that. None: the budget."""
    optimizer_epsilon: float = 1e-8
    """Added to the optimiser's denominator (PyTorch's default)."""
    max_gradient_norm: float | None = None
    """Gradients are scaled down to this norm, all together (10 in Wang et al. 2016). None: they are left alone."""
    loss: Literal["huber", "mse"] = "huber"
    """Huber as in Mnih et al. 2015 and SB3; CleanRL and Dopamine use the squared error. Of expected values only:
    distributions have losses of their own."""
    batch_size: int = 32
    """Transitions an update."""
    replay_capacity: int = 1_000_000
    """Transitions remembered (a few per cent fewer where games last under 100 steps: their last observations take
    room); fewer where the machine lacks the memory, which is announced."""
    train_period_env_steps: int = 4
    """Environment steps for each update."""
    target_period_env_steps: int = 1_000
    """Environment steps between copies of the network into the target network."""
    warmup_env_steps: int | None = None
    """Environment steps before the first update. None: a fiftieth of the budget, at most 80,000 (CleanRL's number)."""
    exploration_start: float = 1.0
    """Probability of a random action at first."""
    exploration_end: float = 0.01
    """Probability of a random action once the schedule has ended."""
    exploration_env_steps: int | None = None
    """Environment steps over which it falls linearly. None: a tenth of the budget."""
    exploration_off_env_steps: int | None = None
    """Environment steps after which no action is random any more, and noise alone explores. None: never."""
    clip_rewards: bool = True
    """Learn from rewards clipped to [-1, 1] (Mnih et al. 2015); scores are never clipped."""
    reward_scale: float = 1.0
    """Factor of the rewards that are learned from (0.1 in PQN's pqn_cartpole.yaml); scores are never scaled."""
    life_loss_ends_value: bool = True
    """Value nothing beyond a lost life while learning (Mnih et al. 2015); the game and its score go on."""

    def __post_init__(self) -> None:
        check_choices(self)
        counts = ("num_envs", "n_step", "batch_size", "replay_capacity", "train_period_env_steps")
        check_at_least(self, 1, *counts, "target_period_env_steps", "backbone_width")
        schedules = ("warmup", "exploration", "exploration_off", "importance", "learning_rate")
        check_at_least(self, 0, *(f"{schedule}_env_steps" for schedule in schedules), "max_pool", "learning_rate_end")
        shares = ("priority_exponent", "importance_start", "importance_end", "munchausen_scale", "trunk_gradient_scale")
        check_share(self, "discount", "exploration_start", "exploration_end", *shares)
        positive = ("learning_rate", "optimizer_epsilon", "noisy_sigma", "munchausen_temperature", "max_gradient_norm")
        check_above_zero(self, *positive, "reward_scale")
        if not self.munchausen_lowest <= 0.0:
            raise ConfigError(f"munchausen_lowest must be 0 or less, got {self.munchausen_lowest}")
        if self.munchausen and self.double:
            raise ConfigError(
                "munchausen and double do not combine: a soft policy has no single next action to choose; "
                "use --no-double or --no-munchausen"
            )
        if self.replay_capacity < max(self.batch_size, self.num_envs):
            raise ConfigError(
                f"replay_capacity {self.replay_capacity} is smaller than the batch ({self.batch_size}) or the number "
                f"of environments ({self.num_envs})"
            )

    def check_new(self, preset: Any = None) -> None:
        """Raises ConfigError where something that was asked for, beyond the preset, does nothing. Of new runs only:
        others are as they are."""
        for switch, names in NEEDS.items():
            check_counts(self, preset, switch, *names)
        if not (self.noisy or hasattr(self, "cosines")):
            check_counts(self, preset, "dueling", "trunk_gradient_scale")
        if hasattr(self, "atoms") or hasattr(self, "quantiles"):
            check_unchanged(self, preset, "since distributions have losses of their own", "loss")
        check_schedule(self, preset, "exploration")
        if not max(self.exploration_start, self.exploration_end):
            check_unchanged(self, preset, "where exploration is 0 throughout", "exploration_off_env_steps")
        check_schedule(self, preset, "importance")
        if type(self).noisy and not self.noisy:
            if not max(self.exploration_start, self.exploration_end):
                raise ConfigError(
                    "without noise and without random actions nothing explores; give --no-noisy together with "
                    "--exploration-start 1 --exploration-end 0.01"
                )
            if self.exploration_off_env_steps is not None:
                raise ConfigError(
                    f"without noise nothing explores after {self.exploration_off_env_steps:,} steps; give --no-noisy "
                    "together with --exploration-off-env-steps None"
                )

    def backbone_options(self) -> dict[str, Any]:
        """What the backbone is asked for beyond its defaults."""
        fields = {"backbone_width": "width"} | {name: name for name in ("layer_norm", "spectral_norm", "max_pool")}
        plain = ValueConfig()
        return {
            option: getattr(self, name)
            for name, option in fields.items()
            if getattr(self, name) != getattr(plain, name)
        }


def resolved(config: C, budget_env_steps: int) -> C:
    """The config with every fraction of the budget turned into a number of environment steps."""

    def given(steps: int | None, otherwise: int) -> int:
        return otherwise if steps is None else steps

    changes: dict[str, Any] = {
        "warmup_env_steps": warmup_steps(config.warmup_env_steps, budget_env_steps),
        "exploration_env_steps": given(config.exploration_env_steps, budget_env_steps // 10),
    }
    if config.prioritized:
        changes["importance_env_steps"] = given(config.importance_env_steps, budget_env_steps)
    if config.learning_rate_end is not None:
        changes["learning_rate_env_steps"] = given(config.learning_rate_env_steps, budget_env_steps)
    return dataclasses.replace(config, **changes)


def derived(kind: type[C], presets: Mapping[str, Mapping[str, ValueConfig]]) -> dict[str, dict[str, C]]:
    """Another agent's presets (DQN's) for an agent of `kind`: what the two configs share is taken over, but for the
    fields that `kind` itself declares, which have its own defaults."""
    shared = {field.name for field in dataclasses.fields(ValueConfig)} - set(inspect.get_annotations(kind))
    return {
        observation_kind: {
            name: kind(**{field: getattr(config, field) for field in shared}) for name, config in named.items()
        }
        for observation_kind, named in presets.items()
    }


def with_paper(
    presets: dict[str, dict[str, C]], *, image: Mapping[str, Any], vector: Mapping[str, Any] | None = None
) -> dict[str, dict[str, C]]:
    """The presets with other numbers in `paper`, for images and for everything else."""
    found = {}
    for observation_kind, named in presets.items():
        changes = image if observation_kind == "image" else vector or {}
        found[observation_kind] = named | {"paper": dataclasses.replace(named["paper"], **changes)}
    return found


def with_vector(presets: dict[str, dict[str, C]], **changes: Any) -> dict[str, dict[str, C]]:
    """The presets with other numbers where observations are no images."""
    return {
        observation_kind: {
            name: config if observation_kind == "image" else dataclasses.replace(config, **changes)
            for name, config in named.items()
        }
        for observation_kind, named in presets.items()
    }


def with_vector_default(presets: dict[str, dict[str, C]], **changes: Any) -> dict[str, dict[str, C]]:
    """The presets with other numbers in `default` where observations are no images."""
    return {
        observation_kind: named
        if observation_kind == "image"
        else named | {"default": dataclasses.replace(named["default"], **changes)}
        for observation_kind, named in presets.items()
    }


QUICK_ENV_STEPS = 1_000_000
"""Tasks of pictures with a smaller default budget, MiniGrid's and ViZDoom's, are tried within minutes."""


def is_quick(spec: EnvSpec) -> bool:
    """Whether an environment shows pictures and is learned within far fewer steps than Atari's games."""
    return spec.observation_kind == "image" and spec.default_env_steps < QUICK_ENV_STEPS


def for_quick_tasks(config: C) -> C:
    """The config with returns over at least three steps. Where one reward ends the game and actions differ by a
    hundredth of it, agents that bootstrap after one step lose their policy again and again (ours, by trying it)."""
    return dataclasses.replace(config, n_step=max(config.n_step, 3))


def with_rewards_of(spec: EnvSpec, presets: dict[str, Any]) -> dict[str, Any]:
    """Presets with rewards scaled, and not clipped, where the environment knows by how much: clipping would make a hit
    that is worth a hundred no better than a step."""
    if spec.reward_scale is None:
        return presets
    changes = {"clip_rewards": False, "reward_scale": spec.reward_scale}
    return {name: dataclasses.replace(config, **changes) for name, config in presets.items()}


def without_image_options(config: C) -> C:
    """The config with a network of dense layers, for images too small for convolutions."""
    return dataclasses.replace(config, backbone="mlp", backbone_width=1, spectral_norm=False, max_pool=0)
