"""Networks of autoencoders: any registered backbone as the encoder, and a decoder that leads back to the image."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Space
from torch import Tensor, nn

from aprendiz import BACKBONES
from aprendiz.backbones import MLP
from aprendiz.errors import ConfigError

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


def build_backbone(name: str, space: Space, **options: Any) -> nn.Module:
    """The registered network for `space`, with those of the options that it has (another's network has its own).

    Raises ConfigError where it has no `features`, and what the registry and the network raise.
    """
    backbone = BACKBONES.get(name)
    known = inspect.signature(backbone).parameters
    network = backbone(space, **{key: value for key, value in options.items() if key in known})
    if not isinstance(getattr(network, "features", None), int):
        raise ConfigError(f"backbone {name} has no `features`, the width of what it returns")
    return network


def takes(network: nn.Module, option: str) -> bool:
    """Whether a network can be built with an option of that name."""
    return option in inspect.signature(type(network)).parameters


class Decoder(nn.Module):
    """Codes [B, D] to what stands before the output's nonlinearity, [B, C, H, W], through any registered backbone.

    A backbone that takes an `image_shape` draws the image itself; on top of any other comes a dense layer.
    """

    def __init__(self, name: str, code_size: int, image_shape: tuple[int, int, int], **options: Any) -> None:
        super().__init__()
        self.image_shape = image_shape
        space = Box(-np.inf, np.inf, (code_size,), np.float32)
        self.backbone = build_backbone(name, space, image_shape=image_shape, **options)
        self.output: nn.Linear | None = None
        if not takes(self.backbone, "image_shape"):
            self.output = nn.Linear(int(self.backbone.features), math.prod(image_shape))  # type: ignore[arg-type]

    def forward(self, codes: Tensor) -> Tensor:
        drawn = self.backbone(codes)
        return drawn if self.output is None else self.output(drawn).unflatten(1, self.image_shape)  # [B, C, H, W]


class TiedDecoder(nn.Module):
    """The layers of an MLP in reverse, with its own weights transposed, W' = W^T (Vincent et al. 2010, section 2.2)."""

    def __init__(self, encoder: MLP, code: nn.Linear | None, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        dense = [layer for layer in encoder.layers if isinstance(layer, nn.Linear)] + ([code] if code else [])
        # Not in a ModuleList: these layers are the encoder's, and only the biases are new.
        self._dense = tuple(reversed(dense))
        self._activation = encoder.layers[1] if len(encoder.layers) else nn.Identity()
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(layer.in_features)) for layer in self._dense])

    def forward(self, codes: Tensor) -> Tensor:
        for number, (layer, bias) in enumerate(zip(self._dense, self.biases, strict=True)):
            codes = F.linear(codes if number == 0 else self._activation(codes), layer.weight.T, bias)
        return codes.unflatten(1, self.image_shape)  # [B, C, H, W]


class Codec(nn.Module):
    """An encoder of images and a decoder of codes.

    `hidden`, `channels` and `activation` go to the backbones that have such options. With a `code_size` a linear layer
    follows the encoder; without one its last layer is the code, and the decoder repeats the others in reverse.
    Raises ConfigError where `tied_weights` are asked for of an encoder that is not made of dense layers.
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        encoder: str = "mlp",
        decoder: str = "mlp",
        hidden: tuple[int, ...] = (),
        activation: str = "relu",
        code_size: int | None = None,
        tied_weights: bool = False,
        channels: tuple[int, ...] = (32, 64),
    ) -> None:
        super().__init__()
        self.encoder = build_backbone(encoder, spec.space, hidden=hidden, activation=activation, channels=channels)
        features = int(self.encoder.features)  # type: ignore[arg-type]
        self.code = None if code_size is None else nn.Linear(features, code_size)
        self.code_size = features if code_size is None else code_size
        self.squash = activation if self.code is None and takes(self.encoder, "activation") else "identity"
        """Name of the nonlinearity that codes come out of, as far as it is known."""
        if tied_weights:
            if not isinstance(self.encoder, MLP):
                raise ConfigError(
                    f"tied_weights needs backbone mlp, not {encoder} (only dense layers are transposed): add "
                    "--no-tied-weights"
                )
            self.decoder: nn.Module = TiedDecoder(self.encoder, self.code, spec.shape)
        else:
            reverse = tuple(reversed(hidden if self.code is not None else hidden[:-1]))
            self.decoder = Decoder(
                decoder, self.code_size, spec.shape, hidden=reverse, activation=activation, channels=channels
            )

    def encode(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D]"""
        features = self.encoder(images)
        return features if self.code is None else self.code(features)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, D] -> what stands before the output's nonlinearity, [B, C, H, W]"""
        return self.decoder(codes)

    def weights(self) -> list[nn.Parameter]:
        """All weights, without biases."""
        return [parameter for parameter in self.parameters() if parameter.ndim > 1]
