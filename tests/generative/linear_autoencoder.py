"""A model of a third party: small enough to be trained hundreds of times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aprendiz import BACKBONES
from aprendiz.data.core import ImageBatch, Images, ImageSpec
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome
from aprendiz.optim import adam, load_optimizer_state
from generative.core import GenerativeModel, Purpose, derived_seed, torch_generator


@dataclass(frozen=True, kw_only=True)
class LinearAutoencoderConfig:
    """Every field becomes an option of the command line, and its docstring the help."""

    backbone: str = "mlp"
    """Network that encodes, by its registered name."""
    code_units: int = 8
    """Numbers in a code."""
    noise: float = 0.1
    """Standard deviation of what is added to codes while learning."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    batch_size: int = 50
    """Images an update."""

    def __post_init__(self) -> None:
        if self.code_units < 1:
            raise ConfigError(f"code_units must be at least 1, got {self.code_units}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}")


class LinearAutoencoder(GenerativeModel):
    """A backbone and a linear layer to few numbers, and a linear layer back to pixels."""

    Config = LinearAutoencoderConfig
    abilities = frozenset({"encode", "decode", "latents", "reconstruct", "filters"})

    def __init__(
        self,
        config: LinearAutoencoderConfig,
        spec: ImageSpec,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, Purpose.NETWORK))
            backbone = BACKBONES.get(config.backbone)(spec.space)
            self.encoder = nn.Sequential(backbone, nn.Linear(backbone.features, config.code_units)).to(self.device)
            self.decoder = nn.Linear(config.code_units, spec.pixels).to(self.device)
        self.optimizer = adam(self._parameters(), config.learning_rate, 1e-8, self.device)
        self.generator = torch_generator(seed, Purpose.LEARNING)

    @classmethod
    def presets(cls, spec: ImageSpec) -> dict[str, LinearAutoencoderConfig]:
        return {"default": LinearAutoencoderConfig(), "wide": LinearAutoencoderConfig(code_units=16)}

    @classmethod
    def default_epochs(cls, config: LinearAutoencoderConfig, spec: ImageSpec) -> int:
        return 3

    def update(self, batch: ImageBatch) -> Outcome:
        codes = self.encoder(batch.images)  # [B, D]
        noise = self.config.noise * torch.randn(codes.shape, generator=self.generator).to(self.device)
        loss = (self._pixels(codes + noise) - batch.images).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Outcome({"loss": loss.detach()})

    @torch.no_grad()
    def validate(self, images: Images, generator: torch.Generator, judge: Any = None) -> dict[str, float]:
        originals = images.scaled(slice(0, 2_000)).to(self.device)
        error = float((self.reconstruct(originals) - originals).square().mean())
        return {"score": -error, "reconstruction_error": error}

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.latents(count, generator).to(self.device)).cpu()

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.config.code_units, generator=generator)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        images = self._pixels(codes)
        return images.clamp(0.0, 1.0) if self.spec.unit_interval else images

    def _pixels(self, codes: Tensor) -> Tensor:
        return self.decoder(codes).unflatten(1, self.spec.shape)  # [B, C, H, W]

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encoder(images))

    @torch.no_grad()
    def filters(self) -> Tensor:
        """What each code unit adds to a picture: [units, C, H, W]."""
        weight = self.decoder.weight.T  # [D, pixels]
        return (weight / weight.norm(dim=1, keepdim=True)).unflatten(1, self.spec.shape).cpu()

    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def state_dict(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.state_dict(),
            "decoder": self.decoder.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.encoder.load_state_dict(state["encoder"])
        self.decoder.load_state_dict(state["decoder"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.decoder.parameters()]
