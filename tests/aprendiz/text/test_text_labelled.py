"""Labelled texts: tab-separated files, and the made-up language of negation."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aprendiz.errors import ConfigError, DataError
from aprendiz.text import load
from aprendiz.text.core import Documents, LabelledRows, LabelledTexts
from aprendiz.text.labelled import negation, tsv

PARTS = ("train", "validation", "test")


def texts(data: LabelledTexts, part: Documents) -> list[str]:
    bounds = zip(part.offsets[:-1], part.offsets[1:], strict=True)
    return [data.vocabulary.decode(part.ids[start:stop]) for start, stop in bounds]


def rows(count: int) -> str:
    return "".join(f"{'bad' if number % 4 else 'good'}\ttext number {number}\n" for number in range(count))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_tab_separated_file_becomes_documents(tmp_path: Path, pack) -> None:
    (tmp_path / "reviews.tsv").write_bytes(pack(rows(200).replace("\n", "\r\n").encode("utf-8-sig")))
    data = load(f"tsv:{tmp_path}/reviews.tsv")
    assert data.spec.name == "reviews" and data.spec.classes == ("bad", "good")
    assert [len(getattr(data, part)) for part in PARTS] == [160, 20, 20]
    found = [text for part in PARTS for text in texts(data, getattr(data, part))]
    assert sorted(found) == sorted(f"text number {number}" for number in range(200))
    for part in PARTS:
        documents = getattr(data, part)
        share = np.bincount(documents.labels, minlength=2) / len(documents)
        assert abs(share[0] - 0.75) <= 1 / len(documents)  # each class in the same proportion
        for text, label in zip(texts(data, documents), documents.labels, strict=True):
            assert label == (int(text.split()[-1]) % 4 == 0)


def test_columns_header_and_split_seed_are_options(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("id\ttext\tlabel\n" + "".join(f"{n}\tthis is {n}\t{n % 2}\n" for n in range(100)))
    columns = {"label_column": 3, "text_column": 2, "header": True}
    data = load(f"tsv:{path}", **columns)
    assert data.spec.classes == ("0", "1") and len(data.train) == 80
    other = load(f"tsv:{path}", **columns, split_seed=1)
    assert texts(other, other.test) != texts(data, data.test)
    again = load(f"tsv:{path}", **data.options)
    assert again.fingerprint == data.fingerprint != other.fingerprint


def test_the_vocabulary_is_that_of_the_training_rows_alone(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text(rows(100))
    data = load(f"tsv:{tmp_path}/x.tsv", level="word")
    known = {word for text in texts(data, data.train) for word in text.split()}
    assert set(data.vocabulary.symbols[2:]) == known
    assert 0 in data.test.ids and 0 not in data.train.ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no labelled text"),
        ("good\n", "line 1 of .* has no label and text in columns 1 and 2, divided by tabs: 'good'"),
        ("good\tone\n\tno label\n", "line 2 of"),
        ("good\tone\nbad\t  \n", "line 2 of"),
        ("good\tone\ngood\ttwo\n", "labelled 'good': nothing to tell apart"),
        ("good\tone\nbad\ttwo\n", "has 2 texts: too few to hold out 0.1"),
        ("good\t" + "x" * 2_000_000, "line of more than 1,048,576 characters"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load(f"tsv:{tmp_path}/x.tsv")
    assert "\n" not in str(caught.value)


def test_wrong_options_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="count from 1, and must be different"):
        tsv(path="x", label_column=2)
    with pytest.raises(DataError, match="there is no file"):
        tsv(path=str(tmp_path / "x.tsv"))
    with pytest.raises(ConfigError, match="between 20 and 100,000"):
        negation(texts=1)


def test_a_label_that_is_none_of_the_classes_is_named() -> None:
    from aprendiz.text import build
    from aprendiz.text.encode import Encoding

    labelled = LabelledRows(name="x", rows=lambda: iter([("a", "one"), ("c", "two")]), classes=("a", "b"))
    with pytest.raises(DataError, match="the label 'c', which is not among a, b"):
        build.labelled_texts(labelled, Encoding(), held_out=0.1, validation=0.1, options={})


def sentences(**options: int) -> list[tuple[str, str]]:
    return list(negation(**options).rows())


def test_negation_is_decided_by_its_seed() -> None:
    assert sentences() == sentences() != sentences(seed=1)
    assert len({text for _, text in sentences()}) == 4_000
    assert Counter(label for label, _ in sentences()) == {"positive": 2_000, "negative": 2_000}


def test_whoever_reads_negation_in_order_is_always_right() -> None:
    good = {"good", "lovely", "clever", "warm", "moving", "bright"}
    bad = {"bad", "dull", "silly", "cold", "boring", "grim"}
    for label, text in sentences():
        after = text.split(" not ")[1].split()
        [judged] = [word for word in after[:2] if word in good | bad][:1]
        assert label == ("positive" if judged in bad else "negative")


def test_a_bag_of_words_is_left_to_guess_about_negation() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = load("negation", level="word")
    bags = CountVectorizer(token_pattern=r"\w+")
    train, test = bags.fit_transform(texts(data, data.train)), bags.transform(texts(data, data.test))
    model = LogisticRegression(max_iter=1_000).fit(train, data.train.labels)
    assert model.score(test, data.test.labels) < 0.6


def test_no_sentence_of_the_test_part_is_learned_from() -> None:
    data = load("negation")
    assert not set(texts(data, data.train)) & {*texts(data, data.test), *texts(data, data.validation)}
