"""Deep belief network (DBN).

Paper: Hinton, Osindero and Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18:1527, 2006: a
stack of Boltzmann machines, each trained on the hidden states of the one below. Fine-tuned as a classifier as in Hinton
and Salakhutdinov, Science 313:504, 2006; likelihood bound: Salakhutdinov and Murray, ICML 2008, section 5.

    p(v, h_1 ... h_K) = p(v | h_1) ... p(h_K-2 | h_K-1) p(h_K-1, h_K)          (the last factor is the top machine)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aprendiz.data.core import Dataset, ImageBatch, ImageSpec
from aprendiz.device import load_generator_state
from aprendiz.loop import Outcome
from generative.boltzmann import (
    ContrastiveDivergence,
    Machine,
    chain_start,
    coins,
    copy_machine,
    falling_rate,
    log_odds,
    lowered,
    pseudo_log_likelihood,
    raised,
    unnormalised_bound,
)
from generative.core import GenerativeModel, Purpose, torch_generator
from generative.dbn_config import DBNConfig, presets_for
from generative.exciting_inputs import unit_rows
from generative.fine_tuning import (
    FINE_TUNE,
    FineTunedClassifier,
    accuracy_metrics,
    dense_layers,
    layer_stage,
    require_labels,
)
from generative.partition import LogPartition
from generative.rbm import check_visible, flat
from generative.staged import StagedSource

if TYPE_CHECKING:
    from aprendiz.data.core import Images
    from generative.metrics import Judge

VALIDATION_IMAGES = 1_000
ACCURACY_IMAGES = 2_000
PSEUDO_PIXELS = 50
"""Units of the newest machine's input that a validation turns over."""


class DBN(GenerativeModel):
    """Deep belief network. The classifier learns on a copy of the machines' weights, which go on generating."""

    Config = DBNConfig
    abilities = frozenset({"encode", "reconstruct", "decode", "latents", "filters", "classify", "log_likelihood"})
    precisions = ("fp32", "bf16")

    def __init__(
        self,
        config: DBNConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        check_visible(config.visible, spec)
        self.config, self.spec, self.device, self.precision = config, spec, torch.device(device), precision
        generator = torch_generator(seed, Purpose.NETWORK)
        widths = [spec.pixels, *config.hidden]
        self.machines = nn.ModuleList(
            Machine(below, above, generator, gaussian=config.visible == "gaussian" and i == 0)
            for i, (below, above) in enumerate(itertools.pairwise(widths))
        ).to(self.device)
        self.tuned: FineTunedClassifier | None = None
        if config.fine_tune == "classify":
            require_labels(config, spec)
            layers = dense_layers(spec, config.hidden, generator)
            width, classes = config.hidden[-1], len(spec.classes)
            self.tuned = FineTunedClassifier(config, layers, width, classes, generator, self.device)
        else:
            self.abilities = self.abilities - {"classify"}  # type: ignore[misc]
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self.base_biases = [torch.zeros(width, device=self.device) for width in widths[:-1]]
        """Of the visible units of each machine: where its biases, its chains and AIS start."""
        self.stage = ""
        self.trainer: ContrastiveDivergence | None = None
        """Of the machine that is being trained."""
        self._seen = 0
        """Images that this machine has seen."""

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, DBNConfig]:
        return presets_for(spec)

    @classmethod
    def default_epochs(cls, config: DBNConfig, spec: ImageSpec) -> int:
        return 60 if spec.pixels >= 400 else 120

    @classmethod
    def resolve(cls, config: DBNConfig, spec: ImageSpec, *, train_images: int, budget_images: int) -> DBNConfig:
        return config.resolved(len(config.hidden), budget_images, fine_tuned=config.fine_tune == "classify")

    def make_source(self, data: Dataset, *, seed: int, augment: Any = None) -> StagedSource:
        config = self.config
        classify = config.fine_tune == "classify"
        stages = config.stages(len(config.hidden), config.batch_size, fine_tuned=classify, labelled=True)
        return StagedSource(data.train, stages, seed=seed, device=self.device, augment=augment)

    def update(self, batch: ImageBatch) -> Outcome:
        if batch.stage != self.stage:
            self._begin(batch.stage)
        if self.tuned is not None and self.stage == FINE_TUNE:
            assert batch.labels is not None
            metrics = self.tuned.step(batch.images, batch.labels, self.generator, self.precision)
            return Outcome({"loss": metrics["loss"], "stage": float(len(self.machines) + 1)})
        with torch.no_grad():
            error = self._train_machine(batch.images.flatten(1))
        return Outcome({"loss": error, "stage": float(self._layer + 1)})

    def _train_machine(self, images: Tensor) -> Tensor:
        """One update of the machine whose stage it is; returns its reconstruction error, to look at."""
        config, layer = self.config, self._layer
        assert self.trainer is not None and config.pretrain_images is not None, "resolve() comes first"
        data = self._upward(images, layer, self.generator)
        if self._seen == 0:
            base = data.mean(0) if self._machine(layer).gaussian else log_odds(data.mean(0))
            self.base_biases[layer].copy_(base)
            self._machine(layer).visible_bias.copy_(base)
        metrics = self.trainer.step(
            data,
            falling_rate(config.learning_rate, 0.1, config.pretrain_images, self._seen),
            min(0.5, config.momentum) if self._seen < config.pretrain_images // 10 else config.momentum,
        )
        self._seen += len(images)
        return metrics["reconstruction_error"]

    def _upward(self, images: Tensor, layer: int, generator: torch.Generator) -> Tensor:
        """What the visible units of a machine see of images [B, pixels]: the machines below it are only read."""
        config = self.config
        grey = config.visible == "gaussian" or config.binarization == "none"
        states = images if grey else coins(images, generator)
        for below in range(layer):
            states = self._machine(below).hidden_probabilities(states)
            if config.upward == "samples":
                states = coins(states, generator)
        return states

    def _begin(self, stage: str) -> None:
        """A new stage: a fresh optimiser for one machine, or a classifier that starts from all of them."""
        if stage not in self._stages():
            raise ValueError(f"there is no stage {stage!r}, only {', '.join(self._stages())}")
        self.stage, self._seen = stage, 0
        if stage != FINE_TUNE:
            self.trainer = self._make_trainer()
        elif self.tuned is not None:
            self.trainer = None
            layers = self.tuned.network.layers
            if self.config.pretrain:
                for layer, machine in zip(layers, self.machines, strict=True):
                    copy_machine(machine, layer)
            self.tuned.start_from(layers)

    def _make_trainer(self) -> ContrastiveDivergence:
        config = self.config
        return ContrastiveDivergence(
            self._machine(self._layer),
            self.generator,
            steps=config.gibbs_steps,
            persistent=config.persistent,
            chains=config.chains,
            weight_decay=config.machine_weight_decay,
        )

    def _machine(self, layer: int) -> Machine:
        machine = self.machines[layer]
        assert isinstance(machine, Machine)
        return machine

    def _stack(self) -> list[Machine]:
        return [self._machine(layer) for layer in range(len(self.machines))]

    def _stages(self) -> list[str]:
        return [*map(layer_stage, range(len(self.machines))), FINE_TUNE]

    @property
    def _layer(self) -> int:
        """The machine that is being trained, or was last."""
        index = self._stages().index(self.stage) if self.stage else 0
        return min(index, len(self.machines) - 1)

    @torch.no_grad()
    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """Pseudo-likelihood of the newest machine's input, reconstruction error, and accuracy where it classifies.

        The score is the accuracy in [0, 1] once the classifier learns. Before that it lies below 0 and rises with each
        finished machine and with exp(pseudo-likelihood / units) of the one that is being trained.
        """
        layer, machine = self._layer, self._machine(self._layer)
        visible = flat(images, slice(0, VALIDATION_IMAGES), self.device)
        data = self._upward(visible, layer, generator)
        means = machine.visible_means(machine.hidden_probabilities(data))
        metrics = {"reconstruction_error": float((data - means).square().sum(1).mean())}
        quality = 1.0 / (1.0 + metrics["reconstruction_error"])
        if not machine.gaussian:
            states = data if layer == 0 and self.config.binarization == "dynamic" else coins(data, generator)
            units = torch.randperm(states.shape[1], generator=generator)[:PSEUDO_PIXELS]
            likelihood = float(pseudo_log_likelihood(machine, states, units).mean())
            metrics["pseudo_likelihood"] = likelihood
            quality = math.exp(max(-700.0, likelihood / states.shape[1]))
        metrics["score"] = layer + quality - len(self.machines) - 1.0
        if self.tuned is not None and self.stage == FINE_TUNE:
            metrics |= accuracy_metrics(self.classify, images, min(len(images), ACCURACY_IMAGES))
            metrics["score"] = metrics["accuracy"]
        return metrics

    @torch.no_grad()
    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """What `validate` gives, the accuracy on all images, and the likelihood bound with its error bar where the
        machines were trained."""
        metrics = self.validate(images, generator, judge)
        if self.tuned is not None and self.stage == FINE_TUNE:
            metrics |= accuracy_metrics(self.classify, images, len(images))
            metrics["score"] = metrics["accuracy"]
        if self.config.pretrain:
            log_z = self._log_partition(generator)
            total = 0.0
            for start in range(0, len(images), 1_000):
                visible = self._states(flat(images, slice(start, start + 1_000), self.device), generator)
                total += float(unnormalised_bound(self._stack(), visible, generator).sum())
            metrics |= log_z.likelihoods("log_likelihood_bound", total / len(images))
        return metrics

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """An unbiased estimate, from one sample of the hidden states, of the lower bound on log p(v) in nats [B]."""
        log_z = self._log_partition(generator)
        visible = self._states(images.to(self.device).flatten(1), generator)
        return unnormalised_bound(self._stack(), visible, generator) - log_z.value

    def _states(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels as the first machine's likelihood is of: 0s and 1s, or for Gaussian units as they are."""
        return images if self.config.visible == "gaussian" else coins(images, generator)

    def _log_partition(self, generator: torch.Generator) -> LogPartition:
        chains, steps = self.config.ais_chains, self.config.ais_temperatures
        return self._machine(-1).log_partition(self.base_biases[-1], generator, chains=chains, steps=steps)

    @torch.no_grad()
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """States float32 [count, D] of the top machine's hidden units, at the end of Gibbs chains."""
        top = self._machine(-1)
        visible = chain_start(self.base_biases[-1], count, generator, top.gaussian)
        visible = top.gibbs(visible, self.config.sample_steps - 1, generator)
        return top.sample_hidden(visible, generator).cpu()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Gibbs sampling in the top machine, then states layer by layer down; the pixels' means are shown."""
        states = self.latents(count, generator).to(self.device)
        for machine in reversed(self._stack()[1:]):
            states = machine.sample_visible(states, generator)
        return self._machine(0).visible_means(states).reshape(count, *self.spec.shape).cpu()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Hidden probabilities of the top machine [B, D]; without pre-training those of the classifier."""
        states = images.to(self.device)
        if self.tuned is not None and not self.config.pretrain:
            for layer in self.tuned.evaluated.layers:
                states = layer(states)
            return states
        return raised(self._stack(), states.flatten(1))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Means layer by layer down, of states or probabilities [B, D] of the top machine's hidden units."""
        return lowered(self._stack(), codes.to(self.device)).reshape(-1, *self.spec.shape)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Up and down again through the machines, also where a classifier without pre-training encodes otherwise."""
        return self.decode(raised(self._stack(), images.to(self.device).flatten(1)))

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        if self.tuned is None:
            raise self._cannot("classify")
        return self.tuned.evaluated(images.to(self.device)).float()

    def filters(self) -> Tensor:
        return unit_rows(self._machine(0).weight.detach().T).unflatten(1, self.spec.shape).cpu()

    def modules(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"machines": self.machines}
        return networks if self.tuned is None else networks | {"classifier": self.tuned.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "machines": self.machines.state_dict(),
            "base_biases": self.base_biases,
            "tuned": None if self.tuned is None else self.tuned.state_dict(),
            "trainer": None if self.trainer is None else self.trainer.state_dict(),
            "generator": self.generator.get_state(),
            "stage": self.stage,
            "seen": self._seen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.machines.load_state_dict(state["machines"])
        for bias, saved in zip(self.base_biases, state["base_biases"], strict=True):
            bias.copy_(saved)
        if self.tuned is not None:
            self.tuned.load_state_dict(state["tuned"])
        load_generator_state(self.generator, state["generator"])
        self.stage, self._seen = state["stage"], state["seen"]
        self.trainer = None
        if state["trainer"] is not None:
            self.trainer = self._make_trainer()
            self.trainer.load_state_dict(state["trainer"])
