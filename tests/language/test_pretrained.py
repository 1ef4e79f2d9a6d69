"""Vectors that were learned elsewhere, for the embedding of another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_texts import sentences

from aprendiz.errors import ConfigError, DataError
from aprendiz.run import Run
from aprendiz.text.vocabulary import WordVocabulary
from language import pretrained, vector_files
from language.train import run_command
from language.word_tasks import WordTable

TABLE = WordTable(("king", "fox"), np.array([[1, 2, 3], [4, 5, 6]], np.float32))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    (tmp_path / "book.txt").write_text(sentences(100))
    return tmp_path


def trained(folder: Path, *arguments: str) -> Run:
    data = ("--data", f"file:{folder / 'book.txt'}", "--wandb", "disabled", "--device", "cpu")
    assert run_command([*arguments, *data]) == 0
    return Run.open("latest")


@pytest.mark.parametrize("name", ["v.bin", "v.txt", "v.txt.gz"])
def test_they_come_out_of_a_file_of_either_format(tmp_path: Path, name: str) -> None:
    vector_files.write(tmp_path / name, TABLE)
    words, vectors = pretrained.read(str(tmp_path / name))
    assert tuple(words) == TABLE.words and (vectors == TABLE.vectors).all()


def test_they_come_out_of_a_run_without_what_is_no_word(runs: Path) -> None:
    run = trained(runs, "word2vec", "--dimensions", "6", "--threads", "1", "--tokens", "500")
    words, vectors = pretrained.read(run.name)
    assert {"king", "the"} <= set(words) and not {"<unk>", "</s>"} & set(words)
    assert vectors.shape == (len(words), 6)


def test_what_has_no_vectors_is_named_in_one_line(runs: Path) -> None:
    run = trained(runs, "ngram", "--samples", "0")
    with pytest.raises(ConfigError, match="--vectors needs a model that has vectors of words; ngram does not"):
        pretrained.read(run.name)
    with pytest.raises(ConfigError, match="'nowhere' are neither a file nor a run that is there"):
        pretrained.read("nowhere")
    with pytest.raises(DataError, match="holds no word vectors"):
        pretrained.read(str(runs / "book.txt"))


def test_a_run_keeps_where_its_vectors_were_for_the_newest_run_is_soon_itself(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = trained(runs, "word2vec", "--dimensions", "6", "--threads", "1", "--tokens", "500")
    size = ("--embedding", "6", "--units", "6", "--streams", "2", "--length", "5", "--tokens", "200", "--samples", "0")
    run = trained(runs, "lstm", "--level", "word", *size, "--precision", "fp32", "--vectors", "latest")
    assert run.config["model"]["hyperparameters"]["vectors"] == str(words.path.resolve())
    vector_files.write(runs / "v.bin", WordTable(("king", "fox"), np.ones((2, 6), np.float32)))
    monkeypatch.chdir(runs)
    run = trained(runs, "lstm", "--level", "word", *size, "--precision", "fp32", "--vectors", "v.bin")
    assert run.config["model"]["hyperparameters"]["vectors"] == str((runs / "v.bin").resolve())


def test_words_that_are_not_among_them_get_noise_and_capitals_their_small_letters(tmp_path: Path) -> None:
    vector_files.write(tmp_path / "v.bin", TABLE)
    vocabulary = WordVocabulary(["fox", "King", "tree"], [0, 0, 3, 2, 1])
    source = str(tmp_path / "v.bin")
    table = pretrained.embedding_for(vocabulary, source, 3, torch.Generator().manual_seed(1))
    assert table[2].tolist() == [4, 5, 6] and table[3].tolist() == [1, 2, 3]
    again = pretrained.embedding_for(vocabulary, source, 3, torch.Generator().manual_seed(1))
    other = pretrained.embedding_for(vocabulary, source, 3, torch.Generator().manual_seed(2))
    assert torch.equal(table, again) and not torch.equal(table[4], other[4])
    with pytest.raises(ConfigError, match="have 3 dimensions, and the embedding 5"):
        pretrained.embedding_for(vocabulary, source, 5, torch.Generator())
    with pytest.raises(ConfigError, match="hold none of the 3 words"):
        pretrained.embedding_for(WordVocabulary(["arbre"], [0, 0, 1]), source, 3, torch.Generator())
