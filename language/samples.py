"""What a model has to say while it learns: texts from the same random numbers all along, or the neighbours of some
words."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.time_share import TimeShare
from language.core import LanguageModel, Purpose, torch_generator

if TYPE_CHECKING:
    from aprendiz.run import Run
    from aprendiz.text.core import Vocabulary

TEMPERATURE = 0.8
WORDS, NEIGHBOURS = 8, 6
"""Words whose neighbours are shown, and how many each."""


class Samples:
    """Writes `samples/text-<n>.txt` and prints it: of models that predict, a text; of those with vectors,
    neighbours."""

    def __init__(self, run: Run, model: LanguageModel, length: int) -> None:
        """`length`: tokens of each text; 0 for none."""
        able = not {"predict", "vectors"}.isdisjoint(model.abilities)
        self.run, self.model, self.length = run, model, length if able else 0
        self._share = TimeShare()

    def due(self, training_seconds: float) -> bool:
        """Whether another text stays within the time that texts may take. The first one always does."""
        return bool(self.length) and self._share.due(training_seconds)

    def path(self, tokens: int) -> Path:
        """The file of the text after so many training tokens."""
        return self.run.samples / f"text-{tokens:012d}.txt"

    def write(self, tokens: int, score: float | None = None) -> Path:
        """Writes after so many training `tokens`; the text goes to the terminal and to the tracker as well."""
        path = self.path(tokens)
        with self._share.measured():
            text = self._text() if "predict" in self.model.abilities else self._neighbours()
            path.write_text(text + "\n", encoding="utf-8")
            after = f"after {tokens:,} tokens" + ("" if score is None else f", score {score:.4f}")
            print(f"--- {after}\n{textwrap.indent(text, '  ')}", flush=True)
            if self.run.tracker is not None:
                self.run.tracker.text("sample/text", text, tokens)
        return path

    def _text(self) -> str:
        from language.generation import generate

        vocabulary = self.model.vocabulary
        generator = torch_generator(self.run.seed, Purpose.SAMPLING)
        ids = generate(self.model, opening(vocabulary), self.length, generator, temperature=TEMPERATURE)
        return vocabulary.decode(np.fromiter(ids, np.int64))

    def _neighbours(self) -> str:
        from language.word_tasks import neighbours, table_of

        table = table_of(self.model.vectors(), self.model.vocabulary.symbols)
        common = [word for word in table.words if len(word) > 3]
        shown = common[50 : 50 + WORDS] or common[:WORDS]  # the most frequent ones go with everything
        lines = [
            f"{word}: {', '.join(name for name, _ in neighbours(table.vectors, table.words, word, NEIGHBOURS))}"
            for word in shown
        ]
        return "\n".join(lines)


def opening(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """What a text begins behind where nothing is given: a line's end, else the commonest symbol. [1]"""
    encoded: Any = vocabulary.encode("\n")
    if len(encoded) == 1 and (encoded[0] > 0 or vocabulary.level == "byte"):
        return np.asarray(encoded, np.int64)
    return np.array([int(np.argmax(vocabulary.counts))], np.int64)
