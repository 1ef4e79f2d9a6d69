from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aprendiz.errors import ConfigError, DataError
from language import common_words
from language.word_tasks import (
    Analogies,
    Section,
    analogy,
    answer_analogies,
    neighbours,
    read_judgements,
    read_questions,
    similarity,
    table_of,
)

SYMBOLS = ("<unk>", "</s>", "man", "woman", "king", "queen", "apple")
VECTORS = np.array([[9, 9, 9], [9, 9, 9], [1, 0, 0.2], [0, 1, 0.2], [1, 0, 1.2], [0, 1, 1.2], [-1, -1, 0]], np.float32)


def test_neighbours_are_sorted_by_cosine_and_leave_the_word_itself_out() -> None:
    found = neighbours(VECTORS, SYMBOLS, "king", 3)
    assert [word for word, _ in found] == ["man", "queen", "woman"]
    assert found[1][1] == pytest.approx(1.44 / 2.44)


def test_what_is_no_word_is_no_neighbour() -> None:
    assert {word for word, _ in neighbours(VECTORS, SYMBOLS, "king", 10)} == {"man", "woman", "queen", "apple"}


def test_only_the_most_frequent_words_where_so_asked() -> None:
    assert [word for word, _ in neighbours(VECTORS, SYMBOLS, "king", 10, limit=2)] == ["man", "woman"]


def test_a_word_in_another_case_is_found_and_a_missing_one_named_with_close_ones() -> None:
    assert neighbours(VECTORS, SYMBOLS, "King", 1)[0][0] == "man"
    with pytest.raises(ConfigError, match="not among the 5 words: quen; close to quen: queen"):
        neighbours(VECTORS, SYMBOLS, "quen")


def test_of_words_that_differ_in_case_alone_the_most_frequent_is_meant() -> None:
    vectors = np.eye(4, 2, dtype=np.float32)
    table = table_of(vectors, ("Polish", "polish", "POLISH", "other"))
    assert table.find("pOLISH") == 0 and table.find("polish") == 1


def test_a_man_is_to_a_king_as_a_woman_is_to_a_queen() -> None:
    assert analogy(VECTORS, SYMBOLS, "man", "king", "woman", 1)[0][0] == "queen"


def test_the_words_of_the_question_are_no_answer() -> None:
    """b - a + c is nearest to b itself, where a and c are alike."""
    vectors = np.array([[1, 0.0], [1, 0.05], [0, 1], [0.3, 1]], np.float32)
    symbols = ("a", "c", "b", "d")
    assert analogy(vectors, symbols, "a", "b", "c", 1)[0][0] == "d"
    answers = answer_analogies(vectors, symbols, {"all": [("a", "b", "c", "d")]})
    assert answers.over() == Section(correct=1, asked=1, unknown=0)


def test_questions_with_words_outside_the_vocabulary_are_counted_and_left_out() -> None:
    questions = {"gram1": [("man", "king", "woman", "queen"), ("man", "king", "woman", "empress")]}
    assert answer_analogies(VECTORS, SYMBOLS, questions).sections["gram1"] == Section(1, 1, 1)
    assert answer_analogies(VECTORS, SYMBOLS, questions, vocabulary=3).sections["gram1"] == Section(0, 0, 2)


def test_answers_come_from_the_restricted_vocabulary_alone() -> None:
    """`near` would be the answer, and is too rare."""
    vectors = np.concatenate([VECTORS, [[0, 1, 1.19]]]).astype(np.float32)
    symbols = (*SYMBOLS[:5], "near", "apple", "queen")
    questions = {"all": [("man", "king", "woman", "near")]}
    assert answer_analogies(vectors, symbols, questions, vocabulary=5).over().correct == 1


def test_without_a_word_answers_come_from_the_30_000_most_frequent_words() -> None:
    """The last word is the answer, and stands at place 30,001."""
    symbols = ("a", "b", "c", *(f"w{number}" for number in range(29_997)), "d")
    vectors = np.zeros((30_001, 3), np.float32)
    vectors[:3], vectors[3:, 2], vectors[-1] = [[1, 0, 0], [1, 1, 0], [0, 0, 1]], -1, [0, 1, 1]
    questions = {"all": [("a", "b", "c", "d")]}
    assert answer_analogies(vectors, symbols, questions).over() == Section(0, 0, 1)
    assert answer_analogies(vectors, symbols, questions, vocabulary=None).over() == Section(1, 1, 0)
    assert analogy(vectors, symbols, "a", "b", "c", 1, limit=None)[0][0] == "d"
    assert analogy(vectors, symbols, "a", "b", "c", 1)[0][0] != "d"


def test_case_does_not_matter_in_questions() -> None:
    assert answer_analogies(VECTORS, SYMBOLS, {"all": [("MAN", "King", "woman", "Queen")]}).over().correct == 1


def test_sums_over_semantic_and_syntactic_sections() -> None:
    results = Analogies({"capital": Section(1, 4, 2), "gram1-adjective": Section(3, 4, 0), "gram2": Section(0, 2, 1)})
    metrics = results.metrics()
    assert (metrics["analogies"], metrics["analogies_semantic"], metrics["analogies_syntactic"]) == (0.4, 0.25, 0.5)
    assert (metrics["analogies_asked"], metrics["analogies_unknown"]) == (10, 3)


def test_the_format_of_questions_words(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(": capitals\nAthens Greece Oslo Norway\n\n: gram1\na b c d\n")
    assert read_questions(path) == {
        "capitals": [("Athens", "Greece", "Oslo", "Norway")],
        "gram1": [("a", "b", "c", "d")],
    }
    path.write_text(": capitals\nAthens Greece Oslo\n")
    with pytest.raises(DataError, match=r"line 2: an analogy is four words, got 3"):
        read_questions(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_questions(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    "text",
    [
        "# comment\nold\tnew\t1.58\nhard\tdifficult\t8.77\n",
        "Word 1,Word 2,Human (mean)\nold,new,1.58\nhard,difficult,8.77\n",
        "word1\tword2\tPOS\tSimLex999\tconc\nold\tnew\tA\t1.58\t2\nhard\tdifficult\tA\t8.77\t3\n",
    ],
)
def test_formats_of_judgements(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    assert read_judgements(path) == [("old", "new", 1.58), ("hard", "difficult", 8.77)]


def test_a_line_that_is_no_judgement_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("old\tnew\t1.58\nhard\tdifficult\n")
    with pytest.raises(DataError, match="line 2: two words and a number expected"):
        read_judgements(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no judgements"),
        ("# word1\tword2\tscore\n", "holds no judgements"),
        ("word1\tword2\tscore\n", "names its columns, and holds no judgements"),
        ("old\tnew\t1.58\n" + "x" * 200_000 + "\n", "line 2: two words and a number expected, got 'x{60}'"),
    ],
    ids=["empty", "comments", "names", "one long cell"],
)
def test_a_file_without_judgements_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_judgements(tmp_path / "pairs.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [read_questions, read_judgements])
def test_a_file_in_another_encoding_is_one_clear_line(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    (tmp_path / "given.txt").write_bytes("niño\tgirl\t1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"given.txt is not UTF-8 text \(.* at byte 2\)"):
        reader(tmp_path / "given.txt")


def test_similarity_is_spearman_s_rho_of_the_known_pairs() -> None:
    judgements = [("man", "woman", 3.0), ("king", "queen", 2.5), ("man", "apple", 0.1), ("man", "pear", 9.0)]
    result = similarity(VECTORS, SYMBOLS, judgements)
    assert (result.pairs, result.unknown) == (3, 1)
    assert result.spearman == pytest.approx(0.5)  # cosines 0.04, 0.59, -0.69: ranks 2 3 1, judgements' 3 2 1


def test_a_table_of_other_symbols_keeps_all_of_them() -> None:
    words, vectors = table_of(VECTORS[2:], SYMBOLS[2:])
    assert words == SYMBOLS[2:] and len(vectors) == 5


def test_common_words_make_analogies_of_each_pair_with_every_other_of_its_kind() -> None:
    questions = common_words.questions()
    assert questions["numbers"][0] == ("one", "first", "two", "second") and len(questions["numbers"]) == 8 * 7
    for asked in questions.values():
        assert len(set(asked)) == len(asked) and all(word.islower() for question in asked for word in question)
