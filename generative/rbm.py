"""Restricted Boltzmann machine (RBM).

Papers: Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14:1771, 2002
(CD-k); Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008
(persistent CD). Defaults: Hinton, "A practical guide to training restricted Boltzmann machines", 2010.

    grad log p(v) = <v h>_data - <v h>_model          (the model's from a few steps of Gibbs sampling)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aprendiz.data.core import Dataset, ImageBatch, ImageSpec
from aprendiz.device import load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from generative.boltzmann import (
    ContrastiveDivergence,
    Machine,
    chain_start,
    coins,
    falling_rate,
    log_odds,
    pseudo_log_likelihood,
)
from generative.core import GenerativeModel, Purpose, torch_generator
from generative.exciting_inputs import unit_rows
from generative.partition import LogPartition, can_sum, summed_terms

if TYPE_CHECKING:
    from aprendiz.data.core import Images
    from generative.metrics import Judge

REFERENCE_IMAGES = 1_000
"""Training images whose free energy held-out images are compared with (Hinton 2010, section 6)."""
PSEUDO_PIXELS = 100
"""Pixels that a validation turns over in each image."""
VALIDATION_IMAGES = 1_000
VALIDATION_TERMS = 1 << 25
"""Terms of an exact sum that a validation has the time for."""


@dataclass(frozen=True, kw_only=True)
class RBMConfig:
    """Hyperparameters of an RBM."""

    hidden: int = 500
    """Hidden units (Tieleman 2008, section 4)."""
    visible: Literal["binary", "gaussian"] = "binary"
    """Binary pixels, or Gaussian ones of variance 1 for images scaled otherwise than to [0, 1] (Hinton 2010, section
    13.2)."""
    binarization: Literal["dynamic", "threshold", "none"] = "dynamic"
    """What binary units see of grey pixels: a coin of that probability, tossed anew each time (dynamic), whether they
    are above a half (threshold), or the grey itself as a probability (none). Likelihoods are always of 0s and 1s:
    `none` is scored as dynamic is."""
    persistent: bool = True
    """Chains of the negative phase go on from one update to the next (Tieleman 2008); off: they start at the data."""
    gibbs_steps: int = 1
    """Steps of the negative chains an update: the k of CD-k."""
    chains: int = 100
    """Persistent chains (Tieleman 2008: as many as images in a batch)."""
    batch_size: int = 100
    """Images an update (Hinton 2010, section 4: 10 to 100)."""
    learning_rate: float = 0.05
    """Step size at the start, of mean gradients; falls linearly."""
    final_share: float = 0.0
    """Share of the learning rate that is left at the end (Tieleman 2008: falls to 0)."""
    decay_images: int | None = None
    """Images over which the learning rate falls. None: the whole budget."""
    momentum: float = 0.0
    """Share of the last step that is taken again. None with persistent chains (Tieleman 2008), which it drives away
    from the data; 0.9 with CD (Hinton 2010, section 9)."""
    initial_momentum: float = 0.0
    """The same for the first `initial_momentum_images` (0.5 with CD: Hinton 2010, section 9)."""
    initial_momentum_images: int | None = None
    """Images during which it is the initial one. None: a twentieth of the budget."""
    weight_decay: float = 1e-4
    """L2 penalty on the weights, not on biases (Hinton 2010, section 10)."""
    sample_steps: int = 1_000
    """Gibbs steps of a chain before it is a sample."""
    sample_from: Literal["noise", "fantasy"] = "noise"
    """Where chains that sample begin: at independent pixels, or at the persistent chains saved with the run."""
    ais_chains: int = 100
    """Chains that estimate the partition function (Salakhutdinov and Murray 2008, section 6)."""
    ais_temperatures: int = 14_500
    """Temperatures of each (the same)."""

    def __post_init__(self) -> None:
        counts = ("hidden", "gibbs_steps", "chains", "batch_size", "sample_steps", "ais_temperatures")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.ais_chains < 2:
            raise ConfigError(f"ais_chains must be at least 2, for an error bar; got {self.ais_chains}")
        for name in ("decay_images", "initial_momentum_images"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("momentum", "initial_momentum"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must be 0 or more and below 1, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0.0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"weight_decay must be 0 or more, got {self.weight_decay}")
        if not 0.0 <= self.final_share <= 1.0:
            raise ConfigError(f"final_share must lie between 0 and 1, got {self.final_share}")
        if self.sample_from == "fantasy" and not self.persistent:
            raise ConfigError("sample_from fantasy needs the chains of persistent contrastive divergence")


class RBM(GenerativeModel):
    """Restricted Boltzmann machine."""

    Config = RBMConfig
    abilities = frozenset({"encode", "reconstruct", "decode", "latents", "filters", "log_likelihood"})

    def __init__(
        self,
        config: RBMConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        check_visible(config.visible, spec)
        self.config, self.spec, self.device, self.precision = config, spec, torch.device(device), precision
        generator = torch_generator(seed, Purpose.NETWORK)
        gaussian = config.visible == "gaussian"
        self.machine = Machine(spec.pixels, config.hidden, generator, gaussian=gaussian).to(self.device)
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self.trainer = ContrastiveDivergence(
            self.machine,
            self.generator,
            steps=config.gibbs_steps,
            persistent=config.persistent,
            chains=config.chains,
            weight_decay=config.weight_decay,
        )
        self.base_bias = torch.zeros(spec.pixels, device=self.device)
        """Log odds of the first batch's mean pixels (Gaussian: their means): where biases, chains and AIS start."""
        self.reference = torch.empty(0, spec.pixels, device=self.device)
        """Some training images as models see them [up to REFERENCE_IMAGES, D]."""
        self._seen = 0

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, RBMConfig]:
        visible: Literal["binary", "gaussian"] = "binary" if spec.unit_interval else "gaussian"
        # Gaussian pixels have no bound that keeps a large step in check (Hinton 2010, section 13.2).
        rate = 0.05 if spec.unit_interval else 1e-3
        sizes = {"hidden": 500} if spec.pixels >= 400 else {"hidden": 100, "batch_size": 20}
        base = RBMConfig(visible=visible, learning_rate=rate, **sizes)  # type: ignore[arg-type]
        return {
            "default": base,
            # Small enough for the partition function to be summed up at every validation.
            "exact": dataclasses.replace(base, hidden=15),
            # One step from the data (Hinton 2010, section 3): cheaper, and biased.
            "cd1": dataclasses.replace(base, persistent=False, momentum=0.9, initial_momentum=0.5),
        }

    @classmethod
    def default_epochs(cls, config: RBMConfig, spec: ImageSpec) -> int:
        return 30 if spec.pixels >= 400 else 120

    @classmethod
    def resolve(cls, config: RBMConfig, spec: ImageSpec, *, train_images: int, budget_images: int) -> RBMConfig:
        decay, initial = config.decay_images, config.initial_momentum_images
        return dataclasses.replace(
            config,
            decay_images=budget_images if decay is None else decay,
            initial_momentum_images=budget_images // 20 if initial is None else initial,
        )

    @torch.no_grad()
    def update(self, batch: ImageBatch) -> Outcome:
        config = self.config
        assert config.decay_images is not None and config.initial_momentum_images is not None, "resolve() comes first"
        images = batch.images.flatten(1)  # [B, D]
        if self._seen == 0:
            self.base_bias.copy_(images.mean(0) if self.machine.gaussian else log_odds(images.mean(0)))
            self.machine.visible_bias.copy_(self.base_bias)
        if len(self.reference) < REFERENCE_IMAGES:
            self.reference = torch.cat([self.reference, images])[:REFERENCE_IMAGES]
        metrics = self.trainer.step(
            self._visible(images, self.generator, grey=config.binarization == "none"),
            falling_rate(config.learning_rate, config.final_share, config.decay_images, self._seen),
            config.initial_momentum if self._seen < config.initial_momentum_images else config.momentum,
        )
        self._seen += len(images)
        return Outcome(metrics)

    def _visible(self, images: Tensor, generator: torch.Generator, *, grey: bool = False) -> Tensor:
        """What visible units see of images [B, D]; 0s and 1s for binary units unless `grey`."""
        if self.machine.gaussian or grey:
            return images
        if self.config.binarization == "threshold":
            return (images > 0.5).to(images.dtype)
        return coins(images, generator)

    @torch.no_grad()
    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """Free-energy gap, pseudo-likelihood, exact likelihood where it can be summed, reconstruction error.

        The score is the likelihood where it is soon summed, else the pseudo-likelihood (of Gaussian units a short AIS
        estimate of the likelihood).
        """
        machine = self.machine
        held_out = self._visible(flat(images, slice(0, VALIDATION_IMAGES), self.device), generator)
        metrics = self._gap(held_out, generator)
        means = machine.visible_means(machine.hidden_probabilities(held_out))
        metrics["reconstruction_error"] = float((held_out - means).square().sum(1).mean())
        if not machine.gaussian:
            pixels = torch.randperm(self.spec.pixels, generator=generator)[:PSEUDO_PIXELS]
            metrics["pseudo_likelihood"] = float(pseudo_log_likelihood(machine, held_out, pixels).mean())
        if machine.gaussian or self._soon_summed():
            log_z = machine.log_partition(self.base_bias, generator, chains=50, steps=1_000)
            metrics["log_likelihood"] = float(-machine.free_energy(held_out).mean()) - log_z.value
        metrics["score"] = metrics.get("log_likelihood", metrics.get("pseudo_likelihood", 0.0))
        return metrics

    def _soon_summed(self) -> bool:
        units = self.machine.weight.shape
        return can_sum(*units) and summed_terms(*units) <= VALIDATION_TERMS

    def _gap(self, held_out: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Mean free energies of held-out and training images, and their difference, which grows with overfitting."""
        if not len(self.reference):
            return {}
        train = float(self.machine.free_energy(self._visible(self.reference, generator)).mean())
        held = float(self.machine.free_energy(held_out).mean())
        return {"free_energy_train": train, "free_energy_held_out": held, "free_energy_gap": held - train}

    @torch.no_grad()
    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """What `validate` gives, and the log-likelihood in nats with three standard errors of the estimated Z."""
        metrics = self.validate(images, generator, judge)
        log_z = self._log_partition(generator)
        total = 0.0
        for start in range(0, len(images), 1_000):
            visible = self._visible(flat(images, slice(start, start + 1_000), self.device), generator)
            total -= float(self.machine.free_energy(visible).sum())
        return metrics | log_z.likelihoods("log_likelihood", total / len(images))

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """log p(v) in nats [B] of images [B, C, H, W] as the visible units see them; of Gaussian units a density."""
        log_z = self._log_partition(generator)
        visible = self._visible(images.to(self.device).flatten(1), generator)
        return -self.machine.free_energy(visible) - log_z.value

    def _log_partition(self, generator: torch.Generator) -> LogPartition:
        chains, steps = self.config.ais_chains, self.config.ais_temperatures
        return self.machine.log_partition(self.base_bias, generator, chains=chains, steps=steps)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Pixels' probabilities (Gaussian: means) in the last of `sample_steps` Gibbs steps."""
        means = self.machine.visible_means(self._chain(count, generator))
        return means.reshape(count, *self.spec.shape).cpu()

    def _chain(self, count: int, generator: torch.Generator) -> Tensor:
        """Hidden states [count, H] at the end of chains; all random numbers come from a generator of the CPU."""
        if self.config.sample_from == "fantasy" and self.trainer.fantasy is not None:
            chains = torch.randint(len(self.trainer.fantasy), (count,), generator=generator)
            visible = self.trainer.fantasy[chains.to(self.device)]
        else:
            visible = chain_start(self.base_bias, count, generator, self.machine.gaussian)
        visible = self.machine.gibbs(visible, self.config.sample_steps - 1, generator)
        return self.machine.sample_hidden(visible, generator)

    @torch.no_grad()
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Hidden states float32 [count, H] at the end of Gibbs chains."""
        return self._chain(count, generator).cpu()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Hidden probabilities [B, H]."""
        return self.machine.hidden_probabilities(images.to(self.device).flatten(1))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Means of the pixels given hidden states or probabilities [B, H]."""
        return self.machine.visible_means(codes.to(self.device)).reshape(-1, *self.spec.shape)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def filters(self) -> Tensor:
        return unit_rows(self.machine.weight.detach().T).unflatten(1, self.spec.shape).cpu()

    def modules(self) -> dict[str, nn.Module]:
        return {"machine": self.machine}

    def state_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine.state_dict(),
            "trainer": self.trainer.state_dict(),
            "generator": self.generator.get_state(),
            "base_bias": self.base_bias,
            "reference": self.reference,
            "seen": self._seen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.machine.load_state_dict(state["machine"])
        self.trainer.load_state_dict(state["trainer"])
        load_generator_state(self.generator, state["generator"])
        self.base_bias.copy_(state["base_bias"])
        self.reference = state["reference"].to(self.device).clone()
        self._seen = state["seen"]


def check_visible(visible: str, spec: ImageSpec) -> None:
    """Raises ConfigError where binary units would see numbers outside [0, 1]."""
    if visible == "binary" and not spec.unit_interval:
        raise ConfigError(
            f"binary visible units read pixels in [0, 1], and {spec.name} is scaled otherwise: use --scaling unit, or "
            "--visible gaussian with standard scaling"
        )


def flat(images: Images, indices: Any, device: torch.device) -> Tensor:
    """Some of the images as float32 [B, D] on a device."""
    return images.scaled(indices).to(device).flatten(1)
