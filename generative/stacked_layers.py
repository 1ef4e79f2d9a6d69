"""Layers that are trained one by one: how they are made, what their codes are, and how far two codes are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor, nn

from aprendiz.backbones import MLP
from generative.coding_networks import build_backbone, takes
from generative.fine_tuning import initialize

if TYPE_CHECKING:
    from aprendiz.data.core import ImageSpec


def make_layers(
    backbone: str, spec: ImageSpec, hidden: tuple[int, ...], activation: str, generator: torch.Generator
) -> nn.ModuleList:
    """The backbone on the images and dense layers on top of it, each a backbone of its own with `features`.

    Dense layers are initialised for their activation; another backbone keeps what it starts with. Raises ConfigError
    where the backbone cannot read such images.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [build_backbone(backbone, spec.space, hidden=hidden[:1], activation=activation)]
        if type(layers[0]) is MLP:
            initialize(layers[0], activation, generator)
        for units in hidden[1:]:
            below = Box(-np.inf, np.inf, (int(layers[-1].features),), np.float32)  # type: ignore[arg-type]
            layers.append(MLP(below, hidden=(units,), activation=activation))
            initialize(layers[-1], activation, generator)
    return nn.ModuleList(layers)


def code_kind(encoder: nn.Module, activation: str) -> str:
    """The nonlinearity that codes have come out of, where the backbone could be told it; "linear" of all others."""
    return activation if takes(encoder, "activation") else "linear"


def squashed(kind: str, values: Tensor) -> Tensor:
    """A decoder's output through the nonlinearity of what it stands for."""
    if kind == "sigmoid":
        return torch.sigmoid(values)
    if kind == "tanh":
        return torch.tanh(values)
    return F.relu(values) if kind == "relu" else values


def distance(kind: str, raw: Tensor, clean: Tensor) -> Tensor:
    """Reconstruction loss, summed over units and averaged over images; raw output and target [B, D].

    Cross-entropy for numbers in [0, 1] (Vincent et al. 2010, equation 3), else half the squared error; for rectified
    codes of the raw output, whose gradient does not vanish below 0.
    """
    if kind == "sigmoid":
        return F.binary_cross_entropy_with_logits(raw, clean, reduction="sum") / len(clean)
    output = torch.tanh(raw) if kind == "tanh" else raw
    return 0.5 * (output - clean).square().sum() / len(clean)
