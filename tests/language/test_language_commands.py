"""`language.sample`, `evaluate`, `neighbors`, `analogy`, `map` and `vectors`, on small runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_runs import printed, trained
from small_texts import data_of, sentences

from aprendiz.report import build, reading
from aprendiz.run import Run
from language import analogy, classify, evaluate, map, neighbors, sample, vectors  # noqa: A004
from tests.training_runs import refused_by

ROOT = Path(__file__).resolve().parents[2]
WORD2VEC = ("--dimensions", "10", "--threads", "1", "--min-count", "1", "--epochs", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and where runs are made."""
    where = tmp_path_factory.mktemp("commands")
    (where / "book.txt").write_text(sentences(400))
    return where


@pytest.fixture(autouse=True)
def runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRENDIZ_RUNS", str(folder / "runs"))


@pytest.fixture(scope="module")
def ngram(folder: Path) -> Run:
    return trained(folder, "ngram", "--data", f"file:{folder / 'book.txt'}")


@pytest.fixture(scope="module")
def words(folder: Path) -> Run:
    book = f"file:{folder / 'book.txt'}"
    return trained(folder, "word2vec", "--data", book, *WORD2VEC)


# sample


def test_the_same_seed_writes_the_same_text_and_another_seed_another(
    ngram: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (ngram.name, "--length", "80", "--prompt", "the ", "--seed")
    one, two, other = (printed(capsys, sample.command, *words, seed) for seed in ("3", "3", "4"))
    assert one == two != other
    assert one.startswith("the ") and len(one) == 4 + 80 + 1


def test_temperature_0_and_the_likeliest_token_are_one_and_the_same(
    ngram: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (ngram.name, "--length", "60", "--seed")
    texts = {
        printed(capsys, sample.command, *words, "1", "--temperature", "0"),
        printed(capsys, sample.command, *words, "2", "--top-k", "1"),
        printed(capsys, sample.command, *words, "3", "--top-p", "1e-9"),
    }
    assert len(texts) == 1


def test_text_appears_as_it_is_generated(ngram: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(sys.stdout, "write", lambda piece: events.append(piece))
    monkeypatch.setattr(sys.stdout, "flush", lambda: events.append("flush"))
    sample.command([ngram.name, "--length", "3", "--prompt", "a"])
    shown = events[events.index("a") :]
    assert len(shown) == 10 and shown[1::2] == ["flush"] * 5  # the prompt, three characters and the end of the line
    assert all(len(piece) == 1 for piece in shown[0::2])


def test_a_reader_that_goes_away_ends_the_command_quietly(ngram: Run, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = f"{sys.executable} -m language.sample {ngram.path} --length 100000 | head -c 20"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert len(done.stdout) == 20 and done.stderr == ""


def test_a_text_goes_into_a_file(ngram: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, sample.command, ngram.name, "--length", "50", "--prompt", "the ")
    said = printed(
        capsys, sample.command, ngram.name, "--length", "50", "--prompt", "the ", "--out", str(tmp_path / "a.txt")
    )
    assert (tmp_path / "a.txt").read_text() == shown.removesuffix("\n")
    assert said.startswith("50 tokens of ")
    assert "cannot write" in refused_by(sample.command, capsys, ngram.name, "--out", str(tmp_path / "none" / "a.txt"))


def test_what_a_prompt_has_and_the_model_has_not_is_told(ngram: Run, capsys: pytest.CaptureFixture[str]) -> None:
    sample.command([ngram.name, "--prompt", "ñandú", "--length", "5"])
    told = capsys.readouterr()
    assert told.out.startswith("ñandú") and "warning: 2 of the 5 characters of the prompt are unknown" in told.err


def test_words_follow_a_prompt_after_one_space_whether_it_ends_with_one_or_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(folder, "ngram", "--data", f"file:{folder / 'book.txt'}", "--level", "word")
    texts = [printed(capsys, sample.command, run.name, "--prompt", one, "--length", "5") for one in ("the", "the ")]
    assert texts[0] == texts[1] and "  " not in texts[0] and texts[0].startswith("the ")


@pytest.mark.parametrize("level", ["char", "byte", "word"])
def test_pieces_put_together_are_the_whole(level: str) -> None:
    text = "El niño (¡qué niño!) comió piña, té y «pan»;\n\nno más. " * 5
    vocabulary = data_of(text, level).vocabulary
    ids = vocabulary.encode(text).tolist()
    assert "".join(sample.decoded(vocabulary, ids)) == vocabulary.decode(ids)
    start = 7
    pieces = "".join(sample.decoded(vocabulary, ids[start:], ids[start - 1]))
    assert (vocabulary.decode(ids[:start]) + pieces == vocabulary.decode(ids)) or level == "byte"


def test_half_a_character_waits_for_its_other_byte() -> None:
    vocabulary = data_of("niño " * 50, "byte").vocabulary
    assert list(sample.decoded(vocabulary, "ñ".encode())) == ["", "ñ", ""]
    assert list(sample.decoded(vocabulary, "ñ".encode()[:1])) == ["", "\ufffd"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--length", "0"), "length must be at least 1"),
        (("--temperature", "-1"), "temperature must be 0 or more"),
        (("--temperature", "nan"), "temperature must be 0 or more"),
        (("--top-k", "0"), "top_k must be at least 1"),
        (("--top-p", "1.5"), "top_p must be above 0 and at most 1"),
        (("--seed", "-1"), "seed must be 0 or more"),
        (("--checkpoint", "newest"), "checkpoint 'newest' is not last, best or a step"),
        (("--checkpoint", "7"), "has no checkpoint at step 7"),
        (("--lenght", "5"), "unknown option --lenght; closest: --length"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_options_of_sample_that_cannot_be_are_refused(
    ngram: Run, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused_by(sample.command, capsys, ngram.name, *arguments)


def damaged(run: Run, where: Path, file: str, content: bytes | None) -> Run:
    """A copy of a run, with another content of one of its files, or without it."""
    copy = Run.open(shutil.copytree(run.path, where / run.name))
    for path in copy.path.rglob(file):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tensors.safetensors", b"\0" * 100, "damaged: tensors.safetensors"),
        ("tensors.safetensors", None, "checkpoint"),
        ("vocabulary.json", None, "vocabulary.json cannot be read.*; without its vocabulary nothing can be read"),
        ("vocabulary.json", b"{", "vocabulary.json is damaged"),
        ("config.json", b"{}", "config.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("command", [sample, evaluate], ids=["sample", "evaluate"])
def test_a_damaged_run_ends_in_one_line(
    ngram: Run,
    command: Any,
    file: str,
    content: bytes | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = damaged(ngram, tmp_path, file, content)
    assert re.search(said, refused_by(command.command, capsys, str(run.path)))


# evaluate


def test_an_evaluation_is_kept_and_repeats_itself(ngram: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(ngram.evaluations())
    shown = printed(capsys, evaluate.command, ngram.name)
    evaluate.command([ngram.name])
    one, two = ngram.evaluations()[before:]
    assert one["metrics"] == two["metrics"] and one["protocol"]["split"] == "test"
    assert {"nats_per_character", "bits_per_character", "windows_nats_per_token"} <= one["metrics"].keys()
    assert f"{one['metrics']['nats_per_token']:.5g}" in shown and "zero state" in shown


@pytest.fixture(scope="module")
def bigram(folder: Path) -> Run:
    return trained(folder, "bigram:Bigram", "--data", f"file:{folder / 'book.txt'}", "--tokens", "2_000")


def test_n_grams_are_scored_on_the_same_text_beside_another_model(
    bigram: Run, ngram: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, evaluate.command, bigram.name)
    evaluate.command([ngram.name])
    beside = bigram.evaluations()[-1]["metrics"]["ngram_nats_per_token"]
    assert beside == pytest.approx(ngram.evaluations()[-1]["metrics"]["nats_per_token"])
    assert "(n-grams: " in shown


def test_n_grams_are_left_out_of_large_texts_and_where_nobody_wants_them(
    bigram: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "n-grams" not in printed(capsys, evaluate.command, bigram.name, "--no-ngram")
    monkeypatch.setattr(evaluate, "LARGEST_BASELINE", 1_000)
    shown = printed(capsys, evaluate.command, bigram.name)
    assert "more than 1,000 tokens: for n-grams beside, train and evaluate the model ngram" in shown
    assert not any(name.startswith("ngram") for name in bigram.evaluations()[-1]["metrics"])


def test_windows_longer_than_the_held_out_part_are_told_as_they_were(folder: Path) -> None:
    (folder / "note.txt").write_text(sentences(20))
    run = trained(folder, "bigram:Bigram", "--data", f"file:{folder / 'note.txt'}", "--tokens", "300")
    evaluate.command([run.name])
    protocol = run.evaluations()[-1]["protocol"]
    assert protocol["window_tokens"] == protocol["tokens"] - 1 < 256


def test_vectors_are_scored_though_their_text_is_gone(folder: Path, tmp_path: Path) -> None:
    (folder / "away.txt").write_text(sentences(200))
    run = trained(folder, "word2vec", "--data", f"file:{folder / 'away.txt'}", *WORD2VEC)
    (folder / "away.txt").unlink()
    (tmp_path / "judged.tsv").write_text("king\tqueen\t9\nfox\tthe\t1\ntree\thouse\t7\n")
    evaluate.command([run.name, "--similarity", str(tmp_path / "judged.tsv")])
    assert run.evaluations()[-1]["metrics"]["judged_pairs"] == 3


def test_vectors_are_scored_on_word_tasks(words: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, judged = tmp_path / "questions.txt", tmp_path / "judged.tsv"
    questions.write_text(": some\nking queen fox bird\nking queen the unheard\n")
    judged.write_text("king\tqueen\t9\nfox\tthe\t1\ntree\thouse\t7\nking\tunheard\t3\n")
    tasks = ("--analogies", str(questions), "--similarity", str(judged))
    evaluate.command([words.name, *tasks])
    metrics = words.evaluations()[-1]["metrics"]
    assert (metrics["analogies_asked"], metrics["analogies_unknown"]) == (1, 1)
    assert (metrics["judged_pairs"], metrics["judged_unknown"]) == (3, 1)
    out = tmp_path / "vectors.bin"
    vectors.command([words.name, "--out", str(out)])
    shown = printed(capsys, evaluate.command, str(out), *tasks)
    assert "analogies asked" in shown and f"{metrics['judged_spearman']:.5g}" in shown


def rows_of_report(run: Run) -> dict[str, tuple[float, ...]]:
    return {row.metric: row.values for row in build.build([reading.read_run(run.path)]).comparisons["language"].rows}


def test_vectors_are_scored_on_common_words_where_no_file_is_given(folder: Path) -> None:
    (folder / "numbers.txt").write_text("one two three first second third\n" * 200)
    run = trained(folder, "word2vec", "--data", f"file:{folder / 'numbers.txt'}", *WORD2VEC)
    evaluate.command([run.name])
    result = run.evaluations()[-1]
    assert result["metrics"]["common_analogies_asked"] == 3 * 2 and "--similarity FILE" in result["notes"][-1]
    assert rows_of_report(run)["common_analogies"] == (result["metrics"]["common_analogies"],)


def test_vectors_of_other_words_say_that_there_is_nothing_to_ask(words: Run) -> None:
    evaluate.command([words.name])
    result = words.evaluations()[-1]
    assert result["metrics"] == {} and "too few common ones" in result["notes"][-1]


def test_a_report_has_the_word_sets_of_all_evaluations(words: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t9\nfox\tthe\t1\ntree\thouse\t7\n")
    (tmp_path / "asked.txt").write_text("king queen fox bird\n")
    evaluate.command([words.name, "--similarity", str(tmp_path / "pairs.tsv")])
    evaluate.command([words.name, "--analogies", str(tmp_path / "asked.txt")])
    assert {"pairs_spearman", "analogies"} <= rows_of_report(words).keys()


def test_analogies_are_answered_among_as_many_words_as_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`near` lies where queen should, and is the rarest word."""
    (tmp_path / "v.txt").write_text("5 2\nman 1 0\nwoman 0 1\nking 1 0.5\nqueen 0.1 1\nnear 0.01 1\n")
    (tmp_path / "questions.txt").write_text("man king woman queen\n")
    given = (str(tmp_path / "v.txt"), "--analogies", str(tmp_path / "questions.txt"))
    found = [printed(capsys, evaluate.command, *given, "--restrict", limit) for limit in ("4", "5")]
    assert [re.search(r"analogies +(\S+)", one)[1] for one in found] == ["1", "0"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which run?"),
        (("nowhere",), "there is no run 'nowhere'"),
        (("{ngram}", "--similarity", "x.tsv"), "--similarity needs a model that has vectors"),
        (("{words}", "--analogies", "/nowhere.txt"), "/nowhere.txt cannot be read"),
        (("{words}", "--split", "middle"), "--split cannot be 'middle'"),
        (("{ngram}", "--seed", "-1"), "seed must be 0 or more"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_evaluated_is_refused(
    ngram: Run, words: Run, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [one.format(ngram=ngram.name, words=words.name) for one in arguments]
    assert said in refused_by(evaluate.command, capsys, *given)


# neighbors, analogy, map, vectors


def test_neighbours_and_analogies_of_a_run_and_of_its_file_are_the_same(
    words: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("vectors.bin", "vectors.txt.gz"):
        out = tmp_path / name
        assert str(out) in printed(capsys, vectors.command, words.name, "--out", str(out))
        for command, asked in ((neighbors, ("king", "tree")), (analogy, ("king", "queen", "fox"))):
            of_run = printed(capsys, command.command, words.name, *asked, "--n", "4")
            assert of_run == printed(capsys, command.command, str(out), *asked, "--n", "4")
            assert len(of_run.splitlines()) == (10 if command is neighbors else 5)
            assert not set(asked) & {line.split()[0] for line in of_run.splitlines() if line.startswith("  ")} or (
                command is neighbors
            )


def test_a_map_shows_the_most_frequent_or_the_given_words(
    words: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("king", "queen", "fox", "tree", "king")
    said = printed(capsys, map.command, words.name, *given, "--method", "pca", "--out", str(tmp_path / "a.png"))
    assert said.startswith("4 words of ") and (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    said = printed(capsys, map.command, words.name, "--n", "12", "--out", str(tmp_path / "b.png"))
    assert said.startswith("12 words of ") and (tmp_path / "b.png").exists()


@pytest.mark.filterwarnings("error")
def test_characters_that_no_font_has_are_one_line_of_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.txt").write_text("3 2\nbird 1 0\nfox 0 1\ntree\u0378 1 1\n", encoding="utf-8")
    said = printed(capsys, map.command, str(tmp_path / "v.txt"), "--method", "pca", "--out", str(tmp_path / "a.png"))
    assert said.splitlines()[1:] == ["boxes stand for what no font of this machine has (1): \\u0378"]


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (neighbors, ("{words}",), "which word?"),
        (neighbors, ("{words}", "kign"), "not among the .* words: kign; close to kign: king"),
        (neighbors, ("{words}", "king", "--n", "0"), "n must be at least 1"),
        (neighbors, ("{ngram}", "king"), "needs a model that has vectors of words; ngram does not .* word2vec can"),
        (neighbors, ("pyproject.toml", "king"), "pyproject.toml holds no word vectors"),
        (neighbors, ("vectros.bin", "king"), "there is no file vectros.bin"),
        (evaluate, ("vectros.txt.gz",), "there is no file vectros.txt.gz"),
        (neighbors, ("~nobody-here-of-this-name/v.bin", "king"), "is no path"),
        (analogy, ("{words}", "king", "queen"), "an analogy takes three words, got 2: king queen"),
        (analogy, ("{words}", "king", "queen", "unheard"), "not among the .* words: unheard"),
        (map, ("{words}", "king", "queen"), "a map takes at least three words, got 2"),
        (map, ("{words}", "--out", "map.gif"), "--out must be a .png, .svg or .pdf file"),
        (map, ("{words}", "--method", "umap"), "--method cannot be 'umap'"),
        (vectors, ("{ngram}",), "needs a model that has vectors of words"),
        (vectors, ("{words}", "--out", "/nowhere/vectors.bin"), "cannot write /nowhere/vectors.bin"),
        (classify, ("{ngram}", "good"), "needs a model that names classes of texts; ngram does not"),
        (sample, ("{words}",), "needs a model that predicts the next token; word2vec does not"),
    ],
    ids=lambda value: "" if not isinstance(value, tuple) else " ".join(value),
)
def test_what_cannot_be_shown_is_refused(
    ngram: Run,
    words: Run,
    command: Any,
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    given = [one.format(ngram=ngram.name, words=words.name) for one in arguments]
    assert re.search(said, refused_by(command.command, capsys, *given))
