"""What all adversarial games share: two networks, an optimiser each, noise, an average to sample from, and the score.

What the players minimise, and in which order they move, stands in each algorithm's own file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from aprendiz.averages import WeightAverage
from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.history import History
from aprendiz.loop import Outcome, Source
from aprendiz.optim import adam, linear_schedule, load_optimizer_state
from aprendiz.seeds import global_seed
from generative.core import GenerativeModel, Purpose, derived_seed, torch_generator
from generative.gan_losses import real_gradient_penalty

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, ImageBatch, Images, ImageSpec
    from generative.metrics import Judge

SCORED = 2_000
"""Samples that `validate` looks at, and images that it compares them with, at most."""
CHUNK = 250
"""Images drawn at once when sampling."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Hyperparameters of every adversarial game. Images are counted as the discriminator sees them: real ones."""

    latent_dimensions: int = 100
    """Numbers in a latent vector, each from N(0, 1) (100 in Radford et al. 2016)."""
    batch_size: int = 64
    """Real images a step of the discriminator, and as many generated ones (ours; 128 in Radford et al. 2016)."""
    discriminator_steps: int = 1
    """k: steps of the discriminator for one of the generator, each with images and noise of its own (Goodfellow et al.
    2014, algorithm 1, who use 1)."""
    generator_learning_rate: float = 2e-4
    """Step size of the generator's optimiser (Radford et al. 2016, section 3)."""
    discriminator_learning_rate: float = 2e-4
    """Step size of the discriminator's optimiser (Radford et al. 2016, section 3)."""
    final_learning_rate: float = 1.0
    """What both step sizes are multiplied by at the end of `learning_rate_images`; 1 keeps them as they are."""
    learning_rate_images: int | None = None
    """Images over which they fall linearly. None: the whole budget."""
    adam_beta1: float = 0.5
    """Decay of Adam's mean gradient (Radford et al. 2016, section 3)."""
    adam_beta2: float = 0.999
    """Decay of Adam's mean squared gradient (Kingma and Ba 2015)."""
    average_decay: float = 0.999
    """Decay, per step of the generator, of the average of its weights that samples; 0 samples from the weights
    themselves (Yazici et al. 2019)."""
    history_images: int = 0
    """Generated images that are remembered, of which half of the discriminator's are taken (Shrivastava et al. 2017,
    section 2.3); 0: none."""

    def __post_init__(self) -> None:
        for name in ("latent_dimensions", "batch_size", "discriminator_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("generator_learning_rate", "discriminator_learning_rate"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("adam_beta1", "adam_beta2", "average_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ConfigError("batch_size must be at least 2: batch normalisation knows no variance of one image")
        if not 0.0 <= self.final_learning_rate <= 1.0:
            raise ConfigError(f"final_learning_rate must lie between 0 and 1, got {self.final_learning_rate}")
        if self.learning_rate_images is not None and self.learning_rate_images < 1:
            raise ConfigError(f"learning_rate_images must be at least 1, got {self.learning_rate_images}")
        if self.history_images < 0:
            raise ConfigError(f"history_images must be 0 or more, got {self.history_images}")


def check_penalty(config: Any) -> None:
    """Raises ConfigError for a penalty on the discriminator's gradient that has no meaning."""
    if not 0.0 <= config.gradient_penalty < float("inf"):
        raise ConfigError(f"gradient_penalty must be 0 or more, got {config.gradient_penalty}")
    if config.penalty_period_updates < 1:
        raise ConfigError(f"penalty_period_updates must be at least 1, got {config.penalty_period_updates}")
    if config.gradient_penalty and config.discriminator_norm == "batch":
        raise ConfigError(
            "a gradient_penalty needs a discriminator that judges each image by itself: use discriminator_norm none "
            "or layer, or gradient_penalty 0"
        )


class AdversarialModel(GenerativeModel):
    """Base of the games. A subclass defines `_networks` and `update`."""

    abilities = frozenset({"decode", "latents"})
    precisions = ("fp32", "bf16")
    wants_judge: ClassVar[bool] = True
    """Whether `validate` is better with a judge."""
    signed: bool = True
    """Whether the networks' images lie in [-1, 1] (outputs of tanh) or, as everywhere else, in [0, 1]."""

    def __init__(
        self, config: Any, spec: ImageSpec, *, seed: int, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        if not spec.unit_interval:
            raise ConfigError(
                f"the generators of adversarial games draw pixels in [0, 1], and {spec.name} is scaled otherwise; "
                "use --scaling unit"
            )
        if min(spec.height, spec.width) < 4:
            raise ConfigError(
                f"adversarial games need images of at least 4x4 pixels, {spec.name} has {spec.height}x{spec.width}"
            )
        self.config, self.spec, self.precision = config, spec, precision
        self.device = torch.device(device)
        self._random = torch_generator(seed, Purpose.LEARNING, self.device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            generator, discriminator = self._networks(config, spec)
        self.generator = self._placed(generator)
        self.discriminator = self._placed(discriminator)
        self.generator_optimizer = self._optimizer(self.generator, config.generator_learning_rate)
        self.discriminator_optimizer = self._optimizer(self.discriminator, config.discriminator_learning_rate)
        self.average = WeightAverage(self.generator, config.average_decay)
        self.history = self._new_history()
        self._images = 0
        """Real images that the discriminator has seen."""
        self._judged: tuple[Any, Any] = (None, None)

    def _networks(self, config: Any, spec: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """The generator and the discriminator, with initial weights."""
        raise NotImplementedError

    def _placed(self, network: nn.Module) -> nn.Module:
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        betas = self.config.adam_beta1, self.config.adam_beta2
        return adam(network.parameters(), learning_rate, 1e-8, self.device, betas)

    def _new_history(self) -> History | None:
        """Room for the generated images that the configuration wants remembered."""
        if not self.config.history_images:
            return None
        return History(self.config.history_images, (self.spec.shape,), (torch.float32,), self.device)

    @classmethod
    def resolve(cls, config: Any, spec: ImageSpec, *, train_images: int, budget_images: int) -> Any:
        if config.learning_rate_images is not None:
            return config
        return dataclasses.replace(config, learning_rate_images=max(budget_images, 1))

    def make_source(self, data: Dataset, *, seed: int, augment: Any = None) -> Source:
        """Batches for k steps of the discriminator at once: `update` takes them apart."""
        from aprendiz.data.source import DataSource

        batch_size = self.config.batch_size * self.config.discriminator_steps
        return DataSource(data.train, batch_size=batch_size, seed=seed, device=self.device, augment=augment)

    # Parts of an update

    def _real(self, batch: ImageBatch) -> Iterator[Tensor]:
        """Real images as the discriminator sees them, one tensor [B, C, H, W] for each of its steps."""
        for images in batch.images.split(self.config.batch_size):
            # Batch normalisation knows no variance of one: the last image of a budget counts twice.
            images = images.repeat(2, 1, 1, 1) if len(images) == 1 else images
            yield 2 * images - 1 if self.signed else images

    def _noise(self, count: int) -> Tensor:
        """Fresh latent vectors [count, D] of learning."""
        size = count, self.config.latent_dimensions
        return torch.randn(size, generator=self._random, device=self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self.device, self.precision)

    @contextlib.contextmanager
    def _frozen(self, network: nn.Module) -> Iterator[None]:
        """Within it gradients pass through the network, and none is computed of its weights."""
        network.requires_grad_(False)
        try:
            yield
        finally:
            network.requires_grad_(True)

    def _step(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> Tensor:
        """One step of an optimiser; returns the norm of the gradient over all weights."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def _penalised(self, loss: Tensor, value: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
        """The discriminator's loss, with the penalty on its gradient at real images where one is due: for games whose
        configuration has `gradient_penalty` and `penalty_period_updates`. In float32: it is differentiated twice."""
        period = self.config.penalty_period_updates
        if self.config.gradient_penalty == 0.0 or self.average.updates % period:
            return loss
        return loss + period * self.config.gradient_penalty * real_gradient_penalty(value, real)

    def _finish(self, batch: ImageBatch) -> None:
        """After the generator's step: its average, and the step sizes of the next update."""
        self.average.update(self.generator)
        self._images += len(batch.images)
        self._set_learning_rates()

    @torch.no_grad()
    def _outcome(
        self, losses: tuple[Tensor, Tensor], norms: tuple[Tensor, Tensor], real_logits: Tensor, fake_logits: Tensor
    ) -> Outcome:
        """What an update of a game with logits tells. Losses and gradients' norms are the discriminator's and the
        generator's; `d_real` and `d_fake` are the probabilities that either kind of image is taken for real."""
        return Outcome(
            {
                "d_loss": losses[0].detach(),
                "g_loss": losses[1].detach(),
                "d_real": real_logits.float().sigmoid().mean(),
                "d_fake": fake_logits.float().sigmoid().mean(),
                "d_gradient_norm": norms[0],
                "g_gradient_norm": norms[1],
            }
        )

    def _set_learning_rates(self) -> None:
        config = self.config
        if config.final_learning_rate == 1.0:
            return
        assert config.learning_rate_images is not None, "resolve() comes first"
        factor = linear_schedule(1.0, config.final_learning_rate, config.learning_rate_images, self._images)
        for optimizer, rate in (
            (self.generator_optimizer, config.generator_learning_rate),
            (self.discriminator_optimizer, config.discriminator_learning_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    # What others ask of it

    def latent(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """What `decode` takes: float32 [count, D] from N(0, 1), on the CPU; `generator` is a CPU one."""
        return torch.randn(count, self.config.latent_dimensions, generator=generator)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """What `latent` draws, where no labels are given."""
        return self.latent(count, generator)

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.latent(count, generator, labels))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images float32 [B, C, H, W] in [0, 1], on the device of the codes [B, D]: what `latent` draws, or between.

        Drawn with running statistics, so that no image depends on those drawn beside it, and in float32.
        """
        network = self.average.network
        images = [self._draw(network, part.to(self.device)) for part in codes.split(CHUNK)]
        drawn = torch.cat(images) if images else torch.zeros(0, *self.spec.shape)
        drawn = (drawn + 1) / 2 if self.signed else drawn
        return drawn.float().to(codes.device, memory_format=torch.contiguous_format)

    def _draw(self, network: nn.Module, codes: Tensor) -> Tensor:
        """The images of codes as a generator draws them."""
        return network(codes)

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """FID of 2,000 samples against up to 2,000 of `images`, where there is a judge; its negative is the score.

        Without one the score is the negative of their sliced Wasserstein distance in pixels.
        """
        samples = self.sample(SCORED, generator)
        chosen = torch.linspace(0, len(images) - 1, min(SCORED, len(images))).long()
        if judge is None:
            distance = sliced_wasserstein(images.scaled(chosen), samples, generator)
            return {"score": -distance, "sliced_wasserstein": distance}
        from generative.metrics import fid

        if self._judged[0] is not images:
            self._judged = images, judge.features(images.pixels(chosen).float() / 255)
        distance = float(fid(self._judged[1], judge.features(samples)))
        return {"score": -distance, "fid": distance}

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict()["state"],
            "discriminator_optimizer": self.discriminator_optimizer.state_dict()["state"],
            "average": self.average.state_dict(),
            "history": self.history.state_dict() if self.history else None,
            "random": self._random.get_state(),
            "images": self._images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        load_optimizer_state(self.generator_optimizer, state["generator_optimizer"])
        load_optimizer_state(self.discriminator_optimizer, state["discriminator_optimizer"])
        self.average.load_state_dict(state["average"])
        if self.history:
            self.history.load_state_dict(state["history"])
        load_generator_state(self._random, state["random"])
        self._images = state["images"]
        self._set_learning_rates()


def sliced_wasserstein(real: Tensor, fake: Tensor, generator: torch.Generator, directions: int = 64) -> float:
    """Mean over random directions of the distance between the images' projections: [N, ...] and [N', ...].

    Rabin et al. (2011), with the first power: cheap, blind to what a picture means, and there without labels.
    """
    real, fake = real.flatten(1), fake.flatten(1)
    axes = torch.randn(real.shape[1], directions, generator=generator)
    axes = axes / axes.norm(dim=0)
    levels = torch.linspace(0, 1, max(len(real), len(fake)))
    a, b = (torch.quantile(images @ axes, levels, dim=0) for images in (real, fake))  # [levels, directions]
    return float((a - b).abs().mean())
