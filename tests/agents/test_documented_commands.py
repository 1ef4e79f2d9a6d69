"""The training commands that the pages show are commands that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agents.train import parse_task
from aprendiz.errors import AprendizError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown() -> list[str]:
    """The words after `python -m agents.train`, without what is said beside them. docs/plugins.md trains what its
    reader has written."""
    found = set()
    for page in PAGES:
        text = "" if page.name == "plugins.md" else re.sub(r"\s*\\\n\s*", " ", page.read_text())
        for words in re.findall(r"python -m agents\.train ([^`\n]+)", text):
            words = re.split(r"\s{2,}|\s#", words)[0]
            if not re.search(r"<|--resume|--list|--help|--seed S\b", words):
                found.add(words.strip())
    return sorted(found)


def test_the_pages_show_many_commands() -> None:
    assert len(shown()) > 50


@pytest.mark.parametrize("words", shown())
def test_a_command_of_the_pages_is_taken(words: str) -> None:
    try:
        parse_task(shlex.split(words))
    except AprendizError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise
