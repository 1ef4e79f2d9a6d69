"""aprendiz: the common ground of agents, generative models and language models.

Importing this package imports no torch; name the module that you need: `from aprendiz.backbones import NatureCNN`.
"""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__version__ = "0.1.0"
__all__ = ["BACKBONES", "DATASETS", "TEXTS", "__version__"]

BACKBONES = Registry(
    "backbones",
    {
        "nature-cnn": Entry(
            "aprendiz.backbones:NatureCNN",
            "three convolutions and a dense layer for stacks of 84x84 frames",
            "Mnih et al. 2015, Nature 518:529",
        ),
        "nips-cnn": Entry(
            "aprendiz.backbones:NipsCNN",
            "the smaller network before it, and A3C's: a third of the arithmetic",
            "Mnih et al. 2013, arXiv:1312.5602",
        ),
        "impala-cnn": Entry(
            "aprendiz.impala:ImpalaCNN",
            "residual network for images, any width: x1 is IMPALA's, x2 Beyond the Rainbow's",
            "Espeholt et al. 2018, ICML",
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
        "recurrent": Entry(
            "aprendiz.recurrent:Recurrent",
            "vanilla RNN, LSTM or GRU layers for sequences of vectors or tokens, with an explicit state",
            "Hochreiter and Schmidhuber 1997, Neural Computation 9:1735",
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

TEXTS = Registry(
    "texts",
    {
        "pydoc": Entry(
            "aprendiz.text.embedded:pydoc", "Python's own reference topics, 700 kB of English; needs no download"
        ),
        "stdlib": Entry("aprendiz.text.embedded:stdlib", "source code of Python's standard library; needs no download"),
        "tiny-shakespeare": Entry(
            "aprendiz.text.downloaded:tiny_shakespeare", "1.1 MB of Shakespeare's plays", "Karpathy 2015, char-rnn"
        ),
        "text8": Entry("aprendiz.text.downloaded:text8", "100 MB of cleaned Wikipedia", "Mahoney 2011"),
        "file": Entry("aprendiz.text.files:file", "your own text: file:PATH, plain or gzipped"),
        "folder": Entry("aprendiz.text.files:folder", "all texts of a folder: folder:PATH"),
        "-": Entry("aprendiz.text.files:standard_input", "standard input, kept with the run"),
        "tsv": Entry(
            "aprendiz.text.labelled:tsv", "labelled texts, for classifiers: tsv:PATH, a label and a text a line"
        ),
        "negation": Entry(
            "aprendiz.text.labelled:negation", "labelled sentences made up by rule, in which word order decides"
        ),
    },
)
"""Texts by name: a name stands for a callable `factory(**options) -> aprendiz.text.core.RawText` (or labelled rows)."""
