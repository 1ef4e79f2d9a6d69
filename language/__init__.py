"""Language models by name: `LANGUAGE.get("lstm")`. `python -m language.train --list` shows them all."""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__all__ = ["LANGUAGE"]

LANGUAGE = Registry(
    "language",
    {
        "ngram": Entry(
            "language.ngram:NGram",
            "n-grams: maximum likelihood, add-k or interpolated Kneser-Ney",
            "Chen and Goodman 1999, Computer Speech and Language 13:359",
        ),
        "rnn": Entry(
            "language.recurrent:RNN",
            "recurrent network of plain tanh units",
            "Elman 1990, Cognitive Science 14:179; Mikolov et al. 2010, Interspeech",
        ),
        "lstm": Entry(
            "language.recurrent:LSTM",
            "recurrent network of long short-term memory units",
            "Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; Gers et al. 2000",
        ),
        "gru": Entry(
            "language.recurrent:GRU",
            "recurrent network of gated recurrent units",
            "Cho et al. 2014, EMNLP",
        ),
        "classifier": Entry(
            "language.classifier:SequenceClassifier",
            "recurrent network that names the class of a whole text",
            "Graves and Schmidhuber 2005, Neural Networks 18:602",
        ),
        "word2vec": Entry(
            "language.word2vec:Word2Vec",
            "vectors of words: skip-gram or CBOW",
            "Mikolov et al. 2013a, ICLR workshop; 2013b, NIPS",
        ),
    },
    "language models",
)
"""A name stands for a subclass of `language.core.LanguageModel`."""
