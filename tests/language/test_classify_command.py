"""`language.classify` on a small run, and what it is made of."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from small_runs import printed, trained
from small_texts import piped

from aprendiz.run import Run
from language import classify
from tests.training_runs import refused_by


class Judge:
    """Stands in for a saved classifier: sad where there is an `n`."""

    class spec:  # noqa: N801
        classes = ("glad", "sad")

    class vocabulary:  # noqa: N801
        encode = staticmethod(lambda text: np.array([ord(one) for one in text]))

    class model:  # noqa: N801
        @staticmethod
        def classify(texts: list[Any]) -> Any:
            import torch

            return torch.tensor([[0.0, 3.0] if ord("n") in text else [2.0, 0.0] for text in texts])


def test_classes_come_with_their_probabilities() -> None:
    shares = classify.probabilities(Judge(), ["good", "not"])  # type: ignore[arg-type]
    np.testing.assert_allclose(shares, [[0.8808, 0.1192], [0.0474, 0.9526]], atol=1e-4)
    assert classify.line(("glad", "sad"), shares[1], "not", everything=False) == "sad\t0.9526\tnot"
    assert classify.line(("glad", "sad"), shares[0], "good", everything=True) == "glad\tglad 0.8808\tsad 0.1192\tgood"


def test_lines_are_looked_at_in_batches_and_none_is_lost() -> None:
    assert list(classify.batches(map_to_text(7), 3)) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def map_to_text(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    size = ("--units", "8", "--embedding", "8", "--texts", "200", "--epochs", "1")
    return trained(tmp_path_factory.mktemp("classifier"), "classifier", "--data", "negation", *size)


def test_lines_of_standard_input_are_texts(
    classifier: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ("our meal is dull", "the room is not dull")
    monkeypatch.setattr(sys, "stdin", piped("\n\n".join(texts).encode()))
    found = printed(capsys, classify.command, str(classifier.path))
    assert [line.split("\t")[-1] for line in found.splitlines()] == list(texts)
    assert found == printed(capsys, classify.command, str(classifier.path), *texts)


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"", ("",), "the text '' holds nothing to classify"),
        (b"", (), "standard input holds no text"),
        ("piña colada\n".encode("latin-1"), (), "standard input is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", (), "standard input is not UTF-8"),
        (b"", ("good", "--checkpoint", "newest"), "checkpoint 'newest' is not last, best or a step"),
    ],
    ids=["nothing", "empty", "latin-1", "binary", "checkpoint"],
)
def test_what_is_no_text_is_not_classified(
    classifier: Run,
    content: bytes,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", piped(content))
    assert said in refused_by(classify.command, capsys, str(classifier.path), *arguments)
