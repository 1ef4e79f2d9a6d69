"""aprendiz: the common ground of agents, generative models and language models.

Importing this package imports no torch; name the module that you need: `from aprendiz.backbones import NatureCNN`.
"""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__version__ = "0.1.0"
__all__ = ["BACKBONES", "__version__"]

BACKBONES = Registry(
    "backbones",
    {
        "nature-cnn": Entry(
            "aprendiz.backbones:NatureCNN",
            "three convolutions and a dense layer for stacks of 84x84 frames",
            "Mnih et al. 2015, Nature 518:529",
        ),
        "mlp": Entry("aprendiz.backbones:MLP", "dense layers for vectors and flattened images"),
    },
)
"""Networks that any family can build on, by name; `--backbone` takes these and `package.module:Class`."""
