"""Hyperparameters of a deep belief network (`dbn`), and its presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aprendiz.errors import ConfigError
from generative.fine_tuning import StagedConfig

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


@dataclass(frozen=True, kw_only=True)
class DBNConfig(StagedConfig):
    """Hyperparameters of a DBN; those of its last stage come from StagedConfig."""

    hidden: tuple[int, ...] = (1000, 1000, 1000)
    """Hidden units of each machine (500, 500, 2000 in Hinton et al. 2006)."""
    visible: Literal["binary", "gaussian"] = "binary"
    """Binary pixels, or Gaussian ones of variance 1 for images scaled otherwise than to [0, 1]."""
    binarization: Literal["dynamic", "none"] = "dynamic"
    """What the first machine sees of grey pixels in training: a coin of that probability, tossed anew each time, or the
    grey itself as a probability (Hinton et al. 2006)."""
    upward: Literal["probabilities", "samples"] = "probabilities"
    """What a machine sees of the one below: its hidden probabilities (Hinton 2010, section 3.2), or states drawn from
    them."""
    fine_tune: Literal["classify", "none"] = "classify"
    """The last stage: a classifier that starts from the machines' weights, or none."""
    persistent: bool = False
    """Chains of the negative phase go on from one update to the next; off: they start at the data (CD)."""
    gibbs_steps: int = 1
    """Steps of the negative chains an update."""
    chains: int = 100
    """Persistent chains."""
    batch_size: int = 100
    """Images an update in pre-training."""
    learning_rate: float = 0.1
    """Step size of the machines at the start, of mean gradients; falls linearly to a tenth."""
    momentum: float = 0.9
    """Momentum after the first tenth of a machine's training, at most 0.5 before (Hinton 2010, section 9). 0 for
    persistent chains, which it drives away from the data."""
    machine_weight_decay: float = 2e-4
    """L2 penalty on the machines' weights (Hinton and Salakhutdinov 2006, supporting material)."""
    sample_steps: int = 1_000
    """Gibbs steps of the top machine before the way down."""
    ais_chains: int = 100
    """Chains that estimate the top machine's partition function (Salakhutdinov and Murray 2008, section 6)."""
    ais_temperatures: int = 14_500
    """Temperatures of each (the same)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden must be at least one number, each at least 1, got {self.hidden}")
        for name in ("gibbs_steps", "chains", "batch_size", "sample_steps", "ais_temperatures"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.ais_chains < 2:
            raise ConfigError(f"ais_chains must be at least 2, for an error bar; got {self.ais_chains}")
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"momentum must be 0 or more and below 1, got {self.momentum}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0.0 <= self.machine_weight_decay < float("inf"):
            raise ConfigError(f"machine_weight_decay must be 0 or more, got {self.machine_weight_decay}")
        if self.fine_tune == "none" and not self.pretrain:
            raise ConfigError("without pretrain and with fine_tune none nothing is learned")


def presets_for(spec: ImageSpec) -> dict[str, DBNConfig]:
    """`default`, `paper` and, for labelled images, `generate` and `few-labels`."""
    large, labelled = spec.pixels >= 400, len(spec.classes) > 1
    base = DBNConfig(
        hidden=(1000, 1000, 1000) if large else (256, 256),
        visible="binary" if spec.unit_interval else "gaussian",
        learning_rate=0.1 if spec.unit_interval else 1e-3,
        fine_tune="classify" if labelled else "none",
        batch_size=100 if large else 20,
        fine_tune_batch_size=100 if large else 20,
    )
    presets = {"default": base}
    if labelled:
        # Chains that go on are what a top machine that is drawn from needs; one step from the data is not enough.
        presets["generate"] = dataclasses.replace(
            base,
            hidden=(500, 1000) if large else (100, 200),
            fine_tune="none",
            persistent=True,
            momentum=0.0,
            learning_rate=base.learning_rate / 2,
            upward="samples",
        )
        presets["few-labels"] = dataclasses.replace(base, labels=max(100, len(spec.classes)), pretrain_share=0.9)
    # The sizes of Hinton et al. 2006, without dropout and without an average.
    presets["paper"] = dataclasses.replace(
        base,
        hidden=(500, 500, 2000) if large else (100, 100, 400),
        binarization="none",
        input_dropout=0.0,
        dropout=0.0,
        ema_decay=None,
    )
    return presets
