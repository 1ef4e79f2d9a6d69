"""Variational autoencoder, and the same with a weighted divergence (beta-VAE).

Papers: Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014 (equation 10, appendices B and C); Higgins et
al., "beta-VAE: learning basic visual concepts with a constrained variational framework", ICLR 2017 (equation 4).

    q(z|x) = N(mean(x), diag variance(x)),  p(z) = N(0, I),  z = mean + deviation * noise
    ELBO   = log p(x|z) - KL(q(z|x) || p(z))                     sums over pixels and latent units, in nats
    loss   = - mean over images of [ log p(x|z) - beta * KL ]    beta is 1 in a VAE, and may rise from 0 at first
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from aprendiz.backbones import activation_module
from aprendiz.device import autocast, load_generator_state
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import adam, cosine_schedule, linear_schedule, load_optimizer_state
from aprendiz.seeds import global_seed
from generative.codec import CHUNK, VALIDATION_IMAGES, check_not_negative, check_positive, chunks, require_unit_interval
from generative.coding_networks import Decoder, build_backbone
from generative.core import GenerativeModel, Purpose, derived_seed, evaluating, torch_generator
from generative.elbo import (
    Likelihood,
    bernoulli_log_mass,
    binarised,
    gaussian_kl,
    gaussian_log_density,
    importance_weighted,
    reparameterised,
)
from generative.exciting_inputs import filters_of

if TYPE_CHECKING:
    from aprendiz.data.core import Dataset, ImageBatch, Images, ImageSpec
    from generative.metrics import Judge


LEAST_LOG_DEVIATION = -6.0
"""The learned deviation of p(x|z) never falls below exp of this, some two thousandths: of images that come back exactly
it would fall for ever. The bound is that of the code of Rybkin et al. (2021)."""


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Hyperparameters of the variational autoencoder."""

    backbone: str = "mlp"
    """Network that reads the image, by its registered name."""
    decoder: str = "mlp"
    """Network that reads latent vectors; a dense layer follows unless it draws images itself (conv-decoder)."""
    hidden: tuple[int, ...] = (500, 500, 500)
    """Units of the encoder's dense layers; the decoder has them in reverse. One layer of 500 in Kingma and Welling
    (2014), two of 200 in Burda et al. (2016)."""
    residual: bool = True
    """Whether a dense layer as wide as the one before adds to it (He et al. 2016), where a backbone has that option;
    the papers' layers do not, and learn more slowly."""
    channels: tuple[int, ...] = (32, 64)
    """Feature maps of conv-encoder and conv-decoder, where those are chosen."""
    activation: str = "silu"
    """Nonlinearity after each layer (tanh in the papers; silu did better on validation images)."""
    latent_dimensions: int = 40
    """Units of z (50 in Burda et al. 2016)."""
    likelihood: Likelihood = "dynamic"
    """What p(x|z) is a distribution of. dynamic: bits drawn from the pixels' grey afresh each time (Burda et al. 2016).
    static: bits drawn once for each image. thresholded: pixels above a half. grey: grey pixels in the Bernoulli
    formula: no likelihood, so that no bound is reported. gaussian: the scaled pixels as real numbers."""
    gaussian_deviation: float | None = None
    """Standard deviation of p(x|z) for `gaussian`, in units of the scaled pixels. None: one number, learned with the
    rest (Rybkin et al. 2021, ICML, section 3.2)."""
    beta: float = 1.0
    """Factor of the divergence in the loss; 1 is the ELBO."""
    warmup_images: int = 0
    """Training images over which that factor rises from 0 (Sønderby et al. 2016, NIPS, section 2.3)."""
    learning_rate: float = 3e-3
    """Step size of Adam at first (0.001 in Burda et al. 2016, section 5; three times that, with the larger batch, did
    better on validation images in short runs)."""
    learning_rate_decay_images: int | None = None
    """Training images over which the step size falls along half a cosine (Loshchilov and Hutter 2017, equation 5), to
    a hundredth. None: the whole budget."""
    batch_size: int = 256
    """Images an update (100 in Kingma and Welling 2014; ours: half the time an image)."""
    importance_samples: int = 64
    """Draws of z an image for the importance-weighted bound that is reported (Burda et al. 2016 take 5,000)."""

    def __post_init__(self) -> None:
        for name in ("latent_dimensions", "learning_rate_decay_images", "batch_size", "importance_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.warmup_images < 0:
            raise ConfigError(f"warmup_images must be 0 or more, got {self.warmup_images}")
        if any(size < 1 for size in (*self.hidden, *self.channels)):
            raise ConfigError(f"hidden layers and channels must be at least 1, got {self.hidden} and {self.channels}")
        if self.likelihood not in get_args(Likelihood):
            raise ConfigError(f"likelihood must be one of {', '.join(get_args(Likelihood))}, got {self.likelihood!r}")
        if self.gaussian_deviation is not None:
            check_positive(self, "gaussian_deviation")
        activation_module(self.activation)
        check_positive(self, "learning_rate")
        check_not_negative(self, "beta")


@dataclass(frozen=True, kw_only=True)
class BetaVAEConfig(VAEConfig):
    """Hyperparameters of beta-VAE."""

    beta: float = 4.0
    """Factor of the divergence in the loss (4 for chairs in Higgins et al. 2017, appendix A.1)."""


class VAENetwork(nn.Module):
    """q(z|x) on any backbone, and p(x|z)."""

    def __init__(self, config: VAEConfig, spec: ImageSpec) -> None:
        super().__init__()
        size = config.latent_dimensions
        options: dict[str, Any] = {
            "activation": config.activation,
            "channels": config.channels,
            "residual": config.residual,
        }
        self.encoder = build_backbone(config.backbone, spec.space, hidden=config.hidden, **options)
        self.posterior = nn.Linear(int(self.encoder.features), 2 * size)  # type: ignore[arg-type]
        self.decoder = Decoder(config.decoder, size, spec.shape, hidden=tuple(reversed(config.hidden)), **options)
        self.log_deviation = nn.Parameter(torch.zeros(()))
        """Of p(x|z), where it is Gaussian and learned."""
        if config.likelihood != "gaussian" or config.gaussian_deviation is not None:
            self.log_deviation.requires_grad_(False)
        if config.gaussian_deviation is not None:
            self.log_deviation.fill_(config.gaussian_deviation).log_()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), both [B, D]."""
        mean, log_variance = self.posterior(self.encoder(images)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-14.0, 14.0)  # deviations from a thousandth to a thousand

    def decode(self, latents: Tensor) -> Tensor:
        """[B, D] -> what stands before the output's nonlinearity, [B, C, H, W]"""
        return self.decoder(latents).float()


class VAE(GenerativeModel):
    """The variational autoencoder. Raises ConfigError for Bernoulli likelihoods of pixels outside [0, 1]."""

    Config: ClassVar[type] = VAEConfig
    abilities = frozenset({"encode", "reconstruct", "decode", "latents", "filters", "log_likelihood"})
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    config: VAEConfig

    def __init__(
        self,
        config: VAEConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if precision not in self.precisions:
            raise ConfigError(f"precision must be one of {', '.join(self.precisions)}, got {precision}")
        if config.likelihood != "gaussian":
            require_unit_interval(spec, f"the likelihood {config.likelihood}", "--likelihood gaussian")
        self.config, self.spec, self.precision = config, spec, precision
        self.device = torch.device(device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.network = VAENetwork(config, spec).to(self.device)
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = adam(learned, config.learning_rate, 1e-8, self.device)
        self.generator = torch_generator(seed, Purpose.LEARNING, self.device)
        self._images = 0

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, VAEConfig]:
        # Colours are not probabilities of bits, and pixels outside [0, 1] cannot be.
        likelihood: Likelihood = "dynamic" if spec.unit_interval and spec.channels == 1 else "gaussian"
        small = spec.pixels <= 256
        default = cls.Config(
            likelihood=likelihood,
            hidden=(256, 256) if small else (500, 500, 500),
            latent_dimensions=min(16, spec.pixels // 2) if small else 40,
        )
        conv = {"backbone": "conv-encoder", "decoder": "conv-decoder"}
        return {
            "default": default,
            "conv": dataclasses.replace(default, **conv),
            # Appendix C and section 5, with Adam in place of Adagrad.
            "paper": dataclasses.replace(
                default,
                hidden=(500,),
                residual=False,
                activation="tanh",
                latent_dimensions=min(20, spec.pixels // 2),
                batch_size=100,
                learning_rate=1e-3,
            ),
        }

    @classmethod
    def default_epochs(cls, config: VAEConfig, spec: ImageSpec) -> int:
        # Small images with labels are few as a rule (1,437 digits); patches, which have none, are many (200,000).
        if spec.pixels <= 256:
            return 300 if spec.classes else 5
        return 50

    @classmethod
    def resolve(cls, config: VAEConfig, spec: ImageSpec, *, train_images: int, budget_images: int) -> VAEConfig:
        if config.learning_rate_decay_images is not None:
            return config
        return dataclasses.replace(config, learning_rate_decay_images=max(1, budget_images))

    def update(self, batch: ImageBatch) -> Outcome:
        config = self.config
        targets = binarised(batch.images, config.likelihood, self.generator)
        with autocast(self.device, self.precision):
            mean, log_variance = self.network.encode(targets)
            latents = reparameterised(mean, log_variance, self.generator)  # [B, D]
            logits = self.network.decode(latents)
        divergence = gaussian_kl(mean, log_variance).mean()
        reconstruction = self._log_likelihood_given(targets, logits).mean()
        beta = config.beta * linear_schedule(0.0, 1.0, config.warmup_images, self._images)
        loss = beta * divergence - reconstruction
        if (duration := config.learning_rate_decay_images) is not None:
            start = config.learning_rate
            self.optimizer.param_groups[0]["lr"] = cosine_schedule(start, start / 100, duration, self._images)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.network.log_deviation.requires_grad:
            self.network.log_deviation.detach().clamp_(min=LEAST_LOG_DEVIATION)
        self._images += len(targets)
        return Outcome({"loss": loss.detach(), **self._named(reconstruction.detach(), divergence.detach())})

    def _log_likelihood_given(self, targets: Tensor, logits: Tensor) -> Tensor:
        """log p(x|z), [B]."""
        if self.config.likelihood == "gaussian":
            return gaussian_log_density(targets, self._output(logits), 2.0 * self.network.log_deviation)
        return bernoulli_log_mass(targets, logits)

    def _named(self, reconstruction: Tensor, divergence: Tensor) -> dict[str, Tensor]:
        """The bound and its parts under names that say what they are.

        `elbo` is a bound on a log likelihood of bits, in nats; `density_elbo` one on a log density of real numbers,
        which depends on their scale; `grey_objective` is neither.
        """
        bound = reconstruction - divergence
        if self.config.likelihood == "grey":
            return {"grey_objective": bound, "grey_cross_entropy": -reconstruction, "kl": divergence}
        name = "density_elbo" if self.config.likelihood == "gaussian" else "elbo"
        return {name: bound, "reconstruction_log_likelihood": reconstruction, "kl": divergence}

    def _output(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits) if self.spec.unit_interval else logits

    @torch.no_grad()
    def _measured(self, images: Images, generator: torch.Generator, limit: int, draws: int) -> dict[str, float]:
        totals: dict[str, float] = {}
        count = 0
        with evaluating(self.network):
            for chunk in chunks(images, limit, self.device):
                count += len(chunk)
                for name, value in self._measures(chunk, generator, draws).items():
                    totals[name] = totals.get(name, 0.0) + float(value.sum())
        return {name: total / count for name, total in totals.items()}

    def _measures(self, images: Tensor, generator: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Metrics of each image [B, C, H, W], all [B], "score" among them; the tighter bound where there are draws."""
        targets = binarised(images, self.config.likelihood, generator)
        mean, log_variance = self.network.encode(targets)
        logits = self.network.decode(reparameterised(mean, log_variance, generator))
        reconstruction, divergence = self._log_likelihood_given(targets, logits), gaussian_kl(mean, log_variance)
        measures = self._named(reconstruction, divergence)
        error = (self.reconstruct(images) - images).square().flatten(1).mean(dim=1)
        measures |= {"score": reconstruction - self.config.beta * divergence, "mean_squared_error": error}
        if draws and self.config.likelihood != "grey":
            name = "density_iwae" if self.config.likelihood == "gaussian" else "iwae"
            measures[f"{name}_{draws}"] = self._importance_weighted(targets, generator, draws)
        return measures

    def _importance_weighted(self, targets: Tensor, generator: torch.Generator, draws: int) -> Tensor:
        """The bound of Burda et al. (2016), [B]."""
        mean, log_variance = self.network.encode(targets)
        weights = []
        for _ in range(draws):
            latents = reparameterised(mean, log_variance, generator)
            likelihood = self._log_likelihood_given(targets, self.network.decode(latents))
            prior = gaussian_log_density(latents, torch.zeros_like(latents), torch.zeros_like(latents))
            weights.append(likelihood + prior - gaussian_log_density(latents, mean, log_variance))
        return importance_weighted(torch.stack(weights))  # of [k, B]

    def validate(self, images: Images, generator: torch.Generator, judge: Judge | None = None) -> dict[str, float]:
        """The ELBO (one draw of z an image) and its parts; `score` is the objective that is learned.

        `mean_squared_error` is between pixels and what the mean of q(z|x) is decoded to, as in other autoencoders.
        """
        return self._measured(images, generator, VALIDATION_IMAGES, 0)

    def evaluate(
        self, data: Dataset, images: Images, generator: torch.Generator, judge: Judge | None = None
    ) -> dict[str, float]:
        """The same of all images, with the importance-weighted bound of `importance_samples` draws beside the ELBO."""
        return self._measured(images, generator, len(images), self.config.importance_samples)

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The importance-weighted lower bound on log p(x), [B]; of a log density where the likelihood is Gaussian.

        Raises ConfigError where it is `grey`, which has none.
        """
        if self.config.likelihood == "grey":
            raise ConfigError(
                "grey pixels in the Bernoulli formula have no likelihood: train with --likelihood dynamic, static, "
                "thresholded or gaussian"
            )
        targets = binarised(images.to(self.device), self.config.likelihood, generator)
        with evaluating(self.network):
            return self._importance_weighted(targets, generator, self.config.importance_samples)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.config.latent_dimensions, generator=generator)

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """What vectors drawn from the prior are decoded to: the mean of p(x|z), not bits or noisy pixels."""
        latents = self.latents(count, generator)
        return torch.cat([self.decode(chunk).cpu() for chunk in latents.split(CHUNK)])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Means of q(z|x), [B, D]. The images are read as they are; bits are drawn of them while learning only."""
        with evaluating(self.network):
            return self.network.encode(self._read(images))[0]

    def _read(self, images: Tensor) -> Tensor:
        images = images.to(self.device)
        return (images > 0.5).to(images.dtype) if self.config.likelihood == "thresholded" else images

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with evaluating(self.network):
            return self._output(self.network.decode(codes.to(self.device)))

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def filters(self) -> Tensor:
        """Of the encoder's first layer where it is dense (w / ||w||), otherwise of the means of q(z|x) (by ascent)."""
        units = self.config.latent_dimensions
        with evaluating(self.network):
            return filters_of(self.network.encoder, lambda images: self.network.encode(images)[0], units, self.spec)

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "generator": self.generator.get_state(),
            "images": self._images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        load_generator_state(self.generator, state["generator"])
        self._images = state["images"]


class BetaVAE(VAE):
    """beta-VAE: the same bound is reported, another objective is learned."""

    Config: ClassVar[type] = BetaVAEConfig
    config: BetaVAEConfig

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, VAEConfig]:
        """Those of the VAE, but for `paper`: that network is Kingma and Welling's, not the one of Higgins et al."""
        return {name: config for name, config in super().presets(spec).items() if name != "paper"}
