"""aprendiz: the common ground of agents, generative models and language models.

Importing this package imports no torch; name the module that you need: `from aprendiz.backbones import NatureCNN`.
"""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__version__ = "0.1.0"
__all__ = ["BACKBONES", "DATASETS", "__version__"]

BACKBONES = Registry(
    "backbones",
    {
        "nature-cnn": Entry(
            "aprendiz.backbones:NatureCNN",
            "three convolutions and a dense layer for stacks of 84x84 frames",
            "Mnih et al. 2015, Nature 518:529",
        ),
        "mlp": Entry("aprendiz.backbones:MLP", "dense layers for vectors and flattened images"),
        "conv-encoder": Entry(
            "aprendiz.backbones:ConvEncoder",
            "strided convolutions for images of any size from 4x4",
            "Springenberg et al. 2015, ICLR workshop",
        ),
        "conv-decoder": Entry(
            "aprendiz.backbones:ConvDecoder",
            "the way back: images from codes, by transposed convolutions",
            "Radford, Metz and Chintala 2016, ICLR",
        ),
    },
)
"""Networks that any family can build on, by name; `--backbone` takes these and `package.module:Class`."""

DATASETS = Registry(
    "datasets",
    {
        "digits": Entry(
            "aprendiz.data.digits:digits",
            "1,797 handwritten digits of 8x8 pixels; needs no download",
            "Alpaydin and Kaynak 1998, UCI repository",
        ),
        "mnist": Entry(
            "aprendiz.data.mnist:mnist",
            "70,000 handwritten digits of 28x28 pixels",
            "LeCun et al. 1998, Proc. IEEE 86:2278",
        ),
        "fashion-mnist": Entry(
            "aprendiz.data.mnist:fashion_mnist",
            "70,000 articles of clothing of 28x28 pixels",
            "Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747",
        ),
        "folder": Entry(
            "aprendiz.data.folder:folder",
            "your own PNG and JPEG pictures: folder:PATH, subfolders are labels",
        ),
    },
)
"""Data sets of images, by name: a name stands for a callable `factory(**options) -> aprendiz.data.Dataset`."""
