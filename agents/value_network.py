"""The network of the whole DQN line: a backbone, and a head that may be dueling, noisy and implicit-quantile.

    plain        backbone -> linear                                  Mnih et al. 2015
    otherwise    trunk [-> times an embedding of the quantile] -> one stream, or two that are combined

where the trunk is the backbone without its last dense layer, and a stream has that layer of its own: dense, rectifier,
linear, as in figure 1 of Wang et al. (2016). Noisy layers stand where dense ones stood (Fortunato et al. 2018).
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space
from torch import Tensor, nn

from aprendiz import BACKBONES
from aprendiz.backbones import NatureCNN
from aprendiz.errors import ConfigError
from envs.core import EnvSpec

WITHOUT = {
    "width": "--backbone-width 1",
    "layer_norm": "--layer-norm none",
    "spectral_norm": "--no-spectral-norm",
    "max_pool": "--max-pool 0",
}
"""How to ask for a backbone without an option: presets ask for some, too."""

WIDEST = 512
"""Units of a stream's dense layer, at most, above a backbone that does not say how many (Mnih et al. 2015)."""


def dueling_values(value: Tensor, advantage: Tensor) -> Tensor:
    """Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a'): value [B, 1, Z], advantage [B, A, Z] to [B, A, Z].

    Wang et al. (2016), equation 9; Z outputs (atoms, quantiles) are combined one by one (Hessel et al. 2018).
    """
    return value + advantage - advantage.mean(dim=1, keepdim=True)


def in_float32(layer: nn.Module, x: Tensor, *noise: Tensor) -> Tensor:
    """A layer's answer in float32, whatever the layers before it computed in: of those whose answers are values.

    In bfloat16 numbers between 4 and 8 lie 1/32 apart, which is more than what the best action often is worth over the
    next one: they would tie, and an advantage would be lost in the sum with the state's value.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float(), *noise)


def scaled_noise(gaussian: Tensor) -> Tensor:
    """f(x) = sign(x) sqrt(|x|): Fortunato et al. (2018), after equation 11."""
    return gaussian.sign() * gaussian.abs().sqrt()


class NoisyLinear(nn.Module):
    """A dense layer with factorised Gaussian noise: Fortunato et al. (2018), equations 9 to 11.

        y = (mu_w + sigma_w * (f(e_out) f(e_in)')) x + mu_b + sigma_b * f(e_out)

    Where every row of a batch has noise of its own, it is mu_w x + mu_b + f(e_out) * (sigma_w (f(e_in) * x) + sigma_b):
    two products, but no weights for each row. Initialised as section 3.2 says: mu uniform within 1/sqrt(in), sigma =
    `sigma` / sqrt(in).
    """

    def __init__(self, features_in: int, features_out: int, sigma: float) -> None:
        super().__init__()
        self.features_in, self.features_out = features_in, features_out
        bound = 1.0 / math.sqrt(features_in)
        self.weight = nn.Parameter(torch.empty(features_out, features_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features_out).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((features_out, features_in), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((features_out,), sigma * bound))

    @property
    def noise_size(self) -> int:
        return self.features_in + self.features_out

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """[B, in] -> [B, out]. noise: f(e) [in + out] for the whole batch, [B, in + out], or None for the means."""
        if noise is None:
            return F.linear(x, self.weight, self.bias)
        for_all = noise.ndim == 1
        noise = noise.to(self.weight.dtype if for_all else x.dtype)
        noise_in, noise_out = noise.split((self.features_in, self.features_out), dim=-1)
        if for_all:
            weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(noise_out, noise_in))
            return F.linear(x, weight, torch.addcmul(self.bias, self.bias_sigma, noise_out))
        mean = F.linear(x, self.weight, self.bias)
        return mean + noise_out * F.linear(x * noise_in, self.weight_sigma, self.bias_sigma)


class QuantileEmbedding(nn.Module):
    """phi(tau) = relu(W [cos(pi i tau)] + b), i = 0..n-1: Dabney et al. (2018b), equation 4."""

    def __init__(self, cosines: int, features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(cosines, features)

    def forward(self, taus: Tensor) -> Tensor:
        """[B, T] -> [B, T, features]"""
        # In float32 whatever the weights are: in bfloat16 the high frequencies would be other ones.
        frequencies = math.pi * torch.arange(self.dense.in_features, dtype=torch.float32, device=taus.device)
        return F.relu(self.dense(torch.cos(taus[..., None] * frequencies).to(self.dense.weight.dtype)))


class Stream(nn.Module):
    """Dense, (layer norm,) rectifier, linear in float32; both layers noisy or neither."""

    def __init__(self, features: int, hidden: int, outputs: int, *, sigma: float | None, layer_norm: bool) -> None:
        super().__init__()
        self.noisy = sigma is not None
        if sigma is not None:
            self.hidden: nn.Module = NoisyLinear(features, hidden, sigma)
            self.out: nn.Module = NoisyLinear(hidden, outputs, sigma)
        else:
            self.hidden, self.out = nn.Linear(features, hidden), nn.Linear(hidden, outputs)
        self.norm = nn.LayerNorm(hidden) if layer_norm else None
        self.noise_sizes = (features + hidden, hidden + outputs) if self.noisy else (0, 0)

    def forward(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[B, features] -> float32 [B, outputs]; noise [..., sum of noise_sizes]"""
        if noise is not None:
            first, second = noise.split(self.noise_sizes, dim=-1)
            hidden = self.hidden(features, first)
        else:
            first = second = None
            hidden = self.hidden(features)
        hidden = F.relu(hidden if self.norm is None else self.norm(hidden))
        return in_float32(self.out, hidden, *(() if second is None else (second,)))


class QNetwork(nn.Module):
    """Observations [B, ...] to values of the actions float32 [B, A], or Z numbers for each action [B, A, Z].

    Args:
        backbone: registered name, or `package.module:Class`.
        outputs: Z; 1 gives [B, A].
        dueling: two streams, for the state's value and the actions' advantages.
        noisy_sigma: initial sigma of noisy layers (None: ordinary ones).
        cosines: numbers that a quantile is described by, for implicit quantiles; 0: none. Z is then how many quantiles
            `forward` is asked for.
        trunk_gradient_scale: factor of the gradient that streams send back into the backbone.
        options: keyword arguments for the backbone. Raises ConfigError where it has no such option.
    """

    def __init__(
        self,
        backbone: str,
        observation_space: Space,
        actions: int,
        *,
        outputs: int = 1,
        dueling: bool = False,
        noisy_sigma: float | None = None,
        cosines: int = 0,
        trunk_gradient_scale: float = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.actions, self.outputs, self.dueling = actions, outputs, dueling
        self.streams = dueling or noisy_sigma is not None or cosines > 0
        self.trunk_gradient_scale = trunk_gradient_scale
        self.backbone = make_backbone(backbone, observation_space, options or {}, trunk=self.streams)
        features: int = self.backbone.features  # type: ignore[assignment]
        if not self.streams:
            self.head = nn.Linear(features, actions * outputs)
            return
        hidden = int(getattr(self.backbone, "last_width", min(features, WIDEST)))
        layer_norm = (options or {}).get("layer_norm", "none") != "none"

        def stream(size: int) -> Stream:
            return Stream(features, hidden, size, sigma=noisy_sigma, layer_norm=layer_norm)

        self.embedding = QuantileEmbedding(cosines, features) if cosines else None
        self.advantage = stream(actions * outputs)
        self.value = stream(outputs) if dueling else None

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that one sample of the noise takes; 0 without noisy layers."""
        return sum(layer.noise_size for layer in self.modules() if isinstance(layer, NoisyLinear))

    def narrow(self) -> QNetwork:
        """Itself with its weights in bfloat16, but for the layers whose answers are values, which keep every bit."""
        layers = self.value_layers()
        exact = [copy.deepcopy(layer.state_dict()) for layer in layers]
        self.to(torch.bfloat16)
        for layer, weights in zip(layers, exact, strict=True):
            layer.float().load_state_dict(weights)
        return self

    def value_layers(self) -> list[nn.Module]:
        """The last layers, whose answers are values: they compute in float32."""
        if not self.streams:
            return [self.head]
        return [self.advantage.out] if self.value is None else [self.advantage.out, self.value.out]

    def forward(self, observation: Tensor, noise: Tensor | None = None, taus: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B, A] or [B, A, Z]; see `values`."""
        return self.values(self.backbone(observation), noise, taus)

    def values(self, features: Tensor, noise: Tensor | None = None, taus: Tensor | None = None) -> Tensor:
        """What the head makes of the backbone's features [B, D]: [B, A], or [B, A, Z].

        noise: standard normal [noise_size] for the whole batch or [B, noise_size]; None means without.
        taus: [B, Z], which quantiles, where they are implicit.
        """
        if not self.streams:
            out = in_float32(self.head, features)
            return out if self.outputs == 1 else out.unflatten(1, (self.actions, self.outputs))
        if self.trunk_gradient_scale != 1.0 and features.requires_grad:
            scale = self.trunk_gradient_scale
            features = scale * features + (1.0 - scale) * features.detach()
        batch, quantiles = len(features), 1
        if self.embedding is not None:
            assert taus is not None
            quantiles = taus.shape[1]
            features = (features[:, None] * self.embedding(taus)).flatten(0, 1)  # [B * T, D]
        if noise is not None:
            noise = scaled_noise(noise)
            if quantiles > 1 and noise.ndim == 2:
                noise = noise.repeat_interleave(quantiles, dim=0)  # [B * T, ...]
        of_advantage = None if noise is None else noise[..., : sum(self.advantage.noise_sizes)]
        out = self.advantage(features, of_advantage).unflatten(1, (self.actions, self.outputs))
        if self.value is not None:
            of_value = None if noise is None else noise[..., sum(self.advantage.noise_sizes) :]
            out = dueling_values(self.value(features, of_value)[:, None], out)  # [B * T, A, Z]
        if self.embedding is not None:
            return out.squeeze(2).unflatten(0, (batch, quantiles)).transpose(1, 2)  # [B, A, T]
        return out.squeeze(2) if self.outputs == 1 else out


def wants_dense_layers(spec: EnvSpec) -> bool:
    """Whether what is seen are images too small for nature-cnn, the network of presets for images."""
    shape = spec.observation_space.shape or ()
    return spec.observation_kind == "image" and min(shape[1:]) < NatureCNN.smallest


def make_backbone(name: str, observation_space: Space, options: Mapping[str, Any], *, trunk: bool) -> nn.Module:
    """A backbone by name. `trunk` asks for it without its last dense layer, where it knows how; options that it does
    not have raise ConfigError."""
    kind = BACKBONES.get(name)
    parameters = inspect.signature(kind).parameters
    if unknown := [option for option in options if option not in parameters]:
        without = " ".join(WITHOUT.get(option, "") for option in unknown).strip()
        raise ConfigError(f"backbone {name} has no {' and no '.join(unknown)}; use {without}, or another --backbone")
    if trunk and "trunk" in parameters:
        return kind(observation_space, trunk=True, **options)
    return kind(observation_space, **options)
