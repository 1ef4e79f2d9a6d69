"""Beyond the Rainbow (BTR).

Paper: Clark, Towers, Evers and Hare, "Beyond The Rainbow: High Performance Deep Reinforcement Learning on a Desktop
PC", ICML 2025 (arXiv:2411.03820, 2024); numbers: its table of hyperparameters and the code that its authors published.

A recipe out of the parts of the line: implicit quantiles in place of atoms, Munchausen in place of double, dueling,
noisy layers, 3-step returns, prioritised replay, the Impala network twice as wide, its residual convolutions spectrally
normalised, adaptive max-pooling to 6x6, and 64 games at once. Each is a flag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agents.dqn import PRESETS as DQN_PRESETS
from agents.iqn import ImplicitQuantileValue, check_quantiles
from agents.value_based import ValueAgent
from agents.value_config import ValueConfig

__all__ = ["BTR", "PRESETS", "BTRConfig"]


@dataclass(frozen=True, kw_only=True)
class BTRConfig(ValueConfig):
    """Hyperparameters of Beyond the Rainbow. Defaults are those of Clark et al. 2024 (preset `paper`)."""

    backbone: str = "impala-cnn"
    """Network that reads the observation, by its registered name (Espeholt et al. 2018)."""
    backbone_width: int = 2
    """Factor of the channels of impala-cnn (Clark et al. 2024)."""
    spectral_norm: bool = True
    """Divide the residual convolutions of impala-cnn by their largest singular value (Clark et al. 2024)."""
    max_pool: int = 6
    """Pool the last convolutions of impala-cnn to so many rows and columns (Clark et al. 2024)."""
    num_envs: int = 64
    """Games played at once (Clark et al. 2024)."""
    discount: float = 0.997
    """Factor of future rewards, per environment step (Clark et al. 2024)."""
    n_step: int = 3
    """Rewards summed before the value is bootstrapped, in environment steps (Clark et al. 2024)."""
    dueling: bool = True
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    noisy: bool = True
    """Noise in the dense layers that learns its own size explores (Fortunato et al. 2018)."""
    munchausen: bool = True
    """Add the logarithm of the policy to the reward, bootstrap softly (Vieillard et al. 2020)."""
    prioritized: bool = True
    """Draw transitions by how wrong they were (Schaul et al. 2016)."""
    priority_exponent: float = 0.2
    """alpha of prioritised replay (Clark et al. 2024)."""
    importance_start: float = 0.2
    """beta of prioritised replay, which stays as it is (alpha, in the authors' code; the paper names none)."""
    importance_end: float = 0.2
    """beta at the end of its schedule (as at its start)."""
    learning_rate: float = 1e-4
    """Step size of Adam (Clark et al. 2024)."""
    optimizer_epsilon: float = 0.005 / 256
    """Added to Adam's denominator: 0.005 over the paper's batch size (Clark et al. 2024)."""
    max_gradient_norm: float | None = 10.0
    """Gradients are scaled down to this norm, all together (Clark et al. 2024)."""
    batch_size: int = 256
    """Transitions an update (Clark et al. 2024)."""
    replay_capacity: int = 2**20
    """Transitions remembered (Clark et al. 2024)."""
    train_period_env_steps: int = 64
    """Environment steps for each update (Clark et al. 2024: one update for a step of 64 games)."""
    target_period_env_steps: int = 32_000
    """Environment steps between copies of the network into the target network (500 updates in Clark et al. 2024)."""
    warmup_env_steps: int | None = 200_000
    """Environment steps before the first update (Clark et al. 2024). None: a fiftieth of the budget, at most 80,000."""
    exploration_env_steps: int | None = 2_000_000
    """Environment steps over which random actions become rarer (8 million frames in Clark et al. 2024). None: a tenth
    of the budget."""
    exploration_off_env_steps: int | None = 25_000_000
    """Environment steps after which noise alone explores (100 million frames in Clark et al. 2024). None: never."""
    quantiles: int = 8
    """Quantiles drawn of what is learned (Clark et al. 2024)."""
    target_quantiles: int = 8
    """Quantiles drawn of what follows (Clark et al. 2024)."""
    policy_quantiles: int = 8
    """Quantiles averaged to choose an action (Clark et al. 2024)."""
    cosines: int = 64
    """Cosines that describe a quantile (Clark et al. 2024)."""
    huber_threshold: float = 1.0
    """kappa: errors from here on count linearly (Clark et al. 2024)."""
    life_loss_ends_value: bool = False
    """Value nothing beyond a lost life while learning (off by default in the authors' code); the game goes on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_quantiles(self)


PAPER = BTRConfig()
# A laptop's budget is a hundredth of the paper's: the narrower network, schedules that follow the budget, and what a
# life is worth, as the rest of the line.
LAPTOP = replace(
    PAPER,
    backbone_width=1,
    warmup_env_steps=None,
    exploration_env_steps=None,
    exploration_off_env_steps=None,
    target_period_env_steps=8_000,
    life_loss_ends_value=True,
)
RECIPE = (
    "n_step", "dueling", "noisy", "munchausen", "prioritized", "priority_exponent", "importance_start",
    "importance_end", "max_gradient_norm",
)  # fmt: skip


def _of_vectors(name: str) -> BTRConfig:
    """The recipe with the network, batch and periods that DQN's preset has for vectors."""
    return BTRConfig(
        **{field: value for field, value in vars(DQN_PRESETS["vector"][name]).items() if field not in RECIPE}
    )


VECTOR = {
    # Every transition passes through the network once a quantile: half of DQN's batch.
    "default": replace(_of_vectors("default"), n_step=DQN_PRESETS["vector"]["default"].n_step, batch_size=64),
    "fast": _of_vectors("fast"),
}
VECTOR["paper"] = replace(
    VECTOR["default"],
    discount=0.997,
    n_step=3,
    reward_scale=1.0,
    learning_rate=1e-4,
    learning_rate_end=None,
    batch_size=256,
    train_period_env_steps=2,
    optimizer_epsilon=0.005 / 256,
)
# For pictures of tasks that are learned within minutes: as many transitions an update and a step as DQN has, since a
# few thousand steps are all that fit in (ours, by trying).
QUICK = {
    "num_envs": 8,
    "batch_size": 32,
    "train_period_env_steps": 4,
    "target_period_env_steps": 500,
    "learning_rate": 2.5e-4,
}
# What a laptop's minutes are short of is pictures through the large network: few an update, so that there are updates
# enough to learn anything, each of which goes further (ours, by trying).
FAST = replace(
    LAPTOP,
    max_pool=4,
    num_envs=16,
    batch_size=32,
    train_period_env_steps=16,
    target_period_env_steps=4_000,
    learning_rate=5e-4,
)
PRESETS = {
    "image": {"default": LAPTOP, "fast": FAST, "paper": PAPER},
    "vector": VECTOR,
    "discrete": VECTOR,
}


class BTR(ValueAgent):
    """Beyond the Rainbow."""

    Config = BTRConfig
    kind = ImplicitQuantileValue
    preset_table = PRESETS

    @classmethod
    def for_quick_tasks(cls, config: Any) -> Any:
        return replace(config, **QUICK)
